//! From the imported model to the plan: schedules are compared, and the best one is planned within
//! the available memory.

use std::fmt;
use std::time::{Duration, Instant};

use crate::cost::CostTable;
use crate::device::Target;
use crate::error::Result;
use crate::graph::Graph;
use crate::import;
use crate::measure::bench::Comparison;
use crate::plan::{self, Plan, PlanOptions};
use crate::program::{self, KernelMode, Program, Shipped};
use crate::progress;
use crate::schedule::{self, Algorithm, EvaluatedSchedule, Problem, ScheduleOptions};

/// A model that has been read and fused: the input of planning.
pub struct Imported {
    /// The imported model, whose graph became the fused one.
    pub model: import::Model,
    /// Number of its operators before fusing.
    pub lowered: usize,
    /// The fused graph.
    pub graph: Graph,
    /// Time spent in each pass.
    pub timings: Vec<(&'static str, Duration)>,
}

/// Everything up to the plan: what `--emit` prints.
pub struct Planned {
    /// The imported model, whose graph became the fused one.
    pub model: import::Model,
    /// Number of its operators before fusing.
    pub lowered: usize,
    /// The fused graph.
    pub graph: Graph,
    /// The target's GPUs and links; `None` if they come from a cost table alone.
    pub target: Option<Target>,
    /// Its costs.
    pub costs: CostTable,
    /// The scheduling problem.
    pub problem: Problem,
    /// The schedules that were compared; sequential first, if the model fits on one GPU.
    pub schedules: Vec<EvaluatedSchedule>,
    /// Index of the one that the plan follows.
    pub chosen: usize,
    /// The plan.
    pub plan: Plan,
    /// What timing the plans on the GPUs found, if requested.
    pub rechecked: Option<String>,
    /// Time spent in each pass.
    pub timings: Vec<(&'static str, Duration)>,
}

impl fmt::Debug for Imported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Imported { model: _, lowered, graph, timings } = self;
        f.debug_struct("Imported").field("lowered", lowered).field("graph", graph).field("timings", timings).finish_non_exhaustive()
    }
}

impl fmt::Debug for Planned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Planned { model: _, lowered, graph, target, costs, problem, schedules, chosen, plan, rechecked, timings } = self;
        f.debug_struct("Planned")
            .field("lowered", lowered)
            .field("graph", graph)
            .field("target", target)
            .field("costs", costs)
            .field("problem", problem)
            .field("schedules", schedules)
            .field("chosen", chosen)
            .field("plan", plan)
            .field("rechecked", rechecked)
            .field("timings", timings)
            .finish_non_exhaustive()
    }
}

impl Planned {
    /// The schedule that the plan follows.
    pub fn chosen(&self) -> &EvaluatedSchedule {
        &self.schedules[self.chosen]
    }

    /// The compared schedules, for a benchmark.
    pub fn comparison(&self) -> Comparison<'_> {
        Comparison { graph: &self.graph, costs: &self.costs, schedules: &self.schedules, chosen: self.chosen }
    }

    /// The kernels that the plan launches, compiled as `mode` says.
    pub fn ship(&self, mode: KernelMode) -> Result<Shipped> {
        program::ship(&self.costs, &self.plan, mode)
    }

    /// The resolved plan; `shipped` are its kernels.
    pub fn program<'a>(&'a self, shipped: &'a Shipped) -> Result<Program<'a>> {
        let EvaluatedSchedule { schedule, timeline } = self.chosen();
        Program::new(&self.graph, &self.costs, schedule, timeline, &self.plan, shipped)
    }

    /// The table of launches, which does not need compiled kernels.
    pub fn launches(&self) -> Result<String> {
        self.program(&self.ship(KernelMode::Source)?)?.launches(self.model.onnx_nodes)
    }

    /// The seconds spent in each pass, one per line, and their sum.
    pub fn timings_text(&self) -> String {
        let line = |pass: &str, time: Duration| format!("time       {pass:10} {:8.3} s\n", time.as_secs_f64());
        let mut text: String = self.timings.iter().map(|&(pass, time)| line(pass, time)).collect();
        text.push_str(&line("all", self.timings.iter().map(|&(_, time)| time).sum()));
        text
    }
}

/// The compared schedules, and the plan of one of them.
pub(super) struct PlannedSearch {
    pub schedules: Vec<EvaluatedSchedule>,
    pub chosen: usize,
    pub plan: Plan,
}

/// Compares schedules and plans the requested one, else the best. Where its plan does not fit a
/// GPU's memory, schedules again with less capacity for weights.
pub(super) fn schedule_and_plan(
    graph: &Graph,
    costs: &CostTable,
    problem: &mut Problem,
    wanted: Option<Algorithm>,
    scheduling: &ScheduleOptions,
    options: &PlanOptions,
    clock: &mut PassTimer,
) -> Result<PlannedSearch> {
    loop {
        progress::step("searching for a schedule", 0, 0);
        let schedules = compare(problem, wanted, scheduling)?;
        let chosen = choose(&schedules, wanted);
        clock.lap("schedule");
        progress::step("planning", 0, 0);
        let planned = verified_plan(graph, costs, &schedules[chosen], options);
        if planned.is_err() && reserve(problem, graph, costs, &schedules[chosen], options)? {
            continue;
        }
        return Ok(PlannedSearch { plan: planned?, schedules, chosen });
    }
}

/// The verified plan of a schedule.
pub(super) fn verified_plan(graph: &Graph, costs: &CostTable, evaluated: &EvaluatedSchedule, options: &PlanOptions) -> Result<Plan> {
    let EvaluatedSchedule { schedule, timeline } = evaluated;
    let plan = plan::plan(graph, costs, schedule, timeline, options)?;
    plan::verify(graph, Some(schedule), options, &plan)?;
    Ok(plan)
}

/// Where weights and activations do not fit together, reduces a GPU's capacity for weights to what
/// the activations of this schedule's plan leave. Returns whether a capacity shrank: then another
/// schedule may fit. Capacities never grow, so this ends.
fn reserve(problem: &mut Problem, graph: &Graph, costs: &CostTable, found: &EvaluatedSchedule, options: &PlanOptions) -> Result<bool> {
    let mut boundless = costs.clone();
    boundless.gpus.iter_mut().for_each(|gpu| gpu.memory = u64::MAX);
    let plan = plan::plan(graph, &boundless, &found.schedule, &found.timeline, options)?;
    let mut shrunk = false;
    for (gpu, needs) in plan.targets.iter().map(|gpu| gpu.index()).zip(&plan.gpus) {
        let capacity = costs.gpus[gpu].memory.saturating_sub(needs.arena_bytes);
        if needs.weights_bytes > capacity && capacity < problem.memory.capacity[gpu] {
            problem.memory.capacity[gpu] = capacity;
            shrunk = true;
        }
    }
    Ok(shrunk)
}

/// The schedules of `sequential`, `intra-gpu`, `hios-lp`, `best`, and the requested algorithm, each
/// verified. Where the model fits on no single GPU, algorithms for one GPU are left out, unless
/// requested.
fn compare(problem: &Problem, wanted: Option<Algorithm>, options: &ScheduleOptions) -> Result<Vec<EvaluatedSchedule>> {
    let mut algorithms = vec![Algorithm::Sequential, Algorithm::IntraGpu, Algorithm::HiosLp, Algorithm::Best];
    if !problem.fits_one_gpu() {
        algorithms.retain(|a| !a.one_gpu());
    }
    algorithms.extend(wanted.filter(|a| !algorithms.contains(a)));
    let run = |algorithm| {
        let schedule = schedule::schedule_with(problem, algorithm, options)?.schedule;
        let timeline = schedule::evaluate(problem, &schedule)?;
        schedule::verify(problem, &schedule, &timeline)?;
        Ok(EvaluatedSchedule { schedule, timeline })
    };
    algorithms.into_iter().map(run).collect()
}

/// The requested schedule, else the one of lowest latency. Ties go to the earlier one (sequential
/// is first).
fn choose(schedules: &[EvaluatedSchedule], wanted: Option<Algorithm>) -> usize {
    let named = |a: Algorithm| schedules.iter().position(|c| c.schedule.algorithm == a.to_string());
    wanted.and_then(named).unwrap_or_else(|| (0..schedules.len()).min_by_key(|&i| (schedules[i].timeline.latency, i)).unwrap_or(0))
}

/// Times each pass.
pub(super) struct PassTimer {
    since: Instant,
    pub laps: Vec<(&'static str, Duration)>,
}

impl PassTimer {
    /// A timer that continues these laps.
    pub fn after(laps: Vec<(&'static str, Duration)>) -> PassTimer {
        PassTimer { since: Instant::now(), laps }
    }

    pub fn lap(&mut self, pass: &'static str) {
        let now = Instant::now();
        self.laps.push((pass, now - self.since));
        self.since = now;
    }
}
