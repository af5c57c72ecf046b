//! Concatenation: tract's `TypedConcat` becomes a `Concat`.

use tract_onnx::prelude::*;
use tract_onnx::tract_core::ops::array::TypedConcat;

use super::{Lowering, Reason};
use crate::graph::{Concat, OpKind};

impl Lowering<'_> {
    /// Lowers `node` if it is a concatenation; returns whether it was.
    pub(super) fn concat(&mut self, node: &TypedNode) -> Result<bool, Reason> {
        let Some(op) = node.op_as::<TypedConcat>() else { return Ok(false) };
        let output = self.output(node)?;
        self.finish(node, OpKind::Concat(Concat { axis: op.axis }), self.inputs(node), output);
        Ok(true)
    }
}
