//! Scatter, from its definition.

use hiosc::graph::{Binary, Scatter, Update};

use super::{Operands, from_start, moved, ravel, unravel};
use crate::support::number::{Number, Rounding, binary};

pub fn scatter(s: &Scatter, of: &Operands) -> Vec<Number> {
    let (x, indices) = (of.shapes[0], of.shapes[1]);
    let mut result = of.args[0].clone();
    for (i, &new) in of.args[2].iter().enumerate() {
        // the target element and the update; an index outside its axis writes nothing
        let (target, update) = match *s {
            Scatter::Elements { axis, update } => {
                let position = inside(of.args[1][i], x[axis]);
                (position.map(|to| ravel(&moved(&unravel(i, indices), axis, to), x)), update)
            }
            Scatter::Nd { update } => {
                let tuple = *indices.last().expect("an axis of tuples");
                let slice: usize = x[tuple..].iter().product();
                let position = |k: usize| inside(of.args[1][i / slice * tuple + k], x[k]);
                let positions: Option<Vec<usize>> = (0..tuple).map(position).collect();
                (positions.map(|positions| ravel(&positions, &x[..tuple]) * slice + i % slice), update)
            }
        };
        if let Some(target) = target {
            result[target] = updated(update, result[target], new);
        }
    }
    result
}

/// The position of an index, if it is inside the axis.
fn inside(index: Number, length: usize) -> Option<usize> {
    usize::try_from(from_start(index, length)).ok().filter(|&position| position < length)
}

fn updated(update: Update, old: Number, new: Number) -> Number {
    let op = match update {
        Update::Replace => return new,
        Update::Add => Binary::Add,
        Update::Mul => Binary::Mul,
        Update::Min => Binary::Min,
        Update::Max => Binary::Max,
    };
    binary(op, old, new, Rounding::Rounded)
}
