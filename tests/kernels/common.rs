//! Helpers shared by the tests of several families.

use hiosc::graph::{Constant, DType, OpKind, Scalar};

use crate::support::harness::{KernelCase, Random, TensorValues, graph_of};
use crate::support::interpret::operate;
use crate::support::number::{Number, numbers};

/// The oracle's result.
pub fn computed(kind: &OpKind, inputs: &[TensorValues], out: &[usize]) -> Vec<Number> {
    let case = KernelCase { kind: kind.clone(), inputs: inputs.to_vec(), out: out.to_vec(), expected: Default::default() };
    let (graph, op) = graph_of(&case);
    // the tables of a resampling must be constants, and here they are inputs
    if !matches!(kind, OpKind::Resample(_)) {
        graph.verify().unwrap_or_else(|e| panic!("{kind}: {e}"));
    }
    let args: Vec<_> = inputs.iter().map(|x| numbers(&x.values)).collect();
    operate(&graph, graph.operator(op), &args)
}

/// A case for values of any type, with the oracle's result. Floating-point results may be off by
/// `steps` times the precision of their type, integers and truth values not at all.
pub fn typed_case(kind: OpKind, inputs: Vec<TensorValues>, out: &[usize], steps: f64) -> KernelCase {
    case(kind, inputs, out, |_, value| {
        let step = match value.dtype {
            DType::F16 => 2f64.powi(-10),
            DType::BF16 => 2f64.powi(-7),
            DType::F32 => 2f64.powi(-23),
            DType::F64 => 2f64.powi(-52),
            _ => 0.0,
        };
        let value = value.f64();
        if value.is_finite() { steps * step * value.abs() } else { 0.0 }
    })
}

/// A case with the oracle's result. `tolerance` gets the index and the value of each element.
pub fn case(kind: OpKind, inputs: Vec<TensorValues>, out: &[usize], tolerance: impl Fn(usize, Number) -> f64) -> KernelCase {
    let mut case = KernelCase { expected: Default::default(), out: out.to_vec(), inputs, kind };
    for (i, value) in computed(&case.kind, &case.inputs, out).into_iter().enumerate() {
        case.expected.push(value.f64(), tolerance(i, value));
    }
    case
}

/// Fails unless each part is in the name of some kernel. Without a compiler there are no names.
pub fn assert_used(names: &[String], parts: &[&str]) {
    for part in parts {
        assert!(names.is_empty() || names.iter().any(|name| name.contains(part)), "no case uses {part}");
    }
}

/// Small positive numbers, whose sums lose little precision.
pub fn positive(r: &mut Random, dtype: DType, shape: &[usize]) -> TensorValues {
    let size = dtype.bytes() as usize;
    let one = |r: &mut Random| {
        let value = if dtype.is_float() { 0.5 + r.below(16) as f64 / 16.0 } else { r.below(7) as f64 };
        Scalar::from_f64(dtype, value).bits().to_le_bytes()[..size].to_vec()
    };
    let bytes: Vec<u8> = (0..shape.iter().product()).flat_map(|_| one(r)).collect();
    TensorValues { shape: shape.to_vec(), values: Constant::from_bytes(dtype, &bytes) }
}

/// Indices along axes of `length`: from the start, from the end, and outside.
pub fn indices(r: &mut Random, dtype: DType, length: usize, shape: &[usize]) -> TensorValues {
    let index = |r: &mut Random| match r.below(8) {
        0 => length as i64 + r.below(3) as i64,
        1 => -(length as i64) - 1 - r.below(3) as i64,
        2 => i64::from(i8::MIN),
        _ => r.below(2 * length) as i64 - length as i64,
    };
    let values: Vec<i64> = (0..shape.iter().product()).map(|_| index(r)).collect();
    let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()[..dtype.bytes() as usize].to_vec()).collect();
    TensorValues { shape: shape.to_vec(), values: Constant::from_bytes(dtype, &bytes) }
}
