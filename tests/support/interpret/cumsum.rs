//! Running sums, from their definition.

use hiosc::graph::CumSum;

use super::{Operands, moved, one, sum};
use crate::support::number::Number;

pub fn cumsum(c: &CumSum, of: &Operands) -> Vec<Number> {
    of.each(|_, index| {
        let own = index[c.axis];
        let added = if c.reverse { own + usize::from(c.exclusive)..of.out[c.axis] } else { 0..own + usize::from(!c.exclusive) };
        sum(of.dtype, added.map(|at| (of.at(0, &moved(index, c.axis, at)), one(of.dtype))))
    })
}
