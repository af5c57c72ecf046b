//! Latencies that no schedule of a problem can go below, and what they are made of.
//!
//! A bound is made of the least that each operator takes ([`Least`]) and of the longest chain of
//! operators behind each ([`tails`]). The searches stop early by these two.

use std::collections::BTreeMap;

use super::{MergeCost, Problem, StageCost};
use crate::device::Nanos;

/// A latency that no schedule can go below, whatever its stages: the larger of
///
/// * the critical path: the longest chain of dependent operators, each on its fastest GPU, without transfers;
/// * the work, spread evenly over all GPUs. Operators that share a stage share its time, but never below
///   `0.5 * w * (1 + utilisation)` for each of them, so that is the work of an operator, on the GPU where it is least.
///
/// A stage whose latency is known takes that; its operators share it in proportion to their times alone, and none of them is done sooner.
pub fn lower_bound(problem: &Problem) -> Nanos {
    bound(problem, &Least::grouped(problem))
}

/// A latency that no schedule of one operator a stage can go below: as [`lower_bound`], but the work of an operator is all its time. This is the
/// bound that published comparisons use.
pub fn lower_bound_ungrouped(problem: &Problem) -> Nanos {
    bound(problem, &Least::alone(problem))
}

fn bound(problem: &Problem, least: &Least) -> Nanos {
    let ops = || 0..problem.operators();
    let tails = tails(problem, &least.time);
    let critical_path = ops().map(|op| on_fastest(&least.time, op, problem.gpus) + tails[op]).max().unwrap_or(0);
    let work: Nanos = ops().map(|op| on_fastest(&least.work, op, problem.gpus)).sum();
    critical_path.max(work.div_ceil(problem.gpus as Nanos))
}

/// What each operator takes at the least, by `op * gpus + gpu`.
pub(super) struct Least {
    /// What it adds to the busy time of the GPU, whatever stage it is in.
    pub work: Vec<Nanos>,
    /// How long its stage lasts.
    pub time: Vec<Nanos>,
}

impl Least {
    /// Where each operator is alone in its stage.
    pub fn alone(problem: &Problem) -> Least {
        let time = problem.time.concat();
        Least { work: time.clone(), time }
    }

    /// Where a stage may hold several operators.
    pub fn grouped(problem: &Problem) -> Least {
        let mut time = problem.time.concat();
        let share = |(&t, u): (&Nanos, f64)| (0.5 * t as f64 * (1.0 + u)).floor() as Nanos;
        let mut work = time.iter().zip(problem.utilisation.concat()).map(share).collect::<Vec<_>>();
        share_known_stages(problem, &time.clone(), &mut work, &mut time);
        Least { work, time }
    }
}

/// `tails[op]`: the longest chain of operators behind each one, each on the GPU where it takes
/// least. `time[op * gpus + gpu]` is what they take.
pub(super) fn tails(problem: &Problem, time: &[Nanos]) -> Vec<Nanos> {
    let mut makes = vec![Vec::new(); problem.operators()];
    for edge in &problem.edges {
        makes[edge.producer.index()].push(edge);
    }
    let mut tails = vec![0; problem.operators()];
    for op in problem.order.iter().rev().map(|op| op.index()) {
        let readers = makes[op].iter().flat_map(|edge| &edge.consumers).map(|reader| reader.index());
        tails[op] = readers.map(|reader| on_fastest(time, reader, problem.gpus) + tails[reader]).max().unwrap_or(0);
    }
    tails
}

/// `of[op * gpus + gpu]` on the GPU where it is least.
fn on_fastest(of: &[Nanos], op: usize, gpus: usize) -> Nanos {
    of[op * gpus..(op + 1) * gpus].iter().copied().min().unwrap_or(0)
}

/// A stage whose latency is known may be shorter than the model thinks possible: its operators share it in proportion to their times alone, and are done
/// no sooner.
fn share_known_stages(problem: &Problem, time: &[Nanos], work: &mut [Nanos], shortest: &mut [Nanos]) {
    let gpus = problem.gpus;
    // `known` ns on `gpu` for the operators `stage`, shared by each of `sharers`.
    let mut share = |gpu: usize, known: Nanos, stage: &[usize], sharers: &mut dyn Iterator<Item = usize>| {
        let alone: Nanos = stage.iter().map(|op| time[op * gpus + gpu]).sum();
        for at in sharers.map(|op| op * gpus + gpu) {
            work[at] = work[at].min((u128::from(known) * u128::from(time[at]) / u128::from(alone)) as Nanos);
            shortest[at] = shortest[at].min(known);
        }
    };
    let mut of_kind: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
    problem.ids().for_each(|op| of_kind.entry(problem.kind(op)).or_default().push(op.index()));
    for StageCost { kinds, times } in &problem.stages {
        // Operators of one kind have the same time: the first of them stands for all.
        let Some(operators) = kinds.iter().map(|kind| of_kind.get(kind)).collect::<Option<Vec<_>>>() else { continue };
        let stage: Vec<usize> = operators.iter().map(|ops| ops[0]).collect();
        for (gpu, known) in times.iter().enumerate().filter_map(|(gpu, time)| Some((gpu, (*time)?))) {
            share(gpu, known, &stage, &mut operators.iter().flat_map(|ops| ops.iter().copied()));
        }
    }
    for MergeCost { operators, times } in &problem.merges {
        let stage: Vec<usize> = operators.iter().map(|op| op.index()).collect();
        times.iter().enumerate().for_each(|(gpu, &known)| share(gpu, known, &stage, &mut stage.iter().copied()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::LinkMode;

    #[test]
    fn bounds_of_a_diamond() {
        let text = "4\n0 4 0.5\n1 4 0.5\n2 4 0.5\n3 4 0.5\n4\n0 1 1\n0 2 1\n1 3 1\n2 3 1\n";
        let diamond = Problem::from_dag_text(text, 2, LinkMode::Free).unwrap();
        assert_eq!(lower_bound(&diamond), 12_000_000);
        assert_eq!(lower_bound_ungrouped(&diamond), 12_000_000);
        let alone = Problem::from_dag_text("3\n0 4 0.5\n1 4 0.5\n2 4 0.5\n0\n", 2, LinkMode::Free).unwrap();
        assert_eq!(lower_bound_ungrouped(&alone), 6_000_000);
        assert_eq!(lower_bound(&alone), 4_500_000);
    }
}
