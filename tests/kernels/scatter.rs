//! Scatter: single elements, and slices at tuples of indices.

use hiosc::graph::{DType, OpKind, Scatter, Update};

use super::common::{assert_used, indices, typed_case};
use crate::support::harness::{Random, check};

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
        (&[3000, 4], 1, &[2999, 20]), // the kernel with one thread per line
        (&[1, 1], 0, &[1, 1]),
    ];
    for (i, (x, axis, shape)) in elements.into_iter().enumerate() {
        for (j, update) in all.into_iter().enumerate() {
            let dtype = [DType::F32, DType::I64, DType::I8, DType::F64][(i + j) % 4];
            let inputs = vec![r.typed(dtype, x), indices(&mut r, [DType::I64, DType::I32][j % 2], x[axis], shape), r.typed(dtype, shape)];
            cases.push(typed_case(OpKind::Scatter(Scatter::Elements { axis, update }), inputs, x, 0.0));
        }
    }
    let shapes: [(&[usize], &[usize]); 6] =
        [(&[4, 4, 4], &[2, 1]), (&[8], &[4, 1]), (&[4, 5], &[3, 3, 2]), (&[3, 40], &[200, 2]), (&[2, 3], &[2]), (&[70, 3], &[300, 1])];
    for (i, (x, shape)) in shapes.into_iter().enumerate() {
        for (j, update) in all.into_iter().enumerate() {
            let dtype = [DType::F32, DType::I32, DType::U8, DType::F64][(i + j) % 4];
            let (tuple, tuples) = shape.split_last().expect("an axis of tuples");
            let updates = [tuples, &x[*tuple..]].concat();
            let inputs = vec![r.typed(dtype, x), indices(&mut r, DType::I64, x[0], shape), r.typed(dtype, &updates)];
            cases.push(typed_case(OpKind::Scatter(Scatter::Nd { update }), inputs, x, 0.0));
        }
    }
    let names = check("writing by index", cases);
    assert_used(&names, &["scatter_lines", "scatter_elements"]);
}
