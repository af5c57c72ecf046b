//! A complete schedule as a sequence, with its times: what `best` and the window change.
//!
//! A schedule is held as one topological *sequence* of all operators, a GPU for each, and a mark on those that join the stage of the operator
//! before them. Each GPU runs its stages in the order of the sequence. Every schedule that can run has such a sequence (order its stages by start),
//! and every sequence that respects the dependencies is a schedule that can run, so a change needs no test for deadlock: it must keep each operator
//! between the last of those it reads and the first of those that read it.
//!
//! The answer to "what is the latency after this change?" is that of [`evaluate`](crate::schedule::evaluate()) (a test holds it to that), found faster:
//!
//! * The caller names the largest answer it would accept, and the pass stops as soon as a lower bound exceeds that. Most changes are refused after a few stages.
//! * With free links (`free_links.rs`) the pass begins where the change does.
//! * With serial links (`serial_links.rs`) a run has no such shortcut, but a pass with free links comes first: waiting makes nothing earlier, so what is too late
//!   there is too late. Only what passes is run.
//!
//! A search that is *guided* asks for the latency plus a part of the mean over the GPUs of the time at which each is done. Many schedules have the same latency, that of one critical
//! path; among them, those whose other GPUs are done early leave room for the next improvement.

use std::ops::{Range, RangeInclusive};

use super::flat::Flat;
use super::free_links::FreeLinks;
use super::serial_links::SerialLinks;
use crate::device::Nanos;
use crate::ids::OpId;
use crate::schedule::{LinkMode, Schedule, Stage, Timeline};

/// A schedule as a sequence.
#[derive(Clone, Default)]
pub(in crate::schedule) struct Sequence {
    /// All operators in a topological order.
    pub order: Vec<u32>,
    /// GPU of each operator, by operator.
    pub gpu: Vec<u32>,
    /// Whether an operator is in the stage of the one before it, by operator.
    pub joined: Vec<bool>,
}

impl Sequence {
    /// A schedule as a sequence: its stages by start.
    pub fn new(schedule: &Schedule, timeline: &Timeline, operators: usize) -> Sequence {
        let mut stages: Vec<(Nanos, usize, usize)> = Vec::new();
        for (gpu, times) in timeline.stages.iter().enumerate() {
            stages.extend(times.iter().enumerate().map(|(index, time)| (time.start, gpu, index)));
        }
        stages.sort_unstable();
        let mut sequence = Sequence { order: Vec::with_capacity(operators), gpu: vec![0; operators], joined: vec![false; operators] };
        for (_, gpu, index) in stages {
            for (place, op) in schedule.gpus[gpu][index].operators.iter().enumerate() {
                sequence.order.push(op.0);
                sequence.gpu[op.index()] = gpu as u32;
                sequence.joined[op.index()] = place > 0;
            }
        }
        sequence
    }

    /// The schedule that the sequence stands for.
    pub fn schedule(&self, algorithm: &str, flat: &Flat) -> Schedule {
        let mut gpus: Vec<Vec<Stage>> = vec![Vec::new(); flat.gpus];
        for &op in &self.order {
            let stages = &mut gpus[self.gpu[op as usize] as usize];
            match stages.last_mut() {
                Some(stage) if self.joined[op as usize] => stage.operators.push(OpId(op)),
                _ => stages.push(Stage { operators: vec![OpId(op)] }),
            }
        }
        for stage in gpus.iter_mut().flatten() {
            stage.operators.sort_by_key(|op| flat.position[op.index()]);
        }
        Schedule { algorithm: algorithm.into(), gpus }
    }
}

/// A guide of this much counts the mean time at which the GPUs are done as much as the latency.
pub(in crate::schedule) const FULL_GUIDE: Nanos = 16;

/// What a change leads to.
#[derive(Clone, Copy)]
pub(in crate::schedule) struct Outcome {
    pub latency: Nanos,
    /// What is to be small: the latency; if the search is guided, with the mean time at which the GPUs are done.
    pub cost: Nanos,
}

/// A sequence with its times, ready to be changed.
pub(in crate::schedule) struct Timed<'f> {
    pub flat: &'f Flat,
    pub sequence: Sequence,
    /// Place of each operator in the sequence.
    pub place: Vec<u32>,
    /// Of the sequence as it was last kept.
    pub now: Outcome,
    /// How much the mean time at which the GPUs are done counts, in parts of [`FULL_GUIDE`].
    pub guide: Nanos,
    /// Times with free links: those of the schedule, or a bound for them.
    pub bound: FreeLinks,
    /// Times with serial links, if links are serial.
    pub serial: Option<Box<SerialLinks>>,
}

impl<'f> Timed<'f> {
    pub fn new(flat: &'f Flat, sequence: Sequence) -> Timed<'f> {
        Timed::guided(flat, sequence, 0)
    }

    /// For a search that is guided.
    pub fn guided(flat: &'f Flat, sequence: Sequence, guide: Nanos) -> Timed<'f> {
        let mut place = vec![0; flat.operators];
        for (at, &op) in sequence.order.iter().enumerate() {
            place[op as usize] = at as u32;
        }
        let bound = FreeLinks::new(flat, &sequence);
        let serial = (flat.links == LinkMode::Serial).then(|| Box::new(SerialLinks::new(flat)));
        let now = Outcome { latency: 0, cost: 0 };
        let mut timed = Timed { flat, sequence, place, now, guide, bound, serial };
        // Without a limit there is always an outcome.
        let outcome = timed.try_from(0, Nanos::MAX).unwrap_or(now);
        timed.keep(0, outcome);
        timed
    }

    /// When each operator's stage finishes.
    pub fn finish(&self) -> &[Nanos] {
        self.serial.as_ref().map_or(&self.bound.finish, |serial| &serial.finish)
    }

    /// The outcome if its cost is at most `limit`; nothing before place `from` (the beginning of a stage) has changed since the last
    /// [`keep`](Timed::keep).
    pub fn try_from(&mut self, from: usize, limit: Nanos) -> Option<Outcome> {
        let bound = self.try_free(from, limit)?;
        if self.serial.is_none() {
            return Some(bound);
        }
        let outcome = self.try_serial(bound, limit);
        if outcome.is_none() {
            self.forget_free(from);
        }
        outcome
    }

    /// Makes the last successful trial, from place `from`, the current times.
    pub fn keep(&mut self, from: usize, outcome: Outcome) {
        self.now = outcome;
        self.keep_free(from);
        if let Some(serial) = &mut self.serial {
            serial.keep();
        }
    }

    /// Takes back a successful trial from place `from` on.
    pub fn forget_trial(&mut self, from: usize) {
        self.forget_free(from);
    }

    /// Puts an operator on another GPU, without timing.
    pub fn set_gpu(&mut self, op: usize, gpu: u32) {
        let gpus = self.flat.gpus;
        let old = self.sequence.gpu[op] as usize;
        self.bound.load[old] -= self.flat.work[op * gpus + old];
        self.bound.load[gpu as usize] += self.flat.work[op * gpus + gpu as usize];
        self.sequence.gpu[op] = gpu;
    }

    /// Moves the operator at place `from` to place `to`, without timing.
    pub fn shift(&mut self, from: usize, to: usize) {
        let order = &mut self.sequence.order;
        let op = order[from];
        if from < to {
            for at in from..to {
                order[at] = order[at + 1];
                self.place[order[at] as usize] = at as u32;
            }
        } else {
            for at in (to..from).rev() {
                order[at + 1] = order[at];
                self.place[order[at + 1] as usize] = at as u32 + 1;
            }
        }
        order[to] = op;
        self.place[op as usize] = to as u32;
    }

    /// Exchanges the operators at two places: their GPUs and, with `places`, their places and stages. Without timing; done twice, all is as before.
    pub fn exchange(&mut self, one: usize, other: usize, places: bool) {
        let [a, b] = [one, other].map(|place| self.sequence.order[place] as usize);
        let [gpu_a, gpu_b] = [a, b].map(|op| self.sequence.gpu[op]);
        self.set_gpu(a, gpu_b);
        self.set_gpu(b, gpu_a);
        if places {
            self.sequence.joined.swap(a, b);
            self.sequence.order.swap(one, other);
            self.place.swap(a, b);
        }
    }

    /// The places where an operator may stand in the sequence, while all others stay in order: behind what it reads, before what reads it.
    pub fn span(&self, op: usize) -> RangeInclusive<usize> {
        let first = self.flat.producers(op).map(|p| self.place[p as usize] as usize + 1).max().unwrap_or(0);
        let last = self.flat.readers(op).iter().map(|&r| self.place[r as usize] as usize).min().unwrap_or(self.flat.operators) - 1;
        first..=last
    }

    /// The places of the stage that the operator at place `at` is in.
    pub fn stage(&self, at: usize) -> Range<usize> {
        let mut start = at;
        while self.sequence.joined[self.sequence.order[start] as usize] {
            start -= 1;
        }
        start..self.stage_end(at)
    }

    /// Where the stage that begins at place `at` ends.
    pub fn stage_end(&self, at: usize) -> usize {
        let order = &self.sequence.order;
        let mut end = at + 1;
        while end < order.len() && self.sequence.joined[order[end] as usize] {
            end += 1;
        }
        end
    }

    /// The operators on a critical path: from a stage that finishes last, back through what each stage waited for last.
    pub fn critical(&self, path: &mut Vec<u32>) {
        path.clear();
        let flat = self.flat;
        let finish = self.finish();
        let order = &self.sequence.order;
        let Some(last) = (0..flat.operators).max_by_key(|&op| (finish[op], std::cmp::Reverse(op))) else { return };
        let mut op = last;
        loop {
            path.push(op as u32);
            let gpu = self.sequence.gpu[op] as usize;
            let mut at = self.place[op] as usize;
            while self.sequence.joined[order[at] as usize] {
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
                if at == order.len() || !self.sequence.joined[order[at] as usize] {
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
