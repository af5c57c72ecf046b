//! Generates small sound graphs from the bytes of an input.
//!
//! Each choice takes a few bytes; when they are used up, every choice is its first option. Each
//! operator reads tensors generated before it, so there is no cycle. Extents are tiny: what matters
//! is how operators are combined. Names are odd on purpose, because those of models are.

use arbitrary::Unstructured;

use hiosc::graph::{
    Binary, Concat, Constant, Conv, ConvNd, CumSum, DType, Elementwise, Expr, Gather, Graph, Lrn, MatMul, Norm, OpKind, Operator, Origin,
    Pad, PadMode, Pool, PoolKind, PoolNd, Reduce, ReduceKind, Reshape, Scalar, Slice, Softmax, Tensor, TopK, Transpose, Trilu, Unary,
    WindowAxis,
};
use hiosc::ids::TensorId;

/// The bytes that choices are made from.
pub struct ByteTape<'a, 'b>(pub &'b mut Unstructured<'a>);

impl ByteTape<'_, '_> {
    /// A number below `n`.
    pub fn below(&mut self, n: usize) -> usize {
        self.0.int_in_range(0..=n.max(1) - 1).unwrap_or(0)
    }

    /// A number from `from` to `to`.
    fn within(&mut self, from: usize, to: usize) -> usize {
        from + self.below(to - from + 1)
    }

    /// True once in `n`.
    pub fn once_in(&mut self, n: usize) -> bool {
        self.below(n) == n - 1
    }

    pub fn of<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.below(list.len())]
    }

    /// Any number, often a small or an extreme one.
    pub fn wild(&mut self) -> usize {
        match self.below(4) {
            0 => self.below(4),
            1 => self.of(&[usize::MAX, usize::MAX / 2 + 1, 1 << 32, 1 << 31, 1 << 62]),
            _ => self.0.arbitrary::<u64>().unwrap_or(0) as usize,
        }
    }
}

const UNARY: [Unary; 8] = [Unary::Relu, Unary::Sigmoid, Unary::Tanh, Unary::Square, Unary::Exp, Unary::Rsqrt, Unary::Recip, Unary::Silu];
const BINARY: [Binary; 8] = [Binary::Add, Binary::Mul, Binary::Sub, Binary::Div, Binary::Max, Binary::Min, Binary::Pow, Binary::Rem];
const TYPES: [DType; 6] = [DType::F32, DType::F32, DType::F32, DType::F16, DType::I64, DType::I32];
const NAMES: [&str; 8] = ["", "x", "/a/b.c", "é`\"", "type", "x_output_0", "0", "Self::{}"];

struct GraphGenerator<'a, 'b, 'c> {
    tape: &'c mut ByteTape<'a, 'b>,
    graph: Graph,
    /// What operators may read.
    known: Vec<TensorId>,
}

/// A graph of at most `most` operators (a few more where one choice makes several).
pub fn graph(tape: &mut ByteTape, most: usize) -> Graph {
    let mut make = GraphGenerator { tape, graph: Graph { name: "fuzzed".into(), ..Graph::default() }, known: Vec::new() };
    for i in 0..make.tape.within(1, 3) {
        let rank = make.tape.of(&[4, 4, 2, 3, 1, 5]);
        let shape: Vec<usize> = (0..rank).map(|_| make.tape.of(&[4, 1, 2, 3, 8, 5])).collect();
        let dtype = make.tape.of(&TYPES);
        let id = make.tensor(&format!("in{i}"), dtype, shape, Origin::Input);
        make.graph.inputs.push(id);
        make.known.push(id);
    }
    for _ in 0..make.tape.below(most + 1) {
        let _ = make.step();
    }
    make.outputs();
    make.graph
}

impl GraphGenerator<'_, '_, '_> {
    fn tensor(&mut self, name: &str, dtype: DType, shape: Vec<usize>, origin: Origin) -> TensorId {
        let name = format!("{}{name}", self.tape.of(&NAMES));
        self.graph.add_tensor(Tensor { name, dtype, shape, origin })
    }

    fn shape(&self, id: TensorId) -> Vec<usize> {
        self.graph.tensor(id).shape.clone()
    }

    fn dtype(&self, id: TensorId) -> DType {
        self.graph.tensor(id).dtype
    }

    /// An existing tensor, a recent one more often than an old one.
    fn pick(&mut self) -> TensorId {
        let near = self.known.len().min(3);
        if self.tape.once_in(3) { self.tape.of(&self.known.clone()) } else { self.known[self.known.len() - 1 - self.tape.below(near)] }
    }

    fn constant(&mut self, dtype: DType, shape: &[usize]) -> TensorId {
        let bytes = shape.iter().product::<usize>() * dtype.bytes() as usize;
        let fill = self.tape.of(&[1u8, 0, 0x3c, 0xff]);
        let values: Vec<u8> = (0..bytes).map(|i| if dtype.is_float() { [0, 0x3c][i % 2] } else { fill }).collect();
        self.tensor("w", dtype, shape.to_vec(), Origin::Constant(Constant::from_bytes(dtype, &values)))
    }

    /// A tensor of this type and shape: an existing one, or a new constant.
    fn alike(&mut self, dtype: DType, shape: &[usize]) -> TensorId {
        let found: Vec<TensorId> = self.known.iter().copied().filter(|&t| self.dtype(t) == dtype && self.shape(t) == shape).collect();
        if found.is_empty() || self.tape.once_in(4) { self.constant(dtype, shape) } else { self.tape.of(&found) }
    }

    fn operator(&mut self, kind: OpKind, inputs: Vec<TensorId>, dtype: DType, shape: Vec<usize>) -> Option<()> {
        if shape.iter().product::<usize>() > 1 << 14 {
            return None;
        }
        let output = self.tensor("y", dtype, shape, Origin::Input);
        let name = format!("{}{}", self.tape.of(&NAMES), kind.name());
        self.graph.add_operator(Operator { name, kind, inputs, outputs: vec![output] });
        self.known.push(output);
        Some(())
    }

    /// An epilogue, and its further inputs.
    fn epilogue(&mut self, dtype: DType, shape: &[usize]) -> (Expr, Vec<TensorId>) {
        if !dtype.is_float() {
            return (Expr::identity(), Vec::new());
        }
        match self.tape.below(4) {
            1 => (Expr::identity().then(self.tape.of(&UNARY)), Vec::new()),
            2 => (Expr::binary(Binary::Add, Expr::Input(0), Expr::Input(1)), vec![self.alike(dtype, shape)]),
            _ => (Expr::identity(), Vec::new()),
        }
    }

    fn window(&mut self, size: usize) -> Option<([usize; 5], usize)> {
        let [kernel, stride, dilation] = [self.tape.of(&[3, 1, 2, 5]), self.tape.of(&[1, 2, 3]), self.tape.of(&[1, 1, 2])];
        let [begin, end] = [self.tape.below(3).min(kernel - 1), self.tape.below(3).min(kernel - 1)];
        let last = (size + begin + end).checked_sub(dilation * (kernel - 1) + 1)?;
        Some(([kernel, stride, dilation, begin, end], last / stride + 1))
    }

    /// One more operator or view, or nothing where the choices do not fit together.
    fn step(&mut self) -> Option<()> {
        let x = self.pick();
        let (shape, dtype) = (self.shape(x), self.dtype(x));
        let axis = self.tape.below(shape.len());
        match self.tape.below(20) {
            0 | 1 if shape.len() == 4 && dtype.is_float() => self.conv(x),
            2 if shape.len() == 4 => {
                let ([kh, sh, dh, th, bh], p) = self.window(shape[2])?;
                let ([kw, sw, dw, tw, bw], q) = self.window(shape[3])?;
                let kinds = [PoolKind::Max, PoolKind::Average { count_include_pad: false }, PoolKind::Average { count_include_pad: true }];
                let kind = if dtype.is_float() { self.tape.of(&kinds) } else { PoolKind::Max };
                let pads = ([th, tw], [bh, bw]);
                let pool = Pool { kind, kernel: [kh, kw], strides: [sh, sw], dilations: [dh, dw], pads_begin: pads.0, pads_end: pads.1 };
                self.operator(OpKind::Pool(pool), vec![x], dtype, vec![shape[0], shape[1], p, q])
            }
            3 | 4 => {
                let expr = if dtype.is_float() { Expr::identity().then(self.tape.of(&UNARY)) } else { Expr::identity().then(Unary::Neg) };
                self.operator(OpKind::Elementwise(Elementwise { expr }), vec![x], dtype, shape)
            }
            5..=7 => {
                let other = if self.tape.once_in(3) { shape.iter().map(|&d| self.tape.of(&[d, 1])).collect() } else { shape.clone() };
                let other = self.alike(dtype, &other);
                let expr = Expr::binary(self.tape.of(&BINARY), Expr::Input(0), Expr::Input(1));
                let inputs = if self.tape.once_in(2) && self.shape(other) == shape { vec![other, x] } else { vec![x, other] };
                self.operator(OpKind::Elementwise(Elementwise { expr }), inputs, dtype, shape)
            }
            8 => {
                let to = self.tape.of(&TYPES);
                self.operator(OpKind::Elementwise(Elementwise { expr: Expr::identity().cast(to) }), vec![x], to, shape)
            }
            9 if dtype.is_float() => {
                let kind = OpKind::Softmax(Softmax { axis, log: self.tape.once_in(3) });
                self.operator(kind, vec![x], dtype, shape)
            }
            10 => {
                let kinds = [ReduceKind::Sum, ReduceKind::Max, ReduceKind::Min, ReduceKind::Product, ReduceKind::ArgMax { last: false }];
                let kind = if dtype.is_float() && self.tape.once_in(2) { ReduceKind::Mean } else { self.tape.of(&kinds) };
                let axes: Vec<usize> = (0..shape.len()).filter(|&a| a == axis || self.tape.once_in(3)).collect();
                let reduced = shape.iter().enumerate().map(|(a, &d)| if axes.contains(&a) { 1 } else { d }).collect();
                let result = if matches!(kind, ReduceKind::ArgMax { .. }) { DType::I64 } else { dtype };
                self.operator(OpKind::Reduce(Reduce { kind, axes }), vec![x], result, reduced)
            }
            11 | 12 => {
                let mut joined = shape.clone();
                let mut inputs = vec![x];
                for _ in 0..self.tape.within(1, 3) {
                    let other = self.alike(dtype, &shape);
                    inputs.push(other);
                    joined[axis] += shape[axis];
                }
                self.operator(OpKind::Concat(Concat { axis }), inputs, dtype, joined)
            }
            13 => {
                let mut permutation: Vec<usize> = (0..shape.len()).collect();
                for i in (1..permutation.len()).rev() {
                    permutation.swap(i, self.tape.below(i + 1));
                }
                let turned = permutation.iter().map(|&a| shape[a]).collect();
                self.operator(OpKind::Transpose(Transpose { permutation }), vec![x], dtype, turned)
            }
            14 => {
                let (mut slice, mut cut) = (Slice { begin: vec![0; shape.len()], step: vec![1; shape.len()] }, shape.clone());
                let begin = self.tape.below(shape[axis]);
                let count = self.tape.within(1, shape[axis] - begin);
                (slice.begin[axis], cut[axis]) = (begin, count);
                if self.tape.once_in(3) {
                    (slice.begin[axis], slice.step[axis]) = (begin + count - 1, -1);
                }
                self.operator(OpKind::Slice(slice), vec![x], dtype, cut)
            }
            15 => {
                let [before, after]: [Vec<usize>; 2] = [(); 2].map(|()| shape.iter().map(|_| self.tape.below(3)).collect());
                let mode = match self.tape.below(3) {
                    1 => PadMode::Edge,
                    2 if (0..shape.len()).all(|a| before[a].max(after[a]) < shape[a]) => PadMode::Reflect,
                    _ => PadMode::Constant(Scalar::from_f64(dtype, 0.0)),
                };
                let padded = (0..shape.len()).map(|a| before[a] + shape[a] + after[a]).collect();
                self.operator(OpKind::Pad(Pad { before, after, mode }), vec![x], dtype, padded)
            }
            16 if shape.len() >= 2 && dtype.is_float() => self.matmul(x),
            17 => self.reshaped(x),
            18 => self.rare(x, axis),
            _ if dtype.is_float() => {
                let axes = vec![axis];
                let epilogue = self.epilogue(dtype, &shape);
                let norm = Norm { centred: self.tape.once_in(2), axes, epsilon: 1e-5, epilogue: epilogue.0 };
                let inputs = [vec![x], epilogue.1].concat();
                self.operator(OpKind::Norm(norm), inputs, dtype, shape)
            }
            _ => None,
        }
    }

    fn conv(&mut self, x: TensorId) -> Option<()> {
        let (shape, dtype) = (self.shape(x), self.dtype(x));
        let c = shape[1];
        let ([kh, sh, dh, th, bh], p) = self.window(shape[2])?;
        let ([kw, sw, dw, tw, bw], q) = self.window(shape[3])?;
        let groups = if self.tape.once_in(3) { c } else { 1 };
        let k = groups * self.tape.of(&[4, 1, 2, 3]);
        let out = vec![shape[0], k, p, q];
        let bias = self.tape.once_in(2);
        let mut inputs = vec![x, self.constant(dtype, &[k, c / groups, kh, kw])];
        if bias {
            inputs.push(self.constant(dtype, &[k]));
        }
        let (epilogue, more) = self.epilogue(dtype, &out);
        inputs.extend(more);
        let kind = if self.tape.once_in(4) {
            let axis =
                |[kernel, stride, dilation, pad_begin, pad_end]: [usize; 5]| WindowAxis { kernel, stride, dilation, pad_begin, pad_end };
            let axes = vec![axis([kh, sh, dh, th, bh]), axis([kw, sw, dw, tw, bw])];
            OpKind::ConvNd(ConvNd { transposed: false, axes, groups, bias, epilogue })
        } else {
            let (kernel, strides, dilations) = ([kh, kw], [sh, sw], [dh, dw]);
            OpKind::Conv(Conv { kernel, strides, dilations, pads_begin: [th, tw], pads_end: [bh, bw], groups, bias, epilogue })
        };
        self.operator(kind, inputs, dtype, out)
    }

    /// A product of matrices in the last two axes, with a constant or another tensor.
    fn matmul(&mut self, x: TensorId) -> Option<()> {
        let (shape, dtype) = (self.shape(x), self.dtype(x));
        let (m, k) = (shape[shape.len() - 2], shape[shape.len() - 1]);
        let batch = shape[..shape.len() - 2].iter().product::<usize>();
        let n = self.tape.of(&[4, 1, 3, 8]);
        let shared = self.tape.once_in(2);
        let b = if shared { self.constant(dtype, &[k, n]) } else { self.alike(dtype, &[batch, k, n]) };
        let out = [&shape[..shape.len() - 1], &[n]].concat();
        let bias = self.tape.once_in(2);
        let mut inputs = vec![x, b];
        if bias {
            inputs.push(self.constant(dtype, &[n]));
        }
        let (epilogue, more) = self.epilogue(dtype, &out);
        inputs.extend(more);
        let b_strides = [if shared { 0 } else { k * n }, n, 1];
        let product = MatMul { batch, m, n, k, a_strides: [m * k, k, 1], b_strides, c_strides: [m * n, n, 1], bias, epilogue };
        self.operator(OpKind::MatMul(product), inputs, dtype, out)
    }

    /// The same elements under another shape: an operator, or a view as `fuse` makes it.
    fn reshaped(&mut self, x: TensorId) -> Option<()> {
        let (mut shape, dtype) = (self.shape(x), self.dtype(x));
        match self.tape.below(4) {
            0 => shape = vec![shape.iter().product()],
            1 => shape.insert(0, 1),
            2 => shape.reverse(),
            _ if shape.len() > 1 => {
                let last = shape.pop()?;
                *shape.last_mut()? *= last;
            }
            _ => {}
        }
        if self.tape.once_in(2) || matches!(self.graph.tensor(x).origin, Origin::Constant(_)) {
            return self.operator(OpKind::Reshape(Reshape), vec![x], dtype, shape);
        }
        let view = self.tensor("v", dtype, shape, Origin::View(x));
        self.known.push(view);
        Some(())
    }

    /// Operators that few models have.
    fn rare(&mut self, x: TensorId, axis: usize) -> Option<()> {
        let (shape, dtype) = (self.shape(x), self.dtype(x));
        match self.tape.below(6) {
            0 => {
                let sum = CumSum { axis, exclusive: self.tape.once_in(2), reverse: self.tape.once_in(2) };
                self.operator(OpKind::CumSum(sum), vec![x], dtype, shape)
            }
            1 => {
                let mut top = shape.clone();
                top[axis] = self.tape.within(1, shape[axis]);
                let positions = self.tape.once_in(2);
                let kind = OpKind::TopK(TopK { axis, largest: self.tape.once_in(2), positions });
                self.operator(kind, vec![x], if positions { DType::I64 } else { dtype }, top)
            }
            2 => {
                let indices = self.alike(DType::I64, &[3]);
                let gathered = [&shape[..axis], &[3], &shape[axis + 1..]].concat();
                self.operator(OpKind::Gather(Gather::Slices { axis }), vec![x, indices], dtype, gathered)
            }
            3 if shape.len() >= 2 => {
                let trilu = Trilu { upper: self.tape.once_in(2), diagonal: self.tape.below(3) as i64 - 1 };
                self.operator(OpKind::Trilu(trilu), vec![x], dtype, shape)
            }
            4 if shape.len() >= 2 && dtype.is_float() => {
                let lrn = Lrn { size: self.tape.within(1, 3), alpha: 1e-4, beta: 0.75, bias: 1.0 };
                self.operator(OpKind::Lrn(lrn), vec![x], dtype, shape)
            }
            5 if shape.len() == 3 || shape.len() == 5 => {
                let mut axes = Vec::new();
                let mut out = shape[..2].to_vec();
                for &size in &shape[2..] {
                    let ([kernel, stride, dilation, pad_begin, pad_end], count) = self.window(size)?;
                    axes.push(WindowAxis { kernel, stride, dilation, pad_begin, pad_end });
                    out.push(count);
                }
                self.operator(OpKind::PoolNd(PoolNd { kind: PoolKind::Max, axes }), vec![x], dtype, out)
            }
            _ => None,
        }
    }

    /// Makes most unread results and a few others outputs; the last tensor if there are none.
    fn outputs(&mut self) {
        let consumers = self.graph.consumers();
        let mut outputs = Vec::new();
        for id in self.known.clone() {
            let unread = consumers[self.graph.root(id).index()].is_empty();
            let computed = self.graph.producer(id).is_some();
            if computed && (unread && !self.tape.once_in(8) || self.tape.once_in(10)) {
                outputs.push(id);
            }
        }
        if outputs.is_empty() {
            outputs.push(self.known[self.known.len() - 1]);
        }
        self.graph.outputs = outputs;
    }
}
