//! Running sums: one thread or one warp per row.

use super::OpContext;
use super::loops::{counted, trips};
use super::spec::{KernelSpec, Needs, blocks};
use crate::Result;
use crate::graph::CumSum;

pub(super) fn specs(ctx: &OpContext, sum: &CumSum) -> Result<Vec<KernelSpec>> {
    let x = ctx.only_input()?;
    ctx.require(sum.axis < x.shape.len() && x.shape == ctx.output.shape, "its axis or its output does not fit its input")?;
    let outer: usize = x.shape[..sum.axis].iter().product();
    let length = x.shape[sum.axis];
    let inner: usize = x.shape[sum.axis + 1..].iter().product();
    let rows = (outer * inner) as u64;
    let CumSum { exclusive, reverse, .. } = *sum;
    let words = format!("{}{}", if exclusive { ", each without its own element" } else { "" }, if reverse { ", from the end" } else { "" });
    let spec = |how: &str, threads: u32, per_block: u32, left: u64| KernelSpec {
        signature: format!("cumsum_o{outer}l{length}i{inner}_e{}r{}", u8::from(exclusive), u8::from(reverse)),
        candidate: format!("{how}{threads}"),
        comment: vec![format!("Running sums along the middle axis of x {outer}x{length}x{inner}{words}: one {how} per row.")],
        header: "cumsum.cuh",
        params: ctx.params(&["x"]),
        sync: how == "warp",
        threads,
        grid: [blocks(rows, per_block), 1, 1],
        static_shared_bytes: 0,
        registers: 32,
        trips: trips(&[left]),
        needs: Needs::default(),
        body: vec![format!("cumsum_{how}<{outer}, {length}, {inner}, {exclusive}, {reverse}, {threads}>(x, y);")],
    };
    let threads = ctx.block_size(rows);
    let (by_thread, by_warp) =
        (spec("thread", threads, threads, counted(length, 64, 16)), spec("warp", 128, 4, counted(length.div_ceil(32), 8, 2)));
    // neighbouring rows are neighbours in memory: neighbouring threads use whole cache lines
    let side_by_side = inner >= 32 && rows >= 32 * ctx.device.sms;
    Ok(if length <= 8 || side_by_side { vec![by_thread, by_warp] } else { vec![by_warp, by_thread] })
}
