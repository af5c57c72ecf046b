//! Local response normalisation: one output per thread.

use super::OpContext;
use super::loops::{counted, trips};
use super::spec::{KernelSpec, Needs, block_size, blocks};
use crate::Result;
use crate::graph::Lrn;

pub(super) fn specs(ctx: &OpContext, lrn: &Lrn) -> Result<Vec<KernelSpec>> {
    let x = ctx.only_input()?;
    ctx.only_f32()?;
    ctx.require(x.shape.len() >= 2 && x.shape == ctx.output.shape && lrn.size > 0, "its output or its size does not fit its input")?;
    let (channels, inner): (usize, usize) = (x.shape[1], x.shape[2..].iter().product());
    let elements = x.elements();
    let threads = block_size(elements);
    let [alpha, beta, bias] = [lrn.alpha, lrn.beta, lrn.bias].map(f32::to_bits);
    Ok(vec![KernelSpec {
        signature: format!("lrn_n{}c{channels}i{inner}_s{}a{alpha:08x}b{beta:08x}k{bias:08x}", x.shape[0], lrn.size),
        candidate: format!("t{threads}"),
        comment: vec![format!(
            "Local response normalisation of x {} over {} channels: alpha {:e}, beta {:?}, bias {:?}.",
            x.shape_text(),
            lrn.size,
            lrn.alpha,
            lrn.beta,
            lrn.bias
        )],
        header: "lrn.cuh",
        params: ctx.params(&["x"]),
        sync: false,
        threads,
        grid: [blocks(elements, threads), 1, 1],
        static_shared_bytes: 0,
        registers: 32,
        trips: trips(&[counted(lrn.size, 64, 16)]),
        needs: Needs::default(),
        body: vec![format!(
            "lrn<{elements}, {channels}, {inner}, {}, 0x{alpha:08x}u, 0x{beta:08x}u, 0x{bias:08x}u, {threads}>(x, y);",
            lrn.size
        )],
    }])
}
