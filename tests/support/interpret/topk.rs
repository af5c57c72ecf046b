//! The largest or smallest elements along an axis, from their definition.

use std::cmp::Ordering;

use hiosc::graph::TopK;

use super::{Operands, moved, position};
use crate::support::number::{Number, Value};

pub fn topk(t: &TopK, of: &Operands) -> Vec<Number> {
    of.each(|_, index| {
        let element = |at: usize| of.at(0, &moved(index, t.axis, at));
        let mut order: Vec<usize> = (0..of.shapes[0][t.axis]).collect();
        // a stable sort: equal elements keep their order
        order.sort_by(|&a, &b| {
            let ascending = compared(element(a), element(b));
            if t.largest { ascending.reverse() } else { ascending }
        });
        let at = order[index[t.axis]];
        if t.positions { position(at) } else { element(at) }
    })
}

/// The order of two elements; NaN is above all numbers.
fn compared(a: Number, b: Number) -> Ordering {
    match (a.value, b.value) {
        (Value::Int(a), Value::Int(b)) => a.cmp(&b),
        _ => a.f64().is_nan().cmp(&b.f64().is_nan()).then(a.f64().partial_cmp(&b.f64()).unwrap_or(Ordering::Equal)),
    }
}
