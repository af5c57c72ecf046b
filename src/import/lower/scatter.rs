//! Writing by index: tract's `ScatterElements` and `ScatterNd` become a `Scatter`.

use tract_onnx::prelude::*;
use tract_onnx::tract_core::ops::array::{ScatterElements, ScatterNd, ScatterReduction};

use super::{Lowering, Reason};
use crate::graph::{OpKind, Scatter, Update};

impl Lowering<'_> {
    /// Lowers `node` if it writes by index; returns whether it does.
    pub(super) fn scatter(&mut self, node: &TypedNode) -> Result<bool, Reason> {
        let kind = if let Some(op) = node.op_as::<ScatterElements>() {
            Scatter::Elements { axis: op.axis, update: update(op.reduction) }
        } else if let Some(op) = node.op_as::<ScatterNd>() {
            Scatter::Nd { update: update(op.reduction) }
        } else {
            return Ok(false);
        };
        let mut inputs = self.inputs(node);
        inputs[1] = self.as_integers(node, inputs[1]);
        let output = self.output(node)?;
        self.finish(node, OpKind::Scatter(kind), inputs, output);
        Ok(true)
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
