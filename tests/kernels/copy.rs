//! Operators that move elements unchanged: transposition, slices, padding, triangles.

use hiosc::graph::{DType, OpKind, Pad, PadMode, Scalar, Slice, Transpose, Trilu};

use super::common::{assert_used, typed_case};
use crate::support::harness::{KernelCase, Random, check};

/// A case in single precision.
fn copy_case(r: &mut Random, kind: OpKind, x: &[usize], out: &[usize]) -> KernelCase {
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
        cases.push(copy_case(&mut r, OpKind::Transpose(Transpose { permutation: permutation.to_vec() }), x, &out));
    }
    /// Shape, first element, steps, shape of the result.
    type SliceCase = (&'static [usize], &'static [usize], &'static [isize], &'static [usize]);
    let slices: [SliceCase; 10] = [
        (&[9], &[6], &[1], &[3]), // this one and the next share a kernel
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

#[test]
fn copies_of_every_type() {
    let mut r = Random(21);
    let mut cases = Vec::new();
    for dtype in DType::ALL {
        let pad = |mode, before: &[usize], after: &[usize]| OpKind::Pad(Pad { before: before.to_vec(), after: after.to_vec(), mode });
        let slice = |begin: &[usize], step: &[isize]| OpKind::Slice(Slice { begin: begin.to_vec(), step: step.to_vec() });
        let value = PadMode::Constant(Scalar::from_f64(dtype, -3.5));
        let kinds: [(OpKind, &[usize], &[usize]); 6] = [
            (OpKind::Transpose(Transpose { permutation: vec![1, 0, 2] }), &[3, 5, 32], &[5, 3, 32]),
            (OpKind::Transpose(Transpose { permutation: vec![2, 0, 1] }), &[3, 5, 7], &[7, 3, 5]),
            (slice(&[1, 16], &[1, 1]), &[4, 48], &[2, 32]),
            (slice(&[3, 6], &[-2, -1]), &[4, 7], &[2, 7]),
            (pad(value, &[1, 2], &[0, 3]), &[3, 11], &[4, 16]),
            (pad(PadMode::Reflect, &[1, 2], &[0, 3]), &[3, 11], &[4, 16]),
        ];
        for (kind, x, out) in kinds {
            cases.push(typed_case(kind, vec![r.typed(dtype, x)], out, 0.0));
        }
    }
    let names = check("copies of every type", cases);
    assert_used(&names, &["_bool_v16", "_f16_v8", "_i64_v2"]);
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
