//! Convolution: as a matrix product that gathers its windows (`gather_gemm.rs`), as patches of
//! pixels for groups of few filters (`depthwise.rs`), or with one thread for a few outputs, for
//! integers and f64. Devices without asynchronous copies, bf16, and weights that are not constant
//! use implicit GEMM in tiles of `tile.cuh`.

use super::expr::Epilogue;
use super::loops::{counted, trips};
use super::packing::Packing;
use super::spec::{KernelSpec, Needs, blocks, by_x, shape_struct};
use super::{OpContext, depthwise, gather_gemm, tile, window};
use crate::Result;
use crate::graph::{Conv, ConvNd};

/// Groups of at most this many filters are computed directly: a tile would be mostly empty.
const DIRECT: usize = 4;

/// The most rows and columns of a window whose elements a mask can count.
const MASK: usize = 32;

/// Groups of at most this many filters may be computed directly.
const MAYBE_DIRECT: usize = 16;

/// Convolution over two axes.
pub(super) fn specs(ctx: &OpContext, conv: &Conv) -> Result<Vec<KernelSpec>> {
    let shape = Shape::new(ctx, conv)?;
    let axes = window::planar(conv.kernel, conv.strides, conv.dilations, [conv.pads_begin, conv.pads_end]);
    window::check_indices(ctx, &axes, &[shape.h, shape.w])?;
    let epilogue = Epilogue::new(ctx, ["x", "w"], conv.bias, shape.k, &conv.epilogue)?;
    let filters = shape.k / conv.groups;
    if !tile::takes(ctx.inputs[0].dtype) {
        return Ok(vec![direct(ctx, &shape, conv, &epilogue)]);
    }

    if filters <= DIRECT {
        let mut specs = depthwise::specs(ctx, &shape, conv, &epilogue);
        if specs.is_empty() {
            specs.push(direct(ctx, &shape, conv, &epilogue));
        }
        // of a deep sum, blocks can share the terms
        specs.extend(gathered(ctx, &shape, conv, &epilogue).unwrap_or_default());
        return Ok(specs);
    }
    if let Some(specs) = gathered(ctx, &shape, conv, &epilogue) {
        return Ok(specs);
    }
    let terms = shape.c / conv.groups * conv.kernel.iter().product::<usize>();
    let product = tile::TiledProduct { rows: filters, columns: shape.n * shape.p * shape.q, products: conv.groups, terms };
    let tiles = tile::ranked(product, ctx.device);
    let mut specs: Vec<KernelSpec> = tiles.iter().map(|tile| tiled(&shape, conv, &epilogue, tile)).collect();
    if filters <= MAYBE_DIRECT {
        specs.push(direct(ctx, &shape, conv, &epilogue));
    }
    Ok(specs)
}

pub(super) struct Shape {
    pub n: usize,
    pub c: usize,
    pub h: usize,
    pub w: usize,
    pub k: usize,
    pub p: usize,
    pub q: usize,
}

impl Shape {
    fn new(ctx: &OpContext, conv: &Conv) -> Result<Shape> {
        ctx.require(ctx.inputs.len() >= 2, "an operand is missing")?;
        let (&[n, c, h, w], &[k, per_group, r, s], &[n_out, k_out, p, q]) =
            (&ctx.inputs[0].shape[..], &ctx.inputs[1].shape[..], &ctx.output.shape[..])
        else {
            return Err(ctx.wrong("input, weights and output must have four axes"));
        };
        let out = |size: usize, axis: usize| {
            let reach = conv.dilations[axis].checked_mul(conv.kernel[axis].checked_sub(1)?)?.checked_add(1)?;
            let slack = (size + conv.pads_begin[axis] + conv.pads_end[axis]).checked_sub(reach)?;
            Some(slack.checked_div(conv.strides[axis])? + 1)
        };
        let sound = conv.groups > 0
            && [r, s] == conv.kernel
            && [n_out, k_out] == [n, k]
            && per_group.checked_mul(conv.groups) == Some(c)
            && k % conv.groups == 0
            && [out(h, 0), out(w, 1)] == [Some(p), Some(q)];
        ctx.require(sound, "its attributes and shapes contradict each other")?;
        Ok(Shape { n, c, h, w, k, p, q })
    }

    /// The signature, the comment's first sentence and `struct Shape`.
    pub fn texts(&self, conv: &Conv, epilogue: &Epilogue) -> (String, String, Vec<String>) {
        let Shape { n, c, h, w, k, p, q } = self;
        let [r, s] = conv.kernel;
        let pads = [conv.pads_begin[0], conv.pads_begin[1], conv.pads_end[0], conv.pads_end[1]];
        let signature = format!(
            "conv_n{n}c{c}h{h}w{w}_k{k}r{r}s{s}_st{}p{}d{}g{}{}",
            short(&conv.strides),
            short(&pads),
            short(&conv.dilations),
            conv.groups,
            epilogue.suffix
        );
        let mut words = format!("Convolution {r}x{s}");
        if conv.strides != [1, 1] {
            words += &format!(", stride {}", short(&conv.strides));
        }
        if conv.dilations != [1, 1] {
            words += &format!(", dilation {}", short(&conv.dilations));
        }
        match pads {
            [0, 0, 0, 0] => {}
            [a, b, c, d] if [b, c, d] == [a, a, a] => words += &format!(", padding {a}"),
            [top, left, bottom, right] => words += &format!(", padding {top} top, {left} left, {bottom} bottom, {right} right"),
        }
        if conv.groups > 1 {
            words += &format!(", {} groups", conv.groups);
        }
        words += &format!(": x {n}x{c}x{h}x{w} with {k} filters gives y {n}x{k}x{p}x{q}{}.", epilogue.words);
        let body = shape_struct(&[
            &[("N", *n), ("C", *c), ("H", *h), ("W", *w)],
            &[("K", *k), ("P", *p), ("Q", *q)],
            &[("R", r), ("S", s), ("STRIDE_H", conv.strides[0]), ("STRIDE_W", conv.strides[1])],
            &[("DILATION_H", conv.dilations[0]), ("DILATION_W", conv.dilations[1])],
            &[("PAD_H", conv.pads_begin[0]), ("PAD_W", conv.pads_begin[1])],
            &[("GROUPS", conv.groups), ("BIAS", usize::from(conv.bias))],
        ]);
        (signature, words, body)
    }
}

/// `2`, or `2x1` where the numbers differ.
fn short(values: &[usize]) -> String {
    if values.iter().all(|v| *v == values[0]) { values[0].to_string() } else { by_x(values) }
}

/// The candidates of `gather_gemm.rs`; `None` if it does not compute this convolution.
fn gathered(ctx: &OpContext, shape: &Shape, conv: &Conv, epilogue: &Epilogue) -> Option<Vec<KernelSpec>> {
    let (rows, channels, taps) = (shape.k / conv.groups, shape.c / conv.groups, conv.kernel.iter().product::<usize>());
    let packing = Packing::TapMajor { groups: conv.groups, rows, channels, taps, transposed: false };
    // small groups would be mostly padding
    let full = conv.groups == 1 || rows > MAYBE_DIRECT;
    if !full || !gather_gemm::takes(ctx) || !ctx.packable(1, packing) || conv.kernel.iter().any(|&taps| taps > MASK) {
        return None;
    }
    let (signature, words, body) = shape.texts(conv, epilogue);
    let product = gather_gemm::Product {
        extents: gather_gemm::Extents {
            rows,
            columns: shape.n * shape.p * shape.q,
            products: conv.groups,
            terms: channels * taps,
            straddles: !channels.is_multiple_of(gather_gemm::STEP)
                && (taps > 1 || conv.strides != [1, 1] || shape.p * shape.q != shape.h * shape.w),
            quads: (shape.p * shape.q).is_multiple_of(4),
            further_inputs: !epilogue.more_arguments.is_empty(),
        },
        signature,
        words,
        shape: body,
        template: "conv_gather",
        operands: ["x", "w"],
        arguments: String::new(),
        variant: "",
        packings: vec![(1, packing)],
        epilogue,
    };
    Some(gather_gemm::specs(ctx, &product))
}

fn tiled(shape: &Shape, conv: &Conv, epilogue: &Epilogue, (tile, cycles): &(tile::TileShape, u64)) -> KernelSpec {
    let (signature, words, mut body) = shape.texts(conv, epilogue);
    let (bias, more) = (epilogue.bias_argument, &epilogue.more_arguments);
    body.push(format!("conv_tiled<Shape, {}, {}>(x, w, {bias}, y{more});", tile.cpp(), epilogue.cpp));
    let [columns, rows] = tile.grid(shape.k / conv.groups, shape.n * shape.p * shape.q);
    let steps = tile.steps(shape.c / conv.groups * conv.kernel.iter().product::<usize>());
    KernelSpec {
        signature,
        candidate: tile.name(),
        comment: vec![words, format!("A block of {} threads computes {} channels of {} pixels.", tile.threads(), tile.bm, tile.bn)],
        header: "conv.cuh",
        params: epilogue.params.clone(),
        sync: true,
        threads: tile.threads(),
        grid: [columns, rows, conv.groups as u64],
        static_shared_bytes: tile.shared_bytes(),
        registers: tile.registers,
        trips: trips(&[steps]),
        needs: Needs { cycles: Some(*cycles), ..Needs::default() },
        body,
    }
}

fn direct(ctx: &OpContext, shape: &Shape, conv: &Conv, epilogue: &Epilogue) -> KernelSpec {
    let (signature, words, mut body) = shape.texts(conv, epilogue);
    let (bias, more) = (epilogue.bias_argument, &epilogue.more_arguments);
    let filters = shape.k / conv.groups;
    let per_thread = [4, 2].into_iter().find(|n| filters.is_multiple_of(*n)).unwrap_or(1);
    let pixels = (shape.n * shape.p * shape.q) as u64;
    let rows = (shape.k / per_thread) as u64;
    let threads = ctx.block_size(pixels * rows).min((pixels as u32).next_multiple_of(32).min(256));
    let channels = match (shape.c / conv.groups, conv.kernel.iter().product::<usize>()) {
        (channels, 1) => counted(channels, 128, 4),
        (channels, taps) => counted(channels, 72 / (taps * per_thread), 1),
    };
    body.push(format!("conv_direct<Shape, {per_thread}, {threads}, {}>(x, w, {bias}, y{more});", epilogue.cpp));
    KernelSpec {
        signature,
        candidate: format!("direct{per_thread}t{threads}"),
        comment: vec![words, format!("A thread computes {per_thread} channels of one pixel.")],
        header: "conv.cuh",
        params: epilogue.params.clone(),
        sync: false,
        threads,
        grid: [blocks(pixels, threads), rows, 1],
        static_shared_bytes: 0,
        registers: 40,
        trips: trips(&[channels]),
        needs: Needs::default(),
        body,
    }
}

/// Convolution over any number of axes, or its transpose.
pub(super) fn specs_nd(ctx: &OpContext, conv: &ConvNd) -> Result<Vec<KernelSpec>> {
    ctx.require(ctx.inputs.len() >= 2, "an operand is missing")?;
    let (x, w, y) = (&ctx.inputs[0].shape, &ctx.inputs[1].shape, &ctx.output.shape);
    let rank = conv.axes.len() + 2;
    let sound = [x.len(), w.len(), y.len()] == [rank; 3]
        && conv.groups > 0
        && w[1] * conv.groups == x[1]
        && w[0].is_multiple_of(conv.groups)
        && y[..2] == [x[0], w[0]]
        && conv.axes.iter().zip(&w[2..]).all(|(axis, &taps)| axis.kernel == taps && axis.stride > 0 && axis.dilation > 0);
    ctx.require(sound, "its attributes and shapes contradict each other")?;
    // Transposed, the window slides over the output.
    window::check_indices(ctx, &conv.axes, if conv.transposed { &y[2..] } else { &x[2..] })?;
    let (n, c, k) = (x[0], x[1], w[0]);
    let epilogue = Epilogue::new(ctx, ["x", "w"], conv.bias, k, &conv.epilogue)?;
    let filters = k / conv.groups;
    let points = (n * y[2..].iter().product::<usize>()) as u64;
    let kind = if conv.transposed { "convt" } else { "conv" };

    let spec = |per_thread: usize| {
        let rows = (k / per_thread) as u64;
        let threads = ctx.block_size(points * rows).min((points as u32).next_multiple_of(32).min(256));
        let mut body = shape_struct(&[&[("N", n), ("C", c), ("K", k), ("GROUPS", conv.groups), ("BIAS", usize::from(conv.bias))]]);
        body.push(window::axes_type(&conv.axes, &x[2..], &y[2..], conv.transposed));
        let (bias, more) = (epilogue.bias_argument, &epilogue.more_arguments);
        let trips = loops_nd(w[1], w[2..].iter().product(), per_thread);
        body.push(format!("conv_nd<Shape, Axes, {per_thread}, {threads}, {}>(x, w, {bias}, y{more});", epilogue.cpp));
        KernelSpec {
            signature: format!("{kind}_n{n}c{c}_k{k}g{}_{}{}", conv.groups, window::name(&conv.axes, &x[2..], &y[2..]), epilogue.suffix),
            candidate: format!("direct{per_thread}t{threads}"),
            comment: vec![
                format!(
                    "{} over {} axes: x {} with {k} filters of {} gives y {}{}.",
                    if conv.transposed { "Transposed convolution" } else { "Convolution" },
                    conv.axes.len(),
                    ctx.inputs[0].shape_text(),
                    by_x(&w[2..]),
                    ctx.output.shape_text(),
                    epilogue.words
                ),
                format!("A thread computes {per_thread} channels of one point."),
            ],
            header: "conv.cuh",
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
    // the channels of a thread share its reads of x; fewer channels per thread make more threads
    Ok([8, 4, 2, 1].into_iter().filter(|&n| filters.is_multiple_of(n)).map(spec).take(3).collect())
}

/// Iterations of the loop over taps, if it multiplies outside its inner loop over channels, and of
/// that inner loop. All taps count: a point of a transposed convolution reads only some, but a warp
/// whose points are in several rows reads nearly all.
fn loops_nd(channels: usize, taps: usize, per_thread: usize) -> Vec<u64> {
    let (all, part) = if per_thread < 8 { (32, 8) } else { (8, 4) };
    let inner = counted(channels, all, part);
    let outer = counted(taps, 72 / (channels * per_thread), 1);
    let alone = inner == 0 || 10 * (channels % part) >= part;
    trips(&[if alone { outer } else { 0 }, outer.max(1) * inner])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loops_over_channels_and_taps() {
        assert!(loops_nd(2, 9, 4).is_empty(), "all of it is straight code");
        assert_eq!(loops_nd(4, 27, 8), [27], "no loop over channels is left");
        assert_eq!(loops_nd(64, 9, 8), [9 * 16], "what is outside it multiplies nothing");
        assert_eq!(loops_nd(36, 9, 4), [9, 9 * 4], "four channels are left over");
        assert_eq!(loops_nd(64, 1, 8), [16]);
    }
}
