//! `best`: the better of all other algorithms, improved.
//!
//! ## Steps
//!
//! 1. *Portfolio.* Run every other algorithm, with and without grouping, HIOS-LP with the rule for paths and without it; the lowest latency is the start. So the result is never worse than any of them. Where no GPU has
//!    room for the whole model, the algorithms of one GPU are left out. Where IOS may put chains into a stage (`max_chain`), its schedule is compared, but is not the
//!    start: the search knows stages of independent operators only.
//! 2. *Stop early* when the latency equals a lower bound.
//! 3. *Exact.* Up to [`MAX_OPERATORS`] operators: a short annealing for a good bound, then branch and bound (`branch_and_bound.rs`) on the rest of the
//!    budget. If that ends, the schedule is optimal.
//! 4. *Annealing* (`anneal.rs`) on what is left of the budget. Most moves leave the latency as it is, which is one critical path's. So the
//!    search is guided by the mean time at which the GPUs are done, too, as far as work and not the longest chain of operators decides the latency (`Best::guide`).
//!
//! ## Budget
//!
//! The budget is a number of evaluations, so results do not depend on the machine: by default a million for up to 200 operators, and beyond that
//! as many as keep evaluations times operators constant. `--effort high` is exactly ten times that.

use super::anneal::{Draw, Limits, anneal};
use super::branch_and_bound::{self, MAX_OPERATORS};
use super::placing::linked_gpus;
use super::{Algorithm, Found, Options, schedule_with};
use crate::device::Nanos;
use crate::error::{Error, Result};
use crate::schedule::incremental::{FULL_GUIDE, Flat, Sequence, Timed};
use crate::schedule::memory::{Ledger, one_gpu};
use crate::schedule::{LinkMode, Problem, Schedule, evaluate, lower_bound, lower_bound_ungrouped};

/// Default number of evaluations for up to [`FULL_BUDGET_OPERATORS`] operators.
const EVALUATIONS: u64 = 1_000_000;

/// From here on evaluations times operators stays constant.
const FULL_BUDGET_OPERATORS: u64 = 200;

/// Up to so many operators, the budget is spent on several annealings.
const SMALL_OPERATORS: usize = 64;

/// An evaluation with serial links costs about as much as so many with free ones.
const SERIAL_COST: u64 = 8;

/// The evaluations that the default effort stands for.
pub(super) fn default_evaluations(problem: &Problem) -> u64 {
    let n = (problem.operators() as u64).max(FULL_BUDGET_OPERATORS);
    let serial = if problem.links == LinkMode::Serial { SERIAL_COST } else { 1 };
    (EVALUATIONS * FULL_BUDGET_OPERATORS / n / serial).max(1000)
}

/// A schedule with its latency.
struct Candidate {
    schedule: Schedule,
    latency: Nanos,
}

/// See the top of this file.
pub(super) fn best(problem: &Problem, options: &Options) -> Result<Found> {
    let budget = options.effort.evaluations(problem);
    let grouped = options.max_streams > 1;
    let bound = if grouped { lower_bound(problem) } else { lower_bound_ungrouped(problem) };
    let gpus = linked_gpus(problem);
    let ledger = Ledger::new(problem);
    let candidate = portfolio(problem, &Options { max_chain: 1, ..options.clone() })?;
    let mut search = Best { problem, options, gpus, budget, used: 0, draw: Draw(options.seed), ledger, candidate };
    let mut proven = search.run(bound)?;
    let mut candidate = search.candidate;
    if options.max_chain > 1 && one_gpu(problem).is_ok() {
        let schedule = schedule_with(problem, Algorithm::Ios, options)?.schedule;
        let latency = evaluate(problem, &schedule)?.latency;
        if latency < candidate.latency {
            candidate = Candidate { schedule, latency };
        }
        proven = candidate.latency <= bound;
    }
    let note = if proven { "optimal" } else { "" };
    Ok(Found { schedule: candidate.schedule, evaluations: search.used, note: note.into() })
}

/// The lowest latency of all other algorithms; the first in their order wins ties.
fn portfolio(problem: &Problem, options: &Options) -> Result<Candidate> {
    let mut best: Option<Candidate> = None;
    let fits = one_gpu(problem).is_ok();
    let all = Algorithm::ALL.into_iter().filter(|a| *a != Algorithm::Best && (fits || !a.one_gpu())).map(|a| (a, options.clone()));
    let relaxed = Options { relaxed_paths: !options.relaxed_paths, ..options.clone() };
    let all = all.chain([(Algorithm::InterLp, relaxed.clone()), (Algorithm::HiosLp, relaxed)]);
    for (algorithm, options) in all {
        let schedule = schedule_with(problem, algorithm, &options)?.schedule;
        let latency = evaluate(problem, &schedule)?.latency;
        if best.as_ref().is_none_or(|b| latency < b.latency) {
            best = Some(Candidate { schedule, latency });
        }
    }
    best.ok_or_else(|| Error::internal("schedule", "there are no algorithms"))
}

struct Best<'a> {
    problem: &'a Problem,
    options: &'a Options,
    gpus: Vec<usize>,
    budget: u64,
    used: u64,
    draw: Draw,
    ledger: Ledger<'a>,
    candidate: Candidate,
}

impl Best<'_> {
    /// Spends the budget; whether the result is known to be optimal.
    fn run(&mut self, bound: Nanos) -> Result<bool> {
        let n = self.problem.operators();
        if self.candidate.latency <= bound || n == 0 {
            return Ok(true);
        }
        let max_stage = self.options.max_streams.clamp(1, n);
        let flat = Flat::new(self.problem, max_stage > 1);
        if n <= MAX_OPERATORS {
            self.anneal(&flat, max_stage, (self.budget / 10).min(5_000), true)?;
            let found =
                branch_and_bound::search(self.problem, &flat, &self.gpus, max_stage, self.candidate.latency, self.budget - self.used);
            self.used += found.steps;
            if let Some((sequence, _)) = found.better {
                self.take(&flat, &sequence)?;
            }
            // GPUs without all links are left out of the search.
            return Ok(found.proven && self.gpus.len() == self.problem.gpus);
        }
        // Ten annealings, each from the best so far, find more than one that is ten times as long. Small graphs, with their deep local optima, are
        // annealed several times in any case, every other time without a guide: it leads into other ones.
        let small = n <= SMALL_OPERATORS;
        let times = (self.budget / default_evaluations(self.problem)).max(if small { 5 } else { 1 });
        for round in 0..times {
            self.anneal(&flat, max_stage, self.budget / times, !small || round % 2 == 0)?;
        }
        Ok(self.candidate.latency <= bound)
    }

    /// Anneals from the best schedule known.
    fn anneal(&mut self, flat: &Flat, max_stage: usize, evaluations: u64, guided: bool) -> Result<()> {
        let timeline = evaluate(self.problem, &self.candidate.schedule)?;
        let sequence = Sequence::new(&self.candidate.schedule, &timeline, flat.operators);
        let mut timed = Timed::guided(flat, sequence, if guided { self.guide(flat) } else { 0 });
        let limits = Limits {
            gpus: &self.gpus,
            max_stage,
            evaluations,
            hot: (1.0 / flat.operators as f64).max(0.004),
            // What one GPU gains counts for its share of the mean only.
            cold: if timed.guide > 0 { 0.0001 } else { 0.0004 },
            ledger: &self.ledger,
        };
        let (sequence, _) = anneal(&mut timed, &limits, &mut self.draw);
        self.used += evaluations;
        self.take(flat, &sequence)
    }

    /// How much the search cares about the GPUs that are done before the last: in full where work decides the latency, not at all where the longest chain of operators
    /// takes as long as a GPU's share of the work. There GPUs wait in any case, and the search would only be led astray.
    fn guide(&self, flat: &Flat) -> Nanos {
        let least = |op: usize| (0..flat.gpus).map(|gpu| flat.time[op * flat.gpus + gpu]).min().unwrap_or(0);
        let chain = (0..flat.operators).map(|op| least(op) + flat.tail[op]).max().unwrap_or(0) * self.gpus.len() as Nanos;
        let work: Nanos = (0..flat.operators).map(least).sum();
        let spare = u128::from(work.saturating_sub(chain));
        (2 * u128::from(FULL_GUIDE) * spare / u128::from(work.max(1))).min(u128::from(FULL_GUIDE)) as Nanos
    }

    /// Takes `sequence` if the exact evaluator finds it better.
    fn take(&mut self, flat: &Flat, sequence: &Sequence) -> Result<()> {
        let schedule = sequence.schedule("best", flat);
        let latency = evaluate(self.problem, &schedule)?.latency;
        if latency < self.candidate.latency {
            self.candidate = Candidate { schedule, latency };
        }
        Ok(())
    }
}
