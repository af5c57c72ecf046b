//! The largest and smallest elements, and their positions.

use hiosc::graph::{DType, OpKind, TopK};

use super::common::typed_case;
use crate::support::harness::{Random, check};

#[test]
fn orders() {
    let mut r = Random(17);
    let mut cases = Vec::new();
    let shapes: [(&[usize], usize, usize); 6] =
        [(&[3, 40], 1, 5), (&[3, 40], 0, 3), (&[2, 9, 5], 1, 9), (&[500], 0, 1), (&[1, 1], 1, 1), (&[130, 70], 1, 2)];
    for (i, (x, axis, k)) in shapes.into_iter().enumerate() {
        for (j, (largest, positions)) in [(true, false), (true, true), (false, false), (false, true)].into_iter().enumerate() {
            let dtype = [DType::F32, DType::I64, DType::F16, DType::U8, DType::F64][(i + j) % 5];
            let mut out = x.to_vec();
            out[axis] = k;
            cases.push(typed_case(OpKind::TopK(TopK { axis, largest, positions }), vec![r.typed(dtype, x)], &out, 0.0));
        }
    }
    check("orders", cases);
}
