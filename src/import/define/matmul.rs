//! Products: of vectors, and of integers with a scale and a summand.

use super::body::{int, text};
use super::{Body, Definition, always, of};
use crate::graph::{Constant, DType};

pub const DEFINITIONS: &[Definition] = &[
    Definition {
        operator: "DFT",
        values: &[1, 2],
        applies: always,
        define: fourier,
        reason: "the reader takes the wrong length for some axes and lengths",
    },
    Definition {
        operator: "Einsum",
        values: &[],
        applies: always,
        define: einsum,
        reason: "the reader takes an ellipsis for one axis, and a result without axes for one that is not stated",
    },
    Definition {
        operator: "Gemm",
        values: &[],
        applies: always,
        define: gemm,
        reason: "the reader multiplies every type by an alpha of f32",
    },
    of("MatMul", matmul, "the reader refuses the product of two vectors"),
    of("MatMulInteger", integer_matmul, "the reader takes a vector for a matrix"),
];

/// A vector becomes a matrix of one row or column. Products of constant integers, which the reader
/// cannot fold, are written out.
fn matmul(body: &mut Body) -> Result<(), String> {
    let (a, b) = (body.input(0)?, body.input(1)?);
    if a.rank() == 0 || b.rank() == 0 {
        return Err("a product of a number: ONNX multiplies arrays of one axis or more".into());
    }
    let constant = a.value.is_some() && b.value.is_some() && a.dtype.is_integer();
    let vectors = a.rank() == 1 || b.rank() == 1;
    let mut kept = Vec::new();
    let (mut first, mut rows) = (a.name.clone(), a.shape.clone());
    if a.rank() == 1 {
        kept.extend(&b.shape[..b.rank().saturating_sub(2)]);
        rows = vec![1, a.shape[0]];
        first = body.reshape(&first, &rows);
    } else {
        kept.extend(&a.shape[..a.rank() - 1]);
    }
    let (mut second, mut columns) = (b.name.clone(), b.shape.clone());
    if b.rank() == 1 {
        columns = vec![b.shape[0], 1];
        second = body.reshape(&second, &columns);
    } else {
        kept.extend(b.shape.last());
    }
    let product = if constant {
        // [..., m, k, 1] times [..., 1, k, n]
        let wide = body.reshape(&first, &[&rows[..], &[1]].concat());
        columns.insert(columns.len() - 2, 1);
        let tall = body.reshape(&second, &columns);
        let products = body.op("Mul", &[&wide, &tall]);
        let axes = body.list(&[-2]);
        body.with("ReduceSum", &[&products, &axes], vec![int("keepdims", 0)])
    } else {
        body.itself(&[&first, &second], vec![]).remove(0)
    };
    let result = if vectors { body.reshape(&product, &kept) } else { product };
    body.output(0, &result);
    Ok(())
}

/// A vector becomes a matrix of one row or column, and its axis is dropped from the result.
fn integer_matmul(body: &mut Body) -> Result<(), String> {
    let (a, b) = (body.input(0)?, body.input(1)?);
    if a.rank() == 0 || b.rank() == 0 {
        return Err("a product of a number: ONNX multiplies arrays of one axis or more".into());
    }
    let first = if a.rank() == 1 { body.reshape(&a.name, &[1, a.shape[0]]) } else { a.name.clone() };
    let second = if b.rank() == 1 { body.reshape(&b.name, &[b.shape[0], 1]) } else { b.name.clone() };
    let mut inputs = vec![first, second];
    inputs.extend((2..body.arity()).map(|position| body.optional(position).map_or(String::new(), |zero| zero.name)));
    let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
    let product = body.itself(&inputs, vec![]).remove(0);
    let mut kept: Vec<usize> = Vec::new();
    match (a.rank(), b.rank()) {
        (1, rank) => kept.extend(&b.shape[..rank.saturating_sub(2)]),
        (rank, _) => kept.extend(&a.shape[..rank - 1]),
    }
    kept.extend(b.shape.last().filter(|_| b.rank() > 1));
    let vectors = a.rank() == 1 || b.rank() == 1;
    let result = if vectors { body.reshape(&product, &kept) } else { product };
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

/// A sum of products, with a letter in place of each axis of an ellipsis. Where no axis is left,
/// one of one element is kept, and dropped afterwards.
fn einsum(body: &mut Body) -> Result<(), String> {
    let equation: String = body.text("equation", "").chars().filter(|c| !c.is_whitespace()).collect();
    let mut free: Vec<char> = ('a'..='z').chain('A'..='Z').filter(|letter| !equation.contains(*letter)).rev().collect();
    let (operands, result) = equation.split_once("->").map_or((equation.as_str(), None), |(operands, result)| (operands, Some(result)));
    let terms: Vec<&str> = operands.split(',').collect();
    let mut inputs = Vec::new();
    for position in 0..body.arity() {
        inputs.push(body.input(position)?);
    }
    if terms.len() != inputs.len() {
        return Err(format!("its equation {equation:?} has {} operands, the node {}", terms.len(), inputs.len()));
    }
    let letters = |term: &str| term.replace("...", "").chars().count();
    let mut covered = Vec::new();
    for (term, input) in terms.iter().zip(&inputs) {
        let whole = term.contains("...");
        match input.rank().checked_sub(letters(term)) {
            Some(axes) if whole || axes == 0 => covered.push(axes),
            _ => return Err(format!("its term {term:?} does not fit an operand of {} axes", input.rank())),
        }
    }
    // the last axes of all ellipses are the same
    let widest = covered.iter().copied().max().unwrap_or(0);
    if free.len() < widest + 1 {
        return Err("its equation uses all letters".into());
    }
    let axes: Vec<char> = free.split_off(free.len() - widest);
    let expanded = |term: &str, count: usize| term.replacen("...", &axes[widest - count..].iter().collect::<String>(), 1);
    let mut terms: Vec<String> = terms.iter().zip(&covered).map(|(term, &count)| expanded(term, count)).collect();
    let mut result = match result {
        Some(result) => expanded(result, widest),
        None => {
            // all letters that occur once, in their order, behind those of the ellipsis
            let all: String = operands.replace("...", "").replace(',', "");
            let mut once: Vec<char> = all.chars().filter(|letter| all.matches(*letter).count() == 1).collect();
            once.sort_unstable();
            axes.iter().chain(&once).collect()
        }
    };
    let scalar = result.is_empty();
    let mut names: Vec<String> = inputs.iter().map(|input| input.name.clone()).collect();
    if scalar {
        let letter = free.last().copied().ok_or("its equation uses all letters")?;
        terms[0].push(letter);
        result.push(letter);
        names[0] = body.reshape(&names[0], &[&inputs[0].shape[..], &[1]].concat());
    }
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let equation = format!("{}->{result}", terms.join(","));
    let sum = body.itself(&names, vec![text("equation", &equation)]).remove(0);
    let result = if scalar { body.reshape(&sum, &[]) } else { sum };
    body.output(0, &result);
    Ok(())
}

/// The longest transform that is computed: its matrix has the square of its length.
const POINTS: usize = 1024;

/// The discrete Fourier transform along one axis, as products with a matrix of cosines and one of
/// sines. The last axis has the real part, or the real and the imaginary part. An inverse transform
/// of one side has real results: each term but the first, and the middle one of an even number,
/// also stands for its mirror image.
fn fourier(body: &mut Body) -> Result<(), String> {
    let x = body.input(0)?;
    let last = x.rank().checked_sub(1).filter(|&last| last > 0).ok_or("its input must have two axes or more")?;
    let axis = match body.optional(2) {
        Some(axis) => axis.ints().and_then(|axis| axis.first().copied()).ok_or("its axis must be a constant")?,
        None => body.call.int("axis", if body.call.version < 20 { 1 } else { -2 }),
    };
    let axis = Body::axis(axis, x.rank())?;
    let extent = x.shape[axis];
    let (inverse, one_sided) = (body.call.int("inverse", 0) != 0, body.call.int("onesided", 0) != 0);
    let mirrored = inverse && one_sided;
    let length = match body.optional(1) {
        Some(length) => length.ints().and_then(|length| length.first().copied()).ok_or("its length must be a constant")?,
        None if mirrored => 2 * (extent as i64 - 1),
        None => extent as i64,
    };
    let length = usize::try_from(length).ok().filter(|&length| length > 0).ok_or("its length must be 1 or more")?;
    let parts = x.shape[last];
    if axis == last || !matches!((parts, mirrored), (1, false) | (2, _)) {
        return Err(format!("its input of shape {:?} has no real and imaginary parts in its last axis", x.shape));
    }
    if length > POINTS {
        return Err(format!("a transform of {length} points is not supported: at most {POINTS}"));
    }
    let half = length / 2 + 1;
    let results = if one_sided && !inverse { half } else { length };
    let used = extent.min(if mirrored { half } else { length });
    // [..., extent, parts] with the transformed axis last
    let moved: Vec<usize> = (0..x.rank()).filter(|&i| i != axis && i != last).chain([axis]).collect();
    let dtype = x.computed();
    let wide = body.widened(&x);
    let wide = if used < extent { body.slice(&wide, axis, 0, used) } else { wide };
    let part = |body: &mut Body, which: usize| {
        let one = body.slice(&wide, last, which, which + 1);
        let shape: Vec<usize> = (0..last).map(|i| if i == axis { used } else { x.shape[i] }).collect();
        let flat = body.reshape(&one, &shape);
        body.transpose(&flat, &moved)
    };
    let sign = if inverse { 1.0 } else { -1.0 };
    let scale = |row: usize| match (inverse, mirrored && row > 0 && 2 * row != length) {
        (false, _) => 1.0,
        (true, twice) => f64::from(1 + u8::from(twice)) / length as f64,
    };
    let matrix = |body: &mut Body, f: &dyn Fn(f64) -> f64| {
        // the angle modulo a full turn is exact
        let angle = |row: usize, column: usize| std::f64::consts::TAU * ((row * column) % length) as f64 / length as f64;
        let values = (0..used * results).map(|i| scale(i / results) * f(angle(i / results, i % results)));
        let values = match dtype {
            DType::F64 => Constant::F64(values.collect::<Vec<f64>>().into()),
            _ => Constant::F32(values.map(|value| value as f32).collect::<Vec<f32>>().into()),
        };
        body.constant(&values, &[used, results])
    };
    let (cosines, sines) = (matrix(body, &f64::cos), matrix(body, &|angle| sign * angle.sin()));
    let real = part(body, 0);
    let mut re = body.op("MatMul", &[&real, &cosines]);
    let mut im = body.op("MatMul", &[&real, &sines]);
    if parts == 2 {
        let imaginary = part(body, 1);
        let other = body.op("MatMul", &[&imaginary, &sines]);
        re = body.op("Sub", &[&re, &other]);
        let other = body.op("MatMul", &[&imaginary, &cosines]);
        im = body.op("Add", &[&im, &other]);
    }
    // back to the order of the input
    let shape: Vec<usize> = (0..last).map(|i| if i == axis { results } else { x.shape[i] }).chain([1]).collect();
    let back: Vec<usize> = (0..last).map(|i| moved.iter().position(|&m| m == i).unwrap_or(i)).collect();
    let parts: Vec<String> = if mirrored { vec![re] } else { vec![re, im] };
    let ordered = |value: &String| {
        let ordered = body.transpose(value, &back);
        body.reshape(&ordered, &shape)
    };
    let parts: Vec<String> = parts.iter().map(ordered).collect();
    let joined = body.concat(&parts, last);
    body.give(0, &joined, &x);
    Ok(())
}
