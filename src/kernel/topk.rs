//! The largest or smallest elements along an axis: one thread per element of the input.

use super::OpContext;
use super::loops::{counted, trips};
use super::spec::{KernelSpec, around_axis, simple};
use crate::Result;
use crate::graph::TopK;

pub(super) fn specs(ctx: &OpContext, &TopK { axis, largest, positions }: &TopK) -> Result<Vec<KernelSpec>> {
    let x = ctx.only_input()?;
    ctx.require(axis < x.shape.len() && x.shape.len() == ctx.output.shape.len(), "its axis or its output does not fit its input")?;
    let (outer, length, inner) = around_axis(&x.shape, axis);
    let k = ctx.output.shape[axis];
    let (which, what) = (if largest { "largest" } else { "smallest" }, if positions { "positions" } else { "values" });
    let signature = format!("top_k_{which}_{what}_o{outer}l{length}i{inner}_k{k}");
    let comment =
        format!("The {what} of the {k} {which} along the middle axis of x {outer}x{length}x{inner}, in order: one thread per element.");
    let spec = simple(ctx, "topk.cuh", &["x"], signature, 1, x.elements(), comment);
    let call = format!("top_k<{outer}, {length}, {inner}, {k}, {largest}, {positions}, {}>(x, y);", spec.threads);
    // two loops, over the elements before its own and over those after it: up to length - 1 in one
    let trips = trips(&[counted(length - 1, 4, 4)]);
    Ok(vec![KernelSpec { trips, body: vec![call], ..spec }])
}
