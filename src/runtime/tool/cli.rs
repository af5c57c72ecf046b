//! The command line of a generated crate. `check` compares with a stored reference, `bench`
//! measures the latency, `trace` measures each step, `run` runs the model on the user's data.
//!
//! For each output, `check` prints a sentence for people and a line for programs. That line has
//! these fields, separated by tabs: `hiosc-check`, `PASS`, `FAIL` or `DISPUTED`, the largest
//! difference, the largest reference value, the difference allowed, and the name.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use safetensors::serialize;
use safetensors::tensor::TensorView;

use super::super::check::{CheckData, Difference, StoredCheck, other_inputs};
use super::super::dtype::largest;
use super::super::error::Result;
use super::super::exec::Exec;
use super::super::layout::Port;
use super::super::npy;
use super::super::observe::LaunchResults;
use super::super::options::RuntimeOptions;
use super::super::timing::Span;
use super::bench;
use super::layers;
use super::links;

/// The function that enqueues one inference of a model.
pub type Enqueue = fn(&mut Exec) -> Result<()>;

/// A model, as the command line sees it.
pub trait CompiledModel: Sized {
    /// The package's name.
    const NAME: &'static str;
    /// The stored input and its reference outputs: the contents of `check.safetensors`.
    const CHECK: Option<StoredCheck<'static>>;
    /// Latency that the plan predicts, in nanoseconds.
    const PREDICTED: u64;
    /// Inputs.
    const INPUTS: &'static [Port<'static>];
    /// Outputs.
    const OUTPUTS: &'static [Port<'static>];
    /// When each step should run.
    const STEPS: &'static [bench::Prediction<&'static str>];
    /// What each launch writes.
    const LAUNCHES: &'static [LaunchResults<'static>];
    /// Loads the model.
    fn load(options: RuntimeOptions) -> Result<Self>;
    /// One inference, from the bytes of each input to those of each output.
    fn infer(&mut self, inputs: &[&[u8]]) -> Result<Vec<Vec<u8>>>;
    /// Its resources, and the function that enqueues it.
    fn exec(&mut self) -> (&mut Exec, Enqueue);
    /// Where and how it runs, as text.
    fn summary(&self) -> String;
}

/// Runs the command that the process's arguments give.
pub fn main<M: CompiledModel>() -> ExitCode {
    let outcome = Arguments::parse(std::env::args_os().skip(1).collect()).and_then(|arguments| match arguments {
        None => {
            print!("{}", usage(M::NAME));
            Ok(Outcome::Success)
        }
        Some(arguments) => match arguments.command {
            ToolCommand::Check => check::<M>(&arguments),
            ToolCommand::Bench => bench::<M>(&arguments),
            ToolCommand::Trace => trace::<M>(&arguments),
            ToolCommand::Run => run::<M>(&arguments),
        },
    });
    match outcome {
        Ok(Outcome::Success) => ExitCode::SUCCESS,
        Ok(Outcome::Failure) => ExitCode::FAILURE,
        Ok(Outcome::Disputed) => ExitCode::from(DISPUTED),
        Err(message) => {
            eprintln!("{}: {message}", M::NAME);
            ExitCode::FAILURE
        }
    }
}

/// Exit code of `check` if two references disagree about the outputs, which agree with one of them.
const DISPUTED: u8 = 3;

/// How a command ended that did not break off.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Outcome {
    Success,
    Failure,
    Disputed,
}

fn usage(name: &str) -> String {
    format!(
        "usage: {name} check|bench|trace [options]
       {name} run --input NAME=FILE.npy ... --output-dir DIR [options]

  check            run on a stored input and compare with the reference output
  bench            measure the latency of one inference: as a CUDA graph, on plain streams, stage by stage
  trace            measure each step, and write a trace for Perfetto or chrome://tracing, predicted and measured side by side
  run              run on your data: .npy files of the inputs' types in C order

  --on 0,1         the machine's GPU for each logical GPU of the plan, in order; repeats are allowed
  --fold           let logical GPUs share GPUs if the machine has too few
  --streams        enqueue the plan on plain streams instead of replaying a CUDA graph
  --no-warm-up     do not run the model once at load
  --separate-contexts
                   give logical GPUs that share a device separate contexts (for tests)
  --links          check: measure the links between the GPUs in use, and test them with data
  --data FILE      inputs and reference outputs, as tensors in:NAME and out:NAME of a safetensors file (default: those stored in this program)
  --weights FILE   the weights, if they are not beside this program
  --map-weights    map the weights file into memory instead of reading it
  --repeat N       check: run N times and require the same bits each time; bench: measure N times; trace: keep the last of N
  --json FILE      bench: write all figures; trace: write the trace there (default: trace.json)
  --save FILE      check: write the outputs, as tensors out:NAME
  --layers FILE    check: write what each launch writes, as tensors tensor:NAME; hiosc verify --layers compares them
  --input NAME=FILE.npy
                   run: the values of an input; once per input; NAME= is optional if there is only one
  --output-dir DIR
                   run: write each output there, as NAME.npy (characters that are not safe in file names become _)
"
    )
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum ToolCommand {
    #[default]
    Check,
    Bench,
    Trace,
    Run,
}

#[derive(Debug, Default, PartialEq)]
struct Arguments {
    command: ToolCommand,
    options: RuntimeOptions,
    data: Option<PathBuf>,
    repeat: Option<usize>,
    save: Option<PathBuf>,
    layers: Option<PathBuf>,
    json: Option<PathBuf>,
    links: bool,
    inputs: Vec<OsString>,
    output_dir: Option<PathBuf>,
}

impl Arguments {
    /// `None` for a request for help.
    fn parse(list: Vec<OsString>) -> std::result::Result<Option<Arguments>, String> {
        let mut arguments = Arguments::default();
        let mut list = list.into_iter();
        match list.next().as_deref().and_then(|command| command.to_str()) {
            Some("check") => {}
            Some("bench") => arguments.command = ToolCommand::Bench,
            Some("trace") => arguments.command = ToolCommand::Trace,
            Some("run") => arguments.command = ToolCommand::Run,
            Some("help" | "-h" | "--help") => return Ok(None),
            other => return Err(format!("expected `check`, `bench`, `trace` or `run`, found `{}`; see --help", other.unwrap_or(""))),
        }
        while let Some(flag) = list.next() {
            let flag = flag.to_string_lossy().into_owned();
            let mut value = || list.next().ok_or_else(|| format!("{flag} needs a value"));
            match flag.as_str() {
                "--fold" => arguments.options = arguments.options.fold(true),
                "--streams" => arguments.options = arguments.options.graph(false),
                "--no-warm-up" => arguments.options = arguments.options.warm_up(false),
                "--separate-contexts" => arguments.options = arguments.options.separate_contexts(true),
                "--on" | "--gpus" => {
                    if flag == "--gpus" {
                        eprintln!("note: --gpus is now --on");
                    }
                    arguments.options = arguments.options.on(&gpu_list(&value()?.to_string_lossy())?);
                }
                "--data" => arguments.data = Some(value()?.into()),
                "--weights" => arguments.options = arguments.options.weights(PathBuf::from(value()?)),
                "--map-weights" => arguments.options = arguments.options.map_weights(true),
                "--input" => arguments.inputs.push(value()?),
                "--output-dir" => arguments.output_dir = Some(value()?.into()),
                "--links" => arguments.links = true,
                "--json" => arguments.json = Some(value()?.into()),
                "--layers" => arguments.layers = Some(value()?.into()),
                "--save" => arguments.save = Some(value()?.into()),
                "--repeat" => {
                    let text = value()?.to_string_lossy().into_owned();
                    let count = text.parse().ok().filter(|&n: &usize| n > 0);
                    arguments.repeat = Some(count.ok_or_else(|| format!("--repeat needs a positive number, found `{text}`"))?);
                }
                "-h" | "--help" => return Ok(None),
                _ => return Err(format!("unknown option `{flag}`; see --help")),
            }
        }
        let others = [arguments.data.is_some(), arguments.repeat.is_some(), arguments.save.is_some(), arguments.json.is_some()];
        if arguments.layers.is_some() && arguments.command != ToolCommand::Check {
            return Err("--layers belongs to `check`".into());
        }
        if arguments.links && arguments.command != ToolCommand::Check {
            return Err("--links belongs to `check`".into());
        }
        if arguments.json.is_some() && arguments.command == ToolCommand::Check {
            return Err("--json belongs to `bench` and `trace`".into());
        }
        if arguments.command != ToolCommand::Run && (!arguments.inputs.is_empty() || arguments.output_dir.is_some()) {
            return Err("--input and --output-dir belong to `run`; the others take --data".into());
        }
        if arguments.command == ToolCommand::Run && others.contains(&true) {
            return Err("--data, --repeat, --save and --json do not belong to `run`, which takes --input and --output-dir".into());
        }
        Ok(Some(arguments))
    }
}

fn gpu_list(text: &str) -> std::result::Result<Vec<usize>, String> {
    let number =
        |part: &str| part.trim().parse().map_err(|_| format!("--on needs numbers separated by commas, such as 0,1; found `{text}`"));
    text.split(',').map(number).collect()
}

/// The data that `--data` names, else what the program contains.
fn read_data<M: CompiledModel>(arguments: &Arguments) -> std::result::Result<CheckData, String> {
    let Some(path) = &arguments.data else {
        let stored = M::CHECK.ok_or("this program contains no reference (compiled with --no-check): give one with --data FILE")?;
        return stored.read(M::INPUTS, M::OUTPUTS);
    };
    let at = |message: String| format!("{}: {message}", path.display());
    let bytes = std::fs::read(path).map_err(|error| at(format!("{error}; give another file with --data")))?;
    CheckData::read(&bytes, M::INPUTS, M::OUTPUTS).map_err(at)
}

fn check<M: CompiledModel>(arguments: &Arguments) -> std::result::Result<Outcome, String> {
    let data = read_data::<M>(arguments)?;
    let mut model = M::load(arguments.options.clone()).map_err(|error| error.to_string())?;
    print!("{}", model.summary());
    if arguments.links {
        measure_links(&mut model)?;
    }
    // back to back with other inputs: see `check.rs`
    let others = other_inputs(&data.slices(), M::INPUTS);
    model.infer(&others.iter().map(Vec::as_slice).collect::<Vec<_>>()).map_err(|error| error.to_string())?;
    let outputs = model.infer(&data.slices()).map_err(|error| error.to_string())?;
    let mut sound = true;
    for (index, (port, values)) in M::OUTPUTS.iter().zip(&outputs).enumerate() {
        let shape = port.shape_text();
        let Some(reference) = &data.outputs[index] else {
            println!("output `{}` {shape}: no reference; largest value {:.3e}", port.name, largest(&port.dtype.numbers(values)));
            continue;
        };
        let difference = Difference::between(port, values, reference);
        let other = data.others[index].as_ref().map(|other| Difference::between(port, values, other));
        let verdict = match (difference.passes(), other) {
            (true, None) => "PASS",
            (false, Some(other)) if !other.passes() => "FAIL",
            (false, None) => "FAIL",
            (_, Some(_)) => "DISPUTED",
        };
        let Difference { difference: d, reference: r, allowed: a } = difference;
        println!("output `{}` {shape}: largest difference {d:.3e}, largest reference {r:.3e}, allowed {a:.3e}: {verdict}", port.name);
        if let Some(Difference { difference: d, .. }) = other {
            println!("output `{}` {shape}: another reference disagrees with that one; the difference from it is {d:.3e}", port.name);
        }
        println!("hiosc-check\t{verdict}\t{d:e}\t{r:e}\t{a:e}\t{}", port.name);
        sound &= verdict != "FAIL";
    }
    for repeat in 1..arguments.repeat.unwrap_or(1) {
        let again = model.infer(&data.slices()).map_err(|error| error.to_string())?;
        if outputs != again {
            println!("run {} gave different bits from the first: FAIL", repeat + 1);
            sound = false;
            break;
        }
    }
    if let Some(path) = &arguments.save {
        save::<M>(path, &outputs)?;
    }
    if let Some(path) = &arguments.layers {
        let (exec, enqueue) = model.exec();
        layers::save(exec, &data.slices(), M::LAUNCHES, path, enqueue)?;
    }
    let (outcome, word) = match (sound, data.is_disputed()) {
        (false, _) => (Outcome::Failure, "FAIL"),
        (true, true) => (Outcome::Disputed, "DISPUTED"),
        (true, false) => (Outcome::Success, "PASS"),
    };
    println!("{word}");
    Ok(outcome)
}

/// Prints one line for each ordered pair of GPUs in use.
fn measure_links<M: CompiledModel>(model: &mut M) -> std::result::Result<(), String> {
    const ROUNDS: usize = 5;
    let mut gpus = model.exec().0.placement();
    gpus.sort();
    gpus.dedup();
    if gpus.len() < 2 {
        println!("link none: all logical GPUs share one GPU");
    }
    for report in links::measure(&gpus, ROUNDS).map_err(|error| error.to_string())? {
        let links::LinkReport { from, to, path, latency, bandwidth, .. } = report;
        println!("link GPU {from} to GPU {to}: {path}, {:.1} us and {:.2} GB/s, data arrives", latency as f64 / 1e3, bandwidth / 1e9);
    }
    Ok(())
}

fn save<M: CompiledModel>(path: &Path, outputs: &[Vec<u8>]) -> std::result::Result<(), String> {
    let at = |message: String| format!("{}: {message}", path.display());
    let mut views = Vec::new();
    for (port, bytes) in M::OUTPUTS.iter().zip(outputs) {
        let view = TensorView::new(port.dtype.stored(), port.shape.to_vec(), bytes).map_err(|error| at(error.to_string()))?;
        views.push((format!("out:{}", port.name), view));
    }
    let file = serialize(views, None).map_err(|error| at(error.to_string()))?;
    std::fs::write(path, file).map_err(|error| at(error.to_string()))
}

/// Inputs for measurements: those given with `--data` or stored, otherwise zeros.
fn measured_on<M: CompiledModel>(arguments: &Arguments) -> std::result::Result<CheckData, String> {
    match read_data::<M>(arguments) {
        Ok(data) => Ok(data),
        Err(_) if arguments.data.is_none() => {
            println!("no stored input: measuring on zeros");
            Ok(CheckData { inputs: M::INPUTS.iter().map(|port| vec![0; port.bytes()]).collect(), outputs: Vec::new(), others: Vec::new() })
        }
        Err(message) => Err(message),
    }
}

/// Caveats about the measured times.
fn remarks(exec: &Exec) -> Vec<String> {
    if exec.is_virtual() { vec!["virtual GPUs: these times are meaningless; only the code paths are real".into()] } else { Vec::new() }
}

fn bench<M: CompiledModel>(arguments: &Arguments) -> std::result::Result<Outcome, String> {
    const WARM_UP: usize = 10;
    const TRACES: usize = 5;
    let text = |error: super::super::error::Error| error.to_string();
    let data = measured_on::<M>(arguments)?;
    let mut model = M::load(arguments.options.clone()).map_err(text)?;
    print!("{}", model.summary());
    let (exec, enqueue) = model.exec();
    let rounds = arguments.repeat.unwrap_or(100);
    // (name, replays the graph, inputs and outputs stay on the GPU); the first two are the same
    // variant
    let mut variants = vec![("streams", false, false), ("streams, again", false, false), ("streams, resident", false, true)];
    if exec.replays() {
        let graphs = [("graph", true, false), ("graph, again", true, false), ("graph, resident", true, true)];
        variants = graphs.into_iter().chain([variants[0], variants[2]]).collect();
    }
    let names: Vec<String> = variants.iter().map(|(name, ..)| name.to_string()).collect();
    let inputs = data.slices();
    let series = bench::interleave(&names, WARM_UP.min(rounds), rounds, |who| {
        let (_, graph, resident) = variants[who];
        exec.use_graph(graph);
        if resident { exec.time_resident(enqueue) } else { exec.time(&inputs, enqueue) }
    });
    let series = series.map_err(text)?;
    let noise = bench::noise(&series[0], &series[1]);
    let mut remarks = remarks(exec);
    remarks.push("copies of inputs and outputs from and to the host are included, unless resident".into());
    let (table, figures) = bench::report(&series, noise, &remarks);
    let traces = (0..TRACES.min(rounds)).map(|_| exec.trace(&inputs, enqueue)).collect::<Result<Vec<_>>>().map_err(text)?;
    let stages = bench::stages(M::STEPS, &traces);
    let (stage_table, stage_figures) = bench::stage_report(&stages);
    print!("{table}{stage_table}");
    println!("predicted total, without copies from and to the host: {:.1} us", M::PREDICTED as f64 / 1e3);
    if let Some(path) = &arguments.json {
        let (name, summary) = (bench::quoted(M::NAME), bench::quoted(&model.summary()));
        let all = format!("{{\"model\":{name},\"summary\":{summary},\"predicted_ns\":{},{figures},{stage_figures}}}\n", M::PREDICTED);
        std::fs::write(path, all).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(Outcome::Success)
}

fn trace<M: CompiledModel>(arguments: &Arguments) -> std::result::Result<Outcome, String> {
    let text = |error: super::super::error::Error| error.to_string();
    let data = measured_on::<M>(arguments)?;
    let mut model = M::load(arguments.options.clone()).map_err(text)?;
    print!("{}", model.summary());
    let (exec, enqueue) = model.exec();
    let mut spans: Vec<Span> = Vec::new();
    for _ in 0..arguments.repeat.unwrap_or(3) {
        spans = exec.trace(&data.slices(), enqueue).map_err(text)?;
    }
    let path = arguments.json.clone().unwrap_or_else(|| "trace.json".into());
    let remarks = remarks(exec);
    remarks.iter().for_each(|remark| println!("{remark}"));
    std::fs::write(&path, bench::chrome_trace(M::STEPS, &spans, &remarks.join("; ")))
        .map_err(|error| format!("{}: {error}", path.display()))?;
    println!("wrote {}: open it with https://ui.perfetto.dev or chrome://tracing", path.display());
    Ok(Outcome::Success)
}

fn run<M: CompiledModel>(arguments: &Arguments) -> std::result::Result<Outcome, String> {
    let files = input_files(&arguments.inputs, M::INPUTS)?;
    let folder = arguments.output_dir.as_ref().ok_or("run needs --output-dir DIR")?;
    let at = |path: &Path, message: &dyn std::fmt::Display| format!("{}: {message}", path.display());
    let mut inputs = Vec::new();
    for (port, path) in M::INPUTS.iter().zip(&files) {
        let bytes = std::fs::read(path).map_err(|error| at(path, &error))?;
        inputs.push(npy::read(&bytes, port.dtype, port.shape).map_err(|message| format!("input `{}`: {}", port.name, at(path, &message)))?);
    }
    let mut model = M::load(arguments.options.clone()).map_err(|error| error.to_string())?;
    let slices: Vec<&[u8]> = inputs.iter().map(Vec::as_slice).collect();
    let outputs = model.infer(&slices).map_err(|error| error.to_string())?;
    std::fs::create_dir_all(folder).map_err(|error| at(folder, &error))?;
    for ((port, file), values) in M::OUTPUTS.iter().zip(npy::file_names(M::OUTPUTS.iter().map(|port| port.name))).zip(&outputs) {
        let path = folder.join(file);
        std::fs::write(&path, npy::write(values, port.dtype, port.shape)).map_err(|error| at(&path, &error))?;
        println!("output `{}` {}: {}", port.name, port.shape_text(), path.display());
    }
    Ok(Outcome::Success)
}

/// The file of each input, from `NAME=FILE`. A name may contain `=`: the longest name that matches
/// is taken.
fn input_files(given: &[OsString], ports: &[Port<'_>]) -> std::result::Result<Vec<PathBuf>, String> {
    let names = || ports.iter().map(|port| format!("`{}` {}", port.name, port.shape_text())).collect::<Vec<_>>().join(", ");
    let mut files: Vec<Option<PathBuf>> = vec![None; ports.len()];
    for argument in given {
        let text = argument.to_string_lossy();
        let fits = |name: &str| text.strip_prefix(name).is_some_and(|rest| rest.starts_with('='));
        let named = (0..ports.len()).filter(|&i| fits(ports[i].name)).max_by_key(|&i| ports[i].name.len());
        let (port, file) = match named {
            Some(port) => (port, PathBuf::from(&text[ports[port].name.len() + 1..])),
            // a plain file name, which need not be UTF-8
            None if ports.len() == 1 && !text.contains('=') => (0, PathBuf::from(argument)),
            None => return Err(format!("--input {text}: expected NAME=FILE.npy, with one of the inputs {}", names())),
        };
        if files[port].replace(file).is_some() {
            return Err(format!("--input: `{}` is given twice", ports[port].name));
        }
    }
    let missing: Vec<String> =
        ports.iter().zip(&files).filter(|(_, file)| file.is_none()).map(|(port, _)| format!("`{}`", port.name)).collect();
    if !missing.is_empty() {
        return Err(format!("--input NAME=FILE.npy is missing for {}; the inputs are {}", missing.join(", "), names()));
    }
    Ok(files.into_iter().flatten().collect())
}

#[cfg(test)]
mod tests {
    use super::super::super::dtype::DType;
    use super::*;

    fn parse(list: &[&str]) -> std::result::Result<Option<Arguments>, String> {
        Arguments::parse(list.iter().map(OsString::from).collect())
    }

    #[test]
    fn arguments() {
        let full = parse(&["check", "--on", "0,0", "--fold", "--data", "d", "--repeat", "3", "--save", "s"]).unwrap().unwrap();
        assert_eq!(full.options, RuntimeOptions::default().on(&[0, 0]).fold(true));
        assert_eq!((full.command, full.repeat, full.save), (ToolCommand::Check, Some(3), Some("s".into())));
        assert_eq!(parse(&["bench"]).unwrap().unwrap().command, ToolCommand::Bench);
        let run = parse(&["run", "--input", "a=1", "--output-dir", "o", "--input", "b=2", "--fold"]).unwrap().unwrap();
        assert_eq!((run.command, run.inputs, run.output_dir), (ToolCommand::Run, vec!["a=1".into(), "b=2".into()], Some("o".into())));
        assert!(parse(&["check", "--help"]).unwrap().is_none());
        for wrong in [
            &[] as &[&str],
            &["walk"],
            &["check", "--input", "a"],
            &["run", "--repeat", "2"],
            &["check", "--on"],
            &["check", "--on", "a"],
            &["check", "--repeat", "0"],
            &["check", "-x"],
        ] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn inputs_are_found_by_name() {
        let port = |name| Port { name, dtype: DType::F32, shape: &[1, 2] };
        let find = |given: &[&str], names: &[&'static str]| {
            let ports: Vec<Port<'_>> = names.iter().map(|name| port(name)).collect();
            input_files(&given.iter().map(OsString::from).collect::<Vec<_>>(), &ports)
        };
        assert_eq!(find(&["b=y.npy", "a=x=1.npy"], &["a", "b"]).unwrap(), [Path::new("x=1.npy"), Path::new("y.npy")]);
        assert_eq!(find(&["a=b=y", "a=x"], &["a", "a=b"]).unwrap(), [Path::new("x"), Path::new("y")]);
        assert_eq!(find(&["x.npy"], &["a"]).unwrap(), [Path::new("x.npy")]);
        let wrong = [
            (find(&["x.npy"], &["a", "b"]), "--input x.npy: expected NAME=FILE.npy, with one of the inputs `a` 1x2, `b` 1x2"),
            (find(&["c=x.npy"], &["a"]), "--input c=x.npy: expected NAME=FILE.npy, with one of the inputs `a` 1x2"),
            (find(&["a=1", "a=2"], &["a"]), "--input: `a` is given twice"),
            (find(&["a=1"], &["a", "b"]), "--input NAME=FILE.npy is missing for `b`; the inputs are `a` 1x2, `b` 1x2"),
        ];
        for (found, expected) in wrong {
            assert_eq!(found.unwrap_err(), expected);
        }
    }
}
