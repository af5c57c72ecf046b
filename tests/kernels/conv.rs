//! Convolution: over two axes, over any number of axes, and transposed.

use hiosc::graph::{Binary, Conv, ConvNd, DType, Expr, OpKind, Scalar, Unary, WindowAxis};

use super::common::{assert_used, case, computed, positive, typed_case};
use crate::support::harness::{KernelCase, Random, TensorValues, check};
use crate::support::operators::{conv_nd, number_types, plain, relu, two};
use crate::support::reference;

/// A convolution of `x` [n, c, h, w] with `k` filters. The extents of the output follow from the
/// attributes.
pub fn conv_case(random: &mut Random, x: [usize; 4], k: usize, conv: Conv) -> KernelCase {
    let extent = |axis: usize| {
        let reach = conv.dilations[axis] * (conv.kernel[axis] - 1) + 1;
        (x[2 + axis] + conv.pads_begin[axis] + conv.pads_end[axis] - reach) / conv.strides[axis] + 1
    };
    let out = vec![x[0], k, extent(0), extent(1)];
    let mut inputs = vec![random.tensor(&x), random.tensor(&[k, x[1] / conv.groups, conv.kernel[0], conv.kernel[1]])];
    if conv.bias {
        inputs.push(random.tensor(&[k]));
    }
    (1..conv.epilogue.inputs()).for_each(|_| inputs.push(random.tensor(&out)));
    let expected = reference::conv(&conv, &inputs, &out);
    KernelCase { kind: OpKind::Conv(conv), inputs, out, expected }
}

#[test]
fn convolutions() {
    let mut r = Random(1);
    let pad = |p: usize, conv: Conv| Conv { pads_begin: [p, p], pads_end: [p, p], ..conv };
    let fused = |conv: Conv| Conv { bias: true, epilogue: relu(), ..conv };
    let residual = two(Binary::Add).then(Unary::Relu);
    let cases = vec![
        // Pointwise: columns in fours, columns one by one, several images, a ragged number of
        // channels.
        conv_case(&mut r, [1, 64, 8, 8], 48, fused(plain([1, 1]))),
        conv_case(&mut r, [1, 19, 7, 7], 33, plain([1, 1])),
        conv_case(&mut r, [3, 20, 5, 5], 17, fused(plain([1, 1]))),
        conv_case(&mut r, [2, 16, 6, 6], 24, Conv { epilogue: residual.clone(), ..plain([1, 1]) }),
        conv_case(&mut r, [1, 32, 9, 9], 20, Conv { strides: [2, 2], ..plain([1, 1]) }),
        // Large enough for the largest tiles.
        conv_case(&mut r, [1, 3, 112, 111], 256, fused(plain([1, 1]))),
        conv_case(&mut r, [1, 2, 97, 101], 130, pad(1, plain([3, 3]))),
        // Windows.
        conv_case(&mut r, [1, 3, 35, 33], 32, fused(Conv { strides: [2, 2], ..plain([3, 3]) })),
        conv_case(&mut r, [1, 12, 17, 17], 40, fused(pad(1, plain([3, 3])))),
        conv_case(&mut r, [2, 7, 13, 11], 9, Conv { bias: true, epilogue: residual.clone(), ..pad(1, plain([3, 3])) }),
        conv_case(&mut r, [1, 3, 29, 31], 24, fused(pad(3, Conv { strides: [2, 2], ..plain([7, 7]) }))),
        conv_case(&mut r, [1, 18, 17, 17], 24, Conv { pads_begin: [0, 3], pads_end: [0, 3], ..plain([1, 7]) }),
        conv_case(&mut r, [1, 18, 17, 17], 24, Conv { pads_begin: [3, 0], pads_end: [3, 0], ..plain([7, 1]) }),
        conv_case(&mut r, [1, 4, 16, 15], 20, Conv { dilations: [2, 3], ..pad(2, plain([3, 3])) }),
        conv_case(&mut r, [1, 4, 10, 9], 6, Conv { pads_begin: [0, 2], pads_end: [3, 1], strides: [1, 2], ..plain([2, 4]) }),
        conv_case(&mut r, [1, 6, 5, 5], 10, plain([5, 5])),
        conv_case(&mut r, [1, 2, 1, 40], 5, Conv { strides: [1, 3], ..plain([1, 3]) }),
        conv_case(&mut r, [1, 1, 3, 3], 1, pad(2, plain([3, 3]))),
        // Groups.
        conv_case(&mut r, [1, 24, 9, 9], 24, Conv { groups: 24, ..fused(pad(1, plain([3, 3]))) }),
        conv_case(&mut r, [2, 10, 8, 7], 30, Conv { groups: 10, strides: [2, 1], ..pad(1, plain([3, 3])) }),
        conv_case(&mut r, [1, 12, 8, 8], 24, Conv { groups: 3, ..fused(plain([1, 1])) }),
        conv_case(&mut r, [1, 8, 11, 11], 16, Conv { groups: 4, epilogue: residual, bias: true, ..pad(1, plain([3, 3])) }),
        conv_case(&mut r, [1, 66, 7, 7], 54, Conv { groups: 2, ..pad(1, plain([3, 3])) }),
        conv_case(&mut r, [1, 14, 6, 6], 2, pad(1, plain([3, 3]))),
    ];
    let names = check("convolutions", cases);
    // These reach every tile shape, and the direct kernel at each width.
    assert_used(&names, &["bm128bn128", "bm128bn64", "bm64bn128", "bm64bn64", "bm64bn32", "bm32bn64", "bm32bn32", "bm16bn64", "direct4"]);
}

#[test]
fn random_convolutions() {
    let mut r = Random(2);
    let cases = (0..16).map(|_| {
        let groups = [1, 1, 1, 2, 5][r.below(5)];
        let kernel = [1 + r.below(4), 1 + r.below(4)];
        let (strides, dilations) = ([1 + r.below(3), 1 + r.below(3)], [1 + r.below(2), 1 + r.below(2)]);
        let (pads_begin, pads_end) = ([r.below(kernel[0]), r.below(kernel[1])], [r.below(3), r.below(3)]);
        let size = |axis: usize, extra: usize| dilations[axis] * (kernel[axis] - 1) + 1 + extra;
        let x = [1 + r.below(2), groups * (1 + r.below(9)), size(0, r.below(12)), size(1, r.below(12))];
        let k = groups * (1 + r.below(40));
        let epilogue = [Expr::identity(), relu(), two(Binary::Add)][r.below(3)].clone();
        let conv = Conv { kernel, strides, dilations, pads_begin, pads_end, groups, bias: r.below(2) == 0, epilogue };
        conv_case(&mut r, x, k, conv)
    });
    check("random convolutions", cases.collect());
}

#[test]
fn convolutions_of_every_type() {
    let mut r = Random(24);
    let mut cases = Vec::new();
    for dtype in number_types() {
        let below = Expr::binary(Binary::Less, Expr::Input(0), Expr::Const(Scalar::from_f64(dtype, 20.0)));
        for (bias, epilogue) in [(false, Expr::identity()), (true, two(Binary::Add)), (true, below)] {
            let conv = Conv { pads_begin: [1, 0], groups: 2, bias, epilogue: epilogue.clone(), ..plain([3, 2]) };
            let mut x = |shape: &[usize]| positive(&mut r, dtype, shape);
            let mut inputs = vec![x(&[1, 4, 5, 6]), x(&[6, 2, 3, 2])];
            inputs.extend(bias.then(|| x(&[6])));
            inputs.extend((epilogue.inputs() > 1).then(|| x(&[1, 6, 4, 5])));
            cases.push(typed_case(OpKind::Conv(conv), inputs, &[1, 6, 4, 5], 64.0));
        }
    }
    check("convolutions of every type", cases);
}

/// A convolution of `x` with `k` filters. The output of a transposed one has `beyond` more elements
/// after its last window.
fn nd_case(r: &mut Random, x: &[usize], k: usize, conv: ConvNd, beyond: usize) -> KernelCase {
    let extent = |(axis, &size): (&WindowAxis, &usize)| {
        let reach = axis.dilation * (axis.kernel - 1) + 1;
        if conv.transposed {
            (size - 1) * axis.stride + reach - axis.pad_begin - axis.pad_end + beyond
        } else {
            (size + axis.pad_begin + axis.pad_end - reach) / axis.stride + 1
        }
    };
    let out: Vec<usize> = [x[0], k].into_iter().chain(conv.axes.iter().zip(&x[2..]).map(extent)).collect();
    let weights: Vec<usize> = [k, x[1] / conv.groups].into_iter().chain(conv.axes.iter().map(|a| a.kernel)).collect();
    let mut inputs = vec![r.tensor(x), r.tensor(&weights)];
    if conv.bias {
        inputs.push(r.tensor(&[k]));
    }
    (1..conv.epilogue.inputs()).for_each(|_| inputs.push(r.tensor(&out)));
    // the same sums over absolute values
    let sizes: Vec<TensorValues> = inputs
        .iter()
        .map(|x| TensorValues { values: x.floats().iter().map(|v| v.abs()).collect::<Vec<f32>>().into(), ..x.clone() })
        .collect();
    let kind = OpKind::ConvNd(conv);
    let scales = computed(&kind, &sizes, &out);
    case(kind, inputs, &out, |i, _| 4e-6 * (scales[i].f64().abs() + 1.0))
}

#[test]
fn convolutions_over_any_number_of_axes() {
    let mut r = Random(21);
    let mut cases = Vec::new();
    for transposed in [false, true] {
        let conv = |axes: &[[usize; 5]]| conv_nd(transposed, axes);
        cases.extend([
            nd_case(&mut r, &[1, 3, 7], 4, conv(&[[3, 1, 1, 0, 0]]), 0),
            nd_case(&mut r, &[2, 4, 9], 6, ConvNd { groups: 2, bias: true, ..conv(&[[4, 3, 1, 1, 2]]) }, 0),
            nd_case(&mut r, &[1, 3, 5, 6], 8, ConvNd { bias: true, epilogue: relu(), ..conv(&[[2, 2, 1, 0, 0], [2, 2, 1, 0, 0]]) }, 0),
            nd_case(&mut r, &[1, 5, 6, 4], 10, ConvNd { groups: 5, ..conv(&[[3, 2, 1, 1, 1], [3, 2, 1, 1, 0]]) }, usize::from(transposed)),
            nd_case(&mut r, &[1, 1, 4, 4], 1, conv(&[[3, 1, 1, 2, 2], [1, 1, 1, 0, 0]]), 0),
            nd_case(&mut r, &[2, 3, 9, 8], 5, ConvNd { epilogue: two(Binary::Add), ..conv(&[[3, 2, 3, 1, 0], [2, 3, 2, 0, 1]]) }, 0),
            nd_case(&mut r, &[1, 2, 4, 5, 6], 3, conv(&[[3, 1, 1, 1, 1], [3, 1, 1, 1, 1], [3, 1, 1, 1, 1]]), 0),
            nd_case(
                &mut r,
                &[2, 4, 5, 1, 7],
                8,
                ConvNd { groups: 2, bias: true, ..conv(&[[2, 2, 1, 0, 0], [1, 1, 1, 0, 0], [3, 2, 2, 2, 1]]) },
                0,
            ),
            nd_case(&mut r, &[1, 8, 3, 3, 3], 16, ConvNd { bias: true, ..conv(&[[2, 1, 1, 0, 0]; 3]) }, usize::from(transposed)),
        ]);
    }
    let names = check("convolutions over any number of axes", cases);
    assert_used(&names, &["convt_", "direct8", "direct1t"]);
}

#[test]
fn integer_convolutions_wrap_around() {
    let mut r = Random(29);
    let mut cases = Vec::new();
    for dtype in [DType::I8, DType::U8, DType::I32, DType::I64, DType::U64] {
        for transposed in [false, true] {
            let conv = ConvNd { groups: 2, bias: true, ..conv_nd(transposed, &[[2, 2, 1, 0, 0], [3, 1, 1, 1, 1]]) };
            let inputs = vec![r.typed(dtype, &[2, 4, 6, 5]), r.typed(dtype, &[6, 2, 2, 3]), r.typed(dtype, &[6])];
            let out = if transposed { [2, 6, 12, 5] } else { [2, 6, 3, 5] };
            cases.push(typed_case(OpKind::ConvNd(conv), inputs, &out, 0.0));
        }
    }
    check("integer convolutions wrap around", cases);
}
