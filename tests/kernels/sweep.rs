//! Tests every kind of ONNX operator on generated shapes, strides, pads, axes, broadcasts and
//! element types, with axes of size 0 and 1, and with NaN and infinities among the values. The
//! kernels that hiosc chooses run one after the other on the CPU; tract computes the expected
//! outputs.
//!
//! Each model has one node. It goes through import and fuse, so that lowering is swept as well. A
//! refusal by hiosc fails the test, since all these models are supported. Models that tract itself
//! cannot run have no reference; they are counted, and must be few.
//!
//! `sweep/families.rs` generates the models. Each family has its own seed, so that a new family
//! does not change the others.

mod families;

use std::collections::BTreeMap;

use crate::support::harness::{Objects, Random, run_graph};
use crate::support::number::numbers;
use crate::support::{a40, sanitized, scenario, skipped};
use families::{DrawnKind, Swept};
use hiosc::graph::{Constant, DType, Graph};
use hiosc::import::{ImportOptions, Model, import};
use hiosc::kernel::Kernel;
use hiosc::{fuse, kernel, vgpu};

/// A model, imported and fused, with its kernels, its inputs and tract's outputs.
struct Ready {
    name: String,
    graph: Graph,
    kernels: Vec<Kernel>,
    inputs: Vec<Constant>,
    expected: Vec<Constant>,
}

/// What became of a model before its kernels ran.
enum Outcome {
    Ready(Box<Ready>),
    Refused(String),
    NoReference(String),
}

fn prepare(swept: Swept, folder: &std::path::Path, index: usize) -> Outcome {
    let Swept { name, model, shapes, draws } = swept;
    let path = model.save(folder, &format!("m{index}"));
    let options = shapes.iter().fold(ImportOptions::default(), |options, (input, shape)| options.shape(input, shape));
    let model: Model = match import(&path, &options) {
        Ok(model) => model,
        Err(error) => return Outcome::Refused(format!("{name}: {error}")),
    };
    let graph = match fuse::fuse(model.graph.clone(), &[]) {
        Ok(graph) => graph,
        Err(error) => return Outcome::Refused(format!("{name}: {error}")),
    };
    let kernels: Result<Vec<Kernel>, _> = graph.op_ids().map(|op| kernel::select(&graph, op, &a40())).collect();
    let kernels = match kernels {
        Ok(kernels) => kernels,
        Err(error) => return Outcome::Refused(format!("{name}: {error}")),
    };
    let mut random = Random(index as u64 + 1);
    let inputs: Vec<Constant> = (graph.inputs.iter().enumerate())
        .map(|(i, &t)| {
            let tensor = graph.tensor(t);
            draws.get(i).unwrap_or(&DrawnKind::Small).values(&mut random, tensor.dtype, &tensor.shape)
        })
        .collect();
    match model.reference(&inputs) {
        Ok(expected) => Outcome::Ready(Box::new(Ready { name, graph, kernels, inputs, expected })),
        Err(error) => Outcome::NoReference(format!("{name}: {error}")),
    }
}

/// The first difference, if any. Integers and truth values must agree exactly, others to 1e-4 of
/// the largest finite value (f16: 2e-3, bf16: 16e-3). Infinities and NaN must be at the same
/// positions.
fn difference(found: &Constant, expected: &Constant) -> Option<String> {
    if (found.dtype(), found.len()) != (expected.dtype(), expected.len()) {
        return Some(format!("{} x {} instead of {} x {}", found.len(), found.dtype().name(), expected.len(), expected.dtype().name()));
    }
    let (got, want): (Vec<f64>, Vec<f64>) =
        (numbers(found).iter().map(|n| n.f64()).collect(), numbers(expected).iter().map(|n| n.f64()).collect());
    let share = match expected.dtype() {
        DType::F16 => 2e-3,
        DType::BF16 => 16e-3,
        dtype if dtype.is_float() => 1e-4,
        _ => 0.0,
    };
    let scale = want.iter().filter(|v| v.is_finite()).fold(0.0f64, |m, v| m.max(v.abs()));
    let wrong = |(i, (&g, &w)): (usize, (&f64, &f64))| {
        let right = g == w || (g.is_nan() && w.is_nan()) || (g - w).abs() <= share * scale;
        (!right).then(|| format!("value {i} is {g}, not {w}"))
    };
    got.iter().zip(&want).enumerate().find_map(wrong)
}

#[test]
fn every_operator_agrees_with_tract() {
    if !vgpu::compiler_present() {
        return skipped!("SKIPPED every_operator_agrees_with_tract: no C++ compiler");
    }
    let scratch = tempfile::tempdir().expect("a temporary folder");
    let only = std::env::var("HIOSC_TEST_SWEEP").unwrap_or_default();
    let (mut ready, mut refused, mut without): (Vec<Ready>, Vec<String>, Vec<String>) = Default::default();
    for (index, swept) in families::all().into_iter().enumerate().filter(|(_, swept)| swept.name.contains(&only)) {
        match prepare(swept, scratch.path(), index) {
            Outcome::Ready(one) => ready.push(*one),
            Outcome::Refused(why) => refused.push(why),
            Outcome::NoReference(why) => without.push(why),
        }
    }
    let kernels: BTreeMap<&str, &str> =
        ready.iter().flat_map(|one| &one.kernels).map(|kernel| (kernel.name.as_str(), kernel.source.as_str())).collect();
    let objects = Objects::load(&kernels.iter().map(|(&name, &source)| (name, source)).collect::<Vec<_>>());
    let mut failures = Vec::new();
    for one in &ready {
        let outputs = run_graph(&objects, &one.graph, &one.kernels, &one.inputs);
        for (i, (found, expected)) in outputs.iter().zip(&one.expected).enumerate() {
            if let Some(what) = difference(found, expected) {
                let shapes: Vec<String> = one.graph.inputs.iter().map(|&t| one.graph.tensor(t).shape_text()).collect();
                failures.push(format!("{} ({}): output {i}: {what}", one.name, shapes.join(", ")));
            }
        }
    }
    println!("{} models, {} kernels; {} that tract cannot run:\n{}", ready.len(), kernels.len(), without.len(), without.join("\n"));
    let (wrong, refusals) = (failures.len(), refused.len());
    failures.extend(refused);
    assert!(failures.is_empty(), "{wrong} of {} models are wrong, {refusals} are refused:\n{}", ready.len(), failures.join("\n"));
    assert!(without.len() * 20 <= ready.len() + 19, "too many models without a reference");
}

#[test]
fn passes_under_sanitizers() {
    sanitized::run_all_but(&scenario::prefix(module_path!()), &[]);
}
