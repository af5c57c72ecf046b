//! Reductions of every type, with one thread, warp or block per output.

use hiosc::graph::{Constant, DType, OpKind, Reduce, ReduceKind, Scalar};

use super::common::{assert_used, typed_case};
use crate::support::harness::{KernelCase, Random, check};
use crate::support::number::numbers;
use crate::support::reference;

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
            cases.push(KernelCase { expected: reference::reduce(&reduce, &inputs[0], &out), kind: OpKind::Reduce(reduce), inputs, out });
        }
    }
    let names = check("reductions", cases);
    assert_used(&names, &["thread", "warp", "block"]);
}

#[test]
fn reductions_of_every_type() {
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
    check("reductions of every type", cases);
}

#[test]
fn positions_of_extremes() {
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
    check("positions of extremes", cases);
}
