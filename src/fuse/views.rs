//! `free-views`: a reshape moves no bytes, so its result is a view of its input. `slice-views`: the
//! same holds for a slice of consecutive elements, such as some channels of one image.

use super::{Patch, Replacement, Uses};
use crate::graph::{Graph, OpKind, Origin, PART_ALIGNMENT, Reshape};
use crate::ids::{OpId, TensorId};

pub fn free(graph: &Graph, _: &Uses, op: OpId) -> Option<Patch> {
    let operator = graph.operator(op);
    (operator.kind == OpKind::Reshape(Reshape)).then(|| patch(op, Origin::View(operator.inputs[0])))
}

/// A slice whose elements are consecutive in its source and, if the source is joined, in one part
/// of it. Not if its source is a constant, if its result is an output of the model or a part of a
/// joined tensor, or if it does not begin at a multiple of [`PART_ALIGNMENT`] bytes.
pub fn slices(graph: &Graph, uses: &Uses, op: OpId) -> Option<Patch> {
    let operator = graph.operator(op);
    let OpKind::Slice(slice) = &operator.kind else { return None };
    let (of, output) = (operator.inputs[0], operator.outputs[0]);
    let (from, to) = (&graph.tensor(of).shape, &graph.tensor(output).shape);
    if graph.constant(of).is_some() || uses.outputs.contains(&output) || graph.tensor(output).elements() == 0 {
        return None;
    }
    // One index of each leading axis, a range of the next one, all of those after it.
    let axis = to.iter().position(|&extent| extent != 1).unwrap_or(0);
    let whole = |a: usize| from[a] == to[a] && slice.begin[a] == 0;
    if slice.step.iter().zip(to).any(|(&step, &extent)| step != 1 && extent > 1) || !(axis + 1..to.len()).all(whole) {
        return None;
    }
    let begin = slice.begin.iter().zip(from).fold(0, |at, (&begin, &extent)| at * extent as u64 + begin as u64);
    let (of, begin) = in_one_part(graph, of, begin, graph.tensor(output).elements())?;
    let aligned = ((graph.begin(of) + begin) * graph.tensor(of).dtype.bytes()).is_multiple_of(PART_ALIGNMENT);
    let is_part = graph.tensors.iter().any(|t| matches!(&t.origin, Origin::Joined(parts) if parts.contains(&output)));
    (aligned && !is_part).then(|| patch(op, Origin::Slice { of, begin }))
}

/// The tensor, `of` or one part of it if it is joined, that has these elements, and where they
/// begin in it; `None` if they are in several parts.
fn in_one_part(graph: &Graph, of: TensorId, mut begin: u64, elements: u64) -> Option<(TensorId, u64)> {
    let Origin::Joined(parts) = &graph.tensor(graph.root(of)).origin else { return Some((of, begin)) };
    for &part in parts {
        let length = graph.tensor(part).elements();
        if begin < length {
            return (begin + elements <= length).then_some((part, begin));
        }
        begin -= length;
    }
    None
}

fn patch(at: OpId, origin: Origin) -> Patch {
    Patch { at, absorbed: Vec::new(), constants: Vec::new(), with: Replacement::Origin(origin) }
}
