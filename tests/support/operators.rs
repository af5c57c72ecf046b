//! One small case of each operator, for tests that only compile kernels: the contents of the
//! tensors do not matter, and there are no expected results.
//!
//! Each family of operators has a function here, and a row in the table of [`families`].

use hiosc::graph::{
    Attention, Binary, Cell, Concat, Constant, Conv, ConvNd, CumSum, DType, Elementwise, Expr, Gather, GridSample, Interpolation, Lrn,
    MatMul, Norm, OpKind, Outside, Pad, PadMode, Pool, PoolIndices, PoolKind, PoolNd, Reduce, ReduceKind, Resample, Scalar, Scatter, Slice,
    Softmax, TappedAxis, TopK, Transpose, Trilu, Unary, Update, WindowAxis,
};

use super::harness::{KernelCase, Random, TensorValues};

/// Makes the list of all kinds of operators from a table of families. The match has no wildcard, so
/// a table that lacks a kind does not compile. Kinds that have a kernel must be in [`one_of_each`].
macro_rules! families {
    ($($family:ident: [$($name:ident),*] $(without a kernel: [$($viewed:ident),*])?;)*) => {
        /// The functions that add the operators of a family to the list.
        const FAMILIES: &[fn(&mut List)] = &[$($family),*];

        /// All kinds that have a kernel.
        pub const KINDS: &[&str] = &[$($(stringify!($name),)*)*];

        /// The name of a kind among [`KINDS`]; `None` for those that only reinterpret memory.
        pub fn kind_name(kind: &OpKind) -> Option<&'static str> {
            match kind {
                $(
                    $(OpKind::$name(_) => Some(stringify!($name)),)*
                    $($(OpKind::$viewed(_) => None,)*)?
                )*
            }
        }
    };
}

// A row per family: its function below, and its operators.
families! {
    attention: [Attention];
    cell: [Cell];
    concat: [Concat];
    conv: [Conv, ConvNd];
    copy: [Transpose, Slice, Pad, Trilu] without a kernel: [Reshape];
    cumsum: [CumSum];
    elementwise: [Elementwise];
    gather: [Gather];
    grid_sample: [GridSample];
    lrn: [Lrn];
    matmul: [MatMul];
    norm: [Norm];
    pool: [Pool, PoolNd, PoolIndices];
    reduce: [Reduce];
    resample: [Resample];
    scatter: [Scatter];
    softmax: [Softmax];
    topk: [TopK];
}

/// The list: every kind of operator, every variant that has its own kernel, and all element types.
pub fn one_of_each() -> Vec<KernelCase> {
    let mut list = List { random: Random(11), cases: Vec::new() };
    FAMILIES.iter().for_each(|family| family(&mut list));
    list.cases
}

struct List {
    random: Random,
    cases: Vec<KernelCase>,
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

    /// The same, with indices as the second input.
    fn indexed(&mut self, dtype: DType, kind: OpKind, shapes: &[&[usize]], out: &[usize]) {
        let mut inputs: Vec<TensorValues> = shapes.iter().map(|shape| self.random.typed(dtype, shape)).collect();
        inputs[1] = self.random.typed(DType::I64, shapes[1]);
        self.with(kind, inputs, out);
    }

    fn with(&mut self, kind: OpKind, inputs: Vec<TensorValues>, out: &[usize]) {
        self.cases.push(KernelCase { kind, inputs, out: out.to_vec(), expected: Default::default() });
    }
}

/// All element types but truth values.
pub fn number_types() -> impl Iterator<Item = DType> {
    DType::ALL.into_iter().filter(|&dtype| dtype != DType::Bool)
}

/// `relu(x0)`
pub fn relu() -> Expr {
    Expr::identity().then(Unary::Relu)
}

/// `x0 op x1`
pub fn two(op: Binary) -> Expr {
    Expr::binary(op, Expr::Input(0), Expr::Input(1))
}

/// An operator that computes `expr`.
pub fn expression(expr: Expr) -> OpKind {
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

/// Attention of contiguous operands `[batch, heads, ...]`, with a mask of shape `mask`; also the
/// shapes of its inputs and of its result.
pub fn attention_of(
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

/// The memory layout of an operand of a matrix product.
#[derive(Clone, Copy)]
pub enum MatrixLayout {
    /// Row-major.
    Rows,
    /// Column-major.
    Columns,
}
use MatrixLayout::{Columns, Rows};

/// A product of matrices in these layouts, and the shapes of `a`, `b` and the result.
pub fn matmul_of([batch, m, n, k]: [usize; 4], [a, b, c]: [MatrixLayout; 3], bias: bool, epilogue: Expr) -> (MatMul, [Vec<usize>; 3]) {
    let strides = |layout: MatrixLayout, rows: usize, columns: usize| match layout {
        Rows => [rows * columns, columns, 1],
        Columns => [rows * columns, 1, rows],
    };
    let shape = |layout: MatrixLayout, rows: usize, columns: usize| match layout {
        Rows => vec![batch, rows, columns],
        Columns => vec![batch, columns, rows],
    };
    let matmul =
        MatMul { batch, m, n, k, a_strides: strides(a, m, k), b_strides: strides(b, k, n), c_strides: strides(c, m, n), bias, epilogue };
    (matmul, [shape(a, m, k), shape(b, k, n), shape(c, m, n)])
}

fn attention(list: &mut List) {
    for (heads, extents, causal, mask) in
        [([1, 4, 2], [9, 33, 10, 7], true, None), ([1, 2, 2], [40, 40, 64, 64], false, Some([1, 1, 40, 40]))]
    {
        let (attention, inputs, out) = attention_of(heads, extents, causal, mask);
        let shapes: Vec<&[usize]> = inputs.iter().map(|shape| shape.as_slice()).collect();
        list.add(OpKind::Attention(attention), &shapes, &out);
    }
}

fn cell(list: &mut List) {
    list.add(OpKind::Cell(Cell::LstmState), &[&[2, 32], &[2, 8]], &[2, 8]);
    list.add(OpKind::Cell(Cell::LstmOutput), &[&[2, 32], &[2, 8]], &[2, 8]);
    list.add(OpKind::Cell(Cell::Gru), &[&[2, 24], &[2, 24], &[2, 8]], &[2, 8]);
}

fn concat(list: &mut List) {
    list.add(OpKind::Concat(Concat { axis: 1 }), &[&[2, 8], &[2, 3]], &[2, 11]);
    for dtype in DType::ALL {
        list.typed(dtype, OpKind::Concat(Concat { axis: 1 }), &[&[2, 16], &[2, 16]], &[2, 32]);
    }
}

/// Over two axes, over more, and transposed.
fn conv(list: &mut List) {
    // few and many channels use different tiles
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
    for dtype in number_types() {
        list.typed(dtype, OpKind::Conv(plain([3, 3])), &[&[1, 2, 8, 8], &[4, 2, 3, 3]], &[1, 4, 6, 6]);
    }

    let transposed = ConvNd { bias: true, epilogue: relu(), ..conv_nd(true, &[[2, 2, 1, 0, 0]; 2]) };
    list.add(OpKind::ConvNd(transposed), &[&[1, 4, 5, 6], &[8, 4, 2, 2], &[8]], &[1, 8, 10, 12]);
    for dtype in [DType::F32, DType::I32, DType::F64, DType::F16] {
        let kind = OpKind::ConvNd(conv_nd(false, &[[2, 2, 1, 1, 0]; 3]));
        list.typed(dtype, kind, &[&[1, 4, 5, 6, 3], &[8, 4, 2, 2, 2]], &[1, 8, 3, 3, 2]);
    }
}

fn copy(list: &mut List) {
    let transpose = || OpKind::Transpose(Transpose { permutation: vec![1, 0] });
    list.add(transpose(), &[&[4, 8]], &[8, 4]);
    for dtype in DType::ALL {
        list.typed(dtype, transpose(), &[&[3, 5]], &[5, 3]);
    }
    list.add(OpKind::Slice(Slice { begin: vec![3, 0], step: vec![-1, 1] }), &[&[4, 8]], &[2, 8]);
    for mode in [PadMode::Constant(f32::NEG_INFINITY.into()), PadMode::Reflect, PadMode::Edge] {
        list.add(OpKind::Pad(Pad { before: vec![0, 1], after: vec![1, 2], mode }), &[&[4, 8]], &[5, 11]);
    }
    list.add(OpKind::Trilu(Trilu { upper: true, diagonal: -1 }), &[&[2, 3, 4]], &[2, 3, 4]);
}

fn cumsum(list: &mut List) {
    list.add(OpKind::CumSum(CumSum { axis: 1, exclusive: true, reverse: true }), &[&[2, 80]], &[2, 80]);
}

/// All scalar functions of all types, and conversions between types.
fn elementwise(list: &mut List) {
    use Unary::{Abs, Exp, Log, Recip, Rsqrt, Sigmoid, Sqrt, Square, Tanh};
    use Unary::{Acos, Acosh, Asin, Asinh, Atan, Atanh, Ceil, Cos, Cosh, Erf, Floor, Gelu, HardSwish, Round, Sign, Silu, Sin, Sinh, Tan};
    list.add(expression(Expr::number(1.0)), &[], &[2, 8]);
    list.add(expression(Expr::binary(Binary::Add, Expr::Input(1), Expr::Input(0))), &[&[2, 8], &[1, 8]], &[2, 8]);
    let first = Expr::binary(Binary::Add, Expr::Input(0), Expr::number(f32::NAN));
    let chain = [Exp, Log, Sqrt, Rsqrt, Recip, Sigmoid, Tanh, Square, Abs].into_iter().fold(first, Expr::then);
    list.add(expression(chain), &[&[2, 8]], &[2, 8]);
    let chain = [HardSwish, Silu, Gelu, Erf, Floor, Ceil, Round, Sign, Sin, Cos, Tan, Asin, Acos, Atan, Sinh, Cosh, Asinh, Acosh, Atanh]
        .into_iter()
        .fold(Expr::Input(0), Expr::then);
    let compared = [Binary::Less, Binary::LessEqual, Binary::Equal].map(|op| Expr::binary(op, chain.clone(), Expr::Input(0)));
    let condition = compared.into_iter().fold(Expr::Const(true.into()), |a, b| Expr::binary(Binary::And, a, b));
    let chosen = Expr::select(condition, Expr::Input(0), Expr::binary(Binary::Pow, chain, Expr::number(1.0)));
    list.add(expression(chosen), &[&[2, 8]], &[2, 8]);
    for dtype in DType::ALL {
        let mixed = if dtype == DType::Bool { two(Binary::Xor) } else { two(Binary::Div) };
        let mixed = if dtype.is_integer() {
            Expr::binary(Binary::ShiftLeft, mixed, Expr::binary(Binary::Pow, two(Binary::Rem), Expr::Input(1)))
        } else {
            mixed
        };
        let converted = mixed.cast(DType::F16).then(Sqrt).cast(DType::I8).cast(DType::F64);
        list.typed(dtype, expression(converted), &[&[2, 8], &[2, 8]], &[2, 8]);
    }
}

fn gather(list: &mut List) {
    list.indexed(DType::F16, OpKind::Gather(Gather::Slices { axis: 0 }), &[&[4, 8], &[3]], &[3, 8]);
    list.indexed(DType::Bool, OpKind::Gather(Gather::Elements { axis: 1 }), &[&[4, 8], &[4, 3]], &[4, 3]);
    list.indexed(DType::F32, OpKind::Gather(Gather::Nd { batch_dims: 1 }), &[&[4, 8, 2], &[4, 1]], &[4, 2]);
}

fn grid_sample(list: &mut List) {
    for (interpolation, outside) in
        [(Interpolation::Nearest, Outside::Zeros), (Interpolation::Linear, Outside::Border), (Interpolation::Cubic, Outside::Reflection)]
    {
        let sample = GridSample { interpolation, outside, align_corners: outside == Outside::Border };
        list.add(OpKind::GridSample(sample), &[&[1, 3, 4, 5], &[1, 2, 3, 2]], &[1, 3, 2, 3]);
    }
    let linear = GridSample { interpolation: Interpolation::Linear, outside: Outside::Zeros, align_corners: false };
    list.add(OpKind::GridSample(linear), &[&[1, 3, 4, 5, 6], &[1, 2, 2, 2, 3]], &[1, 3, 2, 2, 2]);
}

fn lrn(list: &mut List) {
    list.add(OpKind::Lrn(Lrn { size: 3, alpha: 1e-4, beta: 0.75, bias: 1.0 }), &[&[1, 4, 5]], &[1, 4, 5]);
}

fn matmul(list: &mut List) {
    let mut add = |dtype: DType, extents, layouts| {
        let (matmul, [a, b, c]) = matmul_of(extents, layouts, true, relu());
        let bias = [matmul.n];
        list.typed(dtype, OpKind::MatMul(matmul), &[&a, &b, &bias], &c);
    };
    add(DType::F32, [1, 1, 40, 64], [Rows, Columns, Rows]);
    add(DType::F32, [1, 1, 40, 64], [Rows, Rows, Rows]);
    add(DType::F32, [2, 9, 9, 10], [Columns, Rows, Rows]);
    add(DType::F32, [2, 40, 40, 64], [Columns, Rows, Rows]);
    for dtype in number_types() {
        add(dtype, [1, 3, 5, 4], [Rows, Rows, Rows]);
    }
}

fn norm(list: &mut List) {
    for shape in [&[4, 200][..], &[4, 2000], &[2, 9, 70]] {
        let scale = vec![1; shape.len()];
        let norm = |centred, epilogue| OpKind::Norm(Norm { centred, axes: vec![1], epsilon: 1e-5, epilogue });
        list.add(norm(false, Expr::identity()), &[shape], shape);
        list.add(norm(true, two(Binary::Mul)), &[shape, &scale], shape);
    }
}

/// Over two axes, over more, and the positions of maxima.
fn pool(list: &mut List) {
    let pool = |kind| Pool { kind, kernel: [2, 2], strides: [2, 2], dilations: [1, 1], pads_begin: [0, 0], pads_end: [0, 0] };
    let average = PoolKind::Average { count_include_pad: true };
    list.add(OpKind::Pool(pool(PoolKind::Max)), &[&[1, 2, 8, 8]], &[1, 2, 4, 4]);
    for dtype in number_types() {
        list.typed(dtype, OpKind::Pool(pool(average)), &[&[1, 2, 8, 8]], &[1, 2, 4, 4]);
    }

    let pool = |kind| OpKind::PoolNd(PoolNd { kind, axes: vec![axis([2, 2, 1, 1, 0]); 3] });
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
}

/// With one thread, warp or block per output.
fn reduce(list: &mut List) {
    let reduce = |kind, axes: &[usize]| OpKind::Reduce(Reduce { kind, axes: axes.to_vec() });
    list.add(reduce(ReduceKind::Mean, &[0]), &[&[3, 600]], &[1, 600]);
    list.add(reduce(ReduceKind::Mean, &[1]), &[&[3, 600]], &[3, 1]);
    list.add(reduce(ReduceKind::Max, &[0, 1]), &[&[3, 600]], &[1, 1]);
    for dtype in DType::ALL {
        list.typed(dtype, reduce(ReduceKind::Max, &[1]), &[&[3, 600]], &[3, 1]);
        list.typed(dtype, reduce(ReduceKind::ArgMin { last: true }, &[1]), &[&[3, 600]], &[3, 1]);
    }
    for dtype in number_types() {
        list.typed(dtype, reduce(ReduceKind::Mean, &[1]), &[&[3, 600]], &[3, 1]);
    }
}

/// Weighted sums of several taps, and copies of single elements.
fn resample(list: &mut List) {
    let mut add = |dtype: DType, taps: [usize; 2], weighted: bool, outside: Option<f64>, epilogue: Expr| {
        let mut inputs = vec![list.random.typed(dtype, &[1, 4, 3, 5])];
        for (extent, taps) in [6, 7].into_iter().zip(taps) {
            let (shape, positions) = (vec![extent, taps], vec![0i32; extent * taps]);
            inputs.push(TensorValues { shape: shape.clone(), values: Constant::I32(positions.into()) });
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

fn scatter(list: &mut List) {
    let elements = |update| OpKind::Scatter(Scatter::Elements { axis: 1, update });
    list.indexed(DType::F16, elements(Update::Add), &[&[4, 8], &[4, 3], &[4, 3]], &[4, 8]);
    list.indexed(DType::I64, elements(Update::Max), &[&[3000, 2], &[3000, 30], &[3000, 30]], &[3000, 2]);
    list.indexed(DType::F64, OpKind::Scatter(Scatter::Nd { update: Update::Mul }), &[&[4, 8], &[3, 1], &[3, 8]], &[4, 8]);
}

fn softmax(list: &mut List) {
    for axis in [1, 0] {
        list.add(OpKind::Softmax(Softmax { axis, log: false }), &[&[3, 600]], &[3, 600]);
        list.add(OpKind::Softmax(Softmax { axis, log: true }), &[&[3, 600]], &[3, 600]);
    }
    for dtype in DType::ALL.into_iter().filter(|dtype| dtype.is_float()) {
        list.typed(dtype, OpKind::Softmax(Softmax { axis: 1, log: false }), &[&[3, 600]], &[3, 600]);
    }
}

fn topk(list: &mut List) {
    let ordered = |largest, positions| OpKind::TopK(TopK { axis: 1, largest, positions });
    list.typed(DType::F16, ordered(true, true), &[&[4, 8]], &[4, 3]);
    list.typed(DType::U8, ordered(false, false), &[&[4, 8]], &[4, 3]);
}
