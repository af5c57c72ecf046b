//! Benchmarks of plans against one another on the GPUs: for `hiosc bench`, and for the compiler to
//! re-check its choice.
//!
//! **In**: the schedules that were compared ([`Comparison`]). **Out**: a [`BenchReport`]. Each
//! schedule becomes a plan that runs in-process, as one CUDA graph and on plain streams. All of
//! them take turns (`runtime/tool/bench.rs`). The first, the sequential plan as a graph, takes part
//! twice: its two series give the noise, and smaller differences count as none. *Resident* runs
//! have inputs and outputs on the GPU, as the prediction assumes. The others include the copies
//! from and to the host.

use crate::cost::CostTable;
use crate::device::Nanos;
use crate::error::{Error, Result};
use crate::graph::{Constant, Graph};
use crate::measure::profile;
use crate::plan::{self, Plan, PlanOptions};
use crate::program::{self, KernelMode, Program};
use crate::progress;
use crate::run::{Session, device};
use crate::runtime::tool::Prediction;
use crate::runtime::tool::bench::{self as measuring, Series, Statistics};
use crate::runtime::{self, RuntimeOptions, Span};
use crate::schedule::EvaluatedSchedule;

/// Schedules of one graph that are measured against one another.
#[derive(Clone, Copy, Debug)]
pub struct Comparison<'a> {
    /// The graph.
    pub graph: &'a Graph,
    /// Its costs.
    pub costs: &'a CostTable,
    /// The schedules.
    pub schedules: &'a [EvaluatedSchedule],
    /// Index of the one that is predicted to be the fastest, or was requested.
    pub chosen: usize,
}

/// Options of a benchmark.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct BenchOptions {
    /// Inferences of each variant.
    pub rounds: usize,
    /// Where the plans run.
    pub runtime: RuntimeOptions,
    /// How plans are made.
    pub plan: PlanOptions,
    /// Called before each round, so that another program can take its turn.
    pub before_round: Option<fn()>,
}

impl Default for BenchOptions {
    fn default() -> Self {
        BenchOptions { rounds: 100, runtime: RuntimeOptions::default(), plan: PlanOptions::default(), before_round: None }
    }
}

impl BenchOptions {
    /// Sets [`rounds`](Self::rounds).
    pub fn rounds(mut self, rounds: usize) -> Self {
        self.rounds = rounds;
        self
    }

    /// Sets [`runtime`](Self::runtime).
    pub fn runtime(mut self, options: RuntimeOptions) -> Self {
        self.runtime = options;
        self
    }

    /// Sets [`plan`](Self::plan).
    pub fn plan(mut self, options: PlanOptions) -> Self {
        self.plan = options;
        self
    }

    /// Sets [`before_round`](Self::before_round).
    pub fn before_round(mut self, call: fn()) -> Self {
        self.before_round = Some(call);
        self
    }
}

/// The measurements.
#[derive(Clone, Debug)]
pub struct BenchReport {
    /// Tables for people.
    pub text: String,
    /// All figures, raw ones included.
    pub json: String,
    /// The trace of the chosen plan, for Perfetto.
    pub trace: String,
}

/// A plan that is loaded on the GPUs.
struct LoadedPlan {
    name: String,
    predicted: Nanos,
    predictions: Vec<Prediction<String>>,
    session: Session,
}

const WARM_UP: usize = 10;
const TRACES: usize = 5;

/// Loads the plan of a schedule in this process, on the GPUs that `runtime` names. Also returns
/// when each of its steps should run.
pub fn session(
    graph: &Graph,
    costs: &CostTable,
    evaluated: &EvaluatedSchedule,
    plan: &Plan,
    runtime: &RuntimeOptions,
) -> Result<(Session, Vec<Prediction<String>>)> {
    // The virtual GPUs' stand-in for NVRTC makes no images that could be shipped. Kernels then go
    // to it as sources when the plan is loaded.
    let on_virtual = profile::present()?.iter().any(|(gpu, _)| runtime::is_virtual(&gpu.device));
    let shipped = program::ship(costs, plan, if on_virtual { KernelMode::Source } else { KernelMode::Auto })?;
    let program = Program::new(graph, costs, &evaluated.schedule, &evaluated.timeline, plan, &shipped)?;
    Ok((Session::load(&program, runtime)?, program.predictions))
}

fn load(comparison: &Comparison, evaluated: &EvaluatedSchedule, options: &BenchOptions) -> Result<LoadedPlan> {
    let EvaluatedSchedule { schedule, timeline } = evaluated;
    let plan = plan::plan(comparison.graph, comparison.costs, schedule, timeline, &options.plan)?;
    plan::verify(comparison.graph, Some(schedule), &options.plan, &plan)?;
    let (session, predictions) = session(comparison.graph, comparison.costs, evaluated, &plan, &options.runtime)?;
    Ok(LoadedPlan { name: schedule.algorithm.clone(), predicted: timeline.latency, predictions, session })
}

/// How a plan is run.
#[derive(Clone, Copy, PartialEq)]
enum RunMode {
    Graph,
    Streams,
    Resident,
}

/// Measures all schedules of `comparison`.
pub fn bench(comparison: &Comparison, inputs: &[Constant], options: &BenchOptions) -> Result<BenchReport> {
    let mut loaded = comparison.schedules.iter().map(|c| load(comparison, c, options)).collect::<Result<Vec<_>>>()?;
    let mut variants = vec![(0, RunMode::Graph), (0, RunMode::Graph)];
    variants.extend((1..loaded.len()).map(|who| (who, RunMode::Graph)));
    variants.extend((0..loaded.len()).flat_map(|who| [(who, RunMode::Resident), (who, RunMode::Streams)]));
    let graph = |who: usize, loaded: &[LoadedPlan]| if loaded[who].session.replays() { "graph" } else { "streams" };
    let name = |(position, &(who, mode)): (usize, &(usize, RunMode))| {
        let how = match mode {
            RunMode::Graph if position == 1 => format!("{}, again", graph(who, &loaded)),
            RunMode::Graph => graph(who, &loaded).into(),
            RunMode::Streams => "streams".into(),
            RunMode::Resident => format!("{}, resident", graph(who, &loaded)),
        };
        format!("{} {how}", loaded[who].name)
    };
    let names: Vec<String> = variants.iter().enumerate().map(name).collect();
    let (mut failure, mut turns) = (None, 0);
    let series = measuring::interleave(&names, WARM_UP.min(options.rounds), options.rounds, |turn| {
        if let (Some(before), true) = (options.before_round, turns % variants.len() == 0) {
            before();
        }
        turns += 1;
        progress::step("running the plans", turns as u64, all_turns(variants.len(), options));
        let (who, mode) = variants[turn];
        let session = &mut loaded[who].session;
        session.use_graph(mode != RunMode::Streams);
        let timing = if mode == RunMode::Resident { session.time_resident() } else { session.time(inputs) };
        timing.map_err(|error| {
            let text = error.to_string();
            failure = Some(error);
            runtime::Error::Plan(text)
        })
    });
    let series = match (series, failure) {
        (_, Some(error)) => return Err(error),
        (series, None) => series.map_err(device)?,
    };
    let noise = measuring::noise(&series[0], &series[1]);
    let mut remarks = vec!["copies of inputs and outputs from and to the host are included, unless resident".to_string()];
    let chosen = &mut loaded[comparison.chosen];
    let summary = chosen.session.summary();
    if chosen.session.is_virtual() {
        remarks.insert(0, "virtual GPUs: these times are meaningless; only the code paths are real".into());
    }
    let (table, figures) = measuring::report(&series, noise, &remarks);

    let traces = (0..TRACES.min(options.rounds)).map(|_| chosen.session.trace(inputs)).collect::<Result<Vec<Vec<Span>>>>()?;
    let (stage_table, stage_figures) = measuring::stage_report(&measuring::stages(&chosen.predictions, &traces));
    let trace = traces.last().map(|spans| measuring::chrome_trace(&chosen.predictions, spans, &remarks[0]));
    let (end_table, end_figures) = end_to_end(&loaded, &variants, &series);
    let name = &loaded[comparison.chosen].name;
    let text = format!("{summary}{table}\n{end_table}\nstages of {name}, on plain streams\n{stage_table}");
    let quoted = measuring::quoted;
    let json = format!(
        "{{\"model\":{},\"costs\":{},\"chosen\":{},\"placement\":{},{figures},{end_figures},{stage_figures}}}\n",
        quoted(&comparison.graph.name),
        quoted(&comparison.costs.source),
        quoted(name),
        quoted(&summary)
    );
    Ok(BenchReport { text, json, trace: trace.unwrap_or_default() })
}

/// How many inferences `variants` variants make, for progress.
fn all_turns(variants: usize, options: &BenchOptions) -> u64 {
    (variants * (WARM_UP.min(options.rounds) + options.rounds)) as u64
}

/// Predicted against measured, end to end: resident, on the device's clock.
fn end_to_end(loaded: &[LoadedPlan], variants: &[(usize, RunMode)], series: &[Series]) -> (String, String) {
    let mut table = format!("{:28} {:>10} {:>10} {:>8}\n", "end to end, resident, us", "predicted", "measured", "ratio");
    let mut rows = Vec::new();
    for (&(who, mode), series) in variants.iter().zip(series) {
        let (RunMode::Resident, Some(Statistics { median, .. })) = (mode, series.device()) else { continue };
        let LoadedPlan { name, predicted, .. } = &loaded[who];
        let ratio = median as f64 / (*predicted).max(1) as f64;
        table += &format!("{name:28} {:>10.1} {:>10.1} {ratio:>8.2}\n", *predicted as f64 / 1e3, median as f64 / 1e3);
        rows.push(format!("{{\"name\":{},\"predicted_ns\":{predicted},\"measured_ns\":{median}}}", measuring::quoted(name)));
    }
    (table, format!("\"end_to_end\":[{}]", rows.join(",")))
}

/// The index of the schedule whose plan is the fastest as a CUDA graph, and a line for the summary.
/// The chosen one stays unless another is faster by more than the noise.
pub fn fastest(comparison: &Comparison, inputs: &[Constant], options: &BenchOptions) -> Result<(usize, String)> {
    let mut loaded = comparison.schedules.iter().map(|c| load(comparison, c, options)).collect::<Result<Vec<_>>>()?;
    let chosen = comparison.chosen;
    // The chosen one twice, then all others.
    let mut who = vec![chosen, chosen];
    who.extend((0..loaded.len()).filter(|&i| i != chosen));
    let names: Vec<String> = who.iter().map(|&i| loaded[i].name.clone()).collect();
    let mut turns = 0;
    let series = measuring::interleave(&names, WARM_UP.min(options.rounds), options.rounds, |turn| {
        turns += 1;
        progress::step("running the plans", turns, all_turns(who.len(), options));
        loaded[who[turn]].session.time(inputs).map_err(|error| runtime::Error::Plan(error.to_string()))
    });
    let series = series.map_err(|error| Error::Device(error.to_string()))?;
    let noise = measuring::noise(&series[0], &series[1]);
    let medians: Vec<Nanos> = series.iter().map(|s| s.host().map_or(Nanos::MAX, |f| f.median)).collect();
    let ours = medians[0].min(medians[1]);
    let best = (2..who.len()).min_by_key(|&i| medians[i]).filter(|&i| (medians[i] as f64) < ours as f64 * (1.0 - noise));
    let us = |t: Nanos| format!("{:.1} us", t as f64 / 1e3);
    let on = if loaded[chosen].session.is_virtual() { " (on virtual GPUs: meaningless)" } else { "" };
    Ok(match best {
        Some(i) => {
            let text = format!("{} is measured faster: {} against {} of {}{on}", names[i], us(medians[i]), us(ours), names[0]);
            (who[i], text)
        }
        None => {
            (chosen, format!("{} in {}; nothing else is measured faster beyond {:.1} % of noise{on}", names[0], us(ours), noise * 100.0))
        }
    })
}
