//! The largest or smallest elements along an axis: one operator for the values, one for the
//! positions.

use tract_onnx::prelude::*;
use tract_onnx::tract_core::ops::array::Topk;

use super::{Lowering, Reason, extent};
use crate::graph::{OpKind, Origin, TopK};

impl Lowering<'_> {
    /// Lowers `node` if it picks the largest or smallest elements; returns whether it does.
    pub(super) fn topk(&mut self, node: &TypedNode) -> Result<bool, Reason> {
        let Some(op) = node.op_as::<Topk>() else { return Ok(false) };
        let x = self.inputs(node)[0];
        for (slot, positions) in [(0, false), (1, true)] {
            let unread = node.outputs[slot].successors.is_empty() && !self.model.outputs.contains(&OutletId::new(node.id, slot));
            if unread {
                continue;
            }
            let output = self.describe(OutletId::new(node.id, slot), Origin::Input)?;
            if extent(&output.shape, op.axis)? > extent(&self.graph.tensor(x).shape, op.axis)? {
                return Err("its k exceeds the extent of its axis".into());
            }
            let kind = OpKind::TopK(TopK { axis: op.axis, largest: op.largest, positions });
            let result = self.add(self.operator_name(node), kind, vec![x], output);
            self.tensors.insert(OutletId::new(node.id, slot), result);
        }
        Ok(true)
    }
}
