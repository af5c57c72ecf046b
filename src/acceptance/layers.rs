//! Which operator is wrong? Compares every tensor that an inference leaves with another reader of
//! the model.
//!
//! **In**: the table of launches (`launches.jsonl`), the file that the crate's `check --layers`
//! wrote, and the oracle's values. **Out**: a [`LayersReport`].
//!
//! 1. A result of a launch is compared if it holds an ONNX value that the oracle has, in the shape
//!    of the model. Others are skipped, and counted by reason. No name is guessed: a result that a
//!    rewrite made under the name of a node is not that node's value.
//! 2. Two values are compared like outputs: with the tolerance of the type, relative to the largest
//!    magnitude of the expected values.
//! 3. Launches are in an order in which results come before what reads them. So the first launch
//!    with a result that differs has only inputs that agree, or were not compared. Those that were
//!    not compared may be wrong: the launches that computed them are reported, too.
//! 4. The oracle may be wrong, too. If all outputs agree with a reference that is not the oracle's,
//!    and the oracle's outputs do not, the differences are its own. They are reported, but the
//!    comparison passes.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Display, Formatter};
use std::fs::File;
use std::path::{Path, PathBuf};

use memmap2::Mmap;
use safetensors::SafeTensors;
use serde::Deserialize;
use serde_json::{Value, json};

use super::values::{OutputReport, report};
use super::{CrateMetadata, VerifyOptions};
use crate::error::{Error, Result};
use crate::graph::{Constant, shape_text};
use crate::import::ImportOptions;
use crate::oracle::{NamedValues, Oracle, Values};
use crate::progress;
use crate::runtime::tool::layers::PREFIX;
use crate::runtime::weights::sha256;
use crate::runtime::{DType, npy};

/// A line of the table of launches.
#[derive(Debug, Deserialize)]
struct Launch {
    launch: usize,
    operators: Vec<String>,
    kinds: Vec<String>,
    reads: Vec<Read>,
    results: Vec<Written>,
    gpu: usize,
    file: String,
}

#[derive(Debug, Deserialize)]
struct Read {
    tensor: String,
    shape: Vec<usize>,
    from: Source,
}

/// `input`, `constant`, or the keys of results.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Source {
    Outside(String),
    Results(Vec<String>),
}

#[derive(Debug, Deserialize)]
struct Written {
    tensor: String,
    operator: usize,
    values: Vec<WrittenValue>,
    absorbed: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct WrittenValue {
    name: String,
    shape: Vec<usize>,
}

/// What the launches of a plan read and write.
#[derive(Debug)]
pub(crate) struct LaunchTable(Vec<Launch>);

impl LaunchTable {
    /// The table of the crate in `folder`, if the options need it. Fails if the model that they
    /// name is not the crate's.
    pub fn wanted(folder: &Path, about: &CrateMetadata, options: &VerifyOptions) -> Result<Option<LaunchTable>> {
        if options.layers.is_none() && options.dump.is_none() {
            return Ok(None);
        }
        let table = LaunchTable::of_crate(folder)?;
        if let (Some((model, _)), Some(expected)) = (&options.layers, &about.model_sha256) {
            let found = File::open(model).and_then(|mut file| sha256(&mut file)).map_err(Error::io(model))?;
            if found != *expected {
                let (model, folder) = (model.display(), folder.display());
                return Err(Error::Usage(format!(
                    "{model} is not the model that {folder} was compiled from: its SHA-256 is {found}, that of the crate's model {expected}"
                )));
            }
        }
        Ok(Some(table))
    }

    /// The comparison and the files that the options ask for. The run that wrote `file` had the
    /// inputs in `given`, and its outputs are `found`. `outputs` compares these with those in
    /// `given`.
    pub fn examined(
        &self,
        file: &Path,
        options: &VerifyOptions,
        about: &CrateMetadata,
        given: &NamedValues,
        (found, outputs): (&NamedValues, &[OutputReport]),
    ) -> Result<(Option<LayersReport>, Vec<PathBuf>)> {
        let file = SavedLayers::open(file)?;
        let mut dumped = Vec::new();
        if let Some((names, folder)) = &options.dump {
            let inputs = given.iter().filter_map(|(key, values)| Some((key.strip_prefix("in:")?, values)));
            let outputs = found.iter().filter_map(|(key, values)| Some((key.strip_prefix("out:")?, values)));
            dumped = Dumpable { table: self, file: &file, ports: inputs.chain(outputs).collect() }.dump(names, folder)?;
        }
        let compared =
            options.layers.as_ref().map(|(model, import)| layers_of(self, &file, (model, import), &about.inputs, given, outputs));
        Ok((compared.transpose()?, dumped))
    }

    /// Reads the table of the crate in `folder`.
    pub fn of_crate(folder: &Path) -> Result<LaunchTable> {
        let path = folder.join("launches.jsonl");
        let text = std::fs::read_to_string(&path).map_err(Error::io(&path))?;
        LaunchTable::parse(&text).map_err(|message| {
            let path = path.display();
            Error::Usage(format!("{path} does not say what launches read and write ({message}): compile the model again with this hiosc"))
        })
    }

    /// Reads the table from its text.
    pub fn parse(text: &str) -> std::result::Result<LaunchTable, String> {
        let lines = text.lines().filter(|line| line.starts_with("{\"launch\""));
        lines.map(|line| serde_json::from_str(line).map_err(|e| e.to_string())).collect::<std::result::Result<_, _>>().map(LaunchTable)
    }

    /// The names of all ONNX values that results hold.
    fn values(&self) -> BTreeSet<&str> {
        self.0.iter().flat_map(|launch| &launch.results).flat_map(|result| &result.values).map(|value| value.name.as_str()).collect()
    }

    /// The launch that computes the ONNX value `name` on the way to its result.
    fn absorbing(&self, name: &str) -> Option<&Launch> {
        self.0.iter().find(|launch| launch.results.iter().any(|result| result.absorbed.iter().any(|absorbed| absorbed == name)))
    }
}

/// The file that `check --layers` writes, mapped into memory.
pub(crate) struct SavedLayers {
    path: PathBuf,
    map: Mmap,
}

impl SavedLayers {
    /// Opens it.
    pub fn open(path: &Path) -> Result<SavedLayers> {
        let file = File::open(path).map_err(Error::io(path))?;
        // SAFETY: the file is in a folder of this process's own, and nothing writes it any more.
        let map = unsafe { Mmap::map(&file) }.map_err(Error::io(path))?;
        Ok(SavedLayers { path: path.into(), map })
    }

    fn tensors(&self) -> Result<SafeTensors<'_>> {
        SafeTensors::deserialize(&self.map).map_err(|e| Error::Model { path: self.path.clone(), message: e.to_string() })
    }
}

/// The tensor of this key.
fn saved(tensors: &SafeTensors<'_>, key: &str) -> Option<Values> {
    let view = tensors.tensor(&format!("{PREFIX}{key}")).ok()?;
    Some(Values { dtype: DType::of_stored(view.dtype())?, shape: view.shape().to_vec(), bytes: view.data().to_vec() })
}

/// The result of a comparison operator by operator.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LayersReport {
    /// Number of results that were compared.
    pub compared: usize,
    /// Number of results that were not, by reason.
    pub skipped: BTreeMap<&'static str, usize>,
    /// The largest difference that passed, as a fraction of the tensor's largest magnitude, and the
    /// name of that tensor.
    pub worst: Option<(f64, String)>,
    /// The first operator that differs.
    pub first: Option<WrongLayer>,
    /// Number of other results that differ.
    pub later: usize,
    /// Of these, the operators with results that differ although all their inputs agree.
    pub also: Vec<String>,
    /// An output of which the oracle computes other values than the reference, although all outputs
    /// agree with the reference: then the oracle is wrong.
    pub oracle_is_wrong: Option<String>,
}

/// A launch with a wrong result.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct WrongLayer {
    /// The ONNX name of the operator that computes it.
    pub operator: String,
    /// What that computes, as in the text form of the graph.
    pub kind: String,
    /// The other operators that the same launch computes.
    pub with: Vec<String>,
    /// The logical GPU.
    pub gpu: usize,
    /// Its number in the plan.
    pub launch: usize,
    /// The source of its kernel, relative to the crate.
    pub kernel: String,
    /// Each tensor that it reads: name, shape, and how that compares.
    pub inputs: Vec<(String, Vec<usize>, String)>,
    /// The wrong result.
    pub result: OutputReport,
    /// The launches that computed those inputs that were not compared, back to what was: operators
    /// and kernel.
    pub suspects: Vec<String>,
}

/// What is known of a result.
#[derive(Clone, Debug)]
enum State {
    /// By how much it differs at most, relative to its largest magnitude.
    Agrees(f64),
    Differs(OutputReport),
    NotCompared(&'static str),
}

const NO_VALUE: &str = "an intermediate result that the model has no value for";
const NOT_KNOWN: &str = "a value that the reference does not have";
const OTHER_FORM: &str = "a value that the reference has in another type or shape";

/// Values by ONNX name, in the order of the names; `None` for what is not known.
type Expected<'a> = &'a dyn Fn(&[&str]) -> std::result::Result<Vec<Option<Values>>, String>;

/// Compares the tensors in `file` with those that rten computes from the inputs among `given`.
/// `outputs` compares the model's outputs with those among `given`.
pub(crate) fn layers_of(
    table: &LaunchTable,
    file: &SavedLayers,
    (model, import): (&Path, &ImportOptions),
    inputs: &[String],
    given: &NamedValues,
    outputs: &[OutputReport],
) -> Result<LayersReport> {
    progress::step("computing all tensors in rten", 0, 1);
    let expected = |wanted: &[&str]| {
        let oracle = Oracle::load(model, import)?;
        let mut feeds: Vec<(&str, &[usize], Constant)> = Vec::new();
        for name in inputs {
            let values = given.get(&format!("in:{name}")).ok_or_else(|| format!("there is no input {name:?}"))?;
            feeds.push((name, &values.shape, Constant::from_bytes(values.dtype, &values.bytes)));
        }
        let feeds: Vec<_> = feeds.iter().map(|(name, shape, values)| (*name, *shape, values)).collect();
        oracle.run(&feeds, wanted)
    };
    compare_layers(table, file, &expected, given, outputs)
}

/// Compares all results in `file`.
///
/// # Errors
///
/// [`Error::Tool`] with the reason if there are no values to compare with.
fn compare_layers(
    table: &LaunchTable,
    file: &SavedLayers,
    expected: Expected<'_>,
    given: &NamedValues,
    outputs: &[OutputReport],
) -> Result<LayersReport> {
    let tensors = file.tensors()?;
    let names: BTreeSet<&str> = table.values().into_iter().chain(outputs.iter().map(|output| output.name.as_str())).collect();
    let names: Vec<&str> = names.into_iter().collect();
    let values = expected(&names).map_err(|why| Error::Tool {
        tool: "rten".into(),
        message: format!(
            "cannot compute the tensors to compare with: {why}. Without --layers, only outputs are compared: with the crate's own \
             reference, with --reference FILE.npz, or with --onnxruntime --model MODEL.onnx"
        ),
    })?;
    let mut values: BTreeMap<&str, Values> = names.iter().copied().zip(values).filter_map(|(name, v)| Some((name, v?))).collect();
    let right = !outputs.is_empty() && outputs.iter().all(OutputReport::passes);
    let unlike = outputs.iter().find(|output| right && unlike_reference(&output.name, &values, given));
    let oracle_is_wrong = unlike.map(|output| output.name.clone());
    let mut states: BTreeMap<&str, State> = BTreeMap::new();
    for result in table.0.iter().flat_map(|launch| &launch.results) {
        let state = match result.values.iter().find(|value| values.contains_key(value.name.as_str())) {
            None if result.values.is_empty() => State::NotCompared(NO_VALUE),
            None => State::NotCompared(NOT_KNOWN),
            Some(WrittenValue { name, shape }) => {
                let found = saved(&tensors, &result.tensor);
                let found = found.ok_or_else(|| Error::internal("acceptance", format!("{:?} was not saved", result.tensor)))?;
                match values.remove(name.as_str()).filter(|v| v.shape == *shape).and_then(|v| v.converted(found.dtype)) {
                    Some(expected) if expected.bytes.len() == found.bytes.len() => judged(name, &expected, &found),
                    _ => State::NotCompared(OTHER_FORM),
                }
            }
        };
        states.insert(&result.tensor, state);
    }
    Ok(LayersReport { oracle_is_wrong, ..summarised(table, &states) })
}

/// Whether the oracle has another output `name` than the reference in `given`.
fn unlike_reference(name: &str, values: &BTreeMap<&str, Values>, given: &NamedValues) -> bool {
    let (Some(reference), Some(oracle)) = (given.get(&format!("out:{name}")), values.get(name)) else { return false };
    match oracle.converted(reference.dtype) {
        Some(oracle) if oracle.shape == reference.shape => !report(name, reference, &oracle).passes(),
        _ => true,
    }
}

fn judged(name: &str, expected: &Values, found: &Values) -> State {
    let compared = report(name, expected, found);
    if !compared.passes() {
        return State::Differs(compared);
    }
    let OutputReport { difference, scale, .. } = compared;
    State::Agrees(if difference > 0.0 { f64::from(difference) / f64::from(scale) } else { 0.0 })
}

fn summarised(table: &LaunchTable, states: &BTreeMap<&str, State>) -> LayersReport {
    let mut summary =
        LayersReport { compared: 0, skipped: BTreeMap::new(), worst: None, first: None, later: 0, oracle_is_wrong: None, also: Vec::new() };
    for (launch, result) in table.0.iter().flat_map(|launch| launch.results.iter().map(move |result| (launch, result))) {
        match &states[result.tensor.as_str()] {
            State::NotCompared(why) => *summary.skipped.entry(why).or_default() += 1,
            State::Agrees(relative) => {
                summary.compared += 1;
                if summary.worst.as_ref().is_none_or(|(worst, _)| relative > worst) {
                    summary.worst = Some((*relative, result.values[0].name.clone()));
                }
            }
            State::Differs(wrong) => {
                summary.compared += 1;
                if summary.first.is_none() {
                    summary.first = Some(wrong_layer(table, states, launch, (result, wrong)));
                    continue;
                }
                summary.later += 1;
                let right = |key: &String| matches!(states.get(key.as_str()), Some(State::Agrees(_)));
                let innocent = launch.reads.iter().all(|read| match &read.from {
                    Source::Outside(_) => true,
                    Source::Results(keys) => keys.iter().all(right),
                });
                let names = named(&launch.operators);
                if innocent && summary.first.as_ref().is_some_and(|first| first.launch != launch.launch) && !summary.also.contains(&names) {
                    summary.also.push(names);
                }
            }
        }
    }
    summary
}

fn wrong_layer(
    table: &LaunchTable,
    states: &BTreeMap<&str, State>,
    launch: &Launch,
    (result, wrong): (&Written, &OutputReport),
) -> WrongLayer {
    let input = |read: &Read| {
        let how = match &read.from {
            Source::Outside(what) if what == "constant" => "a constant".into(),
            Source::Outside(_) => "an input of the model".into(),
            Source::Results(keys) => {
                // the first that was not compared, else the worst
                let mut worst = 0.0;
                let unknown = keys.iter().find_map(|key| match states.get(key.as_str()) {
                    Some(State::Agrees(relative)) => {
                        worst = f64::max(worst, *relative);
                        None
                    }
                    Some(State::Differs(_)) => Some("differs"), // another result of this launch
                    Some(State::NotCompared(why)) => Some(*why),
                    None => Some(NO_VALUE),
                });
                unknown.map_or_else(|| agreement(worst), |why| format!("not compared: {why}"))
            }
        };
        (read.tensor.clone(), read.shape.clone(), how)
    };
    WrongLayer {
        operator: launch.operators.get(result.operator).cloned().unwrap_or_default(),
        kind: launch.kinds.get(result.operator).cloned().unwrap_or_default(),
        with: launch.operators.iter().enumerate().filter(|&(i, _)| i != result.operator).map(|(_, name)| name.clone()).collect(),
        gpu: launch.gpu,
        launch: launch.launch,
        kernel: launch.file.clone(),
        inputs: launch.reads.iter().map(input).collect(),
        result: wrong.clone(),
        suspects: suspects(table, states, launch),
    }
}

/// The launches before `launch` whose results were not compared, and that its inputs depend on
/// through such results alone; the nearest first.
fn suspects(table: &LaunchTable, states: &BTreeMap<&str, State>, launch: &Launch) -> Vec<String> {
    let keys = |launch: &Launch| -> Vec<String> {
        let sources = launch.reads.iter().map(|read| &read.from);
        sources.flat_map(|source| if let Source::Results(keys) = source { keys.clone() } else { Vec::new() }).collect()
    };
    let mut open: BTreeSet<String> = keys(launch).into_iter().collect();
    let mut found = Vec::new();
    for earlier in table.0[..launch.launch.min(table.0.len())].iter().rev() {
        let unknown = |result: &&Written| open.contains(&result.tensor) && matches!(states[result.tensor.as_str()], State::NotCompared(_));
        if earlier.results.iter().any(|result| unknown(&result)) {
            found.push(format!("{} ({})", named(&earlier.operators), earlier.file));
            open.extend(keys(earlier));
        }
    }
    found
}

/// `agrees exactly`, or to which fraction.
fn agreement(relative: f64) -> String {
    if relative == 0.0 { "agrees exactly".into() } else { format!("agrees to {relative:.1e}") }
}

fn named(operators: &[String]) -> String {
    operators.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(" and ")
}

fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

impl LayersReport {
    /// Whether all that was compared agrees, or only the oracle is wrong.
    pub fn passes(&self) -> bool {
        self.first.is_none() || self.oracle_is_wrong.is_some()
    }

    /// The report for programs.
    pub(crate) fn json(&self) -> Value {
        json!({
            "passes": self.passes(),
            "compared": self.compared,
            "skipped": self.skipped,
            "worst_relative_difference": self.worst.as_ref().map(|(worst, _)| worst),
            "first": self.first.as_ref().map(WrongLayer::json),
            "later": self.later,
            "oracle_is_wrong": self.oracle_is_wrong,
            "also": self.also,
        })
    }

    /// How many tensors were compared and how many not, in words.
    fn counts(&self) -> String {
        let skipped: usize = self.skipped.values().sum();
        let mut text = format!("{} compared with rten", count(self.compared, "tensor"));
        if skipped > 0 {
            let reasons: Vec<String> = self.skipped.iter().map(|(why, number)| format!("{number}: {why}")).collect();
            text += &format!(", {skipped} not ({})", reasons.join("; "));
        }
        text
    }
}

impl Display for LayersReport {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.counts())?;
        let Some(first) = &self.first else {
            let Some((worst, name)) = &self.worst else { return Ok(()) };
            return match *worst {
                0.0 => write!(f, ": all agree exactly"),
                worst => write!(f, ": all agree, the worst, `{name}`, to {worst:.1e}"),
            };
        };
        if let Some(output) = &self.oracle_is_wrong {
            let first = &first.operator;
            return write!(f, "; rten is wrong from `{first}` on: all outputs agree with the reference, but not rten's `{output}`");
        }
        write!(f, "\n{first}")?;
        if self.later > 0 {
            let differ = if self.later == 1 { "differs" } else { "differ" };
            write!(f, "\n  {} {differ}, too", count(self.later, "later tensor"))?;
        }
        match &self.also[..] {
            [] => Ok(()),
            also => write!(f, "; although their inputs agree, those of {}", also.join(", ")),
        }
    }
}

impl WrongLayer {
    fn json(&self) -> Value {
        let input = |(name, shape, how): &(String, Vec<usize>, String)| json!({ "name": name, "shape": shape, "compared": how });
        json!({
            "operator": self.operator,
            "kind": self.kind,
            "with": self.with,
            "gpu": self.gpu,
            "launch": self.launch,
            "kernel": self.kernel,
            "inputs": self.inputs.iter().map(input).collect::<Value>(),
            "result": self.result.json(),
            "not_compared": self.suspects,
        })
    }
}

/// Several lines, the last one without a line break.
impl Display for WrongLayer {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let WrongLayer { operator, kind, with, gpu, launch, kernel, inputs, result, suspects } = self;
        write!(f, "`{operator}` is the first operator that differs: {kind}")?;
        write!(f, "\n  launch {launch} on gpu{gpu}, {kernel}")?;
        if !with.is_empty() {
            write!(f, ", together with {}", named(with))?;
        }
        for (name, shape, how) in inputs {
            write!(f, "\n  reads `{name}` {}: {how}", shape_text(shape))?;
        }
        write!(f, "\n  {result}")?;
        if !suspects.is_empty() {
            write!(f, "\n  or the fault is in what its input comes from, and was not compared: {}", suspects.join(", "))?;
        }
        Ok(())
    }
}

/// What `--dump` may name.
pub(crate) struct Dumpable<'a> {
    pub table: &'a LaunchTable,
    pub file: &'a SavedLayers,
    /// Inputs and outputs by ONNX name.
    pub ports: BTreeMap<&'a str, &'a Values>,
}

impl Dumpable<'_> {
    /// Writes the tensors `names` to `folder`, as npy. Returns the path of each.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] for a name of no tensor, before anything is written.
    pub fn dump(&self, names: &[String], folder: &Path) -> Result<Vec<PathBuf>> {
        let tensors = self.file.tensors()?;
        let found = names.iter().map(|name| self.values(&tensors, name)).collect::<Result<Vec<_>>>()?;
        std::fs::create_dir_all(folder).map_err(Error::io(folder))?;
        let files = npy::file_names(names.iter().map(String::as_str)).into_iter().map(|name| folder.join(name));
        let written = files.zip(&found).map(|(path, values)| {
            std::fs::write(&path, npy::write(&values.bytes, values.dtype, &values.shape)).map_err(Error::io(&path))?;
            Ok(path)
        });
        written.collect()
    }

    fn values(&self, tensors: &SafeTensors<'_>, name: &str) -> Result<Values> {
        if let Some(&values) = self.ports.get(name) {
            return Ok(values.clone());
        }
        for result in self.table.0.iter().flat_map(|launch| &launch.results) {
            let held = result.values.iter().find(|value| value.name == name);
            if held.is_some() || result.tensor == name {
                let saved = saved(tensors, &result.tensor);
                let values = saved.ok_or_else(|| Error::internal("acceptance", format!("{:?} was not saved", result.tensor)))?;
                let shape = held.map_or_else(|| values.shape.clone(), |value| value.shape.clone());
                return Ok(Values { shape, ..values });
            }
        }
        self.joined(tensors, name).ok_or_else(|| Error::Usage(self.unknown(name)))
    }

    /// The tensor `name`, if a launch reads it and results are its parts.
    fn joined(&self, tensors: &SafeTensors<'_>, name: &str) -> Option<Values> {
        let read = self.table.0.iter().flat_map(|launch| &launch.reads).find(|read| read.tensor == name)?;
        let Source::Results(keys) = &read.from else { return None };
        let parts = keys.iter().map(|key| saved(tensors, key)).collect::<Option<Vec<_>>>()?;
        let whole = Values {
            dtype: parts.first()?.dtype,
            shape: read.shape.clone(),
            bytes: parts.into_iter().flat_map(|part| part.bytes).collect(),
        };
        // what is read may be a slice
        let elements: usize = whole.shape.iter().product();
        (whole.bytes.len() == elements * whole.dtype.bytes() as usize).then_some(whole)
    }

    fn unknown(&self, name: &str) -> String {
        if let Some(launch) = self.table.absorbing(name) {
            return format!(
                "--dump {name}: no memory holds this tensor: {} computes it on the way ({}); --no-fuse keeps operators apart",
                named(&launch.operators),
                launch.file
            );
        }
        let reads = self.table.0.iter().flat_map(|launch| &launch.reads);
        if reads.clone().any(|read| read.tensor == name && matches!(&read.from, Source::Outside(what) if what == "constant")) {
            return format!("--dump {name}: it is a constant: see weights.safetensors");
        }
        let results = self.table.0.iter().flat_map(|launch| &launch.results).map(|result| result.tensor.as_str());
        let mut known: Vec<&str> = results.chain(self.table.values()).chain(self.ports.keys().copied()).collect();
        known.sort_by(|a, b| strsim::jaro_winkler(b, name).total_cmp(&strsim::jaro_winkler(a, name)).then(a.cmp(b)));
        known.dedup();
        let nearest: Vec<String> = known.iter().take(3).map(|name| format!("`{name}`")).collect();
        format!(
            "--dump {name}: no tensor has this name when the model runs; fusion may have removed it. The nearest names are {}",
            nearest.join(", ")
        )
    }
}
