//! HEFT: list scheduling by earliest finish time.
//!
//! Topcuoglu, Hariri and Wu, "Performance-Effective and Low-Complexity Task Scheduling for
//! Heterogeneous Computing", IEEE TPDS 2002. Operators are taken by descending priority (upward
//! rank: mean times, transfers included). Each goes to the GPU on which it finishes earliest. There
//! it takes the first gap between scheduled operators that is long enough (insertion), or follows
//! the last one. Ties: the lowest GPU.
//!
//! Transfers start when their tensor is ready, as in the original. With serial links they may wait
//! longer in the evaluation, which the algorithm does not foresee.
//!
//! Complexity: O(E·G + V·G·K), where K is the number of operators of one GPU among which it
//! searches for a gap.

use super::hios_lp::MeanGraph;
use super::placement::{largest_first, linked_gpus, one_operator_stages};
use crate::device::Nanos;
use crate::error::Result;
use crate::ids::OpId;
use crate::schedule::memory::WeightBudget;
use crate::schedule::{Problem, Schedule};

/// HEFT's schedule, one operator per stage.
pub(super) fn heft(problem: &Problem) -> Result<Schedule> {
    let gpus = linked_gpus(problem);
    let by_rank = MeanGraph::new(problem, &gpus).by_rank;
    let mut inputs: Vec<Vec<usize>> = vec![Vec::new(); problem.operators()];
    for (index, edge) in problem.edges.iter().enumerate() {
        for reader in &edge.consumers {
            inputs[reader.index()].push(index);
        }
    }
    // (start, finish, operator) on each GPU, by start.
    let mut busy: Vec<Vec<(Nanos, Nanos, usize)>> = vec![Vec::new(); problem.gpus];
    let mut placed: Vec<(usize, Nanos)> = vec![(0, 0); problem.operators()];
    let mut budget = WeightBudget::new(problem);
    for &op in &by_rank {
        let mut best: Option<(Nanos, Nanos, usize, usize)> = None;
        for &gpu in gpus.iter().filter(|&&gpu| budget.fits(&[op], gpu)) {
            let mut ready = 0;
            for &input in &inputs[op] {
                let edge = &problem.edges[input];
                let (from, finish) = placed[edge.producer.index()];
                ready = ready.max(finish + if from == gpu { 0 } else { edge.transfer[from][gpu].unwrap_or(0) });
            }
            let duration = problem.time[op][gpu];
            let (at, start) = first_gap(&busy[gpu], ready, duration);
            if best.is_none_or(|(finish, ..)| start + duration < finish) {
                best = Some((start + duration, start, gpu, at));
            }
        }
        let Some((finish, start, gpu, at)) = best else { return largest_first(problem, "heft") };
        budget.add(op, gpu);
        busy[gpu].insert(at, (start, finish, op));
        placed[op] = (gpu, finish);
    }
    let all = busy.iter().enumerate().flat_map(|(gpu, list)| list.iter().map(move |&(.., op)| (OpId::new(op), gpu)));
    Ok(one_operator_stages("heft", problem.gpus, all))
}

/// The first gap in `busy` for an operator of this `duration` that is `ready` then: the index at
/// which to insert it, and its start.
fn first_gap(busy: &[(Nanos, Nanos, usize)], ready: Nanos, duration: Nanos) -> (usize, Nanos) {
    // Gaps that end before `ready` are too early.
    let mut at = busy.partition_point(|&(start, ..)| start < ready);
    let mut free = if at == 0 { 0 } else { busy[at - 1].1 };
    while let Some(&(start, finish, _)) = busy.get(at) {
        if free.max(ready) + duration <= start {
            break;
        }
        free = finish;
        at += 1;
    }
    (at, free.max(ready))
}
