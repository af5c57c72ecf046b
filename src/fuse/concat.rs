//! `concat`: a concatenation whose inputs are contiguous in the output needs no copy if each input
//! is written where it belongs in the output.
//!
//! The usual case is the channels of one image (batch 1). The output becomes *joined*
//! ([`Origin::Joined`]), and the plan lays out the inputs side by side on each GPU where something
//! reads the whole. The rule does not apply if
//!
//! * an axis before the concatenated one has several elements, so that rows of the inputs
//!   alternate;
//! * an input is not the whole result of an operator (but an input of the model, a constant, a
//!   slice, or joined itself), is already a part of a joined tensor, or occurs twice;
//! * an input would not begin at a multiple of [`PART_ALIGNMENT`] bytes, which kernels need;
//! * the result is an output of the model.

use super::{Patch, Replacement, Uses};
use crate::graph::{Concat, Graph, OpKind, Origin, PART_ALIGNMENT};
use crate::ids::{OpId, TensorId};

pub fn in_place(graph: &Graph, uses: &Uses, op: OpId) -> Option<Patch> {
    let operator = graph.operator(op);
    let OpKind::Concat(Concat { axis }) = operator.kind else { return None };
    let output = operator.outputs[0];
    let outer: usize = graph.tensor(output).shape[..axis].iter().product();
    if outer != 1 || operator.inputs.len() < 2 || uses.outputs.contains(&output) {
        return None;
    }
    let parts: Vec<TensorId> = operator.inputs.iter().map(|&t| graph.root(t)).collect();
    let mut begin = 0u64;
    for (i, &part) in parts.iter().enumerate() {
        let tensor = graph.tensor(part);
        let whole = tensor.bytes() == graph.tensor(operator.inputs[i]).bytes() && tensor.bytes() > 0;
        let fits = matches!(tensor.origin, Origin::Operator(_)) && whole && begin.is_multiple_of(PART_ALIGNMENT);
        if !fits || parts[..i].contains(&part) || is_part(graph, part) {
            return None;
        }
        begin += tensor.bytes();
    }
    Some(Patch { at: op, absorbed: Vec::new(), constants: Vec::new(), with: Replacement::Origin(Origin::Joined(parts)) })
}

/// Whether `tensor` is already a part of a joined tensor.
fn is_part(graph: &Graph, tensor: TensorId) -> bool {
    graph.tensors.iter().any(|t| matches!(&t.origin, Origin::Joined(parts) if parts.contains(&tensor)))
}
