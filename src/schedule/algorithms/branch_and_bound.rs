//! Optimal schedules of small graphs, by branch and bound over mapping, order and grouping.
//!
//! Each node of the search tree appends a stage: any independent set of at most s operators whose
//! inputs are all scheduled, on any GPU. With free links, a stage's times are known when it is
//! appended. Every schedule is visited once, because stages are appended by ascending (start, GPU).
//! Equal GPUs are first used in ascending order. A branch is pruned where a finish plus the longest
//! path behind it, or the remaining work spread over all GPUs, reaches the best latency known.
//!
//! With serial links, the same tree is searched with the times of free links, which are lower
//! bounds. Complete schedules are then evaluated exactly.
//!
//! The number of nodes is limited. If the limit is not reached, the result is optimal.

use crate::device::Nanos;
use crate::schedule::incremental::{FlatProblem, IncrementalEvaluator, StageSequence};
use crate::schedule::memory::WeightBudget;
use crate::schedule::{LinkMode, Problem};

/// The most operators for which this search is tried.
pub(super) const MAX_OPERATORS: usize = 12;

/// The result of a branch and bound search.
pub(super) struct SearchResult {
    /// The best schedule with a latency below the one that was known, if there is one.
    pub improvement: Option<(StageSequence, Nanos)>,
    /// Whether there is proof that no schedule is better.
    pub proven: bool,
    /// The number of nodes visited (stages appended).
    pub nodes: u64,
}

/// Searches for a schedule with a latency below `known`, with at most `max_stage` operators per
/// stage, on `gpus`.
pub(super) fn search<'a>(
    problem: &'a Problem,
    flat: &'a FlatProblem,
    gpus: &'a [usize],
    max_stage: usize,
    known: Nanos,
    limit: u64,
) -> SearchResult {
    let n = flat.operators;
    let mut search = BranchAndBound {
        flat,
        gpus,
        max_stage,
        equal_gpus: equal_gpus(problem),
        limit,
        nodes: 0,
        best: known,
        improvement: None,
        inputs_left: (0..n).map(|op| flat.producers(op).count() as u32).collect(),
        finish: vec![0; n],
        sequence: StageSequence { order: Vec::new(), gpu: vec![0; n], grouped: vec![false; n] },
        free: vec![0; flat.gpus],
        work_left: (0..n).map(|op| flat.least_work(op)).sum(),
        budget: WeightBudget::new(problem),
    };
    search.extend((0, 0));
    SearchResult { proven: search.nodes < limit, improvement: search.improvement, nodes: search.nodes }
}

/// Whether the GPUs are interchangeable.
fn equal_gpus(problem: &Problem) -> bool {
    let same = |row: &Vec<u64>| row.iter().all(|t| *t == row[0]);
    let same_stages =
        problem.stages.iter().all(|s| s.times.iter().all(|t| *t == s.times[0])) && problem.operator_merges.iter().all(|m| same(&m.times));
    problem.time.iter().all(same)
        && same_stages
        && same(&problem.memory.capacity)
        && problem.utilisation.iter().all(|row| row.iter().all(|u| *u == row[0]))
        && problem.edges.iter().all(|e| {
            let first = e.transfer.iter().flatten().flatten().next();
            let off_diagonal = e.transfer.iter().enumerate().flat_map(|(a, row)| row.iter().enumerate().filter(move |&(b, _)| a != b));
            off_diagonal.map(|(_, time)| time.as_ref()).all(|time| time == first && time.is_some())
        })
}

struct BranchAndBound<'a> {
    flat: &'a FlatProblem,
    gpus: &'a [usize],
    max_stage: usize,
    equal_gpus: bool,
    limit: u64,
    nodes: u64,
    best: Nanos,
    improvement: Option<(StageSequence, Nanos)>,
    /// Inputs of each operator that are not scheduled yet; `MAX` once the operator is scheduled.
    inputs_left: Vec<u32>,
    finish: Vec<Nanos>,
    sequence: StageSequence,
    free: Vec<Nanos>,
    work_left: Nanos,
    budget: WeightBudget<'a>,
}

impl BranchAndBound<'_> {
    fn extend(&mut self, after: (Nanos, usize)) {
        let flat = self.flat;
        if self.sequence.order.len() == flat.operators {
            let mut latency = self.free.iter().copied().max().unwrap_or(0);
            if flat.links == LinkMode::Serial {
                latency = IncrementalEvaluator::new(flat, self.sequence.clone()).current.latency;
            }
            if latency < self.best {
                self.best = latency;
                self.improvement = Some((self.sequence.clone(), latency));
            }
            return;
        }
        // Every later stage starts at or after `after`.
        let time_left: Nanos = self.gpus.iter().map(|&gpu| self.best.saturating_sub(self.free[gpu].max(after.0))).sum();
        if self.work_left > time_left {
            return;
        }
        let ready: Vec<u32> = (0..flat.operators as u32).filter(|&op| self.inputs_left[op as usize] == 0).collect();
        let mut unused_seen = false;
        for &gpu in self.gpus {
            let unused = self.free[gpu] == 0;
            if unused && unused_seen && self.equal_gpus {
                break;
            }
            unused_seen |= unused;
            self.choose(gpu, &ready, 0, &mut Vec::new(), after);
        }
    }

    /// Visits all stages of `gpu` that consist of `members` and some of `ready[from..]`.
    fn choose(&mut self, gpu: usize, ready: &[u32], from: usize, members: &mut Vec<u32>, after: (Nanos, usize)) {
        for index in from..ready.len() {
            if self.nodes >= self.limit {
                return;
            }
            members.push(ready[index]);
            self.append(gpu, members, after);
            if members.len() < self.max_stage {
                self.choose(gpu, ready, index + 1, members, after);
            }
            members.pop();
        }
    }

    fn append(&mut self, gpu: usize, members: &[u32], after: (Nanos, usize)) {
        self.nodes += 1;
        let flat = self.flat;
        let mut start = self.free[gpu];
        let mut tail = 0;
        for &op in members {
            start = start.max(flat.ready(op as usize, gpu, &self.sequence.gpu, &self.finish));
            tail = tail.max(flat.tail[op as usize]);
        }
        let finish = start + flat.stage_time(gpu, members);
        if (start, gpu) < after || finish + tail >= self.best {
            return;
        }
        let all: Vec<usize> = members.iter().map(|&op| op as usize).collect();
        if !self.budget.fits(&all, gpu) {
            return;
        }
        all.iter().for_each(|&op| self.budget.add(op, gpu));
        let free = std::mem::replace(&mut self.free[gpu], finish);
        for (index, &op) in members.iter().enumerate() {
            let op = op as usize;
            self.sequence.order.push(op as u32);
            self.sequence.gpu[op] = gpu as u32;
            self.sequence.grouped[op] = index > 0;
            self.finish[op] = finish;
            self.work_left -= flat.least_work(op);
            self.inputs_left[op] = u32::MAX;
            for &reader in flat.readers(op) {
                self.inputs_left[reader as usize] -= flat.producers(reader as usize).filter(|&p| p as usize == op).count() as u32;
            }
        }
        self.extend((start, gpu));
        all.iter().for_each(|&op| self.budget.remove(op, gpu));
        for &op in members {
            let op = op as usize;
            for &reader in flat.readers(op) {
                self.inputs_left[reader as usize] += flat.producers(reader as usize).filter(|&p| p as usize == op).count() as u32;
            }
            self.inputs_left[op] = 0;
            self.work_left += flat.least_work(op);
        }
        self.sequence.order.truncate(self.sequence.order.len() - members.len());
        self.free[gpu] = free;
    }
}
