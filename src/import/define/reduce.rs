//! Sums, means and norms: in f32 for operands of f16, and without overflow on the way.

use super::{Body, Definition, always, in_f32, of};
use crate::graph::{Constant, DType, Scalar};

const WIDE: &str = "a sum, a mean or a norm of f16 overflows before it is divided or its root is taken";

pub const DEFINITIONS: &[Definition] = &[
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

/// A reduction, whose axes are an attribute or its second input.
const fn reduction(operator: &'static str, define: super::Define, reason: &'static str) -> Definition {
    Definition { operator, values: &[1], applies: always, define, reason }
}

/// `max + log(sum(exp(x - max)))`.
fn log_sum_exp(body: &mut Body) -> Result<(), String> {
    let x = body.input(0)?;
    let dtype = if x.dtype == DType::F16 { DType::F32 } else { x.dtype };
    let Some(axes) = reduced(body)? else {
        body.output(0, &x.name);
        return Ok(());
    };
    let list: Vec<i64> = axes.iter().map(|&axis| axis as i64).collect();
    let wide = if x.dtype == dtype { x.name.clone() } else { body.cast(&x.name, dtype) };
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
    if x.dtype.is_float() && axes.iter().any(|&axis| x.shape[axis] == 0) {
        let keeps = body.call.int("keepdims", 1) != 0;
        let extent = |axis: usize| if axes.contains(&axis) { 1 } else { x.shape[axis] };
        let shape: Vec<usize> = (0..x.rank()).filter(|axis| keeps || !axes.contains(axis)).map(extent).collect();
        let value = if body.call.node.op_type == "ReduceMax" { f64::NEG_INFINITY } else { f64::INFINITY };
        let values = Constant::repeated(Scalar::from_f64(x.dtype, value), shape.iter().product());
        let result = body.constant(&values, &shape);
        body.output(0, &result);
        return Ok(());
    }
    let mut inputs = vec![x.name];
    inputs.extend(body.optional(1).map(|axes| axes.name));
    let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
    let result = body.itself(&inputs, vec![]).remove(0);
    body.output(0, &result);
    Ok(())
}

fn cumulative_sum(body: &mut Body) -> Result<(), String> {
    let (x, axis) = (body.input(0)?, body.input(1)?);
    let wide = if x.dtype == DType::F16 { body.cast(&x.name, DType::F32) } else { x.name.clone() };
    let axis = match axis.ints().as_deref() {
        Some(&[number]) => body.number(DType::I64, number as f64),
        _ if axis.shape == [1] => body.reshape(&axis.name, &[]),
        _ => axis.name,
    };
    let sums = body.itself(&[&wide, &axis], vec![]).remove(0);
    let result = if x.dtype == DType::F16 { body.cast(&sums, x.dtype) } else { sums };
    body.output(0, &result);
    Ok(())
}
