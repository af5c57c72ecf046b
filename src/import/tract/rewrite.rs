//! Rewrites of typed models that tract cannot run.
//!
//! A negative pad of a `Pad` removes elements. tract stores it as an unsigned number, types the
//! node correctly by wrapping around, and panics when it runs the node. Exporters write negative
//! pads (NASNet's shifted pools), often computed by a dozen nodes, which only typing resolves, so
//! the rewrite works on the typed model. Each such node becomes slices, which remove elements, and
//! a `Pad` that adds the others, as in ONNX Runtime.

use tract_onnx::prelude::*;
use tract_onnx::tract_core::ops::array::{Pad, Slice};

/// Rewrites the negative pads of `model`.
pub fn negative_pads(model: &mut TypedModel) -> TractResult<()> {
    let nodes: Vec<usize> = model.nodes().iter().filter(|n| n.op_as::<Pad>().is_some_and(is_negative)).map(|n| n.id).collect();
    for id in nodes {
        let node = model.node(id).clone();
        let Some(pad) = node.op_as::<Pad>() else { continue };
        let mut patch = TypedModelPatch::default();
        let mut tap = patch.tap_model(model, node.inputs[0])?;
        for (axis, &(before, after)) in pad.pads.iter().enumerate() {
            let taken = |pad: usize| (pad as isize).min(0).unsigned_abs();
            if taken(before) + taken(after) > 0 {
                let end = patch.outlet_fact(tap)?.shape[axis].clone() - taken(after) as i64;
                tap = patch.wire_node(format!("{}.taken-{axis}", node.name), Slice::new(axis, taken(before), end), &[tap])?[0];
            }
        }
        let added = |pad: usize| (pad as isize).max(0) as usize;
        let pads = pad.pads.iter().map(|&(before, after)| (added(before), added(after))).collect();
        let output = patch.wire_node(&node.name, Pad { pads, mode: pad.mode.clone() }, &[tap])?[0];
        patch.shunt_outside(model, id.into(), output)?;
        patch.apply(model)?;
    }
    Ok(())
}

fn is_negative(pad: &Pad) -> bool {
    pad.pads.iter().any(|&(before, after)| (before as isize) < 0 || (after as isize) < 0)
}
