//! Typed scalars, and expressions evaluated on them, from the definitions in `graph::expr`.
//! Integers are computed in 128 bits and then wrapped, floating-point numbers in double precision
//! and then rounded.

use hiosc::graph::{Binary, Constant, DType, Expr, Scalar, Unary};
use hiosc::runtime::{bf16_to_f32, f16_to_f32, f32_to_bf16, f32_to_f16};

/// A value of any element type.
#[derive(Clone, Copy, Debug)]
pub struct Number {
    pub dtype: DType,
    pub value: Value,
}

/// An integer (a truth value is 0 or 1), or a floating-point number.
#[derive(Clone, Copy, Debug)]
pub enum Value {
    Int(i128),
    Float(f64),
}
use Value::{Float, Int};

/// Whether results are rounded to their type, or kept as exact as double precision allows.
#[derive(Clone, Copy, PartialEq)]
pub enum Rounding {
    Rounded,
    Exact,
}

impl Number {
    /// `value` in the type `dtype`; an integer wraps around.
    pub fn new(dtype: DType, value: Value) -> Number {
        Number::rounded(dtype, value, Rounding::Rounded)
    }

    fn rounded(dtype: DType, value: Value, rounding: Rounding) -> Number {
        let value = match (dtype, value) {
            (DType::Bool, Int(v)) => Int(i128::from(v != 0)),
            (DType::I8, Int(v)) => Int((v as i8).into()),
            (DType::I16, Int(v)) => Int((v as i16).into()),
            (DType::I32, Int(v)) => Int((v as i32).into()),
            (DType::I64, Int(v)) => Int((v as i64).into()),
            (DType::U8, Int(v)) => Int((v as u8).into()),
            (DType::U16, Int(v)) => Int((v as u16).into()),
            (DType::U32, Int(v)) => Int((v as u32).into()),
            (DType::U64, Int(v)) => Int((v as u64).into()),
            (DType::F16, Float(v)) if rounding == Rounding::Rounded => Float(f16_to_f32(f32_to_f16(v as f32)).into()),
            (DType::BF16, Float(v)) if rounding == Rounding::Rounded => Float(bf16_to_f32(f32_to_bf16(v as f32)).into()),
            (DType::F32, Float(v)) if rounding == Rounding::Rounded => Float((v as f32).into()),
            (DType::F16 | DType::BF16 | DType::F32 | DType::F64, Float(v)) => Float(v),
            (dtype, value) => panic!("{value:?} is not a {}", dtype.name()),
        };
        Number { dtype, value }
    }

    /// A number of type f32, not rounded.
    pub fn float(value: f64) -> Number {
        Number { dtype: DType::F32, value: Float(value) }
    }

    pub fn of(scalar: Scalar) -> Number {
        let bits = scalar.bits();
        let value = match scalar.dtype() {
            DType::Bool | DType::U8 | DType::U16 | DType::U32 | DType::U64 => Int(bits.into()),
            DType::I8 => Int((bits as i8).into()),
            DType::I16 => Int((bits as i16).into()),
            DType::I32 => Int((bits as i32).into()),
            DType::I64 => Int((bits as i64).into()),
            DType::F16 => Float(f16_to_f32(bits as u16).into()),
            DType::BF16 => Float(bf16_to_f32(bits as u16).into()),
            DType::F32 => Float(f32::from_bits(bits as u32).into()),
            DType::F64 => Float(f64::from_bits(bits)),
        };
        Number { dtype: scalar.dtype(), value }
    }

    /// Its bits, little-endian.
    fn bits(self) -> u64 {
        match (self.dtype, self.value) {
            (_, Int(v)) => v as u64,
            (DType::F16, Float(v)) => f32_to_f16(v as f32).into(),
            (DType::BF16, Float(v)) => f32_to_bf16(v as f32).into(),
            (DType::F32, Float(v)) => (v as f32).to_bits().into(),
            (_, Float(v)) => v.to_bits(),
        }
    }

    /// As a double.
    pub fn f64(self) -> f64 {
        match self.value {
            Int(v) => v as f64,
            Float(v) => v,
        }
    }

    fn int(self) -> i128 {
        match self.value {
            Int(v) => v,
            Float(v) => panic!("{v} is not an integer"),
        }
    }

    /// The order of two values of one type; none where one is NaN.
    fn order(self, other: Number) -> Option<std::cmp::Ordering> {
        match (self.value, other.value) {
            (Int(a), Int(b)) => Some(a.cmp(&b)),
            (Float(a), Float(b)) => a.partial_cmp(&b),
            _ => panic!("two kinds of numbers"),
        }
    }

    /// Whether a condition holds.
    fn holds(self) -> bool {
        assert_eq!(self.dtype, DType::Bool, "a condition");
        self.f64() != 0.0
    }

    /// In another type.
    pub fn cast(self, to: DType, rounding: Rounding) -> Number {
        let value = match self.value {
            _ if to == DType::Bool => Int((self.f64() != 0.0).into()),
            Int(v) if to.is_float() => Float(v as f64),
            Float(v) if !to.is_float() => {
                // the range of the type: `as` truncates, and NaN is 0
                let (low, high) = match to {
                    DType::I8 => (i8::MIN.into(), i8::MAX.into()),
                    DType::I16 => (i16::MIN.into(), i16::MAX.into()),
                    DType::I32 => (i32::MIN.into(), i32::MAX.into()),
                    DType::I64 => (i64::MIN.into(), i64::MAX.into()),
                    DType::U8 => (0, u8::MAX.into()),
                    DType::U16 => (0, u16::MAX.into()),
                    DType::U32 => (0, u32::MAX.into()),
                    _ => (0, i128::from(u64::MAX)),
                };
                Int((v as i128).clamp(low, high))
            }
            value => value,
        };
        Number::rounded(to, value, rounding)
    }
}

/// The values of a constant.
pub fn numbers(constant: &Constant) -> Vec<Number> {
    let (dtype, size) = (constant.dtype(), constant.dtype().bytes() as usize);
    let one = |bytes: &[u8]| {
        let mut bits = [0; 8];
        bits[..size].copy_from_slice(bytes);
        Number::of(Scalar::from_bits(dtype, u64::from_le_bytes(bits)))
    };
    constant.bytes().chunks_exact(size).map(one).collect()
}

/// The constant of these values.
pub fn constant(dtype: DType, values: &[Number]) -> Constant {
    let size = dtype.bytes() as usize;
    assert!(values.iter().all(|v| v.dtype == dtype), "all {}", dtype.name());
    let bytes: Vec<u8> = values.iter().flat_map(|v| v.bits().to_le_bytes()[..size].to_vec()).collect();
    Constant::from_bytes(dtype, &bytes)
}

/// The value of an expression.
pub fn eval(expr: &Expr, x: &dyn Fn(usize) -> Number, rounding: Rounding) -> Number {
    match expr {
        Expr::Input(i) => x(*i),
        Expr::Const(c) => Number::of(*c),
        Expr::Cast(to, a) => eval(a, x, rounding).cast(*to, rounding),
        Expr::Unary(op, a) => {
            let a = eval(a, x, rounding);
            let value = match a.value {
                Int(v) => Int(unary_int(*op, a.dtype, v)),
                Float(v) => Float(unary(*op, v)),
            };
            Number::rounded(a.dtype, value, rounding)
        }
        Expr::Binary(op, a, b) => {
            let (a, b) = (eval(a, x, rounding), eval(b, x, rounding));
            assert_eq!(a.dtype, b.dtype, "{expr}");
            binary(*op, a, b, rounding)
        }
        Expr::Select(c, a, b) => eval(if eval(c, x, rounding).holds() { a } else { b }, x, rounding),
    }
}

/// A function of two values of one type.
pub fn binary(op: Binary, a: Number, b: Number, rounding: Rounding) -> Number {
    let compared = match op {
        Binary::Less => Some(a.order(b) == Some(std::cmp::Ordering::Less)),
        Binary::LessEqual => Some(a.order(b).is_some_and(|o| o.is_le())),
        Binary::Equal => Some(a.order(b) == Some(std::cmp::Ordering::Equal)),
        _ => None,
    };
    if let Some(holds) = compared {
        return Number { dtype: DType::Bool, value: Int(holds.into()) };
    }
    let value = match (a.value, b.value) {
        (Int(x), Int(y)) => Int(binary_int(op, a.dtype, x, y)),
        (Float(x), Float(y)) => Float(match op {
            Binary::Add => x + y,
            Binary::Sub => x - y,
            Binary::Mul => x * y,
            Binary::Div => x / y,
            Binary::Rem => x % y,
            Binary::Max | Binary::Min if x.is_nan() || y.is_nan() => f64::NAN,
            Binary::Max => x.max(y),
            Binary::Min => x.min(y),
            Binary::Pow => x.powf(y),
            _ => panic!("{} of floating-point numbers", op.name()),
        }),
        _ => panic!("two kinds of numbers"),
    };
    Number::rounded(a.dtype, value, rounding)
}

fn binary_int(op: Binary, dtype: DType, a: i128, b: i128) -> i128 {
    let distance = b.rem_euclid(8 * i128::from(dtype.bytes()));
    match op {
        Binary::Add => a + b,
        Binary::Sub => a - b,
        Binary::Mul => a.wrapping_mul(b),
        Binary::Div | Binary::Rem if b == 0 => 0,
        Binary::Div => a / b,
        Binary::Rem => a % b,
        Binary::Max => a.max(b),
        Binary::Min => a.min(b),
        Binary::Pow => (0..b as u32 % 100_000).fold(1, |product: i128, _| Number::new(DType::I64, Int(product.wrapping_mul(a))).int()),
        Binary::And => a & b,
        Binary::Or => a | b,
        Binary::Xor => a ^ b,
        Binary::ShiftLeft => a << distance,
        Binary::ShiftRight => a >> distance,
        Binary::Less | Binary::LessEqual | Binary::Equal => unreachable!("compared before"),
    }
}

fn unary_int(op: Unary, dtype: DType, a: i128) -> i128 {
    match op {
        Unary::Relu => a.max(0),
        Unary::Neg => -a,
        Unary::Abs => a.abs(),
        Unary::Square => a.wrapping_mul(a),
        Unary::Sign => a.signum(),
        Unary::Not if dtype == DType::Bool => 1 - a,
        Unary::Not => !a,
        _ => panic!("{} of integers", op.name()),
    }
}

fn unary(op: Unary, a: f64) -> f64 {
    match op {
        Unary::Relu if a < 0.0 => 0.0,
        Unary::Relu => a,
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
        Unary::Gelu => 0.5 * a * (1.0 + erf(a * std::f64::consts::FRAC_1_SQRT_2)),
        Unary::Erf => erf(a),
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
        Unary::Not => panic!("not of a floating-point number"),
    }
}

/// The error function, from its series (near 0) or its continued fraction.
fn erf(x: f64) -> f64 {
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
