//! Typed scalar expressions: the body of an elementwise operator, and the epilogue of a heavier
//! one.
//!
//! An expression becomes one C++ type, `Relu<Add<In<0>, In<1>>>` (`kernels/expr.cuh`), so fusion
//! needs no generated function.

use super::{DType, Scalar};

/// A typed scalar expression: the body of an elementwise operator, or the epilogue of a heavier
/// one. It becomes one C++ type (`Relu<Add<In<0>, In<1>>>`), so fusion needs no generated function.
/// [`Expr::dtype`] says which types fit together.
#[derive(Clone, Debug, PartialEq)]
pub enum Expr {
    /// The i-th input, `x<i>`.
    Input(usize),
    /// A value known at compile time.
    Const(Scalar),
    /// The value in another type. A floating-point number becomes an integer by truncation, clamped
    /// to the range; NaN becomes 0. An integer loses the upper bits that do not fit. A number is
    /// true unless it is 0; true becomes 1. All other conversions round to nearest, ties to even.
    Cast(DType, Box<Expr>),
    /// A function of one value.
    Unary(Unary, Box<Expr>),
    /// A function of two values.
    Binary(Binary, Box<Expr>, Box<Expr>),
    /// The second value where the first is true, else the third.
    Select(Box<Expr>, Box<Expr>, Box<Expr>),
}

/// Scalar functions of one value. `HardSwish` is `x * clip(x/6 + 1/2, 0, 1)`, `Silu` is
/// `x * sigmoid(x)`, `Gelu` is `x/2 * (1 + erf(x/sqrt 2))`; `Round` rounds ties to even; `Sign` of
/// 0 is 0. `Relu`, `Neg`, `Abs`, `Sign` and `Square` take any number, `Not` takes booleans and,
/// bitwise, integers, and all others take floating-point numbers. Half precision is computed in
/// single precision and rounded once.
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

/// Scalar functions of two values of one type. Integers wrap around, and an integer divided by 0
/// gives 0. `Max` and `Min` propagate NaN, as ONNX asks. `Rem` has the sign of the dividend; `Pow`
/// of integers takes the exponent modulo 2^32. `And`, `Or` and `Xor` take booleans and, bitwise,
/// integers. Shifts take integers, and shift by a distance modulo the size. Comparisons give a
/// boolean, which is false if a value is NaN.
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

    /// The result's type for two operands of type `of`; `None` if it is not defined on them.
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
    /// `x0`: passes its input on unchanged.
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

    /// A single-precision number.
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

    /// The type of the result for inputs of these types, or why they do not fit together.
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
