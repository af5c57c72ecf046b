//! Local response normalisation, from its definition.

use hiosc::graph::Lrn;

use super::{Operands, moved};
use crate::support::number::Number;

pub fn lrn(l: &Lrn, of: &Operands) -> Vec<Number> {
    of.each(|i, index| {
        let channel = index[1];
        let (first, last) = (channel.saturating_sub((l.size - 1) / 2), (channel + l.size / 2).min(of.out[1] - 1));
        let sum: f64 = (first..=last).map(|c| of.at(0, &moved(index, 1, c)).f64().powi(2)).sum();
        let scale = f64::from(l.bias) + f64::from(l.alpha) / l.size as f64 * sum;
        of.float(of.args[0][i].f64() / scale.powf(l.beta.into()))
    })
}
