//! Pooling: one thread per output.

use super::loops::{counted, trips};
use super::spec::{KernelSpec, Needs, blocks, by_x, shape_struct, simple};
use super::{OpContext, window};
use crate::Result;
use crate::graph::{Pool, PoolIndices, PoolKind, PoolNd, WindowAxis};

/// Pooling over two axes.
pub(super) fn specs(ctx: &OpContext, pool: &Pool) -> Result<Vec<KernelSpec>> {
    let x = ctx.only_input()?;
    let (&[n, c, h, w], &[n_out, c_out, p, q]) = (&x.shape[..], &ctx.output.shape[..]) else {
        return Err(ctx.wrong("input and output must have four axes"));
    };
    let positive = |v: [usize; 2]| v[0] > 0 && v[1] > 0;
    let sound = [n, c] == [n_out, c_out] && positive(pool.kernel) && positive(pool.strides) && positive(pool.dilations);
    ctx.require(sound, "its attributes and shapes contradict each other")?;
    let axes = window::planar(pool.kernel, pool.strides, pool.dilations, [pool.pads_begin, pool.pads_end]);
    window::check_indices(ctx, &axes, &[h, w])?;

    let (kind, name, words) = match pool.kind {
        PoolKind::Max => ("PoolMax", "max", "Maximum"),
        PoolKind::Average { count_include_pad: false } => ("PoolAverage", "avg", "Mean"),
        PoolKind::Average { count_include_pad: true } => ("PoolAveragePadded", "avgpad", "Mean (padding counts)"),
        PoolKind::Sum => ("PoolSum", "sum", "Sum"),
    };
    let ([r, s], [top, left], [bottom, right]) = (pool.kernel, pool.pads_begin, pool.pads_end);
    let pads = [top, left, bottom, right];
    let outputs = ctx.output.elements();
    let threads = ctx.block_size(outputs);
    let mut body = shape_struct(&[
        &[("PLANES", n * c), ("H", h), ("W", w), ("P", p), ("Q", q)],
        &[("R", r), ("S", s), ("STRIDE_H", pool.strides[0]), ("STRIDE_W", pool.strides[1])],
        &[("DILATION_H", pool.dilations[0]), ("DILATION_W", pool.dilations[1])],
        &[("PAD_H", top), ("PAD_W", left), ("PAD_BOTTOM", bottom), ("PAD_RIGHT", right)],
    ]);
    body.push(format!("pool<Shape, {kind}, {threads}>(x, y);"));
    Ok(vec![KernelSpec {
        signature: format!(
            "pool_{name}_n{n}c{c}h{h}w{w}_p{p}q{q}_r{r}s{s}_st{}p{}d{}",
            by_x(&pool.strides),
            by_x(&pads),
            by_x(&pool.dilations)
        ),
        candidate: format!("t{threads}"),
        comment: vec![format!(
            "{words} over windows of {r}x{s}, stride {}, dilation {}, padding {}: x {} gives y {}.",
            by_x(&pool.strides),
            by_x(&pool.dilations),
            by_x(&pads),
            x.shape_text(),
            ctx.output.shape_text()
        )],
        header: "pool.cuh",
        params: ctx.params(&["x"]),
        sync: false,
        threads,
        grid: [blocks(outputs, threads), 1, 1],
        static_shared_bytes: 0,
        registers: 32,
        trips: trips(&[counted(r, 64 / s, 32usize.div_ceil(s))]),
        needs: Needs::default(),
        body,
    }])
}

/// Pooling over any number of axes.
pub(super) fn specs_nd(ctx: &OpContext, pool: &PoolNd) -> Result<Vec<KernelSpec>> {
    let x = ctx.only_input()?;
    let (from, to) = (&x.shape, &ctx.output.shape);
    let positive = |axis: &WindowAxis| axis.kernel > 0 && axis.stride > 0 && axis.dilation > 0;
    let sound = from.len() == pool.axes.len() + 2 && to.len() == from.len() && from[..2] == to[..2] && pool.axes.iter().all(positive);
    ctx.require(sound, "its attributes and shapes contradict each other")?;
    window::check_indices(ctx, &pool.axes, &from[2..])?;
    let (kind, short, words) = match pool.kind {
        PoolKind::Max => ("WindowMax", "max", "Maximum"),
        PoolKind::Average { count_include_pad: false } => ("WindowAverage", "avg", "Mean"),
        PoolKind::Average { count_include_pad: true } => ("WindowAveragePadded", "avgpad", "Mean (padding counts)"),
        PoolKind::Sum => ("WindowSum", "sum", "Sum"),
    };
    let planes = from[0] * from[1];
    let taps: Vec<usize> = pool.axes.iter().map(|a| a.kernel).collect();
    let comment = format!("{words} over windows of {}: {planes} planes of {} give {}.", by_x(&taps), by_x(&from[2..]), by_x(&to[2..]));
    Ok(vec![over_windows(ctx, &pool.axes, short, comment, |threads| format!("pool_nd<Axes, {kind}, {planes}, {threads}>"))])
}

/// The positions of the maxima of windows.
pub(super) fn indices(ctx: &OpContext, pool: &PoolIndices) -> Result<Vec<KernelSpec>> {
    let x = ctx.only_input()?;
    let (from, to) = (&x.shape, &ctx.output.shape);
    ctx.require(from.len() == pool.axes.len() + 2 && to.len() == from.len() && from[..2] == to[..2], "its shapes contradict each other")?;
    window::check_indices(ctx, &pool.axes, &from[2..])?;
    let planes = from[0] * from[1];
    let (name, column_major) = (if pool.column_major { "columnindices" } else { "rowindices" }, pool.column_major);
    let comment = format!("Positions of the maxima of windows: {planes} planes of {} give {}.", by_x(&from[2..]), by_x(&to[2..]));
    let call = |threads| format!("pool_indices<Axes, {column_major}, {planes}, {threads}>");
    Ok(vec![over_windows(ctx, &pool.axes, name, comment, call)])
}

/// A kernel of one thread per output, over windows `axes`. `call` gives the template for a number
/// of threads per block.
fn over_windows(ctx: &OpContext, axes: &[WindowAxis], name: &str, comment: String, call: impl Fn(u32) -> String) -> KernelSpec {
    let (from, to) = (&ctx.inputs[0].shape, &ctx.output.shape);
    let signature = format!("pool_{name}_n{}_{}", from[0] * from[1], window::name(axes, &from[2..], &to[2..]));
    let spec = simple(ctx, "pool.cuh", &["x"], signature, 1, ctx.output.elements(), comment);
    let body = vec![window::axes_type(axes, &from[2..], &to[2..], false), format!("{}(x, y);", call(spec.threads))];
    KernelSpec { trips: trips(&[counted(window::taps_of(axes), 64, 16)]), body, ..spec }
}
