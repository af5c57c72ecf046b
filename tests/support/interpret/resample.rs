//! Resampling, from its definition.

use hiosc::graph::Resample;

use super::{Operands, sum, unravel};
use crate::support::number::Number;

pub fn resample(r: &Resample, of: &Operands) -> Vec<Number> {
    let tables = if r.weighted { 2 } else { 1 };
    let taps: Vec<usize> = r.axes.iter().map(|a| a.taps).collect();
    of.each(|i, index| {
        let (mut terms, mut outside) = (Vec::new(), false);
        for tap in (0..taps.iter().product()).map(|t| unravel(t, &taps)) {
            let (mut source, mut weight) = (index.to_vec(), 1.0);
            for (k, axis) in r.axes.iter().enumerate() {
                let (positions, row) = (&of.args[1 + tables * k], index[axis.axis] * axis.taps);
                outside = outside || positions[row].f64() < 0.0;
                source[axis.axis] = positions[row + tap[k]].f64().max(0.0) as usize;
                if r.weighted {
                    weight *= of.args[2 + tables * k][row + tap[k]].f64();
                }
            }
            if weight != 0.0 {
                terms.push((of.at(0, &source), Number::float(weight)));
            }
        }
        let result = match r.outside {
            Some(value) if outside => Number::of(value),
            _ if r.weighted => sum(of.dtype, terms.into_iter()),
            _ => terms[0].0,
        };
        of.finish(&r.epilogue, result, 1 + tables * r.axes.len(), i)
    })
}
