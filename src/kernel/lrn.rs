//! Local response normalisation: one output per thread.

use super::OpContext;
use super::loops::{counted, trips};
use super::spec::{KernelSpec, simple};
use crate::Result;
use crate::graph::Lrn;

pub(super) fn specs(ctx: &OpContext, lrn: &Lrn) -> Result<Vec<KernelSpec>> {
    let x = ctx.only_input()?;
    ctx.only_f32()?;
    ctx.require(x.shape.len() >= 2 && x.shape == ctx.output.shape && lrn.size > 0, "its output or its size does not fit its input")?;
    let (channels, inner): (usize, usize) = (x.shape[1], x.shape[2..].iter().product());
    let elements = x.elements();
    let [alpha, beta, bias] = [lrn.alpha, lrn.beta, lrn.bias].map(f32::to_bits);
    let signature = format!("lrn_n{}c{channels}i{inner}_s{}a{alpha:08x}b{beta:08x}k{bias:08x}", x.shape[0], lrn.size);
    let comment = format!(
        "Local response normalisation of x {} over {} channels: alpha {:e}, beta {:?}, bias {:?}.",
        x.shape_text(),
        lrn.size,
        lrn.alpha,
        lrn.beta,
        lrn.bias
    );
    let spec = simple(ctx, "lrn.cuh", &["x"], signature, 1, elements, comment);
    let call = format!(
        "lrn<{elements}, {channels}, {inner}, {}, 0x{alpha:08x}u, 0x{beta:08x}u, 0x{bias:08x}u, {}>(x, y);",
        lrn.size, spec.threads
    );
    Ok(vec![KernelSpec { trips: trips(&[counted(lrn.size, 64, 16)]), body: vec![call], ..spec }])
}
