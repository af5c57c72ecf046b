//! Convolution: implicit GEMM in tiles, or one thread a few outputs for groups of few filters and for element types other than f32.

use super::draft::{Draft, Needs, block_size, blocks, joined, shape_struct};
use super::expr::Epilogue;
use super::loops::{counted, trips};
use super::{Site, tile};
use crate::Result;
use crate::graph::{Conv, DType};

/// Groups of at most so many filters are computed directly: a tile would be mostly empty.
const DIRECT: usize = 4;

/// Groups of at most so many filters may be.
const MAYBE_DIRECT: usize = 16;

pub(super) fn drafts(site: &Site, conv: &Conv) -> Result<Vec<Draft>> {
    let shape = Shape::new(site, conv)?;
    let epilogue = Epilogue::new(site, ["x", "w"], conv.bias, shape.k, &conv.epilogue)?;
    let filters = shape.k / conv.groups;
    if site.inputs[0].dtype != DType::F32 {
        return Ok(vec![direct(&shape, conv, &epilogue)]);
    }

    let mut drafts: Vec<Draft> =
        tile::ranked(filters, shape.n * shape.p * shape.q, conv.groups).iter().map(|tile| tiled(&shape, conv, &epilogue, tile)).collect();
    if filters <= DIRECT {
        drafts.insert(0, direct(&shape, conv, &epilogue));
        drafts.truncate(2);
    } else if filters <= MAYBE_DIRECT {
        drafts.push(direct(&shape, conv, &epilogue));
    }
    Ok(drafts)
}

struct Shape {
    n: usize,
    c: usize,
    h: usize,
    w: usize,
    k: usize,
    p: usize,
    q: usize,
}

impl Shape {
    fn new(site: &Site, conv: &Conv) -> Result<Shape> {
        site.require(site.inputs.len() >= 2, "an operand is missing")?;
        let (&[n, c, h, w], &[k, per_group, r, s], &[n_out, k_out, p, q]) =
            (&site.inputs[0].shape[..], &site.inputs[1].shape[..], &site.output.shape[..])
        else {
            return Err(site.wrong("input, weights and output must have four axes"));
        };
        let out = |size: usize, axis: usize| {
            let reach = conv.dilations[axis].checked_mul(conv.kernel[axis].checked_sub(1)?)?.checked_add(1)?;
            let room = (size + conv.pads_begin[axis] + conv.pads_end[axis]).checked_sub(reach)?;
            Some(room.checked_div(conv.strides[axis])? + 1)
        };
        let sound = conv.groups > 0
            && [r, s] == conv.kernel
            && [n_out, k_out] == [n, k]
            && per_group.checked_mul(conv.groups) == Some(c)
            && k % conv.groups == 0
            && [out(h, 0), out(w, 1)] == [Some(p), Some(q)];
        site.require(sound, "its attributes and shapes contradict each other")?;
        Ok(Shape { n, c, h, w, k, p, q })
    }

    /// The signature, the comment's first sentence and `struct Shape`.
    fn texts(&self, conv: &Conv, epilogue: &Epilogue) -> (String, String, Vec<String>) {
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
    if values.iter().all(|v| *v == values[0]) { values[0].to_string() } else { joined(values) }
}

fn tiled(shape: &Shape, conv: &Conv, epilogue: &Epilogue, tile: &tile::TileShape) -> Draft {
    let (signature, words, mut body) = shape.texts(conv, epilogue);
    let (bias, more) = (epilogue.bias_argument, &epilogue.more_arguments);
    body.push(format!("conv_tiled<Shape, {}, {}>(x, w, {bias}, y{more});", tile.cpp(), epilogue.cpp));
    let [columns, rows] = tile.grid(shape.k / conv.groups, shape.n * shape.p * shape.q);
    let steps = tile.steps(shape.c / conv.groups * conv.kernel.iter().product::<usize>());
    Draft {
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
        needs: Needs::default(),
        body,
    }
}

fn direct(shape: &Shape, conv: &Conv, epilogue: &Epilogue) -> Draft {
    let (signature, words, mut body) = shape.texts(conv, epilogue);
    let (bias, more) = (epilogue.bias_argument, &epilogue.more_arguments);
    let filters = shape.k / conv.groups;
    let per_thread = [4, 2].into_iter().find(|n| filters.is_multiple_of(*n)).unwrap_or(1);
    let pixels = (shape.n * shape.p * shape.q) as u64;
    let rows = (shape.k / per_thread) as u64;
    let threads = block_size(pixels * rows).min((pixels as u32).next_multiple_of(32).min(256));
    let channels = match (shape.c / conv.groups, conv.kernel.iter().product::<usize>()) {
        (channels, 1) => counted(channels, 128, 4),
        (channels, taps) => counted(channels, 72 / (taps * per_thread), 1),
    };
    body.push(format!("conv_direct<Shape, {per_thread}, {threads}, {}>(x, w, {bias}, y{more});", epilogue.cpp));
    Draft {
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
