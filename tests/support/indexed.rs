//! The plain interpreter's operators that read or write by index, or order elements.

use hiosc::graph::{Binary, DType, Index, Update};

use super::interpret::{ravel, unravel};
use super::number::{Number, Rounding, Value, binary};

/// The result of `index` on `args` of `shapes`, of the shape `out`.
pub fn indexed(index: Index, args: &[Vec<Number>], shapes: &[&[usize]], out: &[usize]) -> Vec<Number> {
    let (x, shape) = (&args[0], shapes[0]);
    let elements: usize = out.iter().product();
    match index {
        Index::Gather { axis } => {
            let rank = shapes[1].len();
            let value = |i: usize| {
                let at = unravel(i, out);
                let place = nearest(args[1][ravel(&at[axis..axis + rank], shapes[1])], shape[axis]);
                x[ravel(&[&at[..axis], &[place], &at[axis + rank..]].concat(), shape)]
            };
            (0..elements).map(value).collect()
        }
        Index::GatherElements { axis } => {
            let value = |i: usize| {
                let mut at = unravel(i, out);
                at[axis] = nearest(args[1][i], shape[axis]);
                x[ravel(&at, shape)]
            };
            (0..elements).map(value).collect()
        }
        Index::GatherNd { batch_dims } => {
            let (&tuple, tuples) = shapes[1].split_last().expect("an axis of tuples");
            let value = |i: usize| {
                let at = unravel(i, out);
                let first = ravel(&at[..tuples.len()], tuples) * tuple;
                let mut source = at[..batch_dims].to_vec();
                source.extend((0..tuple).map(|k| nearest(args[1][first + k], shape[batch_dims + k])));
                source.extend(&at[tuples.len()..]);
                x[ravel(&source, shape)]
            };
            (0..elements).map(value).collect()
        }
        Index::ScatterElements { axis, update } => {
            let mut result = x.clone();
            for (i, &value) in args[2].iter().enumerate() {
                let mut at = unravel(i, shapes[1]);
                let Some(place) = inside(args[1][i], shape[axis]) else { continue };
                at[axis] = place;
                let at = ravel(&at, shape);
                result[at] = updated(update, result[at], value);
            }
            result
        }
        Index::ScatterNd { update } => {
            let tuple = *shapes[1].last().expect("an axis of tuples");
            let inner: usize = shape[tuple..].iter().product();
            let mut result = x.clone();
            for (i, &value) in args[2].iter().enumerate() {
                let place = |k: usize| inside(args[1][i / inner * tuple + k], shape[k]);
                let Some(prefix) = (0..tuple).map(place).collect::<Option<Vec<_>>>() else { continue };
                let at = ravel(&prefix, &shape[..tuple]) * inner + i % inner;
                result[at] = updated(update, result[at], value);
            }
            result
        }
        Index::TopK { axis, largest, places } => {
            let value = |i: usize| {
                let at = unravel(i, out);
                let place = ordered(x, shape, &at, axis, largest)[at[axis]];
                if places { integer(place) } else { x[ravel(&with(&at, axis, place), shape)] }
            };
            (0..elements).map(value).collect()
        }
    }
}

fn integer(value: usize) -> Number {
    Number::new(DType::I64, Value::Int(value as i128))
}

fn with(at: &[usize], axis: usize, place: usize) -> Vec<usize> {
    let mut at = at.to_vec();
    at[axis] = place;
    at
}

/// The places of the elements of a row in order; equal ones in their own.
fn ordered(x: &[Number], shape: &[usize], at: &[usize], axis: usize, largest: bool) -> Vec<usize> {
    let key = |place: usize| x[ravel(&with(at, axis, place), shape)];
    let mut places: Vec<usize> = (0..shape[axis]).collect();
    let ascending = |a: &usize, b: &usize| {
        let (a, b) = (key(*a), key(*b));
        match (a.value, b.value) {
            (Value::Int(a), Value::Int(b)) => a.cmp(&b),
            _ => (a.f64().is_nan().cmp(&b.f64().is_nan())).then(a.f64().partial_cmp(&b.f64()).unwrap_or(std::cmp::Ordering::Equal)),
        }
    };
    places.sort_by(|a, b| if largest { ascending(b, a) } else { ascending(a, b) });
    places
}

fn from_start(index: Number, length: usize) -> i128 {
    let Value::Int(index) = index.value else { panic!("an index is an integer") };
    if index < 0 { index + length as i128 } else { index }
}

fn nearest(index: Number, length: usize) -> usize {
    from_start(index, length).clamp(0, length as i128 - 1) as usize
}

fn inside(index: Number, length: usize) -> Option<usize> {
    usize::try_from(from_start(index, length)).ok().filter(|&place| place < length)
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
