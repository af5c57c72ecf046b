//! The last part of one step of a recurrent layer, after its matrix products: the gates, and how
//! they update the state.
//!
//! The gates are side by side in one tensor `[.., gates * hidden]`, in ONNX's order, before their
//! activations. Each cell is one scalar function of its inputs, unit by unit; `s` is the logistic
//! function.

use std::fmt::{self, Display, Formatter};

use super::{Attributes, elements};

/// What is computed; inputs other than gates, and the output, are `[.., hidden]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cell {
    /// The cell state of an LSTM. Inputs: gates `i, o, f, c`, state `C'`.
    /// Output: `s(f) * C' + s(i) * tanh(c)`.
    LstmState,
    /// The output of an LSTM. Inputs: gates `i, o, f, c`, the *new* state `C`.
    /// Output: `s(o) * tanh(C)`.
    LstmOutput,
    /// The state of a GRU whose reset gate acts after the product. Inputs: gates `z, r, h` of the
    /// input, gates `z, r, h` of the state, state `H'`. Output: `n + s(z) * (H' - n)` with
    /// `n = tanh(h of the input + s(r) * h of the state)`, `z` and `r` the sums of both sides.
    Gru,
}

impl Cell {
    /// As in text forms and kernel names.
    pub fn name(self) -> &'static str {
        match self {
            Cell::LstmState => "lstm_state",
            Cell::LstmOutput => "lstm_output",
            Cell::Gru => "gru",
        }
    }

    /// The number of gates of each input: 1 for a state.
    pub fn gates(self) -> &'static [usize] {
        match self {
            Cell::LstmState | Cell::LstmOutput => &[4, 1],
            Cell::Gru => &[3, 3, 1],
        }
    }
}

impl Attributes for Cell {
    fn name(&self) -> &'static str {
        "cell"
    }

    fn check_shapes(&self, inputs: &[&[usize]], output: &[usize]) -> Result<(), String> {
        let Some((hidden, rows)) = output.split_last() else { return Err("the state needs an axis of units".into()) };
        let fits = |(s, gates): (&&[usize], &usize)| s.split_last() == Some((&(gates * hidden), rows));
        if inputs.len() == self.gates().len() && inputs.iter().zip(self.gates()).all(fits) {
            return Ok(());
        }
        Err(format!("inputs {inputs:?} are not gates and states of {output:?}"))
    }

    fn flops(&self, _: &[&[usize]], output: &[usize]) -> f64 {
        // an activation counts as four operations, as in a softmax
        elements(output) * 15.0
    }
}

impl Display for Cell {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, " {}", Cell::name(*self))
    }
}
