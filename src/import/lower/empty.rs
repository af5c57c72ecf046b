//! Tensors without elements: they have no bytes, and nothing computes them.
//!
//! An operator with an empty result becomes an empty constant. An operator with an empty input and
//! a non-empty result becomes what its definition says: the neutral element for a reduction (for a
//! mean NaN, or 0 for integers), the value for a padding, the bias for a matrix product, whose sums
//! have no terms. A concatenation drops its empty inputs; a scatter without updates changes
//! nothing. So the lowered graph has operators over non-empty tensors alone; only inputs, outputs
//! and constants may be empty.

use super::Lowering;
use crate::graph::{Constant, DType, MatMul, OpKind, Origin, PadMode, ReduceKind, Scalar, Tensor};
use crate::ids::TensorId;

/// What is left of an operator.
pub(super) enum Remains {
    /// This operator over these inputs.
    Operator(Box<OpKind>, Vec<TensorId>),
    /// An existing tensor.
    Tensor(TensorId),
}

impl Lowering<'_> {
    /// What `kind` over `inputs` becomes, so that no operator reads or writes an empty tensor.
    pub(super) fn without_empty(&mut self, kind: OpKind, inputs: Vec<TensorId>, output: &Tensor) -> Remains {
        if output.elements() == 0 {
            return Remains::Tensor(self.filled(output, Scalar::from_f64(output.dtype, 0.0)));
        }
        let empty = |t: &TensorId| self.graph.tensor(*t).elements() == 0;
        if !inputs.iter().any(empty) {
            return Remains::Operator(Box::new(kind), inputs);
        }
        match kind {
            OpKind::Concat(_) => match inputs.iter().copied().filter(|t| !empty(t)).collect::<Vec<_>>()[..] {
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
            OpKind::Scatter(_) if empty(&inputs[2]) => Remains::Tensor(inputs[0]),
            other => Remains::Operator(Box::new(other), inputs),
        }
    }

    /// A constant like `tensor` whose elements all have one value.
    pub(super) fn filled(&mut self, tensor: &Tensor, value: Scalar) -> TensorId {
        let values = Constant::repeated(value, tensor.elements() as usize);
        self.graph.add_tensor(Tensor { origin: Origin::Constant(values), ..tensor.clone() })
    }
}

/// The result of a reduction over no elements. A position has no right value; it is 0.
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
