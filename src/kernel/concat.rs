//! Concatenation: all inputs in one launch.

use super::spec::{KernelSpec, Needs, blocks, by_x, numbered, vector, words_of};
use super::{Effort, OpContext};
use crate::Result;

/// The most inputs: kernel parameters are at most 4 KB, which must also hold the pointer to the
/// output.
const MAX_INPUTS: usize = 500;

pub(super) fn specs(ctx: &OpContext, axis: usize) -> Result<Vec<KernelSpec>> {
    let out = &ctx.output.shape;
    ctx.require(axis < out.len() && !ctx.inputs.is_empty(), "its axis or its inputs are missing")?;
    let fits = |shape: &[usize]| shape.len() == out.len() && (0..out.len()).all(|a| a == axis || shape[a] == out[a]);
    let total: usize = ctx.inputs.iter().filter(|t| fits(&t.shape)).map(|t| t.shape[axis]).sum();
    ctx.require(ctx.inputs.iter().all(|t| fits(&t.shape)) && total == out[axis], "its inputs do not add up to its output")?;
    if ctx.inputs.len() > MAX_INPUTS {
        return Err(ctx.unsupported(&format!("it has {} inputs; at most {MAX_INPUTS} fit into one launch", ctx.inputs.len())));
    }

    let outer: usize = out[..axis].iter().product();
    let inner: usize = out[axis + 1..].iter().product();
    let lengths: Vec<usize> = ctx.inputs.iter().map(|t| t.shape[axis] * inner).collect();
    let most = vector(ctx.output.dtype);
    let width = if lengths.iter().all(|l| l.is_multiple_of(most)) { most as u64 } else { 1 };
    let elements = ctx.output.elements();
    let threads = ctx.block_size(elements / width);
    let effort = Effort { instructions: 40, words: 2 * words_of(ctx.output.dtype, width), rounds: 1, chain: 0 };
    let list = lengths.iter().map(|l| l.to_string()).collect::<Vec<_>>().join(", ");
    let arguments = numbered(lengths.len()).join(", ");
    Ok(vec![KernelSpec {
        signature: format!("concat_o{outer}_l{}", by_x(&lengths)),
        candidate: format!("v{width}t{threads}"),
        comment: vec![format!(
            "Concatenation: a row of y is one row of each input, of {} elements; {outer} rows.",
            lengths_in_words(&lengths)
        )],
        header: "concat.cuh",
        params: ctx.params(&numbered(lengths.len())),
        sync: false,
        threads,
        grid: [blocks(elements / width, threads), 1, 1],
        static_shared_bytes: 0,
        registers: 24,
        trips: vec![],
        needs: Needs { effort: Some(effort), ..Needs::default() },
        body: vec![format!("concat<{outer}, {width}, {threads}, {list}>(y, {arguments});")],
    }])
}

/// `64, 32 and 96`.
fn lengths_in_words(lengths: &[usize]) -> String {
    let words: Vec<_> = lengths.iter().map(|l| l.to_string()).collect();
    match &words[..] {
        [] => String::new(),
        [one] => one.clone(),
        [most @ .., last] => format!("{} and {last}", most.join(", ")),
    }
}
