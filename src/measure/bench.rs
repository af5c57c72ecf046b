//! Plans measured against one another on the GPUs: what `hiosc bench` prints, and how the compiler re-checks its choice.
//!
//! **In**: the schedules that were compared ([`Contest`]). **Out**: a [`Report`]. Each schedule becomes a plan that runs in-process, as one CUDA graph and on plain
//! streams; all of them take turns (`runtime/tool/bench.rs`), and the first, the sequential plan as a graph, takes part twice: what differs by less than these two is
//! not different. *Resident* runs have inputs and outputs on the GPU, as the prediction assumes; the others include the copies from and to the host.

use crate::cost::CostTable;
use crate::device::Nanos;
use crate::error::{Error, Result};
use crate::graph::{Constant, Graph};
use crate::measure::profile;
use crate::plan::{self, Plan};
use crate::program::{self, KernelMode, Program};
use crate::run::{Session, device};
use crate::runtime::tool::Prediction;
use crate::runtime::tool::bench::{self as measuring, Figures, Series};
use crate::runtime::{self, Span};
use crate::schedule::Candidate;

/// Schedules of one graph that are measured against one another.
#[derive(Clone, Copy)]
pub struct Contest<'a> {
    /// The graph.
    pub graph: &'a Graph,
    /// Its costs.
    pub costs: &'a CostTable,
    /// The schedules.
    pub candidates: &'a [Candidate],
    /// The one that is predicted to be the fastest, or was asked for.
    pub chosen: usize,
}

/// How to measure.
#[derive(Clone, Debug)]
pub struct Options {
    /// Inferences of each contestant.
    pub rounds: usize,
    /// Where the plans run.
    pub place: runtime::Options,
    /// How plans are made.
    pub plan: plan::Options,
    /// Called before each round: lets another program take its turn.
    pub before_round: Option<fn()>,
}

impl Default for Options {
    fn default() -> Self {
        Options { rounds: 100, place: runtime::Options::default(), plan: plan::Options::default(), before_round: None }
    }
}

/// What was measured.
pub struct Report {
    /// Tables for people.
    pub text: String,
    /// All figures, raw ones included.
    pub json: String,
    /// The trace of the chosen plan, for Perfetto.
    pub trace: String,
}

/// A schedule on the GPUs.
struct Loaded {
    name: String,
    predicted: Nanos,
    predictions: Vec<Prediction<String>>,
    session: Session,
}

const WARM_UP: usize = 10;
const TRACES: usize = 5;

/// A plan of `candidate` in this process, on the GPUs of `place`; and when each of its steps should run.
pub fn session(
    graph: &Graph,
    costs: &CostTable,
    candidate: &Candidate,
    plan: &Plan,
    place: &runtime::Options,
) -> Result<(Session, Vec<Prediction<String>>)> {
    // A stand-in for NVRTC makes no images that could be shipped; kernels are then compiled, in name, when the plan is loaded.
    let on_virtual = profile::present()?.iter().any(|(gpu, _)| runtime::is_virtual(&gpu.device));
    let shipped = program::ship(costs, plan, if on_virtual { KernelMode::Source } else { KernelMode::Auto })?;
    let program = Program::new(graph, costs, &candidate.schedule, &candidate.timeline, plan, &shipped)?;
    Ok((Session::load(&program, place)?, program.predictions))
}

fn load(contest: &Contest, candidate: &Candidate, options: &Options) -> Result<Loaded> {
    let Candidate { schedule, timeline } = candidate;
    let plan = plan::plan(contest.graph, contest.costs, schedule, timeline, &options.plan)?;
    plan::verify(contest.graph, Some(schedule), &options.plan, &plan)?;
    let (session, predictions) = session(contest.graph, contest.costs, candidate, &plan, &options.place)?;
    Ok(Loaded { name: schedule.algorithm.clone(), predicted: timeline.latency, predictions, session })
}

/// The kinds of run that one plan is put through.
#[derive(Clone, Copy, PartialEq)]
enum Way {
    Graph,
    Streams,
    Resident,
}

/// Measures all candidates of `contest`.
pub fn bench(contest: &Contest, inputs: &[Constant], options: &Options) -> Result<Report> {
    let mut loaded = contest.candidates.iter().map(|c| load(contest, c, options)).collect::<Result<Vec<_>>>()?;
    let mut contestants = vec![(0, Way::Graph), (0, Way::Graph)];
    contestants.extend((1..loaded.len()).map(|who| (who, Way::Graph)));
    contestants.extend((0..loaded.len()).flat_map(|who| [(who, Way::Resident), (who, Way::Streams)]));
    let graph = |who: usize, loaded: &[Loaded]| if loaded[who].session.replays() { "graph" } else { "streams" };
    let name = |(place, &(who, way)): (usize, &(usize, Way))| {
        let how = match way {
            Way::Graph if place == 1 => format!("{}, again", graph(who, &loaded)),
            Way::Graph => graph(who, &loaded).into(),
            Way::Streams => "streams".into(),
            Way::Resident => format!("{}, resident", graph(who, &loaded)),
        };
        format!("{} {how}", loaded[who].name)
    };
    let names: Vec<String> = contestants.iter().enumerate().map(name).collect();
    let (mut failure, mut turns) = (None, 0);
    let series = measuring::interleave(&names, WARM_UP.min(options.rounds), options.rounds, |turn| {
        if let (Some(before), true) = (options.before_round, turns % contestants.len() == 0) {
            before();
        }
        turns += 1;
        let (who, way) = contestants[turn];
        let session = &mut loaded[who].session;
        session.use_graph(way != Way::Streams);
        let timing = if way == Way::Resident { session.time_resident() } else { session.time(inputs) };
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
    let chosen = &mut loaded[contest.chosen];
    let summary = chosen.session.summary();
    if chosen.session.is_virtual() {
        remarks.insert(0, "virtual GPUs: these times mean nothing, only the paths are real".into());
    }
    let (table, figures) = measuring::report(&series, noise, &remarks);

    let traces = (0..TRACES.min(options.rounds)).map(|_| chosen.session.trace(inputs)).collect::<Result<Vec<Vec<Span>>>>()?;
    let (stage_table, stage_figures) = measuring::stage_report(&measuring::stages(&chosen.predictions, &traces));
    let trace = traces.last().map(|spans| measuring::chrome_trace(&chosen.predictions, spans, &remarks[0]));
    let (end_table, end_figures) = end_to_end(&loaded, &contestants, &series);
    let name = &loaded[contest.chosen].name;
    let text = format!("{summary}{table}\n{end_table}\nstages of {name}, on plain streams\n{stage_table}");
    let quoted = measuring::quoted;
    let json = format!(
        "{{\"model\":{},\"costs\":{},\"chosen\":{},\"placement\":{},{figures},{end_figures},{stage_figures}}}\n",
        quoted(&contest.graph.name),
        quoted(&contest.costs.source),
        quoted(name),
        quoted(&summary)
    );
    Ok(Report { text, json, trace: trace.unwrap_or_default() })
}

/// Predicted against measured, end to end: resident, on the device's clock.
fn end_to_end(loaded: &[Loaded], contestants: &[(usize, Way)], series: &[Series]) -> (String, String) {
    let mut table = format!("{:28} {:>10} {:>10} {:>8}\n", "end to end, resident, us", "predicted", "measured", "ratio");
    let mut rows = Vec::new();
    for (&(who, way), series) in contestants.iter().zip(series) {
        let (Way::Resident, Some(Figures { median, .. })) = (way, series.device()) else { continue };
        let Loaded { name, predicted, .. } = &loaded[who];
        let ratio = median as f64 / (*predicted).max(1) as f64;
        table += &format!("{name:28} {:>10.1} {:>10.1} {ratio:>8.2}\n", *predicted as f64 / 1e3, median as f64 / 1e3);
        rows.push(format!("{{\"name\":{},\"predicted_ns\":{predicted},\"measured_ns\":{median}}}", measuring::quoted(name)));
    }
    (table, format!("\"end_to_end\":[{}]", rows.join(",")))
}

/// The candidate whose plan is the fastest as a graph, and a line that says so. One that is faster by less than the noise is not: the prediction decides then.
pub fn fastest(contest: &Contest, inputs: &[Constant], options: &Options) -> Result<(usize, String)> {
    let mut loaded = contest.candidates.iter().map(|c| load(contest, c, options)).collect::<Result<Vec<_>>>()?;
    let chosen = contest.chosen;
    // The chosen one twice, then all others.
    let mut who = vec![chosen, chosen];
    who.extend((0..loaded.len()).filter(|&i| i != chosen));
    let names: Vec<String> = who.iter().map(|&i| loaded[i].name.clone()).collect();
    let series = measuring::interleave(&names, WARM_UP.min(options.rounds), options.rounds, |turn| {
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
