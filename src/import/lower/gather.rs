//! Reading by index: tract's `Gather`, `GatherElements` and `GatherNd` become a `Gather`. A single
//! constant index becomes a slice.

use tract_onnx::prelude::*;
use tract_onnx::tract_core::ops::array::{Gather as TractGather, GatherElements, GatherNd};

use super::{Lowering, Reason};
use crate::graph::{Constant, DType, Elementwise, Expr, Gather, OpKind, Slice, Tensor};
use crate::ids::TensorId;

impl Lowering<'_> {
    /// Lowers `node` if it reads by index; returns whether it does.
    pub(super) fn gather(&mut self, node: &TypedNode) -> Result<bool, Reason> {
        let mut inputs = self.inputs(node);
        let kind = if let Some(op) = node.op_as::<TractGather>() {
            if let Some(index) = self.graph.constant(inputs[1]).filter(|c| c.len() == 1).and_then(|c| integers(c).first().copied()) {
                let output = self.output(node)?;
                return self.one_slice(node, inputs[0], op.axis, index, output).map(|()| true);
            }
            Gather::Slices { axis: op.axis }
        } else if let Some(op) = node.op_as::<GatherElements>() {
            Gather::Elements { axis: op.axis }
        } else if let Some(op) = node.op_as::<GatherNd>() {
            Gather::Nd { batch_dims: op.batch_dims }
        } else {
            return Ok(false);
        };
        inputs[1] = self.as_integers(node, inputs[1]);
        let output = self.output(node)?;
        self.finish(node, OpKind::Gather(kind), inputs, output);
        Ok(true)
    }

    /// `id` itself, or converted to i64 if it is not an integer.
    pub(super) fn as_integers(&mut self, node: &TypedNode, id: TensorId) -> TensorId {
        let tensor = self.graph.tensor(id).clone();
        if !tensor.dtype.is_float() && tensor.dtype != DType::Bool {
            return id;
        }
        let expr = Expr::identity().cast(DType::I64);
        let output = Tensor { name: format!("{}.indices", tensor.name), dtype: DType::I64, ..tensor };
        self.add(self.operator_name(node), OpKind::Elementwise(Elementwise { expr }), vec![id], output)
    }

    /// The slice of `x` at one index along `axis`.
    fn one_slice(&mut self, node: &TypedNode, x: TensorId, axis: usize, index: i64, output: Tensor) -> Result<(), Reason> {
        let mut shape = self.graph.tensor(x).shape.clone();
        let from_start = if index < 0 { index + shape[axis] as i64 } else { index };
        let inside = usize::try_from(from_start).ok().filter(|&at| at < shape[axis]);
        let inside = inside.ok_or_else(|| format!("its index {index} is outside an axis of {}", shape[axis]))?;
        let mut slice = Slice { begin: vec![0; shape.len()], step: vec![1; shape.len()] };
        slice.begin[axis] = inside;
        shape[axis] = 1;
        let wanted = output.shape.clone();
        self.finish(node, OpKind::Slice(slice), vec![x], Tensor { shape, ..output });
        let seen = self.reshaped(self.tensors[&node.id.into()], wanted);
        self.tensors.insert(node.id.into(), seen);
        Ok(())
    }
}

/// The values, if they are i32 or i64; else none.
fn integers(values: &Constant) -> Vec<i64> {
    match values {
        Constant::I64(values) => values.to_vec(),
        Constant::I32(values) => values.iter().map(|&v| v.into()).collect(),
        _ => Vec::new(),
    }
}
