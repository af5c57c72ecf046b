//! Resampling, from its definition.

use hiosc::graph::{DType, Resample};

use super::{ravel, sum, unravel};
use crate::support::number::{Number, Rounding, eval};

pub fn resample(r: &Resample, of: DType, args: &[Vec<Number>], shapes: &[&[usize]], out: &[usize]) -> Vec<Number> {
    let per_axis = if r.weighted { 2 } else { 1 };
    let first_more = 1 + per_axis * r.axes.len();
    let taps: Vec<usize> = r.axes.iter().map(|a| a.taps).collect();
    let value = |i: usize| {
        let index = unravel(i, out);
        let (mut terms, mut outside) = (Vec::new(), false);
        for tap in (0..taps.iter().product()).map(|t| unravel(t, &taps)) {
            let (mut place, mut weight) = (index.clone(), 1.0);
            for (k, axis) in r.axes.iter().enumerate() {
                let row = index[axis.axis] * axis.taps;
                outside = outside || args[1 + per_axis * k][row].f64() < 0.0;
                place[axis.axis] = args[1 + per_axis * k][row + tap[k]].f64().max(0.0) as usize;
                if r.weighted {
                    weight *= args[2 + per_axis * k][row + tap[k]].f64();
                }
            }
            if weight != 0.0 {
                terms.push((args[0][ravel(&place, shapes[0])], Number::float(weight)));
            }
        }
        let result = match r.outside {
            Some(value) if outside => Number::of(value),
            _ if r.weighted => sum(of, terms.into_iter()),
            _ => terms[0].0,
        };
        eval(&r.epilogue, &|j| if j == 0 { result } else { args[first_more + j - 1][i] }, Rounding::Rounded)
    };
    (0..out.iter().product()).map(value).collect()
}
