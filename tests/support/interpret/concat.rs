//! Concatenation, from its definition.

use hiosc::graph::Concat;

use super::Operands;
use crate::support::number::Number;

pub fn concat(c: &Concat, of: &Operands) -> Vec<Number> {
    of.each(|_, index| {
        let (mut index, mut input) = (index.to_vec(), 0);
        while index[c.axis] >= of.shapes[input][c.axis] {
            index[c.axis] -= of.shapes[input][c.axis];
            input += 1;
        }
        of.at(input, &index)
    })
}
