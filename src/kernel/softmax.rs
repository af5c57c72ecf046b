//! Softmax: one thread, warp or block per row.

use super::loops::{Strided, counted, trips};
use super::spec::{BLOCK_SHUFFLES, KernelSpec, Needs, SHUFFLES, blocks, vector_of_row, warps_of_rows};
use super::{Effort, OpContext};
use crate::Result;
use crate::graph::Softmax;

/// The longest row that a warp holds in registers.
const WARP_ROW: usize = 1024;

/// Rows of at most this length are left to one thread each.
const THREAD_ROW: usize = 8;

pub(super) fn specs(ctx: &OpContext, &Softmax { axis, log }: &Softmax) -> Result<Vec<KernelSpec>> {
    let x = ctx.only_input()?;
    ctx.require(axis < x.shape.len() && x.shape == ctx.output.shape, "its axis or its output does not fit its input")?;
    if !x.dtype.is_float() {
        return Err(ctx.unsupported(&format!("softmax is not defined for {}", x.dtype.name())));
    }
    let outer: usize = x.shape[..axis].iter().product();
    let length = x.shape[axis];
    let inner: usize = x.shape[axis + 1..].iter().product();
    let rows = (outer * inner) as u64;

    // the template's last argument; none for the softmax itself
    let (name, words, kind) = if log { ("logsoftmax", "Logarithm of the softmax", ", LogSoftmax") } else { ("softmax", "Softmax", "") };
    // two loops compute exponentials or divide, and so multiply; for the logarithm, only the first
    let loops = if log { 1 } else { 2 };
    // an element costs an exponential and a division
    let effort = |elements: usize, passes: usize, apart: usize, rounds: usize, chain: u64| Effort {
        instructions: (30 * elements + 60) as u64,
        words: ((passes + 1) * elements * apart) as u64,
        rounds: rounds as u64,
        chain,
    };
    let spec =
        |how: &str, threads: u32, per_block: u32, shared: u32, registers: u32, trips: Vec<u64>, effort: Effort, call: String| KernelSpec {
            signature: format!("{name}_o{outer}l{length}i{inner}"),
            candidate: format!("{how}{threads}"),
            comment: vec![format!("{words} along the middle axis of x {outer}x{length}x{inner}: one {how} per row of {length}.")],
            header: "softmax.cuh",
            params: ctx.params(&["x"]),
            sync: how != "thread",
            threads,
            grid: [blocks(rows, per_block), 1, 1],
            static_shared_bytes: shared,
            registers,
            trips,
            needs: Needs { effort: Some(effort), ..Needs::default() },
            body: vec![call],
        };
    let threads = ctx.block_size(rows);
    let by_thread = || {
        spec(
            "thread",
            threads,
            threads,
            0,
            32,
            trips(&[counted(length, 16, 8)]).repeat(loops),
            effort(length, 3, if inner == 1 { length.min(32) } else { 1 }, 3 * length.div_ceil(16), 0),
            format!("softmax_thread<{outer}, {length}, {inner}, {threads}{kind}>(x, y);"),
        )
    };
    let width = vector_of_row(length, x.dtype);
    let in_block = warps_of_rows(ctx, rows);
    let by_warp = || {
        spec(
            "warp",
            in_block,
            in_block / 32,
            0,
            24 + 2 * length.div_ceil(32) as u32,
            vec![],
            effort(length.div_ceil(32), 1, 1, 1, 2 * SHUFFLES),
            format!("softmax_warp<{outer}, {length}, {width}, {in_block}{kind}>(x, y);"),
        )
    };
    let shared = 16 * x.dtype.bytes().max(4) as u32;
    let by_block = || {
        let part = length.div_ceil(256);
        spec(
            "block",
            256,
            1,
            shared,
            32,
            Strided::unrolled(part, 4).both().repeat(loops),
            effort(part, 3, 1, 3 * part.div_ceil(4), 2 * BLOCK_SHUFFLES),
            format!("softmax_block<{length}, 256{kind}>(x, y);"),
        )
    };

    // A block per row takes longer than a warp as long as the warp can hold the row.
    Ok(if inner > 1 {
        vec![by_thread()]
    } else if length <= THREAD_ROW {
        vec![by_thread(), by_warp()]
    } else if length > WARP_ROW {
        vec![by_block()]
    } else {
        vec![by_warp()]
    })
}
