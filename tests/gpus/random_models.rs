//! Random ONNX models on two virtual GPUs, compared with rten, which reads ONNX itself.
//!
//! A model that differs from rten is given to ONNX Runtime, where Python has it (`HIOSC_PYTHON`),
//! else to tract: if that agrees with hiosc, rten is wrong, and a line says so. Otherwise hiosc is,
//! and the test fails.
//!
//! `HIOSC_RANDOM_MODELS` is the number of models (100), `HIOSC_RANDOM_SEED` the first seed (0).

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use hiosc::acceptance::compare;
use hiosc::compiler::{Passes, Planned, check_inputs};
use hiosc::graph::{Constant, Graph};
use hiosc::ids::TensorId;
use hiosc::measure::bench;
use hiosc::oracle::{Input, NamedValues, Oracle, Values, onnxruntime};
use hiosc::runtime::RuntimeOptions;
use hiosc::schedule::Algorithm;
use hiosc::{Compiler, Error, ImportOptions};

use crate::support::random_model::random_model;
use crate::support::scenario::{self, Scenario};

const SCENARIOS: [Scenario<()>; 1] = [("batch", batch)];

/// Models whose kernels are compiled together, and which run in one process.
const BATCH: u64 = 50;

/// How models are scheduled, in turn.
const ALGORITHMS: [Algorithm; 3] = [Algorithm::Scatter, Algorithm::HiosLp, Algorithm::Best];

#[test]
fn scenario() {
    scenario::play(&SCENARIOS);
}

#[test]
fn random_models_agree_with_rten() {
    let number = |name: &str, default| std::env::var(name).map_or(default, |text| text.parse().expect("a number"));
    let (first, count) = (number("HIOSC_RANDOM_SEED", 0), number("HIOSC_RANDOM_MODELS", 100));
    let mut verdicts: BTreeMap<String, u64> = BTreeMap::new();
    let mut wrong = Vec::new();
    for begin in (first..first + count).step_by(BATCH as usize) {
        let seeds = begin..(begin + BATCH).min(first + count);
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut kernels = BTreeMap::new();
        for seed in seeds.clone() {
            let path = random_model(seed).save(folder.path(), &seed.to_string());
            if let Ok(planned) = planned(&path, seed) {
                kernels.extend(planned.costs.kernels().map(|kernel| (kernel.name.clone(), kernel.source.clone())));
            }
        }
        let kernels: Vec<(&str, &str)> = kernels.iter().map(|(name, source)| (name.as_str(), source.as_str())).collect();
        let range = format!("{} {}", seeds.start, seeds.end);
        let variables =
            [("HIOSC_VGPU_STRICT", "1"), ("HIOSC_TEST_FOLDER", folder.path().to_str().expect("UTF-8")), ("HIOSC_TEST_SEEDS", &range)];
        let Some(output) = scenario::child(module_path!(), "batch", &kernels, &variables) else { return };
        let said = String::from_utf8_lossy(&output.stdout);
        for seed in seeds {
            let begins = format!("seed {seed}: ");
            let verdict = said.lines().find_map(|line| line.strip_prefix(&begins)).unwrap_or("CRASHED: the process ended");
            let kind = verdict.split(": ").next().unwrap_or_default();
            *verdicts.entry(kind.into()).or_default() += 1;
            if !matches!(kind, "right" | "rten refuses" | "hiosc refuses") {
                println!("seed {seed}: {verdict}");
            }
            if kind == "WRONG" || kind.starts_with("CRASHED") {
                let kept = std::env::temp_dir().join(format!("hiosc-random-{seed}.onnx"));
                fs::copy(folder.path().join(format!("{seed}.onnx")), &kept).expect("a copy");
                wrong.push(format!("seed {seed} ({}): {verdict}\n{}", kept.display(), String::from_utf8_lossy(&output.stderr)));
            }
        }
    }
    println!("random models: {verdicts:?}");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let compared = verdicts.get("right").copied().unwrap_or(0);
    assert!(compared * 10 >= count * 8, "only {compared} of {count} models were compared: {verdicts:?}");
}

/// The model in `path`, planned for two GPUs.
fn planned(path: &Path, seed: u64) -> Result<Planned, Error> {
    let device = if seed.is_multiple_of(2) { "h100" } else { "a40" };
    Compiler::new(path).device(device).gpus(2).algorithm(ALGORITHMS[seed as usize % ALGORITHMS.len()]).plan()
}

/// Runs the models of `HIOSC_TEST_SEEDS` in this process, and prints a line for each.
fn batch() {
    let folder = PathBuf::from(std::env::var_os("HIOSC_TEST_FOLDER").expect("a folder"));
    let seeds = std::env::var("HIOSC_TEST_SEEDS").expect("seeds");
    let (begin, end) = seeds.split_once(' ').expect("two numbers");
    for seed in begin.parse::<u64>().expect("a number")..end.parse().expect("a number") {
        let path = folder.join(format!("{seed}.onnx"));
        println!("seed {seed}: {}", verdict(&path, seed));
    }
}

/// `right`, or what is not.
fn verdict(path: &Path, seed: u64) -> String {
    let planned = match planned(path, seed) {
        Ok(planned) => planned,
        Err(Error::Unsupported(why)) => return format!("hiosc refuses: {}", why.join("; ")),
        Err(error) => return format!("CRASHED: {error}"),
    };
    let graph = &planned.graph;
    let inputs = check_inputs(graph);
    let ran = bench::session(graph, &planned.costs, planned.chosen(), &planned.plan, &RuntimeOptions::default().warm_up(false))
        .and_then(|(mut session, _)| session.run(&inputs));
    let found = match ran {
        Ok(found) => named(graph, &found),
        Err(error) => return format!("CRASHED: {error}"),
    };
    let feeds: Vec<Input> =
        graph.inputs.iter().zip(&inputs).map(|(&id, v)| (&*graph.tensor(id).name, &*graph.tensor(id).shape, v)).collect();
    let names: Vec<String> = graph.outputs.iter().map(|&id| graph.tensor(id).name.clone()).collect();
    let wanted: Vec<&str> = names.iter().map(String::as_str).collect();
    let by_rten = Oracle::load(path, &ImportOptions::default()).and_then(|oracle| oracle.run(&feeds, &wanted));
    let expected: NamedValues = match by_rten {
        Err(why) => return format!("rten refuses: {why}"),
        Ok(values) => names.iter().zip(values).filter_map(|(name, values)| Some((format!("out:{name}"), values?))).collect(),
    };
    let Some(difference) = difference(&expected, &found, &names) else { return "right".into() };
    let scratch = tempfile::tempdir().expect("a temporary folder");
    let (by, other) = match onnxruntime::outputs(path, &feeds, &wanted, scratch.path()) {
        Ok((values, version)) => (format!("onnxruntime {version}"), named_values(&names, values)),
        Err(_) => match planned.model.reference(&inputs) {
            Ok(values) => ("tract".into(), named(graph, &values)),
            Err(error) => return format!("WRONG: {difference} compared with rten ({error})"),
        },
    };
    match self::difference(&other, &found, &names) {
        None => format!("rten is wrong: {by} agrees with hiosc; {difference}"),
        Some(theirs) => format!("WRONG: {difference} compared with rten, {theirs} compared with {by}"),
    }
}

fn named(graph: &Graph, values: &[Constant]) -> NamedValues {
    let of = |(&id, v): (&TensorId, &Constant)| {
        let tensor = graph.tensor(id);
        (format!("out:{}", tensor.name), Values { dtype: v.dtype(), shape: tensor.shape.clone(), bytes: v.bytes().to_vec() })
    };
    graph.outputs.iter().zip(values).map(of).collect()
}

fn named_values(names: &[String], values: Vec<Values>) -> NamedValues {
    names.iter().zip(values).map(|(name, values)| (format!("out:{name}"), values)).collect()
}

/// The outputs that differ; nothing if none does.
fn difference(expected: &NamedValues, found: &NamedValues, names: &[String]) -> Option<String> {
    match compare(expected, found, names) {
        Err(error) => Some(error.to_string()),
        Ok(reports) => {
            let wrong: Vec<String> = reports.iter().filter(|report| !report.passes()).map(ToString::to_string).collect();
            (!wrong.is_empty()).then(|| wrong.join("; "))
        }
    }
}
