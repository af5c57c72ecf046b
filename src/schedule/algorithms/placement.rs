//! Shared by the algorithms that place operators one after the other.
//!
//! * Before: the GPUs that they may use ([`linked_gpus`]).
//! * After: the resulting schedule, one operator per stage ([`one_operator_stages`]).
//! * If an operator fits nowhere: a plain packing instead ([`largest_first`]).

use crate::error::{Error, Result};
use crate::ids::OpId;
use crate::schedule::memory::WeightBudget;
use crate::schedule::{Problem, Schedule, Stage};

/// GPUs that are all linked to each other in both directions, ascending. Starting from the fastest
/// GPU, this adds each further GPU, lowest first, that has a link for every tensor to and from all
/// GPUs taken before.
///
/// Algorithms that place operators one after the other use only these. On GPUs that are not all
/// linked, they could put the producers and the readers of an operator where no GPU reaches both,
/// and end without a schedule. On most machines, these are all the GPUs, since copies can at least
/// go through host memory.
pub(super) fn linked_gpus(problem: &Problem) -> Vec<usize> {
    let mut linked = vec![vec![true; problem.gpus]; problem.gpus];
    for edge in &problem.edges {
        for (from, row) in edge.transfer.iter().enumerate() {
            for (to, time) in row.iter().enumerate() {
                linked[from][to] &= time.is_some() || from == to;
            }
        }
    }
    let both_ways = |a: usize, b: usize| linked[a][b] && linked[b][a];
    let mut chosen = vec![fastest_gpu(problem)];
    for gpu in 0..problem.gpus {
        if !chosen.contains(&gpu) && chosen.iter().all(|&other| both_ways(gpu, other)) {
            chosen.push(gpu);
        }
    }
    chosen.sort_unstable();
    chosen
}

/// The GPU on which all operators together take the least time (ties: the lowest).
fn fastest_gpu(problem: &Problem) -> usize {
    let total = |gpu: usize| problem.time.iter().map(|row| row[gpu]).sum::<u64>();
    (0..problem.gpus).min_by_key(|&gpu| total(gpu)).unwrap_or(0)
}

/// The schedule that runs these operators, in this order, on these GPUs, one operator per stage.
pub(super) fn one_operator_stages(algorithm: &str, gpus: usize, placed: impl Iterator<Item = (OpId, usize)>) -> Schedule {
    let mut lists = vec![Vec::new(); gpus];
    for (op, gpu) in placed {
        lists[gpu].push(Stage { operators: vec![op] });
    }
    Schedule { algorithm: algorithm.into(), gpus: lists }
}

/// A placement that fits, one operator per stage: operators with the largest weights first, each on
/// the GPU with the most capacity left.
///
/// # Errors
///
/// [`Error::Usage`] if an operator fits nowhere, with the bytes missing.
pub(super) fn largest_first(problem: &Problem, algorithm: &str) -> Result<Schedule> {
    let gpus = linked_gpus(problem);
    let memory = &problem.memory;
    let weight = |op: usize| memory.reads.get(op).map_or(0, |reads| reads.iter().map(|&c| memory.constants[c as usize]).sum::<u64>());
    let mut by_weight: Vec<usize> = problem.order.iter().map(|op| op.index()).collect();
    by_weight.sort_by_key(|&op| std::cmp::Reverse(weight(op)));
    let mut budget = WeightBudget::new(problem);
    let mut gpu_of = vec![0; problem.operators()];
    for op in by_weight {
        let capacity_left = |gpu: usize| memory.capacity.get(gpu).map_or(u64::MAX, |capacity| capacity.saturating_sub(budget.used[gpu]));
        let with_most_left = |fitting: &[usize]| fitting.iter().copied().max_by_key(|&gpu| (capacity_left(gpu), std::cmp::Reverse(gpu)));
        let Some(gpu) = with_most_left(&budget.fitting_gpus(&[op], &gpus)) else {
            let free =
                gpus.iter().map(|&gpu| format!("gpu{gpu} has {} of {} bytes for weights left", capacity_left(gpu), memory.capacity[gpu]));
            let missing = with_most_left(&gpus)
                .map(|gpu| format!("{} bytes are missing on gpu{gpu}", weight(op) - capacity_left(gpu).min(weight(op))));
            return Err(Error::Usage(format!(
                "the model does not fit: its weights take {} bytes, and with the larger ones placed, operator {} needs {} bytes, but {}: {}; \
                 add GPUs, or take larger ones",
                memory.total(),
                OpId::new(op),
                weight(op),
                free.collect::<Vec<_>>().join(", "),
                missing.unwrap_or_default()
            )));
        };
        budget.add(op, gpu);
        gpu_of[op] = gpu;
    }
    Ok(one_operator_stages(algorithm, problem.gpus, problem.order.iter().map(|&op| (op, gpu_of[op.index()]))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::{LinkMode, Memory};

    #[test]
    fn unlinked_gpus_are_left_out() {
        let mut p = Problem::from_dag_text("3\n0 1 1\n1 1 1\n2 1 1\n2\n0 1 1\n1 2 1\n", 4, LinkMode::Free).unwrap();
        p.edges[0].transfer[2][0] = None;
        assert_eq!(linked_gpus(&p), [0, 1, 3]);
        for row in &mut p.time {
            row[2] = 1;
        }
        assert_eq!(linked_gpus(&p), [1, 2, 3]);
    }

    /// Three operators; the first two share a constant of 100 bytes, the third reads one of 50
    /// bytes.
    #[test]
    fn packing_says_what_is_missing() {
        let problem = |capacity: [u64; 2]| {
            let mut problem = Problem::from_dag_text("3\n0 1 1\n1 1 1\n2 1 1\n0\n", 2, LinkMode::Free).unwrap();
            problem.memory = Memory { constants: vec![100, 50], reads: vec![vec![0], vec![0], vec![1]], capacity: capacity.to_vec() };
            problem
        };
        let used = |schedule: Schedule| schedule.gpus.iter().map(Vec::len).collect::<Vec<_>>();
        assert_eq!(used(largest_first(&problem([120, 60]), "x").unwrap()), [2, 1]);
        let error = largest_first(&problem([120, 40]), "x").unwrap_err().to_string();
        assert!(
            error.contains(
                "operator %2 needs 50 bytes, but gpu0 has 20 of 120 bytes for weights left, gpu1 has 40 of 40 bytes for weights left"
            ),
            "{error}"
        );
        assert!(error.contains(": 10 bytes are missing on gpu1;"), "{error}");
    }
}
