//! HIOS-MR's inter-GPU mapping: dynamic programming that records one mapping for each GPU of the
//! last operator.
//!
//! From the HIOS paper (see `hios_lp.rs`); MR is *mapping recording*. Operators are taken by
//! descending priority. After the i-th, there is one record for each GPU g: a mapping of the first
//! i operators with the i-th on g. It is the one in which the i-th finishes earliest among those
//! that extend a record of the (i-1)-th. At the end, the record of lowest latency wins. Ties: the
//! lower latency of all operators so far, then the lowest GPU.
//!
//! It looks one operator ahead where HIOS-LP looks at a whole path, and so splits paths that belong
//! together.
//!
//! Complexity: O(V·G²) trials of an operator, and O(V²·G) for copying records.

use super::hios_lp::MeanGraph;
use super::placement::{largest_first, linked_gpus, one_operator_stages};
use crate::device::Nanos;
use crate::error::Result;
use crate::ids::OpId;
use crate::schedule::incremental::FlatProblem;
use crate::schedule::memory::WeightBudget;
use crate::schedule::{Problem, Schedule};

/// A mapping of the operators so far.
#[derive(Clone)]
struct Record<'p> {
    gpu: Vec<u32>,
    finish: Vec<Nanos>,
    free: Vec<Nanos>,
    latency: Nanos,
    budget: WeightBudget<'p>,
}

/// HIOS-MR's mapping, one operator per stage.
pub(super) fn inter_mr(problem: &Problem) -> Result<Schedule> {
    let gpus = linked_gpus(problem);
    let by_rank = MeanGraph::new(problem, &gpus).by_rank;
    let flat = FlatProblem::new(problem, false);
    let n = problem.operators();
    let empty = Record { gpu: vec![0; n], finish: vec![0; n], free: vec![0; problem.gpus], latency: 0, budget: WeightBudget::new(problem) };
    let mut records = vec![empty];
    for &op in &by_rank {
        let choose = |&gpu: &usize| {
            let evaluation = |record: &Record<'_>| {
                let ready = flat.ready(op, gpu, &record.gpu, &record.finish);
                let finish = record.free[gpu].max(ready) + problem.time[op][gpu];
                (finish, record.latency.max(finish))
            };
            let fitting = (0..records.len()).filter(|&k| records[k].budget.fits(&[op], gpu));
            let parent = fitting.min_by_key(|&k| evaluation(&records[k]))?;
            let (finish, latency) = evaluation(&records[parent]);
            let mut next = records[parent].clone();
            next.gpu[op] = gpu as u32;
            next.finish[op] = finish;
            next.free[gpu] = finish;
            next.latency = latency;
            next.budget.add(op, gpu);
            Some(next)
        };
        records = gpus.iter().filter_map(choose).collect();
        if records.is_empty() {
            return largest_first(problem, "inter-mr");
        }
    }
    let best = (0..records.len()).min_by_key(|&k| records[k].latency).unwrap_or(0);
    let placed = by_rank.iter().map(|&op| (OpId::new(op), records[best].gpu[op] as usize));
    Ok(one_operator_stages("inter-mr", problem.gpus, placed))
}
