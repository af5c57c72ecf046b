//! Convolutions whose groups have few filters, by patches of pixels.

use hiosc::device::device;
use hiosc::graph::{Binary, Conv, DType, Expr, OpKind, Scalar, Unary};
use hiosc::kernel::{self, Kernel};

use super::common::{assert_used, positive, typed_case};
use super::conv::conv_case;
use crate::support::harness::{Random, check, graph_with};
use crate::support::operators::{plain, relu, two};

fn pad(p: usize, conv: Conv) -> Conv {
    Conv { pads_begin: [p, p], pads_end: [p, p], ..conv }
}

/// One filter per group and one channel of x.
fn depthwise(kernel: [usize; 2], channels: usize) -> Conv {
    Conv { groups: channels, ..plain(kernel) }
}

#[test]
fn patches() {
    let mut r = Random(41);
    let residual = two(Binary::Add).then(Unary::Relu);
    let cases = vec![
        // Rows of 4n, 2n and odd numbers of elements: vectors of four, two and one.
        conv_case(&mut r, [1, 6, 12, 16], 6, pad(1, depthwise([3, 3], 6))),
        conv_case(&mut r, [2, 5, 9, 14], 5, pad(2, depthwise([5, 5], 5))),
        conv_case(&mut r, [1, 7, 11, 11], 7, pad(3, depthwise([7, 7], 7))),
        // No padding, and patches that end inside, or do not.
        conv_case(&mut r, [1, 3, 10, 12], 3, depthwise([3, 3], 3)),
        conv_case(&mut r, [1, 3, 9, 8], 3, depthwise([2, 5], 3)),
        // Strides, of which the second is that of the vectors.
        conv_case(&mut r, [1, 4, 16, 16], 4, pad(1, Conv { strides: [2, 2], ..depthwise([3, 3], 4) })),
        conv_case(&mut r, [1, 4, 15, 20], 4, pad(2, Conv { strides: [1, 4], ..depthwise([5, 5], 4) })),
        conv_case(&mut r, [1, 4, 15, 12], 4, pad(1, Conv { strides: [3, 1], ..depthwise([3, 3], 4) })),
        // Dilations that leave rows and columns out.
        conv_case(&mut r, [1, 4, 20, 20], 4, pad(2, Conv { dilations: [2, 2], ..depthwise([3, 3], 4) })),
        conv_case(&mut r, [1, 4, 23, 24], 4, pad(4, Conv { dilations: [6, 5], strides: [2, 1], ..depthwise([3, 3], 4) })),
        // Padding of different sizes, and windows wholly in the padding.
        conv_case(&mut r, [1, 3, 8, 8], 3, Conv { pads_begin: [0, 3], pads_end: [4, 0], ..depthwise([3, 3], 3) }),
        conv_case(&mut r, [1, 3, 4, 4], 3, pad(5, depthwise([3, 3], 3))),
        // Several filters in a group, and several channels of x.
        conv_case(&mut r, [1, 3, 8, 12], 6, Conv { bias: true, epilogue: relu(), ..pad(1, depthwise([3, 3], 3)) }),
        conv_case(&mut r, [2, 6, 7, 7], 9, Conv { groups: 3, ..pad(1, plain([3, 3])) }),
        conv_case(&mut r, [1, 8, 9, 10], 8, Conv { groups: 2, epilogue: residual.clone(), bias: true, ..pad(1, plain([3, 3])) }),
        conv_case(&mut r, [1, 33, 8, 8], 3, pad(1, plain([3, 3]))),
        conv_case(&mut r, [1, 200, 6, 6], 2, plain([1, 1])),
        conv_case(&mut r, [2, 67, 5, 7], 1, Conv { bias: true, ..plain([1, 1]) }),
        // One row, one column, one pixel; the window of a whole plane.
        conv_case(&mut r, [1, 5, 1, 40], 5, Conv { pads_begin: [0, 2], pads_end: [0, 2], ..depthwise([1, 5], 5) }),
        conv_case(&mut r, [3, 5, 40, 1], 5, Conv { pads_begin: [2, 0], pads_end: [2, 0], ..depthwise([5, 1], 5) }),
        conv_case(&mut r, [1, 9, 7, 7], 9, depthwise([7, 7], 9)),
        // Enough pixels for the largest patches.
        conv_case(&mut r, [1, 40, 64, 64], 40, Conv { epilogue: residual, bias: true, ..pad(1, depthwise([3, 3], 40)) }),
        // Too many taps for a patch.
        conv_case(&mut r, [1, 4, 13, 13], 4, pad(4, depthwise([9, 9], 4))),
    ];
    let names = check("patches", cases);
    let used = ["p1x1v1", "p1x1v2", "p2x1v1", "p4x1v1", "p8x1v1", "p2x2v2", "p4x2v2", "p4x4v4", "p4x2v4", "p1x1v4", "direct1"];
    assert_used(&names, &used);
}

#[test]
fn random_patches() {
    let mut r = Random(42);
    let cases = (0..24).map(|_| {
        let groups = 1 + r.below(4);
        let kernel = [1 + r.below(5), 1 + r.below(5)];
        let (strides, dilations) = ([1 + r.below(3), 1 + r.below(4)], [1 + r.below(3), 1 + r.below(3)]);
        let (pads_begin, pads_end) = ([r.below(4), r.below(6)], [r.below(4), r.below(6)]);
        let size = |axis: usize, extra: usize| dilations[axis] * (kernel[axis] - 1) + 1 + extra;
        let x = [1 + r.below(2), groups * (1 + r.below(3)), size(0, r.below(16)), size(1, r.below(24)).next_multiple_of(1 + r.below(4))];
        let k = groups * (1 + r.below(4));
        let epilogue = [Expr::identity(), relu(), two(Binary::Add)][r.below(3)].clone();
        let conv = Conv { kernel, strides, dilations, pads_begin, pads_end, groups, bias: r.below(2) == 0, epilogue };
        conv_case(&mut r, x, k, conv)
    });
    check("random patches", cases.collect());
}

#[test]
fn patches_of_every_type() {
    let mut r = Random(43);
    let mut cases = Vec::new();
    for dtype in [DType::F16, DType::BF16, DType::F32, DType::F64, DType::I32] {
        let below = Expr::binary(Binary::Less, Expr::Input(0), Expr::Const(Scalar::from_f64(dtype, 6.0)));
        for (bias, epilogue) in [(false, Expr::identity()), (true, two(Binary::Add)), (true, below)] {
            let conv = Conv { bias, epilogue: epilogue.clone(), ..pad(1, depthwise([3, 3], 4)) };
            let mut x = |shape: &[usize]| positive(&mut r, dtype, shape);
            let mut inputs = vec![x(&[1, 4, 6, 8]), x(&[4, 1, 3, 3])];
            inputs.extend(bias.then(|| x(&[4])));
            inputs.extend((epilogue.inputs() > 1).then(|| x(&[1, 4, 6, 8])));
            cases.push(typed_case(OpKind::Conv(conv), inputs, &[1, 4, 6, 8], 64.0));
        }
    }
    check("patches of every type", cases);
}

#[test]
fn small_groups_never_get_a_tile() {
    let mut r = Random(44);
    for name in ["a40", "a100", "h100"] {
        let device = device(name).expect("a known device");
        for (x, k, conv) in [
            ([1, 24, 42, 42], 24, pad(2, depthwise([5, 5], 24))),
            ([1, 12, 11, 11], 24, pad(1, depthwise([3, 3], 12))),
            ([1, 64, 30, 30], 3, pad(1, plain([3, 3]))),
            ([1, 8, 40, 40], 8, pad(15, depthwise([31, 31], 8))),
        ] {
            let groups = conv.groups;
            let case = conv_case(&mut r, x, k, conv);
            for constants in [&[][..], &[1]] {
                let (graph, op) = graph_with(&case, constants);
                let kernels = kernel::candidates(&graph, op, &device).expect("kernels");
                // a deep sum without groups may be split
                let tiled = |kernel: &Kernel| kernel.name.contains("_bm") || (groups > 1 && kernel.name.contains("gather"));
                assert!(!kernels.iter().any(tiled), "{name}: {kernels:?}");
            }
        }
    }
}
