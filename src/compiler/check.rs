//! Checks of a compilation. `reference` makes a crate's check: inputs from a fixed seed, and the
//! outputs that tract computes from them. [`in_process`] runs a plan in this process and compares
//! its outputs with an npz file.

use std::path::Path;

use rand_xoshiro::SplitMix64;
use rand_xoshiro::rand_core::{Rng, SeedableRng};

use super::Planned;
use crate::acceptance::{OutputReport, compare, convert, read};
use crate::emit::ReferenceData;
use crate::error::{Error, Result};
use crate::graph::{Binary, Constant, DType, Expr, Gather, Graph, OpKind, Operator, Scalar, Tensor, shape_text};
use crate::ids::TensorId;
use crate::import;
use crate::measure::bench;
use crate::oracle::Values;
use crate::runtime::RuntimeOptions;

/// Inputs made from a fixed seed, and the outputs that tract computes from them.
///
/// # Errors
///
/// [`Error::Model`] if tract fails, or if this machine has too little memory for an operator.
pub(super) fn reference(model: &import::Model, graph: &Graph) -> Result<ReferenceData> {
    let bytes = |id: &TensorId| graph.tensor(*id).bytes() as usize;
    let of = |operator: &Operator| operator.inputs.iter().chain(&operator.outputs).map(bytes).sum::<usize>();
    let largest = graph.operators.iter().map(of).max().unwrap_or(0);
    // an allocation that fails later would end the program
    let mut memory: Vec<u8> = Vec::new();
    let fits = memory.try_reserve_exact(largest).is_ok();
    drop(std::hint::black_box(memory));
    if !fits {
        let message = format!("an operator reads and writes {largest} bytes, more memory than the tool may take");
        return Err(Error::Model { path: model.files.first().cloned().unwrap_or_default(), message });
    }
    let inputs = check_inputs(graph);
    let outputs = model.reference(&inputs)?;
    Ok(ReferenceData { inputs, outputs })
}

/// Inputs and outputs that are all zero, in place of a [`reference`].
pub(super) fn unfilled(graph: &Graph) -> ReferenceData {
    let zeros = |ids: &[TensorId]| {
        ids.iter().map(|&id| graph.tensor(id)).map(|t| Constant::from_bytes(t.dtype, &vec![0; t.bytes() as usize])).collect()
    };
    ReferenceData { inputs: zeros(&graph.inputs), outputs: zeros(&graph.outputs) }
}

/// Inputs made from a fixed seed: a crate is checked with them, and plans are measured on them.
pub fn check_inputs(graph: &Graph) -> Vec<Constant> {
    let least = |id: TensorId| i64::from(divides(graph, id));
    graph.inputs.iter().enumerate().map(|(i, &t)| check_input(i as u64, graph.tensor(t), least(t), indexed(graph, t))).collect()
}

/// Whether the integers of the input `input` are a divisor, which must not be 0.
fn divides(graph: &Graph, input: TensorId) -> bool {
    let tensor = graph.tensor(input);
    let divisor = |expr: &Expr, slot: usize| {
        let mut found = false;
        visit(expr, &mut |part| {
            if let Expr::Binary(Binary::Div | Binary::Rem, _, divisor) = part {
                visit(divisor, &mut |inner| found |= *inner == Expr::Input(slot));
            }
        });
        found
    };
    tensor.dtype.is_integer()
        && graph.operators.iter().any(|operator| match &operator.kind {
            OpKind::Elementwise(elementwise) => {
                operator.inputs.iter().enumerate().any(|(slot, &id)| graph.root(id) == input && divisor(&elementwise.expr, slot))
            }
            _ => false,
        })
}

/// Calls `f` with `expr` and all its parts.
fn visit(expr: &Expr, f: &mut impl FnMut(&Expr)) {
    f(expr);
    match expr {
        Expr::Unary(_, x) | Expr::Cast(_, x) => visit(x, f),
        Expr::Binary(_, a, b) => [a, b].into_iter().for_each(|x| visit(x, f)),
        Expr::Select(a, b, c) => [a, b, c].into_iter().for_each(|x| visit(x, f)),
        Expr::Input(_) | Expr::Const(_) => {}
    }
}

/// The shortest axis that the integers of the input `input` are indices into, if there is one.
fn indexed(graph: &Graph, input: TensorId) -> Option<usize> {
    let extents = graph.operators.iter().filter_map(|operator| {
        let (&data, &index) = (operator.inputs.first()?, operator.inputs.get(1)?);
        let shape = &graph.tensor(data).shape;
        match operator.kind {
            OpKind::Gather(Gather::Slices { axis } | Gather::Elements { axis }) if graph.root(index) == input => shape.get(axis).copied(),
            OpKind::Gather(_) | OpKind::Scatter(_) if graph.root(index) == input => shape.iter().copied().min(),
            _ => None,
        }
    });
    extents.min()
}

/// Values for an input, from SplitMix64 with this seed. Floating-point numbers are roughly normal,
/// with mean 0 and standard deviation 1. Integers are `least` or one more: small, not negative, and
/// valid as an index into any axis of two elements or more; 0 if they index an axis of `extent` 1.
/// Booleans are true as often as false.
fn check_input(seed: u64, tensor: &Tensor, least: i64, extent: Option<usize>) -> Constant {
    let mut rng = SplitMix64::seed_from_u64(seed << 40);
    let n = tensor.elements();
    if tensor.dtype == DType::F32 {
        return (0..n).map(|_| normal(&mut rng)).collect::<Vec<f32>>().into();
    }
    let size = tensor.dtype.bytes() as usize;
    let mut value = || {
        let value: f64 =
            if tensor.dtype.is_float() { normal(&mut rng).into() } else { (least + i64::from(uniform(&mut rng) > 0.0)) as f64 };
        let value = if tensor.dtype.is_integer() && extent == Some(1) { 0.0 } else { value };
        Scalar::from_f64(tensor.dtype, value).bits().to_le_bytes()[..size].to_vec()
    };
    let bytes: Vec<u8> = (0..n).flat_map(|_| value()).collect();
    Constant::from_bytes(tensor.dtype, &bytes)
}

/// A random number in [-0.5, 0.5).
fn uniform(rng: &mut SplitMix64) -> f32 {
    (rng.next_u64() >> 40) as f32 / (1u64 << 24) as f32 - 0.5
}

/// A roughly normal random number of mean 0 and standard deviation 1: the sum of four uniform ones,
/// scaled.
fn normal(rng: &mut SplitMix64) -> f32 {
    (0..4).map(|_| uniform(rng)).sum::<f32>() / (4.0f32 / 12.0).sqrt()
}

/// Runs the plan of a compilation in this process, without building a crate, and compares its
/// outputs with an npz file. Returns a report for each output, right or wrong, and where the plan
/// ran, in words.
pub fn in_process(planned: &Planned, reference: &Path, options: &RuntimeOptions) -> Result<(Vec<OutputReport>, String)> {
    let graph = &planned.graph;
    let names = |ids: &[TensorId]| ids.iter().map(|&t| graph.tensor(t).name.clone()).collect::<Vec<String>>();
    let (inputs, outputs) = (names(&graph.inputs), names(&graph.outputs));
    let scratch = tempfile::tempdir().map_err(Error::io(std::env::temp_dir()))?;
    let expected = read(&convert(reference, &inputs, &outputs, &scratch.path().join("reference.safetensors"))?)?;
    let input = |name: &String| {
        let found = expected.get(&format!("in:{name}"));
        let values = found.ok_or_else(|| Error::Mismatch(format!("input {name:?} is not in the reference")))?;
        let wanted = graph.inputs.iter().map(|&id| graph.tensor(id)).find(|tensor| tensor.name == *name);
        if let Some(wanted) = wanted.filter(|wanted| (wanted.dtype, &wanted.shape) != (values.dtype, &values.shape)) {
            let [wanted, found] = [(wanted.dtype, &wanted.shape), (values.dtype, &values.shape)]
                .map(|(dtype, shape)| format!("{} {}", dtype.name(), shape_text(shape)));
            return Err(Error::Mismatch(format!("input {name:?} is {wanted}, the reference {found}")));
        }
        Ok(Constant::from_bytes(values.dtype, &values.bytes))
    };
    let inputs = inputs.iter().map(input).collect::<Result<Vec<_>>>()?;
    let (mut session, _) = bench::session(graph, &planned.costs, planned.chosen(), &planned.plan, options)?;
    let found = session.run(&inputs)?;
    let values =
        |(&id, v): (&TensorId, &Constant)| Values { dtype: v.dtype(), shape: graph.tensor(id).shape.clone(), bytes: v.bytes().to_vec() };
    let found = outputs.iter().zip(graph.outputs.iter().zip(&found)).map(|(name, v)| (format!("out:{name}"), values(v))).collect();
    Ok((compare(&expected, &found, &outputs)?, session.summary()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Origin;

    /// The values that hiosc has always made: an update of the generator must not change them.
    #[test]
    fn a_seed_always_gives_the_same_inputs() {
        let mut rng = SplitMix64::seed_from_u64(0);
        let known = [0xe220_a839_7b1d_cdaf, 0x6e78_9e6a_a1b9_65f4, 0x06c4_5d18_8009_454f];
        assert_eq!(known.map(|_| rng.next_u64()), known);
        let input = |dtype, shape| check_input(1, &Tensor { name: "x".into(), dtype, shape, origin: Origin::Input }, 0, None);
        assert_eq!(input(DType::F32, vec![3]).f32().unwrap()[..], [-0.054_520_752, 0.684_070_8, 0.876_769_7]);
        let integers = input(DType::I64, vec![8]);
        let expected: Vec<u8> = [0i64, 0, 1, 1, 0, 1, 1, 1].into_iter().flat_map(i64::to_le_bytes).collect();
        assert_eq!(integers.bytes(), expected);
    }
}
