//! tract's scalar functions as expressions of ours.
//!
//! Truth values are numbers here: 1 and 0.

use tract_onnx::prelude::DatumType;
use tract_onnx::tract_core::ops::element_wise::ElementWiseOp;
use tract_onnx::tract_core::ops::math::PowConst;
use tract_onnx::tract_core::ops::nn::LeakyRelu;

use crate::graph::{Binary, Expr, Unary};

/// An elementwise function of `x0`.
pub fn unary(op: &ElementWiseOp) -> Option<Expr> {
    let x = Expr::identity;
    if let Some(op) = op.0.downcast_ref::<PowConst>() {
        return Some(power(x(), op.exponent));
    }
    if let Some(op) = op.0.downcast_ref::<LeakyRelu>() {
        let below = Expr::binary(Binary::Mul, x(), Expr::Const(op.alpha));
        return Some(below.where_not_zero(Expr::binary(Binary::Less, x(), Expr::Const(0.0)), x()));
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
        "Not" => return Some(Expr::binary(Binary::Sub, Expr::Const(1.0), x())),
        _ => return None,
    };
    Some(x().then(function))
}

/// `x` to a constant power, by the cheapest function that is exact.
fn power(x: Expr, exponent: f32) -> Expr {
    match exponent {
        1.0 => x,
        2.0 => x.then(Unary::Square),
        0.5 => x.then(Unary::Sqrt),
        -0.5 => x.then(Unary::Rsqrt),
        -1.0 => x.then(Unary::Recip),
        _ => Expr::binary(Binary::Pow, x, Expr::Const(exponent)),
    }
}

/// A binary function of `a` and `b`, by tract's name.
pub fn binary(name: &str, a: Expr, b: Expr) -> Option<Expr> {
    let function = match name {
        "Add" => Binary::Add,
        "Sub" => Binary::Sub,
        "SubF" => return Some(Expr::binary(Binary::Sub, b, a)),
        "Mul" => Binary::Mul,
        "Div" => Binary::Div,
        "Max" | "Or" => Binary::Max,
        "Min" | "And" => Binary::Min,
        "Pow" => Binary::Pow,
        "LT" => Binary::Less,
        "LTE" => Binary::LessEqual,
        "GT" => return Some(Expr::binary(Binary::Less, b, a)),
        "GTE" => return Some(Expr::binary(Binary::LessEqual, b, a)),
        "Eq" => Binary::Equal,
        "NE" | "Xor" => return Some(Expr::binary(Binary::Sub, Expr::Const(1.0), Expr::binary(Binary::Equal, a, b))),
        _ => return None,
    };
    Some(match (function, a, b) {
        (Binary::Max, x, Expr::Const(0.0)) | (Binary::Max, Expr::Const(0.0), x) => x.then(Unary::Relu),
        (Binary::Pow, x, Expr::Const(exponent)) => power(x, exponent),
        (function, a, b) => Expr::binary(function, a, b),
    })
}

/// A conversion of `x0` between types that are numbers of ours.
pub fn cast(from: DatumType, to: DatumType) -> Option<Expr> {
    match (from, to) {
        (DatumType::F32 | DatumType::Bool, DatumType::F32) | (DatumType::Bool, DatumType::Bool) => Some(Expr::identity()),
        (DatumType::F32, DatumType::Bool) => {
            Some(Expr::binary(Binary::Sub, Expr::Const(1.0), Expr::binary(Binary::Equal, Expr::identity(), Expr::Const(0.0))))
        }
        _ => None,
    }
}
