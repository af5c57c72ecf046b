//! The last part of a recurrent step, from its definition.

use hiosc::graph::Cell;

use super::Operands;
use crate::support::number::Number;

pub fn cell(cell: &Cell, of: &Operands) -> Vec<Number> {
    let hidden = of.out[of.out.len() - 1];
    // a gate of the unit of element `i` of the result; a state is an input with one gate
    let gate = |input: usize, i: usize, gate: usize| {
        let length = of.shapes[input][of.out.len() - 1];
        of.args[input][i / hidden * length + gate * hidden + i % hidden].f64()
    };
    let logistic = |v: f64| 1.0 / (1.0 + (-v).exp());
    let value = |i: usize| match cell {
        Cell::LstmState => logistic(gate(0, i, 2)) * gate(1, i, 0) + logistic(gate(0, i, 0)) * gate(0, i, 3).tanh(),
        Cell::LstmOutput => logistic(gate(0, i, 1)) * gate(1, i, 0).tanh(),
        Cell::Gru => {
            let both = |g: usize| logistic(gate(0, i, g) + gate(1, i, g));
            let next = (gate(0, i, 2) + both(1) * gate(1, i, 2)).tanh();
            next + both(0) * (gate(2, i, 0) - next)
        }
    };
    of.each(|i, _| of.float(value(i)))
}
