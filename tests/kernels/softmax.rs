//! Softmax and its logarithm, with one thread, warp or block per row.

use hiosc::graph::{DType, OpKind, Softmax};

use super::common::{case, positive, typed_case};
use crate::support::harness::{KernelCase, Random, check};
use crate::support::reference;

#[test]
fn softmaxes() {
    let mut r = Random(6);
    let shapes: [(&[usize], usize); 17] = [
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
        // A warp per row, which reads vectors: of four, of two, with lanes that have none.
        (&[5, 128], 1),
        (&[5, 36], 1),
        (&[3, 192], 1),
        (&[3, 768], 1),
        (&[2, 1020], 1),
        (&[2, 1024], 1),
        (&[700, 66], 1),
    ];
    let cases = shapes.iter().map(|&(shape, axis)| {
        let mut x = r.tensor(shape);
        x.floats_mut().iter_mut().for_each(|v| *v *= 100.0); // exp of it would overflow
        x.floats_mut()[0] = f32::NEG_INFINITY;
        KernelCase {
            expected: reference::softmax(axis, &x),
            kind: OpKind::Softmax(Softmax { axis, log: false }),
            out: shape.to_vec(),
            inputs: vec![x],
        }
    });
    check("softmaxes", cases.collect());
}

#[test]
fn logarithms_of_softmaxes() {
    let mut r = Random(24);
    let mut cases = Vec::new();
    let shapes: [(&[usize], usize); 7] =
        [(&[1, 1000], 1), (&[1, 2500], 1), (&[200, 37], 1), (&[3, 5], 1), (&[7, 1], 1), (&[2, 9, 4, 5], 1), (&[6, 300], 0)];
    for (shape, axis) in shapes {
        let mut x = r.tensor(shape);
        x.floats_mut().iter_mut().for_each(|v| *v *= 100.0); // the softmax itself would be 0
        x.floats_mut()[0] = f32::NEG_INFINITY;
        cases.push(case(OpKind::Softmax(Softmax { axis, log: true }), vec![x], shape, |_, v| 1e-5 * (v.f64().abs() + 1.0)));
    }
    check("logarithms of softmaxes", cases);
}

#[test]
fn softmaxes_of_every_type() {
    let mut r = Random(24);
    let mut cases = Vec::new();
    for dtype in DType::ALL.into_iter().filter(|dtype| dtype.is_float()) {
        for (axis, shape) in [(1, [3, 600]), (1, [5, 40]), (1, [3, 256]), (0, [9, 4])] {
            let x = positive(&mut r, dtype, &shape);
            cases.push(typed_case(OpKind::Softmax(Softmax { axis, log: false }), vec![x], &shape, 64.0));
        }
    }
    check("softmaxes of every type", cases);
}
