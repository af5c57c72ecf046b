//! Concatenation along every axis.

use hiosc::graph::{Concat, DType, OpKind};

use super::common::{assert_used, typed_case};
use crate::support::harness::{KernelCase, Random, check};
use crate::support::reference;

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
        KernelCase { expected: reference::concat(*axis, &inputs), kind: OpKind::Concat(Concat { axis: *axis }), inputs, out }
    });
    check("concatenations", cases.collect());
}

#[test]
fn concatenations_of_every_type() {
    let mut r = Random(21);
    let mut cases = Vec::new();
    for dtype in DType::ALL {
        for shapes in [[[3, 16], [3, 48]], [[3, 5], [3, 2]]] {
            let inputs = shapes.iter().map(|shape| r.typed(dtype, shape)).collect();
            cases.push(typed_case(OpKind::Concat(Concat { axis: 1 }), inputs, &[3, shapes[0][1] + shapes[1][1]], 0.0));
        }
    }
    let names = check("concatenations of every type", cases);
    assert_used(&names, &["_bool_v16", "_f16_v8", "_i64_v2"]);
}
