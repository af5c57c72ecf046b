//! From the imported model to the plan: schedules compared, the best one planned within the memory there is.

use std::time::{Duration, Instant};

use crate::cost::CostTable;
use crate::device::Target;
use crate::error::Result;
use crate::graph::Graph;
use crate::import;
use crate::measure::bench::Contest;
use crate::plan::{self, Plan};
use crate::program::{self, KernelMode, Program, Shipped};
use crate::schedule::{self, Algorithm, Candidate, Problem};

/// A model as it is read and fused: what planning starts from.
pub struct Imported {
    /// The imported model.
    pub model: import::Model,
    /// The fused graph.
    pub graph: Graph,
    /// Time spent in each room.
    pub timings: Vec<(&'static str, Duration)>,
}

/// Everything up to the plan: what `--emit` prints.
pub struct Planned {
    /// The imported model.
    pub model: import::Model,
    /// The fused graph.
    pub graph: Graph,
    /// The target's GPUs and links; `None` where a cost table was read and nothing else said.
    pub target: Option<Target>,
    /// Its costs.
    pub costs: CostTable,
    /// What the schedulers were given.
    pub problem: Problem,
    /// The schedules that were compared; sequential first, if one GPU has room for the model.
    pub candidates: Vec<Candidate>,
    /// Which of them the plan follows.
    pub chosen: usize,
    /// The plan.
    pub plan: Plan,
    /// What timing the plans on the GPUs found, if it was asked for.
    pub rechecked: Option<String>,
    /// Time spent in each room.
    pub timings: Vec<(&'static str, Duration)>,
}

impl Planned {
    /// The candidate that the plan follows.
    pub fn chosen(&self) -> &Candidate {
        &self.candidates[self.chosen]
    }

    /// The compared schedules, to be measured against one another.
    pub fn contest(&self) -> Contest<'_> {
        Contest { graph: &self.graph, costs: &self.costs, candidates: &self.candidates, chosen: self.chosen }
    }

    /// The kernels that the plan launches, compiled as `mode` says.
    pub fn ship(&self, mode: KernelMode) -> Result<Shipped> {
        program::ship(&self.costs, &self.plan, mode)
    }

    /// The plan with everything looked up; `shipped` are its kernels.
    pub fn program<'a>(&'a self, shipped: &'a Shipped) -> Result<Program<'a>> {
        let Candidate { schedule, timeline } = self.chosen();
        Program::new(&self.graph, &self.costs, schedule, timeline, &self.plan, shipped)
    }

    /// The table of launches; kernels need not be compiled for it.
    pub fn launches(&self) -> Result<String> {
        self.program(&self.ship(KernelMode::Source)?)?.launches(self.model.onnx_nodes)
    }

    /// The seconds spent in each room, a line each, and in all.
    pub fn timings_text(&self) -> String {
        let line = |room: &str, time: Duration| format!("time       {room:10} {:8.3} s\n", time.as_secs_f64());
        let mut text: String = self.timings.iter().map(|&(room, time)| line(room, time)).collect();
        text.push_str(&line("all", self.timings.iter().map(|&(_, time)| time).sum()));
        text
    }
}

/// Schedules that were compared, and the plan of one of them.
pub(super) struct Found {
    pub candidates: Vec<Candidate>,
    pub chosen: usize,
    pub plan: Plan,
}

/// Compares schedules and plans the one that was asked for, else the best. Where its plan does not fit a GPU's memory, schedules again with less room for weights.
pub(super) fn search(
    graph: &Graph,
    costs: &CostTable,
    problem: &mut Problem,
    wanted: Option<Algorithm>,
    scheduling: &schedule::Options,
    options: &plan::Options,
    clock: &mut Clock,
) -> Result<Found> {
    loop {
        let candidates = compare(problem, wanted, scheduling)?;
        let chosen = choose(&candidates, wanted);
        clock.lap("schedule");
        let planned = planned(graph, costs, &candidates[chosen], options);
        if planned.is_err() && reserve(problem, graph, costs, &candidates[chosen], options)? {
            continue;
        }
        return Ok(Found { plan: planned?, candidates, chosen });
    }
}

/// The verified plan of a schedule.
pub(super) fn planned(graph: &Graph, costs: &CostTable, candidate: &Candidate, options: &plan::Options) -> Result<Plan> {
    let Candidate { schedule, timeline } = candidate;
    let plan = plan::plan(graph, costs, schedule, timeline, options)?;
    plan::verify(graph, Some(schedule), options, &plan)?;
    Ok(plan)
}

/// Takes what the tensors of this candidate's plan need off each GPU's room for weights, where weights and tensors do not fit together. Whether that leaves less room
/// than before: then another schedule may do. Room only ever shrinks, so this ends.
fn reserve(problem: &mut Problem, graph: &Graph, costs: &CostTable, found: &Candidate, options: &plan::Options) -> Result<bool> {
    let mut boundless = costs.clone();
    boundless.gpus.iter_mut().for_each(|gpu| gpu.memory = u64::MAX);
    let plan = plan::plan(graph, &boundless, &found.schedule, &found.timeline, options)?;
    let mut shrunk = false;
    for (gpu, needs) in plan.targets.iter().map(|gpu| gpu.index()).zip(&plan.gpus) {
        let room = costs.gpus[gpu].memory.saturating_sub(needs.arena_bytes);
        if needs.weights_bytes > room && room < problem.memory.room[gpu] {
            problem.memory.room[gpu] = room;
            shrunk = true;
        }
    }
    Ok(shrunk)
}

/// Sequential, one GPU grouped, HIOS-LP, the search for the best, and what was asked for; each verified. Where no GPU has room for the whole model, those of
/// one GPU are left out, unless asked for.
fn compare(problem: &Problem, wanted: Option<Algorithm>, options: &schedule::Options) -> Result<Vec<Candidate>> {
    let mut algorithms = vec![Algorithm::Sequential, Algorithm::IntraGpu, Algorithm::HiosLp, Algorithm::Best];
    if !problem.fits_one_gpu() {
        algorithms.retain(|a| !a.one_gpu());
    }
    algorithms.extend(wanted.filter(|a| !algorithms.contains(a)));
    let run = |algorithm| {
        let schedule = schedule::schedule_with(problem, algorithm, options)?.schedule;
        let timeline = schedule::evaluate(problem, &schedule)?;
        schedule::verify(problem, &schedule, &timeline)?;
        Ok(Candidate { schedule, timeline })
    };
    algorithms.into_iter().map(run).collect()
}

/// What was asked for; else the lowest latency, the earlier one where two are equal (sequential is first).
fn choose(candidates: &[Candidate], wanted: Option<Algorithm>) -> usize {
    let named = |a: Algorithm| candidates.iter().position(|c| c.schedule.algorithm == a.to_string());
    wanted.and_then(named).unwrap_or_else(|| (0..candidates.len()).min_by_key(|&i| (candidates[i].timeline.latency, i)).unwrap_or(0))
}

/// Times each room.
pub(super) struct Clock {
    since: Instant,
    pub laps: Vec<(&'static str, Duration)>,
}

impl Clock {
    /// A clock that goes on after these laps.
    pub fn after(laps: Vec<(&'static str, Duration)>) -> Clock {
        Clock { since: Instant::now(), laps }
    }

    pub fn lap(&mut self, room: &'static str) {
        let now = Instant::now();
        self.laps.push((room, now - self.since));
        self.since = now;
    }
}
