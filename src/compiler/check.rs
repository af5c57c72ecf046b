//! The check of a crate. `reference` makes it: inputs from a fixed seed, and the outputs that rten,
//! or else tract, computes from them; or the inputs and outputs of a file.

use std::path::Path;

use rand_xoshiro::SplitMix64;
use rand_xoshiro::rand_core::{Rng, SeedableRng};

use crate::acceptance::{OutputReport, compare, convert, read};
use crate::emit::{CheckFile, RecordedCheck, ReferenceData};
use crate::error::{Error, Result};
use crate::graph::{Binary, Constant, DType, Expr, Gather, Graph, OpKind, Operator, Scalar, Tensor, shape_text};
use crate::ids::TensorId;
use crate::import::{self, ImportOptions};
use crate::oracle::{self, Choice, NamedValues, Oracle, Source, Values};

/// The check of a crate, and what the summary says of it.
#[derive(Debug)]
pub struct MadeCheck {
    /// The file.
    pub file: CheckFile,
    /// Why rten could not compute the reference; empty if it could or was not asked.
    pub refused: String,
    /// The outputs about which rten and tract disagree, a line for each.
    pub disputes: Vec<String>,
}

/// The check of a crate: inputs made from a fixed seed, and outputs by rten, or else by tract, or
/// as `choice` says.
///
/// # Errors
///
/// [`Error::Model`] if nobody can compute them, or if this machine has too little memory for an
/// operator; [`Error::Usage`] if whoever was chosen cannot.
pub(super) fn reference(model: &import::Model, graph: &Graph, path: &Path, options: &ImportOptions, choice: &Choice) -> Result<MadeCheck> {
    if let Choice::File(file) = choice {
        let data = from_file(graph, file)?;
        return Ok(MadeCheck { file: CheckFile::new(graph, &data)?, refused: String::new(), disputes: Vec::new() });
    }
    enough_memory(model, graph)?;
    let inputs = check_inputs(graph);
    let by_rten = if *choice == Choice::Tract { Err(String::new()) } else { rten_outputs(path, options, graph, &inputs) };
    let by_tract = if *choice == Choice::Rten { None } else { Some(model.reference(&inputs)) };
    let (mut refused, mut disputes) = (String::new(), Vec::new());
    let (source, outputs, other) = match (by_rten, by_tract) {
        (Ok(rten), Some(Ok(tract))) => {
            disputes = disagreements(graph, &rten, &tract);
            let other = (!disputes.is_empty()).then_some((Source::Tract, tract));
            (Source::Rten, rten, other)
        }
        (Ok(rten), _) => (Source::Rten, rten, None),
        (Err(why), Some(tract)) => {
            refused = why;
            (Source::Tract, tract?, None)
        }
        (Err(why), None) => return Err(Error::Usage(format!("--reference rten: rten cannot run the model: {why}"))),
    };
    let file = CheckFile::new(graph, &ReferenceData { inputs, outputs, source, other })?;
    Ok(MadeCheck { file, refused, disputes })
}

/// Fails if this machine has too little memory for an operator: an allocation that fails later
/// would end the program.
fn enough_memory(model: &import::Model, graph: &Graph) -> Result<()> {
    let bytes = |id: &TensorId| graph.tensor(*id).bytes() as usize;
    let of = |operator: &Operator| operator.inputs.iter().chain(&operator.outputs).map(bytes).sum::<usize>();
    let largest = graph.operators.iter().map(of).max().unwrap_or(0);
    let mut memory: Vec<u8> = Vec::new();
    let fits = memory.try_reserve_exact(largest).is_ok();
    drop(std::hint::black_box(memory));
    if fits {
        return Ok(());
    }
    let message = format!("an operator reads and writes {largest} bytes, more memory than the tool may take");
    Err(Error::Model { path: model.files.first().cloned().unwrap_or_default(), message })
}

/// The outputs of `graph` by rten, which reads the model at `path` itself; or why it cannot.
fn rten_outputs(path: &Path, options: &ImportOptions, graph: &Graph, inputs: &[Constant]) -> Result<Vec<Constant>, String> {
    let oracle = Oracle::load(path, options)?;
    let port = |(&id, values): (&TensorId, _)| (graph.tensor(id).name.as_str(), graph.tensor(id).shape.as_slice(), values);
    let feeds: Vec<oracle::Input> = graph.inputs.iter().zip(inputs).map(port).collect();
    let wanted: Vec<&Tensor> = graph.outputs.iter().map(|&id| graph.tensor(id)).collect();
    let names: Vec<&str> = wanted.iter().map(|tensor| tensor.name.as_str()).collect();
    let found = oracle.run(&feeds, &names)?;
    let output = |(tensor, values): (&&Tensor, Option<Values>)| {
        let name = &tensor.name;
        let values = values.ok_or_else(|| format!("it has no output {name:?}"))?;
        if values.shape != tensor.shape {
            let [found, expected] = [&values.shape, &tensor.shape].map(|shape| shape_text(shape));
            return Err(format!("its output {name:?} is {found}, not {expected}"));
        }
        let values = values.converted(tensor.dtype).ok_or_else(|| format!("its output {name:?} is not {}", tensor.dtype.name()))?;
        Ok(Constant::from_bytes(values.dtype, &values.bytes))
    };
    wanted.iter().zip(found).map(output).collect()
}

/// A line for each output about which rten and tract disagree.
fn disagreements(graph: &Graph, rten: &[Constant], tract: &[Constant]) -> Vec<String> {
    let [rten, tract] = [rten, tract].map(|outputs| named(graph, "out", &graph.outputs, outputs));
    let names: Vec<String> = graph.outputs.iter().map(|&id| graph.tensor(id).name.clone()).collect();
    let reports = compare(&rten, &tract, &names).unwrap_or_default();
    let line = |report: OutputReport| {
        let (at, theirs) = report.worst.as_ref().map(|worst| (&worst.index, (worst.expected, worst.found))).unzip();
        let (rten, tract) = theirs.unwrap_or_default();
        format!(
            "{}: rten and tract differ by up to {:.2e} (allowed {:.2e}); at {:?} rten computes {rten:e}, tract {tract:e}",
            report.name,
            report.difference,
            report.allowed,
            at.cloned().unwrap_or_default()
        )
    };
    reports.into_iter().filter(|report| !report.passes()).map(line).collect()
}

/// The values of the tensors `ids`, as `side:NAME`.
pub(super) fn named(graph: &Graph, side: &str, ids: &[TensorId], values: &[Constant]) -> NamedValues {
    let of = |(&id, values): (&TensorId, &Constant)| {
        let tensor = graph.tensor(id);
        (format!("{side}:{}", tensor.name), Values { dtype: values.dtype(), shape: tensor.shape.clone(), bytes: values.bytes().to_vec() })
    };
    ids.iter().zip(values).map(of).collect()
}

/// Inputs and outputs of the user's.
///
/// # Errors
///
/// [`Error::Mismatch`] if an input or output has another type or shape than the model's.
pub(super) fn from_file(graph: &Graph, npz: &Path) -> Result<ReferenceData> {
    let names = |ids: &[TensorId]| ids.iter().map(|&t| graph.tensor(t).name.clone()).collect::<Vec<String>>();
    let (inputs, outputs) = (names(&graph.inputs), names(&graph.outputs));
    let scratch = tempfile::tempdir().map_err(Error::io(std::env::temp_dir()))?;
    let values = read(&convert(npz, &inputs, &outputs, &scratch.path().join("reference.safetensors"))?)?;
    let of = |side: &str, ids: &[TensorId]| ids.iter().map(|&id| stored(&values, side, graph.tensor(id))).collect::<Result<Vec<_>>>();
    Ok(ReferenceData { inputs: of("in", &graph.inputs)?, outputs: of("out", &graph.outputs)?, source: Source::File, other: None })
}

/// The values of an input (`in`) or output (`out`) in a reference, which must fit the model.
fn stored(reference: &NamedValues, side: &str, wanted: &Tensor) -> Result<Constant> {
    let (name, what) = (&wanted.name, if side == "in" { "input" } else { "output" });
    let values = reference.get(&format!("{side}:{name}"));
    let values = values.ok_or_else(|| Error::Mismatch(format!("{what} {name:?} is not in the reference")))?;
    if (wanted.dtype, &wanted.shape) != (values.dtype, &values.shape) {
        let [wanted, found] = [(wanted.dtype, &wanted.shape), (values.dtype, &values.shape)]
            .map(|(dtype, shape)| format!("{} {}", dtype.name(), shape_text(shape)));
        return Err(Error::Mismatch(format!("{what} {name:?} is {wanted}, the reference {found}")));
    }
    Ok(Constant::from_bytes(values.dtype, &values.bytes))
}

/// A check with the values of another one, which are not compared: to compare the other files.
pub(super) fn recorded(graph: &Graph, recorded: &RecordedCheck) -> Result<CheckFile> {
    let zeros = |ids: &[TensorId]| {
        ids.iter().map(|&id| graph.tensor(id)).map(|t| Constant::from_bytes(t.dtype, &vec![0; t.bytes() as usize])).collect()
    };
    let RecordedCheck { ref sha256, source, disputed_by } = *recorded;
    let data = ReferenceData { inputs: zeros(&graph.inputs), outputs: zeros(&graph.outputs), source, other: None };
    Ok(CheckFile { sha256: sha256.clone(), disputed_by, ..CheckFile::new(graph, &data)? })
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
