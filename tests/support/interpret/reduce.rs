//! Reductions, from their definition.

use hiosc::graph::{Binary, DType, Reduce, ReduceKind};

use super::{Operands, one, position, ravel, sum, unravel};
use crate::support::number::{Number, Rounding, Value, binary};

pub fn reduce(r: &Reduce, of: &Operands) -> Vec<Number> {
    let mut groups: Vec<Vec<Number>> = vec![Vec::new(); of.out.iter().product()];
    for (i, &v) in of.args[0].iter().enumerate() {
        let mut index = unravel(i, of.shapes[0]);
        r.axes.iter().for_each(|&axis| index[axis] = 0);
        groups[ravel(&index, of.out)].push(v);
    }
    groups.iter().map(|group| reduced(r.kind, of.dtype, group)).collect()
}

/// The reduction of `values`; its neutral element if there are none.
pub fn reduced(kind: ReduceKind, dtype: DType, values: &[Number]) -> Number {
    let fold = |op, start: Number| values.iter().fold(start, |a, &b| binary(op, a, b, Rounding::Rounded));
    let infinity = |value: f64| Number::float(value).cast(dtype, Rounding::Rounded);
    let truth = |holds: bool| Number::new(dtype, Value::Int(holds.into()));
    match kind {
        ReduceKind::Sum => sum(dtype, values.iter().map(|&v| (v, one(dtype)))),
        ReduceKind::Mean => mean(dtype, values, values.len()),
        ReduceKind::Product if dtype.is_float() => Number::new(dtype, Value::Float(values.iter().map(|v| v.f64()).product())),
        ReduceKind::Product => fold(Binary::Mul, one(dtype)),
        // the least truth value is false
        ReduceKind::Max if dtype == DType::Bool => truth(values.iter().any(|v| v.f64() != 0.0)),
        ReduceKind::Min if dtype == DType::Bool => truth(values.iter().all(|v| v.f64() != 0.0)),
        ReduceKind::Max => fold(Binary::Max, infinity(f64::NEG_INFINITY)),
        ReduceKind::Min => fold(Binary::Min, infinity(f64::INFINITY)),
        ReduceKind::ArgMax { last } => extreme(values, Binary::Max, last),
        ReduceKind::ArgMin { last } => extreme(values, Binary::Min, last),
    }
}

/// The sum divided by `count`; integers round towards zero.
pub fn mean(dtype: DType, values: &[Number], count: usize) -> Number {
    if dtype.is_float() {
        return Number::new(dtype, Value::Float(values.iter().map(|v| v.f64()).sum::<f64>() / count as f64));
    }
    // the sum of integers of 8 or 16 bits is exact
    let kept = if dtype.bytes() < 4 { DType::I64 } else { dtype };
    let sum = sum(kept, values.iter().map(|&v| (v, one(dtype))));
    binary(Binary::Div, sum, Number::new(kept, Value::Int(count as i128)), Rounding::Rounded).cast(dtype, Rounding::Rounded)
}

/// The position of the extreme value; NaN counts as extreme.
fn extreme(values: &[Number], op: Binary, last: bool) -> Number {
    let extreme = values[1..].iter().fold(values[0], |a, &b| binary(op, a, b, Rounding::Rounded)).f64();
    let is_it = |v: &Number| v.f64() == extreme || (v.f64().is_nan() && extreme.is_nan());
    let found = if last { values.iter().rposition(is_it) } else { values.iter().position(is_it) };
    position(found.expect("one of them"))
}
