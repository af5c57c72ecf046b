//! Products: of vectors, and of integers with a scale and a summand.

use super::{Body, Definition, always, of};
use crate::graph::DType;

pub const DEFINITIONS: &[Definition] = &[
    Definition {
        operator: "Gemm",
        values: &[],
        applies: always,
        define: gemm,
        reason: "the reader multiplies every type by an alpha of f32",
    },
    of("MatMul", matmul, "the reader refuses the product of two vectors"),
];

/// A vector becomes a matrix of one row or column.
fn matmul(body: &mut Body) -> Result<(), String> {
    let (a, b) = (body.input(0)?, body.input(1)?);
    if a.rank() == 0 || b.rank() == 0 {
        return Err("a product of a number: ONNX multiplies arrays of one axis or more".into());
    }
    if a.rank() > 1 && b.rank() > 1 {
        let result = body.itself(&[&a.name, &b.name], vec![]).remove(0);
        body.output(0, &result);
        return Ok(());
    }
    let mut kept = Vec::new();
    let first = if a.rank() == 1 {
        kept.extend(&b.shape[..b.rank().saturating_sub(2)]);
        body.reshape(&a.name, &[1, a.shape[0]])
    } else {
        kept.extend(&a.shape[..a.rank() - 1]);
        a.name
    };
    let second = if b.rank() == 1 {
        body.reshape(&b.name, &[b.shape[0], 1])
    } else {
        kept.extend(b.shape.last());
        b.name
    };
    let product = body.itself(&[&first, &second], vec![]).remove(0);
    let result = body.reshape(&product, &kept);
    body.output(0, &result);
    Ok(())
}

/// `alpha * a * b + beta * c`; factors of integers must be integers.
fn gemm(body: &mut Body) -> Result<(), String> {
    let (a, b, c) = (body.input(0)?, body.input(1)?, body.optional(2));
    if a.dtype == DType::F32 {
        let mut inputs = vec![a.name.as_str(), &b.name];
        inputs.extend(c.as_ref().map(|c| c.name.as_str()));
        let result = body.itself(&inputs, vec![]).remove(0);
        body.output(0, &result);
        return Ok(());
    }
    let (alpha, beta) = (body.call.float("alpha", 1.0), body.call.float("beta", 1.0));
    if a.dtype.is_integer() && (alpha.fract() != 0.0 || beta.fract() != 0.0) {
        return Err(format!("its factors {alpha} and {beta} are not integers, as its operands are"));
    }
    let turned = |body: &mut Body, name: &str, attribute: &str| match body.call.int(attribute, 0) {
        0 => name.to_string(),
        _ => body.transpose(name, &[1, 0]),
    };
    let (first, second) = (turned(body, &a.name, "transA"), turned(body, &b.name, "transB"));
    let product = body.op("MatMul", &[&first, &second]);
    let mut result = times(body, &product, &a, alpha);
    if let Some(c) = c {
        let summand = times(body, &c.name, &c, beta);
        result = body.op("Add", &[&result, &summand]);
    }
    body.output(0, &result);
    Ok(())
}

/// `factor * value`, in the type of `like`.
fn times(body: &mut Body, value: &str, like: &super::Known, factor: f32) -> String {
    if factor == 1.0 {
        return value.into();
    }
    let factor = body.number(like.dtype, factor.into());
    body.op("Mul", &[value, &factor])
}
