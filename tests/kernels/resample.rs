//! Resampling by tables. Weights are multiples of 1/8 and elements of 1/16, so sums are exact and
//! every type must match bit for bit, except f64: some of its elements are huge.

use hiosc::graph::{Binary, Constant, DType, Expr, OpKind, Resample, Scalar, TappedAxis};

use super::common::{assert_used, typed_case};
use crate::support::harness::{KernelCase, Random, TensorValues, check};
use crate::support::operators::relu;

/// An axis to resample: its index, its extent in the result, and its number of taps.
type Along = (usize, usize, usize);

/// A resampling of `x` along `axes`; positions are random, and some weights are 0.
fn resample_case(
    r: &mut Random,
    dtype: DType,
    x: &[usize],
    axes: &[Along],
    weighted: bool,
    outside: Option<f64>,
    epilogue: Expr,
) -> KernelCase {
    let mut out = x.to_vec();
    let mut inputs = vec![r.typed(dtype, x)];
    for &(axis, extent, taps) in axes {
        out[axis] = extent;
        let shape = vec![extent, taps];
        let positions = (0..extent * taps).map(|i| {
            let beyond = outside.is_some() && i % taps == 0 && r.below(4) == 0;
            if beyond { -1 } else { r.below(x[axis]) as i32 }
        });
        inputs.push(TensorValues { shape: shape.clone(), values: Constant::I32(positions.collect()) });
        if weighted {
            let weights = (0..extent * taps).map(|_| if r.below(4) == 0 { 0.0 } else { r.below(17) as f32 / 8.0 - 1.0 }).collect();
            inputs.push(TensorValues { shape, values: Constant::F32(weights) });
        }
    }
    (1..epilogue.inputs()).for_each(|_| inputs.push(r.typed(dtype, &out)));
    let tapped = axes.iter().map(|&(axis, _, taps)| TappedAxis { axis, taps }).collect();
    let outside = outside.map(|value| Scalar::from_f64(dtype, value));
    let kind = OpKind::Resample(Resample { axes: tapped, weighted, outside, epilogue });
    // a multiple of 1e300 / 8 is rounded, in each term
    let steps = if dtype == DType::F64 { axes.iter().map(|a| a.2).product::<usize>() } else { 0 };
    typed_case(kind, inputs, &out, steps as f64)
}

/// Shapes, and the axes to resample: first, last, in the middle, of extent 1, to more and to fewer
/// elements.
const SHAPES: [(&[usize], &[Along]); 9] = [
    (&[2, 8, 5, 7], &[(2, 9, 2), (3, 4, 3)]),
    (&[1, 12, 4, 4], &[(2, 8, 1), (3, 8, 1)]),
    (&[3, 5, 6], &[(1, 11, 4)]),
    (&[7], &[(0, 3, 5)]),
    (&[4, 3, 5], &[(0, 7, 2), (2, 2, 2)]),
    (&[1, 2, 3, 4, 5], &[(2, 4, 2), (3, 3, 2), (4, 9, 2)]),
    (&[2, 1, 6, 3], &[(1, 4, 1), (2, 6, 3)]),
    (&[6, 4, 3], &[(0, 3, 1), (1, 1, 1), (2, 8, 1)]),
    (&[5, 16, 9, 4], &[(2, 2, 40)]),
];

#[test]
fn resamplings() {
    let mut r = Random(61);
    let mut cases = Vec::new();
    let sum = Expr::binary(Binary::Add, Expr::Input(1), Expr::identity());
    for (i, (x, axes)) in SHAPES.into_iter().enumerate() {
        for dtype in [DType::F32, DType::F16, DType::F64] {
            for outside in [None, Some(-2.5)] {
                let epilogue = [Expr::identity(), relu(), sum.clone()][(i + usize::from(outside.is_some())) % 3].clone();
                cases.push(resample_case(&mut r, dtype, x, axes, true, outside, epilogue));
            }
        }
    }
    // without weights, elements of any type are copied
    for (x, axes) in SHAPES {
        let axes: Vec<_> = axes.iter().map(|&(axis, extent, _)| (axis, extent, 1)).collect();
        for dtype in DType::ALL {
            cases.push(resample_case(&mut r, dtype, x, &axes, false, Some(1.0), Expr::identity()));
        }
        cases.push(resample_case(&mut r, DType::F32, x, &axes, false, None, sum.clone()));
    }
    let names = check("resamplings", cases);
    assert_used(&names, &["_p8t", "_p4t", "_p2t", "_p1t"]);
}
