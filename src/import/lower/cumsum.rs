//! Running sums.

use tract_onnx::prelude::*;
use tract_onnx::tract_core::ops::array::CumSum as TractCumSum;

use super::{Lowering, Reason};
use crate::graph::{CumSum, OpKind, Tensor};
use crate::ids::TensorId;

impl Lowering<'_> {
    /// Lowers `node` if it is a running sum; tells whether it was.
    pub(super) fn cumsum(&mut self, node: &TypedNode, inputs: &[TensorId], output: &Tensor) -> Result<bool, Reason> {
        let Some(op) = node.op_as::<TractCumSum>() else { return Ok(false) };
        let kind = OpKind::CumSum(CumSum { axis: op.axis, exclusive: op.exclusive, reverse: op.reverse });
        self.finish(node, kind, vec![inputs[0]], output.clone());
        Ok(true)
    }
}
