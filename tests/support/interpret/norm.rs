//! Normalisation, from its definition.

use hiosc::graph::Norm;

use super::{Operands, ravel, unravel};
use crate::support::number::{Number, Rounding, eval};

pub fn norm(n: &Norm, of: &Operands) -> Vec<Number> {
    let x: Vec<f64> = of.args[0].iter().map(|v| v.f64()).collect();
    // the first element of the row that element `i` belongs to
    let row_of = |i: usize| {
        let mut index = unravel(i, of.out);
        n.axes.iter().for_each(|&axis| index[axis] = 0);
        ravel(&index, of.out)
    };
    let mean_of = |value: &dyn Fn(usize) -> f64| {
        let (mut sums, mut counts) = (vec![0.0; x.len()], vec![0usize; x.len()]);
        for i in 0..x.len() {
            sums[row_of(i)] += value(i);
            counts[row_of(i)] += 1;
        }
        sums.into_iter().zip(counts).map(|(sum, count)| sum / count.max(1) as f64).collect::<Vec<f64>>()
    };
    let means = if n.centred { mean_of(&|i| x[i]) } else { vec![0.0; x.len()] };
    let variances = mean_of(&|i| (x[i] - means[row_of(i)]).powi(2));
    of.each(|i, index| {
        let normalised = of.float((x[i] - means[row_of(i)]) / (variances[row_of(i)] + f64::from(n.epsilon)).sqrt());
        let read = |input: usize| if input == 0 { normalised } else { of.broadcast(input, index) };
        eval(&n.epilogue, &read, Rounding::Rounded)
    })
}
