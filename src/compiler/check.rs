//! What a compilation is checked with: inputs made from a fixed seed, and the outputs that tract computes from them; or a plan run in this process.

use std::path::Path;

use super::Planned;
use crate::acceptance::{OutputReport, compare, convert, read};
use crate::emit::Check;
use crate::error::{Error, Result};
use crate::graph::{Constant, DType, Graph, Scalar, Tensor};
use crate::ids::TensorId;
use crate::measure::bench;
use crate::{import, runtime};

/// An input made from a fixed seed, and what tract computes from it.
pub(super) fn reference(model: &import::Model, graph: &Graph) -> Result<Check> {
    let inputs = check_inputs(graph);
    let outputs = model.reference(&inputs)?;
    Ok(Check { inputs, outputs })
}

/// Inputs made from a fixed seed: what a crate is checked and plans are measured with.
pub fn check_inputs(graph: &Graph) -> Vec<Constant> {
    graph.inputs.iter().enumerate().map(|(i, &t)| check_input(i as u64, graph.tensor(t))).collect()
}

/// Values for an input, from splitmix64 of `seed`. Floating-point numbers have mean 0 and deviation 1 and are roughly normal (the sum of four uniform ones).
/// Integers are 0 or 1: small, not negative, and valid as an index into any axis of two elements or more. Truth values are true as often as false.
fn check_input(seed: u64, tensor: &Tensor) -> Constant {
    let uniform = |i: u64| {
        let mut z = (seed << 40).wrapping_add((i + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 40) as f32 / (1u64 << 24) as f32 - 0.5
    };
    let deviation = (4.0f32 / 12.0).sqrt();
    let normal = |i: u64| (0..4).map(|j| uniform(4 * i + j)).sum::<f32>() / deviation;
    let n = tensor.elements();
    if tensor.dtype == DType::F32 {
        return (0..n).map(normal).collect::<Vec<f32>>().into();
    }
    let value = |i: u64| if tensor.dtype.is_float() { f64::from(normal(i)) } else { f64::from(u8::from(uniform(i) > 0.0)) };
    let size = tensor.dtype.bytes() as usize;
    let bytes: Vec<u8> = (0..n).flat_map(|i| Scalar::from_f64(tensor.dtype, value(i)).bits().to_le_bytes()[..size].to_vec()).collect();
    Constant::from_bytes(tensor.dtype, &bytes)
}

/// Runs the plan of a compilation in this process, where no Rust is at hand to build a crate, and compares its outputs with an npz file. Each output is reported,
/// right or wrong; and where it ran, in words.
pub fn in_process(planned: &Planned, reference: &Path, place: &runtime::Options) -> Result<(Vec<OutputReport>, String)> {
    let graph = &planned.graph;
    let names = |ids: &[TensorId]| ids.iter().map(|&t| graph.tensor(t).name.clone()).collect::<Vec<String>>();
    let (inputs, outputs) = (names(&graph.inputs), names(&graph.outputs));
    let scratch = tempfile::tempdir().map_err(Error::io(std::env::temp_dir()))?;
    let expected = read(&convert(reference, &inputs, &outputs, &scratch.path().join("reference.safetensors"))?)?;
    let input = |name: &String| {
        let found = expected.get(&format!("in:{name}"));
        let (dtype, bytes) = found.ok_or_else(|| Error::Mismatch(format!("input {name:?} is not in the reference")))?;
        Ok(Constant::from_bytes(*dtype, bytes))
    };
    let inputs = inputs.iter().map(input).collect::<Result<Vec<_>>>()?;
    let (mut session, _) = bench::session(graph, &planned.costs, planned.chosen(), &planned.plan, place)?;
    let found = session.run(&inputs)?;
    let found = outputs.iter().zip(&found).map(|(name, v)| (format!("out:{name}"), (v.dtype(), v.bytes().to_vec()))).collect();
    Ok((compare(&expected, &found, &outputs)?, session.summary()))
}
