//! `best`: the best schedule of all other algorithms, improved by a search.
//!
//! ## Steps
//!
//! 1. *Portfolio.* Run every other algorithm with the given options, and HIOS-LP with and without
//!    the valid-path rule. The schedule of lowest latency is the start, so the result is never
//!    worse than any of them. Where the weights fit on no single GPU, the algorithms for one GPU
//!    are left out. Where IOS may put chains into a stage (`max_chain`), its schedule is compared
//!    but is not the start: the search has only stages of independent operators.
//! 2. *Early stop* when the latency equals a lower bound.
//! 3. *Branch and bound.* Up to [`MAX_OPERATORS`] operators: a short annealing for a good upper
//!    bound, then `branch_and_bound.rs` on the rest of the budget. If that search completes, the
//!    schedule is optimal.
//! 4. *Simulated annealing* (`annealing.rs`) on what is left of the budget. Most moves leave the
//!    latency as it is, since that is the length of one critical path. So the cost also includes
//!    the mean finish time of the GPUs, weighted by how far work, rather than the critical path,
//!    determines the latency (`BestSearch::mean_weight`).
//!
//! ## Budget
//!
//! The budget is a number of evaluations, so results do not depend on the machine's speed. The
//! default is a million for up to 200 operators. Beyond that, evaluations times operators stays
//! constant. `--effort high` is exactly ten times the default.

use rand_xoshiro::SplitMix64;
use rand_xoshiro::rand_core::SeedableRng;

use super::annealing::{AnnealingOptions, anneal};
use super::branch_and_bound::{self, MAX_OPERATORS};
use super::placement::linked_gpus;
use super::{Algorithm, ScheduleOptions, Solution, schedule_with};
use crate::device::Nanos;
use crate::error::{Error, Result};
use crate::schedule::incremental::{FULL_MEAN_WEIGHT, FlatProblem, IncrementalEvaluator, StageSequence};
use crate::schedule::memory::{WeightBudget, fastest_fitting_gpu};
use crate::schedule::{LinkMode, Problem, Schedule, evaluate, lower_bound, lower_bound_ungrouped};

/// Default number of evaluations for up to [`FULL_BUDGET_OPERATORS`] operators.
const EVALUATIONS: u64 = 1_000_000;

/// From this many operators on, evaluations times operators stays constant.
const FULL_BUDGET_OPERATORS: u64 = 200;

/// Up to this many operators, the budget is split over several annealings.
const SMALL_OPERATORS: usize = 64;

/// The cost of an evaluation with serial links, relative to one with free links.
const SERIAL_COST: u64 = 8;

/// The number of evaluations for the default effort.
pub(super) fn default_evaluations(problem: &Problem) -> u64 {
    let n = (problem.operators() as u64).max(FULL_BUDGET_OPERATORS);
    let serial = if problem.links == LinkMode::Serial { SERIAL_COST } else { 1 };
    (EVALUATIONS * FULL_BUDGET_OPERATORS / n / serial).max(1000)
}

/// The best schedule so far, with its latency.
struct Incumbent {
    schedule: Schedule,
    latency: Nanos,
}

/// Runs the steps at the top of this file.
pub(super) fn best(problem: &Problem, options: &ScheduleOptions) -> Result<Solution> {
    let evaluations = options.effort.evaluations(problem);
    let grouped = options.max_streams > 1;
    let bound = if grouped { lower_bound(problem) } else { lower_bound_ungrouped(problem) };
    let gpus = linked_gpus(problem);
    let weight_budget = WeightBudget::new(problem);
    let incumbent = portfolio(problem, &ScheduleOptions { max_chain: 1, ..options.clone() })?;
    let mut search =
        BestSearch { problem, options, gpus, evaluations, used: 0, rng: SplitMix64::seed_from_u64(options.seed), weight_budget, incumbent };
    let mut proven = search.run(bound)?;
    let mut incumbent = search.incumbent;
    if options.max_chain > 1 && fastest_fitting_gpu(problem).is_ok() {
        let schedule = schedule_with(problem, Algorithm::Ios, options)?.schedule;
        let latency = evaluate(problem, &schedule)?.latency;
        if latency < incumbent.latency {
            incumbent = Incumbent { schedule, latency };
        }
        proven = incumbent.latency <= bound;
    }
    let note = if proven { "optimal" } else { "" };
    Ok(Solution { schedule: incumbent.schedule, evaluations: search.used, note: note.into() })
}

/// The schedule of lowest latency of all other algorithms. The first in their order wins ties.
fn portfolio(problem: &Problem, options: &ScheduleOptions) -> Result<Incumbent> {
    let mut best: Option<Incumbent> = None;
    let fits = fastest_fitting_gpu(problem).is_ok();
    let all = Algorithm::ALL.into_iter().filter(|a| *a != Algorithm::Best && (fits || !a.one_gpu())).map(|a| (a, options.clone()));
    let relaxed = ScheduleOptions { relaxed_paths: !options.relaxed_paths, ..options.clone() };
    let all = all.chain([(Algorithm::InterLp, relaxed.clone()), (Algorithm::HiosLp, relaxed)]);
    for (algorithm, options) in all {
        let schedule = schedule_with(problem, algorithm, &options)?.schedule;
        let latency = evaluate(problem, &schedule)?.latency;
        if best.as_ref().is_none_or(|b| latency < b.latency) {
            best = Some(Incumbent { schedule, latency });
        }
    }
    best.ok_or_else(|| Error::internal("schedule", "there are no algorithms"))
}

struct BestSearch<'a> {
    problem: &'a Problem,
    options: &'a ScheduleOptions,
    gpus: Vec<usize>,
    /// The budget of evaluations, and how many of them are used.
    evaluations: u64,
    used: u64,
    rng: SplitMix64,
    weight_budget: WeightBudget<'a>,
    incumbent: Incumbent,
}

impl BestSearch<'_> {
    /// Spends the budget. Returns whether the result is known to be optimal.
    fn run(&mut self, bound: Nanos) -> Result<bool> {
        let n = self.problem.operators();
        if self.incumbent.latency <= bound || n == 0 {
            return Ok(true);
        }
        let max_stage = self.options.max_streams.clamp(1, n);
        let flat = FlatProblem::new(self.problem, max_stage > 1);
        if n <= MAX_OPERATORS {
            self.anneal(&flat, max_stage, (self.evaluations / 10).min(5_000), true)?;
            let found =
                branch_and_bound::search(self.problem, &flat, &self.gpus, max_stage, self.incumbent.latency, self.evaluations - self.used);
            self.used += found.nodes;
            if let Some((sequence, _)) = found.improvement {
                self.replace_if_better(&flat, &sequence)?;
            }
            // GPUs that are not linked to all others are left out of the search.
            return Ok(found.proven && self.gpus.len() == self.problem.gpus);
        }
        // Ten annealings, each from the best schedule so far, find more than one that is ten times
        // as long. Small graphs have deep local optima, so they are annealed several times in any
        // case. Every other time the cost is the latency alone, which leads to other optima.
        let small = n <= SMALL_OPERATORS;
        let times = (self.evaluations / default_evaluations(self.problem)).max(if small { 5 } else { 1 });
        for round in 0..times {
            self.anneal(&flat, max_stage, self.evaluations / times, !small || round % 2 == 0)?;
        }
        Ok(self.incumbent.latency <= bound)
    }

    /// Anneals from the incumbent. With `balanced`, the cost includes the mean finish time of the
    /// GPUs.
    fn anneal(&mut self, flat: &FlatProblem, max_stage: usize, evaluations: u64, balanced: bool) -> Result<()> {
        let timeline = evaluate(self.problem, &self.incumbent.schedule)?;
        let sequence = StageSequence::new(&self.incumbent.schedule, &timeline, flat.operators);
        let mut evaluator = IncrementalEvaluator::with_mean_weight(flat, sequence, if balanced { self.mean_weight(flat) } else { 0 });
        let options = AnnealingOptions {
            gpus: &self.gpus,
            max_stage,
            evaluations,
            search: (self.used, self.evaluations),
            start_temperature: (1.0 / flat.operators as f64).max(0.004),
            // A change on one GPU changes the mean by its share only.
            end_temperature: if evaluator.mean_weight > 0 { 0.0001 } else { 0.0004 },
            budget: &self.weight_budget,
        };
        let (sequence, _) = anneal(&mut evaluator, &options, &mut self.rng);
        self.used += evaluations;
        self.replace_if_better(flat, &sequence)
    }

    /// The weight of the mean finish time of the GPUs in the cost. It is full where work determines
    /// the latency, and 0 where the critical path takes as long as a GPU's share of the work. There
    /// GPUs wait in any case, and the mean would only mislead the search.
    fn mean_weight(&self, flat: &FlatProblem) -> Nanos {
        let least = |op: usize| (0..flat.gpus).map(|gpu| flat.time[op * flat.gpus + gpu]).min().unwrap_or(0);
        let critical_path = (0..flat.operators).map(|op| least(op) + flat.tail[op]).max().unwrap_or(0) * self.gpus.len() as Nanos;
        let work: Nanos = (0..flat.operators).map(least).sum();
        let excess = u128::from(work.saturating_sub(critical_path));
        (2 * u128::from(FULL_MEAN_WEIGHT) * excess / u128::from(work.max(1))).min(u128::from(FULL_MEAN_WEIGHT)) as Nanos
    }

    /// Replaces the incumbent with `sequence` if the exact evaluator finds that better.
    fn replace_if_better(&mut self, flat: &FlatProblem, sequence: &StageSequence) -> Result<()> {
        let schedule = sequence.to_schedule("best", flat);
        let latency = evaluate(self.problem, &schedule)?.latency;
        if latency < self.incumbent.latency {
            self.incumbent = Incumbent { schedule, latency };
        }
        Ok(())
    }
}
