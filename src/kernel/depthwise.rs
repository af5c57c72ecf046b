//! Convolutions whose groups have few filters: a thread computes a patch of neighbouring pixels.

use super::conv::Shape;
use super::expr::Epilogue;
use super::loops::{counted, trips};
use super::spec::{KernelSpec, Needs, blocks};
use super::{Effort, OpContext};
use crate::graph::Conv;

/// The most taps of a window: a thread holds those of one channel in registers.
const MAX_TAPS: usize = 64;

/// The most taps of all filters of a thread.
const MAX_HELD_TAPS: usize = 128;

/// The most rows that a window reaches over: a thread's code goes through all of them.
const MAX_REACH: usize = 64;

/// The most registers that a thread may need.
const MAX_REGISTERS: usize = 224;

/// Rows and columns of a patch, in the order of their preference. A patch of several columns reads
/// less, but needs vectors of x: else the elements that the threads of a warp read at once are not
/// neighbours.
const PATCHES: [(usize, usize); 7] = [(4, 4), (4, 2), (8, 1), (2, 2), (4, 1), (2, 1), (1, 1)];

/// This many warps on each multiprocessor hide most of the time that memory takes.
const BUSY_WARPS: u64 = 5;

/// The kernels, the default choice first; none if the window has too many taps.
pub(super) fn specs(ctx: &OpContext, shape: &Shape, conv: &Conv, epilogue: &Epilogue) -> Vec<KernelSpec> {
    let taps = conv.kernel.iter().product::<usize>();
    let reach = conv.dilations[0] * (conv.kernel[0] - 1) + 1;
    if taps > MAX_TAPS || taps * (shape.k / conv.groups) > MAX_HELD_TAPS || reach > MAX_REACH {
        return Vec::new();
    }
    let all: Vec<Patch> = PATCHES.iter().filter_map(|&(rows, columns)| Patch::new(shape, conv, rows, columns)).collect();
    // the largest patch that keeps the device busy, and what comes after it; then the others
    let busy = |patch: &Patch| patch.threads >= 32 * BUSY_WARPS * ctx.device.sms;
    let first = all.iter().position(busy).unwrap_or(all.len() - 1);
    all[first..].iter().chain(all[..first].iter().rev()).map(|patch| patch.spec(ctx, shape, conv, epilogue)).collect()
}

/// What a thread computes.
struct Patch {
    rows: usize,
    columns: usize,
    /// Channels, all of one group.
    channels: usize,
    /// Neighbours of x that it reads at once.
    vector: usize,
    /// Vectors of x that it reads of one channel.
    loads: usize,
    /// Channels of x whose elements are in flight at the same time.
    unroll: usize,
    registers: usize,
    /// Patches.
    threads: u64,
}

impl Patch {
    /// `None` if it does not suit the shape.
    fn new(shape: &Shape, conv: &Conv, rows: usize, columns: usize) -> Option<Patch> {
        let (channels, [stride_h, stride_w]) = (shape.k / conv.groups, conv.strides);
        let step = columns * stride_w;
        let vector = [4, 2, 1].into_iter().find(|&v| v <= step && step.is_multiple_of(v) && shape.w.is_multiple_of(v))?;
        let fits = rows < 2 * shape.p && columns < 2 * shape.q && (columns == 1 || vector > 1) && channels * rows * columns <= 32;
        // Each row of the window begins at one of these rows, and the columns likewise.
        let used = |pixels: usize, stride: usize, taps: usize, dilation: usize| {
            let positions = (0..pixels).flat_map(|pixel| (0..taps).map(move |tap| pixel * stride + tap * dilation));
            positions.collect::<std::collections::BTreeSet<usize>>()
        };
        let shift = (vector - conv.pads_begin[1] % vector) % vector;
        let across = used(columns, stride_w, conv.kernel[1], conv.dilations[1]);
        let vectors = across.iter().map(|column| (shift + column) / vector).collect::<std::collections::BTreeSet<usize>>().len();
        let loads = used(rows, stride_h, conv.kernel[0], conv.dilations[0]).len() * vectors;
        let taps = channels * conv.kernel.iter().product::<usize>();
        let held = taps + loads * vector;
        let registers = held + channels * rows * columns + 12;
        let x_channels = shape.c / conv.groups;
        let threads = (shape.n * (shape.k / channels) * shape.p.div_ceil(rows) * shape.q.div_ceil(columns)) as u64;
        let unroll = (MAX_REGISTERS / 2 / held).clamp(1, x_channels);
        (fits && (registers <= MAX_REGISTERS || rows * columns == 1)).then_some(Patch {
            rows,
            columns,
            channels,
            vector,
            loads,
            unroll,
            registers: (registers + (unroll - 1) * held).min(255),
            threads,
        })
    }

    fn spec(&self, ctx: &OpContext, shape: &Shape, conv: &Conv, epilogue: &Epilogue) -> KernelSpec {
        let Patch { rows, columns, channels, vector, unroll, .. } = *self;
        let (signature, words, mut body) = shape.texts(conv, epilogue);
        let (bias, more) = (epilogue.bias_argument, &epilogue.more_arguments);
        let threads = if blocks(self.threads, 128) >= 4 * ctx.device.sms { 128 } else { 64 };
        let template = format!("{rows}, {columns}, {vector}, {channels}, {unroll}, {threads}");
        body.push(format!("depthwise<Shape, {template}, {}>(x, w, {bias}, y{more});", epilogue.cpp));
        let of = if channels == 1 { "one channel".into() } else { format!("{channels} channels") };
        KernelSpec {
            signature,
            candidate: format!("p{rows}x{columns}v{vector}t{threads}"),
            comment: vec![words, format!("A thread computes {rows} x {columns} pixels of {of}.")],
            header: "depthwise.cuh",
            params: epilogue.params.clone(),
            sync: false,
            threads,
            grid: [blocks(self.threads, threads), 1, 1],
            static_shared_bytes: 0,
            registers: self.registers as u32,
            trips: trips(&[counted(shape.c / conv.groups, unroll, unroll)]),
            needs: Needs { resident_blocks: Some(1), effort: Some(self.effort(shape, conv)), ..Needs::default() },
            body,
        }
    }

    fn effort(&self, shape: &Shape, conv: &Conv) -> Effort {
        let Patch { rows, columns, channels, vector, loads, unroll, .. } = *self;
        let x_channels = shape.c / conv.groups;
        let taps = channels * conv.kernel.iter().product::<usize>();
        let pixels = channels * rows * columns;
        // The threads of a warp read vectors that are as far apart as their patches.
        let apart = (columns * conv.strides[1]).max(vector);
        let at_once = if shape.q.is_multiple_of(columns) { columns } else { 1 };
        let per_channel = loads * apart + taps;
        Effort {
            // besides the multiply-adds: two for the check of each load
            instructions: (x_channels * (taps * rows * columns + 3 * loads + taps) + 3 * pixels + 50) as u64,
            words: (x_channels * per_channel + pixels * columns / at_once) as u64,
            rounds: x_channels.div_ceil(unroll) as u64,
            chain: 0,
        }
    }
}
