//! Lower bounds on the latency of any schedule of a [`Problem`]: `best` stops when it reaches one,
//! and `verify.rs` checks latencies against them.

use std::collections::BTreeMap;

use super::{MergeCost, Problem, StageCost};
use crate::device::Nanos;

/// A lower bound on the latency of any schedule, with any stages. The larger of
///
/// * the critical path: the longest path of dependent operators, each on its fastest GPU, without
///   transfers;
/// * the work, spread evenly over all GPUs. An operator adds at least `0.5 * w * (1 + utilisation)`
///   to the time of its stage. That is its work, on the GPU where it is least.
///
/// A stage of known latency may be faster. Then its operators share that latency in proportion to
/// their times alone, and none of them finishes sooner.
pub fn lower_bound(problem: &Problem) -> Nanos {
    let mut work: Vec<Vec<Nanos>> = Vec::new();
    for (times, utilisations) in problem.time.iter().zip(&problem.utilisation) {
        work.push(times.iter().zip(utilisations).map(|(&t, u)| (0.5 * t as f64 * (1.0 + u)).floor() as Nanos).collect());
    }
    let mut shortest = problem.time.clone();
    let mut share = |gpu: usize, stage: &[usize], same_class: &[Vec<usize>], t: Nanos| {
        let alone: Nanos = stage.iter().map(|&op| problem.time[op][gpu]).sum();
        for &op in stage.iter().flat_map(|&op| &same_class[op]) {
            let share = (u128::from(t) * u128::from(problem.time[op][gpu]) / u128::from(alone)) as Nanos;
            work[op][gpu] = work[op][gpu].min(share);
            shortest[op][gpu] = shortest[op][gpu].min(t);
        }
    };
    // Operators of one cost class take the same time, so any of them stands for all.
    let itself: Vec<Vec<usize>> = (0..problem.operators()).map(|op| vec![op]).collect();
    let cost_class = |op: usize| problem.cost_classes.get(op).map_or(op as u32, |&k| k);
    let mut of_class: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
    (0..problem.operators()).for_each(|op| of_class.entry(cost_class(op)).or_default().push(op));
    let same_class: Vec<Vec<usize>> = (0..problem.operators()).map(|op| of_class[&cost_class(op)].clone()).collect();
    for StageCost { cost_classes, times } in &problem.stages {
        let stage: Vec<usize> = cost_classes.iter().filter_map(|cost_class| of_class.get(cost_class)).map(|ops| ops[0]).collect();
        if stage.len() == cost_classes.len() {
            times.iter().enumerate().filter_map(|(gpu, t)| Some((gpu, (*t)?))).for_each(|(gpu, t)| share(gpu, &stage, &same_class, t));
        }
    }
    for MergeCost { operators, times } in &problem.operator_merges {
        let stage: Vec<usize> = operators.iter().map(|op| op.index()).collect();
        times.iter().enumerate().for_each(|(gpu, &t)| share(gpu, &stage, &itself, t));
    }
    critical_path(problem, &shortest).max(even_share(problem, |op, gpu| work[op][gpu]))
}

/// A lower bound on the latency of any schedule with one operator per stage: like [`lower_bound`],
/// but an operator's work is its whole time. Published comparisons use this bound.
pub fn lower_bound_ungrouped(problem: &Problem) -> Nanos {
    critical_path(problem, &problem.time).max(even_share(problem, |op, gpu| problem.time[op][gpu]))
}

fn critical_path(problem: &Problem, time: &[Vec<Nanos>]) -> Nanos {
    let mut start = vec![0; problem.time.len()];
    let mut makes = vec![Vec::new(); problem.time.len()];
    for edge in &problem.edges {
        makes[edge.producer.index()].push(edge);
    }
    let mut longest = 0;
    for op in &problem.order {
        let finish: Nanos = start[op.index()] + time[op.index()].iter().min().copied().unwrap_or(0);
        longest = longest.max(finish);
        for reader in makes[op.index()].iter().flat_map(|edge| &edge.consumers) {
            start[reader.index()] = finish.max(start[reader.index()]);
        }
    }
    longest
}

fn even_share(problem: &Problem, work: impl Fn(usize, usize) -> Nanos) -> Nanos {
    let least = |op: usize| (0..problem.gpus).map(|gpu| work(op, gpu)).min().unwrap_or(0);
    let total: Nanos = (0..problem.time.len()).map(least).sum();
    total.div_ceil(problem.gpus as Nanos)
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
