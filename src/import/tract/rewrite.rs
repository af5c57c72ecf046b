//! Rewrites of typed models that tract cannot run, or that it folds to other values than ONNX's.
//!
//! A negative pad of a `Pad` removes elements. tract stores it as an unsigned number, types the
//! node correctly by wrapping around, and panics when it runs the node. Exporters write negative
//! pads (NASNet's shifted pools), often computed by a dozen nodes, which only typing resolves, so
//! the rewrite works on the typed model. Each such node becomes slices, which remove elements, and
//! a `Pad` that adds the others, as in ONNX Runtime.

use tract_onnx::pb;
use tract_onnx::prelude::*;
use tract_onnx::tract_core::ops::array::{Pad, Slice};
use tract_onnx::tract_core::ops::konst::Const;

/// Replaces the maxima and minima of empty tensors in `model`, in which ONNX names are still names
/// of nodes. They must be -inf and inf, but typing folds them to the largest finite numbers. (For
/// integers, these are what ONNX asks for.)
pub fn extremes_of_empty(model: &mut TypedModel, proto: &pb::ModelProto) -> TractResult<()> {
    let nodes = proto.graph.iter().flat_map(|graph| &graph.node);
    for node in nodes.filter(|n| matches!(n.op_type.as_str(), "ReduceMax" | "ReduceMin")) {
        let (Some(input), Some(output)) = (node.input.first(), node.output.first()) else { continue };
        let empty = model
            .nodes()
            .iter()
            .any(|n| n.name == *input && n.outputs.iter().any(|o| o.fact.shape.as_concrete().is_some_and(|s| s.contains(&0))));
        if !empty {
            continue;
        }
        let name = if node.name.is_empty() { output } else { &node.name };
        let value = if node.op_type == "ReduceMax" { f32::NEG_INFINITY } else { f32::INFINITY };
        let within = |n: &TypedNode| n.name.strip_prefix(name.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
        let folded: Vec<usize> = model.nodes().iter().filter(|n| within(n) && n.op_is::<Const>()).map(|n| n.id).collect();
        for id in folded {
            let fact = &model.node(id).outputs[0].fact;
            let (datum, Some(shape)) = (fact.datum_type, fact.shape.as_concrete().map(<[usize]>::to_vec)) else { continue };
            if datum.is_float() {
                let values = tensor0(value).cast_to_dt(datum)?.broadcast_scalar_to_shape(&shape)?.into_arc_tensor();
                let node = model.node_mut(id);
                node.outputs[0].fact = values.clone().try_into()?;
                node.op = Box::new(Const::new(values)?);
            }
        }
    }
    Ok(())
}

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
