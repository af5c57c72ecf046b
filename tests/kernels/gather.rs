//! Gather: whole slices, single elements, and slices at tuples of indices.

use hiosc::graph::{DType, Gather, OpKind};

use super::common::{indices, typed_case};
use crate::support::harness::{Random, check};

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
        cases.push(typed_case(OpKind::Gather(Gather::Slices { axis }), inputs, &out, 0.0));
    }
    // both share a kernel
    for (x, axis, out) in [(&[2, 3, 8][..], 1, &[2, 9, 8][..]), (&[2, 1, 3, 2, 4], 2, &[2, 1, 9, 2, 4])] {
        let inputs = vec![r.tensor(x), indices(&mut r, DType::I64, x[axis], &[9])];
        cases.push(typed_case(OpKind::Gather(Gather::Slices { axis }), inputs, out, 0.0));
    }
    let elements: [(&[usize], usize, &[usize]); 5] =
        [(&[3, 4], 1, &[3, 6]), (&[3, 4], 0, &[2, 4]), (&[2, 5, 3], 1, &[1, 7, 2]), (&[6], 0, &[2]), (&[2, 3, 1], 2, &[2, 3, 4])];
    for (i, (x, axis, out)) in elements.into_iter().enumerate() {
        let inputs = vec![r.typed(ELEMENTS[i], x), indices(&mut r, DType::I64, x[axis], out)];
        cases.push(typed_case(OpKind::Gather(Gather::Elements { axis }), inputs, out, 0.0));
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
        cases.push(typed_case(OpKind::Gather(Gather::Nd { batch_dims }), inputs, out, 0.0));
    }
    let names = check("reading by index", cases);
    assert!(
        names.is_empty() || names.iter().any(|name| name.starts_with("gather_o") && name.contains("_v")),
        "no gather moves several at once"
    );
}
