//! Pooling: over two axes, over any number of axes, and the positions of maxima.

use hiosc::graph::{DType, OpKind, Pool, PoolIndices, PoolKind, PoolNd};

use super::common::{case, positive, typed_case};
use crate::support::harness::{KernelCase, Random, TensorValues, check};
use crate::support::operators::{axis, number_types};
use crate::support::reference;

const KINDS: [PoolKind; 4] =
    [PoolKind::Max, PoolKind::Sum, PoolKind::Average { count_include_pad: false }, PoolKind::Average { count_include_pad: true }];

/// Shape of the input, window, extents of the output.
type Form = (&'static [usize], &'static [[usize; 5]], &'static [usize]);

/// A tensor with infinities and NaN in it.
fn with_specials(r: &mut Random, shape: &[usize]) -> TensorValues {
    let mut x = r.tensor(shape);
    let last = x.values.len() - 1;
    x.floats_mut()[0] = f32::NEG_INFINITY;
    x.floats_mut()[last / 2] = f32::NAN;
    x.floats_mut()[last] = f32::INFINITY;
    x
}

#[test]
fn poolings() {
    let mut r = Random(4);
    let base = |kind| Pool { kind, kernel: [3, 3], strides: [2, 2], dilations: [1, 1], pads_begin: [0, 0], pads_end: [0, 0] };
    let mut cases = Vec::new();
    for kind in KINDS {
        let attributes = [
            ([1, 3, 13, 13], [6, 6], base(kind)),
            ([1, 3, 14, 14], [7, 7], base(kind)), // ceil mode: the last windows extend beyond the edge
            ([2, 5, 9, 7], [9, 7], Pool { strides: [1, 1], pads_begin: [1, 1], pads_end: [1, 1], ..base(kind) }),
            // ceil mode with padding
            ([1, 2, 10, 11], [6, 6], Pool { pads_begin: [1, 0], pads_end: [1, 2], ..base(kind) }),
            ([1, 4, 8, 8], [1, 1], Pool { kernel: [8, 8], strides: [1, 1], ..base(kind) }),
            ([1, 2, 12, 9], [5, 4], Pool { kernel: [2, 3], strides: [2, 1], dilations: [3, 2], pads_end: [1, 0], ..base(kind) }),
        ];
        for (shape, [p, q], pool) in attributes {
            let out = vec![shape[0], shape[1], p, q];
            let inputs = vec![with_specials(&mut r, &shape)];
            cases.push(KernelCase { expected: reference::pool(&pool, &inputs[0], &out), kind: OpKind::Pool(pool), inputs, out });
        }
    }
    check("poolings", cases);
}

#[test]
fn poolings_of_every_type() {
    let mut r = Random(24);
    let mut cases = Vec::new();
    for dtype in number_types() {
        for kind in [PoolKind::Max, PoolKind::Average { count_include_pad: false }, PoolKind::Average { count_include_pad: true }] {
            let pool = Pool { kind, kernel: [3, 2], strides: [2, 1], dilations: [1, 1], pads_begin: [1, 1], pads_end: [1, 0] };
            let x = if kind == PoolKind::Max { r.typed(dtype, &[2, 3, 7, 6]) } else { positive(&mut r, dtype, &[2, 3, 7, 6]) };
            cases.push(typed_case(OpKind::Pool(pool), vec![x], &[2, 3, 4, 6], 16.0));
        }
    }
    check("poolings of every type", cases);
}

#[test]
fn poolings_over_any_number_of_axes() {
    let mut r = Random(22);
    let mut cases = Vec::new();
    let forms: [Form; 5] = [
        (&[2, 3, 9], &[[3, 2, 1, 0, 0]], &[4]),
        (&[1, 2, 5, 6, 7], &[[2, 2, 1, 0, 0], [3, 1, 1, 1, 1], [2, 3, 2, 0, 1]], &[2, 6, 2]),
        (&[1, 2, 4, 4, 4], &[[3, 2, 1, 0, 0]; 3], &[2, 2, 2]), // ceil mode
        (&[1, 3, 4, 1, 3], &[[4, 1, 1, 0, 0], [1, 1, 1, 0, 0], [3, 1, 1, 0, 0]], &[1, 1, 1]),
        (&[1, 1, 3, 3, 2, 2], &[[2, 1, 1, 1, 0], [2, 1, 1, 0, 1], [1, 1, 1, 0, 0], [2, 1, 1, 0, 0]], &[3, 3, 2, 1]),
    ];
    for kind in KINDS {
        for (shape, axes, out) in forms {
            let pool = PoolNd { kind, axes: axes.iter().map(|&a| axis(a)).collect() };
            let out = [&shape[..2], out].concat();
            cases.push(case(OpKind::PoolNd(pool), vec![with_specials(&mut r, shape)], &out, |_, _| 8e-4));
        }
    }
    check("poolings over any number of axes", cases);
}

#[test]
fn integer_poolings_wrap_around() {
    let mut r = Random(29);
    let mut cases = Vec::new();
    for dtype in [DType::I8, DType::U8, DType::I32, DType::I64, DType::U64] {
        for kind in [PoolKind::Max, PoolKind::Sum] {
            let pool = PoolNd { kind, axes: vec![axis([3, 2, 1, 1, 1]), axis([2, 1, 1, 0, 0])] };
            cases.push(typed_case(OpKind::PoolNd(pool), vec![r.typed(dtype, &[1, 3, 7, 4])], &[1, 3, 4, 3], 0.0));
        }
    }
    check("integer poolings wrap around", cases);
}

#[test]
fn positions_of_maxima() {
    let mut r = Random(28);
    let mut cases = Vec::new();
    let forms: [Form; 4] = [
        (&[2, 3, 9], &[[3, 2, 1, 0, 0]], &[4]),
        (&[1, 2, 5, 6], &[[3, 2, 1, 1, 1], [2, 1, 2, 0, 1]], &[3, 5]),
        (&[1, 2, 4, 3, 5], &[[2, 2, 1, 0, 0], [3, 1, 1, 1, 1], [2, 3, 1, 0, 1]], &[2, 3, 2]),
        (&[1, 2, 4, 4], &[[3, 2, 1, 0, 0]; 2], &[2, 2]), // ceil mode
    ];
    for (shape, axes, out) in forms {
        for (dtype, column_major) in [(DType::F32, false), (DType::F32, true), (DType::I8, false), (DType::U8, true)] {
            let pool = PoolIndices { axes: axes.iter().map(|&a| axis(a)).collect(), column_major };
            let out = [&shape[..2], out].concat();
            cases.push(typed_case(OpKind::PoolIndices(pool), vec![r.typed(dtype, shape)], &out, 0.0));
        }
    }
    check("positions of maxima", cases);
}
