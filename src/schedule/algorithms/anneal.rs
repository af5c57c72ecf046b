//! Simulated annealing over mapping, order and stages: the local search of `best`.
//!
//! There are two kinds of moves. A *shift* takes one operator out of its stage and puts it, alone or into another stage, elsewhere in the sequence
//! (see `incremental/sequence.rs`), on the same or another GPU. An *exchange* (five of sixteen moves) gives two operators of different GPUs, near each other in the sequence,
//! each the other's GPU and, where dependencies allow, the other's place in its stage. Shifts change how work is shared out, by a whole
//! operator at a time; once it is shared out evenly, only exchanges keep it so.
//!
//! Half of the moves take an operator of the critical path, for only they can lower the latency; the other half take any, which makes room.
//! A move that makes the cost (the latency, and a part of the mean time at which the GPUs are done: `incremental/sequence.rs`) larger by d is kept with probability exp(-d / T). That is decided before the move is timed: the largest latency that
//! would be accepted is drawn first, so that the evaluator can stop early. The temperature T falls geometrically over the budget, from a little
//! above the usual difference that a move makes to nearly nothing.
//!
//! The budget is a number of moves tried (evaluations). All numbers come from one seeded generator, and the arithmetic is the same on
//! every machine.

use std::ops::Range;

use crate::device::Nanos;
use crate::schedule::incremental::{Sequence, Timed};
use crate::schedule::memory::Ledger;

/// So many of sixteen moves are exchanges.
const EXCHANGES: u64 = 5;

/// Operators that are exchanged are at most so many places from each other: about as far as operators that run at the same time.
const REACH: usize = 16;

/// splitmix64.
pub(super) struct Draw(pub u64);

impl Draw {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `limit`, which is not 0.
    pub fn below(&mut self, limit: usize) -> usize {
        ((u128::from(self.next()) * limit as u128) >> 64) as usize
    }

    /// Exponentially distributed with mean 1, up to a small error: minus the logarithm of a uniform number, the mantissa's part
    /// taken as linear. No library logarithm, which could differ between machines.
    fn exponential(&mut self) -> f64 {
        let bits = self.next() | 1;
        let zeros = bits.leading_zeros();
        let mantissa = (bits << zeros) as f64 / 18_446_744_073_709_551_616.0; // in [0.5, 1)
        (f64::from(zeros) + 2.0 * (1.0 - mantissa)) * std::f64::consts::LN_2
    }
}

/// What the search may do.
pub(super) struct Limits<'a> {
    /// GPUs to use.
    pub gpus: &'a [usize],
    /// The most operators in a stage.
    pub max_stage: usize,
    /// Moves to try.
    pub evaluations: u64,
    /// First temperature, in parts of the latency.
    pub hot: f64,
    /// Last temperature, in parts of the latency.
    pub cold: f64,
    /// An empty ledger of the problem.
    pub ledger: &'a Ledger<'a>,
}

/// The best sequence found from the present one on, and its latency.
pub(super) fn anneal(timed: &mut Timed, limits: &Limits, draw: &mut Draw) -> (Sequence, Nanos) {
    let mut best = (timed.sequence.clone(), timed.now.latency);
    let n = timed.flat.operators;
    if n < 2 {
        return best;
    }
    let mut temperature = limits.hot * timed.now.latency as f64;
    const ROUND: u64 = 256;
    let rounds = limits.evaluations.div_ceil(ROUND);
    let cooling = power(limits.cold / limits.hot, 1.0 / rounds.max(1) as f64);
    let mut search = Search { critical: Vec::new(), stale: true, ledger: limits.ledger.clone() };
    timed.sequence.gpu.iter().enumerate().for_each(|(op, &gpu)| search.ledger.add(op, gpu as usize));
    let mut tried = 0;
    while tried < limits.evaluations {
        for _ in 0..ROUND.min(limits.evaluations - tried) {
            tried += 1;
            let limit = timed.now.cost + (temperature * draw.exponential()) as Nanos;
            if search.step(timed, limits, limit, draw) && timed.now.latency < best.1 {
                best.1 = timed.now.latency;
                best.0.clone_from(&timed.sequence);
            }
        }
        temperature *= cooling;
    }
    best
}

/// `x` to the power of `y`, by multiplications and square roots only, which are exact everywhere: x in (0, 1], y in [0, 1].
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

struct Search<'a> {
    critical: Vec<u32>,
    stale: bool,
    /// The weights on each GPU.
    ledger: Ledger<'a>,
}

impl Search<'_> {
    /// Tries one move; whether it was kept.
    fn step(&mut self, timed: &mut Timed, limits: &Limits, limit: Nanos, draw: &mut Draw) -> bool {
        let n = timed.flat.operators;
        let choice = draw.next();
        let op = if choice & 1 == 0 {
            if self.stale {
                timed.critical(&mut self.critical);
                self.stale = false;
            }
            self.critical[draw.below(self.critical.len())] as usize
        } else {
            draw.below(n)
        };
        let kept = if limits.gpus.len() > 1 && (choice >> 40) & 15 < EXCHANGES {
            self.exchange(timed, limits, limit, draw, op)
        } else {
            self.shift(timed, limits, limit, draw, op, choice)
        };
        self.stale |= kept;
        kept
    }

    /// Exchanges `op` and an operator near it on another GPU; whether that was kept.
    fn exchange(&mut self, timed: &mut Timed, limits: &Limits, limit: Nanos, draw: &mut Draw, op: usize) -> bool {
        let from = timed.place[op] as usize;
        let low = from.saturating_sub(REACH);
        let to = low + draw.below((from + REACH).min(timed.flat.operators - 1) - low + 1);
        let other = timed.sequence.order[to] as usize;
        let gpus = [op, other].map(|op| timed.sequence.gpu[op]);
        if gpus[0] == gpus[1] || !gpus.iter().all(|&gpu| limits.gpus.contains(&(gpu as usize))) {
            return false;
        }
        let stages = [timed.stage(from), timed.stage(to)];
        // Each in the other's stage: behind what it reads, before what reads it.
        let stands = |op: usize, stage: &Range<usize>| {
            let span = timed.span(op);
            *span.start() <= stage.start && stage.end - 1 <= *span.end()
        };
        let places = stands(op, &stages[1]) && stands(other, &stages[0]);
        if !places && stages.iter().any(|stage| stage.len() > 1) {
            return false;
        }
        if !self.ledger.exchanges((op, gpus[0] as usize), (other, gpus[1] as usize)) {
            return false;
        }
        timed.exchange(from, to, places);
        let begin = stages[0].start.min(stages[1].start);
        if let Some(outcome) = timed.try_from(begin, limit) {
            timed.keep(begin, outcome);
            return true;
        }
        timed.exchange(from, to, places);
        self.ledger.exchanges((op, gpus[1] as usize), (other, gpus[0] as usize));
        false
    }

    /// Puts `op` elsewhere; whether that was kept.
    fn shift(&mut self, timed: &mut Timed, limits: &Limits, limit: Nanos, draw: &mut Draw, op: usize, choice: u64) -> bool {
        let n = timed.flat.operators;
        let old_gpu = timed.sequence.gpu[op];
        let from = timed.place[op] as usize;
        // Where the operator may go (places after it has been taken out).
        let (first, last) = timed.span(op).into_inner();
        let mut gpu = old_gpu;
        if limits.gpus.len() > 1 && choice & 6 != 0 {
            gpu = if choice & 32 == 0 { limits.gpus[draw.below(limits.gpus.len())] as u32 } else { neighbour_gpu(timed, op, draw) };
        }
        let joined = &mut timed.sequence.joined;
        let next = timed.sequence.order.get(from + 1).map(|&op| op as usize);
        let was_joined = joined[op];
        let heads_stage = !was_joined && next.is_some_and(|next| joined[next]);
        let to = if gpu != old_gpu && choice & 8 == 0 { from } else { first + draw.below(last - first + 1) };
        if to == from && gpu == old_gpu && !was_joined && !heads_stage && limits.max_stage < 2 {
            return false;
        }
        // Beginning of the stage that the operator leaves.
        let begin = timed.stage(from).start;
        let joined = &mut timed.sequence.joined;
        // Take it out.
        if heads_stage && let Some(next) = next {
            joined[next] = false;
        }
        joined[op] = false;
        timed.shift(from, to);
        let mut begin = begin.min(to);
        let joined = &mut timed.sequence.joined;
        let order = &timed.sequence.order;
        let mut fits = true;
        if limits.max_stage > 1 {
            // In the middle of a stage an operator can only join it.
            let splits = order.get(to + 1).is_some_and(|&after| joined[after as usize]);
            if to > 0 && (splits || choice & 16 == 0) {
                let mut start = to - 1;
                while joined[order[start] as usize] {
                    start -= 1;
                }
                let mut end = to + 1;
                while end < n && joined[order[end] as usize] {
                    end += 1;
                }
                let head = order[start];
                fits = end - start <= limits.max_stage
                    && first <= start
                    && end - 1 <= last
                    && limits.gpus.contains(&(timed.sequence.gpu[head as usize] as usize));
                if fits {
                    gpu = timed.sequence.gpu[head as usize];
                    joined[op] = true;
                    begin = begin.min(start);
                } else if !splits {
                    fits = true;
                }
            } else if splits {
                fits = false;
            }
        }
        fits = fits && (gpu == old_gpu || self.ledger.moves(op, old_gpu as usize, gpu as usize));
        if fits {
            if gpu != old_gpu {
                timed.set_gpu(op, gpu);
            }
            if let Some(outcome) = timed.try_from(begin, limit) {
                timed.keep(begin, outcome);
                return true;
            }
            if gpu != old_gpu {
                timed.set_gpu(op, old_gpu);
                self.ledger.moves(op, gpu as usize, old_gpu as usize);
            }
        }
        timed.shift(to, from);
        timed.sequence.joined[op] = was_joined;
        if heads_stage && let Some(next) = next {
            timed.sequence.joined[next] = true;
        }
        false
    }
}

/// The GPU of an operator that `op` reads from, or that reads from it; its own if there is none.
fn neighbour_gpu(timed: &Timed, op: usize, draw: &mut Draw) -> u32 {
    let (inputs, readers) = (timed.flat.inputs(op), timed.flat.readers(op));
    if inputs.len() + readers.len() == 0 {
        return timed.sequence.gpu[op];
    }
    let choice = draw.below(inputs.len() + readers.len());
    let other = if choice < inputs.len() { inputs[choice].producer } else { readers[choice - inputs.len()] };
    timed.sequence.gpu[other as usize]
}

#[cfg(test)]
mod tests {
    use super::super::{baselines, window};
    use super::*;
    use crate::ids::OpId;
    use crate::schedule::incremental::Flat;
    use crate::schedule::{LinkMode, Problem, Schedule, Stage, evaluate};

    /// 91 ns on one GPU, 52 on the other: whatever operator moves, the latency grows. Two that change places make it 72.
    #[test]
    fn an_exchange_helps_where_no_shift_does() {
        let problem = Problem::from_dag_text("4\n0 50e-6 1\n1 41e-6 1\n2 31e-6 1\n3 21e-6 1\n0\n", 2, LinkMode::Free).unwrap();
        let gpu = |ops: [u32; 2]| ops.map(|op| Stage { operators: vec![OpId(op)] }).to_vec();
        let schedule = Schedule { algorithm: "test".into(), gpus: vec![gpu([0, 1]), gpu([2, 3])] };
        let timeline = evaluate(&problem, &schedule).unwrap();
        assert_eq!(timeline.latency, 91);
        let flat = Flat::new(&problem, false);
        let mut timed = Timed::new(&flat, Sequence::new(&schedule, &timeline, 4));
        let cold = 1e-9; // nothing that is worse is kept
        let limits = Limits { gpus: &[0, 1], max_stage: 1, evaluations: 200, hot: cold, cold, ledger: &Ledger::new(&problem) };
        assert_eq!(anneal(&mut timed, &limits, &mut Draw(0)).1, 72);
    }

    fn problem(draw: &mut Draw, n: usize, gpus: usize, links: LinkMode) -> Problem {
        let mut text = format!("{n}\n");
        for op in 0..n {
            text += &format!("{op} {}e-6 0.{}\n", 1 + draw.below(9), 1 + draw.below(9));
        }
        let mut edges = std::collections::BTreeSet::new();
        for _ in 0..2 * n {
            let (a, b) = (draw.below(n), draw.below(n));
            if a != b {
                edges.insert((a.min(b), a.max(b)));
            }
        }
        text += &format!("{}\n", edges.len());
        for (a, b) in edges {
            text += &format!("{a} {b} {}e-6\n", draw.below(9));
        }
        let mut problem = Problem::from_dag_text(&text, gpus, links).unwrap();
        // Every other problem has unequal GPUs and links.
        if draw.below(2) == 0 {
            for row in &mut problem.time {
                row.iter_mut().for_each(|t| *t = 1 + draw.below(9) as Nanos);
            }
            for edge in &mut problem.edges {
                edge.transfer.iter_mut().flatten().flatten().for_each(|t| *t = draw.below(9) as Nanos);
            }
        }
        problem
    }

    /// After thousands of moves, kept and refused, the latency is that of the exact evaluator.
    #[test]
    fn the_latency_is_the_evaluators() {
        let mut draw = Draw(3);
        for round in 0..120 {
            let links = if round % 2 == 0 { LinkMode::Free } else { LinkMode::Serial };
            let (n, gpus) = (2 + draw.below(40), 1 + draw.below(4));
            let problem = problem(&mut draw, n, gpus, links);
            let max_stage = 1 + round % 3;
            let flat = Flat::new(&problem, max_stage > 1);
            let start = baselines::scatter(&problem).unwrap();
            let mut timed = Timed::guided(&flat, Sequence::new(&start, &evaluate(&problem, &start).unwrap(), n), round as Nanos % 4 * 5);
            let all: Vec<usize> = (0..gpus).collect();
            for _ in 0..20 {
                let limits = Limits { gpus: &all, max_stage, evaluations: 100, hot: 0.1, cold: 0.05, ledger: &Ledger::new(&problem) };
                anneal(&mut timed, &limits, &mut draw);
                let schedule = timed.sequence.schedule("test", &flat);
                assert!(schedule.gpus.iter().flatten().all(|stage| stage.operators.len() <= max_stage));
                let timeline = evaluate(&problem, &schedule).unwrap();
                assert_eq!(timed.now.latency, timeline.latency, "round {round}");
                let fresh = Timed::new(&flat, timed.sequence.clone());
                assert_eq!(
                    (fresh.finish(), &fresh.bound.finish, &fresh.bound.free_at, &fresh.bound.done_at),
                    (timed.finish(), &timed.bound.finish, &timed.bound.free_at, &timed.bound.done_at)
                );
                let grouped = window::group(&problem, schedule, 4, max_stage).unwrap();
                assert!(evaluate(&problem, &grouped).unwrap().latency <= timeline.latency);
            }
        }
    }
}
