//! Operators that move elements unchanged, from their definitions.

use hiosc::graph::{Pad, PadMode, Reshape, Slice, Transpose, Trilu};

use super::{Operands, zero};
use crate::support::number::Number;

pub fn transpose(t: &Transpose, of: &Operands) -> Vec<Number> {
    of.each(|_, index| {
        let mut source = vec![0; index.len()];
        t.permutation.iter().zip(index).for_each(|(&axis, &at)| source[axis] = at);
        of.at(0, &source)
    })
}

pub fn slice(s: &Slice, of: &Operands) -> Vec<Number> {
    of.each(|_, index| {
        let read = |(axis, &at): (usize, &usize)| s.begin[axis].checked_add_signed(at as isize * s.step[axis]).expect("inside");
        of.at(0, &index.iter().enumerate().map(read).collect::<Vec<usize>>())
    })
}

pub fn pad(p: &Pad, of: &Operands) -> Vec<Number> {
    of.each(|_, index| {
        let mut source = Vec::new();
        for (axis, &at) in index.iter().enumerate() {
            let (at, last) = (at as isize - p.before[axis] as isize, of.shapes[0][axis] as isize - 1);
            source.push(match p.mode {
                PadMode::Constant(value) if at < 0 || at > last => return Number::of(value),
                PadMode::Constant(_) => at,
                PadMode::Reflect if at > last => 2 * last - at,
                PadMode::Reflect => at.abs(),
                PadMode::Edge => at.clamp(0, last),
            } as usize);
        }
        of.at(0, &source)
    })
}

pub fn trilu(t: &Trilu, of: &Operands) -> Vec<Number> {
    of.each(|i, index| {
        let (row, column) = (index[index.len() - 2] as i64, index[index.len() - 1] as i64);
        let stays = if t.upper { column >= row + t.diagonal } else { column <= row + t.diagonal };
        if stays { of.args[0][i] } else { zero(of.dtype) }
    })
}

pub fn reshape(_: &Reshape, of: &Operands) -> Vec<Number> {
    of.args[0].clone()
}
