//! Operators that read or write by index, and those that order elements.
//!
//! What does not depend on computed indices is simpler: one constant index is a slice. `OneHot` is a comparison with the numbers of its classes.

use tract_onnx::prelude::*;
use tract_onnx::tract_core::ops::array::{Gather, GatherElements, GatherNd, OneHot, ScatterElements, ScatterNd, ScatterReduction, Topk};

use super::{Lowering, Reason};
use crate::graph::{Binary, Constant, DType, Elementwise, Expr, Index, OpKind, Origin, Slice, Tensor, Update};
use crate::ids::TensorId;
use crate::import::tract::typed;

impl Lowering<'_> {
    /// Lowers `node` if it is one of this module's; tells whether it was.
    pub(super) fn index(&mut self, node: &TypedNode, inputs: &[TensorId]) -> Result<bool, Reason> {
        if let Some(op) = node.op_as::<Topk>() {
            return self.top_k(node, op, inputs).map(|()| true);
        }
        let Ok(output) = self.describe(node.id.into(), Origin::Input) else { return Ok(false) };
        let kind = if let Some(op) = node.op_as::<Gather>() {
            if let Some(place) = self.graph.constant(inputs[1]).filter(|c| c.len() == 1).and_then(|c| integers(c).first().copied()) {
                return self.one_slice(node, inputs[0], op.axis, place, output).map(|()| true);
            }
            Index::Gather { axis: op.axis }
        } else if let Some(op) = node.op_as::<GatherElements>() {
            Index::GatherElements { axis: op.axis }
        } else if let Some(op) = node.op_as::<GatherNd>() {
            Index::GatherNd { batch_dims: op.batch_dims }
        } else if let Some(op) = node.op_as::<ScatterElements>() {
            Index::ScatterElements { axis: op.axis, update: update(op.reduction) }
        } else if let Some(op) = node.op_as::<ScatterNd>() {
            Index::ScatterNd { update: update(op.reduction) }
        } else if let Some(op) = node.op_as::<OneHot>() {
            return self.one_hot(node, op, inputs, output).map(|()| true);
        } else {
            return Ok(false);
        };
        let mut inputs = inputs.to_vec();
        if let Some(indices) = inputs.get_mut(1) {
            *indices = self.as_integers(node, *indices);
        }
        self.finish(node, OpKind::Index(kind), inputs, output);
        Ok(true)
    }

    /// `id` itself, or converted where it is no integer.
    fn as_integers(&mut self, node: &TypedNode, id: TensorId) -> TensorId {
        let tensor = self.graph.tensor(id).clone();
        if !tensor.dtype.is_float() && tensor.dtype != DType::Bool {
            return id;
        }
        let expr = Expr::identity().cast(DType::I64);
        let output = Tensor { name: format!("{}.indices", tensor.name), dtype: DType::I64, ..tensor };
        self.add(self.operator_name(node), OpKind::Elementwise(Elementwise { expr }), vec![id], output)
    }

    /// The slice of `x` at one place along `axis`.
    fn one_slice(&mut self, node: &TypedNode, x: TensorId, axis: usize, place: i64, output: Tensor) -> Result<(), Reason> {
        let mut shape = self.graph.tensor(x).shape.clone();
        let from_start = if place < 0 { place + shape[axis] as i64 } else { place };
        let inside = usize::try_from(from_start).ok().filter(|&place| place < shape[axis]);
        let inside = inside.ok_or_else(|| format!("its index {place} is outside an axis of {}", shape[axis]))?;
        let mut slice = Slice { begin: vec![0; shape.len()], step: vec![1; shape.len()] };
        slice.begin[axis] = inside;
        shape[axis] = 1;
        let wanted = output.shape.clone();
        self.finish(node, OpKind::Slice(slice), vec![x], Tensor { shape, ..output });
        let seen = self.reshaped(self.tensors[&node.id.into()], wanted);
        self.tensors.insert(node.id.into(), seen);
        Ok(())
    }

    fn top_k(&mut self, node: &TypedNode, op: &Topk, inputs: &[TensorId]) -> Result<(), Reason> {
        for (slot, places) in [(0, false), (1, true)] {
            let unread = node.outputs[slot].successors.is_empty() && !self.model.outputs.contains(&OutletId::new(node.id, slot));
            if unread {
                continue;
            }
            let output = self.describe(OutletId::new(node.id, slot), Origin::Input)?;
            if output.shape[op.axis] > self.graph.tensor(inputs[0]).shape[op.axis] {
                return Err("it asks for more elements than there are".into());
            }
            let kind = OpKind::Index(Index::TopK { axis: op.axis, largest: op.largest, places });
            let result = self.add(self.operator_name(node), kind, vec![inputs[0]], output);
            self.tensors.insert(OutletId::new(node.id, slot), result);
        }
        Ok(())
    }

    /// `on` where the number of the class is the index or, of a negative index, that plus the number of classes; else `off`.
    fn one_hot(&mut self, node: &TypedNode, op: &OneHot, inputs: &[TensorId], output: Tensor) -> Result<(), Reason> {
        let value = |tensor: &tract_onnx::prelude::Tensor| {
            typed::values(tensor).ok().and_then(|v| v.only()).map(Expr::Const).ok_or("its values are not single numbers")
        };
        let (on, off) = (value(&op.on)?, value(&op.off)?);
        let (mut narrow, mut classes) = (self.graph.tensor(inputs[0]).shape.clone(), vec![1; output.shape.len()]);
        narrow.insert(op.axis, 1);
        classes[op.axis] = op.dim;
        let indices = self.reshaped(inputs[0], narrow);
        let numbers: Vec<i64> = (0..op.dim as i64).collect();
        let numbers = self.graph.add_tensor(Tensor {
            name: format!("{}.classes", self.operator_name(node)),
            dtype: DType::I64,
            shape: classes,
            origin: Origin::Constant(Constant::I64(numbers.into())),
        });
        let index = if self.graph.tensor(indices).dtype == DType::I64 { Expr::Input(0) } else { Expr::Input(0).cast(DType::I64) };
        let from_end = Expr::binary(Binary::Add, index.clone(), Expr::Const((op.dim as i64).into()));
        let is = |index| Expr::binary(Binary::Equal, index, Expr::Input(1));
        let expr = Expr::select(is(index), on.clone(), Expr::select(is(from_end), on, off));
        self.finish(node, OpKind::Elementwise(Elementwise { expr }), vec![indices, numbers], output);
        Ok(())
    }
}

/// The values, if they are integers of a type that indices have.
fn integers(values: &Constant) -> Vec<i64> {
    match values {
        Constant::I64(values) => values.to_vec(),
        Constant::I32(values) => values.iter().map(|&v| v.into()).collect(),
        _ => Vec::new(),
    }
}

fn update(reduction: ScatterReduction) -> Update {
    match reduction {
        ScatterReduction::None => Update::Replace,
        ScatterReduction::Add => Update::Add,
        ScatterReduction::Mul => Update::Mul,
        ScatterReduction::Min => Update::Min,
        ScatterReduction::Max => Update::Max,
    }
}
