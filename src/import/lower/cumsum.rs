//! Running sums: tract's `CumSum` becomes ours.

use tract_onnx::prelude::*;
use tract_onnx::tract_core::ops::array::CumSum as TractCumSum;

use super::{Lowering, Reason};
use crate::graph::{CumSum, OpKind};

impl Lowering<'_> {
    /// Lowers `node` if it is a running sum; returns whether it was.
    pub(super) fn cumsum(&mut self, node: &TypedNode) -> Result<bool, Reason> {
        let Some(op) = node.op_as::<TractCumSum>() else { return Ok(false) };
        let kind = OpKind::CumSum(CumSum { axis: op.axis, exclusive: op.exclusive, reverse: op.reverse });
        let output = self.output(node)?;
        self.finish(node, kind, vec![self.inputs(node)[0]], output);
        Ok(true)
    }
}
