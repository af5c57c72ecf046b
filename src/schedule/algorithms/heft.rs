//! HEFT: the list scheduler that everyone knows.
//!
//! Topcuoglu, Hariri and Wu, "Performance-Effective and Low-Complexity Task Scheduling for Heterogeneous Computing", IEEE TPDS 2002. Operators are
//! taken by descending priority (upward rank: mean times, transfers included). Each goes to the GPU on which it finishes earliest, in the first gap between
//! operators placed before that is long enough (insertion), or behind them. Ties: the lowest GPU.
//!
//! Transfers start when their tensor is there, as in the original. With serial links they may wait longer in the evaluation; the
//! placement does not foresee it. Complexity: O(E·G + V·G·K), where K is the number of operators on one GPU that a gap is looked for in.

use super::hios_lp::MeanGraph;
use super::placing::{linked_gpus, one_operator_stages, packed};
use crate::device::Nanos;
use crate::error::Result;
use crate::ids::OpId;
use crate::schedule::memory::Ledger;
use crate::schedule::{Problem, Schedule};

/// HEFT's schedule, one operator a stage.
pub(super) fn heft(problem: &Problem) -> Result<Schedule> {
    let gpus = linked_gpus(problem);
    let by_rank = MeanGraph::new(problem, &gpus).by_rank;
    let mut inputs: Vec<Vec<usize>> = vec![Vec::new(); problem.operators()];
    for (index, edge) in problem.edges.iter().enumerate() {
        for reader in &edge.consumers {
            inputs[reader.index()].push(index);
        }
    }
    // (start, finish, operator) of each GPU, by start.
    let mut busy: Vec<Vec<(Nanos, Nanos, usize)>> = vec![Vec::new(); problem.gpus];
    let mut placed: Vec<(usize, Nanos)> = vec![(0, 0); problem.operators()];
    let mut ledger = Ledger::new(problem);
    for &op in &by_rank {
        let mut best: Option<(Nanos, Nanos, usize, usize)> = None;
        for &gpu in gpus.iter().filter(|&&gpu| ledger.fits(&[op], gpu)) {
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
        let Some((finish, start, gpu, at)) = best else { return packed(problem, "heft") };
        ledger.add(op, gpu);
        busy[gpu].insert(at, (start, finish, op));
        placed[op] = (gpu, finish);
    }
    let all = busy.iter().enumerate().flat_map(|(gpu, list)| list.iter().map(move |&(.., op)| (OpId::new(op), gpu)));
    Ok(one_operator_stages("heft", problem.gpus, all))
}

/// Where in `busy` an operator that is ready then and takes so long fits first, and its start.
fn first_gap(busy: &[(Nanos, Nanos, usize)], ready: Nanos, duration: Nanos) -> (usize, Nanos) {
    // Gaps that end before `ready` cannot take it.
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
