//! Local response normalisation: tract's `Lrn` becomes ours.

use tract_onnx::prelude::*;
use tract_onnx_opl::lrn::Lrn as TractLrn;

use super::{Lowering, Reason};
use crate::graph::{Lrn, OpKind};

impl Lowering<'_> {
    /// Lowers `node` if it is a local response normalisation; returns whether it was.
    pub(super) fn lrn(&mut self, node: &TypedNode) -> Result<bool, Reason> {
        let Some(op) = node.op_as::<TractLrn>() else { return Ok(false) };
        let kind = OpKind::Lrn(Lrn { size: op.size, alpha: op.alpha, beta: op.beta, bias: op.bias });
        self.single_precision(node, kind)
    }
}
