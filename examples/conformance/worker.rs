//! A batch of cases in a process of its own: plans all of them, compiles their kernels together,
//! and runs each one.
//!
//! It reads the folders of cases from standard input, one per line, and writes lines of fields
//! separated by tabs:
//!
//! ```text
//! at      FOLDER                  the case that it begins
//! at                              it compiles the kernels of all
//! done    FOLDER  KIND  DETAIL    its outcome
//! ```

use std::collections::BTreeMap;
use std::io::{BufRead, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use anyhow::Context;
use hiosc::compiler::{Passes, Planned};
use hiosc::import::Literal;
use hiosc::program::{KernelMode, Shipped};
use hiosc::run::Session;
use hiosc::runtime;
use hiosc::schedule::Algorithm;
use hiosc::{Compiler, Error, vgpu};

use crate::case::{self, Array, DataSet};

/// The kind of a case's outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Passed,
    Refused,
    Wrong,
    Crashed,
    /// It would be wrong, but its data is disputed.
    Disputed,
}

impl Kind {
    pub const ALL: [Kind; 5] = [Kind::Passed, Kind::Refused, Kind::Wrong, Kind::Crashed, Kind::Disputed];

    pub fn name(self) -> &'static str {
        match self {
            Kind::Passed => "passed",
            Kind::Refused => "refused",
            Kind::Wrong => "wrong",
            Kind::Crashed => "crashed",
            Kind::Disputed => "disputed",
        }
    }
}

/// The outcome of a case, and why.
#[derive(Clone, Debug)]
pub struct Outcome {
    pub kind: Kind,
    pub detail: String,
}

impl Outcome {
    pub fn new(kind: Kind, detail: impl Into<String>) -> Outcome {
        Outcome { kind, detail: detail.into() }
    }
}

/// A data set of a case, planned.
struct Prepared {
    planned: Planned,
    shipped: Shipped,
    set: DataSet,
}

/// Runs the cases named on standard input, under each of `algorithms`.
pub fn run(algorithms: &[Algorithm]) -> anyhow::Result<()> {
    std::panic::set_hook(Box::new(|_| {})); // the outcome reports it
    let mut prepared = Vec::new();
    for line in std::io::stdin().lock().lines() {
        let folder = PathBuf::from(line?);
        say(&["at", &folder.to_string_lossy()])?;
        match guarded(|| prepare(&folder, algorithms)) {
            Ok(sets) => prepared.push((folder, sets)),
            Err(outcome) => done(&folder, &outcome)?,
        }
    }
    say(&["at"])?;
    let mut sources: BTreeMap<&str, &str> = BTreeMap::new();
    for kernel in prepared.iter().flat_map(|(_, sets)| sets).flat_map(|set| &set.shipped.kernels) {
        sources.insert(&kernel.name, &kernel.source);
    }
    let sources: Vec<_> = sources.into_iter().collect();
    let kernels = vgpu::compile_kernels(&sources, None)?;
    vgpu::load(&kernels, &[("HIOSC_VGPU_COUNT", "2"), ("HIOSC_VGPU_THREADS", "1"), ("HIOSC_VGPU_STRICT", "1")])?;
    for (folder, sets) in &prepared {
        say(&["at", &folder.to_string_lossy()])?;
        let outcome = guarded(|| sets.iter().try_for_each(check)).err();
        done(folder, &outcome.unwrap_or(Outcome::new(Kind::Passed, "")))?;
    }
    Ok(())
}

fn say(fields: &[&str]) -> std::io::Result<()> {
    let fields: Vec<String> = fields.iter().map(|field| field.replace(['\t', '\n', '\r'], " ")).collect();
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", fields.join("\t"))?;
    out.flush()
}

fn done(folder: &Path, outcome: &Outcome) -> std::io::Result<()> {
    say(&["done", &folder.to_string_lossy(), outcome.kind.name(), &outcome.detail])
}

/// Runs `work` and turns a panic into an outcome.
fn guarded<T>(work: impl FnOnce() -> Result<T, Outcome>) -> Result<T, Outcome> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
        Err(Outcome::new(Kind::Crashed, format!("panic: {}", text.unwrap_or("no message"))))
    })
}

fn crashed(error: impl Into<anyhow::Error>) -> Outcome {
    Outcome::new(Kind::Crashed, format!("{:#}", error.into()))
}

fn outcome(error: Error) -> Outcome {
    match error {
        Error::Unsupported(lines) => Outcome::new(Kind::Refused, lines.join("; ")),
        // types or shapes that contradict each other, with the node named
        Error::Model { message, .. } if message.contains(" (node \"") => Outcome::new(Kind::Refused, message),
        other => crashed(other),
    }
}

/// Every data set of the case, planned for its shapes under each of `algorithms`.
fn prepare(folder: &Path, algorithms: &[Algorithm]) -> Result<Vec<Prepared>, Outcome> {
    let model = case::model(folder);
    let sets = match case::data_sets(folder) {
        Ok(sets) => sets,
        // data that this program cannot read belongs to models that hiosc refuses
        Err(error) => return Err(Compiler::new(&model).plan().err().map_or_else(|| crashed(error), outcome)),
    };
    let runs = sets.iter().flat_map(|set| algorithms.iter().map(move |&algorithm| (set.clone(), algorithm)));
    runs.map(|(set, algorithm)| prepare_set(&model, set, algorithm)).collect()
}

/// Plans with all inputs given at run time. If that is refused, plans with the small secondary ones
/// as constants. If that is refused too, all are small and the first is a number or a list of
/// integers, plans with all of them as constants.
fn prepare_set(model: &Path, mut set: DataSet, algorithm: Algorithm) -> Result<Prepared, Outcome> {
    let refused = |result: &hiosc::Result<Planned>| matches!(result, Err(Error::Unsupported(_) | Error::Model { .. }));
    let mut planned = plan(model, &set, &[], algorithm);
    for constants in set.constants() {
        if !refused(&planned) {
            break;
        }
        let next = plan(model, &set, &constants, algorithm);
        if next.is_ok() {
            set.inputs.retain(|(name, _)| constants.iter().all(|(constant, _)| constant != name));
        }
        if !matches!(next, Err(Error::Usage(_))) {
            planned = next; // else its type cannot be a constant
        }
    }
    let planned = planned.map_err(outcome)?;
    let shipped = planned.ship(KernelMode::Source).map_err(outcome)?;
    Ok(Prepared { planned, shipped, set })
}

fn plan(model: &Path, set: &DataSet, constants: &[(String, Literal)], algorithm: Algorithm) -> hiosc::Result<Planned> {
    let mut compiler = Compiler::new(model).device("a40").gpus(2).algorithm(algorithm);
    for (name, literal) in constants {
        compiler = compiler.constant(name, literal.clone());
    }
    let at_run_time = set.inputs.iter().filter(|(name, _)| constants.iter().all(|(constant, _)| constant != name));
    for (name, array) in at_run_time {
        compiler = compiler.shape(name, &array.shape);
    }
    compiler.plan()
}

/// Runs the data set and compares.
fn check(prepared: &Prepared) -> Result<(), Outcome> {
    let outputs = execute(prepared).map_err(crashed)?;
    for (i, (got, wanted)) in outputs.iter().zip(&prepared.set.outputs).enumerate() {
        if let Some(difference) = got.difference(wanted, prepared.set.half) {
            return Err(Outcome::new(Kind::Wrong, format!("output {i}: {difference}")));
        }
    }
    if outputs.len() != prepared.set.outputs.len() {
        return Err(Outcome::new(Kind::Wrong, format!("{} outputs instead of {}", outputs.len(), prepared.set.outputs.len())));
    }
    Ok(())
}

/// One inference on two virtual GPUs.
fn execute(prepared: &Prepared) -> anyhow::Result<Vec<Array>> {
    let graph = &prepared.planned.graph;
    let mut inputs = Vec::new();
    for &input in &graph.inputs {
        let tensor = graph.tensor(input);
        let found = prepared.set.inputs.iter().find(|(name, _)| *name == tensor.name);
        let (_, array) = found.with_context(|| format!("no data for the input {:?}", tensor.name))?;
        inputs.push(array.values.clone());
    }
    let program = prepared.planned.program(&prepared.shipped)?;
    let mut session = Session::load(&program, &runtime::RuntimeOptions::default())?;
    let outputs = session.run(&inputs)?;
    let arrays = outputs.into_iter().zip(&graph.outputs).map(|(values, &id)| Array { shape: graph.tensor(id).shape.clone(), values });
    Ok(arrays.collect())
}
