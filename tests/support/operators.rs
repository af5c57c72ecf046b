//! One of each operator, small, for compilers that only compile: what is in the tensors does not matter, and nothing says what must come out.

use hiosc::graph::{
    Attention, Binary, Cell, Constant, Conv, ConvNd, CumSum, DType, Elementwise, Expr, GridSample, Index, Interpolation, Lrn, MatMul, Norm,
    OpKind, Outside, Pad, PadMode, Pool, PoolIndices, PoolKind, PoolNd, Reduce, ReduceKind, Resample, Scalar, Slice, TappedAxis, Trilu,
    Unary, Update, WindowAxis,
};

use super::harness::{Case, Random, Tensor};

/// The names of all kinds of operators that have a kernel, and which one a kind is. The match has no wildcard: what is missing here does not compile, and what is
/// here must be in [`one_of_each`].
macro_rules! kinds {
    ($($name:ident),*; without a kernel: $($viewed:ident),*) => {
        /// All kinds that have a kernel.
        pub const KINDS: &[&str] = &[$(stringify!($name)),*];

        /// The name of a kind among [`KINDS`]; `None` for those that only look at memory in another way.
        pub fn kind_name(kind: &OpKind) -> Option<&'static str> {
            match kind {
                $(OpKind::$name { .. } => Some(stringify!($name)),)*
                $(OpKind::$viewed { .. } => None,)*
            }
        }
    };
}
kinds!(
    Conv, Pool, MatMul, Reduce, Elementwise, Softmax, LogSoftmax, ConvNd, PoolNd, PoolIndices, Trilu, Norm, Lrn, GridSample, Resample,
    Attention, Concat, Transpose, Slice, Pad, Index, CumSum, Cell;
    without a kernel: Reshape
);

/// The list: every kind of operator, in every way that has a kernel of its own, and all element types.
pub fn one_of_each() -> Vec<Case> {
    let mut list = List { random: Random(11), cases: Vec::new() };
    products(&mut list);
    windows(&mut list);
    rows(&mut list);
    functions(&mut list);
    movements(&mut list);
    indices(&mut list);
    recurrent(&mut list);
    resamplings(&mut list);
    every_type(&mut list);
    list.cases
}

struct List {
    random: Random,
    cases: Vec<Case>,
}

impl List {
    /// An operator whose inputs have the type `dtype` and these shapes.
    fn typed(&mut self, dtype: DType, kind: OpKind, shapes: &[&[usize]], out: &[usize]) {
        let inputs = shapes.iter().map(|shape| self.random.typed(dtype, shape)).collect();
        self.with(kind, inputs, out);
    }

    /// The same in single precision.
    fn add(&mut self, kind: OpKind, shapes: &[&[usize]], out: &[usize]) {
        self.typed(DType::F32, kind, shapes, out);
    }

    fn with(&mut self, kind: OpKind, inputs: Vec<Tensor>, out: &[usize]) {
        self.cases.push(Case { kind, inputs, out: out.to_vec(), expected: Default::default() });
    }
}

fn relu() -> Expr {
    Expr::identity().then(Unary::Relu)
}

fn two(op: Binary) -> Expr {
    Expr::binary(op, Expr::Input(0), Expr::Input(1))
}

fn elementwise(expr: Expr) -> OpKind {
    OpKind::Elementwise(Elementwise { expr })
}

/// A convolution with a window and nothing else.
pub fn plain(kernel: [usize; 2]) -> Conv {
    Conv {
        kernel,
        strides: [1, 1],
        dilations: [1, 1],
        pads_begin: [0, 0],
        pads_end: [0, 0],
        groups: 1,
        bias: false,
        epilogue: Expr::identity(),
    }
}

/// `kernel, stride, dilation, padding before and after`
pub fn axis([kernel, stride, dilation, pad_begin, pad_end]: [usize; 5]) -> WindowAxis {
    WindowAxis { kernel, stride, dilation, pad_begin, pad_end }
}

/// A convolution over any number of axes, and nothing else.
pub fn conv_nd(transposed: bool, axes: &[[usize; 5]]) -> ConvNd {
    ConvNd { transposed, axes: axes.iter().map(|&a| axis(a)).collect(), groups: 1, bias: false, epilogue: Expr::identity() }
}

/// Attention of contiguous operands `[batch, heads, ...]`; `mask` is its shape. Gives the shapes of its inputs and of its result, too.
pub fn attention(
    [batch, heads, kv_heads]: [usize; 3],
    [rows, columns, depth, value_depth]: [usize; 4],
    causal: bool,
    mask: Option<[usize; 4]>,
) -> (Attention, Vec<[usize; 4]>, [usize; 4]) {
    let strides = |[_, b, c, d]: [usize; 4]| [b * c * d, c * d, d, 1];
    let (q, k) = ([batch, heads, rows, depth], [batch, kv_heads, columns, depth]);
    let (v, y) = ([batch, kv_heads, columns, value_depth], [batch, heads, rows, value_depth]);
    let attention = Attention {
        batch,
        heads,
        kv_heads,
        rows,
        columns,
        depth,
        value_depth,
        scale: 1.0 / (depth as f32).sqrt(),
        causal,
        q_strides: strides(q),
        k_strides: strides(k),
        v_strides: strides(v),
        mask_strides: mask.map(|m| std::array::from_fn(|i| if m[i] == 1 { 0 } else { strides(m)[i] })),
        y_strides: strides(y),
    };
    (attention, [q, k, v].into_iter().chain(mask).collect(), y)
}

/// How an operand of a matrix product lies in memory.
#[derive(Clone, Copy)]
pub enum Layout {
    /// Row by row.
    Rows,
    /// Column by column.
    Columns,
}
use Layout::{Columns, Rows};

/// A product of matrices that lie in these ways; gives the shapes of `a`, `b` and the result, too.
pub fn matmul([batch, m, n, k]: [usize; 4], [a, b, c]: [Layout; 3], bias: bool, epilogue: Expr) -> (MatMul, [Vec<usize>; 3]) {
    let strides = |layout: Layout, rows: usize, columns: usize| match layout {
        Rows => [rows * columns, columns, 1],
        Columns => [rows * columns, 1, rows],
    };
    let shape = |layout: Layout, rows: usize, columns: usize| match layout {
        Rows => vec![batch, rows, columns],
        Columns => vec![batch, columns, rows],
    };
    let matmul =
        MatMul { batch, m, n, k, a_strides: strides(a, m, k), b_strides: strides(b, k, n), c_strides: strides(c, m, n), bias, epilogue };
    (matmul, [shape(a, m, k), shape(b, k, n), shape(c, m, n)])
}

/// Convolutions, matrix products, attention.
fn products(list: &mut List) {
    // few channels and many: other tiles
    for channels in [20, 64] {
        let fused = Conv { bias: true, epilogue: two(Binary::Add).then(Unary::Relu), ..plain([3, 3]) };
        let out = [1, channels, 7, 7];
        list.add(OpKind::Conv(fused), &[&[1, 32, 9, 9], &[channels, 32, 3, 3], &[channels], &out], &out);
    }
    for [channels, filters] in [[8, 16], [32, 64]] {
        list.add(OpKind::Conv(plain([1, 1])), &[&[1, channels, 8, 8], &[filters, channels, 1, 1]], &[1, filters, 8, 8]);
    }
    let depthwise = Conv { groups: 8, pads_begin: [1, 1], pads_end: [1, 1], ..plain([3, 3]) };
    list.add(OpKind::Conv(depthwise), &[&[1, 8, 8, 8], &[8, 1, 3, 3]], &[1, 8, 8, 8]);

    for (extents, layouts) in [
        ([1, 1, 40, 64], [Rows, Columns, Rows]),
        ([1, 1, 40, 64], [Rows, Rows, Rows]),
        ([2, 9, 9, 10], [Columns, Rows, Rows]),
        ([2, 40, 40, 64], [Columns, Rows, Rows]),
    ] {
        let (matmul, [a, b, c]) = matmul(extents, layouts, true, relu());
        let bias = [matmul.n];
        list.add(OpKind::MatMul(matmul), &[&a, &b, &bias], &c);
    }

    let transposed = ConvNd { bias: true, epilogue: relu(), ..conv_nd(true, &[[2, 2, 1, 0, 0]; 2]) };
    list.add(OpKind::ConvNd(transposed), &[&[1, 4, 5, 6], &[8, 4, 2, 2], &[8]], &[1, 8, 10, 12]);
    for dtype in [DType::F32, DType::I32, DType::F64, DType::F16] {
        let kind = OpKind::ConvNd(conv_nd(false, &[[2, 2, 1, 1, 0]; 3]));
        list.typed(dtype, kind, &[&[1, 4, 5, 6, 3], &[8, 4, 2, 2, 2]], &[1, 8, 3, 3, 2]);
    }

    for (heads, extents, causal, mask) in
        [([1, 4, 2], [9, 33, 10, 7], true, None), ([1, 2, 2], [40, 40, 64, 64], false, Some([1, 1, 40, 40]))]
    {
        let (attention, inputs, out) = attention(heads, extents, causal, mask);
        let shapes: Vec<&[usize]> = inputs.iter().map(|shape| shape.as_slice()).collect();
        list.add(OpKind::Attention(Box::new(attention)), &shapes, &out);
    }
}

/// Poolings, and samples at computed places.
fn windows(list: &mut List) {
    let pool = Pool { kind: PoolKind::Max, kernel: [2, 2], strides: [2, 2], dilations: [1, 1], pads_begin: [0, 0], pads_end: [0, 0] };
    list.add(OpKind::Pool(pool), &[&[1, 2, 8, 8]], &[1, 2, 4, 4]);
    let pool = |kind| OpKind::PoolNd(PoolNd { kind, axes: vec![axis([2, 2, 1, 1, 0]); 3] });
    let average = PoolKind::Average { count_include_pad: true };
    for kind in [PoolKind::Max, PoolKind::Sum, PoolKind::Average { count_include_pad: false }, average] {
        list.add(pool(kind), &[&[1, 2, 5, 5, 5]], &[1, 2, 3, 3, 3]);
    }
    for dtype in [DType::I32, DType::F64, DType::F16] {
        list.typed(dtype, pool(average), &[&[1, 2, 5, 5, 5]], &[1, 2, 3, 3, 3]);
    }
    for column_major in [false, true] {
        let indices = PoolIndices { axes: vec![axis([2, 2, 1, 1, 0]); 2], column_major };
        list.add(OpKind::PoolIndices(indices), &[&[1, 2, 5, 5]], &[1, 2, 3, 3]);
    }
    for (interpolation, outside) in
        [(Interpolation::Nearest, Outside::Zeros), (Interpolation::Linear, Outside::Border), (Interpolation::Cubic, Outside::Reflection)]
    {
        let sample = GridSample { interpolation, outside, align_corners: outside == Outside::Border };
        list.add(OpKind::GridSample(sample), &[&[1, 3, 4, 5], &[1, 2, 3, 2]], &[1, 3, 2, 3]);
    }
    let linear = GridSample { interpolation: Interpolation::Linear, outside: Outside::Zeros, align_corners: false };
    list.add(OpKind::GridSample(linear), &[&[1, 3, 4, 5, 6], &[1, 2, 2, 2, 3]], &[1, 3, 2, 2, 2]);
}

/// Reductions, softmaxes, normalisations, running sums: along rows, by threads, warps and blocks.
fn rows(list: &mut List) {
    let reduce = |kind, axes: &[usize]| OpKind::Reduce(Reduce { kind, axes: axes.to_vec() });
    list.add(reduce(ReduceKind::Mean, &[0]), &[&[3, 600]], &[1, 600]);
    list.add(reduce(ReduceKind::Mean, &[1]), &[&[3, 600]], &[3, 1]);
    list.add(reduce(ReduceKind::Max, &[0, 1]), &[&[3, 600]], &[1, 1]);
    for axis in [1, 0] {
        list.add(OpKind::Softmax { axis }, &[&[3, 600]], &[3, 600]);
        list.add(OpKind::LogSoftmax { axis }, &[&[3, 600]], &[3, 600]);
    }
    for shape in [&[4, 200][..], &[4, 2000], &[2, 9, 70]] {
        let scale = vec![1; shape.len()];
        let norm = |centred, epilogue| OpKind::Norm(Norm { centred, axes: vec![1], epsilon: 1e-5, epilogue });
        list.add(norm(false, Expr::identity()), &[shape], shape);
        list.add(norm(true, two(Binary::Mul)), &[shape, &scale], shape);
    }
    list.add(OpKind::Lrn(Lrn { size: 3, alpha: 1e-4, beta: 0.75, bias: 1.0 }), &[&[1, 4, 5]], &[1, 4, 5]);
    list.add(OpKind::CumSum(CumSum { axis: 1, exclusive: true, reverse: true }), &[&[2, 80]], &[2, 80]);
}

/// Scalar functions, all of them.
fn functions(list: &mut List) {
    use Unary::{Abs, Exp, Log, Recip, Rsqrt, Sigmoid, Sqrt, Square, Tanh};
    use Unary::{Acos, Acosh, Asin, Asinh, Atan, Atanh, Ceil, Cos, Cosh, Erf, Floor, Gelu, HardSwish, Round, Sign, Silu, Sin, Sinh, Tan};
    list.add(elementwise(Expr::number(1.0)), &[], &[2, 8]);
    list.add(elementwise(Expr::binary(Binary::Add, Expr::Input(1), Expr::Input(0))), &[&[2, 8], &[1, 8]], &[2, 8]);
    let first = Expr::binary(Binary::Add, Expr::Input(0), Expr::number(f32::NAN));
    let chain = [Exp, Log, Sqrt, Rsqrt, Recip, Sigmoid, Tanh, Square, Abs].into_iter().fold(first, Expr::then);
    list.add(elementwise(chain), &[&[2, 8]], &[2, 8]);
    let chain = [HardSwish, Silu, Gelu, Erf, Floor, Ceil, Round, Sign, Sin, Cos, Tan, Asin, Acos, Atan, Sinh, Cosh, Asinh, Acosh, Atanh]
        .into_iter()
        .fold(Expr::Input(0), Expr::then);
    let compared = [Binary::Less, Binary::LessEqual, Binary::Equal].map(|op| Expr::binary(op, chain.clone(), Expr::Input(0)));
    let condition = compared.into_iter().fold(Expr::Const(true.into()), |a, b| Expr::binary(Binary::And, a, b));
    let chosen = Expr::select(condition, Expr::Input(0), Expr::binary(Binary::Pow, chain, Expr::number(1.0)));
    list.add(elementwise(chosen), &[&[2, 8]], &[2, 8]);
}

/// Operators that move elements.
fn movements(list: &mut List) {
    let pad = |mode| OpKind::Pad(Pad { before: vec![0, 1], after: vec![1, 2], mode });
    list.add(OpKind::Concat { axis: 1 }, &[&[2, 8], &[2, 3]], &[2, 11]);
    list.add(OpKind::Transpose { permutation: vec![1, 0] }, &[&[4, 8]], &[8, 4]);
    list.add(OpKind::Slice(Slice { begin: vec![3, 0], step: vec![-1, 1] }), &[&[4, 8]], &[2, 8]);
    for mode in [PadMode::Constant(f32::NEG_INFINITY.into()), PadMode::Reflect, PadMode::Edge] {
        list.add(pad(mode), &[&[4, 8]], &[5, 11]);
    }
    list.add(OpKind::Trilu(Trilu { upper: true, diagonal: -1 }), &[&[2, 3, 4]], &[2, 3, 4]);
}

/// Operators that read or write by index or order elements, with an odd type here and there.
fn indices(list: &mut List) {
    let mut add = |index: Index, of: DType, shapes: &[&[usize]], out: &[usize]| {
        let mut inputs: Vec<Tensor> = shapes.iter().map(|shape| list.random.typed(of, shape)).collect();
        if let Some(indices) = inputs.get_mut(1) {
            *indices = list.random.typed(DType::I64, shapes[1]);
        }
        list.with(OpKind::Index(index), inputs, out);
    };
    add(Index::Gather { axis: 0 }, DType::F16, &[&[4, 8], &[3]], &[3, 8]);
    add(Index::GatherElements { axis: 1 }, DType::Bool, &[&[4, 8], &[4, 3]], &[4, 3]);
    add(Index::GatherNd { batch_dims: 1 }, DType::F32, &[&[4, 8, 2], &[4, 1]], &[4, 2]);
    add(Index::ScatterElements { axis: 1, update: Update::Add }, DType::F16, &[&[4, 8], &[4, 3], &[4, 3]], &[4, 8]);
    add(Index::ScatterElements { axis: 1, update: Update::Max }, DType::I64, &[&[3000, 2], &[3000, 30], &[3000, 30]], &[3000, 2]);
    add(Index::ScatterNd { update: Update::Mul }, DType::F64, &[&[4, 8], &[3, 1], &[3, 8]], &[4, 8]);
    add(Index::TopK { axis: 1, largest: true, places: true }, DType::F16, &[&[4, 8]], &[4, 3]);
    add(Index::TopK { axis: 1, largest: false, places: false }, DType::U8, &[&[4, 8]], &[4, 3]);
}

/// The last parts of recurrent steps.
fn recurrent(list: &mut List) {
    list.add(OpKind::Cell(Cell::LstmState), &[&[2, 32], &[2, 8]], &[2, 8]);
    list.add(OpKind::Cell(Cell::LstmOutput), &[&[2, 32], &[2, 8]], &[2, 8]);
    list.add(OpKind::Cell(Cell::Gru), &[&[2, 24], &[2, 24], &[2, 8]], &[2, 8]);
}

/// Resamplings by tables: weighted over several taps, and of single elements.
fn resamplings(list: &mut List) {
    let mut add = |dtype: DType, taps: [usize; 2], weighted: bool, outside: Option<f64>, epilogue: Expr| {
        let mut inputs = vec![list.random.typed(dtype, &[1, 4, 3, 5])];
        for (extent, taps) in [6, 7].into_iter().zip(taps) {
            let (shape, places) = (vec![extent, taps], vec![0i32; extent * taps]);
            inputs.push(Tensor { shape: shape.clone(), values: Constant::I32(places.into()) });
            if weighted {
                inputs.push(list.random.tensor(&shape));
            }
        }
        let axes = [2, 3].into_iter().zip(taps).map(|(axis, taps)| TappedAxis { axis, taps }).collect();
        let outside = outside.map(|value| Scalar::from_f64(dtype, value));
        list.with(OpKind::Resample(Resample { axes, weighted, outside, epilogue }), inputs, &[1, 4, 6, 7]);
    };
    for dtype in [DType::F32, DType::F16, DType::F64] {
        add(dtype, [2, 4], true, None, relu());
    }
    for dtype in [DType::F32, DType::Bool, DType::I64, DType::U8] {
        add(dtype, [1, 1], false, Some(1.0), Expr::identity());
    }
}

/// Kernels of every element type and of what converts between them.
fn every_type(list: &mut List) {
    let reduce = |kind| OpKind::Reduce(Reduce { kind, axes: vec![1] });
    for dtype in DType::ALL {
        let number = dtype != DType::Bool;
        let mixed = if number { two(Binary::Div) } else { two(Binary::Xor) };
        let mixed = if dtype.is_integer() {
            Expr::binary(Binary::ShiftLeft, mixed, Expr::binary(Binary::Pow, two(Binary::Rem), Expr::Input(1)))
        } else {
            mixed
        };
        let halved = mixed.cast(DType::F16).then(Unary::Sqrt).cast(DType::I8).cast(DType::F64);
        let mut add = |kind: OpKind, shapes: &[&[usize]], out: &[usize]| list.typed(dtype, kind, shapes, out);
        add(elementwise(halved), &[&[2, 8], &[2, 8]], &[2, 8]);
        add(OpKind::Concat { axis: 1 }, &[&[2, 16], &[2, 16]], &[2, 32]);
        add(OpKind::Transpose { permutation: vec![1, 0] }, &[&[3, 5]], &[5, 3]);
        add(reduce(ReduceKind::Max), &[&[3, 600]], &[3, 1]);
        add(reduce(ReduceKind::ArgMin { last: true }), &[&[3, 600]], &[3, 1]);
        if number {
            add(reduce(ReduceKind::Mean), &[&[3, 600]], &[3, 1]);
            let kind = PoolKind::Average { count_include_pad: true };
            let pool = Pool { kind, kernel: [2, 2], strides: [2, 2], dilations: [1, 1], pads_begin: [0, 0], pads_end: [0, 0] };
            add(OpKind::Pool(pool), &[&[1, 2, 8, 8]], &[1, 2, 4, 4]);
            add(OpKind::Conv(plain([3, 3])), &[&[1, 2, 8, 8], &[4, 2, 3, 3]], &[1, 4, 6, 6]);
            let (a_strides, b_strides, c_strides) = ([12, 4, 1], [20, 5, 1], [15, 5, 1]);
            let product = MatMul { batch: 1, m: 3, n: 5, k: 4, a_strides, b_strides, c_strides, bias: true, epilogue: relu() };
            add(OpKind::MatMul(product), &[&[3, 4], &[4, 5], &[5]], &[3, 5]);
        }
        if dtype.is_float() {
            add(OpKind::Softmax { axis: 1 }, &[&[3, 600]], &[3, 600]);
        }
    }
}
