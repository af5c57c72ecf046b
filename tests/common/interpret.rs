//! A plain interpreter of graphs: loops written from the operators' definitions, in f64 where sums are long. Slow, and meant to be obviously right.

mod dense;

use hiosc::graph::{Binary, Constant, Expr, Graph, OpKind, Operator, Origin, Pad, PadMode, PoolKind, ReduceKind, Unary};
use hiosc::ids::TensorId;

/// The outputs of `graph` for `inputs`.
pub fn interpret(graph: &Graph, inputs: &[Vec<f32>]) -> Vec<Vec<f32>> {
    let mut values: Vec<Option<Vec<f32>>> = vec![None; graph.tensors.len()];
    for (&t, v) in graph.inputs.iter().zip(inputs) {
        values[t.index()] = Some(v.clone());
    }
    let read = |values: &[Option<Vec<f32>>], t: TensorId| -> Vec<f32> {
        let root = graph.root(t);
        match &graph.tensor(root).origin {
            Origin::Constant(Constant::F32(v)) => v.to_vec(),
            _ => values[root.index()].clone().expect("computed before it is read"),
        }
    };
    for op in graph.topological_order().expect("no cycle") {
        let operator = graph.operator(op);
        let args: Vec<Vec<f32>> = operator.inputs.iter().map(|&t| read(&values, t)).collect();
        values[operator.outputs[0].index()] = Some(operate(graph, operator, &args));
    }
    graph.outputs.iter().map(|&t| read(&values, t)).collect()
}

/// The result of one operator.
pub fn operate(graph: &Graph, operator: &Operator, args: &[Vec<f32>]) -> Vec<f32> {
    let shape = |t: TensorId| graph.tensor(t).shape.as_slice();
    let shapes: Vec<&[usize]> = operator.inputs.iter().map(|&t| shape(t)).collect();
    let out = shape(operator.outputs[0]);
    let elements: usize = out.iter().product();
    match &operator.kind {
        OpKind::Conv(c) => {
            let (&[_, ch, h, w], &[_, k, p, q]) = (shapes[0], out) else { panic!("rank 4") };
            let (cg, kg) = (ch / c.groups, k / c.groups);
            let first = 2 + usize::from(c.bias);
            let value = |i: usize| {
                let (x, y, o, n) = (i % q, i / q % p, i / (q * p) % k, i / (q * p * k));
                let mut sum = if c.bias { args[2][o] as f64 } else { 0.0 };
                for ic in 0..cg {
                    for r in 0..c.kernel[0] {
                        for s in 0..c.kernel[1] {
                            let iy = (y * c.strides[0] + r * c.dilations[0]).wrapping_sub(c.pads_begin[0]);
                            let ix = (x * c.strides[1] + s * c.dilations[1]).wrapping_sub(c.pads_begin[1]);
                            if iy < h && ix < w {
                                let a = args[0][((n * ch + o / kg * cg + ic) * h + iy) * w + ix] as f64;
                                sum += a * args[1][((o * cg + ic) * c.kernel[0] + r) * c.kernel[1] + s] as f64;
                            }
                        }
                    }
                }
                scalar(&c.epilogue, &|j| if j == 0 { sum as f32 } else { args[first + j - 1][i] })
            };
            (0..elements).map(value).collect()
        }
        OpKind::Pool(c) => {
            let (&[_, ch, h, w], &[_, _, p, q]) = (shapes[0], out) else { panic!("rank 4") };
            let value = |i: usize| {
                let (x, y, plane) = (i % q, i / q % p, i / (q * p));
                assert!(plane < ch * shapes[0][0]);
                let (mut sum, mut count, mut max) = (0.0f64, 0, f32::NEG_INFINITY);
                for r in 0..c.kernel[0] {
                    for s in 0..c.kernel[1] {
                        let (py, px) = (y * c.strides[0] + r * c.dilations[0], x * c.strides[1] + s * c.dilations[1]);
                        let (iy, ix) = (py.wrapping_sub(c.pads_begin[0]), px.wrapping_sub(c.pads_begin[1]));
                        let inside = iy < h && ix < w;
                        let padded = py < h + c.pads_begin[0] + c.pads_end[0] && px < w + c.pads_begin[1] + c.pads_end[1];
                        if inside {
                            let v = args[0][(plane * h + iy) * w + ix];
                            sum += v as f64;
                            max = if v.is_nan() || max.is_nan() { f32::NAN } else { max.max(v) };
                        }
                        count += usize::from(match c.kind {
                            PoolKind::Average { count_include_pad: true } => padded,
                            _ => inside,
                        });
                    }
                }
                match c.kind {
                    PoolKind::Max => max,
                    PoolKind::Sum => sum as f32,
                    PoolKind::Average { .. } => (sum / count as f64) as f32,
                }
            };
            (0..elements).map(value).collect()
        }
        OpKind::MatMul(m) => {
            let mut result = vec![f32::NAN; elements];
            let first = 2 + usize::from(m.bias);
            for b in 0..m.batch {
                for i in 0..m.m {
                    for j in 0..m.n {
                        let mut sum = if m.bias { args[2][j] as f64 } else { 0.0 };
                        for k in 0..m.k {
                            let x = args[0][b * m.a_strides[0] + i * m.a_strides[1] + k * m.a_strides[2]];
                            sum += x as f64 * args[1][b * m.b_strides[0] + k * m.b_strides[1] + j * m.b_strides[2]] as f64;
                        }
                        let at = b * m.c_strides[0] + i * m.c_strides[1] + j * m.c_strides[2];
                        result[at] = scalar(&m.epilogue, &|x| if x == 0 { sum as f32 } else { args[first + x - 1][at] });
                    }
                }
            }
            result
        }
        OpKind::Reduce(r) => {
            let mut groups: Vec<Vec<f32>> = vec![Vec::new(); elements];
            for (i, &v) in args[0].iter().enumerate() {
                let mut index = unravel(i, shapes[0]);
                r.axes.iter().for_each(|&a| index[a] = 0);
                groups[ravel(&index, out)].push(v);
            }
            let reduce = |g: &Vec<f32>| match r.kind {
                ReduceKind::Sum => g.iter().map(|&v| v as f64).sum::<f64>() as f32,
                ReduceKind::Mean => (g.iter().map(|&v| v as f64).sum::<f64>() / g.len() as f64) as f32,
                ReduceKind::Product => g.iter().map(|&v| v as f64).product::<f64>() as f32,
                ReduceKind::Max => g.iter().copied().fold(f32::NEG_INFINITY, |a, b| binary(Binary::Max, a, b)),
                ReduceKind::Min => g.iter().copied().fold(f32::INFINITY, |a, b| binary(Binary::Min, a, b)),
            };
            groups.iter().map(reduce).collect()
        }
        OpKind::Elementwise(e) => {
            let value = |i: usize| {
                let index = unravel(i, out);
                scalar(&e.expr, &|j| {
                    let index: Vec<usize> = index.iter().zip(shapes[j]).map(|(&i, &d)| if d == 1 { 0 } else { i }).collect();
                    args[j][ravel(&index, shapes[j])]
                })
            };
            (0..elements).map(value).collect()
        }
        OpKind::Softmax { axis } => {
            let stride: usize = out[axis + 1..].iter().product();
            let value = |i: usize| {
                let base = i - unravel(i, out)[*axis] * stride;
                let row: Vec<f64> = (0..out[*axis]).map(|j| args[0][base + j * stride] as f64).collect();
                let max = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                ((args[0][i] as f64 - max).exp() / row.iter().map(|v| (v - max).exp()).sum::<f64>()) as f32
            };
            (0..elements).map(value).collect()
        }
        OpKind::LogSoftmax { axis } => dense::log_softmax(*axis, &args[0], out),
        OpKind::ConvNd(c) => dense::conv(c, args, &shapes, out),
        OpKind::PoolNd(p) => dense::pool(p, &args[0], shapes[0], out),
        OpKind::Norm(n) => dense::norm(n, args, &shapes),
        OpKind::Lrn(l) => dense::lrn(l, &args[0], out),
        OpKind::GridSample(g) => dense::grid_sample(g, args, shapes[0], out),
        OpKind::Attention(a) => dense::attention(a, args, out),
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
        OpKind::Reshape => args[0].clone(),
    }
}

fn unravel(mut i: usize, shape: &[usize]) -> Vec<usize> {
    let mut index = vec![0; shape.len()];
    for axis in (0..shape.len()).rev() {
        index[axis] = i % shape[axis];
        i /= shape[axis];
    }
    index
}

fn ravel(index: &[usize], shape: &[usize]) -> usize {
    index.iter().zip(shape).fold(0, |at, (i, d)| at * d + i)
}

/// The element of the padded `x` at `index`.
fn padded(pad: &Pad, x: &[f32], shape: &[usize], index: &[usize]) -> f32 {
    let mut source = Vec::new();
    for (axis, &at) in index.iter().enumerate() {
        let (at, last) = (at as isize - pad.before[axis] as isize, shape[axis] as isize - 1);
        source.push(match pad.mode {
            PadMode::Constant(value) if at < 0 || at > last => return value,
            PadMode::Constant(_) => at,
            PadMode::Reflect if at > last => 2 * last - at,
            PadMode::Reflect => at.abs(),
            PadMode::Edge => at.clamp(0, last),
        } as usize);
    }
    x[ravel(&source, shape)]
}

/// The error function, from its series (near 0) or its continued fraction.
pub fn erf(x: f64) -> f64 {
    if x.is_nan() {
        return x;
    }
    let (size, mut term) = (x.abs(), x);
    if size < 2.5 {
        let mut sum = x;
        for n in 1..60 {
            term *= -x * x / n as f64;
            sum += term / (2 * n + 1) as f64;
        }
        return sum * std::f64::consts::FRAC_2_SQRT_PI;
    }
    let fraction = (1..60).rev().fold(size, |f, n| size + n as f64 / 2.0 / f);
    (1.0 - (-size * size).exp() / fraction / std::f64::consts::PI.sqrt()).copysign(x)
}

/// The value of an expression.
pub fn scalar(expr: &Expr, x: &dyn Fn(usize) -> f32) -> f32 {
    match expr {
        Expr::Input(i) => x(*i),
        Expr::Const(c) => *c,
        Expr::Binary(op, a, b) => binary(*op, scalar(a, x), scalar(b, x)),
        Expr::Select(c, a, b) => scalar(if scalar(c, x) != 0.0 { a } else { b }, x),
        Expr::Unary(op, a) => {
            let a = scalar(a, x);
            match op {
                Unary::Relu => binary(Binary::Max, a, 0.0),
                Unary::Neg => -a,
                Unary::Abs => a.abs(),
                Unary::Exp => a.exp(),
                Unary::Log => a.ln(),
                Unary::Sqrt => a.sqrt(),
                Unary::Rsqrt => a.sqrt().recip(),
                Unary::Recip => a.recip(),
                Unary::Sigmoid => 1.0 / (1.0 + (-a).exp()),
                Unary::Tanh => a.tanh(),
                Unary::Square => a * a,
                Unary::HardSwish => a * (a / 6.0 + 0.5).clamp(0.0, 1.0),
                Unary::Silu => a / (1.0 + (-a).exp()),
                Unary::Gelu => (0.5 * a as f64 * (1.0 + erf(a as f64 * std::f64::consts::FRAC_1_SQRT_2))) as f32,
                Unary::Erf => erf(a as f64) as f32,
                Unary::Floor => a.floor(),
                Unary::Ceil => a.ceil(),
                Unary::Round => a.round_ties_even(),
                Unary::Sign if a == 0.0 || a.is_nan() => a,
                Unary::Sign => a.signum(),
                Unary::Sin => a.sin(),
                Unary::Cos => a.cos(),
                Unary::Tan => a.tan(),
                Unary::Asin => a.asin(),
                Unary::Acos => a.acos(),
                Unary::Atan => a.atan(),
                Unary::Sinh => a.sinh(),
                Unary::Cosh => a.cosh(),
                Unary::Asinh => a.asinh(),
                Unary::Acosh => a.acosh(),
                Unary::Atanh => a.atanh(),
            }
        }
    }
}

fn binary(op: Binary, a: f32, b: f32) -> f32 {
    match op {
        Binary::Add => a + b,
        Binary::Sub => a - b,
        Binary::Mul => a * b,
        Binary::Div => a / b,
        Binary::Max | Binary::Min if a.is_nan() || b.is_nan() => f32::NAN,
        Binary::Max => a.max(b),
        Binary::Min => a.min(b),
        Binary::Pow => a.powf(b),
        Binary::Less => f32::from(u8::from(a < b)),
        Binary::LessEqual => f32::from(u8::from(a <= b)),
        Binary::Equal => f32::from(u8::from(a == b)),
    }
}
