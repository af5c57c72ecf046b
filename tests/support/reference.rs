//! The expected results of some operators in single precision, computed as plainly as possible: in
//! double precision, one output after the other, from the definition in `graph::op`. Each value has
//! a tolerance, which follows from the magnitudes that were added.

use hiosc::graph::{Conv, Elementwise, Expr, MatMul, Pool, PoolKind, Reduce, ReduceKind};

use super::harness::{Expected, TensorValues};
use super::number::{self, Number, Rounding};

/// Single precision loses at most this share of the magnitudes that were added.
const SUM: f64 = 4e-6;

/// A function's or a fused step's error, relative to its value.
const STEP: f64 = 4e-6;

/// The value of an expression over single-precision numbers, unrounded.
pub fn eval(expr: &Expr, x: &[f64]) -> f64 {
    number::eval(expr, &|i| Number::float(x[i]), Rounding::Exact).f64()
}

/// The larger; NaN if either is.
fn larger(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() { f64::NAN } else { a.max(b) }
}

/// All indices of `shape`, in order.
fn indices(shape: &[usize]) -> impl Iterator<Item = Vec<usize>> {
    let (shape, total) = (shape.to_vec(), shape.iter().product());
    (0..total).map(move |mut i: usize| {
        let mut index = vec![0; shape.len()];
        for axis in (0..shape.len()).rev() {
            index[axis] = i % shape[axis];
            i /= shape[axis];
        }
        index
    })
}

/// The element at `index`; size-1 axes broadcast.
fn at(x: &TensorValues, index: &[usize]) -> f64 {
    let offset = index.iter().zip(&x.shape).fold(0, |o, (&i, &d)| o * d + if d == 1 { 0 } else { i });
    f64::from(x.floats()[offset])
}

/// `epilogue` of a sum whose terms have the magnitude `scale`; `more` are the further inputs.
fn finished(expected: &mut Expected, epilogue: &Expr, sum: f64, scale: f64, more: impl Iterator<Item = f64>) {
    let x: Vec<f64> = [sum].into_iter().chain(more).collect();
    let value = eval(epilogue, &x);
    expected.push(value, SUM * scale + STEP * x.iter().map(|v| v.abs()).sum::<f64>());
}

pub fn conv(conv: &Conv, inputs: &[TensorValues], out: &[usize]) -> Expected {
    let (x, w) = (&inputs[0], &inputs[1]);
    let [height, width] = [x.shape[2], x.shape[3]];
    let per_group = w.shape[1];
    let first_more = 2 + usize::from(conv.bias);
    let mut expected = Expected::default();
    for index in indices(out) {
        let [n, k, p, q] = index[..] else { unreachable!("four axes") };
        let group = k / (out[1] / conv.groups);
        let (mut sum, mut scale) = (0.0, 0.0);
        for c in 0..per_group {
            for r in 0..conv.kernel[0] {
                for s in 0..conv.kernel[1] {
                    let h = (p * conv.strides[0] + r * conv.dilations[0]).checked_sub(conv.pads_begin[0]).filter(|&h| h < height);
                    let v = (q * conv.strides[1] + s * conv.dilations[1]).checked_sub(conv.pads_begin[1]).filter(|&v| v < width);
                    if let (Some(h), Some(v)) = (h, v) {
                        let channel = group * per_group + c;
                        let term = f64::from(x.floats()[((n * x.shape[1] + channel) * height + h) * width + v])
                            * f64::from(w.floats()[((k * per_group + c) * conv.kernel[0] + r) * conv.kernel[1] + s]);
                        sum += term;
                        scale += term.abs();
                    }
                }
            }
        }
        if conv.bias {
            sum += f64::from(inputs[2].floats()[k]);
        }
        finished(&mut expected, &conv.epilogue, sum, scale, inputs[first_more..].iter().map(|t| at(t, &index)));
    }
    expected
}

pub fn matmul(matmul: &MatMul, inputs: &[TensorValues], out: &[usize]) -> Expected {
    let offset = |index: [usize; 3], strides: [usize; 3]| index.iter().zip(strides).map(|(i, s)| i * s).sum::<usize>();
    let first_more = 2 + usize::from(matmul.bias);
    let mut results = vec![None; out.iter().product()];
    for index in indices(&[matmul.batch, matmul.m, matmul.n]) {
        let [b, i, j] = index[..] else { unreachable!("three axes") };
        let (mut sum, mut scale) = (0.0, 0.0);
        for k in 0..matmul.k {
            let term = f64::from(inputs[0].floats()[offset([b, i, k], matmul.a_strides)])
                * f64::from(inputs[1].floats()[offset([b, k, j], matmul.b_strides)]);
            sum += term;
            scale += term.abs();
        }
        if matmul.bias {
            sum += f64::from(inputs[2].floats()[j]);
        }
        let at = offset([b, i, j], matmul.c_strides);
        let mut one = Expected::default();
        finished(&mut one, &matmul.epilogue, sum, scale, inputs[first_more..].iter().map(|t| f64::from(t.floats()[at])));
        results[at] = Some((one.values[0], one.tolerances[0]));
    }
    let mut expected = Expected::default();
    for result in results {
        let (value, tolerance) = result.expect("every output is computed");
        expected.push(value, tolerance);
    }
    expected
}

pub fn pool(pool: &Pool, x: &TensorValues, out: &[usize]) -> Expected {
    let size = [x.shape[2], x.shape[3]];
    let mut expected = Expected::default();
    for index in indices(out) {
        let (mut elements, mut padding) = (Vec::new(), 0);
        for r in 0..pool.kernel[0] {
            for s in 0..pool.kernel[1] {
                // Counted from the beginning of the padding.
                let position = [index[2] * pool.strides[0] + r * pool.dilations[0], index[3] * pool.strides[1] + s * pool.dilations[1]];
                let inside = |a: usize| position[a] >= pool.pads_begin[a] && position[a] < pool.pads_begin[a] + size[a];
                let padded = |a: usize| position[a] < pool.pads_begin[a] + size[a] + pool.pads_end[a];
                if inside(0) && inside(1) {
                    elements.push(at(x, &[index[0], index[1], position[0] - pool.pads_begin[0], position[1] - pool.pads_begin[1]]));
                } else if padded(0) && padded(1) {
                    padding += 1;
                }
            }
        }
        match pool.kind {
            PoolKind::Sum => expected.push(elements.iter().sum(), SUM * elements.iter().map(|v| v.abs()).sum::<f64>()),
            PoolKind::Max => expected.push(elements.into_iter().fold(f64::NEG_INFINITY, larger), 0.0),
            PoolKind::Average { count_include_pad } => {
                let count = elements.len() + if count_include_pad { padding } else { 0 };
                let sum: f64 = elements.iter().sum();
                let scale: f64 = elements.iter().map(|v| v.abs()).sum();
                expected.push(if count == 0 { 0.0 } else { sum / count as f64 }, SUM * scale);
            }
        }
    }
    expected
}

pub fn reduce(reduce: &Reduce, x: &TensorValues, out: &[usize]) -> Expected {
    let mut groups: Vec<Vec<f64>> = vec![Vec::new(); out.iter().product()];
    for (index, &value) in indices(&x.shape).zip(x.floats()) {
        let group = index.iter().zip(out).fold(0, |o, (&i, &d)| o * d + if d == 1 { 0 } else { i });
        groups[group].push(f64::from(value));
    }
    let mut expected = Expected::default();
    for group in groups {
        let sum: f64 = group.iter().sum();
        let scale: f64 = group.iter().map(|v| v.abs()).sum();
        match reduce.kind {
            ReduceKind::Sum => expected.push(sum, SUM * scale),
            ReduceKind::Mean => expected.push(sum / group.len() as f64, SUM * scale),
            ReduceKind::Product => {
                let product: f64 = group.iter().product();
                expected.push(product, 1e-6 * group.len() as f64 * product.abs() + 1e-37);
            }
            ReduceKind::ArgMax { .. } | ReduceKind::ArgMin { .. } => unreachable!("compared with the interpreter"),
            ReduceKind::Max => expected.push(group.into_iter().fold(f64::NEG_INFINITY, larger), 0.0),
            ReduceKind::Min => expected.push(-group.into_iter().fold(f64::NEG_INFINITY, |a, b| larger(a, -b)), 0.0),
        }
    }
    expected
}

pub fn softmax(axis: usize, x: &TensorValues) -> Expected {
    let mut expected = Expected::default();
    for index in indices(&x.shape) {
        let row = (0..x.shape[axis]).map(|i| {
            let mut other = index.clone();
            other[axis] = i;
            at(x, &other)
        });
        let largest = row.clone().fold(f64::NEG_INFINITY, larger);
        let sum: f64 = row.map(|v| (v - largest).exp()).sum();
        let value = (at(x, &index) - largest).exp() / sum;
        expected.push(value, 1e-5 * value + 1e-30);
    }
    expected
}

pub fn elementwise(elementwise: &Elementwise, inputs: &[TensorValues], out: &[usize]) -> Expected {
    let mut expected = Expected::default();
    for index in indices(out) {
        let x: Vec<f64> = inputs.iter().map(|t| at(t, &index)).collect();
        let value = eval(&elementwise.expr, &x);
        expected.push(value, STEP * (value.abs() + x.iter().map(|v| v.abs()).sum::<f64>()));
    }
    expected
}

pub fn concat(axis: usize, inputs: &[TensorValues]) -> Expected {
    let outer: usize = inputs[0].shape[..axis].iter().product();
    let mut expected = Expected::default();
    for row in 0..outer {
        for x in inputs {
            let length = x.values.len() / outer;
            x.floats()[row * length..(row + 1) * length].iter().for_each(|v| expected.push(f64::from(*v), 0.0));
        }
    }
    expected
}
