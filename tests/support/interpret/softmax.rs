//! Softmax and its logarithm, from their definitions.

use hiosc::graph::Softmax;

use super::{Operands, moved};
use crate::support::number::Number;

pub fn softmax(s: &Softmax, of: &Operands) -> Vec<Number> {
    of.each(|i, index| {
        let row: Vec<f64> = (0..of.out[s.axis]).map(|at| of.at(0, &moved(index, s.axis, at)).f64()).collect();
        let largest = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let total: f64 = row.iter().map(|v| (v - largest).exp()).sum();
        let above = of.args[0][i].f64() - largest;
        of.float(if s.log { above - total.ln() } else { above.exp() / total })
    })
}
