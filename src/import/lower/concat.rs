//! Concatenation: tract's `TypedConcat` becomes a `Concat`.

use tract_onnx::prelude::*;
use tract_onnx::tract_core::ops::array::TypedConcat;

use super::{Lowering, Reason};
use crate::graph::{Concat, OpKind};

/// The maximum number of inputs of one `Concat`; more are first concatenated in groups. The
/// parameters of a launch hold a few hundred pointers.
const AT_ONCE: usize = 256;

impl Lowering<'_> {
    /// Lowers `node` if it is a concatenation; returns whether it was.
    pub(super) fn concat(&mut self, node: &TypedNode) -> Result<bool, Reason> {
        let Some(op) = node.op_as::<TypedConcat>() else { return Ok(false) };
        let (output, mut inputs) = (self.output(node)?, self.inputs(node));
        if inputs.len() > AT_ONCE {
            let name = self.operator_name(node);
            inputs = inputs.chunks(AT_ONCE).map(|group| self.concatenated(&name, group.to_vec(), op.axis)).collect();
        }
        self.finish(node, OpKind::Concat(Concat { axis: op.axis }), inputs, output);
        Ok(true)
    }
}
