//! Sums, means and norms: in f32 for operands of f16, and without overflow on the way.

use super::{Body, Definition, always, in_f32, of};
use crate::graph::{Constant, DType, Scalar};

const WIDE: &str = "a sum, a mean or a norm of f16 overflows before it is divided or its root is taken";

pub const DEFINITIONS: &[Definition] = &[
    Definition { operator: "CumProd", values: &[1], applies: always, define: cumulative_product, reason: "the reader does not know it" },
    of("CumSum", cumulative_sum, "the axis may be a list of one number"),
    of("GlobalAveragePool", in_f32, WIDE),
    of("GroupNormalization", in_f32, WIDE),
    of("InstanceNormalization", in_f32, WIDE),
    of("LRN", in_f32, WIDE),
    of("LayerNormalization", in_f32, WIDE),
    of("LpNormalization", in_f32, WIDE),
    of("MeanVarianceNormalization", in_f32, WIDE),
    of("RMSNormalization", in_f32, WIDE),
    reduction("ReduceL1", in_f32, WIDE),
    reduction("ReduceL2", in_f32, WIDE),
    reduction("ReduceLogSum", in_f32, WIDE),
    reduction("ReduceLogSumExp", log_sum_exp, "exponentials overflow unless the maximum is taken away first"),
    reduction("ReduceMax", extreme, "the reader gives finite numbers for no elements at all"),
    reduction("ReduceMean", in_f32, WIDE),
    reduction("ReduceMin", extreme, "as for ReduceMax"),
    reduction("ReduceProd", in_f32, WIDE),
    reduction("ReduceSum", in_f32, WIDE),
    reduction("ReduceSumSquare", in_f32, WIDE),
];

/// The longest axis along which products are cumulated: a matrix has the square of its length.
const LONGEST_PRODUCT: usize = 1024;

/// A reduction, whose axes are an attribute or its second input.
const fn reduction(operator: &'static str, define: super::Define, reason: &'static str) -> Definition {
    Definition { operator, values: &[1], applies: always, define, reason }
}

/// `max + log(sum(exp(x - max)))`.
fn log_sum_exp(body: &mut Body) -> Result<(), String> {
    let x = body.input(0)?;
    let dtype = x.computed();
    let Some(axes) = reduced(body)? else {
        body.output(0, &x.name);
        return Ok(());
    };
    let list: Vec<i64> = axes.iter().map(|&axis| axis as i64).collect();
    let wide = body.widened(&x);
    let logarithm = if x.rank() == 0 {
        wide
    } else if x.shape.contains(&0) {
        let exponentials = body.op("Exp", &[&wide]);
        let sum = body.reduce("ReduceSum", &exponentials, &list);
        body.op("Log", &[&sum])
    } else {
        let largest = body.reduce("ReduceMax", &wide, &list);
        // an infinite maximum would give NaN
        let infinite = body.op("IsInf", &[&largest]);
        let zero = body.number(dtype, 0.0);
        let shift = body.op("Where", &[&infinite, &zero, &largest]);
        let shifted = body.op("Sub", &[&wide, &shift]);
        let exponentials = body.op("Exp", &[&shifted]);
        let sum = body.reduce("ReduceSum", &exponentials, &list);
        let logarithm = body.op("Log", &[&sum]);
        body.op("Add", &[&logarithm, &shift])
    };
    let result = if x.dtype == dtype { logarithm } else { body.cast(&logarithm, x.dtype) };
    let keeps = body.call.int("keepdims", 1) != 0;
    let kept: Vec<usize> = (0..x.rank()).filter(|axis| !axes.contains(axis)).map(|axis| x.shape[axis]).collect();
    let result = if keeps { result } else { body.reshape(&result, &kept) };
    body.output(0, &result);
    Ok(())
}

/// The axes that a node reduces; `None` if it reduces none.
fn reduced(body: &Body) -> Result<Option<Vec<usize>>, String> {
    let rank = body.input(0)?.rank();
    let given = match body.optional(1) {
        Some(axes) => Some(axes.ints().ok_or("its axes must be constants")?),
        None => body.ints("axes"),
    };
    match given.unwrap_or_default() {
        list if list.is_empty() && body.call.int("noop_with_empty_axes", 0) != 0 => Ok(None),
        list if list.is_empty() => Ok(Some((0..rank).collect())),
        list => list.iter().map(|&axis| Body::axis(axis, rank)).collect::<Result<_, _>>().map(Some),
    }
}

/// A maximum or a minimum; of no elements, the infinity that every number replaces.
fn extreme(body: &mut Body) -> Result<(), String> {
    let x = body.input(0)?;
    let axes = reduced(body)?.unwrap_or_default();
    if (x.dtype.is_float() || x.dtype == DType::Bool) && axes.iter().any(|&axis| x.shape[axis] == 0) {
        let keeps = body.call.int("keepdims", 1) != 0;
        let extent = |axis: usize| if axes.contains(&axis) { 1 } else { x.shape[axis] };
        let shape: Vec<usize> = (0..x.rank()).filter(|axis| keeps || !axes.contains(axis)).map(extent).collect();
        let value = match (body.call.node.op_type.as_str(), x.dtype) {
            ("ReduceMax", DType::Bool) => 0.0,
            ("ReduceMax", _) => f64::NEG_INFINITY,
            (_, DType::Bool) => 1.0,
            _ => f64::INFINITY,
        };
        let values = Constant::repeated(Scalar::from_f64(x.dtype, value), shape.iter().product());
        let result = body.constant(&values, &shape);
        body.output(0, &result);
        return Ok(());
    }
    // the reader compares no truth values
    let truth = x.dtype == DType::Bool;
    let mut inputs = vec![if truth { body.cast(&x.name, DType::U8) } else { x.name }];
    inputs.extend(body.optional(1).map(|axes| axes.name));
    let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
    let mut result = body.itself(&inputs, vec![]).remove(0);
    if truth {
        result = body.cast(&result, DType::Bool);
    }
    body.output(0, &result);
    Ok(())
}

fn cumulative_sum(body: &mut Body) -> Result<(), String> {
    let ((x, wide), axis) = (body.wide(0)?, body.input(1)?);
    let axis = match axis.ints().as_deref() {
        Some(&[number]) => body.number(DType::I64, number as f64),
        _ if axis.shape == [1] => body.reshape(&axis.name, &[]),
        _ => axis.name,
    };
    let sums = body.itself(&[&wide, &axis], vec![]).remove(0);
    body.give(0, &sums, &x);
    Ok(())
}

/// Product of the elements up to each one: each row of a triangle of ones, filled with the elements
/// below it, is multiplied.
fn cumulative_product(body: &mut Body) -> Result<(), String> {
    let ((x, wide), axis) = (body.wide(0)?, body.input(1)?);
    let axis = axis.ints().and_then(|list| list.first().copied()).ok_or("its axis must be a constant")?;
    let axis = Body::axis(axis, x.rank())?;
    let extent = x.shape[axis];
    if extent > LONGEST_PRODUCT {
        return Err(format!("it multiplies {extent} elements: {LONGEST_PRODUCT} are the most"));
    }
    if x.shape.contains(&0) {
        body.output(0, &x.name);
        return Ok(());
    }
    let (reverse, exclusive) = (body.call.int("reverse", 0) != 0, body.call.int("exclusive", 0) != 0);
    // [.., position of the result, position of the factor, ..]
    let inner = x.rank() - axis - 1;
    let factor = |i: usize| {
        let (result, factor) = (i / extent, i % extent);
        let before = if reverse { factor > result } else { factor < result };
        before || (factor == result && !exclusive)
    };
    let factors = Constant::Bool((0..extent * extent).map(factor).collect());
    let factors = body.constant(&factors, &[&[extent, extent][..], &vec![1; inner]].concat());
    let one = body.number(x.computed(), 1.0);
    let mut repeated = x.shape.clone();
    repeated.insert(axis, 1);
    let repeated = body.reshape(&wide, &repeated);
    let triangle = body.op("Where", &[&factors, &repeated, &one]);
    let products = body.reduce("ReduceProd", &triangle, &[axis as i64 + 1]);
    let result = body.reshape(&products, &x.shape);
    body.give(0, &result, &x);
    Ok(())
}
