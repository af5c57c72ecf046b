//! Scalar functions that are stable for large and small numbers, or have an attribute.

use super::body::float;
use super::{Body, Definition, OPSET, in_f32, of};
use crate::graph::DType;
use crate::import::onnx::inline::SELECT;

const BROADCAST: &str = "before opset 7, the second operand is aligned with an axis of the first, which the reader drops";

/// An operator of two operands, as it was before opset 7.
const fn aligned(operator: &'static str) -> Definition {
    Definition {
        operator,
        values: &[],
        applies: |call| call.version < 7 && call.int("broadcast", 0) != 0,
        define: align,
        reason: BROADCAST,
    }
}

pub const DEFINITIONS: &[Definition] = &[
    aligned("Add"),
    aligned("And"),
    aligned("Div"),
    aligned("Equal"),
    aligned("Greater"),
    aligned("Less"),
    aligned("Mul"),
    aligned("Or"),
    aligned("Pow"),
    aligned("Sub"),
    aligned("Xor"),
    of("BatchNormalization", batch_normalization, "statistics may have another type than the data"),
    of("BitShift", bit_shift, "a negative amount, or one of the width or more, moves all bits out; the hardware takes it modulo the width"),
    of("Celu", celu, "the reader drops the factor alpha"),
    of("IsInf", is_infinite, "the reader gives numbers of f64 instead of truth values"),
    of("IsNaN", is_nan, "the reader gives numbers of f64 instead of truth values"),
    of("Mean", mean, "the reader fails on operands of different numbers of axes"),
    of("Mish", mish, "the reader takes the logarithm of 1 + exp(x), which loses all digits below -16"),
    of("Mod", modulo, "the reader swaps operands if the first has fewer elements"),
    Definition {
        operator: "Pow",
        values: &[],
        applies: |call| call.version >= 7,
        define: power,
        reason: "the result has the type of the base, whichever the exponent has",
    },
    of("Softplus", softplus, "the logarithm of 1 + exp(x) overflows above 88 and loses all digits below -16"),
    of("SwiGLU", swiglu, "the reader does not know it"),
    of("Swish", swish, "the reader drops alpha"),
    of(SELECT, select, "stands for an `If` whose condition is known at run time"),
];

/// `max(x, 0) + log1p(exp(-|x|))`, where `log1p(u)` is `u` if `1 + u` is 1, and else
/// `log(1 + u) * u / ((1 + u) - 1)`, in which the rounding of `1 + u` cancels (Kahan).
fn softplus_of(body: &mut Body, x: &str, dtype: DType) -> String {
    let (zero, one) = (body.number(dtype, 0.0), body.number(dtype, 1.0));
    let size = body.op("Abs", &[x]);
    let negative = body.op("Neg", &[&size]);
    let u = body.op("Exp", &[&negative]);
    let sum = body.op("Add", &[&u, &one]);
    let rounded = body.op("Sub", &[&sum, &one]);
    let tiny = body.op("Equal", &[&rounded, &zero]);
    let divisor = body.op("Where", &[&tiny, &one, &rounded]);
    let logarithm = body.op("Log", &[&sum]);
    let product = body.op("Mul", &[&logarithm, &u]);
    let quotient = body.op("Div", &[&product, &divisor]);
    let small = body.op("Where", &[&tiny, &u, &quotient]);
    let positive = body.op("Relu", &[x]);
    body.op("Add", &[&positive, &small])
}

fn softplus(body: &mut Body) -> Result<(), String> {
    let (x, wide) = body.wide(0)?;
    let result = softplus_of(body, &wide, x.computed());
    body.give(0, &result, &x);
    Ok(())
}

/// `x * tanh(softplus(x))`.
fn mish(body: &mut Body) -> Result<(), String> {
    let (x, wide) = body.wide(0)?;
    let inner = softplus_of(body, &wide, x.computed());
    let factor = body.op("Tanh", &[&inner]);
    let result = body.op("Mul", &[&wide, &factor]);
    body.give(0, &result, &x);
    Ok(())
}

/// `max(0, x) + min(0, alpha * (exp(x / alpha) - 1))`.
fn celu(body: &mut Body) -> Result<(), String> {
    let alpha = body.call.float("alpha", 1.0);
    let (x, wide) = body.wide(0)?;
    let scale = body.number(x.computed(), alpha.into());
    let inner = body.op("Div", &[&wide, &scale]);
    let below = body.with("Elu", &[&inner], vec![float("alpha", alpha)]);
    let zero = body.number(x.computed(), 0.0);
    let negative = body.op("Min", &[&below, &zero]);
    let positive = body.op("Relu", &[&wide]);
    let result = body.op("Add", &[&positive, &negative]);
    body.give(0, &result, &x);
    Ok(())
}

/// `a * sigmoid(alpha * a) * b`.
fn swiglu(body: &mut Body) -> Result<(), String> {
    let alpha = body.call.float("alpha", 1.0);
    let ((a, gate), (b, linear)) = (body.wide(0)?, body.wide(1)?);
    if a.shape != b.shape {
        return Err(format!("its inputs have the shapes {:?} and {:?}", a.shape, b.shape));
    }
    let scaled = scaled(body, &gate, a.computed(), alpha);
    let sigmoid = body.op("Sigmoid", &[&scaled]);
    let swish = body.op("Mul", &[&gate, &sigmoid]);
    let result = body.op("Mul", &[&swish, &linear]);
    body.give(0, &result, &a);
    Ok(())
}

/// `x * sigmoid(alpha * x)`.
fn swish(body: &mut Body) -> Result<(), String> {
    let alpha = body.call.float("alpha", 1.0);
    let (x, wide) = body.wide(0)?;
    let scaled = scaled(body, &wide, x.computed(), alpha);
    let gate = body.op("Sigmoid", &[&scaled]);
    let result = body.op("Mul", &[&wide, &gate]);
    body.give(0, &result, &x);
    Ok(())
}

/// `factor * x`.
pub fn scaled(body: &mut Body, x: &str, dtype: DType, factor: f32) -> String {
    if factor == 1.0 {
        return x.into();
    }
    let factor = body.number(dtype, factor.into());
    body.op("Mul", &[x, &factor])
}

fn bit_shift(body: &mut Body) -> Result<(), String> {
    let (x, amount) = (body.input(0)?, body.input(1)?);
    if !x.dtype.is_integer() || amount.dtype != x.dtype {
        return Err(format!("it shifts {} by {}: integers are shifted by amounts of the same type", x.dtype.name(), amount.dtype.name()));
    }
    let width = body.number(x.dtype, 8.0 * x.dtype.bytes() as f64);
    let zero = body.number(x.dtype, 0.0);
    let mut within = body.op("Less", &[&amount.name, &width]);
    if !matches!(x.dtype, DType::U8 | DType::U16 | DType::U32 | DType::U64) {
        let forwards = body.op("LessOrEqual", &[&zero, &amount.name]);
        within = body.op("And", &[&within, &forwards]);
    }
    let used = body.op("Where", &[&within, &amount.name, &zero]);
    let shifted = body.itself(&[&x.name, &used], vec![]).remove(0);
    // to the right, copies of the sign move in
    let signed = matches!(x.dtype, DType::I8 | DType::I16 | DType::I32 | DType::I64);
    let beyond = if signed && body.text("direction", "") == "RIGHT" {
        let (negative, ones) = (body.op("Less", &[&x.name, &zero]), body.number(x.dtype, -1.0));
        body.op("Where", &[&negative, &ones, &zero])
    } else {
        zero
    };
    let result = body.op("Where", &[&within, &shifted, &beyond]);
    body.output(0, &result);
    Ok(())
}

fn batch_normalization(body: &mut Body) -> Result<(), String> {
    if body.call.int("training_mode", 0) != 0 {
        return Err("it is in training mode: export the model for inference".into());
    }
    let x = body.input(0)?;
    if x.rank() < 2 {
        return Err(format!("its input has {} axes: it must have two or more", x.rank()));
    }
    if (1..5).all(|i| body.optional(i).is_some_and(|parameter| parameter.dtype == x.dtype)) {
        return in_f32(body);
    }
    let mut inputs = Vec::new();
    for position in 0..5 {
        let input = body.input(position)?;
        inputs.push(body.cast(&input.name, DType::F32));
    }
    let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
    let result = body.itself(&inputs, vec![]).remove(0);
    let result = body.cast(&result, x.dtype);
    body.output(0, &result);
    Ok(())
}

/// One of two results of the same shape.
fn select(body: &mut Body) -> Result<(), String> {
    let (condition, yes, no) = (body.input(0)?, body.input(1)?, body.input(2)?);
    if (yes.dtype, &yes.shape) != (no.dtype, &no.shape) || condition.shape.iter().product::<usize>() != 1 {
        let [yes, no] = [yes, no].map(|branch| format!("{} {:?}", branch.dtype.name(), branch.shape));
        return Err(format!(
            "its condition is known only when the model runs, and its branches give {yes} and {no}: they must give the same"
        ));
    }
    let condition = body.reshape(&condition.name, &[]);
    let result = body.op("Where", &[&condition, &yes.name, &no.name]);
    body.output(0, &result);
    Ok(())
}

/// The remainder, with the first operand as wide as the result.
fn modulo(body: &mut Body) -> Result<(), String> {
    let (a, b) = (body.input(0)?, body.input(1)?);
    let rank = a.rank().max(b.rank());
    let extent = |shape: &[usize], axis: usize| (axis + shape.len()).checked_sub(rank).map_or(1, |i| shape[i]);
    let wide: Vec<i64> = (0..rank)
        .map(|axis| match (extent(&a.shape, axis), extent(&b.shape, axis)) {
            (1, other) => other as i64,
            (own, _) => own as i64,
        })
        .collect();
    let first = if wide.iter().product::<i64>() == a.shape.iter().product::<usize>() as i64 {
        a.name
    } else {
        let shape = body.list(&wide);
        body.op("Expand", &[&a.name, &shape])
    };
    let result = body.itself(&[&first, &b.name], vec![]).remove(0);
    body.output(0, &result);
    Ok(())
}

/// A power, in the wider of both types, rounded to that of the base.
fn power(body: &mut Body) -> Result<(), String> {
    let (x, exponent) = (body.input(0)?, body.input(1)?);
    if x.dtype == exponent.dtype {
        let result = body.itself(&[&x.name, &exponent.name], vec![]).remove(0);
        body.output(0, &result);
        return Ok(());
    }
    let dtype = if x.dtype == DType::F64 || exponent.dtype == DType::F64 || x.dtype.is_integer() && exponent.dtype.is_integer() {
        DType::F64
    } else {
        DType::F32
    };
    let (base, by) = (body.cast(&x.name, dtype), body.cast(&exponent.name, dtype));
    let result = body.as_read("Pow", OPSET, &[&base, &by], vec![], &[true]).remove(0);
    let result = if x.dtype == dtype { result } else { body.cast(&result, x.dtype) };
    body.output(0, &result);
    Ok(())
}

/// Whether `x` is infinite, of the signs that count.
fn is_infinite(body: &mut Body) -> Result<(), String> {
    let x = body.input(0)?;
    let mut found = Vec::new();
    for (attribute, value) in [("detect_positive", f64::INFINITY), ("detect_negative", f64::NEG_INFINITY)] {
        if body.call.int(attribute, 1) != 0 {
            let limit = body.number(x.dtype, value);
            found.push(body.op("Equal", &[&x.name, &limit]));
        }
    }
    let result = match &found[..] {
        [one] => one.clone(),
        [one, other] => body.op("Or", &[one, other]),
        _ => {
            let nan = body.op("Equal", &[&x.name, &x.name]);
            let not = body.op("Not", &[&nan]);
            body.op("And", &[&nan, &not])
        }
    };
    body.output(0, &result);
    Ok(())
}

/// Whether `x` is not even equal to itself.
fn is_nan(body: &mut Body) -> Result<(), String> {
    let x = body.input(0)?;
    let equal = body.op("Equal", &[&x.name, &x.name]);
    let result = body.op("Not", &[&equal]);
    body.output(0, &result);
    Ok(())
}

/// The sum of all operands, divided by their number.
fn mean(body: &mut Body) -> Result<(), String> {
    let first = body.input(0)?;
    let mut operands = Vec::new();
    for position in 0..body.arity() {
        let operand = body.input(position)?;
        operands.push(body.widened(&operand));
    }
    let mut total = operands[0].clone();
    for operand in &operands[1..] {
        total = body.op("Add", &[&total, operand]);
    }
    let count = body.number(first.computed(), operands.len() as f64);
    let result = body.op("Div", &[&total, &count]);
    body.give(0, &result, &first);
    Ok(())
}

/// The second operand begins at axis `axis` of the first, or ends with it.
fn align(body: &mut Body) -> Result<(), String> {
    let (a, b) = (body.input(0)?, body.input(1)?);
    let behind = a.rank().checked_sub(b.rank()).ok_or("its second operand has more axes than its first")?;
    let begin = if body.call.has("axis") { Body::axis(body.call.int("axis", 0), a.rank().max(1))? } else { behind };
    let after = behind.checked_sub(begin).ok_or_else(|| format!("its second operand does not fit behind axis {begin}"))?;
    let shape = [&b.shape[..], &vec![1; after]].concat();
    let second = body.reshape(&b.name, &shape);
    let operator = body.call.node.op_type.clone();
    let result = body.op(&operator, &[&a.name, &second]);
    body.output(0, &result);
    Ok(())
}
