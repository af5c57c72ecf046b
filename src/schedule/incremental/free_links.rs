//! The times of a sequence with free links, recomputed from the position of a change on.
//!
//! With free links, a stage's start depends only on earlier stages in the sequence, so a pass
//! begins where the change does. Checkpoints every [`STRIDE`] positions hold each GPU's finish time
//! there. A stage's finish, plus the larger of the longest path behind it and the remaining work of
//! its GPU, is a lower bound of the latency. The pass stops as soon as this exceeds the limit.

use super::evaluator::{Evaluation, FULL_MEAN_WEIGHT, IncrementalEvaluator};
use super::flat_problem::FlatProblem;
use super::sequence::StageSequence;
use crate::device::Nanos;

/// Positions between checkpoints.
const STRIDE: usize = 8;

/// The times of a sequence with free links.
pub(in crate::schedule) struct FreeLinkTimes {
    /// When each operator's stage finishes, in the committed sequence.
    pub finish: Vec<Nanos>,
    /// `gpu_free_at[(position / STRIDE) * gpus + gpu]`: when each GPU has finished its part of the
    /// sequence before that position.
    pub gpu_free_at: Vec<Nanos>,
    /// With the same index, the work of that part.
    pub work_done_at: Vec<Nanos>,
    /// The work of each GPU.
    pub load: Vec<Nanos>,
    /// Finish times of a trial. Equal to `finish` outside a trial.
    pub trial_finish: Vec<Nanos>,
    /// When each GPU has finished the part of the sequence that a pass has seen, and its work after
    /// that.
    free: Vec<Nanos>,
    work_left: Vec<Nanos>,
}

impl FreeLinkTimes {
    /// Times of a sequence that is not evaluated yet.
    pub fn new(flat: &FlatProblem, sequence: &StageSequence) -> FreeLinkTimes {
        let (n, gpus) = (flat.operators, flat.gpus);
        let mut load = vec![0; gpus];
        for op in 0..n {
            let gpu = sequence.gpu[op] as usize;
            load[gpu] += flat.work[op * gpus + gpu];
        }
        let checkpoints = n / STRIDE + 1;
        FreeLinkTimes {
            finish: vec![0; n],
            gpu_free_at: vec![0; checkpoints * gpus],
            work_done_at: vec![0; checkpoints * gpus],
            load,
            trial_finish: vec![0; n],
            free: vec![0; gpus],
            work_left: vec![0; gpus],
        }
    }
}

/// The evaluation of a schedule whose GPUs finish at these times.
pub(super) fn evaluation_of(done: &[Nanos], mean_weight: Nanos) -> Evaluation {
    let latency = done.iter().copied().max().unwrap_or(0);
    let weighted = if mean_weight > 0 { weigh(done.iter().sum(), done.len(), mean_weight) } else { 0 };
    Evaluation { latency, cost: latency + weighted }
}

/// What the sum of the finish times of `gpus` GPUs adds to the cost.
fn weigh(sum: Nanos, gpus: usize, mean_weight: Nanos) -> Nanos {
    sum / gpus as Nanos / FULL_MEAN_WEIGHT * mean_weight
}

impl IncrementalEvaluator<'_> {
    /// [`try_change`](IncrementalEvaluator::try_change) with free links.
    pub fn try_free_links(&mut self, from: usize, limit: Nanos) -> Option<Evaluation> {
        if self.flat.uniform { self.pass::<true>(from, limit) } else { self.pass::<false>(from, limit) }
    }

    fn pass<const UNIFORM: bool>(&mut self, from: usize, limit: Nanos) -> Option<Evaluation> {
        let flat = self.flat;
        let gpus = flat.gpus;
        let times = &mut self.free_links;
        let order = &self.sequence.order[..];
        let gpu_of = &self.sequence.gpu[..];
        let checkpoint = from / STRIDE;
        times.free.copy_from_slice(&times.gpu_free_at[checkpoint * gpus..(checkpoint + 1) * gpus]);
        for (gpu, left) in times.work_left.iter_mut().enumerate() {
            *left = times.load[gpu] - times.work_done_at[checkpoint * gpus + gpu];
        }
        for &op in &order[checkpoint * STRIDE..from] {
            let gpu = gpu_of[op as usize] as usize;
            times.free[gpu] = times.finish[op as usize];
            times.work_left[gpu] -= flat.work[op as usize * gpus + gpu];
        }
        let cost_limit = limit;
        let limit = if self.mean_weight > 0 {
            // Without any more waiting, the mean finish time of the GPUs would be this. It cannot
            // be lower.
            let done: Nanos = (0..gpus).map(|gpu| times.free[gpu] + times.work_left[gpu]).sum();
            limit.checked_sub(weigh(done, gpus, self.mean_weight))?
        } else {
            limit
        };
        if (0..gpus).any(|gpu| times.free[gpu] + times.work_left[gpu] > limit) {
            return None;
        }
        let n = order.len();
        let mut at = from;
        while at < n {
            let first = order[at] as usize;
            let gpu = gpu_of[first] as usize;
            let mut start = times.free[gpu];
            let mut op = first;
            let mut end = at + 1;
            let mut tail = 0;
            loop {
                for input in flat.inputs(op) {
                    let producer = input.producer as usize;
                    let from = gpu_of[producer] as usize;
                    let mut arrival = times.trial_finish[producer];
                    if from != gpu {
                        arrival += if UNIFORM { input.transfer } else { flat.transfer[(input.edge as usize * gpus + from) * gpus + gpu] };
                    }
                    start = start.max(arrival);
                }
                times.work_left[gpu] -= flat.work[op * gpus + gpu];
                tail = tail.max(flat.tail[op]);
                if end == n || !self.sequence.grouped[order[end] as usize] {
                    break;
                }
                op = order[end] as usize;
                end += 1;
            }
            let finish = start + if end == at + 1 { flat.time[first * gpus + gpu] } else { flat.stage_time(gpu, &order[at..end]) };
            for &op in &order[at..end] {
                times.trial_finish[op as usize] = finish;
            }
            if finish + tail.max(times.work_left[gpu]) > limit {
                for &op in &order[from..end] {
                    times.trial_finish[op as usize] = times.finish[op as usize];
                }
                return None;
            }
            times.free[gpu] = finish;
            at = end;
        }
        let evaluation = evaluation_of(&times.free, self.mean_weight);
        if evaluation.cost > cost_limit {
            self.roll_back_free_links(from);
            return None;
        }
        Some(evaluation)
    }

    /// Makes the last successful trial, from position `from`, the current times with free links.
    pub fn commit_free_links(&mut self, from: usize) {
        let gpus = self.flat.gpus;
        let n = self.sequence.order.len();
        let times = &mut self.free_links;
        let checkpoint = from / STRIDE;
        times.free.copy_from_slice(&times.gpu_free_at[checkpoint * gpus..(checkpoint + 1) * gpus]);
        times.work_left.copy_from_slice(&times.work_done_at[checkpoint * gpus..(checkpoint + 1) * gpus]);
        for at in checkpoint * STRIDE..n {
            if at % STRIDE == 0 {
                let k = at / STRIDE * gpus;
                times.gpu_free_at[k..k + gpus].copy_from_slice(&times.free);
                times.work_done_at[k..k + gpus].copy_from_slice(&times.work_left);
            }
            let op = self.sequence.order[at] as usize;
            let gpu = self.sequence.gpu[op] as usize;
            times.finish[op] = times.trial_finish[op];
            times.free[gpu] = times.trial_finish[op];
            times.work_left[gpu] += self.flat.work[op * gpus + gpu];
        }
    }

    /// Discards a successful trial from position `from` on.
    pub fn roll_back_free_links(&mut self, from: usize) {
        for &op in &self.sequence.order[from..] {
            self.free_links.trial_finish[op as usize] = self.free_links.finish[op as usize];
        }
    }

    /// When each GPU has finished what comes before position `at`.
    pub fn free_before(&self, at: usize) -> Vec<Nanos> {
        let gpus = self.flat.gpus;
        let checkpoint = at / STRIDE;
        let mut free = self.free_links.gpu_free_at[checkpoint * gpus..(checkpoint + 1) * gpus].to_vec();
        for &op in &self.sequence.order[checkpoint * STRIDE..at] {
            free[self.sequence.gpu[op as usize] as usize] = self.free_links.finish[op as usize];
        }
        free
    }
}
