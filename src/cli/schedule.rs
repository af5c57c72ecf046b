//! `hiosc schedule`: compares scheduling algorithms on models and on scheduling graphs in text
//! form.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::{Arg, Args, ValueEnum};
use serde::Serialize;

use super::args::{CostArgs, DeviceArgs, SchedulingArgs};
use super::progress;
use crate::compiler::{Imported, Passes};
use crate::schedule::{
    Algorithm, LinkMode, Problem, ScheduleOptions, evaluate, lower_bound, lower_bound_ungrouped, schedule_with, to_text, verify,
};
use crate::{Compiler, Error};

/// Arguments of `hiosc schedule`.
#[derive(Args)]
#[command(mut_args(for_models))]
pub struct ScheduleArgs {
    /// Models (.onnx), or scheduling graphs in text form (docs/schedule.md).
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Numbers of GPUs [default: 2, or the number that --device, --topology or --costs gives].
    #[arg(long, value_name = "N", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=64))]
    gpus: Vec<u32>,
    /// Algorithms, or `all`.
    #[arg(long, value_name = "NAME", default_value = "all", value_delimiter = ',')]
    algorithm: Vec<String>,
    /// How transfers share a link, for graphs in text form. Models always use serial links.
    #[arg(long, default_value = "free")]
    links: Links,
    #[command(flatten)]
    devices: DeviceArgs,
    #[command(flatten)]
    costs: CostArgs,
    /// Print an array of rows in JSON.
    #[arg(long)]
    json: bool,
    /// Also print the text form of each schedule.
    #[arg(long, conflicts_with = "json")]
    print: bool,
    #[command(flatten)]
    scheduling: SchedulingArgs,
}

/// Arguments that only apply to models. Their help says so.
const FOR_MODELS: [&str; 5] = ["device", "link", "topology", "costs", "allow_foreign_costs"];

/// Prefixes the help of these arguments with "For models".
fn for_models(arg: Arg) -> Arg {
    if !FOR_MODELS.contains(&arg.get_id().as_str()) {
        return arg;
    }
    let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
    let mut rest = help.chars();
    let first = rest.next().map_or(String::new(), |first| first.to_lowercase().to_string());
    arg.help(format!("For models: {first}{}", rest.as_str()))
}

#[derive(Clone, Copy, ValueEnum)]
enum Links {
    Free,
    Serial,
}

/// The result of one algorithm on one problem.
#[derive(Serialize)]
struct ScheduleRow {
    #[serde(skip_serializing_if = "Option::is_none")]
    graph: Option<String>,
    algorithm: String,
    gpus: usize,
    latency_ms: f64,
    sequential_ms: f64,
    lower_bound_ms: f64,
    gpus_used: usize,
    transfers: usize,
    scheduling_ms: f64,
    /// The evaluations used, for algorithms that search.
    evaluations: u64,
    /// "optimal", "cut into N blocks", or empty.
    note: String,
    #[serde(skip)]
    text: String,
}

/// Runs `hiosc schedule`.
pub fn run(args: ScheduleArgs) -> anyhow::Result<()> {
    let algorithms = algorithms(&args.algorithm)?;
    let options = args.scheduling.options()?;
    let mut out = std::io::stdout().lock();
    let mut rows = Vec::new();
    for file in &args.files {
        let graph = (args.files.len() > 1).then(|| file.display().to_string());
        let numbers = if args.gpus.is_empty() { vec![None] } else { args.gpus.iter().map(|&gpus| Some(gpus as usize)).collect() };
        let source = Source::read(file, &args)?;
        for gpus in numbers {
            let problem = source.problem(file, gpus, args.links)?;
            let of_graph = compare(&problem, &algorithms, &options, args.algorithm.iter().any(|a| a == "all"), graph.as_deref())?;
            progress::end();
            if !args.json {
                out.write_all(table(file, &problem, &options, &of_graph, args.print).as_bytes())?;
            }
            rows.extend(of_graph);
        }
    }
    if args.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&rows)?)?;
    }
    Ok(())
}

/// The algorithms with these names. `all` leaves out `scatter`, whose schedules are slow on
/// purpose.
fn algorithms(names: &[String]) -> Result<Vec<Algorithm>, Error> {
    let mut chosen = Vec::new();
    for name in names {
        match name.as_str() {
            "all" => chosen.extend(Algorithm::ALL.into_iter().filter(|a| *a != Algorithm::Scatter)),
            name => chosen.push(name.parse()?),
        }
    }
    Ok(chosen)
}

/// A file to schedule, read once.
enum Source {
    Model(Box<Compiler>, Box<Imported>),
    /// A graph in text form.
    Text(String),
}

impl Source {
    fn read(file: &Path, args: &ScheduleArgs) -> anyhow::Result<Source> {
        if file.extension().is_some_and(|e| e.eq_ignore_ascii_case("onnx")) {
            let compiler = args.costs.apply(args.devices.apply(Compiler::new(file))?)?;
            // The number of GPUs may contradict other arguments. That is reported before the model
            // is imported.
            let first = args.gpus.first().map_or(compiler.clone(), |&gpus| compiler.clone().gpus(gpus as usize));
            return Ok(Source::Model(Box::new(compiler), Box::new(first.import()?)));
        }
        if args.devices.named() || args.costs.named() {
            let message =
                format!("{}: device, link, topology and costs are for models; a graph in text form has its own times", file.display());
            return Err(Error::Usage(message).into());
        }
        let bytes = std::fs::read(file).map_err(Error::io(file))?;
        let text = String::from_utf8(bytes)
            .map_err(|_| Error::Usage(format!("{}: neither a model (its name does not end in .onnx) nor text", file.display())))?;
        Ok(Source::Text(text))
    }

    /// The scheduling problem for this number of GPUs, if one is given.
    fn problem(&self, file: &Path, gpus: Option<usize>, links: Links) -> anyhow::Result<Problem> {
        let text = match self {
            Source::Model(compiler, imported) => {
                let compiler = gpus.map_or((**compiler).clone(), |gpus| (**compiler).clone().gpus(gpus));
                return Ok(compiler.problem(imported)?);
            }
            Source::Text(text) => text,
        };
        let links = match links {
            Links::Free => LinkMode::Free,
            Links::Serial => LinkMode::Serial,
        };
        Problem::from_dag_text(text, gpus.unwrap_or(2), links).map_err(|error| match error {
            Error::Usage(message) => Error::Usage(format!("{}: {message}", file.display())).into(),
            other => other.into(),
        })
    }
}

/// One row per algorithm. With `all`, algorithms for one GPU are left out if the weights fit on no
/// single GPU.
fn compare(
    problem: &Problem,
    algorithms: &[Algorithm],
    options: &ScheduleOptions,
    all: bool,
    graph: Option<&str>,
) -> anyhow::Result<Vec<ScheduleRow>> {
    let ms = |nanos: u64| nanos as f64 / 1e6;
    let sequential = problem.sequential_latency();
    let fits = problem.fits_one_gpu();
    let bound = if options.max_streams > 1 { lower_bound(problem) } else { lower_bound_ungrouped(problem) };
    let mut rows = Vec::new();
    for &algorithm in algorithms {
        if all && algorithm.one_gpu() && !fits {
            continue;
        }
        let started = Instant::now();
        let found = schedule_with(problem, algorithm, options)?;
        let scheduling_ms = started.elapsed().as_secs_f64() * 1e3;
        let timeline = evaluate(problem, &found.schedule)?;
        verify(problem, &found.schedule, &timeline)?;
        rows.push(ScheduleRow {
            graph: graph.map(str::to_string),
            algorithm: algorithm.to_string(),
            gpus: problem.gpus,
            latency_ms: ms(timeline.latency),
            sequential_ms: ms(sequential),
            lower_bound_ms: ms(bound),
            gpus_used: found.schedule.gpus.iter().filter(|stages| !stages.is_empty()).count(),
            transfers: timeline.transfers.len(),
            scheduling_ms,
            evaluations: found.evaluations,
            text: to_text(None, &found.schedule, &timeline),
            note: found.note,
        });
    }
    Ok(rows)
}

fn table(file: &Path, problem: &Problem, options: &ScheduleOptions, rows: &[ScheduleRow], print: bool) -> String {
    let mut out = String::new();
    let grouping = match options.max_streams {
        1 => "no grouping".to_string(),
        s => format!("window {}, at most {s} operators per stage", options.window),
    };
    // Writing to a String cannot fail.
    let _ = writeln!(out, "{}: {} operators, {} GPUs, {grouping}", file.display(), problem.operators(), problem.gpus);
    if let Some(row) = rows.first() {
        let _ = writeln!(out, "sequential {:.6} ms, lower bound {:.6} ms", row.sequential_ms, row.lower_bound_ms);
    }
    let _ = writeln!(out, "algorithm     latency ms  speed-up     gap  GPUs  transfers  scheduling ms");
    for row in rows {
        let gap = if row.lower_bound_ms > 0.0 { (row.latency_ms / row.lower_bound_ms - 1.0) * 100.0 } else { 0.0 };
        let speed_up = if row.latency_ms > 0.0 { row.sequential_ms / row.latency_ms } else { 1.0 };
        let evaluations = if row.evaluations > 0 { format!("  {} evaluations", row.evaluations) } else { String::new() };
        let note = if row.note.is_empty() { String::new() } else { format!("  {}", row.note) };
        let _ = writeln!(
            out,
            "{:12} {:11.6} {speed_up:8.3}x {gap:6.1}% {:5} {:10} {:14.3}{evaluations}{note}",
            row.algorithm, row.latency_ms, row.gpus_used, row.transfers, row.scheduling_ms
        );
    }
    if print {
        rows.iter().for_each(|row| out += &row.text);
    }
    out.push('\n');
    out
}
