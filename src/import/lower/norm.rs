//! Root mean square normalisation. Other normalisations arrive as several operators, which `fuse`
//! combines.

use tract_onnx::prelude::*;
use tract_onnx::tract_core::ops::nn::RmsNorm;

use super::{Lowering, Reason};
use crate::graph::{Expr, Norm, OpKind};

impl Lowering<'_> {
    /// Lowers `node` if it is a normalisation; returns whether it was.
    pub(super) fn norm(&mut self, node: &TypedNode) -> Result<bool, Reason> {
        let Some(op) = node.op_as::<RmsNorm>() else { return Ok(false) };
        let epsilon = op.eps.cast_to_scalar::<f32>().map_err(|e| format!("{e:#}"))?;
        let kind = OpKind::Norm(Norm { centred: false, axes: vec![op.axis], epsilon, epilogue: Expr::identity() });
        self.single_precision(node, kind)
    }
}
