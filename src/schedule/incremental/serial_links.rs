//! The times of a sequence with serial links: all stages are run in order of time, since transfers wait for each other in that order.

use super::flat::Flat;
use super::free_links::outcome;
use super::sequence::{Outcome, Timed};
use crate::device::Nanos;

/// The times of a schedule with serial links, and what a run needs, kept to save allocations.
pub(in crate::schedule) struct SerialLinks {
    /// When each operator's stage finishes.
    pub finish: Vec<Nanos>,
    /// The same of the last run.
    trial: Vec<Nanos>,
    /// The first operator of each operator's stage: `missing` and `ready` of a stage are kept under it.
    heads: Vec<u32>,
    missing: Vec<u32>,
    ready: Vec<Nanos>,
    /// Stages of each GPU: where each begins in the sequence.
    queues: Vec<Vec<u32>>,
    next: Vec<usize>,
    running: Vec<Nanos>,
    free: Vec<Nanos>,
    left: Vec<Nanos>,
    arrived: Vec<(u32, Nanos)>,
    link_free: Vec<Nanos>,
    finished: Vec<(u32, u32)>,
}

impl SerialLinks {
    /// Nothing timed yet.
    pub fn new(flat: &Flat) -> SerialLinks {
        let (n, gpus) = (flat.operators, flat.gpus);
        SerialLinks {
            finish: vec![0; n],
            trial: vec![0; n],
            heads: vec![0; n],
            missing: vec![0; n],
            ready: vec![0; n],
            queues: vec![Vec::new(); gpus],
            next: vec![0; gpus],
            running: vec![0; gpus],
            free: vec![0; gpus],
            left: vec![0; gpus],
            arrived: vec![(0, 0); gpus],
            link_free: vec![0; gpus * gpus],
            finished: Vec::new(),
        }
    }

    /// Makes the last run the current times.
    pub fn keep(&mut self) {
        self.finish.copy_from_slice(&self.trial);
    }
}

impl Timed<'_> {
    /// The outcome with serial links, if its cost is at most `limit`; `bound` is the one with free links.
    pub fn try_serial(&mut self, bound: Outcome, limit: Nanos) -> Option<Outcome> {
        // The GPUs are done no sooner than with free links.
        let limit_of_latency = limit - (bound.cost - bound.latency);
        let mut serial = self.serial.take()?;
        let done = self.run(&mut serial, limit_of_latency);
        let outcome = done.then(|| outcome(&serial.free, self.guide)).filter(|outcome| outcome.cost <= limit);
        self.serial = Some(serial);
        outcome
    }

    /// Runs all stages in order of time; whether the latency is at most `limit`.
    fn run(&self, s: &mut SerialLinks, limit: Nanos) -> bool {
        let flat = self.flat;
        let gpus = flat.gpus;
        let order = &self.sequence.order[..];
        let gpu_of = &self.sequence.gpu[..];
        let joined = &self.sequence.joined[..];
        s.missing.fill(0);
        s.ready.fill(0);
        s.queues.iter_mut().for_each(Vec::clear);
        s.next.fill(0);
        s.running.fill(Nanos::MAX);
        s.arrived.fill((u32::MAX, 0));
        s.link_free.fill(0);
        s.free.fill(0);
        s.left.copy_from_slice(&self.bound.load);
        // `missing` and `ready` of a stage are kept under its first operator.
        let mut head = 0;
        for (at, &op) in order.iter().enumerate() {
            if !joined[op as usize] {
                head = op as usize;
                s.queues[gpu_of[head] as usize].push(at as u32);
            }
            s.heads[op as usize] = head as u32;
            s.missing[head] += flat.inputs(op as usize).len() as u32;
        }
        // The GPUs whose next stage may have become ready, a bit each.
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
                if s.missing[first] > 0 {
                    continue;
                }
                let mut end = at + 1;
                let mut tail = 0;
                loop {
                    let op = order[end - 1] as usize;
                    tail = tail.max(flat.tail[op]);
                    s.left[gpu] -= flat.work[op * gpus + gpu];
                    if end == order.len() || !joined[order[end] as usize] {
                        break;
                    }
                    end += 1;
                }
                let finish = s.free[gpu].max(s.ready[first]) + flat.stage_time(gpu, &order[at..end]);
                if finish + tail.max(s.left[gpu]) > limit {
                    return false;
                }
                s.running[gpu] = finish;
            }
            let now = s.running.iter().copied().min().unwrap_or(Nanos::MAX);
            if now == Nanos::MAX {
                return true;
            }
            // Each finished stage is on a GPU of its own, so they use different links, and their order does not matter; within a stage, it does.
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
                while end == at || (end < order.len() && joined[order[end] as usize]) {
                    let op = order[end];
                    s.trial[op as usize] = now;
                    s.finished.push((flat.position[op as usize], op));
                    end += 1;
                }
                if s.finished.len() > 1 {
                    s.finished.sort_unstable();
                }
                for &(_, op) in &s.finished {
                    let op = op as usize;
                    for &flow in &flat.flows[flat.first_flow[op] as usize..flat.first_flow[op + 1] as usize] {
                        for &reader in &flat.flow_readers[flow as usize] {
                            let to = gpu_of[reader as usize] as usize;
                            if s.arrived[to].0 != flow {
                                let mut arrival = now;
                                if to != gpu {
                                    let link = gpu * gpus + to;
                                    arrival = now.max(s.link_free[link]) + flat.transfer[(flow as usize * gpus + gpu) * gpus + to];
                                    s.link_free[link] = arrival;
                                }
                                s.arrived[to] = (flow, arrival);
                            }
                            let stage = s.heads[reader as usize] as usize;
                            s.missing[stage] -= 1;
                            changed |= u64::from(s.missing[stage] == 0) << to;
                            s.ready[stage] = s.ready[stage].max(s.arrived[to].1);
                        }
                    }
                }
            }
        }
    }
}
