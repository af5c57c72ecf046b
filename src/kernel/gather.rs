//! Gather: one thread per element, or per 16 bytes of a slice.

use super::OpContext;
use super::spec::{KernelSpec, around_axis, by_x, ints, simple, strides_of, vector};
use crate::Result;
use crate::graph::Gather;

const HEADER: &str = "gather.cuh";

const READ: [&str; 2] = ["x", "indices"];

pub(super) fn specs(ctx: &OpContext, gather: Gather) -> Result<Vec<KernelSpec>> {
    ctx.require(ctx.inputs.len() == READ.len(), "an input is missing")?;
    match gather {
        Gather::Slices { axis } => slices(ctx, axis),
        Gather::Elements { axis } => elements(ctx, axis),
        Gather::Nd { batch_dims } => nd(ctx, batch_dims),
    }
}

/// Elements that a thread moves at once from rows of `inner` elements.
fn width(ctx: &OpContext, inner: usize) -> usize {
    let most = vector(ctx.output.dtype);
    if inner.is_multiple_of(most) { most } else { 1 }
}

fn slices(ctx: &OpContext, axis: usize) -> Result<Vec<KernelSpec>> {
    let (x, indices) = (ctx.inputs[0], ctx.inputs[1]);
    ctx.require(axis < x.shape.len(), "its axis does not exist")?;
    let (outer, length, inner) = around_axis(&x.shape, axis);
    let count = indices.elements() as usize;
    let width = width(ctx, inner);
    let signature = format!("gather_o{outer}l{length}i{inner}_n{count}");
    let comment = format!("Slices of x {outer}x{length}x{inner} along the middle axis, at {count} indices.");
    let spec = simple(ctx, HEADER, &READ, signature, width, ctx.output.elements(), comment);
    let body = vec![format!("gather<{outer}, {length}, {inner}, {count}, {width}, {}>(x, indices, y);", spec.threads)];
    Ok(vec![KernelSpec { body, ..spec }])
}

fn elements(ctx: &OpContext, axis: usize) -> Result<Vec<KernelSpec>> {
    let (x, indices) = (&ctx.inputs[0].shape, &ctx.inputs[1].shape);
    ctx.require(axis < x.len() && x.len() == indices.len() && *indices == ctx.output.shape, "its shapes do not fit together")?;
    let mut strides = strides_of(x);
    let stride = std::mem::take(&mut strides[axis]);
    let signature = format!("gather_elements_x{}_a{axis}_n{}", by_x(x), by_x(indices));
    let comment = format!("Elements of x {} at indices along axis {axis}.", ctx.inputs[0].shape_text());
    let elements = ctx.output.elements();
    let spec = simple(ctx, HEADER, &READ, signature, 1, elements, comment);
    let (dims, strides) = (ints(indices), ints(&strides));
    let call = format!("gather_elements<{elements}, {dims}, {strides}, {}, {stride}, {}>(x, indices, y);", x[axis], spec.threads);
    Ok(vec![KernelSpec { body: vec![call], ..spec }])
}

fn nd(ctx: &OpContext, batch_dims: usize) -> Result<Vec<KernelSpec>> {
    let (x, indices) = (&ctx.inputs[0].shape, &ctx.inputs[1].shape);
    let tuple = indices.last().copied().unwrap_or(usize::MAX);
    ctx.require(batch_dims < indices.len() && batch_dims.saturating_add(tuple) <= x.len(), "its shapes do not fit together")?;
    let tuples: usize = indices[..indices.len() - 1].iter().product();
    let per_batch: usize = indices[batch_dims..indices.len() - 1].iter().product();
    let batch_stride: usize = x[batch_dims..].iter().product();
    let inner: usize = x[batch_dims + tuple..].iter().product();
    let dims = &x[batch_dims..batch_dims + tuple];
    let width = width(ctx, inner);
    let signature = format!("gather_nd_x{}_b{batch_dims}_n{}", by_x(x), by_x(indices));
    let comment = format!("Slices of x {} at {tuples} tuples of {tuple} indices.", ctx.inputs[0].shape_text());
    let spec = simple(ctx, HEADER, &READ, signature, width, ctx.output.elements(), comment);
    let strides = &strides_of(x)[batch_dims..batch_dims + tuple];
    let call = format!(
        "gather_nd<{tuples}, {per_batch}, {batch_stride}, {tuple}, {}, {}, {inner}, {width}, {}>(x, indices, y);",
        ints(dims),
        ints(strides),
        spec.threads
    );
    Ok(vec![KernelSpec { body: vec![call], ..spec }])
}
