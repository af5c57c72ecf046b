//! Softmax: one thread, warp or block per row.

use super::OpContext;
use super::loops::{Strided, counted, trips};
use super::spec::{KernelSpec, Needs, blocks};
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
    let spec = |how: &str, threads: u32, per_block: u32, shared: u32, registers: u32, trips: Vec<u64>, call: String| KernelSpec {
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
        needs: Needs::default(),
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
            format!("softmax_thread<{outer}, {length}, {inner}, {threads}{kind}>(x, y);"),
        )
    };
    let by_warp =
        || spec("warp", 128, 4, 0, 24 + length.div_ceil(32) as u32, vec![], format!("softmax_warp<{outer}, {length}, 128{kind}>(x, y);"));
    let shared = 16 * x.dtype.bytes().max(4) as u32;
    let by_block = || {
        spec(
            "block",
            256,
            1,
            shared,
            32,
            Strided::unrolled(length.div_ceil(256), 4).both().repeat(loops),
            format!("softmax_block<{length}, 256{kind}>(x, y);"),
        )
    };

    Ok(if inner > 1 {
        vec![by_thread()]
    } else if length <= THREAD_ROW {
        vec![by_thread(), by_warp()]
    } else if length > WARP_ROW {
        vec![by_block()]
    } else if length >= 512 && rows < ctx.device.sms {
        vec![by_block(), by_warp()]
    } else {
        vec![by_warp(), by_block()]
    })
}
