//! The times of a sequence with free links, from the place of a change on.
//!
//! With free links, a stage's start depends only on stages before it in the sequence, so the pass begins where the change does. Each GPU's finish time there is
//! known from a checkpoint every [`STRIDE`] places. Each stage's finish, plus the longest chain of operators that must still follow it, or plus the work
//! still to come on its GPU, whichever is more, is a lower bound of the latency; the pass stops as soon as it exceeds the limit.

use super::flat::Flat;
use super::sequence::{FULL_GUIDE, Outcome, Sequence, Timed};
use crate::device::Nanos;

/// Places between checkpoints.
const STRIDE: usize = 8;

/// See the top of this file.
pub(in crate::schedule) struct FreeLinks {
    /// When each operator's stage finishes. After a refused change, the old times are restored.
    pub finish: Vec<Nanos>,
    /// `free_at[(place / STRIDE) * gpus + gpu]`: when each GPU has finished its part of the sequence before that place.
    pub free_at: Vec<Nanos>,
    /// In the same way, the work of that part.
    pub done_at: Vec<Nanos>,
    /// The work of each GPU.
    pub load: Vec<Nanos>,
    /// Trial finish times; equal to `finish` outside a trial.
    pub trial: Vec<Nanos>,
    /// When each GPU has finished the part of the sequence that a pass has seen.
    free: Vec<Nanos>,
    left: Vec<Nanos>,
}

impl FreeLinks {
    /// Nothing timed yet.
    pub fn new(flat: &Flat, sequence: &Sequence) -> FreeLinks {
        let (n, gpus) = (flat.operators, flat.gpus);
        let mut load = vec![0; gpus];
        for op in 0..n {
            let gpu = sequence.gpu[op] as usize;
            load[gpu] += flat.work[op * gpus + gpu];
        }
        let checkpoints = n / STRIDE + 1;
        FreeLinks {
            finish: vec![0; n],
            free_at: vec![0; checkpoints * gpus],
            done_at: vec![0; checkpoints * gpus],
            load,
            trial: vec![0; n],
            free: vec![0; gpus],
            left: vec![0; gpus],
        }
    }
}

/// What it means that the GPUs are done at these times.
pub(super) fn outcome(done: &[Nanos], guide: Nanos) -> Outcome {
    let latency = done.iter().copied().max().unwrap_or(0);
    let guided = if guide > 0 { weigh(done.iter().sum(), done.len(), guide) } else { 0 };
    Outcome { latency, cost: latency + guided }
}

/// What the sum of the times at which `gpus` GPUs are done adds to the cost.
fn weigh(sum: Nanos, gpus: usize, guide: Nanos) -> Nanos {
    sum / gpus as Nanos / FULL_GUIDE * guide
}

impl Timed<'_> {
    /// As [`try_from`](Timed::try_from), with free links.
    pub fn try_free(&mut self, from: usize, limit: Nanos) -> Option<Outcome> {
        if self.flat.uniform { self.pass::<true>(from, limit) } else { self.pass::<false>(from, limit) }
    }

    fn pass<const UNIFORM: bool>(&mut self, from: usize, limit: Nanos) -> Option<Outcome> {
        let flat = self.flat;
        let gpus = flat.gpus;
        let bound = &mut self.bound;
        let order = &self.sequence.order[..];
        let gpu_of = &self.sequence.gpu[..];
        let checkpoint = from / STRIDE;
        bound.free.copy_from_slice(&bound.free_at[checkpoint * gpus..(checkpoint + 1) * gpus]);
        for (gpu, left) in bound.left.iter_mut().enumerate() {
            *left = bound.load[gpu] - bound.done_at[checkpoint * gpus + gpu];
        }
        for &op in &order[checkpoint * STRIDE..from] {
            let gpu = gpu_of[op as usize] as usize;
            bound.free[gpu] = bound.finish[op as usize];
            bound.left[gpu] -= flat.work[op as usize * gpus + gpu];
        }
        let cost_limit = limit;
        let limit = if self.guide > 0 {
            // The GPUs are done no sooner, in the mean, than without any more waiting.
            let done: Nanos = (0..gpus).map(|gpu| bound.free[gpu] + bound.left[gpu]).sum();
            limit.checked_sub(weigh(done, gpus, self.guide))?
        } else {
            limit
        };
        if (0..gpus).any(|gpu| bound.free[gpu] + bound.left[gpu] > limit) {
            return None;
        }
        let n = order.len();
        let mut at = from;
        while at < n {
            let first = order[at] as usize;
            let gpu = gpu_of[first] as usize;
            let mut start = bound.free[gpu];
            let mut op = first;
            let mut end = at + 1;
            let mut tail = 0;
            loop {
                for input in flat.inputs(op) {
                    let producer = input.producer as usize;
                    let from = gpu_of[producer] as usize;
                    let mut arrival = bound.trial[producer];
                    if from != gpu {
                        arrival += if UNIFORM { input.transfer } else { flat.transfer[(input.flow as usize * gpus + from) * gpus + gpu] };
                    }
                    start = start.max(arrival);
                }
                bound.left[gpu] -= flat.work[op * gpus + gpu];
                tail = tail.max(flat.tail[op]);
                if end == n || !self.sequence.joined[order[end] as usize] {
                    break;
                }
                op = order[end] as usize;
                end += 1;
            }
            let finish = start + if end == at + 1 { flat.time[first * gpus + gpu] } else { flat.stage_time(gpu, &order[at..end]) };
            for &op in &order[at..end] {
                bound.trial[op as usize] = finish;
            }
            if finish + tail.max(bound.left[gpu]) > limit {
                for &op in &order[from..end] {
                    bound.trial[op as usize] = bound.finish[op as usize];
                }
                return None;
            }
            bound.free[gpu] = finish;
            at = end;
        }
        let outcome = outcome(&bound.free, self.guide);
        if outcome.cost > cost_limit {
            self.forget_free(from);
            return None;
        }
        Some(outcome)
    }

    /// Makes the last successful trial, from place `from`, the current times with free links.
    pub fn keep_free(&mut self, from: usize) {
        let gpus = self.flat.gpus;
        let n = self.sequence.order.len();
        let bound = &mut self.bound;
        let checkpoint = from / STRIDE;
        bound.free.copy_from_slice(&bound.free_at[checkpoint * gpus..(checkpoint + 1) * gpus]);
        bound.left.copy_from_slice(&bound.done_at[checkpoint * gpus..(checkpoint + 1) * gpus]);
        for at in checkpoint * STRIDE..n {
            if at % STRIDE == 0 {
                let k = at / STRIDE * gpus;
                bound.free_at[k..k + gpus].copy_from_slice(&bound.free);
                bound.done_at[k..k + gpus].copy_from_slice(&bound.left);
            }
            let op = self.sequence.order[at] as usize;
            let gpu = self.sequence.gpu[op] as usize;
            bound.finish[op] = bound.trial[op];
            bound.free[gpu] = bound.trial[op];
            bound.left[gpu] += self.flat.work[op * gpus + gpu];
        }
    }

    /// Takes back a successful trial from place `from` on.
    pub fn forget_free(&mut self, from: usize) {
        for &op in &self.sequence.order[from..] {
            self.bound.trial[op as usize] = self.bound.finish[op as usize];
        }
    }

    /// When each GPU has finished what comes before place `at`.
    pub fn free_before(&self, at: usize) -> Vec<Nanos> {
        let gpus = self.flat.gpus;
        let checkpoint = at / STRIDE;
        let mut free = self.bound.free_at[checkpoint * gpus..(checkpoint + 1) * gpus].to_vec();
        for &op in &self.sequence.order[checkpoint * STRIDE..at] {
            free[self.sequence.gpu[op as usize] as usize] = self.bound.finish[op as usize];
        }
        free
    }
}
