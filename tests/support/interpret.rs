//! The oracle: a plain interpreter of graphs. Its loops are written from the definitions of the
//! operators, over values of any type. Long sums of floating-point numbers are rounded once. It is
//! slow, and meant to be obviously right.
//!
//! Each operator family has a file here. Of hiosc's code, these use only the attribute structs.

mod attention;
mod cell;
mod concat;
mod conv;
mod copy;
mod cumsum;
mod elementwise;
mod gather;
mod grid_sample;
mod lrn;
mod matmul;
mod norm;
mod pool;
mod reduce;
mod resample;
mod scatter;
mod softmax;
mod topk;
mod window;

use hiosc::graph::{Constant, DType, Expr, Graph, OpKind, Operator, Origin};
use hiosc::ids::TensorId;

use super::number::{Number, Rounding, Value, constant, eval, numbers};

/// The outputs of `graph` for `inputs`.
pub fn interpret(graph: &Graph, inputs: &[Constant]) -> Vec<Constant> {
    let mut values: Vec<Option<Vec<Number>>> = vec![None; graph.tensors.len()];
    for (&t, v) in graph.inputs.iter().zip(inputs) {
        values[t.index()] = Some(numbers(v));
    }
    let read = |values: &[Option<Vec<Number>>], t: TensorId| -> Vec<Number> {
        let root = graph.root(t);
        let computed = |t: TensorId| values[t.index()].clone().expect("computed before it is read");
        let whole: Vec<Number> = match &graph.tensor(root).origin {
            Origin::Constant(v) => numbers(v),
            Origin::Joined(parts) => parts.iter().flat_map(|&part| computed(part)).collect(),
            _ => computed(root),
        };
        whole.into_iter().skip(graph.begin(t) as usize).take(graph.tensor(t).elements() as usize).collect()
    };
    for op in graph.topological_order().expect("no cycle") {
        let operator = graph.operator(op);
        let args: Vec<Vec<Number>> = operator.inputs.iter().map(|&t| read(&values, t)).collect();
        values[operator.outputs[0].index()] = Some(operate(graph, operator, &args));
    }
    graph.outputs.iter().map(|&t| constant(graph.tensor(t).dtype, &read(&values, t))).collect()
}

/// The result of one operator.
pub fn operate(graph: &Graph, operator: &Operator, args: &[Vec<Number>]) -> Vec<Number> {
    let shape = |t: TensorId| graph.tensor(t).shape.as_slice();
    let of = &Operands {
        dtype: operator.inputs.first().map_or(DType::F32, |&t| graph.tensor(t).dtype),
        args,
        shapes: operator.inputs.iter().map(|&t| shape(t)).collect(),
        out: shape(operator.outputs[0]),
    };
    // A row per operator, in the order of the families.
    match &operator.kind {
        OpKind::Attention(a) => attention::attention(a, of),
        OpKind::Cell(c) => cell::cell(c, of),
        OpKind::Concat(c) => concat::concat(c, of),
        OpKind::Conv(c) => conv::conv(c, of),
        OpKind::ConvNd(c) => conv::conv_nd(c, of),
        OpKind::Transpose(t) => copy::transpose(t, of),
        OpKind::Slice(s) => copy::slice(s, of),
        OpKind::Pad(p) => copy::pad(p, of),
        OpKind::Trilu(t) => copy::trilu(t, of),
        OpKind::Reshape(r) => copy::reshape(r, of),
        OpKind::CumSum(c) => cumsum::cumsum(c, of),
        OpKind::Elementwise(e) => elementwise::elementwise(e, of),
        OpKind::Gather(g) => gather::gather(g, of),
        OpKind::GridSample(g) => grid_sample::grid_sample(g, of),
        OpKind::Lrn(l) => lrn::lrn(l, of),
        OpKind::MatMul(m) => matmul::matmul(m, of),
        OpKind::Norm(n) => norm::norm(n, of),
        OpKind::Pool(p) => pool::pool(p, of),
        OpKind::PoolNd(p) => pool::pool_nd(p, of),
        OpKind::PoolIndices(p) => pool::pool_indices(p, of),
        OpKind::Reduce(r) => reduce::reduce(r, of),
        OpKind::Resample(r) => resample::resample(r, of),
        OpKind::Scatter(s) => scatter::scatter(s, of),
        OpKind::Softmax(s) => softmax::softmax(s, of),
        OpKind::TopK(t) => topk::topk(t, of),
    }
}

/// The operands of an operator.
pub struct Operands<'a> {
    /// The element type of the first input; f32 without inputs.
    pub dtype: DType,
    /// The elements of the inputs.
    pub args: &'a [Vec<Number>],
    /// The shapes of the inputs.
    pub shapes: Vec<&'a [usize]>,
    /// The shape of the result.
    pub out: &'a [usize],
}

impl Operands<'_> {
    /// The result, element by element: `value` gets the row-major position and the index of each
    /// one.
    fn each(&self, value: impl Fn(usize, &[usize]) -> Number) -> Vec<Number> {
        (0..self.out.iter().product()).map(|i| value(i, &unravel(i, self.out))).collect()
    }

    /// The element of an input at an index.
    fn at(&self, input: usize, index: &[usize]) -> Number {
        self.args[input][ravel(index, self.shapes[input])]
    }

    /// The element of an input that is broadcast to the shape of the result.
    fn broadcast(&self, input: usize, index: &[usize]) -> Number {
        let own: Vec<usize> = index.iter().zip(self.shapes[input]).map(|(&i, &d)| if d == 1 { 0 } else { i }).collect();
        self.at(input, &own)
    }

    /// A floating-point number, rounded to the type of the first input.
    fn float(&self, value: f64) -> Number {
        Number::new(self.dtype, Value::Float(value))
    }

    /// The epilogue of the finished sum of element `i`. Its further inputs begin with input `first`
    /// and have the shape of the result.
    fn finish(&self, epilogue: &Expr, sum: Number, first: usize, i: usize) -> Number {
        eval(epilogue, &|x| if x == 0 { sum } else { self.args[first + x - 1][i] }, Rounding::Rounded)
    }
}

/// The sum of products of pairs: integers wrap, others are rounded once.
fn sum(dtype: DType, terms: impl Iterator<Item = (Number, Number)>) -> Number {
    let (mut int, mut float) = (0i128, 0.0);
    for (a, b) in terms {
        match (a.value, b.value) {
            (Value::Int(a), Value::Int(b)) => int += a * b,
            _ => float += a.f64() * b.f64(),
        }
    }
    Number::new(dtype, if dtype.is_float() { Value::Float(float) } else { Value::Int(int) })
}

/// 0 of any type.
fn zero(dtype: DType) -> Number {
    Number::float(0.0).cast(dtype, Rounding::Rounded)
}

/// 1 of any type; a factor in [`sum`].
fn one(dtype: DType) -> Number {
    Number::float(1.0).cast(dtype, Rounding::Rounded)
}

/// A position as an element of a result.
fn position(value: usize) -> Number {
    Number::new(DType::I64, Value::Int(value as i128))
}

/// An element of an index tensor, counted from the start of an axis of this length.
fn from_start(index: Number, length: usize) -> i128 {
    let Value::Int(index) = index.value else { panic!("an index is an integer") };
    if index < 0 { index + length as i128 } else { index }
}

/// The index of the `i`-th element.
fn unravel(mut i: usize, shape: &[usize]) -> Vec<usize> {
    let mut index = vec![0; shape.len()];
    for axis in (0..shape.len()).rev() {
        index[axis] = i % shape[axis];
        i /= shape[axis];
    }
    index
}

/// The row-major position of the element at an index.
fn ravel(index: &[usize], shape: &[usize]) -> usize {
    index.iter().zip(shape).fold(0, |at, (i, d)| at * d + i)
}

/// The offset of an element from its strides.
fn offset<const N: usize>(index: [usize; N], strides: [usize; N]) -> usize {
    index.iter().zip(strides).map(|(i, stride)| i * stride).sum()
}

/// An index with another position along one axis.
fn moved(index: &[usize], axis: usize, to: usize) -> Vec<usize> {
    let mut index = index.to_vec();
    index[axis] = to;
    index
}
