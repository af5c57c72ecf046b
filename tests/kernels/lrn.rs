//! Local response normalisation.

use hiosc::graph::{Lrn, OpKind};

use super::common::case;
use crate::support::harness::{Random, check};

#[test]
fn local_responses() {
    let mut r = Random(24);
    let mut cases = Vec::new();
    for (shape, size) in [(&[2, 5, 4, 3][..], 3), (&[1, 7, 5], 4), (&[1, 3, 2, 2], 9), (&[2, 6], 1)] {
        let lrn = Lrn { size, alpha: 0.5, beta: 0.75, bias: 1.5 };
        cases.push(case(OpKind::Lrn(lrn), vec![r.tensor(shape)], shape, |_, v| 1e-5 * (v.f64().abs() + 1.0)));
    }
    check("local responses", cases);
}
