//! A plain interpreter of graphs: loops written from the operators' definitions, over values of any type; long sums of floating-point numbers are
//! rounded once. Slow, and meant to be obviously right.

mod dense;
mod resample;

use hiosc::graph::{Binary, Cell, Constant, DType, Graph, OpKind, Operator, Origin, Pad, PadMode, PoolKind, ReduceKind};
use hiosc::ids::TensorId;

use super::indexed::indexed;
use super::number::{Number, Rounding, Value, binary, constant, eval, numbers};

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

/// The sum of products of pairs, and more: of integers wrapped, of others rounded once.
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

/// 1, to be a factor in [`sum`].
fn one(dtype: DType) -> Number {
    Number::new(dtype, if dtype.is_float() { Value::Float(1.0) } else { Value::Int(1) })
}

/// The result of one operator.
pub fn operate(graph: &Graph, operator: &Operator, args: &[Vec<Number>]) -> Vec<Number> {
    let shape = |t: TensorId| graph.tensor(t).shape.as_slice();
    let shapes: Vec<&[usize]> = operator.inputs.iter().map(|&t| shape(t)).collect();
    let out = shape(operator.outputs[0]);
    let elements: usize = out.iter().product();
    let of = operator.inputs.first().map_or(DType::F32, |&t| graph.tensor(t).dtype);
    let rounded = Rounding::Rounded;
    match &operator.kind {
        OpKind::Conv(c) => {
            let (&[_, ch, h, w], &[_, k, p, q]) = (shapes[0], out) else { panic!("rank 4") };
            let (cg, kg) = (ch / c.groups, k / c.groups);
            let first = 2 + usize::from(c.bias);
            let value = |i: usize| {
                let (x, y, o, n) = (i % q, i / q % p, i / (q * p) % k, i / (q * p * k));
                let mut terms = Vec::new();
                if c.bias {
                    terms.push((args[2][o], one(of)));
                }
                for ic in 0..cg {
                    for r in 0..c.kernel[0] {
                        for s in 0..c.kernel[1] {
                            let iy = (y * c.strides[0] + r * c.dilations[0]).wrapping_sub(c.pads_begin[0]);
                            let ix = (x * c.strides[1] + s * c.dilations[1]).wrapping_sub(c.pads_begin[1]);
                            if iy < h && ix < w {
                                let a = args[0][((n * ch + o / kg * cg + ic) * h + iy) * w + ix];
                                terms.push((a, args[1][((o * cg + ic) * c.kernel[0] + r) * c.kernel[1] + s]));
                            }
                        }
                    }
                }
                let sum = sum(of, terms.into_iter());
                eval(&c.epilogue, &|j| if j == 0 { sum } else { args[first + j - 1][i] }, rounded)
            };
            (0..elements).map(value).collect()
        }
        OpKind::Pool(c) => {
            let (&[_, ch, h, w], &[_, _, p, q]) = (shapes[0], out) else { panic!("rank 4") };
            let value = |i: usize| {
                let (x, y, plane) = (i % q, i / q % p, i / (q * p));
                assert!(plane < ch * shapes[0][0]);
                let (mut window, mut count) = (Vec::new(), 0);
                for r in 0..c.kernel[0] {
                    for s in 0..c.kernel[1] {
                        let (py, px) = (y * c.strides[0] + r * c.dilations[0], x * c.strides[1] + s * c.dilations[1]);
                        let (iy, ix) = (py.wrapping_sub(c.pads_begin[0]), px.wrapping_sub(c.pads_begin[1]));
                        let inside = iy < h && ix < w;
                        let padded = py < h + c.pads_begin[0] + c.pads_end[0] && px < w + c.pads_begin[1] + c.pads_end[1];
                        if inside {
                            window.push(args[0][(plane * h + iy) * w + ix]);
                        }
                        count += usize::from(match c.kind {
                            PoolKind::Average { count_include_pad: true } => padded,
                            _ => inside,
                        });
                    }
                }
                match c.kind {
                    PoolKind::Max => reduce(ReduceKind::Max, of, &window),
                    PoolKind::Sum => reduce(ReduceKind::Sum, of, &window),
                    PoolKind::Average { .. } => mean(of, &window, count),
                }
            };
            (0..elements).map(value).collect()
        }
        OpKind::MatMul(m) => {
            let mut result = vec![None; elements];
            let first = 2 + usize::from(m.bias);
            for b in 0..m.batch {
                for i in 0..m.m {
                    for j in 0..m.n {
                        let x = |k: usize| args[0][b * m.a_strides[0] + i * m.a_strides[1] + k * m.a_strides[2]];
                        let y = |k: usize| args[1][b * m.b_strides[0] + k * m.b_strides[1] + j * m.b_strides[2]];
                        let bias = m.bias.then(|| (args[2][j], one(of)));
                        let sum = sum(of, (0..m.k).map(|k| (x(k), y(k))).chain(bias));
                        let at = b * m.c_strides[0] + i * m.c_strides[1] + j * m.c_strides[2];
                        result[at] = Some(eval(&m.epilogue, &|x| if x == 0 { sum } else { args[first + x - 1][at] }, rounded));
                    }
                }
            }
            result.into_iter().map(|v| v.expect("every output is computed")).collect()
        }
        OpKind::Reduce(r) => {
            let mut groups: Vec<Vec<Number>> = vec![Vec::new(); elements];
            for (i, &v) in args[0].iter().enumerate() {
                let mut index = unravel(i, shapes[0]);
                r.axes.iter().for_each(|&a| index[a] = 0);
                groups[ravel(&index, out)].push(v);
            }
            groups.iter().map(|g| reduce(r.kind, of, g)).collect()
        }
        OpKind::Elementwise(e) => {
            let value = |i: usize| {
                let index = unravel(i, out);
                let input = |j: usize| {
                    let index: Vec<usize> = index.iter().zip(shapes[j]).map(|(&i, &d)| if d == 1 { 0 } else { i }).collect();
                    args[j][ravel(&index, shapes[j])]
                };
                eval(&e.expr, &input, rounded)
            };
            (0..elements).map(value).collect()
        }
        OpKind::Softmax { axis } => {
            let stride: usize = out[axis + 1..].iter().product();
            let value = |i: usize| {
                let base = i - unravel(i, out)[*axis] * stride;
                let row: Vec<f64> = (0..out[*axis]).map(|j| args[0][base + j * stride].f64()).collect();
                let max = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let share = (args[0][i].f64() - max).exp() / row.iter().map(|v| (v - max).exp()).sum::<f64>();
                Number::new(of, Value::Float(share))
            };
            (0..elements).map(value).collect()
        }
        OpKind::LogSoftmax { axis } => dense::from_floats(dense::log_softmax(*axis, &dense::floats(args)[0], out)),
        OpKind::ConvNd(c) => dense::conv(c, of, args, &shapes, out),
        OpKind::PoolNd(p) => dense::pool(p, of, &args[0], shapes[0], out),
        OpKind::PoolIndices(p) => dense::pool_indices(p, &args[0], shapes[0], out),
        OpKind::Trilu(t) => dense::trilu(t, of, &args[0], out),
        OpKind::Norm(n) => dense::norm(n, args, &shapes),
        OpKind::Lrn(l) => dense::from_floats(dense::lrn(l, &dense::floats(args)[0], out)),
        OpKind::GridSample(g) => dense::from_floats(dense::grid_sample(g, &dense::floats(args), shapes[0], out)),
        OpKind::Resample(r) => resample::resample(r, of, args, &shapes, out),
        OpKind::Attention(a) => dense::from_floats(dense::attention(a, &dense::floats(args), out)),
        OpKind::Concat { axis } => {
            let value = |i: usize| {
                let mut index = unravel(i, out);
                let mut source = 0;
                while index[*axis] >= shapes[source][*axis] {
                    index[*axis] -= shapes[source][*axis];
                    source += 1;
                }
                args[source][ravel(&index, shapes[source])]
            };
            (0..elements).map(value).collect()
        }
        OpKind::Transpose { permutation } => {
            let value = |i: usize| {
                let index = unravel(i, out);
                let mut source = vec![0; out.len()];
                permutation.iter().zip(index).for_each(|(&axis, at)| source[axis] = at);
                args[0][ravel(&source, shapes[0])]
            };
            (0..elements).map(value).collect()
        }
        OpKind::Slice(s) => {
            let value = |i: usize| {
                let place = |axis: usize, at: usize| s.begin[axis].checked_add_signed(at as isize * s.step[axis]).expect("inside");
                let index: Vec<usize> = unravel(i, out).into_iter().enumerate().map(|(axis, at)| place(axis, at)).collect();
                args[0][ravel(&index, shapes[0])]
            };
            (0..elements).map(value).collect()
        }
        OpKind::Pad(p) => (0..elements).map(|i| padded(p, &args[0], shapes[0], &unravel(i, out))).collect(),
        OpKind::CumSum(s) => {
            let value = |i: usize| {
                let index = unravel(i, out);
                let own = index[s.axis];
                let added = if s.reverse { own + usize::from(s.exclusive)..out[s.axis] } else { 0..own + usize::from(!s.exclusive) };
                let term = |at: usize| {
                    let mut index = index.clone();
                    index[s.axis] = at;
                    (args[0][ravel(&index, out)], one(of))
                };
                sum(of, added.map(term))
            };
            (0..elements).map(value).collect()
        }
        OpKind::Cell(cell) => {
            let hidden = out[out.len() - 1];
            let gate = |input: usize, i: usize, gate: usize| {
                let gates = cell.gates()[input];
                args[input][(i / hidden * gates + gate) * hidden + i % hidden].f64()
            };
            let logistic = |v: f64| 1.0 / (1.0 + (-v).exp());
            let value = |i: usize| match cell {
                Cell::LstmState => logistic(gate(0, i, 2)) * gate(1, i, 0) + logistic(gate(0, i, 0)) * gate(0, i, 3).tanh(),
                Cell::LstmOutput => logistic(gate(0, i, 1)) * gate(1, i, 0).tanh(),
                Cell::Gru => {
                    let both = |g: usize| logistic(gate(0, i, g) + gate(1, i, g));
                    let next = (gate(0, i, 2) + both(1) * gate(1, i, 2)).tanh();
                    next + both(0) * (gate(2, i, 0) - next)
                }
            };
            (0..elements).map(|i| Number::new(of, Value::Float(value(i)))).collect()
        }
        OpKind::Index(index) => indexed(*index, args, &shapes, out),
        OpKind::Reshape => args[0].clone(),
    }
}

/// What a reduction makes of some values: of none, its neutral element.
fn reduce(kind: ReduceKind, dtype: DType, values: &[Number]) -> Number {
    let extreme = |op, least: f64| {
        let start =
            if dtype.is_float() { Number::new(dtype, Value::Float(least)) } else { Number::float(least).cast(dtype, Rounding::Rounded) };
        values.iter().fold(start, |a, &b| binary(op, a, b, Rounding::Rounded))
    };
    match kind {
        ReduceKind::Sum => sum(dtype, values.iter().map(|&v| (v, one(dtype)))),
        ReduceKind::Mean => mean(dtype, values, values.len()),
        ReduceKind::Product if dtype.is_float() => Number::new(dtype, Value::Float(values.iter().map(|v| v.f64()).product())),
        ReduceKind::Product => values.iter().fold(one(dtype), |a, &b| binary(Binary::Mul, a, b, Rounding::Rounded)),
        // the least truth value is false
        ReduceKind::Max if dtype == DType::Bool => Number::new(dtype, Value::Int(values.iter().any(|v| v.f64() != 0.0).into())),
        ReduceKind::Min if dtype == DType::Bool => Number::new(dtype, Value::Int(values.iter().all(|v| v.f64() != 0.0).into())),
        ReduceKind::ArgMax { last } => place(values, Binary::Max, last),
        ReduceKind::ArgMin { last } => place(values, Binary::Min, last),
        ReduceKind::Max => extreme(Binary::Max, f64::NEG_INFINITY),
        ReduceKind::Min => extreme(Binary::Min, f64::INFINITY),
    }
}

/// Where the extreme value is; NaN is one.
fn place(values: &[Number], op: Binary, last: bool) -> Number {
    let extreme = values[1..].iter().fold(values[0], |a, &b| binary(op, a, b, Rounding::Rounded)).f64();
    let is_it = |v: &Number| v.f64() == extreme || (v.f64().is_nan() && extreme.is_nan());
    let found = if last { values.iter().rposition(is_it) } else { values.iter().position(is_it) };
    Number::new(DType::I64, Value::Int(found.expect("one of them") as i128))
}

/// The sum divided by `count`; an integer's towards zero.
fn mean(dtype: DType, values: &[Number], count: usize) -> Number {
    if dtype.is_float() {
        return Number::new(dtype, Value::Float(values.iter().map(|v| v.f64()).sum::<f64>() / count as f64));
    }
    // the sum of integers of 8 or 16 bits is exact
    let kept = if dtype.bytes() < 4 { DType::I64 } else { dtype };
    let sum = sum(kept, values.iter().map(|&v| (v, one(dtype))));
    binary(Binary::Div, sum, Number::new(kept, Value::Int(count as i128)), Rounding::Rounded).cast(dtype, Rounding::Rounded)
}

pub fn unravel(mut i: usize, shape: &[usize]) -> Vec<usize> {
    let mut index = vec![0; shape.len()];
    for axis in (0..shape.len()).rev() {
        index[axis] = i % shape[axis];
        i /= shape[axis];
    }
    index
}

pub fn ravel(index: &[usize], shape: &[usize]) -> usize {
    index.iter().zip(shape).fold(0, |at, (i, d)| at * d + i)
}

/// The element of the padded `x` at `index`.
fn padded(pad: &Pad, x: &[Number], shape: &[usize], index: &[usize]) -> Number {
    let mut source = Vec::new();
    for (axis, &at) in index.iter().enumerate() {
        let (at, last) = (at as isize - pad.before[axis] as isize, shape[axis] as isize - 1);
        source.push(match pad.mode {
            PadMode::Constant(value) if at < 0 || at > last => return Number::of(value),
            PadMode::Constant(_) => at,
            PadMode::Reflect if at > last => 2 * last - at,
            PadMode::Reflect => at.abs(),
            PadMode::Edge => at.clamp(0, last),
        } as usize);
    }
    x[ravel(&source, shape)]
}
