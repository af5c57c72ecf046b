//! GridSample: sampling at computed positions.

use hiosc::graph::{GridSample, Interpolation, OpKind, Outside};

use super::common::case;
use crate::support::harness::{Random, check};

#[test]
fn samples_at_computed_positions() {
    let mut r = Random(25);
    let mut cases = Vec::new();
    for interpolation in [Interpolation::Nearest, Interpolation::Linear, Interpolation::Cubic] {
        for outside in [Outside::Zeros, Outside::Border, Outside::Reflection] {
            for align_corners in [false, true] {
                // the grid reaches from -2 to 2: twice beyond the edges
                let mut add = |x: &[usize], grid: &[usize]| {
                    let out = [&x[..2], &grid[1..grid.len() - 1]].concat();
                    let inputs = vec![r.tensor(x), r.tensor(grid)];
                    let kind = OpKind::GridSample(GridSample { interpolation, outside, align_corners });
                    cases.push(case(kind, inputs, &out, |_, _| 8e-5));
                };
                add(&[2, 3, 5, 7], &[2, 4, 6, 2]);
                add(&[1, 8, 1, 4], &[1, 3, 3, 2]);
                if interpolation != Interpolation::Cubic {
                    add(&[1, 2, 9], &[1, 11, 1]);
                    add(&[2, 3, 3, 4, 5], &[2, 2, 3, 4, 3]);
                }
            }
        }
    }
    check("samples at computed positions", cases);
}
