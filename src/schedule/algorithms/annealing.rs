//! Simulated annealing over mapping, order and stages: the local search of `best`.
//!
//! There are two kinds of moves:
//!
//! * A *shift* takes one operator out of its stage and inserts it elsewhere in the sequence
//!   (`incremental/sequence.rs`), alone or into another stage, on the same or another GPU.
//! * An *exchange* (five of sixteen moves) takes two operators of different GPUs that are near each
//!   other in the sequence. Each gets the other's GPU and, where dependencies allow, the other's
//!   position in its stage.
//!
//! Shifts change the load of a GPU by a whole operator at a time. Once the load is balanced, only
//! exchanges keep it so.
//!
//! Half of the moves take an operator of the critical path, for only these can lower the latency.
//! The other half take any operator, which frees time for later moves. A move that raises the cost
//! (`incremental/evaluator.rs`) by d is kept with probability exp(-d / T). The random number is
//! drawn first and gives the largest cost that would be accepted, so that the evaluator can stop
//! early. The temperature T falls geometrically over the budget, from a little above the usual
//! difference that a move makes to nearly nothing.
//!
//! The budget is a number of moves tried (evaluations). All random numbers come from one seeded
//! generator, and the arithmetic is the same on every machine.

use std::ops::Range;

use rand_xoshiro::SplitMix64;
use rand_xoshiro::rand_core::Rng;

use crate::device::Nanos;
use crate::progress;
use crate::schedule::incremental::{IncrementalEvaluator, StageSequence};
use crate::schedule::memory::WeightBudget;

/// How many of sixteen moves are exchanges.
const EXCHANGES: u64 = 5;

/// The largest distance in the sequence between operators that are exchanged: about that between
/// operators that run at the same time.
const EXCHANGE_DISTANCE: usize = 16;

/// A uniform random number below `limit`, which must not be 0.
fn below(rng: &mut SplitMix64, limit: usize) -> usize {
    ((u128::from(rng.next_u64()) * limit as u128) >> 64) as usize
}

/// A random number with an exponential distribution of mean 1, up to a small error: minus the
/// logarithm of a uniform number, with the mantissa's part taken as linear. A library logarithm
/// could differ between machines.
fn exponential(rng: &mut SplitMix64) -> f64 {
    let bits = rng.next_u64() | 1;
    let zeros = bits.leading_zeros();
    let mantissa = (bits << zeros) as f64 / 18_446_744_073_709_551_616.0; // in [0.5, 1)
    (f64::from(zeros) + 2.0 * (1.0 - mantissa)) * std::f64::consts::LN_2
}

/// What the search may do, and for how long.
pub(super) struct AnnealingOptions<'a> {
    /// GPUs to use.
    pub gpus: &'a [usize],
    /// The most operators in a stage.
    pub max_stage: usize,
    /// Moves to try.
    pub evaluations: u64,
    /// What the whole search has tried before, and will have tried at its end. For progress only.
    pub search: (u64, u64),
    /// First temperature, relative to the latency.
    pub start_temperature: f64,
    /// Last temperature, relative to the latency.
    pub end_temperature: f64,
    /// The problem's weight budget, with no operator placed.
    pub budget: &'a WeightBudget<'a>,
}

/// The best sequence found, starting from the current one, and its latency.
pub(super) fn anneal(evaluator: &mut IncrementalEvaluator, options: &AnnealingOptions, rng: &mut SplitMix64) -> (StageSequence, Nanos) {
    let mut best = (evaluator.sequence.clone(), evaluator.current.latency);
    let n = evaluator.flat.operators;
    if n < 2 {
        return best;
    }
    let mut temperature = options.start_temperature * evaluator.current.latency as f64;
    const ROUND: u64 = 256;
    let rounds = options.evaluations.div_ceil(ROUND);
    let cooling = power(options.end_temperature / options.start_temperature, 1.0 / rounds.max(1) as f64);
    let mut annealer = Annealer { critical: Vec::new(), stale: true, budget: options.budget.clone() };
    evaluator.sequence.gpu.iter().enumerate().for_each(|(op, &gpu)| annealer.budget.add(op, gpu as usize));
    let mut tried = 0;
    while tried < options.evaluations {
        for _ in 0..ROUND.min(options.evaluations - tried) {
            tried += 1;
            let limit = evaluator.current.cost + (temperature * exponential(rng)) as Nanos;
            if annealer.step(evaluator, options, limit, rng) && evaluator.current.latency < best.1 {
                best.1 = evaluator.current.latency;
                best.0.clone_from(&evaluator.sequence);
            }
        }
        temperature *= cooling;
        progress::step("searching for a schedule", options.search.0 + tried, options.search.1);
    }
    best
}

/// `x` to the power of `y`, for x in (0, 1] and y in [0, 1]. Uses only multiplications and square
/// roots, whose results are the same on every machine.
fn power(x: f64, y: f64) -> f64 {
    let (mut result, mut root, mut rest) = (1.0, x, y);
    for _ in 0..60 {
        root = f64::sqrt(root);
        rest *= 2.0;
        if rest >= 1.0 {
            rest -= 1.0;
            result *= root;
        }
    }
    result
}

struct Annealer<'a> {
    /// The operators of a critical path of the current sequence, unless `stale`.
    critical: Vec<u32>,
    stale: bool,
    /// The weights on each GPU in the current sequence.
    budget: WeightBudget<'a>,
}

impl Annealer<'_> {
    /// Tries one move. Returns whether it was kept.
    fn step(&mut self, evaluator: &mut IncrementalEvaluator, options: &AnnealingOptions, limit: Nanos, rng: &mut SplitMix64) -> bool {
        let n = evaluator.flat.operators;
        let choice = rng.next_u64();
        let op = if choice & 1 == 0 {
            if self.stale {
                evaluator.critical_path(&mut self.critical);
                self.stale = false;
            }
            self.critical[below(rng, self.critical.len())] as usize
        } else {
            below(rng, n)
        };
        let kept = if options.gpus.len() > 1 && (choice >> 40) & 15 < EXCHANGES {
            self.exchange(evaluator, options, limit, rng, op)
        } else {
            self.shift(evaluator, options, limit, rng, op, choice)
        };
        self.stale |= kept;
        kept
    }

    /// Exchanges `op` and an operator near it on another GPU. Returns whether the move was kept.
    fn exchange(
        &mut self,
        evaluator: &mut IncrementalEvaluator,
        options: &AnnealingOptions,
        limit: Nanos,
        rng: &mut SplitMix64,
        op: usize,
    ) -> bool {
        let from = evaluator.position[op] as usize;
        let low = from.saturating_sub(EXCHANGE_DISTANCE);
        let to = low + below(rng, (from + EXCHANGE_DISTANCE).min(evaluator.flat.operators - 1) - low + 1);
        let other = evaluator.sequence.order[to] as usize;
        let gpus = [op, other].map(|op| evaluator.sequence.gpu[op]);
        if gpus[0] == gpus[1] || !gpus.iter().all(|&gpu| options.gpus.contains(&(gpu as usize))) {
            return false;
        }
        let stages = [evaluator.stage_range(from), evaluator.stage_range(to)];
        // Whether an operator may be in the other's stage: after its producers, before its readers.
        let may_stand = |op: usize, stage: &Range<usize>| {
            let range = evaluator.movable_range(op);
            *range.start() <= stage.start && stage.end - 1 <= *range.end()
        };
        let swap_positions = may_stand(op, &stages[1]) && may_stand(other, &stages[0]);
        if !swap_positions && stages.iter().any(|stage| stage.len() > 1) {
            return false;
        }
        if !self.budget.try_exchange((op, gpus[0] as usize), (other, gpus[1] as usize)) {
            return false;
        }
        evaluator.exchange(from, to, swap_positions);
        let begin = stages[0].start.min(stages[1].start);
        if let Some(evaluation) = evaluator.try_change(begin, limit) {
            evaluator.commit(begin, evaluation);
            return true;
        }
        evaluator.exchange(from, to, swap_positions);
        self.budget.try_exchange((op, gpus[1] as usize), (other, gpus[0] as usize));
        false
    }

    /// Moves `op` elsewhere. Returns whether the move was kept.
    fn shift(
        &mut self,
        evaluator: &mut IncrementalEvaluator,
        options: &AnnealingOptions,
        limit: Nanos,
        rng: &mut SplitMix64,
        op: usize,
        choice: u64,
    ) -> bool {
        let n = evaluator.flat.operators;
        let old_gpu = evaluator.sequence.gpu[op];
        let from = evaluator.position[op] as usize;
        // The positions where the operator may go, counted after it is taken out.
        let (first, last) = evaluator.movable_range(op).into_inner();
        let mut gpu = old_gpu;
        if options.gpus.len() > 1 && choice & 6 != 0 {
            gpu = if choice & 32 == 0 { options.gpus[below(rng, options.gpus.len())] as u32 } else { neighbour_gpu(evaluator, op, rng) };
        }
        let grouped = &mut evaluator.sequence.grouped;
        let next = evaluator.sequence.order.get(from + 1).map(|&op| op as usize);
        let was_grouped = grouped[op];
        let heads_stage = !was_grouped && next.is_some_and(|next| grouped[next]);
        let to = if gpu != old_gpu && choice & 8 == 0 { from } else { first + below(rng, last - first + 1) };
        if to == from && gpu == old_gpu && !was_grouped && !heads_stage && options.max_stage < 2 {
            return false;
        }
        // The beginning of the stage that the operator leaves.
        let begin = evaluator.stage_range(from).start;
        let grouped = &mut evaluator.sequence.grouped;
        // Take it out.
        if heads_stage && let Some(next) = next {
            grouped[next] = false;
        }
        grouped[op] = false;
        evaluator.shift(from, to);
        let mut begin = begin.min(to);
        let grouped = &mut evaluator.sequence.grouped;
        let order = &evaluator.sequence.order;
        let mut fits = true;
        if options.max_stage > 1 {
            // In the middle of a stage, an operator can only join it.
            let splits = order.get(to + 1).is_some_and(|&after| grouped[after as usize]);
            if to > 0 && (splits || choice & 16 == 0) {
                let mut start = to - 1;
                while grouped[order[start] as usize] {
                    start -= 1;
                }
                let mut end = to + 1;
                while end < n && grouped[order[end] as usize] {
                    end += 1;
                }
                let head = order[start];
                fits = end - start <= options.max_stage
                    && first <= start
                    && end - 1 <= last
                    && options.gpus.contains(&(evaluator.sequence.gpu[head as usize] as usize));
                if fits {
                    gpu = evaluator.sequence.gpu[head as usize];
                    grouped[op] = true;
                    begin = begin.min(start);
                } else if !splits {
                    fits = true;
                }
            } else if splits {
                fits = false;
            }
        }
        fits = fits && (gpu == old_gpu || self.budget.try_move(op, old_gpu as usize, gpu as usize));
        if fits {
            if gpu != old_gpu {
                evaluator.set_gpu(op, gpu);
            }
            if let Some(evaluation) = evaluator.try_change(begin, limit) {
                evaluator.commit(begin, evaluation);
                return true;
            }
            if gpu != old_gpu {
                evaluator.set_gpu(op, old_gpu);
                self.budget.try_move(op, gpu as usize, old_gpu as usize);
            }
        }
        evaluator.shift(to, from);
        evaluator.sequence.grouped[op] = was_grouped;
        if heads_stage && let Some(next) = next {
            evaluator.sequence.grouped[next] = true;
        }
        false
    }
}

/// The GPU of an operator that `op` reads from or that reads from it; its own if there is none.
fn neighbour_gpu(evaluator: &IncrementalEvaluator, op: usize, rng: &mut SplitMix64) -> u32 {
    let (inputs, readers) = (evaluator.flat.inputs(op), evaluator.flat.readers(op));
    if inputs.len() + readers.len() == 0 {
        return evaluator.sequence.gpu[op];
    }
    let choice = below(rng, inputs.len() + readers.len());
    let other = if choice < inputs.len() { inputs[choice].producer } else { readers[choice - inputs.len()] };
    evaluator.sequence.gpu[other as usize]
}

#[cfg(test)]
mod tests {
    use rand_xoshiro::rand_core::SeedableRng;

    use super::super::{baselines, sliding_window};
    use super::*;
    use crate::ids::OpId;
    use crate::schedule::incremental::FlatProblem;
    use crate::schedule::{LinkMode, Problem, Schedule, Stage, evaluate};

    /// One GPU takes 91 ns, the other 52. Whatever operator moves, the latency grows. Exchanging
    /// two makes it 72.
    #[test]
    fn an_exchange_helps_where_no_shift_does() {
        let problem = Problem::from_dag_text("4\n0 50e-6 1\n1 41e-6 1\n2 31e-6 1\n3 21e-6 1\n0\n", 2, LinkMode::Free).unwrap();
        let gpu = |ops: [u32; 2]| ops.map(|op| Stage { operators: vec![OpId(op)] }).to_vec();
        let schedule = Schedule { algorithm: "test".into(), gpus: vec![gpu([0, 1]), gpu([2, 3])] };
        let timeline = evaluate(&problem, &schedule).unwrap();
        assert_eq!(timeline.latency, 91);
        let flat = FlatProblem::new(&problem, false);
        let mut evaluator = IncrementalEvaluator::new(&flat, StageSequence::new(&schedule, &timeline, 4));
        let end_temperature = 1e-9; // nothing that is worse is kept
        let options = AnnealingOptions {
            gpus: &[0, 1],
            max_stage: 1,
            evaluations: 200,
            search: (0, 200),
            start_temperature: end_temperature,
            end_temperature,
            budget: &WeightBudget::new(&problem),
        };
        assert_eq!(anneal(&mut evaluator, &options, &mut SplitMix64::seed_from_u64(0)).1, 72);
    }

    fn problem(rng: &mut SplitMix64, n: usize, gpus: usize, links: LinkMode) -> Problem {
        let mut text = format!("{n}\n");
        for op in 0..n {
            text += &format!("{op} {}e-6 0.{}\n", 1 + below(rng, 9), 1 + below(rng, 9));
        }
        let mut edges = std::collections::BTreeSet::new();
        for _ in 0..2 * n {
            let (a, b) = (below(rng, n), below(rng, n));
            if a != b {
                edges.insert((a.min(b), a.max(b)));
            }
        }
        text += &format!("{}\n", edges.len());
        for (a, b) in edges {
            text += &format!("{a} {b} {}e-6\n", below(rng, 9));
        }
        let mut problem = Problem::from_dag_text(&text, gpus, links).unwrap();
        // About half of the problems have unequal GPUs and links.
        if below(rng, 2) == 0 {
            for row in &mut problem.time {
                row.iter_mut().for_each(|t| *t = 1 + below(rng, 9) as Nanos);
            }
            for edge in &mut problem.edges {
                edge.transfer.iter_mut().flatten().flatten().for_each(|t| *t = below(rng, 9) as Nanos);
            }
        }
        problem
    }

    /// After thousands of moves, kept and refused, the latency is that of the exact evaluator.
    #[test]
    fn the_latency_is_the_evaluators() {
        let mut rng = SplitMix64::seed_from_u64(3);
        for round in 0..120 {
            let links = if round % 2 == 0 { LinkMode::Free } else { LinkMode::Serial };
            let (n, gpus) = (2 + below(&mut rng, 40), 1 + below(&mut rng, 4));
            let problem = problem(&mut rng, n, gpus, links);
            let max_stage = 1 + round % 3;
            let flat = FlatProblem::new(&problem, max_stage > 1);
            let start = baselines::scatter(&problem).unwrap();
            let mut evaluator = IncrementalEvaluator::with_mean_weight(
                &flat,
                StageSequence::new(&start, &evaluate(&problem, &start).unwrap(), n),
                round as Nanos % 4 * 5,
            );
            let all: Vec<usize> = (0..gpus).collect();
            for _ in 0..20 {
                let options = AnnealingOptions {
                    gpus: &all,
                    max_stage,
                    evaluations: 100,
                    search: (0, 100),
                    start_temperature: 0.1,
                    end_temperature: 0.05,
                    budget: &WeightBudget::new(&problem),
                };
                anneal(&mut evaluator, &options, &mut rng);
                let schedule = evaluator.sequence.to_schedule("test", &flat);
                assert!(schedule.gpus.iter().flatten().all(|stage| stage.operators.len() <= max_stage));
                let timeline = evaluate(&problem, &schedule).unwrap();
                assert_eq!(evaluator.current.latency, timeline.latency, "round {round}");
                let fresh = IncrementalEvaluator::new(&flat, evaluator.sequence.clone());
                assert_eq!(
                    (fresh.finish(), &fresh.free_links.finish, &fresh.free_links.gpu_free_at, &fresh.free_links.work_done_at),
                    (
                        evaluator.finish(),
                        &evaluator.free_links.finish,
                        &evaluator.free_links.gpu_free_at,
                        &evaluator.free_links.work_done_at
                    )
                );
                let grouped = sliding_window::group_operators(&problem, schedule, 4, max_stage).unwrap();
                assert!(evaluate(&problem, &grouped).unwrap().latency <= timeline.latency);
            }
        }
    }
}
