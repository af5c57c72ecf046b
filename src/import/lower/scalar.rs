//! tract's scalar functions as expressions of ours.

use tract_onnx::tract_core::ops::element_wise::ElementWiseOp;
use tract_onnx::tract_core::ops::math::{IsInf, PowConst};
use tract_onnx::tract_core::ops::nn::LeakyRelu;
use tract_onnx::tract_core::ops::nn::gelu_approximate::GeluApproximate;

use crate::graph::{Binary, DType, Expr, Scalar, Unary};

/// An elementwise function of `x0`, which has the type `of`.
pub fn unary(op: &ElementWiseOp, of: DType) -> Option<Expr> {
    let x = Expr::identity;
    let number = |value: f64| Expr::Const(Scalar::from_f64(of, value));
    if let Some(op) = op.0.downcast_ref::<PowConst>() {
        return Some(power(x(), op.exponent, of));
    }
    if let Some(op) = op.0.downcast_ref::<LeakyRelu>() {
        let below = Expr::binary(Binary::Mul, x(), number(op.alpha.into()));
        return Some(Expr::select(Expr::binary(Binary::Less, x(), number(0.0)), below, x()));
    }
    if let Some(op) = op.0.downcast_ref::<GeluApproximate>() {
        // x/2 * (1 + tanh(sqrt(2/pi) * (x + 0.044715 * x^3)))
        let square = x().then(Unary::Square);
        let odd = if op.fast_impl { square } else { Expr::binary(Binary::Mul, square, x()) };
        let inner = Expr::binary(Binary::Add, x(), Expr::binary(Binary::Mul, number(0.044715), odd));
        let tanh = Expr::binary(Binary::Mul, number((2.0 / std::f64::consts::PI).sqrt()), inner).then(Unary::Tanh);
        let factor = Expr::binary(Binary::Add, tanh, number(1.0));
        return Some(Expr::binary(Binary::Mul, Expr::binary(Binary::Mul, x(), number(0.5)), factor));
    }
    if let Some(op) = op.0.downcast_ref::<IsInf>() {
        let equals = |value: f64| Expr::binary(Binary::Equal, x(), number(value));
        return Some(match (op.detect_positive, op.detect_negative) {
            (true, true) => Expr::binary(Binary::Equal, x().then(Unary::Abs), number(f64::INFINITY)),
            (true, false) => equals(f64::INFINITY),
            (false, true) => equals(f64::NEG_INFINITY),
            (false, false) => Expr::Const(false.into()),
        });
    }
    let function = match op.0.name().as_str() {
        "Abs" => Unary::Abs,
        "Exp" => Unary::Exp,
        "Ln" => Unary::Log,
        "Sqrt" => Unary::Sqrt,
        "Rsqrt" => Unary::Rsqrt,
        "Recip" => Unary::Recip,
        "Neg" => Unary::Neg,
        "Square" => Unary::Square,
        "Sigmoid" => Unary::Sigmoid,
        "Tanh" => Unary::Tanh,
        "HardSwish" => Unary::HardSwish,
        "Silu" => Unary::Silu,
        "GeluExact" => Unary::Gelu,
        "Erf" => Unary::Erf,
        "Floor" | "Ceil" | "Round" | "RoundHalfToEven" if of.is_integer() => return Some(x()),
        "Floor" => Unary::Floor,
        "Ceil" => Unary::Ceil,
        "RoundHalfToEven" => Unary::Round,
        "Sign" => Unary::Sign,
        "Sin" => Unary::Sin,
        "Cos" => Unary::Cos,
        "Tan" => Unary::Tan,
        "Asin" => Unary::Asin,
        "Acos" => Unary::Acos,
        "Atan" => Unary::Atan,
        "Sinh" => Unary::Sinh,
        "Cosh" => Unary::Cosh,
        "Asinh" => Unary::Asinh,
        "Acosh" => Unary::Acosh,
        "Atanh" => Unary::Atanh,
        "Not" | "BitNot" => Unary::Not,
        "IsNan" => return Some(Expr::binary(Binary::Equal, x(), x()).then(Unary::Not)),
        _ => return None,
    };
    function.takes(of).then(|| x().then(function))
}

/// `x` to a constant power, by the cheapest function that is exact.
fn power(x: Expr, exponent: f32, of: DType) -> Expr {
    match exponent {
        1.0 => x,
        2.0 => x.then(Unary::Square),
        0.5 => x.then(Unary::Sqrt),
        -0.5 => x.then(Unary::Rsqrt),
        -1.0 => x.then(Unary::Recip),
        _ => Expr::binary(Binary::Pow, x, Expr::Const(Scalar::from_f64(of, exponent.into()))),
    }
}

/// A binary function of `a` and `b`, both of type `of`, by tract's name. Of integers, `And` and `Or` ask whether they are 0, as tract does.
pub fn binary(name: &str, a: Expr, b: Expr, of: DType) -> Option<Expr> {
    if of.is_integer() && matches!(name, "And" | "Or") {
        let both = binary(name, a.cast(DType::Bool), b.cast(DType::Bool), DType::Bool)?;
        return Some(both.cast(of));
    }
    let function = match name {
        "Add" => Binary::Add,
        "Sub" => Binary::Sub,
        "SubF" => return Some(Expr::binary(Binary::Sub, b, a)),
        "Mul" => Binary::Mul,
        "Div" => Binary::Div,
        "Rem" => Binary::Rem,
        "Max" => Binary::Max,
        "Min" => Binary::Min,
        "And" | "BitAnd" => Binary::And,
        "Or" | "BitOr" => Binary::Or,
        "Xor" | "BitXor" => Binary::Xor,
        "ShiftLeft" => Binary::ShiftLeft,
        "ShiftRight" => Binary::ShiftRight,
        "Pow" => Binary::Pow,
        "LT" => Binary::Less,
        "LTE" => Binary::LessEqual,
        "GT" => return Some(Expr::binary(Binary::Less, b, a)),
        "GTE" => return Some(Expr::binary(Binary::LessEqual, b, a)),
        "Eq" => Binary::Equal,
        "NE" => return Some(Expr::binary(Binary::Equal, a, b).then(Unary::Not)),
        _ => return None,
    };
    function.dtype(of)?;
    Some(match (function, a, b) {
        (Binary::Max, x, Expr::Const(c)) | (Binary::Max, Expr::Const(c), x) if c.number() == 0.0 => x.then(Unary::Relu),
        (Binary::Pow, x, Expr::Const(exponent)) if of == DType::F32 => power(x, exponent.number() as f32, of),
        (function, a, b) => Expr::binary(function, a, b),
    })
}
