//! Every kernel family against a plain loop, over shapes chosen to be awkward: odd sizes, strides, pads, dilations, groups, axes of size one,
//! broadcasts, NaN and infinity. Each candidate of each operator is compiled for the CPU and run there; outputs stand between guard
//! bytes, inputs between NaNs, and running the blocks in another order on two threads must give the same bits.

mod dense;
mod resample;

use crate::support::harness::{Case, Objects, Random, Tensor, check, graph_of, run_graph};
use crate::support::interpret::operate;
use crate::support::number::numbers;
use crate::support::operators::Layout::{self, Columns, Rows};
use crate::support::operators::{self, KINDS, kind_name, one_of_each, plain};
use crate::support::{a40, reference, relative_error, sanitized, scenario, skipped};
use hiosc::graph::{
    Binary, Cell, Constant, Conv, CumSum, DType, Elementwise, Expr, Index, MatMul, OpKind, Pad, PadMode, Pool, PoolKind, Reduce,
    ReduceKind, Scalar, Slice, Unary, Update,
};

fn relu() -> Expr {
    Expr::identity().then(Unary::Relu)
}

fn add(a: Expr, b: Expr) -> Expr {
    Expr::binary(Binary::Add, a, b)
}

/// A convolution of `x` [n, c, h, w] with `k` filters; the output's extents follow from the attributes.
fn conv_case(random: &mut Random, x: [usize; 4], k: usize, conv: Conv) -> Case {
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
    Case { kind: OpKind::Conv(conv), inputs, out, expected }
}

#[test]
fn convolutions() {
    let mut r = Random(1);
    let pad = |p: usize, conv: Conv| Conv { pads_begin: [p, p], pads_end: [p, p], ..conv };
    let fused = |conv: Conv| Conv { bias: true, epilogue: relu(), ..conv };
    let residual = add(Expr::Input(0), Expr::Input(1)).then(Unary::Relu);
    let cases = vec![
        // Pointwise: columns in fours, columns one by one, several images, a ragged number of channels.
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
    // The sweep reaches every tile shape, and the direct kernel at each width.
    for candidate in [
        "bm128bn128",
        "bm128bn64",
        "bm64bn128",
        "bm64bn64",
        "bm64bn32",
        "bm32bn64",
        "bm32bn32",
        "bm16bn64",
        "direct1",
        "direct2",
        "direct4",
    ] {
        assert!(names.is_empty() || names.iter().any(|name| name.contains(candidate)), "no case uses {candidate}");
    }
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
        let epilogue = [Expr::identity(), relu(), add(Expr::Input(0), Expr::Input(1))][r.below(3)].clone();
        let conv = Conv { kernel, strides, dilations, pads_begin, pads_end, groups, bias: r.below(2) == 0, epilogue };
        conv_case(&mut r, x, k, conv)
    });
    check("random convolutions", cases.collect());
}

fn matmul_case(r: &mut Random, extents: [usize; 4], layouts: [Layout; 3], bias: bool, epilogue: Expr) -> Case {
    let (matmul, [a, b, out]) = operators::matmul(extents, layouts, bias, epilogue);
    let mut inputs = vec![r.tensor(&a), r.tensor(&b)];
    if bias {
        inputs.push(r.tensor(&[matmul.n]));
    }
    (1..matmul.epilogue.inputs()).for_each(|_| inputs.push(r.tensor(&out)));
    let expected = reference::matmul(&matmul, &inputs, &out);
    Case { kind: OpKind::MatMul(matmul), inputs, out, expected }
}

#[test]
fn matrix_products() {
    let mut r = Random(3);
    let none = Expr::identity;
    let mut cases = vec![
        matmul_case(&mut r, [1, 1, 1000, 512], [Rows, Columns, Rows], true, none()),
        matmul_case(&mut r, [1, 1, 37, 130], [Rows, Columns, Rows], true, relu()),
        matmul_case(&mut r, [1, 1, 100, 77], [Rows, Rows, Rows], false, relu()),
        matmul_case(&mut r, [2, 1, 33, 65], [Rows, Rows, Rows], true, add(Expr::Input(0), Expr::Input(1))),
        matmul_case(&mut r, [1, 3, 50, 64], [Rows, Columns, Rows], true, none()),
        matmul_case(&mut r, [1, 70, 1, 40], [Rows, Columns, Rows], true, none()),
        matmul_case(&mut r, [3, 70, 2, 41], [Columns, Rows, Rows], true, relu()),
        matmul_case(&mut r, [1, 1, 1, 1], [Rows, Rows, Rows], false, none()),
        matmul_case(&mut r, [1, 64, 64, 64], [Rows, Rows, Rows], false, none()),
        matmul_case(&mut r, [1, 65, 67, 63], [Rows, Rows, Rows], true, relu()),
        matmul_case(&mut r, [2, 40, 36, 20], [Columns, Columns, Columns], true, none()),
        matmul_case(&mut r, [5, 12, 20, 8], [Rows, Columns, Rows], false, add(Expr::Input(0), Expr::Input(1)).then(Unary::Relu)),
        matmul_case(&mut r, [3, 17, 9, 25], [Columns, Rows, Rows], true, none()),
        matmul_case(&mut r, [1, 300, 320, 12], [Rows, Columns, Rows], true, none()),
    ];
    // One matrix for the whole batch: a stride of zero.
    let shared = MatMul {
        batch: 3,
        m: 6,
        n: 10,
        k: 7,
        a_strides: [42, 7, 1],
        b_strides: [0, 10, 1],
        c_strides: [60, 10, 1],
        bias: false,
        epilogue: none(),
    };
    let inputs = vec![r.tensor(&[3, 6, 7]), r.tensor(&[7, 10])];
    let out = vec![3, 6, 10];
    cases.push(Case { expected: reference::matmul(&shared, &inputs, &out), kind: OpKind::MatMul(shared), inputs, out });
    let names = check("matrix products", cases);
    for candidate in ["gemv_warp", "gemv_lines", "bm"] {
        assert!(names.is_empty() || names.iter().any(|name| name.contains(candidate)), "no case uses {candidate}");
    }
}

#[test]
fn poolings() {
    let mut r = Random(4);
    let base = |kind| Pool { kind, kernel: [3, 3], strides: [2, 2], dilations: [1, 1], pads_begin: [0, 0], pads_end: [0, 0] };
    let mut cases = Vec::new();
    for kind in
        [PoolKind::Max, PoolKind::Average { count_include_pad: false }, PoolKind::Average { count_include_pad: true }, PoolKind::Sum]
    {
        let attributes = [
            ([1, 3, 13, 13], [6, 6], base(kind)),
            ([1, 3, 14, 14], [7, 7], base(kind)), // ceil mode: the last windows reach over the edge
            ([2, 5, 9, 7], [9, 7], Pool { strides: [1, 1], pads_begin: [1, 1], pads_end: [1, 1], ..base(kind) }),
            ([1, 2, 10, 11], [6, 6], Pool { pads_begin: [1, 0], pads_end: [1, 2], ..base(kind) }), // ceil mode with padding
            ([1, 4, 8, 8], [1, 1], Pool { kernel: [8, 8], strides: [1, 1], ..base(kind) }),
            ([1, 2, 12, 9], [5, 4], Pool { kernel: [2, 3], strides: [2, 1], dilations: [3, 2], pads_end: [1, 0], ..base(kind) }),
        ];
        for (shape, [p, q], pool) in attributes {
            let mut x = r.tensor(&shape);
            let last = x.values.len() - 1;
            x.floats_mut()[0] = f32::NEG_INFINITY;
            x.floats_mut()[last / 2] = f32::NAN;
            x.floats_mut()[last] = f32::INFINITY;
            let out = vec![shape[0], shape[1], p, q];
            let inputs = vec![x];
            cases.push(Case { expected: reference::pool(&pool, &inputs[0], &out), kind: OpKind::Pool(pool), inputs, out });
        }
    }
    check("poolings", cases);
}

#[test]
fn reductions() {
    let mut r = Random(5);
    let mut cases = Vec::new();
    let shapes: [(&[usize], &[usize]); 10] = [
        (&[1, 20, 8, 8], &[2, 3]),
        (&[2, 3, 5, 7], &[1]),
        (&[2, 3, 35], &[1]),
        (&[2, 3, 5, 7], &[0, 2]),
        (&[2, 3, 5, 7], &[0, 1, 2, 3]),
        (&[3, 1500], &[1]),
        (&[700, 9], &[0]),
        (&[4000, 6], &[1]),
        (&[1, 5, 1], &[0, 2]),
        (&[2, 3, 4, 5, 6], &[1, 3]),
    ];
    for kind in [ReduceKind::Sum, ReduceKind::Mean, ReduceKind::Max, ReduceKind::Min, ReduceKind::Product] {
        for (i, (shape, axes)) in shapes.iter().enumerate() {
            let mut x = r.tensor(shape);
            if matches!(kind, ReduceKind::Max | ReduceKind::Min) && i % 2 == 0 {
                let middle = x.values.len() / 2;
                x.floats_mut()[middle] = f32::NAN;
                x.floats_mut()[0] = f32::INFINITY;
            }
            let reduce = Reduce { kind, axes: axes.to_vec() };
            let out = (0..shape.len()).map(|a| if axes.contains(&a) { 1 } else { shape[a] }).collect::<Vec<_>>();
            let inputs = vec![x];
            cases.push(Case { expected: reference::reduce(&reduce, &inputs[0], &out), kind: OpKind::Reduce(reduce), inputs, out });
        }
    }
    let names = check("reductions", cases);
    for candidate in ["thread", "warp", "block"] {
        assert!(names.is_empty() || names.iter().any(|name| name.contains(candidate)), "no case uses {candidate}");
    }
}

#[test]
fn softmaxes() {
    let mut r = Random(6);
    let shapes: [(&[usize], usize); 10] = [
        (&[1, 1000], 1),
        (&[1, 1, 1000, 1], 2),
        (&[1, 2500], 1),
        (&[200, 37], 1),
        (&[3, 5], 1),
        (&[7, 1], 1),
        (&[2, 9, 4, 5], 1),
        (&[2, 9, 4, 5], 3),
        (&[6, 300], 0),
        (&[130, 64, 1, 1], 1),
    ];
    let cases = shapes.iter().map(|&(shape, axis)| {
        let mut x = r.tensor(shape);
        x.floats_mut().iter_mut().for_each(|v| *v *= 100.0); // exp of it would overflow
        x.floats_mut()[0] = f32::NEG_INFINITY;
        Case { expected: reference::softmax(axis, &x), kind: OpKind::Softmax { axis }, out: shape.to_vec(), inputs: vec![x] }
    });
    check("softmaxes", cases.collect());
}

#[test]
fn elementwise_operators() {
    let mut r = Random(7);
    let two = |op| Expr::binary(op, Expr::Input(0), Expr::Input(1));
    let mut cases = Vec::new();
    let mut case = |shapes: &[&[usize]], out: &[usize], expr: Expr, positive: bool| {
        let mut inputs: Vec<_> = shapes.iter().map(|shape| r.tensor(shape)).collect();
        if positive {
            inputs.iter_mut().flat_map(Tensor::floats_mut).for_each(|v| *v = v.abs() + 0.1);
        } else {
            inputs[0].floats_mut()[0] = f32::NAN;
        }
        let kind = Elementwise { expr };
        cases.push(Case {
            expected: reference::elementwise(&kind, &inputs, out),
            kind: OpKind::Elementwise(kind),
            inputs,
            out: out.to_vec(),
        });
    };
    for op in [Binary::Add, Binary::Sub, Binary::Mul, Binary::Div, Binary::Max, Binary::Min, Binary::Less, Binary::LessEqual, Binary::Equal]
    {
        case(&[&[2, 3, 4, 5], &[2, 3, 4, 5]], &[2, 3, 4, 5], two(op), false);
        case(&[&[5, 7], &[5, 7]], &[5, 7], Expr::binary(op, Expr::Input(1), Expr::Input(0)), false);
    }
    case(&[&[5, 7], &[5, 7]], &[5, 7], two(Binary::Pow), true);
    for op in [
        Unary::HardSwish,
        Unary::Silu,
        Unary::Gelu,
        Unary::Erf,
        Unary::Floor,
        Unary::Ceil,
        Unary::Round,
        Unary::Sign,
        Unary::Sin,
        Unary::Cos,
    ] {
        case(&[&[3, 33]], &[3, 33], Expr::identity().then(op), false);
    }
    for op in [Unary::Tan, Unary::Atan, Unary::Sinh, Unary::Cosh, Unary::Asinh] {
        case(&[&[3, 33]], &[3, 33], Expr::identity().then(op), false);
    }
    for (op, inside) in [(Unary::Asin, Unary::Tanh), (Unary::Acos, Unary::Tanh), (Unary::Atanh, Unary::Tanh), (Unary::Acosh, Unary::Cosh)] {
        case(&[&[3, 33]], &[3, 33], Expr::identity().then(inside).then(op), true);
    }
    let select = Expr::select(two(Binary::Less).then(Unary::Not), Expr::Input(1), Expr::Input(2));
    case(&[&[3, 40], &[1, 40], &[3, 1]], &[3, 40], select, false);
    for op in [Unary::Relu, Unary::Neg, Unary::Abs, Unary::Exp, Unary::Recip, Unary::Sigmoid, Unary::Tanh, Unary::Square] {
        case(&[&[3, 33]], &[3, 33], Expr::identity().then(op), false);
    }
    for op in [Unary::Log, Unary::Sqrt, Unary::Rsqrt] {
        case(&[&[3, 33]], &[3, 33], Expr::identity().then(op), true);
    }
    case(&[&[1, 8, 5, 5], &[1, 8, 1, 1]], &[1, 8, 5, 5], two(Binary::Mul), false);
    case(&[&[1, 8, 4, 4], &[1, 8, 1, 1]], &[1, 8, 4, 4], two(Binary::Add), false);
    case(&[&[2, 1, 4], &[1, 3, 1]], &[2, 3, 4], two(Binary::Sub), false);
    case(&[&[2, 3, 1, 8], &[3, 1, 5, 1].map(|d| if d == 3 { 1 } else { d })], &[2, 3, 5, 8], two(Binary::Add), false);
    case(&[&[4, 1], &[1, 4]], &[4, 4], two(Binary::Max), false);
    case(&[&[1]], &[1], relu(), true);
    case(&[&[]], &[], relu(), true);
    case(&[&[1, 1], &[100, 12]], &[100, 12], add(Expr::Input(1), Expr::Input(0)), true);
    let chain = Expr::binary(Binary::Mul, add(two(Binary::Add), Expr::number(0.5)).then(Unary::Relu), Expr::Input(2));
    case(&[&[3, 40], &[1, 40], &[3, 1]], &[3, 40], chain, false);
    let clip = Expr::binary(Binary::Min, Expr::binary(Binary::Max, Expr::Input(0), Expr::number(0.0)), Expr::number(6.0));
    case(&[&[1025]], &[1025], clip, false);
    // Other shapes, same signature: one kernel.
    case(&[&[2, 60]], &[2, 60], relu(), false);
    case(&[&[1, 3, 40]], &[1, 3, 40], relu(), false);
    case(&[&[3, 4]], &[3, 4], two(Binary::Add).substitute(&|_| Expr::Input(0)), false);
    check("elementwise operators", cases);
}

#[test]
fn concatenations() {
    let mut r = Random(8);
    let lists: [(&[&[usize]], usize); 7] = [
        (&[&[1, 8, 4, 4], &[1, 4, 4, 4], &[1, 16, 4, 4]], 1),
        (&[&[1, 3, 5, 5], &[1, 1, 5, 5]], 1),
        (&[&[75], &[25]], 0),
        (&[&[2, 3, 5], &[2, 3, 1], &[2, 3, 2]], 2),
        (&[&[2, 3], &[1, 3], &[4, 3]], 0),
        (&[&[3, 2, 2], &[3, 4, 2]], 1),
        (&[&[5]], 0),
    ];
    let cases = lists.iter().map(|(shapes, axis)| {
        let inputs: Vec<_> = shapes.iter().map(|shape| r.tensor(shape)).collect();
        let mut out = shapes[0].to_vec();
        out[*axis] = shapes.iter().map(|shape| shape[*axis]).sum();
        Case { expected: reference::concat(*axis, &inputs), kind: OpKind::Concat { axis: *axis }, inputs, out }
    });
    check("concatenations", cases.collect());
}

/// Indices along axes of `length`: from the start, from the end, and outside.
fn indices(r: &mut Random, dtype: DType, length: usize, shape: &[usize]) -> Tensor {
    let index = |r: &mut Random| match r.below(8) {
        0 => length as i64 + r.below(3) as i64,
        1 => -(length as i64) - 1 - r.below(3) as i64,
        2 => i64::from(i8::MIN),
        _ => r.below(2 * length) as i64 - length as i64,
    };
    let values: Vec<i64> = (0..shape.iter().product()).map(|_| index(r)).collect();
    let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()[..dtype.bytes() as usize].to_vec()).collect();
    Tensor { shape: shape.to_vec(), values: Constant::from_bytes(dtype, &bytes) }
}

const ELEMENTS: [DType; 5] = [DType::F32, DType::I64, DType::F16, DType::Bool, DType::F64];

#[test]
fn reading_by_index() {
    let mut r = Random(15);
    let mut cases = Vec::new();
    let gathers: [(&[usize], usize, &[usize]); 7] = [
        (&[5, 4], 0, &[3]),
        (&[5, 16], 0, &[2, 3]),
        (&[3, 7], 1, &[]),
        (&[2, 3, 8], 1, &[9]),
        (&[1], 0, &[4]),
        (&[2, 1, 5], 1, &[1, 2]),
        (&[300, 64], 0, &[1, 40]),
    ];
    for (i, (x, axis, shape)) in gathers.into_iter().enumerate() {
        let out = [&x[..axis], shape, &x[axis + 1..]].concat();
        let inputs = vec![r.typed(ELEMENTS[i % 5], x), indices(&mut r, [DType::I64, DType::I32, DType::I8][i % 3], x[axis], shape)];
        cases.push(typed_case(OpKind::Index(Index::Gather { axis }), inputs, &out, 0.0));
    }
    // one kernel for both
    for (x, axis, out) in [(&[2, 3, 8][..], 1, &[2, 9, 8][..]), (&[2, 1, 3, 2, 4], 2, &[2, 1, 9, 2, 4])] {
        let inputs = vec![r.tensor(x), indices(&mut r, DType::I64, x[axis], &[9])];
        cases.push(typed_case(OpKind::Index(Index::Gather { axis }), inputs, out, 0.0));
    }
    let elements: [(&[usize], usize, &[usize]); 5] =
        [(&[3, 4], 1, &[3, 6]), (&[3, 4], 0, &[2, 4]), (&[2, 5, 3], 1, &[1, 7, 2]), (&[6], 0, &[2]), (&[2, 3, 1], 2, &[2, 3, 4])];
    for (i, (x, axis, out)) in elements.into_iter().enumerate() {
        let inputs = vec![r.typed(ELEMENTS[i], x), indices(&mut r, DType::I64, x[axis], out)];
        cases.push(typed_case(OpKind::Index(Index::GatherElements { axis }), inputs, out, 0.0));
    }
    /// Shape, batch axes, shape of the indices, result.
    type NdCase = (&'static [usize], usize, &'static [usize], &'static [usize]);
    let tuples: [NdCase; 6] = [
        (&[2, 3, 4], 0, &[5, 2], &[5, 4]),
        (&[2, 3, 4], 0, &[2, 2, 3], &[2, 2]),
        (&[2, 3, 4, 8], 1, &[2, 5, 1], &[2, 5, 4, 8]),
        (&[2, 3, 4], 2, &[2, 3, 1], &[2, 3]),
        (&[7], 0, &[1], &[]),
        (&[4, 4], 0, &[3, 1, 1], &[3, 1, 4]),
    ];
    for (i, (x, batch_dims, shape, out)) in tuples.into_iter().enumerate() {
        let inputs = vec![r.typed(ELEMENTS[i % 5], x), indices(&mut r, DType::I64, x[batch_dims], shape)];
        cases.push(typed_case(OpKind::Index(Index::GatherNd { batch_dims }), inputs, out, 0.0));
    }
    let names = check("reading by index", cases);
    assert!(
        names.is_empty() || names.iter().any(|name| name.starts_with("gather_o") && name.contains("_v")),
        "no gather moves several at once"
    );
}

#[test]
fn writing_by_index() {
    let mut r = Random(16);
    let mut cases = Vec::new();
    let all = [Update::Replace, Update::Add, Update::Mul, Update::Min, Update::Max];
    let elements: [(&[usize], usize, &[usize]); 6] = [
        (&[3, 5], 1, &[3, 4]),
        (&[3, 5], 0, &[2, 5]),
        (&[4, 3, 5], 1, &[2, 9, 5]),
        (&[20], 0, &[50]),
        (&[3000, 4], 1, &[2999, 20]), // lines
        (&[1, 1], 0, &[1, 1]),
    ];
    for (i, (x, axis, shape)) in elements.into_iter().enumerate() {
        for (j, update) in all.into_iter().enumerate() {
            let dtype = [DType::F32, DType::I64, DType::I8, DType::F64][(i + j) % 4];
            let inputs = vec![r.typed(dtype, x), indices(&mut r, [DType::I64, DType::I32][j % 2], x[axis], shape), r.typed(dtype, shape)];
            cases.push(typed_case(OpKind::Index(Index::ScatterElements { axis, update }), inputs, x, 0.0));
        }
    }
    let tuples: [(&[usize], &[usize]); 6] =
        [(&[4, 4, 4], &[2, 1]), (&[8], &[4, 1]), (&[4, 5], &[3, 3, 2]), (&[3, 40], &[200, 2]), (&[2, 3], &[2]), (&[70, 3], &[300, 1])];
    for (i, (x, shape)) in tuples.into_iter().enumerate() {
        for (j, update) in all.into_iter().enumerate() {
            let dtype = [DType::F32, DType::I32, DType::U8, DType::F64][(i + j) % 4];
            let (tuple, places) = shape.split_last().expect("an axis of tuples");
            let updates = [places, &x[*tuple..]].concat();
            let inputs = vec![r.typed(dtype, x), indices(&mut r, DType::I64, x[0], shape), r.typed(dtype, &updates)];
            cases.push(typed_case(OpKind::Index(Index::ScatterNd { update }), inputs, x, 0.0));
        }
    }
    let names = check("writing by index", cases);
    assert!(
        names.is_empty() || ["lines", "elements"].iter().all(|how| names.iter().any(|name| name.starts_with(&format!("scatter_{how}"))))
    );
}

#[test]
fn orders() {
    let mut r = Random(17);
    let mut cases = Vec::new();
    let shapes: [(&[usize], usize, usize); 6] =
        [(&[3, 40], 1, 5), (&[3, 40], 0, 3), (&[2, 9, 5], 1, 9), (&[500], 0, 1), (&[1, 1], 1, 1), (&[130, 70], 1, 2)];
    for (i, (x, axis, k)) in shapes.into_iter().enumerate() {
        for (j, (largest, places)) in [(true, false), (true, true), (false, false), (false, true)].into_iter().enumerate() {
            let dtype = [DType::F32, DType::I64, DType::F16, DType::U8, DType::F64][(i + j) % 5];
            let mut out = x.to_vec();
            out[axis] = k;
            cases.push(typed_case(OpKind::Index(Index::TopK { axis, largest, places }), vec![r.typed(dtype, x)], &out, 0.0));
        }
    }
    check("orders", cases);
}

#[test]
fn running_sums() {
    let mut r = Random(14);
    let mut cases = Vec::new();
    let shapes: [(&[usize], usize); 7] =
        [(&[5], 0), (&[3, 100], 1), (&[2, 33, 4], 1), (&[40, 3, 50], 0), (&[3000, 7], 1), (&[1, 1, 3], 1), (&[2, 64], 1)];
    for (shape, axis) in shapes {
        for (exclusive, reverse) in [(false, false), (true, false), (false, true), (true, true)] {
            let kind = OpKind::CumSum(CumSum { axis, exclusive, reverse });
            let mut case = typed_case(kind.clone(), vec![r.tensor(shape)], shape, 0.0);
            let length = shape[axis] as f64;
            case.expected.tolerances.iter_mut().for_each(|t| *t = 4e-6 * length);
            cases.push(case);
            for dtype in [DType::I64, DType::I32, DType::U8] {
                cases.push(typed_case(kind.clone(), vec![r.typed(dtype, shape)], shape, 0.0));
            }
        }
    }
    check("running sums", cases);
}

#[test]
fn recurrent_cells() {
    let mut r = Random(13);
    let mut cases = Vec::new();
    for cell in [Cell::LstmState, Cell::LstmOutput, Cell::Gru] {
        for (rows, hidden) in [(1, 64), (3, 5), (1, 1), (7, 129), (2, 1000)] {
            let inputs: Vec<_> = cell.gates().iter().map(|gates| r.tensor(&[rows, gates * hidden])).collect();
            let mut case = typed_case(OpKind::Cell(cell), inputs, &[rows, hidden], 0.0);
            case.expected.tolerances.iter_mut().for_each(|t| *t = 2e-6);
            cases.push(case);
        }
    }
    check("recurrent cells", cases);
}

/// An operator on values of any type; what comes out is what the plain interpreter says, within `steps` of the result's precision; integers and truth values
/// to the bit.
fn typed_case(kind: OpKind, inputs: Vec<Tensor>, out: &[usize], steps: f64) -> Case {
    let mut case = Case { kind, inputs, out: out.to_vec(), expected: Default::default() };
    let (graph, op) = graph_of(&case);
    let args: Vec<_> = case.inputs.iter().map(|x| numbers(&x.values)).collect();
    for value in operate(&graph, graph.operator(op), &args) {
        let step = match value.dtype {
            DType::F16 => 2f64.powi(-10),
            DType::F32 => 2f64.powi(-23),
            DType::F64 => 2f64.powi(-52),
            _ => 0.0,
        };
        let value = value.f64();
        case.expected.push(value, if value.is_finite() { steps * step * value.abs() } else { 0.0 });
    }
    case
}

/// An operator that only moves elements.
fn copy_case(r: &mut Random, kind: OpKind, x: &[usize], out: &[usize]) -> Case {
    typed_case(kind, vec![r.tensor(x)], out, 0.0)
}

#[test]
fn copies() {
    let mut r = Random(12);
    let mut cases = Vec::new();
    let transposes: [(&[usize], &[usize]); 7] = [
        (&[1, 80, 14, 14], &[0, 2, 3, 1]),
        (&[1, 14, 14, 80], &[0, 3, 1, 2]),
        (&[2, 3, 4, 8], &[0, 2, 1, 3]),
        (&[2, 3, 5, 7], &[3, 2, 1, 0]),
        (&[33, 65], &[1, 0]),
        (&[1, 7], &[1, 0]),
        (&[2, 3, 4, 5, 6], &[4, 0, 3, 1, 2]),
    ];
    for (x, permutation) in transposes {
        let out: Vec<usize> = permutation.iter().map(|&axis| x[axis]).collect();
        cases.push(copy_case(&mut r, OpKind::Transpose { permutation: permutation.to_vec() }, x, &out));
    }
    /// Shape, first element, steps, shape of the result.
    type SliceCase = (&'static [usize], &'static [usize], &'static [isize], &'static [usize]);
    let slices: [SliceCase; 10] = [
        (&[9], &[6], &[1], &[3]), // one kernel for this one and the next
        (&[1, 12], &[0, 6], &[1, 1], &[1, 3]),
        (&[1, 96, 4, 4], &[0, 64, 0, 0], &[1, 1, 1, 1], &[1, 32, 4, 4]),
        (&[1, 9, 5, 5], &[0, 0, 1, 0], &[1, 1, 1, 1], &[1, 9, 4, 5]),
        (&[3, 8, 9], &[0, 1, 2], &[1, 2, 3], &[3, 3, 3]),
        (&[4, 16], &[3, 15], &[-1, -1], &[4, 16]),
        (&[4, 16], &[3, 12], &[-2, -3], &[2, 5]),
        (&[6, 8], &[1, 4], &[2, 1], &[3, 4]),
        (&[5], &[4], &[-9], &[1]),
        (&[2, 40, 8], &[0, 3, 0], &[1, 1, 1], &[2, 8, 8]),
    ];
    for (x, begin, step, out) in slices {
        cases.push(copy_case(&mut r, OpKind::Slice(Slice { begin: begin.to_vec(), step: step.to_vec() }), x, out));
    }
    let pads: [(&[usize], &[usize], &[usize]); 5] = [
        (&[1, 4, 9, 8], &[0, 0, 1, 2], &[0, 0, 3, 0]),
        (&[3, 5], &[2, 0], &[0, 4]),
        (&[2, 6, 3], &[0, 5, 0], &[0, 5, 0]),
        (&[2, 2, 2, 2], &[1, 0, 1, 0], &[0, 1, 0, 1]),
        (&[7], &[6], &[6]),
    ];
    for (x, before, after) in pads {
        let out: Vec<usize> = (0..x.len()).map(|a| before[a] + x[a] + after[a]).collect();
        for mode in [PadMode::Constant(0.0.into()), PadMode::Constant(f32::NEG_INFINITY.into()), PadMode::Reflect, PadMode::Edge] {
            cases.push(copy_case(&mut r, OpKind::Pad(Pad { before: before.to_vec(), after: after.to_vec(), mode }), x, &out));
        }
    }
    let names = check("copies", cases);
    assert!(names.is_empty() || names.iter().any(|name| name.starts_with("copy") && name.contains("_v4")), "no copy moves four at once");
}

fn elementwise(expr: Expr) -> OpKind {
    OpKind::Elementwise(Elementwise { expr })
}

#[test]
fn scalar_functions_of_every_type() {
    use Binary::{Add, And, Div, Equal, Less, LessEqual, Max, Min, Mul, Or, Pow, Rem, ShiftLeft, ShiftRight, Sub, Xor};
    let mut r = Random(20);
    let two = |op| Expr::binary(op, Expr::Input(0), Expr::Input(1));
    let mut cases = Vec::new();
    // f32 has tests of its own; 16-bit integers go the way of 8-bit ones
    for dtype in DType::ALL.into_iter().filter(|t| !matches!(t, DType::F32 | DType::I16 | DType::U16)) {
        let mut x = || r.typed(dtype, &[7, 36]);
        for op in [Add, Sub, Mul, Div, Max, Min, Less, LessEqual, Equal, Rem, And, Or, Xor, ShiftLeft, ShiftRight] {
            if op.dtype(dtype).is_some() {
                cases.push(typed_case(elementwise(two(op)), vec![x(), x()], &[7, 36], 2.0));
            }
        }
        for op in [Unary::Relu, Unary::Neg, Unary::Abs, Unary::Sign, Unary::Square, Unary::Not, Unary::Floor, Unary::Round, Unary::Sqrt] {
            if op.takes(dtype) {
                cases.push(typed_case(elementwise(Expr::identity().then(op)), vec![x()], &[7, 36], 2.0));
            }
        }
        for op in [Unary::Exp, Unary::Sin, Unary::Tanh, Unary::Erf, Unary::Gelu, Unary::Sigmoid, Unary::Atan, Unary::Asinh] {
            if op.takes(dtype) {
                // of a negative number, Gelu loses what cancels in 1 + erf
                let x_of = if op == Unary::Gelu { Expr::identity().then(Unary::Abs) } else { Expr::identity() };
                cases.push(typed_case(elementwise(x_of.then(op)), vec![x()], &[7, 36], 64.0));
            }
        }
        if matches!(dtype, DType::I32 | DType::I64) {
            // exponents small enough to be checked by multiplying
            let exponent = Expr::binary(Rem, Expr::Input(1), Expr::Const(Scalar::from_f64(dtype, 9.0))).then(Unary::Abs);
            cases.push(typed_case(elementwise(Expr::binary(Pow, Expr::Input(0), exponent)), vec![x(), x()], &[7, 36], 0.0));
        }
        for to in DType::ALL {
            cases.push(typed_case(elementwise(Expr::identity().cast(to)), vec![x()], &[7, 36], 0.0));
        }
        let constant = Expr::binary(Equal, Expr::Input(0), Expr::Const(Scalar::from_f64(dtype, 1.0)));
        let select = Expr::select(constant, Expr::Input(1), Expr::Input(2));
        let row = Tensor { shape: vec![1, 36], ..r.typed(dtype, &[36]) };
        cases.push(typed_case(elementwise(select), vec![r.typed(dtype, &[7, 1]), row, r.typed(dtype, &[7, 36])], &[7, 36], 0.0));
    }
    check("scalar functions of every type", cases);
}

#[test]
fn every_type_moves() {
    let mut r = Random(21);
    let mut cases = Vec::new();
    for dtype in DType::ALL {
        let pad = |mode, before: &[usize], after: &[usize]| OpKind::Pad(Pad { before: before.to_vec(), after: after.to_vec(), mode });
        let slice = |begin: &[usize], step: &[isize]| OpKind::Slice(Slice { begin: begin.to_vec(), step: step.to_vec() });
        let value = PadMode::Constant(Scalar::from_f64(dtype, -3.5));
        let kinds: [(OpKind, &[usize], &[usize]); 8] = [
            (OpKind::Transpose { permutation: vec![1, 0, 2] }, &[3, 5, 32], &[5, 3, 32]),
            (OpKind::Transpose { permutation: vec![2, 0, 1] }, &[3, 5, 7], &[7, 3, 5]),
            (slice(&[1, 16], &[1, 1]), &[4, 48], &[2, 32]),
            (slice(&[3, 6], &[-2, -1]), &[4, 7], &[2, 7]),
            (pad(value, &[1, 2], &[0, 3]), &[3, 11], &[4, 16]),
            (pad(PadMode::Reflect, &[1, 2], &[0, 3]), &[3, 11], &[4, 16]),
            (elementwise(Expr::identity()), &[3, 1, 8], &[3, 4, 8]),
            (elementwise(Expr::identity()), &[1, 5, 1], &[3, 5, 7]),
        ];
        for (kind, x, out) in kinds {
            cases.push(typed_case(kind, vec![r.typed(dtype, x)], out, 0.0));
        }
        for shapes in [[[3, 16], [3, 48]], [[3, 5], [3, 2]]] {
            let inputs = shapes.iter().map(|shape| r.typed(dtype, shape)).collect();
            cases.push(typed_case(OpKind::Concat { axis: 1 }, inputs, &[3, shapes[0][1] + shapes[1][1]], 0.0));
        }
    }
    let names = check("every type moves", cases);
    for candidate in ["_bool_v16", "_f16_v8", "_i64_v2"] {
        assert!(names.is_empty() || names.iter().any(|name| name.contains(candidate)), "no case moves 16 bytes as {candidate}");
    }
}

#[test]
fn every_type_is_reduced() {
    use ReduceKind::{Max, Mean, Min, Product, Sum};
    let mut r = Random(22);
    let mut cases = Vec::new();
    for dtype in DType::ALL {
        let shapes: [(&[usize], &[usize], &[usize]); 2] = [(&[4, 300], &[1], &[4, 1]), (&[2, 3, 1, 7], &[0, 2, 3], &[1, 3, 1, 1])];
        for (x, axes, out) in shapes {
            let all = if dtype == DType::Bool { vec![Max, Min] } else { vec![Sum, Mean, Max, Min, Product] };
            for kind in all {
                let mut x = r.typed(dtype, x);
                if dtype.is_float() && !matches!(kind, Max | Min) {
                    // sums of one sign, so that a relative tolerance means something
                    let abs = numbers(&x.values).iter().map(|v| Scalar::from_f64(dtype, v.f64().abs().clamp(0.5, 1.5))).collect::<Vec<_>>();
                    let bytes: Vec<u8> = abs.iter().flat_map(|v| v.bits().to_le_bytes()[..dtype.bytes() as usize].to_vec()).collect();
                    x.values = Constant::from_bytes(dtype, &bytes);
                }
                cases.push(typed_case(OpKind::Reduce(Reduce { kind, axes: axes.to_vec() }), vec![x], out, 64.0));
            }
        }
    }
    check("every type is reduced", cases);
}

#[test]
fn places_of_extremes() {
    let mut r = Random(23);
    let mut cases = Vec::new();
    for dtype in [DType::Bool, DType::I8, DType::I64, DType::U16, DType::F16, DType::F32, DType::F64] {
        let shapes: [(&[usize], &[usize], &[usize]); 3] =
            [(&[4, 300], &[1], &[4, 1]), (&[9, 40], &[0], &[1, 40]), (&[2, 1, 3], &[1], &[2, 1, 3])];
        for (x, axes, out) in shapes {
            for last in [false, true] {
                for kind in [ReduceKind::ArgMax { last }, ReduceKind::ArgMin { last }] {
                    cases.push(typed_case(OpKind::Reduce(Reduce { kind, axes: axes.to_vec() }), vec![r.typed(dtype, x)], out, 0.0));
                }
            }
        }
    }
    check("places of extremes", cases);
}

/// Small positive numbers: sums of them lose little.
fn positive(r: &mut Random, dtype: DType, shape: &[usize]) -> Tensor {
    let size = dtype.bytes() as usize;
    let one = |r: &mut Random| {
        let value = if dtype.is_float() { 0.5 + r.below(16) as f64 / 16.0 } else { r.below(7) as f64 };
        Scalar::from_f64(dtype, value).bits().to_le_bytes()[..size].to_vec()
    };
    let bytes: Vec<u8> = (0..shape.iter().product()).flat_map(|_| one(r)).collect();
    Tensor { shape: shape.to_vec(), values: Constant::from_bytes(dtype, &bytes) }
}

#[test]
fn products_and_windows_of_every_type() {
    let mut r = Random(24);
    let mut cases = Vec::new();
    for dtype in DType::ALL.into_iter().filter(|&t| t != DType::Bool) {
        let below = Expr::binary(Binary::Less, Expr::Input(0), Expr::Const(Scalar::from_f64(dtype, 20.0)));
        for (bias, epilogue) in [(false, Expr::identity()), (true, add(Expr::Input(0), Expr::Input(1))), (true, below)] {
            let product = MatMul {
                batch: 2,
                m: 5,
                n: 9,
                k: 13,
                a_strides: [65, 13, 1],
                b_strides: [0, 9, 1],
                c_strides: [45, 9, 1],
                bias,
                epilogue: epilogue.clone(),
            };
            let mut x = |shape: &[usize]| positive(&mut r, dtype, shape);
            let mut inputs = vec![x(&[2, 5, 13]), x(&[13, 9])];
            inputs.extend(bias.then(|| x(&[9])));
            inputs.extend((epilogue.inputs() > 1).then(|| x(&[2, 5, 9])));
            cases.push(typed_case(OpKind::MatMul(product), inputs, &[2, 5, 9], 64.0));
            let conv = Conv { pads_begin: [1, 0], groups: 2, bias, epilogue: epilogue.clone(), ..plain([3, 2]) };
            let mut inputs = vec![x(&[1, 4, 5, 6]), x(&[6, 2, 3, 2])];
            inputs.extend(bias.then(|| x(&[6])));
            inputs.extend((epilogue.inputs() > 1).then(|| x(&[1, 6, 4, 5])));
            cases.push(typed_case(OpKind::Conv(conv), inputs, &[1, 6, 4, 5], 64.0));
        }
        for kind in [PoolKind::Max, PoolKind::Average { count_include_pad: false }, PoolKind::Average { count_include_pad: true }] {
            let pool = Pool { kind, kernel: [3, 2], strides: [2, 1], dilations: [1, 1], pads_begin: [1, 1], pads_end: [1, 0] };
            let x = if kind == PoolKind::Max { r.typed(dtype, &[2, 3, 7, 6]) } else { positive(&mut r, dtype, &[2, 3, 7, 6]) };
            cases.push(typed_case(OpKind::Pool(pool), vec![x], &[2, 3, 4, 6], 16.0));
        }
        for (axis, shape) in [(1, [3, 600]), (1, [5, 40]), (0, [9, 4])] {
            if dtype.is_float() {
                cases.push(typed_case(OpKind::Softmax { axis }, vec![positive(&mut r, dtype, &shape)], &shape, 64.0));
            }
        }
    }
    check("products and windows of every type", cases);
}

/// Kernels that exercise barriers, collectives and shared memory in every way that `cpu_cuda.h` promises.
const THREADS: &str = r#"
#include "hiosc.cuh"

// Every shuffle, in a warp and in the 18 lanes of an incomplete one.
HIOSC_KERNEL(shuffles, 50, (int *out)) {
  const int t = threadIdx.x, lane = t % 32;
  const unsigned mask = t < 32 ? 0xffffffffu : 0x3ffffu;
  out += t * 8;
  out[0] = __shfl_sync(mask, t, 3);
  out[1] = __shfl_sync(mask, t, lane + 1, 8);
  out[2] = __shfl_xor_sync(mask, t, 1);
  out[3] = __shfl_xor_sync(mask, t, 8, 16);
  out[4] = __shfl_down_sync(mask, t, 2, 4);
  out[5] = __shfl_up_sync(mask, t, 1);
  const double wide = __shfl_xor_sync(mask, t + 0.25, 3);
  out[6] = int(wide * 4);
  __syncwarp(mask);
  out[7] = t;
}

// Threads that leave early, barriers in a loop, and warps that do different numbers of collectives between two barriers.
HIOSC_KERNEL(barriers, 96, (int *out, int rounds)) {
  __shared__ int values[96];
  const int t = threadIdx.x;
  if (t >= 80) return;
  int mine = t;
  for (int round = 0; round < rounds; ++round) {
    for (int i = 0; i < t / 32; ++i) mine = __shfl_xor_sync(t < 64 ? 0xffffffffu : 0xffffu, mine, 1);
    values[t] = mine;
    __syncthreads();
    mine = values[79 - t] + 1;
    __syncthreads();
  }
  out[blockIdx.x * 80 + t] = mine;
}

// The halves of a warp go different ways.
HIOSC_KERNEL(halves, 32, (int *out)) {
  const int t = threadIdx.x;
  int sum = t;
  if (t < 16) {
    for (int d = 8; d > 0; d /= 2) sum += __shfl_xor_sync(0x0000ffffu, sum, d);
  } else {
    sum = __shfl_sync(0xffff0000u, sum, 20);
  }
  __syncthreads();
  out[t] = __shfl_down_sync(0xffffffffu, sum, 8);
}

struct Triple {
  int a;
  double b;
  char c;
};

// Parameters of any size, three dimensions, dynamic shared memory.
HIOSC_KERNEL(dimensions, 12, (Triple triple, double *out, short offset)) {
  HIOSC_DYNAMIC_SHARED(double, shared);
  const int t = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
  const int b = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
  shared[t] = triple.a + triple.b + triple.c + b;
  __syncthreads();
  out[b * 12 + t] = shared[(t + 1) % 12] + t + offset;
}

// Wrong: half of the threads wait at a barrier, the others in a collective that needs all.
HIOSC_KERNEL(deadlock, 32, (int *out)) {
  if (threadIdx.x < 16) __syncthreads();
  out[threadIdx.x] = __shfl_sync(0xffffffffu, 1, 0);
}
"#;

#[test]
fn threads_of_a_block_meet() {
    use std::ffi::c_void;
    if !hiosc::vgpu::compiler_present() {
        return skipped!("SKIPPED threads_of_a_block_meet: no C++ compiler");
    }
    let objects = Objects::load(&[("threads", THREADS)]);
    let run = |name: &str, grid: [u32; 3], block: [u32; 3], shared: u32, arguments: &[*const c_void]| {
        let blocks = grid.iter().map(|&n| u64::from(n)).product();
        // SAFETY: each call below passes what its kernel declares.
        unsafe { objects.run(name, grid, block, shared, arguments, (0, blocks)) }
    };
    fn at<T>(value: &T) -> *const c_void {
        std::ptr::from_ref(value).cast()
    }

    if std::env::var_os("HIOSC_TEST_DEADLOCK").is_some() {
        let mut out = [0i32; 32];
        run("deadlock", [1, 1, 1], [32, 1, 1], 0, &[at(&out.as_mut_ptr())]);
        return;
    }

    let mut out = [0i32; 50 * 8];
    run("shuffles", [1, 1, 1], [50, 1, 1], 0, &[at(&out.as_mut_ptr())]);
    for (t, got) in (0i32..).zip(out.chunks(8)) {
        let (first, lane) = (t / 32 * 32, t % 32);
        let lanes = if first == 0 { 32 } else { 18 };
        let or_own = |from: i32| if (0..lanes).contains(&from) { first + from } else { t };
        let in_group = |from: i32, width: i32| if from / width == lane / width { or_own(from) } else { t };
        let want = [
            first + 3,
            or_own(lane / 8 * 8 + (lane + 1) % 8),
            or_own(lane ^ 1),
            or_own(lane ^ 8),
            in_group(lane + 2, 4),
            or_own(lane - 1),
            or_own(lane ^ 3) * 4 + 1,
            t,
        ];
        assert_eq!(got, want, "thread {t}");
    }

    let mut out = [0i32; 3 * 80];
    run("barriers", [3, 1, 1], [96, 1, 1], 0, &[at(&out.as_mut_ptr()), at(&7i32)]);
    let mut values: Vec<i32> = (0..80).collect();
    for _ in 0..7 {
        let swapped: Vec<i32> = (0..80usize).map(|t| if t / 32 % 2 == 1 { values[t ^ 1] } else { values[t] }).collect();
        values = (0..80).map(|t| swapped[79 - t] + 1).collect();
    }
    out.chunks(80).for_each(|block| assert_eq!(block, values));

    let mut out = [0i32; 32];
    run("halves", [1, 1, 1], [32, 1, 1], 0, &[at(&out.as_mut_ptr())]);
    assert_eq!(out, std::array::from_fn(|t| if t < 8 { 120 } else { 20 }));

    #[repr(C)]
    struct Triple {
        a: i32,
        b: f64,
        c: i8,
    }
    assert_eq!(objects.param_sizes("dimensions"), [24, 8, 2]);
    let mut out = [0f64; 12 * 12];
    let triple = Triple { a: 1, b: 0.5, c: 2 };
    run("dimensions", [2, 3, 2], [2, 3, 2], 96, &[at(&triple), at(&out.as_mut_ptr()), at(&100i16)]);
    for (i, got) in out.into_iter().enumerate() {
        assert_eq!(got, 3.5 + (i / 12) as f64 + (i % 12) as f64 + 100.0);
    }

    // A kernel whose threads wait for each other for ever ends the process with a message.
    let mut child = scenario::only(module_path!(), "threads_of_a_block_meet");
    let child = child.env("HIOSC_TEST_DEADLOCK", "1").output().expect("the test runs");
    let message = String::from_utf8_lossy(&child.stderr);
    assert!(!child.status.success() && message.contains("deadlock"), "{message}");
}

#[test]
fn the_list_has_every_kind_of_operator() {
    let found: std::collections::BTreeSet<&str> = one_of_each().iter().filter_map(|case| kind_name(&case.kind)).collect();
    let missing: Vec<_> = KINDS.iter().filter(|name| !found.contains(**name)).collect();
    assert!(missing.is_empty(), "{missing:?} is not in tests/support/operators.rs");
}

#[test]
fn headers_compile_without_warnings() {
    if !hiosc::vgpu::compiler_present() {
        return skipped!("SKIPPED headers_compile_without_warnings: no C++ compiler");
    }
    let folder = tempfile::tempdir().expect("a folder");
    let mut sources = std::collections::BTreeMap::new();
    for case in &one_of_each() {
        let (graph, op) = graph_of(case);
        sources
            .extend(hiosc::kernel::candidates(&graph, op, &a40()).expect("a supported operator").into_iter().map(|k| (k.name, k.source)));
    }
    let unit: String = sources.into_values().collect();
    std::fs::write(folder.path().join("all.cpp"), unit).expect("written");
    for from in ["kernels", "vgpu"] {
        for (name, text) in hiosc::embedded::folder(from) {
            std::fs::write(folder.path().join(name), text).expect("written");
        }
    }
    let compiler = std::env::var("CXX").ok().filter(|c| !c.trim().is_empty()).unwrap_or_else(|| "c++".into());
    let mut words = compiler.split_whitespace();
    let output = std::process::Command::new(words.next().expect("not empty"))
        .args(words)
        .args(["-std=c++17", "-Wall", "-Wextra", "-Werror", "-O1", "-c", "-I.", "all.cpp", "-o", "all.o"])
        .current_dir(folder.path())
        .output();
    match output {
        Ok(output) => assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr)),
        Err(e) => skipped!("SKIPPED headers_compile_without_warnings: {compiler}: {e}"),
    }
}

/// All kernels of a model, one after the other, against the reference. `HIOSC_TEST_MODEL` names another model to try.
#[test]
fn a_whole_model() {
    use hiosc::graph::Graph;
    if !hiosc::vgpu::compiler_present() {
        return skipped!("SKIPPED a_whole_model: no C++ compiler");
    }
    let path = std::env::var("HIOSC_TEST_MODEL").unwrap_or_else(|_| "testdata/squeezenet1_1.onnx".into());
    let model = hiosc::import::import(std::path::Path::new(&path), &Default::default()).expect("a supported model");
    let graph: Graph = hiosc::fuse::fuse(model.graph.clone(), &[]).expect("fusable");
    let kernels: Vec<_> =
        graph.op_ids().map(|op| hiosc::kernel::select(&graph, op, &a40()).expect("a kernel for every operator")).collect();
    let files = hiosc::kernel::sources(&kernels);
    let sources: Vec<(&str, &str)> = files.iter().map(|(name, text)| (name.trim_end_matches(".cu"), &text[..])).collect();
    let objects = Objects::load(&sources);

    let mut r = Random(12);
    let inputs: Vec<Constant> = graph.inputs.iter().map(|&t| r.tensor(&graph.tensor(t).shape).values).collect();
    let outputs = run_graph(&objects, &graph, &kernels, &inputs);
    let references = model.reference(&inputs).expect("the reference runs");
    for (got, want) in outputs.iter().zip(&references) {
        assert!(want.bytes().iter().any(|&byte| byte != 0), "{path}: an output of zeros");
        assert!(relative_error(got, want) <= 1e-4, "{path}: outputs differ");
    }
}

#[test]
fn what_has_no_kernel_is_an_error() {
    use hiosc::Error;
    let mut r = Random(9);
    let mut case = |kind: OpKind, shape: &[usize], out: &[usize]| {
        let x = r.tensor(shape);
        let (graph, op) = graph_of(&Case { kind, inputs: vec![x], out: out.to_vec(), expected: Default::default() });
        hiosc::kernel::select(&graph, op, &a40()).expect_err("no kernel computes this")
    };
    assert!(matches!(case(OpKind::Reshape, &[2, 3], &[6]), Error::Internal { .. }));
    assert!(matches!(case(OpKind::Softmax { axis: 1 }, &[2, 0], &[2, 0]), Error::Unsupported(_)));
    assert!(matches!(case(OpKind::Softmax { axis: 2 }, &[2, 3], &[2, 3]), Error::Internal { .. }));
    assert!(matches!(case(OpKind::Concat { axis: 0 }, &[2, 3], &[3, 3]), Error::Internal { .. }));
    assert!(matches!(case(OpKind::Elementwise(Elementwise { expr: Expr::Input(1) }), &[2, 3], &[2, 3]), Error::Internal { .. }));
}

#[test]
fn nvrtc_compiles_every_family() {
    use hiosc::runtime::nvrtc::Nvrtc;
    let nvrtc = match Nvrtc::load() {
        Ok(nvrtc) => nvrtc,
        Err(e) => return skipped!("SKIPPED nvrtc_compiles_every_family: {e}"),
    };
    let kernels: Vec<_> = one_of_each()
        .iter()
        .flat_map(|case| {
            let (graph, op) = graph_of(case);
            hiosc::kernel::candidates(&graph, op, &a40()).expect("a supported operator")
        })
        .collect();
    let archs = ["sm_86".to_string(), "compute_75".to_string()];
    let images = hiosc::program::compile_images(&kernels.iter().collect::<Vec<_>>(), &archs, &nvrtc).expect("NVRTC takes our kernels");
    assert_eq!(images.len(), 2 * kernels.len());
    for (image, kernel) in images.iter().zip(kernels.iter().flat_map(|k| [k, k])) {
        assert_eq!(image.kernel, kernel.name);
        if image.arch == "sm_86" {
            assert!(image.data.starts_with(b"\x7fELF"), "{}", image.file_name());
        } else {
            let ptx = String::from_utf8(image.data.clone()).expect("PTX is text");
            assert!(ptx.contains(&format!(".entry {}", kernel.name)) && ptx.contains(".target sm_75"), "{}", image.file_name());
        }
    }
    let error = nvrtc.compile("broken.cu", "__global__ void k( {", &[], "sm_86").expect_err("this is no program");
    assert!(error.contains("broken.cu"), "{error}");
}

#[test]
fn every_family_holds_under_sanitizers() {
    sanitized::run_all_but(module_path!(), &["nvrtc", "a_whole_model", "headers_compile"]);
}
