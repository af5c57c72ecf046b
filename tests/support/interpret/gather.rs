//! Gather, from its definition.

use hiosc::graph::Gather;

use super::{Operands, from_start, moved, ravel};
use crate::support::number::Number;

pub fn gather(g: &Gather, of: &Operands) -> Vec<Number> {
    let (x, indices) = (of.shapes[0], of.shapes[1]);
    match *g {
        Gather::Slices { axis } => of.each(|_, index| {
            let (begin, end) = (axis, axis + indices.len());
            let position = nearest(of.at(1, &index[begin..end]), x[axis]);
            of.at(0, &[&index[..begin], &[position], &index[end..]].concat())
        }),
        Gather::Elements { axis } => of.each(|i, index| of.at(0, &moved(index, axis, nearest(of.args[1][i], x[axis])))),
        Gather::Nd { batch_dims } => {
            let (&tuple, tuples) = indices.split_last().expect("an axis of tuples");
            of.each(|_, index| {
                let first = ravel(&index[..tuples.len()], tuples) * tuple;
                let mut source = index[..batch_dims].to_vec();
                source.extend((0..tuple).map(|k| nearest(of.args[1][first + k], x[batch_dims + k])));
                source.extend(&index[tuples.len()..]);
                of.at(0, &source)
            })
        }
    }
}

/// The position of an index; for an index outside the axis, the nearest one.
fn nearest(index: Number, length: usize) -> usize {
    from_start(index, length).clamp(0, length as i128 - 1) as usize
}
