//! Scalar expressions, from their definition.

use hiosc::graph::Elementwise;

use super::Operands;
use crate::support::number::{Number, Rounding, eval};

pub fn elementwise(e: &Elementwise, of: &Operands) -> Vec<Number> {
    of.each(|_, index| eval(&e.expr, &|input| of.broadcast(input, index), Rounding::Rounded))
}
