//! Sampling at computed positions, from its definition.

use hiosc::graph::{GridSample, Interpolation, Outside};

use super::{Operands, ravel, unravel};
use crate::support::number::Number;

pub fn grid_sample(g: &GridSample, of: &Operands) -> Vec<Number> {
    let shape = of.shapes[0];
    let axes = shape.len() - 2;
    let bounds = |d: usize| if g.align_corners { (0.0, shape[2 + d] as f32 - 1.0) } else { (-0.5, shape[2 + d] as f32 - 0.5) };
    of.each(|_, index| {
        let point = ravel(&[&index[..1], &index[2..]].concat(), &[&of.out[..1], &of.out[2..]].concat());
        // in single precision, which the result of nearest depends on
        let mut position: Vec<f32> = (0..axes)
            .map(|d| {
                let (a, size) = (of.args[1][point * axes + axes - 1 - d].f64() as f32, shape[2 + d] as f32);
                if g.align_corners { (a + 1.0) / 2.0 * (size - 1.0) } else { ((a + 1.0) * size - 1.0) / 2.0 }
            })
            .collect();
        if g.interpolation == Interpolation::Nearest {
            position.iter_mut().for_each(|a| *a = a.round_ties_even());
        }
        if (0..axes).any(|d| position[d] < bounds(d).0 || position[d] > bounds(d).1) {
            for (d, a) in position.iter_mut().enumerate() {
                *a = match g.outside {
                    Outside::Zeros => *a,
                    // each neighbour is clamped on its own
                    Outside::Border if g.interpolation == Interpolation::Cubic => *a,
                    Outside::Border => a.clamp(0.0, shape[2 + d] as f32 - 1.0),
                    Outside::Reflection => mirrored(*a, bounds(d).0, bounds(d).1),
                };
            }
        }
        let element = |at: &[isize]| {
            let mut full = index[..2].to_vec();
            for (d, &at) in at.iter().enumerate() {
                let last = shape[2 + d] as isize - 1;
                full.push(match g.outside {
                    Outside::Zeros if at < 0 || at > last => return 0.0,
                    Outside::Zeros => at,
                    Outside::Border => at.clamp(0, last),
                    Outside::Reflection => (mirrored(at as f32, bounds(d).0, bounds(d).1) as isize).clamp(0, last),
                } as usize);
            }
            of.at(0, &full).f64()
        };
        let weight = |distance: f64| match g.interpolation {
            Interpolation::Nearest => 1.0,
            Interpolation::Linear => 1.0 - distance,
            Interpolation::Cubic if distance <= 1.0 => 1.25 * distance.powi(3) - 2.25 * distance.powi(2) + 1.0,
            Interpolation::Cubic => -0.75 * (distance.powi(3) - 5.0 * distance.powi(2) + 8.0 * distance - 4.0),
        };
        let (before, window) = match g.interpolation {
            Interpolation::Nearest => (0, 1),
            Interpolation::Linear => (0, 2),
            Interpolation::Cubic => (1, 4),
        };
        let mut sum = 0.0;
        for tap in 0..usize::pow(window, axes as u32) {
            let tap = unravel(tap, &vec![window; axes]);
            let at: Vec<isize> = tap.iter().zip(&position).map(|(&k, a)| a.floor() as isize + k as isize - before).collect();
            let weights: f64 = at.iter().zip(&position).map(|(&at, &a)| weight((at as f64 - f64::from(a)).abs())).product();
            sum += weights * element(&at);
        }
        of.float(sum)
    })
}

/// The position `a`, reflected into `low..=high`.
fn mirrored(mut a: f32, low: f32, high: f32) -> f32 {
    if high == low {
        return low;
    }
    // as often as needed; coordinates in tests are small
    while a < low || a > high {
        a = if a < low { 2.0 * low - a } else { 2.0 * high - a };
    }
    a
}
