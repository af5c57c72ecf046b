//! Scatter: one thread per line along the axis, or per element.

use super::OpContext;
use super::loops::{counted, trips};
use super::spec::{KernelSpec, by_x, ints, shape_struct, simple, strides_of};
use crate::Result;
use crate::graph::{Scatter, Update};

const HEADER: &str = "scatter.cuh";

const WRITTEN: [&str; 3] = ["x", "indices", "updates"];

pub(super) fn specs(ctx: &OpContext, scatter: Scatter) -> Result<Vec<KernelSpec>> {
    ctx.require(ctx.inputs.len() == WRITTEN.len(), "an input is missing")?;
    match scatter {
        Scatter::Elements { axis, update } => elements(ctx, axis, update),
        Scatter::Nd { update } => nd(ctx, update),
    }
}

/// All entries but that of `axis`.
fn without(values: &[usize], axis: usize) -> Vec<usize> {
    values.iter().enumerate().filter(|(i, _)| *i != axis).map(|(_, v)| *v).collect()
}

fn update_type(update: Update) -> &'static str {
    match update {
        Update::Replace => "UpdateReplace",
        Update::Add => "UpdateAdd",
        Update::Mul => "UpdateMul",
        Update::Min => "UpdateMin",
        Update::Max => "UpdateMax",
    }
}

/// With at most this many updates per line, each of its elements looks at all of them.
const FEW_UPDATES: usize = 16;

fn elements(ctx: &OpContext, axis: usize, update: Update) -> Result<Vec<KernelSpec>> {
    let (x, indices) = (&ctx.inputs[0].shape, &ctx.inputs[1].shape);
    let fits = axis < x.len() && x.len() == indices.len() && *indices == ctx.inputs[2].shape && *x == ctx.output.shape;
    ctx.require(fits, "its shapes do not fit together")?;
    let (length, count) = (x[axis], indices[axis]);
    let (own, narrow) = (strides_of(x), strides_of(indices));
    let lines: usize = without(x, axis).iter().product();
    let by_line = lines as u64 >= 32 * ctx.device.sms && count > FEW_UPDATES;
    let how = if by_line { "lines" } else { "elements" };
    let work = if by_line { lines } else { lines * length };
    let comment = format!(
        "x {} with updates ({}) of {} along axis {axis}, one thread {}.",
        ctx.output.shape_text(),
        update.name(),
        ctx.inputs[1].shape_text(),
        if by_line { "per line" } else { "per element" }
    );
    let signature = format!("scatter_{how}_{}_x{}_a{axis}_n{}", update.name(), by_x(x), by_x(indices));
    let spec = simple(ctx, HEADER, &WRITTEN, signature, 1, work as u64, comment);
    let mut body =
        shape_struct(&[&[("LINES", lines), ("LENGTH", length), ("STRIDE", own[axis]), ("COUNT", count), ("UPDATE_STRIDE", narrow[axis])]]);
    let lists = [x, &own, indices, &narrow].map(|values| ints(&without(values, axis)));
    body.push(format!("scatter_{how}<{}, Shape, {}, {}>(x, indices, updates, y);", update_type(update), lists.join(", "), spec.threads));
    // with one thread per line, a thread first copies its line: that loop moves most per iteration
    let copies = if by_line { counted(length, 64, 16) } else { 0 };
    let trips = trips(&[if copies > 0 { copies } else { counted(count, 32, 8) }]);
    Ok(vec![KernelSpec { trips, body, ..spec }])
}

fn nd(ctx: &OpContext, update: Update) -> Result<Vec<KernelSpec>> {
    let (x, indices) = (&ctx.inputs[0].shape, &ctx.inputs[1].shape);
    let tuple = indices.last().copied().unwrap_or(usize::MAX);
    ctx.require(tuple <= x.len() && *x == ctx.output.shape, "its shapes do not fit together")?;
    let tuples: usize = indices[..indices.len() - 1].iter().product();
    let inner: usize = x[tuple..].iter().product();
    let elements = ctx.output.elements();
    let comment = format!("x {} with {tuples} updates ({}) at tuples of {tuple} indices.", ctx.output.shape_text(), update.name());
    let signature = format!("scatter_nd_{}_x{}_n{}", update.name(), by_x(x), by_x(indices));
    let spec = simple(ctx, HEADER, &WRITTEN, signature, 1, elements, comment);
    let call = format!(
        "scatter_nd<{}, {elements}, {tuples}, {tuple}, {}, {inner}, {}>(x, indices, updates, y);",
        update_type(update),
        ints(&x[..tuple]),
        spec.threads
    );
    let static_shared_bytes = 4 * spec.threads;
    // all blocks look at all tuples
    let trips = trips(&[counted(tuples, 4, 4)]);
    Ok(vec![KernelSpec { sync: true, static_shared_bytes, trips, body: vec![call], ..spec }])
}
