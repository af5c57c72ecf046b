//! The families of `graph::dense` over awkward shapes; what must come out is what the plain interpreter says.

use hiosc::graph::{
    Binary, ConvNd, DType, Expr, GridSample, Interpolation, Lrn, MatMul, Norm, OpKind, Outside, PoolIndices, PoolKind, PoolNd, Trilu,
    Unary, WindowAxis,
};

use super::typed_case;
use crate::support::harness::{Case, Expected, Random, Tensor, check, graph_of};
use crate::support::interpret::operate;
use crate::support::number::numbers;
use crate::support::operators::{attention, axis, conv_nd};

/// What the interpreter computes for `inputs`.
fn interpreted(kind: &OpKind, inputs: &[Tensor], out: &[usize]) -> Vec<f32> {
    let case = Case { kind: kind.clone(), inputs: inputs.to_vec(), out: out.to_vec(), expected: Default::default() };
    let (graph, op) = graph_of(&case);
    graph.verify().unwrap_or_else(|e| panic!("{e}"));
    let args: Vec<_> = inputs.iter().map(|x| numbers(&x.values)).collect();
    operate(&graph, graph.operator(op), &args).into_iter().map(|v| v.f64() as f32).collect()
}

/// A case whose tolerance is `relative` of the sum of magnitudes `scale` says, or of the value and 1.
fn case(kind: OpKind, inputs: Vec<Tensor>, out: &[usize], relative: f64, scale: Option<Vec<f32>>) -> Case {
    let values = interpreted(&kind, &inputs, out);
    let mut expected = Expected::default();
    for (i, &v) in values.iter().enumerate() {
        let size = scale.as_ref().map_or(f64::from(v.abs()) + 1.0, |s| f64::from(s[i]));
        expected.push(f64::from(v), relative * size);
    }
    Case { kind, inputs, out: out.to_vec(), expected }
}

/// A convolution of `x` with `k` filters; `out` are the extents of a transposed one, which may end later than its window.
fn conv_case(r: &mut Random, x: &[usize], k: usize, conv: ConvNd, beyond: usize) -> Case {
    let extent = |(axis, &size): (&WindowAxis, &usize)| {
        if conv.transposed {
            (size - 1) * axis.stride + axis.reach() - axis.pad_begin - axis.pad_end + beyond
        } else {
            (size + axis.pad_begin + axis.pad_end - axis.reach()) / axis.stride + 1
        }
    };
    let out: Vec<usize> = [x[0], k].into_iter().chain(conv.axes.iter().zip(&x[2..]).map(extent)).collect();
    let weights: Vec<usize> = [k, x[1] / conv.groups].into_iter().chain(conv.axes.iter().map(|a| a.kernel)).collect();
    let mut inputs = vec![r.tensor(x), r.tensor(&weights)];
    if conv.bias {
        inputs.push(r.tensor(&[k]));
    }
    (1..conv.epilogue.inputs()).for_each(|_| inputs.push(r.tensor(&out)));
    // the same sums over magnitudes
    let sizes: Vec<Tensor> =
        inputs.iter().map(|x| Tensor { values: x.floats().iter().map(|v| v.abs()).collect::<Vec<f32>>().into(), ..x.clone() }).collect();
    let kind = OpKind::ConvNd(conv);
    let scale = interpreted(&kind, &sizes, &out).iter().map(|s| s.abs() + 1.0).collect();
    case(kind, inputs, &out, 4e-6, Some(scale))
}

#[test]
fn convolutions_over_any_number_of_axes() {
    let mut r = Random(21);
    let relu = Expr::identity().then(Unary::Relu);
    let residual = Expr::binary(Binary::Add, Expr::Input(0), Expr::Input(1));
    let mut cases = Vec::new();
    for transposed in [false, true] {
        let conv = |axes: &[[usize; 5]]| conv_nd(transposed, axes);
        cases.extend([
            conv_case(&mut r, &[1, 3, 7], 4, conv(&[[3, 1, 1, 0, 0]]), 0),
            conv_case(&mut r, &[2, 4, 9], 6, ConvNd { groups: 2, bias: true, ..conv(&[[4, 3, 1, 1, 2]]) }, 0),
            conv_case(
                &mut r,
                &[1, 3, 5, 6],
                8,
                ConvNd { bias: true, epilogue: relu.clone(), ..conv(&[[2, 2, 1, 0, 0], [2, 2, 1, 0, 0]]) },
                0,
            ),
            conv_case(
                &mut r,
                &[1, 5, 6, 4],
                10,
                ConvNd { groups: 5, ..conv(&[[3, 2, 1, 1, 1], [3, 2, 1, 1, 0]]) },
                usize::from(transposed),
            ),
            conv_case(&mut r, &[1, 1, 4, 4], 1, conv(&[[3, 1, 1, 2, 2], [1, 1, 1, 0, 0]]), 0),
            conv_case(&mut r, &[2, 3, 9, 8], 5, ConvNd { epilogue: residual.clone(), ..conv(&[[3, 2, 3, 1, 0], [2, 3, 2, 0, 1]]) }, 0),
            conv_case(&mut r, &[1, 2, 4, 5, 6], 3, conv(&[[3, 1, 1, 1, 1], [3, 1, 1, 1, 1], [3, 1, 1, 1, 1]]), 0),
            conv_case(
                &mut r,
                &[2, 4, 5, 1, 7],
                8,
                ConvNd { groups: 2, bias: true, ..conv(&[[2, 2, 1, 0, 0], [1, 1, 1, 0, 0], [3, 2, 2, 2, 1]]) },
                0,
            ),
            conv_case(&mut r, &[1, 8, 3, 3, 3], 16, ConvNd { bias: true, ..conv(&[[2, 1, 1, 0, 0]; 3]) }, usize::from(transposed)),
        ]);
    }
    let names = check("convolutions over any number of axes", cases);
    for part in ["convt_", "direct8", "direct1t"] {
        assert!(names.is_empty() || names.iter().any(|name| name.contains(part)), "no case uses {part}");
    }
}

#[test]
fn poolings_over_any_number_of_axes() {
    let mut r = Random(22);
    let mut cases = Vec::new();
    /// Shape of the input, window, extents of the output.
    type Form = (&'static [usize], &'static [[usize; 5]], &'static [usize]);
    let forms: [Form; 5] = [
        (&[2, 3, 9], &[[3, 2, 1, 0, 0]], &[4]),
        (&[1, 2, 5, 6, 7], &[[2, 2, 1, 0, 0], [3, 1, 1, 1, 1], [2, 3, 2, 0, 1]], &[2, 6, 2]),
        (&[1, 2, 4, 4, 4], &[[3, 2, 1, 0, 0]; 3], &[2, 2, 2]), // ceil mode: the last windows reach over the edge
        (&[1, 3, 4, 1, 3], &[[4, 1, 1, 0, 0], [1, 1, 1, 0, 0], [3, 1, 1, 0, 0]], &[1, 1, 1]),
        (&[1, 1, 3, 3, 2, 2], &[[2, 1, 1, 1, 0], [2, 1, 1, 0, 1], [1, 1, 1, 0, 0], [2, 1, 1, 0, 0]], &[3, 3, 2, 1]),
    ];
    for kind in
        [PoolKind::Max, PoolKind::Sum, PoolKind::Average { count_include_pad: false }, PoolKind::Average { count_include_pad: true }]
    {
        for (shape, axes, out) in forms {
            let mut x = r.tensor(shape);
            let last = x.values.len() - 1;
            x.floats_mut()[0] = f32::NEG_INFINITY;
            x.floats_mut()[last / 2] = f32::NAN;
            x.floats_mut()[last] = f32::INFINITY;
            let pool = PoolNd { kind, axes: axes.iter().map(|&a| axis(a)).collect() };
            let out = [&shape[..2], out].concat();
            cases.push(case(OpKind::PoolNd(pool), vec![x], &out, 4e-6, Some(vec![200.0; out.iter().product()])));
        }
    }
    check("poolings over any number of axes", cases);
}

#[test]
fn normalisations() {
    let mut r = Random(23);
    let scaled = Expr::binary(Binary::Mul, Expr::Input(0), Expr::Input(1));
    let affine = Expr::binary(Binary::Add, scaled.clone(), Expr::Input(2));
    let mut cases = Vec::new();
    let mut add = |shape: &[usize], axes: &[usize], epilogue: &Expr, more: &[&[usize]], special: Option<f32>| {
        for centred in [false, true] {
            let mut inputs = vec![r.tensor(shape)];
            inputs[0].floats_mut().iter_mut().for_each(|v| *v += 3.0); // a mean that is not 0
            if let Some(value) = special {
                inputs[0].floats_mut()[0] = value;
            }
            inputs.extend(more.iter().map(|shape| r.tensor(shape)));
            let norm = Norm { centred, axes: axes.to_vec(), epsilon: 1e-5, epilogue: epilogue.clone() };
            let kind = OpKind::Norm(norm);
            let out = interpreted(&kind, &inputs, shape);
            let scale = out.iter().map(|v| v.abs() + 2.0).collect();
            cases.push(case(kind, inputs, shape, 1e-5, Some(scale)));
        }
    };
    let plain = Expr::identity();
    add(&[3, 40], &[1], &plain, &[], None);
    add(&[197, 192], &[1], &affine, &[&[1, 192], &[1, 192]], None);
    add(&[2, 3, 700], &[2], &scaled, &[&[1, 1, 700]], None); // few long rows: a block each
    add(&[2, 3000], &[1], &affine, &[&[1, 3000], &[2, 1]], None);
    add(&[5, 3], &[1], &plain, &[], None);
    add(&[4, 1], &[1], &plain, &[], None); // rows of one element: variance 0
    add(&[2, 8, 5, 5], &[2, 3], &affine, &[&[1, 8, 1, 1], &[1, 8, 1, 1]], None); // InstanceNorm
    add(&[2, 3, 4, 5, 5], &[2, 3, 4], &affine, &[&[1, 3, 4, 1, 1], &[1, 3, 4, 1, 1]], None); // GroupNorm
    add(&[3, 40, 7, 7], &[1], &affine, &[&[1, 40, 1, 1], &[3, 1, 7, 7]], None); // over channels
    add(&[1, 9, 60, 60], &[1], &plain, &[], None); // many rows side by side
    add(&[6, 5, 4], &[0, 2], &plain, &[], None);
    add(&[1, 1, 64], &[0, 1, 2], &Expr::Input(0).then(Unary::Gelu), &[], None);
    add(&[2, 50], &[1], &plain, &[], Some(f32::NAN));
    add(&[2, 50], &[1], &plain, &[], Some(f32::INFINITY));
    let names = check("normalisations", cases);
    for part in ["thread", "warp", "block", "rmsnorm"] {
        assert!(names.is_empty() || names.iter().any(|name| name.contains(part)), "no case uses {part}");
    }
}

#[test]
fn local_responses_and_logarithms_of_softmaxes() {
    let mut r = Random(24);
    let mut cases = Vec::new();
    for (shape, size) in [(&[2, 5, 4, 3][..], 3), (&[1, 7, 5], 4), (&[1, 3, 2, 2], 9), (&[2, 6], 1)] {
        let lrn = Lrn { size, alpha: 0.5, beta: 0.75, bias: 1.5 };
        cases.push(case(OpKind::Lrn(lrn), vec![r.tensor(shape)], shape, 1e-5, None));
    }
    let shapes: [(&[usize], usize); 7] =
        [(&[1, 1000], 1), (&[1, 2500], 1), (&[200, 37], 1), (&[3, 5], 1), (&[7, 1], 1), (&[2, 9, 4, 5], 1), (&[6, 300], 0)];
    for (shape, axis) in shapes {
        let mut x = r.tensor(shape);
        x.floats_mut().iter_mut().for_each(|v| *v *= 100.0); // the softmax itself would be 0
        x.floats_mut()[0] = f32::NEG_INFINITY;
        cases.push(case(OpKind::LogSoftmax { axis }, vec![x], shape, 1e-5, None));
    }
    check("local responses and logarithms of softmaxes", cases);
}

#[test]
fn samples_at_computed_places() {
    let mut r = Random(25);
    let mut cases = Vec::new();
    for interpolation in [Interpolation::Nearest, Interpolation::Linear, Interpolation::Cubic] {
        for outside in [Outside::Zeros, Outside::Border, Outside::Reflection] {
            for align_corners in [false, true] {
                // the grid reaches from -2 to 2: twice beyond the edges
                let mut add = |x: &[usize], grid: &[usize]| {
                    let out = [&x[..2], &grid[1..grid.len() - 1]].concat();
                    let inputs = vec![r.tensor(x), r.tensor(grid)];
                    let kind = OpKind::GridSample(GridSample { interpolation, outside, align_corners });
                    cases.push(case(kind, inputs, &out, 2e-5, Some(vec![4.0; out.iter().product()])));
                };
                add(&[2, 3, 5, 7], &[2, 4, 6, 2]);
                add(&[1, 8, 1, 4], &[1, 3, 3, 2]);
                if interpolation != Interpolation::Cubic {
                    add(&[1, 2, 9], &[1, 11, 1]);
                    add(&[2, 3, 3, 4, 5], &[2, 2, 3, 4, 3]);
                }
            }
        }
    }
    check("samples at computed places", cases);
}

/// Attention of contiguous operands.
fn attention_case(r: &mut Random, heads: [usize; 3], extents: [usize; 4], causal: bool, mask: Option<[usize; 4]>) -> Case {
    let (attention, shapes, y) = attention(heads, extents, causal, mask);
    let mut inputs: Vec<Tensor> = shapes[..3].iter().map(|shape| r.tensor(shape)).collect();
    if let Some(shape) = mask {
        let mut mask = r.tensor(&shape);
        // every third column is hidden, and the whole first row: NaN
        mask.floats_mut().iter_mut().enumerate().filter(|(i, _)| i % 3 == 0 || *i < shape[3]).for_each(|(_, v)| *v = f32::NEG_INFINITY);
        inputs.push(mask);
    }
    case(OpKind::Attention(Box::new(attention)), inputs, &y, 2e-5, None)
}

#[test]
fn attentions() {
    let mut r = Random(26);
    let mut cases = vec![
        attention_case(&mut r, [1, 3, 3], [197, 197, 64, 64], false, None),
        attention_case(&mut r, [2, 2, 2], [4, 6, 8, 8], false, None),
        attention_case(&mut r, [2, 6, 2], [9, 33, 10, 7], false, None), // heads share, nothing is a multiple of four
        attention_case(&mut r, [1, 2, 1], [40, 40, 16, 16], true, None),
        attention_case(&mut r, [1, 1, 1], [3, 50, 5, 20], true, None), // a few new rows behind many old columns
        attention_case(&mut r, [1, 2, 2], [6, 4, 8, 8], true, None),   // rows that see nothing
        attention_case(&mut r, [2, 3, 3], [5, 70, 12, 12], false, Some([2, 1, 5, 70])),
        attention_case(&mut r, [2, 2, 2], [5, 7, 12, 12], false, Some([1, 1, 5, 7])),
        attention_case(&mut r, [1, 2, 2], [5, 7, 12, 12], false, Some([1, 2, 1, 7])),
        attention_case(&mut r, [1, 1, 1], [20, 40, 256, 256], false, None),
        attention_case(&mut r, [1, 1, 1], [1, 1, 1, 1], false, None),
    ];
    // operands side by side in one tensor, `[row, (q k v), head, depth]`, as exporters leave them; the result as `[row, head, depth]`
    let [rows, heads, depth] = [21, 3, 8];
    let packed = |x: usize| [0, depth, x * heads * depth, 1];
    let plain = attention_case(&mut r, [1, heads, heads], [rows, rows, depth, depth], false, None);
    let OpKind::Attention(mut attention) = plain.kind else { unreachable!("an attention") };
    (attention.q_strides, attention.k_strides, attention.v_strides, attention.y_strides) = (packed(3), packed(3), packed(3), packed(1));
    let inputs = (0..3).map(|_| r.tensor(&[rows, 3, heads, depth])).collect();
    cases.push(case(OpKind::Attention(attention), inputs, &[rows, heads, depth], 2e-5, None));
    let names = check("attentions", cases);
    for part in ["bm32", "bm16", "bm8b", "causal"] {
        assert!(names.is_empty() || names.iter().any(|name| name.contains(part)), "no case uses {part}");
    }
}

#[test]
fn triangles_of_every_type() {
    let mut r = Random(27);
    let mut cases = Vec::new();
    for (i, dtype) in DType::ALL.into_iter().enumerate() {
        for (shape, diagonal) in [(&[3, 5][..], 0), (&[2, 4, 3], -1), (&[2, 1, 7], 2), (&[4, 4], 9), (&[4, 4], -9)] {
            let kind = OpKind::Trilu(Trilu { upper: i % 2 == 0, diagonal });
            cases.push(typed_case(kind, vec![r.typed(dtype, shape)], shape, 0.0));
        }
    }
    check("triangles of every type", cases);
}

#[test]
fn places_of_maxima() {
    let mut r = Random(28);
    let mut cases = Vec::new();
    /// Shape of the input, window, extents of the output.
    type Form = (&'static [usize], &'static [[usize; 5]], &'static [usize]);
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
    check("places of maxima", cases);
}

#[test]
fn sums_of_other_types() {
    let mut r = Random(29);
    let mut cases = Vec::new();
    for dtype in [DType::I8, DType::U8, DType::I32, DType::I64, DType::U64] {
        // integers are exact, extreme ones included: they wrap around
        for transposed in [false, true] {
            let axes = vec![axis([2, 2, 1, 0, 0]), axis([3, 1, 1, 1, 1])];
            let kind = OpKind::ConvNd(ConvNd { transposed, axes, groups: 2, bias: true, epilogue: Expr::identity() });
            let inputs = vec![r.typed(dtype, &[2, 4, 6, 5]), r.typed(dtype, &[6, 2, 2, 3]), r.typed(dtype, &[6])];
            let out = if transposed { [2, 6, 12, 5] } else { [2, 6, 3, 5] };
            cases.push(typed_case(kind, inputs, &out, 0.0));
        }
        for kind in [PoolKind::Max, PoolKind::Sum] {
            let pool = PoolNd { kind, axes: vec![axis([3, 2, 1, 1, 1]), axis([2, 1, 1, 0, 0])] };
            cases.push(typed_case(OpKind::PoolNd(pool), vec![r.typed(dtype, &[1, 3, 7, 4])], &[1, 3, 4, 3], 0.0));
        }
        let strides = ([20, 5, 1], [0, 1, 5], [12, 3, 1]);
        let matmul = MatMul {
            batch: 2,
            m: 4,
            n: 3,
            k: 5,
            a_strides: strides.0,
            b_strides: strides.1,
            c_strides: strides.2,
            bias: dtype == DType::I32,
            epilogue: Expr::identity(),
        };
        let mut inputs = vec![r.typed(dtype, &[2, 4, 5]), r.typed(dtype, &[3, 5])];
        if matmul.bias {
            inputs.push(r.typed(dtype, &[3]));
        }
        cases.push(typed_case(OpKind::MatMul(matmul), inputs, &[2, 4, 3], 0.0));
    }
    check("sums of other types", cases);
}
