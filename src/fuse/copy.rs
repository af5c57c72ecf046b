//! `pad` and `slices`: a `Pad` before a convolution or a pooling over two axes becomes the window's
//! own padding, and a slice of a slice becomes one slice.
//!
//! The consumer of the padded tensor reads the smaller one instead. Other consumers still read the
//! padded one.
//!
//! * a convolution, and a mean that counts padding, absorb zeros;
//! * a mean without padding of its own absorbs zeros as elements, so from then on it counts
//!   padding;
//! * a maximum absorbs -inf.

use super::{Patch, Replacement, Uses};
use crate::graph::{Graph, OpKind, PadMode, PoolKind};
use crate::ids::OpId;

pub fn into_window(graph: &Graph, _: &Uses, op: OpId) -> Option<Patch> {
    let mut operator = graph.operator(op).clone();
    let padded = operator.inputs[0];
    let source = graph.operator(graph.producer(padded)?);
    let OpKind::Pad(pad) = &source.kind else { return None };
    let PadMode::Constant(value) = pad.mode else { return None };
    let value = value.f32()?;
    let ([0, 0, top, left], [0, 0, bottom, right]) = (&pad.before[..], &pad.after[..]) else { return None };
    if graph.root(padded) != padded {
        return None; // read under another shape
    }
    let (begin, end) = match &mut operator.kind {
        OpKind::Conv(conv) if value == 0.0 => (&mut conv.pads_begin, &mut conv.pads_end),
        OpKind::Pool(pool) => {
            let own = pool.pads_begin != [0, 0] || pool.pads_end != [0, 0];
            match &mut pool.kind {
                PoolKind::Max if value == f32::NEG_INFINITY => {}
                PoolKind::Average { count_include_pad } if value == 0.0 && (*count_include_pad || !own) => *count_include_pad = true,
                _ => return None,
            }
            (&mut pool.pads_begin, &mut pool.pads_end)
        }
        _ => return None,
    };
    *begin = [begin[0] + top, begin[1] + left];
    *end = [end[0] + bottom, end[1] + right];
    operator.inputs[0] = source.inputs[0];
    Some(Patch { at: op, absorbed: Vec::new(), constants: Vec::new(), with: Replacement::Operator(Box::new(operator)) })
}

/// A slice of a slice reads the source of the first one.
pub fn compose_slices(graph: &Graph, _: &Uses, op: OpId) -> Option<Patch> {
    let mut operator = graph.operator(op).clone();
    let sliced = operator.inputs[0];
    let source = graph.operator(graph.producer(sliced)?);
    let (OpKind::Slice(outer), OpKind::Slice(inner)) = (&mut operator.kind, &source.kind) else { return None };
    if graph.root(sliced) != sliced || inner.begin.len() != outer.begin.len() {
        return None;
    }
    for axis in 0..inner.begin.len() {
        // a slice of one element may have any step
        let skipped = isize::try_from(outer.begin[axis]).ok()?.checked_mul(inner.step[axis])?;
        outer.begin[axis] = inner.begin[axis].checked_add_signed(skipped)?;
        outer.step[axis] = outer.step[axis].checked_mul(inner.step[axis])?;
    }
    operator.inputs[0] = source.inputs[0];
    Some(Patch { at: op, absorbed: Vec::new(), constants: Vec::new(), with: Replacement::Operator(Box::new(operator)) })
}
