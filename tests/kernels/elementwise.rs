//! Scalar functions of every type, and operands that are broadcast.

use hiosc::graph::{Binary, Constant, DType, Elementwise, Expr, OpKind, Scalar, Unary};

use super::common::typed_case;
use crate::support::harness::{KernelCase, Random, TensorValues, check};
use crate::support::operators::{expression, relu, two};
use crate::support::reference;

#[test]
fn scalar_functions() {
    let mut r = Random(7);
    let mut cases = Vec::new();
    let mut case = |shapes: &[&[usize]], out: &[usize], expr: Expr, positive: bool| {
        let mut inputs: Vec<_> = shapes.iter().map(|shape| r.tensor(shape)).collect();
        if positive {
            inputs.iter_mut().for_each(|input| input.floats_mut().iter_mut().for_each(|v| *v = v.abs() + 0.1));
        } else {
            inputs[0].floats_mut()[0] = f32::NAN;
        }
        let kind = Elementwise { expr };
        cases.push(KernelCase {
            expected: reference::elementwise(&kind, &inputs, out),
            kind: OpKind::Elementwise(kind),
            inputs,
            out: out.to_vec(),
        });
    };
    for op in [Binary::Add, Binary::Sub, Binary::Mul, Binary::Div, Binary::Max, Binary::Min, Binary::Less, Binary::LessEqual, Binary::Equal]
    {
        case(&[&[2, 3, 4, 5], &[2, 3, 4, 5]], &[2, 3, 4, 5], two(op), false);
        case(&[&[5, 7], &[5, 7]], &[5, 7], Expr::binary(op, Expr::Input(1), Expr::Input(0)), false);
    }
    case(&[&[5, 7], &[5, 7]], &[5, 7], two(Binary::Pow), true);
    for op in [
        Unary::HardSwish,
        Unary::Silu,
        Unary::Gelu,
        Unary::Erf,
        Unary::Floor,
        Unary::Ceil,
        Unary::Round,
        Unary::Sign,
        Unary::Sin,
        Unary::Cos,
    ] {
        case(&[&[3, 33]], &[3, 33], Expr::identity().then(op), false);
    }
    for op in [Unary::Tan, Unary::Atan, Unary::Sinh, Unary::Cosh, Unary::Asinh] {
        case(&[&[3, 33]], &[3, 33], Expr::identity().then(op), false);
    }
    for (op, inside) in [(Unary::Asin, Unary::Tanh), (Unary::Acos, Unary::Tanh), (Unary::Atanh, Unary::Tanh), (Unary::Acosh, Unary::Cosh)] {
        case(&[&[3, 33]], &[3, 33], Expr::identity().then(inside).then(op), true);
    }
    let select = Expr::select(two(Binary::Less).then(Unary::Not), Expr::Input(1), Expr::Input(2));
    case(&[&[3, 40], &[1, 40], &[3, 1]], &[3, 40], select, false);
    for op in [Unary::Relu, Unary::Neg, Unary::Abs, Unary::Exp, Unary::Recip, Unary::Sigmoid, Unary::Tanh, Unary::Square] {
        case(&[&[3, 33]], &[3, 33], Expr::identity().then(op), false);
    }
    for op in [Unary::Log, Unary::Sqrt, Unary::Rsqrt] {
        case(&[&[3, 33]], &[3, 33], Expr::identity().then(op), true);
    }
    case(&[&[1, 8, 5, 5], &[1, 8, 1, 1]], &[1, 8, 5, 5], two(Binary::Mul), false);
    case(&[&[1, 8, 4, 4], &[1, 8, 1, 1]], &[1, 8, 4, 4], two(Binary::Add), false);
    case(&[&[2, 1, 4], &[1, 3, 1]], &[2, 3, 4], two(Binary::Sub), false);
    case(&[&[2, 3, 1, 8], &[3, 1, 5, 1].map(|d| if d == 3 { 1 } else { d })], &[2, 3, 5, 8], two(Binary::Add), false);
    case(&[&[4, 1], &[1, 4]], &[4, 4], two(Binary::Max), false);
    case(&[&[1]], &[1], relu(), true);
    case(&[&[]], &[], relu(), true);
    case(&[&[1, 1], &[100, 12]], &[100, 12], Expr::binary(Binary::Add, Expr::Input(1), Expr::Input(0)), true);
    let chain = Expr::binary(Binary::Mul, Expr::binary(Binary::Add, two(Binary::Add), Expr::number(0.5)).then(Unary::Relu), Expr::Input(2));
    case(&[&[3, 40], &[1, 40], &[3, 1]], &[3, 40], chain, false);
    let clip = Expr::binary(Binary::Min, Expr::binary(Binary::Max, Expr::Input(0), Expr::number(0.0)), Expr::number(6.0));
    case(&[&[1025]], &[1025], clip, false);
    // Other shapes, same signature: one kernel.
    case(&[&[2, 60]], &[2, 60], relu(), false);
    case(&[&[1, 3, 40]], &[1, 3, 40], relu(), false);
    case(&[&[3, 4]], &[3, 4], two(Binary::Add).substitute(&|_| Expr::Input(0)), false);
    check("scalar functions", cases);
}

#[test]
fn scalar_functions_of_every_type() {
    use Binary::{Add, And, Div, Equal, Less, LessEqual, Max, Min, Mul, Or, Pow, Rem, ShiftLeft, ShiftRight, Sub, Xor};
    let mut r = Random(20);
    let mut cases = Vec::new();
    // f32 has its own tests; 16-bit integers take the same path as 8-bit ones
    for dtype in DType::ALL.into_iter().filter(|t| !matches!(t, DType::F32 | DType::I16 | DType::U16)) {
        let mut x = || r.typed(dtype, &[7, 36]);
        for op in [Add, Sub, Mul, Div, Max, Min, Less, LessEqual, Equal, Rem, And, Or, Xor, ShiftLeft, ShiftRight] {
            if op.dtype(dtype).is_some() {
                cases.push(typed_case(expression(two(op)), vec![x(), x()], &[7, 36], 2.0));
            }
        }
        for op in [Unary::Relu, Unary::Neg, Unary::Abs, Unary::Sign, Unary::Square, Unary::Not, Unary::Floor, Unary::Round, Unary::Sqrt] {
            if op.takes(dtype) {
                cases.push(typed_case(expression(Expr::identity().then(op)), vec![x()], &[7, 36], 2.0));
            }
        }
        for op in [Unary::Exp, Unary::Sin, Unary::Tanh, Unary::Erf, Unary::Gelu, Unary::Sigmoid, Unary::Atan, Unary::Asinh] {
            if op.takes(dtype) {
                // for negative numbers, 1 + erf in Gelu cancels
                let x_of = if op == Unary::Gelu { Expr::identity().then(Unary::Abs) } else { Expr::identity() };
                cases.push(typed_case(expression(x_of.then(op)), vec![x()], &[7, 36], 64.0));
            }
        }
        if matches!(dtype, DType::I32 | DType::I64) {
            // exponents small enough to be checked by multiplying
            let exponent = Expr::binary(Rem, Expr::Input(1), Expr::Const(Scalar::from_f64(dtype, 9.0))).then(Unary::Abs);
            cases.push(typed_case(expression(Expr::binary(Pow, Expr::Input(0), exponent)), vec![x(), x()], &[7, 36], 0.0));
        }
        for to in DType::ALL {
            cases.push(typed_case(expression(Expr::identity().cast(to)), vec![x()], &[7, 36], 0.0));
        }
        let constant = Expr::binary(Equal, Expr::Input(0), Expr::Const(Scalar::from_f64(dtype, 1.0)));
        let select = Expr::select(constant, Expr::Input(1), Expr::Input(2));
        let row = TensorValues { shape: vec![1, 36], ..r.typed(dtype, &[36]) };
        cases.push(typed_case(expression(select), vec![r.typed(dtype, &[7, 1]), row, r.typed(dtype, &[7, 36])], &[7, 36], 0.0));
    }
    // between two neighbours of bf16, below, at and above the middle, from 0 to infinity
    let between = |i: u32| f32::from_bits((i / 5 * 0x28b) << 16 | [0, 0x7fff, 0x8000, 0x8001, 0xffff][i as usize % 5]);
    for to in [DType::BF16, DType::F16] {
        let x = TensorValues { shape: vec![7, 36], values: Constant::F32((0..252).map(between).collect()) };
        cases.push(typed_case(expression(Expr::identity().cast(to)), vec![x], &[7, 36], 0.0));
    }
    check("scalar functions of every type", cases);
}

#[test]
fn broadcasts_of_every_type() {
    let mut r = Random(21);
    let mut cases = Vec::new();
    for dtype in DType::ALL {
        for (x, out) in [([3, 1, 8], [3, 4, 8]), ([1, 5, 1], [3, 5, 7])] {
            cases.push(typed_case(expression(Expr::identity()), vec![r.typed(dtype, &x)], &out, 0.0));
        }
    }
    check("broadcasts of every type", cases);
}
