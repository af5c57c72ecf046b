//! `hiosc verify out/`: does the generated crate compute what it should?
//!
//! **In**: a folder that hiosc wrote. **Out**: a [`VerifyReport`] with the largest difference of
//! each output, or an error.
//!
//! 1. Build the crate's own program in a target directory that all generated crates share. It is in
//!    the cache, never the caller's own target directory: inside a build script, cargo would wait
//!    for itself. What is built is a copy, which is a workspace of its own. So the crate may be a
//!    member of any workspace, or be below one that does not list it, and nothing is written into
//!    its folder. Crates of the same name share one copy: only the files that differ are written,
//!    and cargo compiles what has changed.
//! 2. If there are GPUs, run the program on them. Otherwise compile the crate's kernels for the CPU
//!    and run the unchanged program on virtual GPUs, once for each of [`VerifyOptions::seeds`]
//!    orders of execution. All runs must give the same bits.
//! 3. Compare the outputs (`values.rs`) with the stored reference, or with
//!    [`VerifyOptions::reference`] (`reference.rs`). Where the crate stores two that disagree, it
//!    never passes, and the report says which of them each output agrees with.
//! 4. If that is asked for, compare what each launch writes, too (`layers.rs`).

mod layers;
mod reference;
mod values;

pub(crate) use layers::{Dumpable, LaunchTable, SavedLayers, layers_of};
pub use layers::{LayersReport, WrongLayer};
pub use values::{OutputReport, WorstElement, compare, convert, read};

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Display, Formatter};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use reference::Reference;

use crate::emit::RecordedCheck;
use crate::error::{Error, Result};
use crate::import::ImportOptions;
use crate::oracle::{NamedValues, Source};
use crate::runtime::weights::sha256;
use crate::{cache, progress, vgpu};

/// The file with an input and its reference output.
const CHECK: &str = "check.safetensors";

/// Options of a verification.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct VerifyOptions {
    /// What to compare with instead of the crate's own reference: `rten` or `tract` for one of two
    /// that disagree, or an npz file with `in:NAME` and `out:NAME` ('/' in names as '_').
    pub reference: Option<PathBuf>,
    /// Compare with what ONNX Runtime computes from this model, where Python has it.
    pub onnxruntime: Option<PathBuf>,
    /// Use virtual GPUs even if there are real ones.
    pub on_virtual: bool,
    /// Number of virtual GPUs. By default as many as the plan uses, or as `on` needs.
    pub gpus: Option<usize>,
    /// The machine's GPU for each logical GPU of the plan. By default GPU i for logical GPU i; if
    /// there are too few, logical GPUs share them.
    pub on: Option<Vec<usize>>,
    /// Also measure the links between the GPUs in use, and test them with data.
    pub links: bool,
    /// Give logical GPUs that share a device separate contexts.
    pub separate_contexts: bool,
    /// Orders of execution to try on virtual GPUs; 0 counts as 1.
    pub seeds: u32,
    /// The model, and the options it was imported with, to compare every intermediate tensor with.
    pub layers: Option<(PathBuf, ImportOptions)>,
    /// Tensors to write as npy files, by ONNX name, and the folder to write them to.
    pub dump: Option<(Vec<String>, PathBuf)>,
}

impl VerifyOptions {
    /// Sets [`reference`](Self::reference).
    pub fn reference(mut self, from: impl Into<PathBuf>) -> Self {
        self.reference = Some(from.into());
        self
    }

    /// Sets [`onnxruntime`](Self::onnxruntime).
    pub fn onnxruntime(mut self, model: impl Into<PathBuf>) -> Self {
        self.onnxruntime = Some(model.into());
        self
    }

    /// Sets [`on_virtual`](Self::on_virtual).
    pub fn on_virtual(mut self, on_virtual: bool) -> Self {
        self.on_virtual = on_virtual;
        self
    }

    /// Sets [`gpus`](Self::gpus).
    pub fn gpus(mut self, count: usize) -> Self {
        self.gpus = Some(count);
        self
    }

    /// Sets [`on`](Self::on).
    pub fn on(mut self, gpus: &[usize]) -> Self {
        self.on = Some(gpus.to_vec());
        self
    }

    /// Sets [`links`](Self::links).
    pub fn links(mut self, measure: bool) -> Self {
        self.links = measure;
        self
    }

    /// Sets [`separate_contexts`](Self::separate_contexts).
    pub fn separate_contexts(mut self, separate: bool) -> Self {
        self.separate_contexts = separate;
        self
    }

    /// Sets [`layers`](Self::layers).
    pub fn layers(mut self, model: impl Into<PathBuf>, options: ImportOptions) -> Self {
        self.layers = Some((model.into(), options));
        self
    }

    /// Sets [`dump`](Self::dump).
    pub fn dump(mut self, names: &[String], folder: impl Into<PathBuf>) -> Self {
        self.dump = Some((names.to_vec(), folder.into()));
        self
    }

    /// Sets [`seeds`](Self::seeds).
    pub fn seeds(mut self, orders: u32) -> Self {
        self.seeds = orders;
        self
    }
}

/// The result of a verification.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct VerifyReport {
    /// The GPUs it ran on, as text.
    pub device: String,
    /// Who computed the reference: `rten`, `tract`, `file`, or `onnxruntime` and its version.
    pub reference: String,
    /// The report of each output, the same for all seeds.
    pub outputs: Vec<OutputReport>,
    /// Who disagrees with the reference, and the report of each output compared with theirs.
    pub disputed: Option<(String, Vec<OutputReport>)>,
    /// The comparison of all intermediate tensors, if it was asked for.
    pub layers: Option<LayersReport>,
    /// The files that [`VerifyOptions::dump`] asked for.
    pub dumped: Vec<PathBuf>,
    /// Orders of execution tried.
    pub seeds: u32,
    /// The program's lines about graph replay, copies and links.
    pub notes: Vec<String>,
    /// Time to build the crate.
    pub build: Duration,
    /// Time to compile the kernels for the CPU.
    pub kernels: Duration,
    /// Time of all runs, loading included.
    pub run: Duration,
}

/// Builds and runs the crate in `folder`, and compares its outputs with the reference.
///
/// # Errors
///
/// [`Error::Mismatch`] if an output is wrong, with a line for each wrong one; [`Error::Disputed`]
/// if two references disagree, and each output agrees with one of them.
pub fn verify(folder: &Path, options: &VerifyOptions) -> Result<VerifyReport> {
    let report = examine(folder, options)?;
    report.judge()?;
    Ok(report)
}

/// [`Error::Mismatch`] if one of these outputs is wrong.
pub(crate) fn right(outputs: &[OutputReport]) -> Result<()> {
    let wrong: Vec<String> = outputs.iter().filter(|output| !output.passes()).map(|output| format!("\n  {output}")).collect();
    if wrong.is_empty() {
        return Ok(());
    }
    let are = if wrong.len() == 1 { "is" } else { "are" };
    Err(Error::Mismatch(format!("{} of {} outputs {are} wrong{}", wrong.len(), outputs.len(), wrong.concat())))
}

/// `outputs`, what is said of the outputs, and [`Error::Mismatch`] if an intermediate tensor is
/// wrong.
pub(crate) fn with_layers(outputs: Result<()>, layers: Option<&LayersReport>) -> Result<()> {
    match (outputs, layers) {
        (Err(Error::Mismatch(message)), Some(layers)) => Err(Error::Mismatch(format!("{message}\n{layers}"))),
        (Err(Error::Disputed(message)), Some(layers)) => {
            Err(Error::Disputed(format!("{}\ncompared with rten, which may be wrong itself: {layers}\n", message.trim_end())))
        }
        (Ok(()), Some(layers)) if !layers.passes() => Err(Error::Mismatch(layers.to_string())),
        (outputs, _) => outputs,
    }
}

/// [`verify`], but reports wrong outputs, too.
pub(crate) fn examine(folder: &Path, options: &VerifyOptions) -> Result<VerifyReport> {
    let about = CrateMetadata::read(folder)?;
    let table = LaunchTable::wanted(folder, &about, options)?;
    let scratch = tempfile::tempdir().map_err(Error::io(std::env::temp_dir()))?;
    let reference = Reference::read(folder, &about, options, scratch.path())?;
    let layers_file = scratch.path().join("layers.safetensors");

    let clock = Instant::now();
    let program = build(folder, &about, scratch.path())?;
    let build = clock.elapsed();

    let real = if options.on_virtual { 0 } else { real_gpus() };
    let clock = Instant::now();
    let kernels = if real > 0 {
        None
    } else {
        vgpu::install()?;
        Some(vgpu::compile_crate_kernels(folder)?)
    };
    let kernels_time = clock.elapsed();

    let clock = Instant::now();
    let seeds = if real > 0 { 1 } else { options.seeds.max(1) };
    let named = options.on.iter().flatten().max().map_or(0, |&last| last + 1);
    let count = options.gpus.unwrap_or(if named > 0 { named } else { about.gpus });
    let mut notes = Vec::new();
    let mut first: Option<NamedValues> = None;
    let mut outputs: Vec<OutputReport> = Vec::new();
    let mut disputed = None;
    for seed in 0..seeds {
        let saved = scratch.path().join("outputs.safetensors");
        let mut command = Command::new(&program);
        command.arg("check").arg("--data").arg(&reference.file).arg("--save").arg(&saved).arg("--fold");
        if table.is_some() && seed == 0 {
            command.arg("--layers").arg(&layers_file);
        }
        if real == 0 {
            command.arg("--no-warm-up"); // nothing to warm up
        }
        if !about.embedded {
            command.arg("--weights").arg(folder.join("weights.safetensors"));
        }
        if let Some(gpus) = &options.on {
            command.arg("--on").arg(gpus.iter().map(usize::to_string).collect::<Vec<_>>().join(","));
        }
        if options.links {
            command.arg("--links");
        }
        if options.separate_contexts {
            command.arg("--separate-contexts");
        }
        if let Some(kernels) = &kernels {
            vgpu::command_env(&mut command, kernels)?;
            command.env("HIOSC_VGPU_COUNT", count.to_string()).env("HIOSC_VGPU_SEED", seed.to_string());
            command.env("HIOSC_VGPU_ARCH", &about.architecture);
            command.env("HIOSC_VGPU_PROGRESS", saved.with_extension("progress"));
        }
        let (found, said) = run(&mut command, &saved, (seed, seeds))?;
        notes = said;
        match &first {
            None => first = Some(found.clone()),
            Some(first) if *first != found => {
                return Err(Error::Mismatch(format!("order of execution {seed} gives different bits from order 0: a race")));
            }
            Some(_) => {}
        }
        outputs = compare(&reference.expected, &found, &about.outputs)?;
        if let Some((by, other)) = &reference.other {
            disputed = Some((by.clone(), compare(other, &found, &about.outputs)?));
        }
    }
    let run = clock.elapsed();
    let (layers, dumped) = match &table {
        Some(table) => table.examined(&layers_file, options, &about, &reference.expected, (&first.unwrap_or_default(), &outputs))?,
        None => (None, Vec::new()),
    };
    let gpus = |n: usize| if n == 1 { "GPU" } else { "GPUs" };
    let device = if real > 0 { format!("{real} {}", gpus(real)) } else { format!("{count} virtual {} on the CPU", gpus(count)) };
    let reference = reference.by;
    Ok(VerifyReport { device, reference, outputs, disputed, layers, dumped, seeds, notes, build, kernels: kernels_time, run })
}

impl VerifyReport {
    /// Whether outputs and intermediate tensors are right: see [`verify`].
    pub(crate) fn judge(&self) -> Result<()> {
        with_layers(self.verdict(), self.layers.as_ref())
    }

    /// Whether the outputs are right.
    fn verdict(&self) -> Result<()> {
        let Some((by, others)) = &self.disputed else { return right(&self.outputs) };
        let neither = |(one, other): (&OutputReport, &OutputReport)| !one.passes() && !other.passes();
        let pairs = || self.outputs.iter().zip(others);
        right(&pairs().filter(|&pair| neither(pair)).map(|(one, _)| one.clone()).collect::<Vec<_>>())?;
        let line = |(one, other): (&OutputReport, &OutputReport)| {
            let (name, [first, second]) = (&one.name, [&self.reference, by]);
            match (one.passes(), other.passes()) {
                (true, true) => format!("\n  {name} agrees with both"),
                (true, false) => format!("\n  {name} agrees with {first}; compared with {second}: {other}"),
                _ => format!("\n  {name} agrees with {second}; compared with {first}: {one}"),
            }
        };
        let lines: String = pairs().map(line).collect();
        Err(Error::Disputed(format!("{} and {by} compute different outputs from this model{lines}\n", self.reference)))
    }

    /// The report for programs. Keys are stable.
    pub(crate) fn json(&self) -> Value {
        json!({
            "passes": self.judge().is_ok(),
            "device": self.device,
            "reference": self.reference,
            "disputed": self.disputed.as_ref().map(|(by, outputs)| {
                json!({ "by": by, "outputs": outputs.iter().map(OutputReport::json).collect::<Value>() })
            }),
            "outputs": self.outputs.iter().map(OutputReport::json).collect::<Value>(),
            "layers": self.layers.as_ref().map(LayersReport::json),
            "dumped": self.dumped.iter().map(|path| path.to_string_lossy()).collect::<Vec<_>>(),
            "seeds": self.seeds,
            "notes": self.notes,
            "seconds": {
                "build": self.build.as_secs_f64(),
                "kernels": self.kernels.as_secs_f64(),
                "run": self.run.as_secs_f64(),
            },
        })
    }
}

impl Display for VerifyReport {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.outputs.iter().try_for_each(|output| writeln!(f, "verify     {output}"))?;
        self.layers.iter().try_for_each(|layers| writeln!(f, "layers     {layers}"))?;
        self.dumped.iter().try_for_each(|path| writeln!(f, "wrote      {}", path.display()))?;
        writeln!(
            f,
            "           {}",
            Source::named(&self.reference).map_or_else(|| format!("reference by {}", self.reference), |s| s.words().into())
        )?;
        self.notes.iter().try_for_each(|note| writeln!(f, "           {note}"))?;
        let orders = if self.seeds > 1 { format!(", same bits in {} orders of execution", self.seeds) } else { String::new() };
        let [build, kernels, run] = [self.build, self.kernels, self.run].map(|t| t.as_secs_f64());
        writeln!(f, "           on {}{orders}; crate built in {build:.1} s, kernels in {kernels:.1} s, ran in {run:.1} s", self.device)
    }
}

/// The metadata in the crate's Cargo.toml, `[package.metadata.hiosc]`.
pub(crate) struct CrateMetadata {
    package: String,
    /// Version of hiosc that wrote it.
    pub version: String,
    /// The arguments of hiosc that made it, with file names in place of paths, if they are known.
    pub command: Option<Vec<String>>,
    gpus: usize,
    architecture: String,
    inputs: Vec<String>,
    outputs: Vec<String>,
    /// SHA-256 of the model file; an older hiosc did not record it.
    model_sha256: Option<String>,
    /// Whether the program contains the weights.
    embedded: bool,
    /// The check, if the crate has one and says so.
    check: Option<RecordedCheck>,
}

impl CrateMetadata {
    /// Reads it from the crate in `folder`.
    pub fn read(folder: &Path) -> Result<CrateMetadata> {
        let path = folder.join("Cargo.toml");
        let text = fs::read_to_string(&path).map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory => {
                let what = if folder.is_file() { "it is a file" } else { "it has no Cargo.toml" };
                Error::Usage(format!("{} is not a folder that hiosc wrote: {what}", folder.display()))
            }
            _ => Error::io(&path)(e),
        })?;
        let foreign =
            || Error::Usage(format!("{} is not a folder that this hiosc wrote: its Cargo.toml lacks hiosc's metadata", folder.display()));
        // hiosc writes one `key = value` per line, and these TOML values are also valid JSON
        let section = text.split("[package.metadata.hiosc]").nth(1).ok_or_else(foreign)?;
        let lines = section.lines().take_while(|line| !line.starts_with('['));
        let pairs: BTreeMap<&str, serde_json::Value> =
            lines.filter_map(|line| line.split_once(" = ")).filter_map(|(k, v)| Some((k, serde_json::from_str(v).ok()?))).collect();
        let text_of = |key: &str| pairs.get(key).and_then(|v| v.as_str()).map(str::to_string).ok_or_else(foreign);
        let list = |key: &str| -> Result<Vec<String>> {
            let values = pairs.get(key).and_then(|v| v.as_array()).ok_or_else(foreign)?;
            Ok(values.iter().filter_map(|v| v.as_str()).map(str::to_string).collect())
        };
        Ok(CrateMetadata {
            package: text_of("package")?,
            version: text_of("version")?,
            command: pairs.contains_key("command").then(|| list("command")).transpose()?,
            gpus: pairs.get("gpus").and_then(|v| v.as_u64()).ok_or_else(foreign)? as usize,
            architecture: text_of("architecture")?,
            inputs: list("inputs")?,
            outputs: list("outputs")?,
            model_sha256: text_of("model_sha256").ok(),
            embedded: pairs.get("embedded_weights").is_some_and(|v| v == true),
            check: text_of("check_sha256").ok().map(|sha256| {
                let source = |key: &str| text_of(key).ok().and_then(|name| Source::named(&name));
                RecordedCheck { sha256, source: source("reference").unwrap_or(Source::Rten), disputed_by: source("disputed_by") }
            }),
        })
    }

    /// What the crate in `folder` says of its check, with the hash of the file that is there now.
    pub fn check(&self, folder: &Path) -> Result<Option<RecordedCheck>> {
        let path = folder.join(CHECK);
        let Some(recorded) = self.check.clone() else { return Ok(None) };
        match fs::File::open(&path) {
            Ok(mut file) => Ok(Some(RecordedCheck { sha256: sha256(&mut file).map_err(Error::io(&path))?, ..recorded })),
            Err(_) => Ok(Some(recorded)),
        }
    }
}

/// Number of GPUs that the driver reports; 0 without a driver.
fn real_gpus() -> usize {
    // SAFETY: only tests whether the library can be opened.
    if !unsafe { cudarc::driver::sys::is_culib_present() } {
        return 0;
    }
    cudarc::driver::CudaContext::device_count().map_or(0, |n| n.max(0) as usize)
}

/// Builds the crate's program and copies it to `scratch`: the next crate of the same name
/// overwrites it in the shared target directory.
fn build(folder: &Path, about: &CrateMetadata, scratch: &Path) -> Result<PathBuf> {
    let target = cache::dir().join("target");
    fs::create_dir_all(&target).map_err(Error::io(&target))?;
    let lock_path = target.join("hiosc.lock");
    let lock = fs::File::create(&lock_path).map_err(Error::io(&lock_path))?;
    lock.lock().map_err(Error::io(&lock_path))?;
    // In a fixed place: cargo then recognises by the time stamps what has changed.
    let copy = target.join("crates").join(&about.package);
    copy_crate(folder, about, &copy)?;
    let cargo = |offline: bool| {
        let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command.args(["build", "--release", "--quiet", "--manifest-path"]).arg(copy.join("Cargo.toml"));
        command.arg("--target-dir").arg(&target);
        if copy.join("Cargo.lock").exists() {
            command.arg("--locked");
        }
        if offline {
            command.arg("--offline");
        }
        // if this runs in a build script, the crate must not see that script's environment
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            let inherited = text.starts_with("CARGO_") && !matches!(&*text, "CARGO_HOME" | "CARGO_NET_OFFLINE");
            if inherited || matches!(&*text, "RUSTFLAGS" | "OUT_DIR" | "TARGET" | "HOST" | "PROFILE" | "OPT_LEVEL" | "DEBUG" | "NUM_JOBS") {
                command.env_remove(&name);
            }
        }
        progress::step("building the crate", 0, 1);
        progress::command(&command);
        command
            .output()
            .map_err(|e| Error::Tool { tool: "cargo".into(), message: format!("{e}: install Rust to verify a generated crate") })
    };
    let mut output = cargo(true)?;
    if !output.status.success() {
        output = cargo(false)?;
    }
    if !output.status.success() {
        let message = format!("the generated crate does not build:\n{}", String::from_utf8_lossy(&output.stderr).trim_end());
        return Err(Error::Tool { tool: "cargo".into(), message });
    }
    let built = target.join("release").join(&about.package).with_extension(std::env::consts::EXE_EXTENSION);
    let copy = scratch.join("program");
    fs::copy(&built, &copy).map_err(Error::io(&built))?;
    Ok(copy)
}

/// Makes `copy` a copy of the crate in `folder`, as far as its program needs it, and a workspace of
/// its own. Files that are the same already stay untouched, so that cargo does not compile them
/// again.
fn copy_crate(folder: &Path, about: &CrateMetadata, copy: &Path) -> Result<()> {
    let mut pending: Vec<PathBuf> = ["Cargo.lock", "check.safetensors", "kernels", "src"].map(PathBuf::from).into();
    pending.extend(about.embedded.then(|| "weights.safetensors".into()));
    let manifest = folder.join("Cargo.toml");
    let mut text = fs::read_to_string(&manifest).map_err(Error::io(&manifest))?;
    if !text.lines().any(|line| line.trim() == "[workspace]") {
        text.push_str("\n[workspace]\n");
    }
    let mut copied = BTreeSet::from([copy.join("Cargo.toml")]);
    update(&copy.join("Cargo.toml"), text.as_bytes())?;
    while let Some(path) = pending.pop() {
        let from = folder.join(&path);
        if from.is_dir() {
            let entries = fs::read_dir(&from).map_err(Error::io(&from))?.collect::<std::io::Result<Vec<_>>>().map_err(Error::io(&from))?;
            pending.extend(entries.iter().map(|entry| path.join(entry.file_name())));
        } else if from.exists() {
            update(&copy.join(&path), &fs::read(&from).map_err(Error::io(&from))?)?;
            copied.insert(copy.join(&path));
        }
    }
    remove_others(copy, &copied)
}

/// Writes `bytes` to `file`, unless it has them.
fn update(file: &Path, bytes: &[u8]) -> Result<()> {
    if fs::read(file).is_ok_and(|old| old == bytes) {
        return Ok(());
    }
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder).map_err(Error::io(folder))?;
    }
    fs::write(file, bytes).map_err(Error::io(file))
}

/// Removes the files below `folder` that are not in `wanted`.
fn remove_others(folder: &Path, wanted: &BTreeSet<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder).map_err(Error::io(folder))? {
        let path = entry.map_err(Error::io(folder))?.path();
        if path.is_dir() {
            remove_others(&path, wanted)?;
        } else if !wanted.contains(&path) {
            fs::remove_file(&path).map_err(Error::io(&path))?;
        }
    }
    Ok(())
}

/// Runs the program, which is run number `turn.0` of `turn.1`. Returns the outputs that it saved,
/// and its lines about graph replay, copies and links.
fn run(command: &mut Command, saved: &Path, turn: (u32, u32)) -> Result<(NamedValues, Vec<String>)> {
    progress::command(command);
    let finished = Mutex::new(false);
    let ended = Condvar::new();
    let output = thread::scope(|scope| {
        let watcher = scope.spawn(|| watch(&saved.with_extension("progress"), turn, &finished, &ended));
        let output = command.output();
        *finished.lock().unwrap_or_else(|e| e.into_inner()) = true;
        ended.notify_all();
        let _ = watcher.join();
        output
    });
    let output = output.map_err(|e| Error::Tool { tool: "the generated program".into(), message: e.to_string() })?;
    // exit code 1 with saved outputs: it found a difference, which the caller evaluates
    if !saved.is_file() {
        let said = String::from_utf8_lossy(&output.stderr);
        let message = format!("stopped without a result ({}): {}", output.status, said.trim_end());
        return Err(Error::Tool { tool: "the generated program".into(), message });
    }
    let values = read(saved)?;
    fs::remove_file(saved).map_err(Error::io(saved))?;
    let said = String::from_utf8_lossy(&output.stdout);
    let about = |line: &&str| line.starts_with("replay: ") || line.starts_with("link ") || line.contains(" to gpu");
    Ok((values, said.lines().filter(about).map(str::to_string).collect()))
}

/// Reports how many operations virtual GPUs have executed, which is in `file`, until the program
/// has `finished`.
fn watch(file: &Path, (run, runs): (u32, u32), finished: &Mutex<bool>, ended: &Condvar) {
    let mut over = finished.lock().unwrap_or_else(|e| e.into_inner());
    while !*over {
        let text = fs::read_to_string(file).unwrap_or_default();
        let mut numbers = text.split_whitespace().map_while(|word| word.parse::<u64>().ok());
        let (done, of) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
        // before an inference is requested, there are only a few operations
        progress::step("running the model", u64::from(run) * of + done, u64::from(runs) * of);
        over = ended.wait_timeout(over, Duration::from_millis(200)).unwrap_or_else(|e| e.into_inner()).0;
    }
}
