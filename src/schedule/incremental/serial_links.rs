//! The times of a sequence with serial links. All stages are simulated in order of time, since
//! transfers queue in that order.

use super::evaluator::{Evaluation, IncrementalEvaluator};
use super::flat_problem::FlatProblem;
use super::free_links::evaluation_of;
use crate::device::Nanos;

/// The times of a sequence with serial links, and buffers for a simulation, kept to save
/// allocations.
pub(in crate::schedule) struct SerialLinkTimes {
    /// When each operator's stage finishes.
    pub finish: Vec<Nanos>,
    /// The finish times of the last simulation.
    trial_finish: Vec<Nanos>,
    /// The first operator of each operator's stage. `missing_inputs` and `ready` of a stage are
    /// stored under it.
    heads: Vec<u32>,
    missing_inputs: Vec<u32>,
    ready: Vec<Nanos>,
    /// The stages of each GPU, by the position at which each begins.
    queues: Vec<Vec<u32>>,
    next: Vec<usize>,
    running: Vec<Nanos>,
    free: Vec<Nanos>,
    work_left: Vec<Nanos>,
    arrived: Vec<(u32, Nanos)>,
    link_free: Vec<Nanos>,
    finished: Vec<(u32, u32)>,
}

impl SerialLinkTimes {
    /// Times of a sequence that is not evaluated yet.
    pub fn new(flat: &FlatProblem) -> SerialLinkTimes {
        let (n, gpus) = (flat.operators, flat.gpus);
        SerialLinkTimes {
            finish: vec![0; n],
            trial_finish: vec![0; n],
            heads: vec![0; n],
            missing_inputs: vec![0; n],
            ready: vec![0; n],
            queues: vec![Vec::new(); gpus],
            next: vec![0; gpus],
            running: vec![0; gpus],
            free: vec![0; gpus],
            work_left: vec![0; gpus],
            arrived: vec![(0, 0); gpus],
            link_free: vec![0; gpus * gpus],
            finished: Vec::new(),
        }
    }

    /// Makes the last simulation the current times.
    pub fn commit(&mut self) {
        self.finish.copy_from_slice(&self.trial_finish);
    }
}

impl IncrementalEvaluator<'_> {
    /// The evaluation with serial links, if its cost is at most `limit`. `bound` is the one with
    /// free links.
    pub fn try_serial_links(&mut self, bound: Evaluation, limit: Nanos) -> Option<Evaluation> {
        // The GPUs finish no sooner than with free links.
        let latency_limit = limit - (bound.cost - bound.latency);
        let mut serial = self.serial_links.take()?;
        let within_limit = self.simulate(&mut serial, latency_limit);
        let evaluation = within_limit.then(|| evaluation_of(&serial.free, self.mean_weight)).filter(|evaluation| evaluation.cost <= limit);
        self.serial_links = Some(serial);
        evaluation
    }

    /// Simulates all stages in order of time. Returns whether the latency is at most `limit`.
    fn simulate(&self, s: &mut SerialLinkTimes, limit: Nanos) -> bool {
        let flat = self.flat;
        let gpus = flat.gpus;
        let order = &self.sequence.order[..];
        let gpu_of = &self.sequence.gpu[..];
        let grouped = &self.sequence.grouped[..];
        s.missing_inputs.fill(0);
        s.ready.fill(0);
        s.queues.iter_mut().for_each(Vec::clear);
        s.next.fill(0);
        s.running.fill(Nanos::MAX);
        s.arrived.fill((u32::MAX, 0));
        s.link_free.fill(0);
        s.free.fill(0);
        s.work_left.copy_from_slice(&self.free_links.load);
        let mut head = 0;
        for (at, &op) in order.iter().enumerate() {
            if !grouped[op as usize] {
                head = op as usize;
                s.queues[gpu_of[head] as usize].push(at as u32);
            }
            s.heads[op as usize] = head as u32;
            s.missing_inputs[head] += flat.inputs(op as usize).len() as u32;
        }
        // A bit mask of the GPUs whose next stage may have become ready.
        let mut changed = u64::MAX >> (64 - gpus);
        loop {
            while changed != 0 {
                let gpu = changed.trailing_zeros() as usize;
                changed &= changed - 1;
                if s.running[gpu] != Nanos::MAX {
                    continue;
                }
                let Some(&at) = s.queues[gpu].get(s.next[gpu]) else { continue };
                let at = at as usize;
                let first = order[at] as usize;
                if s.missing_inputs[first] > 0 {
                    continue;
                }
                let mut end = at + 1;
                let mut tail = 0;
                loop {
                    let op = order[end - 1] as usize;
                    tail = tail.max(flat.tail[op]);
                    s.work_left[gpu] -= flat.work[op * gpus + gpu];
                    if end == order.len() || !grouped[order[end] as usize] {
                        break;
                    }
                    end += 1;
                }
                let finish = s.free[gpu].max(s.ready[first]) + flat.stage_time(gpu, &order[at..end]);
                if finish + tail.max(s.work_left[gpu]) > limit {
                    return false;
                }
                s.running[gpu] = finish;
            }
            let now = s.running.iter().copied().min().unwrap_or(Nanos::MAX);
            if now == Nanos::MAX {
                return true;
            }
            // Each finished stage is on a GPU of its own, so they use different links, and their
            // order does not matter. Within a stage, it does.
            for gpu in 0..gpus {
                if s.running[gpu] != now {
                    continue;
                }
                let at = s.queues[gpu][s.next[gpu]] as usize;
                s.next[gpu] += 1;
                s.free[gpu] = now;
                s.running[gpu] = Nanos::MAX;
                changed |= 1 << gpu;
                s.finished.clear();
                let mut end = at;
                while end == at || (end < order.len() && grouped[order[end] as usize]) {
                    let op = order[end];
                    s.trial_finish[op as usize] = now;
                    s.finished.push((flat.topological_position[op as usize], op));
                    end += 1;
                }
                if s.finished.len() > 1 {
                    s.finished.sort_unstable();
                }
                for &(_, op) in &s.finished {
                    let op = op as usize;
                    for &edge in &flat.outputs[flat.first_output[op] as usize..flat.first_output[op + 1] as usize] {
                        for &reader in &flat.edge_readers[edge as usize] {
                            let to = gpu_of[reader as usize] as usize;
                            if s.arrived[to].0 != edge {
                                let mut arrival = now;
                                if to != gpu {
                                    let link = gpu * gpus + to;
                                    arrival = now.max(s.link_free[link]) + flat.transfer[(edge as usize * gpus + gpu) * gpus + to];
                                    s.link_free[link] = arrival;
                                }
                                s.arrived[to] = (edge, arrival);
                            }
                            let stage = s.heads[reader as usize] as usize;
                            s.missing_inputs[stage] -= 1;
                            changed |= u64::from(s.missing_inputs[stage] == 0) << to;
                            s.ready[stage] = s.ready[stage].max(s.arrived[to].1);
                        }
                    }
                }
            }
        }
    }
}
