//! The operators of the compiled graph: what a kernel must compute, and nothing about where or when.
//!
//! The set is small on purpose: an ONNX operator is lowered to one of these or folded away. Shapes are static and live on the
//! tensors; what is here are the attributes. Layout is NCHW for activations and OIHW for convolution weights. Operands and result have one element
//! type unless an operator says otherwise; the expression of an elementwise operator or an epilogue may lead to another.

use super::{Cell, DType, Index, Resample, Scalar};

use super::dense::{Attention, ConvNd, GridSample, Lrn, Norm, PoolIndices, PoolNd, Trilu};

/// What an [`Operator`](super::Operator) computes.
#[derive(Clone, Debug, PartialEq)]
pub enum OpKind {
    /// 2-D convolution. Inputs: `x [N,C,H,W]`, `w [K,C/groups,R,S]`, `bias [K]` if `bias`, then the epilogue's further inputs, each of the
    /// output's shape `[N,K,P,Q]`.
    Conv(Conv),
    /// 2-D pooling over windows. Input `x [N,C,H,W]`, output `[N,C,P,Q]`.
    Pool(Pool),
    /// Strided, batched matrix product. Inputs: `a`, `b`, then `bias [N]` if `bias`, then the epilogue's further inputs in the output's layout.
    MatMul(MatMul),
    /// Reduction over `axes`, which stay as size 1. One input.
    Reduce(Reduce),
    /// One scalar expression applied to every element; inputs broadcast to the output's shape (numpy rules, equal ranks).
    Elementwise(Elementwise),
    /// Softmax along `axis`. One input.
    Softmax {
        /// The axis that sums to one.
        axis: usize,
    },
    /// The logarithm of the softmax along `axis`. One input.
    LogSoftmax {
        /// The axis whose exponentials sum to one.
        axis: usize,
    },
    /// Convolution over any number of axes, or its transpose.
    ConvNd(ConvNd),
    /// Pooling over any number of axes.
    PoolNd(PoolNd),
    /// Where the maxima of a pooling are.
    PoolIndices(PoolIndices),
    /// One triangle of matrices.
    Trilu(Trilu),
    /// Normalisation by mean and variance, or by the root mean square.
    Norm(Norm),
    /// Local response normalisation.
    Lrn(Lrn),
    /// Sampling at computed places.
    GridSample(GridSample),
    /// Sampling at places that are known: a resize.
    Resample(Resample),
    /// Scaled dot product attention.
    Attention(Box<Attention>),
    /// Concatenation of all inputs along `axis`.
    Concat {
        /// The joined axis.
        axis: usize,
    },
    /// Other order of axes: axis `i` of the output is axis `permutation[i]` of the one input.
    Transpose {
        /// The input's axis for each of the output's.
        permutation: Vec<usize>,
    },
    /// Evenly spaced elements of the one input: index `i` of an axis reads `begin + i * step`.
    Slice(Slice),
    /// The one input with a frame around it.
    Pad(Pad),
    /// Reads or writes by index, or orders elements. Inputs: as [`Index`] says.
    Index(Index),
    /// Running sums along an axis. One input.
    CumSum(CumSum),
    /// The last part of one step of a recurrent layer. Inputs: gates and states as [`Cell`] says.
    Cell(Cell),
    /// Same elements in the same order under another shape (reshape, squeeze, flatten). The `free-views` rule removes it.
    Reshape,
}

/// Attributes of a 2-D convolution; pairs are (height, width).
#[derive(Clone, Debug, PartialEq)]
pub struct Conv {
    /// Window, R by S.
    pub kernel: [usize; 2],
    /// Steps of the window.
    pub strides: [usize; 2],
    /// Distance between taps.
    pub dilations: [usize; 2],
    /// Zeros before (top, left).
    pub pads_begin: [usize; 2],
    /// Zeros after (bottom, right).
    pub pads_end: [usize; 2],
    /// Groups; input and output channels are multiples of it.
    pub groups: usize,
    /// Whether the third input is a bias `[K]`.
    pub bias: bool,
    /// Applied to each finished sum: `x0` is the sum with bias, `x1..` the further inputs.
    pub epilogue: Expr,
}

/// How a pooling window becomes one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PoolKind {
    /// The largest element.
    Max,
    /// The mean; with `count_include_pad` padding counts in the divisor (never the part of a ceil-mode window beyond the padding).
    Average {
        /// Whether padding counts in the divisor.
        count_include_pad: bool,
    },
    /// The sum.
    Sum,
}

impl std::fmt::Display for PoolKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            PoolKind::Max => "max",
            PoolKind::Average { count_include_pad: true } => "average including pads",
            PoolKind::Average { count_include_pad: false } => "average",
            PoolKind::Sum => "sum",
        })
    }
}

/// Attributes of a 2-D pooling; pairs are (height, width). Ceil mode is resolved: the output's shape says how many windows there are.
#[derive(Clone, Debug, PartialEq)]
pub struct Pool {
    /// Largest or mean.
    pub kind: PoolKind,
    /// Window.
    pub kernel: [usize; 2],
    /// Steps of the window.
    pub strides: [usize; 2],
    /// Distance between taps.
    pub dilations: [usize; 2],
    /// Padding before (top, left).
    pub pads_begin: [usize; 2],
    /// Padding after (bottom, right).
    pub pads_end: [usize; 2],
}

/// `c[b,i,j] = epilogue(sum_k a[b,i,k] * b[b,k,j] + bias[j])`, with every operand addressed by element strides, so that transposed
/// operands need no copy.
#[derive(Clone, Debug, PartialEq)]
pub struct MatMul {
    /// Number of independent products.
    pub batch: usize,
    /// Rows of the result.
    pub m: usize,
    /// Columns of the result.
    pub n: usize,
    /// Length of each sum.
    pub k: usize,
    /// Strides of `a` along (batch, m, k), in elements.
    pub a_strides: [usize; 3],
    /// Strides of `b` along (batch, k, n), in elements.
    pub b_strides: [usize; 3],
    /// Strides of the result along (batch, m, n), in elements.
    pub c_strides: [usize; 3],
    /// Whether the third input is a bias `[N]`.
    pub bias: bool,
    /// Applied to each finished sum: `x0` is the sum with bias, `x1..` the further inputs.
    pub epilogue: Expr,
}

/// What a reduction computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReduceKind {
    /// Sum of the elements.
    Sum,
    /// Sum divided by the count.
    Mean,
    /// The largest element.
    Max,
    /// The smallest element.
    Min,
    /// The product of the elements.
    Product,
    /// Where the largest element is, counted along the reduced axes in row-major order, as i64; NaN counts as larger than all numbers.
    ArgMax {
        /// Of several, the last one instead of the first.
        last: bool,
    },
    /// Where the smallest element is; NaN counts as smaller than all numbers.
    ArgMin {
        /// Of several, the last one instead of the first.
        last: bool,
    },
}

/// Attributes of a reduction.
#[derive(Clone, Debug, PartialEq)]
pub struct Reduce {
    /// What is computed.
    pub kind: ReduceKind,
    /// Reduced axes, ascending; they remain with size 1.
    pub axes: Vec<usize>,
}

/// Attributes of a slice: one number an axis. The output's shape says how many elements are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slice {
    /// The first index read.
    pub begin: Vec<usize>,
    /// From one index to the next; never 0, and negative to read backwards.
    pub step: Vec<isize>,
}

/// What stands in a padding.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum PadMode {
    /// This value, of the tensor's type.
    Constant(Scalar),
    /// The elements as in a mirror that stands on the first (last) one, which is not repeated. Padding is shorter than its axis.
    Reflect,
    /// The first (last) element.
    Edge,
}

/// Attributes of a padding: one number an axis.
#[derive(Clone, Debug, PartialEq)]
pub struct Pad {
    /// Elements added before.
    pub before: Vec<usize>,
    /// Elements added after.
    pub after: Vec<usize>,
    /// What they are.
    pub mode: PadMode,
}

/// Attributes of a running sum.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CumSum {
    /// The axis along which elements are added.
    pub axis: usize,
    /// Whether each sum leaves out its own element.
    pub exclusive: bool,
    /// Whether sums begin at the end of the axis.
    pub reverse: bool,
}

/// Attributes of an elementwise operator.
#[derive(Clone, Debug, PartialEq)]
pub struct Elementwise {
    /// Result of one element; `x0..` are the operator's inputs.
    pub expr: Expr,
}

/// A typed scalar expression: the body of an elementwise operator, or the epilogue of a heavier one. It becomes one C++ type
/// (`Relu<Add<In<0>, In<1>>>`), so that fusing costs no generated function. [`Expr::dtype`] says which types fit together.
#[derive(Clone, Debug, PartialEq)]
pub enum Expr {
    /// The i-th input, `x<i>`.
    Input(usize),
    /// A value known at compile time.
    Const(Scalar),
    /// The value in another type. A floating-point number becomes an integer by truncation, kept in the range, NaN 0; an integer loses its upper bits;
    /// a number is true unless it is 0; true is 1. Else the nearest value, the even one of two.
    Cast(DType, Box<Expr>),
    /// A function of one value.
    Unary(Unary, Box<Expr>),
    /// A function of two values.
    Binary(Binary, Box<Expr>, Box<Expr>),
    /// The second value where the first is true, else the third.
    Select(Box<Expr>, Box<Expr>, Box<Expr>),
}

/// Scalar functions of one value. `HardSwish` is `x * clip(x/6 + 1/2, 0, 1)`, `Silu` is `x * sigmoid(x)`, `Gelu` is `x/2 * (1 + erf(x/sqrt 2))`;
/// `Round` takes the even one of two equally near integers; `Sign` of 0 is 0. `Relu`, `Neg`, `Abs`, `Sign` and `Square` take any number, `Not` truth values and
/// (bit by bit) integers, all others floating-point numbers. Half precision is computed in single precision and rounded once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Unary {
    Relu,
    Neg,
    Abs,
    Exp,
    Log,
    Sqrt,
    Rsqrt,
    Recip,
    Sigmoid,
    Tanh,
    Square,
    HardSwish,
    Silu,
    Gelu,
    Erf,
    Floor,
    Ceil,
    Round,
    Sign,
    Sin,
    Cos,
    Tan,
    Asin,
    Acos,
    Atan,
    Sinh,
    Cosh,
    Asinh,
    Acosh,
    Atanh,
    Not,
}

/// Scalar functions of two values of one type. Integers wrap around; what is divided by 0 gives 0. `Max` and `Min` hand on NaN, as ONNX asks. `Rem` has the
/// sign of the dividend; an integer's `Pow` takes the exponent modulo 2^32. `And`, `Or`, `Xor` take truth values and (bit by bit) integers, shifts
/// integers, by a distance modulo the size. Comparisons give a truth value, false where a value is NaN.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Binary {
    Add,
    Sub,
    Mul,
    Div,
    Max,
    Min,
    Pow,
    Less,
    LessEqual,
    Equal,
    Rem,
    And,
    Or,
    Xor,
    ShiftLeft,
    ShiftRight,
}

impl Unary {
    /// Lower-case name, as in text forms and kernel names.
    pub fn name(self) -> &'static str {
        match self {
            Unary::Relu => "relu",
            Unary::Neg => "neg",
            Unary::Abs => "abs",
            Unary::Exp => "exp",
            Unary::Log => "log",
            Unary::Sqrt => "sqrt",
            Unary::Rsqrt => "rsqrt",
            Unary::Recip => "recip",
            Unary::Sigmoid => "sigmoid",
            Unary::Tanh => "tanh",
            Unary::Square => "square",
            Unary::HardSwish => "hard_swish",
            Unary::Silu => "silu",
            Unary::Gelu => "gelu",
            Unary::Erf => "erf",
            Unary::Floor => "floor",
            Unary::Ceil => "ceil",
            Unary::Round => "round",
            Unary::Sign => "sign",
            Unary::Sin => "sin",
            Unary::Cos => "cos",
            Unary::Tan => "tan",
            Unary::Asin => "asin",
            Unary::Acos => "acos",
            Unary::Atan => "atan",
            Unary::Sinh => "sinh",
            Unary::Cosh => "cosh",
            Unary::Asinh => "asinh",
            Unary::Acosh => "acosh",
            Unary::Atanh => "atanh",
            Unary::Not => "not",
        }
    }
}

impl Unary {
    /// Whether it is defined on values of type `of`; the result has that type, too.
    pub fn takes(self, of: DType) -> bool {
        match self {
            Unary::Relu | Unary::Neg | Unary::Abs | Unary::Sign | Unary::Square => of != DType::Bool,
            Unary::Not => !of.is_float(),
            _ => of.is_float(),
        }
    }
}

impl Binary {
    /// Lower-case name, as in text forms and kernel names.
    pub fn name(self) -> &'static str {
        match self {
            Binary::Add => "add",
            Binary::Sub => "sub",
            Binary::Mul => "mul",
            Binary::Div => "div",
            Binary::Max => "max",
            Binary::Min => "min",
            Binary::Pow => "pow",
            Binary::Less => "less",
            Binary::LessEqual => "less_equal",
            Binary::Equal => "equal",
            Binary::Rem => "rem",
            Binary::And => "and",
            Binary::Or => "or",
            Binary::Xor => "xor",
            Binary::ShiftLeft => "shift_left",
            Binary::ShiftRight => "shift_right",
        }
    }

    /// The result's type for two operands of type `of`; `None` where it is not defined on them.
    pub fn dtype(self, of: DType) -> Option<DType> {
        use Binary::*;
        let fits = match self {
            Add | Sub | Mul | Div | Max | Min | Pow | Rem | Less | LessEqual => of != DType::Bool,
            Equal => true,
            And | Or | Xor => !of.is_float(),
            ShiftLeft | ShiftRight => of.is_integer(),
        };
        let result = if matches!(self, Less | LessEqual | Equal) { DType::Bool } else { of };
        fits.then_some(result)
    }
}

impl Expr {
    /// `x0`: hands its input on unchanged.
    pub fn identity() -> Expr {
        Expr::Input(0)
    }

    /// Whether this is `x0`.
    pub fn is_identity(&self) -> bool {
        *self == Expr::Input(0)
    }

    /// `op(self)`.
    pub fn then(self, op: Unary) -> Expr {
        Expr::Unary(op, Box::new(self))
    }

    /// `op(a, b)`.
    pub fn binary(op: Binary, a: Expr, b: Expr) -> Expr {
        Expr::Binary(op, Box::new(a), Box::new(b))
    }

    /// A number of single precision.
    pub fn number(value: f32) -> Expr {
        Expr::Const(value.into())
    }

    /// The value in the type `to`.
    pub fn cast(self, to: DType) -> Expr {
        Expr::Cast(to, Box::new(self))
    }

    /// `yes` where `condition` is true, else `no`.
    pub fn select(condition: Expr, yes: Expr, no: Expr) -> Expr {
        Expr::Select(Box::new(condition), Box::new(yes), Box::new(no))
    }

    /// The type of the result for inputs of these types, or what does not fit together.
    pub fn dtype(&self, inputs: &[DType]) -> Result<DType, String> {
        match self {
            Expr::Input(i) => inputs.get(*i).copied().ok_or_else(|| format!("the expression reads more inputs than there are: {self}")),
            Expr::Const(c) => Ok(c.dtype()),
            Expr::Cast(to, a) => a.dtype(inputs).map(|_| *to),
            Expr::Unary(op, a) => {
                let of = a.dtype(inputs)?;
                if op.takes(of) { Ok(of) } else { Err(format!("{} is not defined on {}", op.name(), of.name())) }
            }
            Expr::Binary(op, a, b) => {
                let (a, b) = (a.dtype(inputs)?, b.dtype(inputs)?);
                let result = op.dtype(a).filter(|_| a == b);
                result.ok_or_else(|| format!("{} is not defined on {} and {}", op.name(), a.name(), b.name()))
            }
            Expr::Select(c, a, b) => match (c.dtype(inputs)?, a.dtype(inputs)?, b.dtype(inputs)?) {
                (DType::Bool, a, b) if a == b => Ok(a),
                (c, a, b) => Err(format!("select is not defined on {}, {} and {}", c.name(), a.name(), b.name())),
            },
        }
    }

    /// This expression with every `x<i>` replaced by `f(i)`.
    pub fn substitute(&self, f: &impl Fn(usize) -> Expr) -> Expr {
        match self {
            Expr::Input(i) => f(*i),
            Expr::Const(c) => Expr::Const(*c),
            Expr::Cast(to, a) => a.substitute(f).cast(*to),
            Expr::Unary(op, a) => a.substitute(f).then(*op),
            Expr::Binary(op, a, b) => Expr::binary(*op, a.substitute(f), b.substitute(f)),
            Expr::Select(c, a, b) => Expr::select(c.substitute(f), a.substitute(f), b.substitute(f)),
        }
    }

    /// One more than the largest input used; 0 for a constant.
    pub fn inputs(&self) -> usize {
        match self {
            Expr::Input(i) => i + 1,
            Expr::Const(_) => 0,
            Expr::Cast(_, a) | Expr::Unary(_, a) => a.inputs(),
            Expr::Binary(_, a, b) => a.inputs().max(b.inputs()),
            Expr::Select(c, a, b) => c.inputs().max(a.inputs()).max(b.inputs()),
        }
    }

    /// Number of scalar operations for one element.
    pub fn operations(&self) -> usize {
        match self {
            Expr::Input(_) | Expr::Const(_) => 0,
            Expr::Cast(_, a) | Expr::Unary(_, a) => 1 + a.operations(),
            Expr::Binary(_, a, b) => 1 + a.operations() + b.operations(),
            Expr::Select(c, a, b) => 1 + c.operations() + a.operations() + b.operations(),
        }
    }
}

impl std::fmt::Display for Expr {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Expr::Input(i) => write!(f, "x{i}"),
            Expr::Const(c) => write!(f, "{c}"),
            Expr::Cast(to, a) => write!(f, "{}({a})", to.name()),
            Expr::Unary(op, a) => write!(f, "{}({a})", op.name()),
            Expr::Binary(op, a, b) => write!(f, "{}({a}, {b})", op.name()),
            Expr::Select(c, a, b) => write!(f, "select({c}, {a}, {b})"),
        }
    }
}

impl OpKind {
    /// Short lower-case name: `conv`, `pool`, ...
    pub fn name(&self) -> &'static str {
        match self {
            OpKind::Conv(_) => "conv",
            OpKind::Pool(_) => "pool",
            OpKind::MatMul(_) => "matmul",
            OpKind::Reduce(_) => "reduce",
            OpKind::Elementwise(_) => "elementwise",
            OpKind::Softmax { .. } => "softmax",
            OpKind::Index(index) => index.name(),
            OpKind::CumSum(_) => "cumsum",
            OpKind::Cell(_) => "cell",
            OpKind::LogSoftmax { .. } => "log_softmax",
            OpKind::ConvNd(conv) if conv.transposed => "conv_transpose",
            OpKind::ConvNd(_) => "conv_nd",
            OpKind::PoolNd(_) => "pool_nd",
            OpKind::PoolIndices(_) => "pool_indices",
            OpKind::Trilu(_) => "trilu",
            OpKind::Norm(_) => "norm",
            OpKind::Lrn(_) => "lrn",
            OpKind::GridSample(_) => "grid_sample",
            OpKind::Resample(_) => "resample",
            OpKind::Attention(_) => "attention",
            OpKind::Concat { .. } => "concat",
            OpKind::Transpose { .. } => "transpose",
            OpKind::Slice(_) => "slice",
            OpKind::Pad(_) => "pad",
            OpKind::Reshape => "reshape",
        }
    }
}
