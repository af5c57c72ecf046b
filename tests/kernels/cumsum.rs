//! Running sums, forwards and backwards.

use hiosc::graph::{CumSum, DType, OpKind};

use super::common::{case, typed_case};
use crate::support::harness::{Random, check};

#[test]
fn running_sums() {
    let mut r = Random(14);
    let mut cases = Vec::new();
    let shapes: [(&[usize], usize); 7] =
        [(&[5], 0), (&[3, 100], 1), (&[2, 33, 4], 1), (&[40, 3, 50], 0), (&[3000, 7], 1), (&[1, 1, 3], 1), (&[2, 64], 1)];
    for (shape, axis) in shapes {
        for (exclusive, reverse) in [(false, false), (true, false), (false, true), (true, true)] {
            let kind = OpKind::CumSum(CumSum { axis, exclusive, reverse });
            cases.push(case(kind.clone(), vec![r.tensor(shape)], shape, |_, _| 4e-6 * shape[axis] as f64));
            for dtype in [DType::I64, DType::I32, DType::U8] {
                cases.push(typed_case(kind.clone(), vec![r.typed(dtype, shape)], shape, 0.0));
            }
        }
    }
    check("running sums", cases);
}
