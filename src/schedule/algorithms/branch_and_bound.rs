//! Exact schedules of small graphs, by branch and bound over mapping, order and grouping.
//!
//! Stages are appended one by one: any independent set of operators whose inputs are all placed, of at most s, on any GPU. With free links, a
//! stage's times are known when it is appended. Every schedule is met once, because stages must be appended by ascending (start, GPU); equal GPUs are
//! first used in ascending order. A branch ends where a finish plus the longest chain behind it, or the work left spread over all GPUs, reaches the best latency known.
//!
//! With serial links the same tree is walked, with times as if links were free, which are lower bounds; complete schedules are then timed exactly.
//!
//! The number of stages appended is limited. Below the limit, the result is optimal.

use crate::device::Nanos;
use crate::schedule::incremental::{Flat, Sequence, Timed};
use crate::schedule::memory::Ledger;
use crate::schedule::{LinkMode, Problem};

/// The largest graph that is tried.
pub(super) const MAX_OPERATORS: usize = 12;

/// What a search ended with.
pub(super) struct Found {
    /// A schedule below the latency that was known, if there is one.
    pub better: Option<(Sequence, Nanos)>,
    /// Whether nothing is better still.
    pub proven: bool,
    /// Stages appended.
    pub steps: u64,
}

/// Looks for a schedule of at most `max_stage` operators a stage on `gpus` whose latency is below `known`.
pub(super) fn search<'a>(problem: &'a Problem, flat: &'a Flat, gpus: &'a [usize], max_stage: usize, known: Nanos, limit: u64) -> Found {
    let n = flat.operators;
    let mut tree = Tree {
        flat,
        gpus,
        max_stage,
        equal_gpus: equal_gpus(problem),
        limit,
        steps: 0,
        best: known,
        better: None,
        readers_left: (0..n).map(|op| flat.producers(op).count() as u32).collect(),
        finish: vec![0; n],
        sequence: Sequence { order: Vec::new(), gpu: vec![0; n], joined: vec![false; n] },
        free: vec![0; flat.gpus],
        work_left: (0..n).map(|op| flat.least_work(op)).sum(),
        ledger: Ledger::new(problem),
    };
    tree.extend((0, 0));
    Found { proven: tree.steps < limit, better: tree.better, steps: tree.steps }
}

/// Whether GPUs can be renamed without any change.
fn equal_gpus(problem: &Problem) -> bool {
    let same = |row: &Vec<u64>| row.iter().all(|t| *t == row[0]);
    let same_stages =
        problem.stages.iter().all(|s| s.times.iter().all(|t| *t == s.times[0])) && problem.merges.iter().all(|m| same(&m.times));
    problem.time.iter().all(same)
        && same_stages
        && same(&problem.memory.room)
        && problem.utilisation.iter().all(|row| row.iter().all(|u| *u == row[0]))
        && problem.edges.iter().all(|e| {
            let first = e.transfer.iter().flatten().flatten().next();
            let off_diagonal = e.transfer.iter().enumerate().flat_map(|(a, row)| row.iter().enumerate().filter(move |&(b, _)| a != b));
            off_diagonal.map(|(_, time)| time.as_ref()).all(|time| time == first && time.is_some())
        })
}

struct Tree<'a> {
    flat: &'a Flat,
    gpus: &'a [usize],
    max_stage: usize,
    equal_gpus: bool,
    limit: u64,
    steps: u64,
    best: Nanos,
    better: Option<(Sequence, Nanos)>,
    /// Inputs of each operator that are not placed; `MAX` when the operator is.
    readers_left: Vec<u32>,
    finish: Vec<Nanos>,
    sequence: Sequence,
    free: Vec<Nanos>,
    work_left: Nanos,
    ledger: Ledger<'a>,
}

impl Tree<'_> {
    fn extend(&mut self, after: (Nanos, usize)) {
        let flat = self.flat;
        if self.sequence.order.len() == flat.operators {
            let mut latency = self.free.iter().copied().max().unwrap_or(0);
            if flat.links == LinkMode::Serial {
                latency = Timed::new(flat, self.sequence.clone()).now.latency;
            }
            if latency < self.best {
                self.best = latency;
                self.better = Some((self.sequence.clone(), latency));
            }
            return;
        }
        // Every stage to come starts at or after `after`.
        let room: Nanos = self.gpus.iter().map(|&gpu| self.best.saturating_sub(self.free[gpu].max(after.0))).sum();
        if self.work_left > room {
            return;
        }
        let ready: Vec<u32> = (0..flat.operators as u32).filter(|&op| self.readers_left[op as usize] == 0).collect();
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

    /// All stages of `gpu` that hold `members` and some of `ready[from..]`.
    fn choose(&mut self, gpu: usize, ready: &[u32], from: usize, members: &mut Vec<u32>, after: (Nanos, usize)) {
        for index in from..ready.len() {
            if self.steps >= self.limit {
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
        self.steps += 1;
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
        if !self.ledger.fits(&all, gpu) {
            return;
        }
        all.iter().for_each(|&op| self.ledger.add(op, gpu));
        let free = std::mem::replace(&mut self.free[gpu], finish);
        for (index, &op) in members.iter().enumerate() {
            let op = op as usize;
            self.sequence.order.push(op as u32);
            self.sequence.gpu[op] = gpu as u32;
            self.sequence.joined[op] = index > 0;
            self.finish[op] = finish;
            self.work_left -= flat.least_work(op);
            self.readers_left[op] = u32::MAX;
            for &reader in flat.readers(op) {
                self.readers_left[reader as usize] -= flat.producers(reader as usize).filter(|&p| p as usize == op).count() as u32;
            }
        }
        self.extend((start, gpu));
        all.iter().for_each(|&op| self.ledger.remove(op, gpu));
        for &op in members {
            let op = op as usize;
            for &reader in flat.readers(op) {
                self.readers_left[reader as usize] += flat.producers(reader as usize).filter(|&p| p as usize == op).count() as u32;
            }
            self.readers_left[op] = 0;
            self.work_left += flat.least_work(op);
        }
        self.sequence.order.truncate(self.sequence.order.len() - members.len());
        self.free[gpu] = free;
    }
}
