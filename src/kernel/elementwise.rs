//! Elementwise operators: coalesces axes, finds each input's strides, and reads four neighbours at
//! once where possible.

use super::spec::{KernelSpec, Needs, blocks, by_x, ints, numbered};
use super::{Effort, OpContext, expr};
use crate::Result;
use crate::graph::Elementwise;

pub(super) fn specs(ctx: &OpContext, elementwise: &Elementwise) -> Result<Vec<KernelSpec>> {
    let out = &ctx.output.shape;
    let fits = |shape: &[usize]| shape.len() == out.len() && shape.iter().zip(out).all(|(&d, &o)| d == o || d == 1);
    ctx.require(ctx.inputs.iter().all(|t| fits(&t.shape)), "an input does not broadcast to the output")?;
    ctx.require(elementwise.expr.inputs() <= ctx.inputs.len(), "the expression reads an input that the operator does not have")?;

    let shapes: Vec<&[usize]> = ctx.inputs.iter().map(|t| &t.shape[..]).collect();
    let (dims, strides) = coalesce_broadcast(out, &shapes);
    let width = if quads(&dims, &strides) { 4 } else { 1 };
    let elements = ctx.output.elements();
    let threads = ctx.block_size(elements / width);
    let effort = Effort { instructions: 30 + 20 * width, words: width * (1 + shapes.len() as u64), rounds: 1, chain: 0 };
    let lists: String = strides.iter().map(|s| format!(", {}", ints(s))).collect();
    let arguments: String = numbered(shapes.len()).iter().map(|x| format!(", {x}")).collect();
    let name_of_strides: String = strides.iter().map(|s| format!("_s{}", by_x(s))).collect();
    Ok(vec![KernelSpec {
        signature: format!("elementwise_{}_d{}{name_of_strides}", expr::name(&elementwise.expr), by_x(&dims)),
        candidate: format!("v{width}t{threads}"),
        comment: vec![
            format!("y = {} for each of {elements} elements.", elementwise.expr),
            "The first list is the output's axes, coalesced where possible; the others are the inputs' strides over them.".into(),
        ],
        header: "elementwise.cuh",
        params: ctx.params(&numbered(shapes.len())),
        sync: false,
        threads,
        grid: [blocks(elements / width, threads), 1, 1],
        static_shared_bytes: 0,
        registers: 32,
        trips: vec![],
        needs: Needs { effort: Some(effort), ..Needs::default() },
        body: vec![format!(
            "elementwise<{}, {elements}, {}, {width}, {threads}{lists}>(y{arguments});",
            expr::cpp(&elementwise.expr),
            ints(&dims)
        )],
    }])
}

/// The output's axes and, for each input, its strides over them. Axes of size 1 are dropped, and
/// neighbours are coalesced wherever every input steps through both as through one axis. Never
/// empty.
pub(super) fn coalesce_broadcast(out: &[usize], inputs: &[&[usize]]) -> (Vec<usize>, Vec<Vec<usize>>) {
    let mut dims: Vec<usize> = Vec::new(); // innermost first
    let mut strides: Vec<Vec<usize>> = vec![Vec::new(); inputs.len()];
    let mut next: Vec<usize> = vec![1; inputs.len()]; // the stride of the current axis in each input
    for axis in (0..out.len()).rev() {
        if out[axis] > 1 {
            let own: Vec<usize> = inputs.iter().zip(&next).map(|(shape, &n)| if shape[axis] == 1 { 0 } else { n }).collect();
            let inner = dims.last().copied();
            if let Some(inner) = inner.filter(|&d| strides.iter().zip(&own).all(|(s, &o)| s[s.len() - 1] * d == o)) {
                *dims.last_mut().expect("just read") = inner * out[axis];
            } else {
                dims.push(out[axis]);
                strides.iter_mut().zip(own).for_each(|(s, o)| s.push(o));
            }
        }
        next.iter_mut().zip(inputs).for_each(|(n, shape)| *n *= shape[axis]);
    }
    if dims.is_empty() {
        dims.push(1);
        strides.iter_mut().for_each(|s| s.push(0));
    }
    dims.reverse();
    strides.iter_mut().for_each(|s| s.reverse());
    (dims, strides)
}

/// Whether, in every input, four neighbours of the output are four aligned neighbours or a single
/// element.
pub(super) fn quads(dims: &[usize], strides: &[Vec<usize>]) -> bool {
    let last = dims.len() - 1;
    dims[last].is_multiple_of(4) && strides.iter().all(|s| s[last] == 0 || (s[last] == 1 && s[..last].iter().all(|o| o.is_multiple_of(4))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_coalesce_where_all_inputs_allow_it() {
        assert_eq!(coalesce_broadcast(&[2, 3, 4], &[&[2, 3, 4], &[2, 3, 4]]), (vec![24], vec![vec![1], vec![1]]));
        assert_eq!(coalesce_broadcast(&[1, 8, 5, 5], &[&[1, 8, 5, 5], &[1, 8, 1, 1]]), (vec![8, 25], vec![vec![25, 1], vec![1, 0]]));
        assert_eq!(coalesce_broadcast(&[2, 3, 4], &[&[2, 1, 4]]), (vec![2, 3, 4], vec![vec![4, 0, 1]]));
        assert_eq!(coalesce_broadcast(&[], &[&[]]), (vec![1], vec![vec![0]]));
        assert_eq!(coalesce_broadcast(&[6], &[&[1]]), (vec![6], vec![vec![0]]));
    }

    #[test]
    fn quads_need_alignment() {
        assert!(quads(&[8, 16], &[vec![16, 1], vec![1, 0]]));
        assert!(!quads(&[8, 25], &[vec![25, 1]]));
        assert!(!quads(&[8, 16], &[vec![1, 8]]));
    }
}
