//! The incremental evaluator: a sequence with its times, which `best` and the sliding window
//! change.
//!
//! The latency after a change equals that of [`evaluate`](crate::schedule::evaluate()) (a test
//! checks this), but is found faster:
//!
//! * The caller gives the largest cost that it would accept, and the evaluator stops as soon as a
//!   lower bound exceeds it. Most changes are rejected after a few stages.
//! * With free links (`free_links.rs`), evaluation begins where the change does.
//! * With serial links (`serial_links.rs`), the whole schedule is simulated. But a pass with free
//!   links comes first: waiting makes nothing earlier, so a change that is too slow without it is
//!   rejected. Only the others are simulated.
//!
//! The *cost* that a search minimises may add a part of the mean finish time over the GPUs to the
//! latency. Many schedules have the same latency, that of one critical path. Those among them whose
//! other GPUs finish early are easier to improve next.

use std::ops::{Range, RangeInclusive};

use super::flat_problem::FlatProblem;
use super::free_links::FreeLinkTimes;
use super::sequence::StageSequence;
use super::serial_links::SerialLinkTimes;
use crate::device::Nanos;
use crate::schedule::LinkMode;

/// The mean weight at which the mean finish time of the GPUs counts as much as the latency.
pub(in crate::schedule) const FULL_MEAN_WEIGHT: Nanos = 16;

/// The result of one evaluation.
#[derive(Clone, Copy)]
pub(in crate::schedule) struct Evaluation {
    pub latency: Nanos,
    /// What a search minimises: the latency, plus the weighted mean finish time of the GPUs.
    pub cost: Nanos,
}

/// A sequence with its times, ready to be changed.
pub(in crate::schedule) struct IncrementalEvaluator<'f> {
    pub flat: &'f FlatProblem,
    pub sequence: StageSequence,
    /// Position of each operator in the sequence.
    pub position: Vec<u32>,
    /// The evaluation of the last committed sequence.
    pub current: Evaluation,
    /// The weight of the mean finish time of the GPUs in the cost, in parts of
    /// [`FULL_MEAN_WEIGHT`].
    pub mean_weight: Nanos,
    /// Times with free links: exact if links are free, and else lower bounds.
    pub free_links: FreeLinkTimes,
    /// Times with serial links, if links are serial.
    pub serial_links: Option<Box<SerialLinkTimes>>,
}

impl<'f> IncrementalEvaluator<'f> {
    pub fn new(flat: &'f FlatProblem, sequence: StageSequence) -> IncrementalEvaluator<'f> {
        IncrementalEvaluator::with_mean_weight(flat, sequence, 0)
    }

    /// An evaluator whose cost includes the mean finish time of the GPUs.
    pub fn with_mean_weight(flat: &'f FlatProblem, sequence: StageSequence, mean_weight: Nanos) -> IncrementalEvaluator<'f> {
        let mut position = vec![0; flat.operators];
        for (at, &op) in sequence.order.iter().enumerate() {
            position[op as usize] = at as u32;
        }
        let free_links = FreeLinkTimes::new(flat, &sequence);
        let serial_links = (flat.links == LinkMode::Serial).then(|| Box::new(SerialLinkTimes::new(flat)));
        let current = Evaluation { latency: 0, cost: 0 };
        let mut evaluator = IncrementalEvaluator { flat, sequence, position, current, mean_weight, free_links, serial_links };
        // Without a limit there is always a result.
        let evaluation = evaluator.try_change(0, Nanos::MAX).unwrap_or(current);
        evaluator.commit(0, evaluation);
        evaluator
    }

    /// When each operator's stage finishes.
    pub fn finish(&self) -> &[Nanos] {
        self.serial_links.as_ref().map_or(&self.free_links.finish, |serial| &serial.finish)
    }

    /// The evaluation of the changed sequence, if its cost is at most `limit`. Nothing before
    /// position `from` (the beginning of a stage) may have changed since the last
    /// [`commit`](IncrementalEvaluator::commit).
    pub fn try_change(&mut self, from: usize, limit: Nanos) -> Option<Evaluation> {
        let bound = self.try_free_links(from, limit)?;
        if self.serial_links.is_none() {
            return Some(bound);
        }
        let evaluation = self.try_serial_links(bound, limit);
        if evaluation.is_none() {
            self.roll_back_free_links(from);
        }
        evaluation
    }

    /// Makes the last successful trial, from position `from`, the current times.
    pub fn commit(&mut self, from: usize, evaluation: Evaluation) {
        self.current = evaluation;
        self.commit_free_links(from);
        if let Some(serial) = &mut self.serial_links {
            serial.commit();
        }
    }

    /// Discards a successful trial from position `from` on.
    pub fn roll_back(&mut self, from: usize) {
        self.roll_back_free_links(from);
    }

    /// Moves an operator to another GPU. Does not update times.
    pub fn set_gpu(&mut self, op: usize, gpu: u32) {
        let gpus = self.flat.gpus;
        let old = self.sequence.gpu[op] as usize;
        self.free_links.load[old] -= self.flat.work[op * gpus + old];
        self.free_links.load[gpu as usize] += self.flat.work[op * gpus + gpu as usize];
        self.sequence.gpu[op] = gpu;
    }

    /// Moves the operator at position `from` to position `to`. Does not update times.
    pub fn shift(&mut self, from: usize, to: usize) {
        let order = &mut self.sequence.order;
        let op = order[from];
        if from < to {
            for at in from..to {
                order[at] = order[at + 1];
                self.position[order[at] as usize] = at as u32;
            }
        } else {
            for at in (to..from).rev() {
                order[at + 1] = order[at];
                self.position[order[at + 1] as usize] = at as u32 + 1;
            }
        }
        order[to] = op;
        self.position[op as usize] = to as u32;
    }

    /// Exchanges the GPUs of the operators at two positions and, with `swap_positions`, their
    /// positions and stages. Does not update times. Doing it twice restores the sequence.
    pub fn exchange(&mut self, one: usize, other: usize, swap_positions: bool) {
        let [a, b] = [one, other].map(|position| self.sequence.order[position] as usize);
        let [gpu_a, gpu_b] = [a, b].map(|op| self.sequence.gpu[op]);
        self.set_gpu(a, gpu_b);
        self.set_gpu(b, gpu_a);
        if swap_positions {
            self.sequence.grouped.swap(a, b);
            self.sequence.order.swap(one, other);
            self.position.swap(a, b);
        }
    }

    /// The positions that an operator may have in the sequence while all others stay in order:
    /// behind its producers and before its readers.
    pub fn movable_range(&self, op: usize) -> RangeInclusive<usize> {
        let first = self.flat.producers(op).map(|p| self.position[p as usize] as usize + 1).max().unwrap_or(0);
        let last = self.flat.readers(op).iter().map(|&r| self.position[r as usize] as usize).min().unwrap_or(self.flat.operators) - 1;
        first..=last
    }

    /// The positions of the stage that contains position `at`.
    pub fn stage_range(&self, at: usize) -> Range<usize> {
        let mut start = at;
        while self.sequence.grouped[self.sequence.order[start] as usize] {
            start -= 1;
        }
        start..self.stage_end(at)
    }

    /// The end of the stage that contains position `at`.
    pub fn stage_end(&self, at: usize) -> usize {
        let order = &self.sequence.order;
        let mut end = at + 1;
        while end < order.len() && self.sequence.grouped[order[end] as usize] {
            end += 1;
        }
        end
    }

    /// The operators on a critical path: from a stage that finishes last, back through what each
    /// stage waited for last.
    pub fn critical_path(&self, path: &mut Vec<u32>) {
        path.clear();
        let flat = self.flat;
        let finish = self.finish();
        let order = &self.sequence.order;
        let Some(last) = (0..flat.operators).max_by_key(|&op| (finish[op], std::cmp::Reverse(op))) else { return };
        let mut op = last;
        loop {
            path.push(op as u32);
            let gpu = self.sequence.gpu[op] as usize;
            let mut at = self.position[op] as usize;
            while self.sequence.grouped[order[at] as usize] {
                at -= 1;
            }
            let before = order[..at].iter().rev().find(|&&other| self.sequence.gpu[other as usize] as usize == gpu);
            let mut cause = before.map(|&other| (finish[other as usize], other as usize));
            loop {
                let member = order[at] as usize;
                for input in flat.inputs(member) {
                    let producer = input.producer as usize;
                    let from = self.sequence.gpu[producer] as usize;
                    let transfer = if from == gpu { 0 } else { flat.transfer(input, from, gpu) };
                    let arrival = finish[producer] + transfer;
                    if cause.is_none_or(|(time, _)| arrival > time) {
                        cause = Some((arrival, producer));
                    }
                }
                at += 1;
                if at == order.len() || !self.sequence.grouped[order[at] as usize] {
                    break;
                }
            }
            match cause {
                Some((_, next)) => op = next,
                None => return,
            }
        }
    }
}
