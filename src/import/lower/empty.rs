//! Tensors of no elements: they have no bytes, and nothing computes them.
//!
//! An operator whose result is empty becomes an empty constant. One that makes something of nothing becomes what its definition says: a reduction its
//! neutral element (a mean NaN, or 0 of integers), a padding its value, a matrix product with sums of no terms its bias; a concatenation leaves its empty
//! inputs out; a scatter of no updates changes nothing. So the graph that leaves this room has operators over elements alone; only inputs, outputs and constants may be empty.

use super::Lowering;
use crate::graph::{Constant, DType, Index, MatMul, OpKind, Origin, PadMode, ReduceKind, Scalar, Tensor};
use crate::ids::TensorId;

/// What is left of an operator.
pub(super) enum Remains {
    /// This operator over these inputs.
    Operator(Box<OpKind>, Vec<TensorId>),
    /// A tensor that is there.
    Tensor(TensorId),
}

impl Lowering<'_> {
    /// Nothing of `kind` over `inputs` is computed on, or into, an empty tensor.
    pub(super) fn without_empty(&mut self, kind: OpKind, inputs: Vec<TensorId>, output: &Tensor) -> Remains {
        if output.elements() == 0 {
            return Remains::Tensor(self.filled(output, Scalar::from_f64(output.dtype, 0.0)));
        }
        let empty = |t: &TensorId| self.graph.tensor(*t).elements() == 0;
        if !inputs.iter().any(empty) {
            return Remains::Operator(Box::new(kind), inputs);
        }
        match kind {
            OpKind::Concat { .. } => match inputs.iter().copied().filter(|t| !empty(t)).collect::<Vec<_>>()[..] {
                [only] => Remains::Tensor(only),
                ref kept => Remains::Operator(Box::new(kind), kept.to_vec()),
            },
            OpKind::Reduce(reduce) => Remains::Tensor(self.filled(output, neutral(reduce.kind, output.dtype))),
            OpKind::Pad(pad) => match pad.mode {
                PadMode::Constant(value) => Remains::Tensor(self.filled(output, value)),
                _ => Remains::Operator(Box::new(OpKind::Pad(pad)), inputs),
            },
            OpKind::MatMul(product) => {
                // one term, 0 * 0
                let dtype = self.graph.tensor(inputs[0]).dtype;
                let zero = Tensor { name: format!("{}.zero", output.name), dtype, shape: vec![1], origin: Origin::Input };
                let zero = self.filled(&zero, Scalar::from_f64(dtype, 0.0));
                let product = MatMul { k: 1, a_strides: [0; 3], b_strides: [0; 3], ..product };
                Remains::Operator(Box::new(OpKind::MatMul(product)), [&[zero, zero], &inputs[2..]].concat())
            }
            // no updates
            OpKind::Index(Index::ScatterElements { .. } | Index::ScatterNd { .. }) if empty(&inputs[2]) => Remains::Tensor(inputs[0]),
            other => Remains::Operator(Box::new(other), inputs),
        }
    }

    /// A constant like `tensor` with one value throughout.
    pub(super) fn filled(&mut self, tensor: &Tensor, value: Scalar) -> TensorId {
        let values = Constant::repeated(value, tensor.elements() as usize);
        self.graph.add_tensor(Tensor { origin: Origin::Constant(values), ..tensor.clone() })
    }
}

/// What a reduction of nothing gives. Nothing has no place; 0 is as good as any.
fn neutral(kind: ReduceKind, dtype: DType) -> Scalar {
    let number = |value: f64| Scalar::from_f64(dtype, value);
    match kind {
        ReduceKind::Sum | ReduceKind::ArgMax { .. } | ReduceKind::ArgMin { .. } => number(0.0),
        ReduceKind::Product => number(1.0),
        ReduceKind::Mean => number(f64::NAN),
        ReduceKind::Max | ReduceKind::Min if dtype == DType::Bool => Scalar::from(kind == ReduceKind::Min),
        ReduceKind::Max => number(f64::NEG_INFINITY),
        ReduceKind::Min => number(f64::INFINITY),
    }
}
