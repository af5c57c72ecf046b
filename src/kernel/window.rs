//! Windows over any number of axes: convolution, transposed convolution, pooling.

use super::Site;
use super::draft::{Draft, Needs, block_size, blocks, joined, shape_struct};
use super::expr::Epilogue;
use super::loops::{counted, trips};
use crate::Result;
use crate::graph::{ConvNd, PoolIndices, PoolKind, PoolNd, WindowAxis};

pub(super) fn conv(site: &Site, conv: &ConvNd) -> Result<Vec<Draft>> {
    site.require(site.inputs.len() >= 2, "an operand is missing")?;
    let (x, w, y) = (&site.inputs[0].shape, &site.inputs[1].shape, &site.output.shape);
    let rank = conv.axes.len() + 2;
    let sound = [x.len(), w.len(), y.len()] == [rank; 3]
        && conv.groups > 0
        && w[1] * conv.groups == x[1]
        && w[0].is_multiple_of(conv.groups)
        && y[..2] == [x[0], w[0]]
        && conv.axes.iter().zip(&w[2..]).all(|(axis, &taps)| axis.kernel == taps && axis.stride > 0 && axis.dilation > 0);
    site.require(sound, "its attributes and shapes contradict each other")?;
    let (n, c, k) = (x[0], x[1], w[0]);
    let epilogue = Epilogue::new(site, ["x", "w"], conv.bias, k, &conv.epilogue)?;
    let filters = k / conv.groups;
    let points = (n * y[2..].iter().product::<usize>()) as u64;
    let kind = if conv.transposed { "convt" } else { "conv" };

    let draft = |per_thread: usize| {
        let rows = (k / per_thread) as u64;
        let threads = block_size(points * rows).min((points as u32).next_multiple_of(32).min(256));
        let mut body = shape_struct(&[&[("N", n), ("C", c), ("K", k), ("GROUPS", conv.groups), ("BIAS", usize::from(conv.bias))]]);
        body.push(window(&conv.axes, &x[2..], &y[2..], conv.transposed));
        let (bias, more) = (epilogue.bias_argument, &epilogue.more_arguments);
        let trips = loops(w[1], w[2..].iter().product(), per_thread);
        body.push(format!("conv_window<Shape, Axes, {per_thread}, {threads}, {}>(x, w, {bias}, y{more});", epilogue.cpp));
        Draft {
            signature: format!("{kind}_n{n}c{c}_k{k}g{}_{}{}", conv.groups, name(&conv.axes, &x[2..], &y[2..]), epilogue.suffix),
            candidate: format!("direct{per_thread}t{threads}"),
            comment: vec![
                format!(
                    "{} over {} axes: x {} with {k} filters of {} gives y {}{}.",
                    if conv.transposed { "Transposed convolution" } else { "Convolution" },
                    conv.axes.len(),
                    site.inputs[0].shape_text(),
                    joined(&w[2..]),
                    site.output.shape_text(),
                    epilogue.words
                ),
                format!("A thread computes {per_thread} channels of one point."),
            ],
            header: "window.cuh",
            params: epilogue.params.clone(),
            sync: false,
            threads,
            grid: [blocks(points, threads), rows, 1],
            static_shared_bytes: 0,
            registers: 40,
            trips,
            needs: Needs::default(),
            body,
        }
    };
    // channels of one thread share what it reads of x; fewer of them make more threads
    Ok([8, 4, 2, 1].into_iter().filter(|&n| filters.is_multiple_of(n)).map(draft).take(3).collect())
}

/// Iterations of the loop over taps, where it multiplies outside the loop over channels within it, and of that. All taps count: of a transposed
/// convolution a point reads some, but a warp whose points lie in several rows reads nearly all.
fn loops(channels: usize, taps: usize, per_thread: usize) -> Vec<u64> {
    let (all, part) = if per_thread < 8 { (32, 8) } else { (8, 4) };
    let inner = counted(channels, all, part);
    let outer = counted(taps, 72 / (channels * per_thread), 1);
    let alone = inner == 0 || 10 * (channels % part) >= part;
    trips(&[if alone { outer } else { 0 }, outer.max(1) * inner])
}

pub(super) fn pool(site: &Site, pool: &PoolNd) -> Result<Vec<Draft>> {
    let x = site.only_input()?;
    let (from, to) = (&x.shape, &site.output.shape);
    let positive = |axis: &WindowAxis| axis.kernel > 0 && axis.stride > 0 && axis.dilation > 0;
    let sound = from.len() == pool.axes.len() + 2 && to.len() == from.len() && from[..2] == to[..2] && pool.axes.iter().all(positive);
    site.require(sound, "its attributes and shapes contradict each other")?;
    let (kind, short, words) = match pool.kind {
        PoolKind::Max => ("WindowMax", "max", "Maximum"),
        PoolKind::Average { count_include_pad: false } => ("WindowAverage", "avg", "Mean"),
        PoolKind::Average { count_include_pad: true } => ("WindowAveragePadded", "avgpad", "Mean (padding counts)"),
        PoolKind::Sum => ("WindowSum", "sum", "Sum"),
    };
    let planes = from[0] * from[1];
    let outputs = site.output.elements();
    let threads = block_size(outputs);
    let taps: Vec<usize> = pool.axes.iter().map(|a| a.kernel).collect();
    Ok(vec![Draft {
        signature: format!("pool_{short}_n{planes}_{}", name(&pool.axes, &from[2..], &to[2..])),
        candidate: format!("t{threads}"),
        comment: vec![format!(
            "{words} over windows of {}: {planes} planes of {} give {}.",
            joined(&taps),
            joined(&from[2..]),
            joined(&to[2..])
        )],
        header: "window.cuh",
        params: site.params(&["x"]),
        sync: false,
        threads,
        grid: [blocks(outputs, threads), 1, 1],
        static_shared_bytes: 0,
        registers: 32,
        trips: trips(&[counted(taps_of(&pool.axes), 64, 16)]),
        needs: Needs::default(),
        body: vec![window(&pool.axes, &from[2..], &to[2..], false), format!("pool_window<Axes, {kind}, {planes}, {threads}>(x, y);")],
    }])
}

pub(super) fn indices(site: &Site, pool: &PoolIndices) -> Result<Vec<Draft>> {
    let x = site.only_input()?;
    let (from, to) = (&x.shape, &site.output.shape);
    site.require(from.len() == pool.axes.len() + 2 && to.len() == from.len() && from[..2] == to[..2], "its shapes contradict each other")?;
    let planes = from[0] * from[1];
    let outputs = site.output.elements();
    let threads = block_size(outputs);
    let order = if pool.column_major { "column" } else { "row" };
    Ok(vec![Draft {
        signature: format!("pool_{order}indices_n{planes}_{}", name(&pool.axes, &from[2..], &to[2..])),
        candidate: format!("t{threads}"),
        comment: vec![format!("Places of the maxima of windows: {planes} planes of {} give {}.", joined(&from[2..]), joined(&to[2..]))],
        header: "window.cuh",
        params: site.params(&["x"]),
        sync: false,
        threads,
        grid: [blocks(outputs, threads), 1, 1],
        static_shared_bytes: 0,
        registers: 32,
        trips: trips(&[counted(taps_of(&pool.axes), 64, 16)]),
        needs: Needs::default(),
        body: vec![
            window(&pool.axes, &from[2..], &to[2..], false),
            format!("pool_indices<Axes, {}, {planes}, {threads}>(x, y);", pool.column_major),
        ],
    }])
}

/// Elements under a window.
fn taps_of(axes: &[WindowAxis]) -> usize {
    axes.iter().map(|axis| axis.kernel).product()
}

/// `using Axes = Window<...>;`
fn window(axes: &[WindowAxis], from: &[usize], to: &[usize], transposed: bool) -> String {
    let axis = |(a, (from, to)): (&WindowAxis, (&usize, &usize))| {
        let WindowAxis { kernel, stride, dilation, pad_begin, pad_end } = a;
        if transposed {
            format!("TransposedAxis<{from}, {to}, {kernel}, {stride}, {dilation}, {pad_begin}>")
        } else {
            format!("WindowAxis<{from}, {to}, {kernel}, {stride}, {dilation}, {pad_begin}, {pad_end}>")
        }
    };
    let list: Vec<String> = axes.iter().zip(from.iter().zip(to)).map(axis).collect();
    format!("using Axes = Window<{}>;", list.join(", "))
}

/// `8to6r3s1d1p0x0_...`, a part for each axis.
fn name(axes: &[WindowAxis], from: &[usize], to: &[usize]) -> String {
    let axis = |(a, (from, to)): (&WindowAxis, (&usize, &usize))| {
        format!("{from}to{to}r{}s{}d{}p{}x{}", a.kernel, a.stride, a.dilation, a.pad_begin, a.pad_end)
    };
    axes.iter().zip(from.iter().zip(to)).map(axis).collect::<Vec<_>>().join("_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loops_over_channels_and_taps() {
        assert!(loops(2, 9, 4).is_empty(), "all of it is straight code");
        assert_eq!(loops(4, 27, 8), [27], "no loop over channels is left");
        assert_eq!(loops(64, 9, 8), [9 * 16], "what is outside it multiplies nothing");
        assert_eq!(loops(36, 9, 4), [9, 9 * 4], "four channels are left over");
        assert_eq!(loops(64, 1, 8), [16]);
    }
}
