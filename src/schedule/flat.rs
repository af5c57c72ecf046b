//! Complete schedules in flat arrays: what `best` changes a million times a second.
//!
//! A schedule is held as one topological *sequence* of all operators, a GPU for each, and a mark on those that join the stage of the operator
//! before them. Each GPU runs its stages in the order of the sequence. Every schedule that can run has such a sequence (order its stages by start),
//! and every sequence that respects the dependencies is a schedule that can run, so a change needs no test for deadlock: it must keep each operator
//! between the last of those it reads and the first of those that read it.
//!
//! The answer to "what is the latency after this change?" is that of [`evaluate`](super::evaluate()) (a test holds it to that), found faster:
//!
//! * With free links, a stage's start depends only on stages before it in the sequence, so the pass begins where the change does. Each GPU's
//!   finish time there is known from a checkpoint every [`STRIDE`] places.
//! * With serial links, transfers wait for each other in the order of time, so all stages are run in time order; there is no shortcut.
//! * The caller names the largest latency it would accept. Each stage's finish, plus the longest chain of operators that must still follow it, or plus the work
//!   still to come on its GPU, whichever is more, is a lower bound of the latency; the pass stops as soon as it exceeds the limit. Most changes are refused
//!   after a few stages.

use super::improve::Draw;
use super::known::{Known, share_known_stages};
use super::{LinkMode, Problem, Schedule, Stage};
use crate::cost::Nanos;
use crate::ids::OpId;

/// Places between checkpoints.
const STRIDE: usize = 8;

/// An operand of an operator.
#[derive(Clone, Copy)]
struct Input {
    producer: u32,
    flow: u32,
    /// Transfer time to any other GPU, if links are equal.
    transfer: Nanos,
}

/// A problem in flat arrays.
pub(super) struct Flat {
    pub operators: usize,
    pub gpus: usize,
    pub links: LinkMode,
    /// `time[op * gpus + gpu]`.
    pub time: Vec<Nanos>,
    /// `utilisation[op * gpus + gpu]`.
    utilisation: Vec<f64>,
    /// `work[op * gpus + gpu]`: the least that an operator adds to the busy time of a GPU, whatever stage it is in.
    work: Vec<Nanos>,
    /// The longest chain of operators behind each one, each on its fastest GPU.
    pub tail: Vec<Nanos>,
    first_input: Vec<u32>,
    inputs: Vec<Input>,
    first_reader: Vec<u32>,
    readers: Vec<u32>,
    /// All transfer times of a tensor are equal.
    uniform: bool,
    /// `transfer[(flow * gpus + from) * gpus + to]`; 0 where there is no link (only linked GPUs are used).
    transfer: Vec<Nanos>,
    /// `flows[first_flow[op]..]`: the tensors an operator makes, by tensor id, with their readers.
    first_flow: Vec<u32>,
    flows: Vec<u32>,
    flow_readers: Vec<Vec<u32>>,
    /// Place of each operator in the problem's order.
    position: Vec<u32>,
    /// What is measured of stages, and what merges are worth, if stages of several operators will be asked about.
    known: Known,
}

impl Flat {
    /// `grouped`: whether stages of several operators will be asked about.
    pub fn new(problem: &Problem, grouped: bool) -> Flat {
        let (operators, gpus) = (problem.operators(), problem.gpus);
        let mut inputs = vec![Vec::new(); operators];
        let mut readers: Vec<Vec<u32>> = vec![Vec::new(); operators];
        let mut flows = vec![Vec::new(); operators];
        let mut uniform = true;
        for (flow, edge) in problem.edges.iter().enumerate() {
            let mut times = edge.transfer.iter().flatten().flatten().copied();
            let first = times.next().unwrap_or(0);
            uniform &= times.all(|t| t == first);
            flows[edge.producer.index()].push(flow as u32);
            for reader in &edge.consumers {
                inputs[reader.index()].push(Input { producer: edge.producer.0, flow: flow as u32, transfer: first });
                readers[edge.producer.index()].push(reader.0);
            }
        }
        for list in &mut readers {
            list.sort_unstable();
            list.dedup();
        }
        for list in &mut flows {
            list.sort_by_key(|&flow| problem.edges[flow as usize].tensor);
        }
        let time: Vec<Nanos> = problem.time.concat();
        let utilisation: Vec<f64> = problem.utilisation.concat();
        let least = |(&t, &u): (&Nanos, &f64)| if grouped { (0.5 * t as f64 * (1.0 + u)).floor() as Nanos } else { t };
        let mut work: Vec<Nanos> = time.iter().zip(&utilisation).map(least).collect();
        let mut shortest = time.clone();
        if grouped {
            share_known_stages(problem, &time, &mut work, &mut shortest);
        }
        let mut tail = vec![0; operators];
        for op in problem.order.iter().rev().map(|op| op.index()) {
            let least = |next: usize| shortest[next * gpus..(next + 1) * gpus].iter().min().copied().unwrap_or(0);
            let after = |&next: &u32| tail[next as usize] + least(next as usize);
            tail[op] = readers[op].iter().map(after).max().unwrap_or(0);
        }
        Flat {
            operators,
            gpus,
            links: problem.links,
            work,
            time,
            utilisation,
            tail,
            first_input: starts(&inputs),
            inputs: inputs.concat(),
            first_reader: starts(&readers),
            readers: readers.concat(),
            uniform,
            transfer: problem.edges.iter().flat_map(|e| e.transfer.iter().flatten().map(|t| t.unwrap_or(0))).collect(),
            first_flow: starts(&flows),
            flows: flows.concat(),
            flow_readers: problem.edges.iter().map(|e| e.consumers.iter().map(|c| c.0).collect()).collect(),
            position: problem.positions().into_iter().map(|p| p as u32).collect(),
            known: if grouped { Known::new(problem) } else { Known::default() },
        }
    }

    fn inputs(&self, op: usize) -> &[Input] {
        &self.inputs[self.first_input[op] as usize..self.first_input[op + 1] as usize]
    }

    pub fn readers(&self, op: usize) -> &[u32] {
        &self.readers[self.first_reader[op] as usize..self.first_reader[op + 1] as usize]
    }

    /// The producers of what `op` reads.
    pub fn producers(&self, op: usize) -> impl Iterator<Item = u32> {
        self.inputs(op).iter().map(|i| i.producer)
    }

    #[inline]
    fn transfer(&self, input: &Input, from: usize, to: usize) -> Nanos {
        if self.uniform { input.transfer } else { self.transfer[(input.flow as usize * self.gpus + from) * self.gpus + to] }
    }

    /// The least that an operator adds to the busy time of the GPU where that is least.
    pub fn least_work(&self, op: usize) -> Nanos {
        self.work[op * self.gpus..(op + 1) * self.gpus].iter().copied().min().unwrap_or(0)
    }

    /// When the inputs of `op` are on `gpu`, with free links, given where and when their producers ran.
    pub fn ready(&self, op: usize, gpu: usize, gpu_of: &[u32], finish: &[Nanos]) -> Nanos {
        let arrival = |input: &Input| {
            let from = gpu_of[input.producer as usize] as usize;
            finish[input.producer as usize] + if from == gpu { 0 } else { self.transfer(input, from, gpu) }
        };
        self.inputs(op).iter().map(arrival).max().unwrap_or(0)
    }

    /// t(S), as [`stage_time`](super::stage_time).
    pub fn stage_time(&self, gpu: usize, members: &[u32]) -> Nanos {
        if let [only] = members {
            return self.time[*only as usize * self.gpus + gpu];
        }
        let (mut sum, mut busy, mut longest) = (0.0, 0.0, 0.0_f64);
        for &op in members {
            let at = op as usize * self.gpus + gpu;
            let time = self.time[at] as f64;
            sum += time;
            busy += time * self.utilisation[at];
            longest = longest.max(time);
        }
        let modelled = (0.5 * sum + 0.5 * f64::max(busy, longest) + 0.5).floor() as Nanos;
        if self.known.is_empty() {
            return modelled;
        }
        let concurrent = self.known.measured(gpu, members).unwrap_or(modelled);
        self.known.merged(gpu, members).map_or(concurrent, |merged| merged.min(concurrent))
    }
}

/// Where each list begins when all are laid end to end, and where the last ends.
fn starts<T>(lists: &[Vec<T>]) -> Vec<u32> {
    let mut starts = vec![0];
    for list in lists {
        starts.push(starts[starts.len() - 1] + list.len() as u32);
    }
    starts
}

/// A schedule as a sequence.
#[derive(Clone, Default)]
pub(super) struct Sequence {
    /// All operators in a topological order.
    pub order: Vec<u32>,
    /// GPU of each operator, by operator.
    pub gpu: Vec<u32>,
    /// Whether an operator is in the stage of the one before it, by operator.
    pub joined: Vec<bool>,
}

impl Sequence {
    /// A schedule as a sequence: its stages by start.
    pub fn new(schedule: &Schedule, timeline: &super::Timeline, operators: usize) -> Sequence {
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

/// A sequence with its times, ready to be changed.
pub(super) struct Timed<'f> {
    pub flat: &'f Flat,
    pub sequence: Sequence,
    /// Place of each operator in the sequence.
    pub place: Vec<u32>,
    /// When each operator's stage finishes. After a refused change, the old times are restored.
    pub finish: Vec<Nanos>,
    pub latency: Nanos,
    /// `free_at[(place / STRIDE) * gpus + gpu]`: when each GPU has finished its part of the sequence before that place.
    free_at: Vec<Nanos>,
    /// In the same way, the work of that part.
    done_at: Vec<Nanos>,
    /// The work of each GPU.
    load: Vec<Nanos>,
    /// Trial finish times; equal to `finish` outside a trial.
    trial: Vec<Nanos>,
    free: Vec<Nanos>,
    left: Vec<Nanos>,
    serial: Serial,
}

/// What it takes to undo a merge.
pub(super) struct Merge {
    begin: usize,
    op: u32,
    old: Vec<u32>,
}

/// What a run with serial links needs, kept to save allocations.
#[derive(Default)]
struct Serial {
    missing: Vec<u32>,
    ready: Vec<Nanos>,
    /// Stages of each GPU: where each begins in the sequence.
    queues: Vec<Vec<u32>>,
    next: Vec<usize>,
    running: Vec<Nanos>,
    arrived: Vec<(u32, Nanos)>,
    link_free: Vec<Nanos>,
    finished: Vec<(u32, u32)>,
}

impl<'f> Timed<'f> {
    pub fn new(flat: &'f Flat, sequence: Sequence) -> Timed<'f> {
        let (n, gpus) = (flat.operators, flat.gpus);
        let mut place = vec![0; n];
        for (at, &op) in sequence.order.iter().enumerate() {
            place[op as usize] = at as u32;
        }
        let mut load = vec![0; gpus];
        for op in 0..n {
            let gpu = sequence.gpu[op] as usize;
            load[gpu] += flat.work[op * gpus + gpu];
        }
        let checkpoints = n / STRIDE + 1;
        let mut timed = Timed {
            flat,
            sequence,
            place,
            finish: vec![0; n],
            latency: 0,
            free_at: vec![0; checkpoints * gpus],
            done_at: vec![0; checkpoints * gpus],
            load,
            trial: vec![0; n],
            free: vec![0; gpus],
            left: vec![0; gpus],
            serial: Serial::default(),
        };
        let latency = timed.try_from(0, Nanos::MAX).unwrap_or(0);
        timed.keep(0, latency);
        timed
    }

    /// Puts an operator on another GPU, without timing.
    pub fn set_gpu(&mut self, op: usize, gpu: u32) {
        let gpus = self.flat.gpus;
        let old = self.sequence.gpu[op] as usize;
        self.load[old] -= self.flat.work[op * gpus + old];
        self.load[gpu as usize] += self.flat.work[op * gpus + gpu as usize];
        self.sequence.gpu[op] = gpu;
    }

    /// The GPU of an operator that `op` reads from, or that reads from it; its own if there is none.
    pub fn neighbour_gpu(&self, op: usize, draw: &mut Draw) -> u32 {
        let (inputs, readers) = (self.flat.inputs(op), self.flat.readers(op));
        if inputs.len() + readers.len() == 0 {
            return self.sequence.gpu[op];
        }
        let choice = draw.below(inputs.len() + readers.len());
        let other = if choice < inputs.len() { inputs[choice].producer } else { readers[choice - inputs.len()] };
        self.sequence.gpu[other as usize]
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

    /// The latency if it is at most `limit`; nothing before place `from` (the beginning of a stage) has changed since the last
    /// [`keep`](Timed::keep).
    pub fn try_from(&mut self, from: usize, limit: Nanos) -> Option<Nanos> {
        match (self.flat.links, self.flat.uniform) {
            (LinkMode::Free, true) => self.try_free::<true>(from, limit),
            (LinkMode::Free, false) => self.try_free::<false>(from, limit),
            (LinkMode::Serial, _) => self.try_serial(limit),
        }
    }

    fn try_free<const UNIFORM: bool>(&mut self, from: usize, limit: Nanos) -> Option<Nanos> {
        let flat = self.flat;
        let gpus = flat.gpus;
        let order = &self.sequence.order[..];
        let gpu_of = &self.sequence.gpu[..];
        let checkpoint = from / STRIDE;
        self.free.copy_from_slice(&self.free_at[checkpoint * gpus..(checkpoint + 1) * gpus]);
        for (gpu, left) in self.left.iter_mut().enumerate() {
            *left = self.load[gpu] - self.done_at[checkpoint * gpus + gpu];
        }
        for &op in &order[checkpoint * STRIDE..from] {
            let gpu = gpu_of[op as usize] as usize;
            self.free[gpu] = self.finish[op as usize];
            self.left[gpu] -= flat.work[op as usize * gpus + gpu];
        }
        if (0..gpus).any(|gpu| self.free[gpu] + self.left[gpu] > limit) {
            return None;
        }
        let n = order.len();
        let mut at = from;
        while at < n {
            let first = order[at] as usize;
            let gpu = gpu_of[first] as usize;
            let mut start = self.free[gpu];
            let mut op = first;
            let mut end = at + 1;
            let mut tail = 0;
            loop {
                for input in flat.inputs(op) {
                    let producer = input.producer as usize;
                    let from = gpu_of[producer] as usize;
                    let mut arrival = self.trial[producer];
                    if from != gpu {
                        arrival += if UNIFORM { input.transfer } else { flat.transfer[(input.flow as usize * gpus + from) * gpus + gpu] };
                    }
                    start = start.max(arrival);
                }
                self.left[gpu] -= flat.work[op * gpus + gpu];
                tail = tail.max(flat.tail[op]);
                if end == n || !self.sequence.joined[order[end] as usize] {
                    break;
                }
                op = order[end] as usize;
                end += 1;
            }
            let finish = start + if end == at + 1 { flat.time[first * gpus + gpu] } else { flat.stage_time(gpu, &order[at..end]) };
            for &op in &order[at..end] {
                self.trial[op as usize] = finish;
            }
            if finish + tail.max(self.left[gpu]) > limit {
                for &op in &order[from..end] {
                    self.trial[op as usize] = self.finish[op as usize];
                }
                return None;
            }
            self.free[gpu] = finish;
            at = end;
        }
        Some(self.free.iter().copied().max().unwrap_or(0))
    }

    fn try_serial(&mut self, limit: Nanos) -> Option<Nanos> {
        let latency = self.run_serial(limit);
        if latency.is_none() {
            self.trial.copy_from_slice(&self.finish);
        }
        latency
    }

    fn run_serial(&mut self, limit: Nanos) -> Option<Nanos> {
        let flat = self.flat;
        let gpus = flat.gpus;
        let order = &self.sequence.order[..];
        let gpu_of = &self.sequence.gpu[..];
        let joined = &self.sequence.joined[..];
        let s = &mut self.serial;
        s.missing.clear();
        s.missing.resize(order.len(), 0);
        s.ready.clear();
        s.ready.resize(order.len(), 0);
        s.queues.resize(gpus, Vec::new());
        s.queues.iter_mut().for_each(Vec::clear);
        s.next.clear();
        s.next.resize(gpus, 0);
        s.running.clear();
        s.running.resize(gpus, Nanos::MAX);
        s.arrived.clear();
        s.arrived.resize(gpus, (u32::MAX, 0));
        s.link_free.clear();
        s.link_free.resize(gpus * gpus, 0);
        self.free.fill(0);
        self.left.copy_from_slice(&self.load);
        // `missing` and `ready` of a stage are kept under its first operator.
        let mut head = 0;
        let mut heads = std::mem::take(&mut self.trial);
        for (at, &op) in order.iter().enumerate() {
            if !joined[op as usize] {
                head = op as usize;
                s.queues[gpu_of[head] as usize].push(at as u32);
            }
            heads[op as usize] = head as Nanos;
            s.missing[head] += flat.inputs(op as usize).len() as u32;
        }
        // From here on `heads` holds, for stages not finished, their first operator, and for finished ones their finish time.
        let mut latency = 0;
        let result = loop {
            let mut exceeded = false;
            for gpu in 0..gpus {
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
                    self.left[gpu] -= flat.work[op * gpus + gpu];
                    if end == order.len() || !joined[order[end] as usize] {
                        break;
                    }
                    end += 1;
                }
                let finish = self.free[gpu].max(s.ready[first]) + flat.stage_time(gpu, &order[at..end]);
                exceeded |= finish + tail.max(self.left[gpu]) > limit;
                s.running[gpu] = finish;
                latency = latency.max(finish);
            }
            if exceeded {
                break None;
            }
            let now = s.running.iter().copied().min().unwrap_or(Nanos::MAX);
            if now == Nanos::MAX {
                break Some(latency);
            }
            // Each finished stage is on a GPU of its own, so they use different links, and their order does not matter; within a stage, it does.
            for gpu in 0..gpus {
                if s.running[gpu] != now {
                    continue;
                }
                let at = s.queues[gpu][s.next[gpu]] as usize;
                s.next[gpu] += 1;
                self.free[gpu] = now;
                s.running[gpu] = Nanos::MAX;
                s.finished.clear();
                let mut end = at;
                while end == at || (end < order.len() && joined[order[end] as usize]) {
                    let op = order[end];
                    heads[op as usize] = now;
                    s.finished.push((flat.position[op as usize], op));
                    end += 1;
                }
                s.finished.sort_unstable();
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
                            let stage = heads[reader as usize] as usize;
                            s.missing[stage] -= 1;
                            s.ready[stage] = s.ready[stage].max(s.arrived[to].1);
                        }
                    }
                }
            }
        };
        self.trial = heads;
        result
    }

    /// Makes the last successful trial, from place `from`, the current times.
    pub fn keep(&mut self, from: usize, latency: Nanos) {
        let gpus = self.flat.gpus;
        self.latency = latency;
        let n = self.sequence.order.len();
        if self.flat.links == LinkMode::Serial {
            self.finish.copy_from_slice(&self.trial);
            return;
        }
        let checkpoint = from / STRIDE;
        self.free.copy_from_slice(&self.free_at[checkpoint * gpus..(checkpoint + 1) * gpus]);
        self.left.copy_from_slice(&self.done_at[checkpoint * gpus..(checkpoint + 1) * gpus]);
        for at in checkpoint * STRIDE..n {
            if at % STRIDE == 0 {
                let k = at / STRIDE * gpus;
                self.free_at[k..k + gpus].copy_from_slice(&self.free);
                self.done_at[k..k + gpus].copy_from_slice(&self.left);
            }
            let op = self.sequence.order[at] as usize;
            let gpu = self.sequence.gpu[op] as usize;
            self.finish[op] = self.trial[op];
            self.free[gpu] = self.trial[op];
            self.left[gpu] += self.flat.work[op * gpus + gpu];
        }
    }

    /// For each operator of places `begin..end`, the longest way from its stage's start to the end of the schedule; the ways from later places are known.
    pub fn update_ways(&self, begin: usize, end: usize, ways: &mut [Nanos]) {
        let mut next = self.ways_after(end, ways);
        let mut last = end;
        while last > begin {
            let mut first = last - 1;
            while self.sequence.joined[self.sequence.order[first] as usize] {
                first -= 1;
            }
            let members = &self.sequence.order[first..last];
            let gpu = self.sequence.gpu[members[0] as usize] as usize;
            let rest = members.iter().map(|&op| self.way_out(op as usize, 0, ways)).max().unwrap_or(0).max(next[gpu]);
            next[gpu] = rest + self.flat.stage_time(gpu, members);
            for &op in members {
                ways[op as usize] = next[gpu];
            }
            last = first;
        }
    }

    /// For each GPU, the way from the first stage at or after place `at`.
    fn ways_after(&self, at: usize, ways: &[Nanos]) -> Vec<Nanos> {
        let mut next = vec![None; self.flat.gpus];
        let mut missing = next.len();
        for &op in &self.sequence.order[at..] {
            let slot = &mut next[self.sequence.gpu[op as usize] as usize];
            if slot.is_none() {
                *slot = Some(ways[op as usize]);
                missing -= 1;
                if missing == 0 {
                    break;
                }
            }
        }
        next.into_iter().map(|way| way.unwrap_or(0)).collect()
    }

    /// The longest way from the finish of `op` through a reader at or after place `from`.
    fn way_out(&self, op: usize, from: usize, ways: &[Nanos]) -> Nanos {
        let flat = self.flat;
        let gpu = self.sequence.gpu[op] as usize;
        let mut longest = 0;
        for &flow in &flat.flows[flat.first_flow[op] as usize..flat.first_flow[op + 1] as usize] {
            for &reader in &flat.flow_readers[flow as usize] {
                if self.place[reader as usize] as usize >= from {
                    let to = self.sequence.gpu[reader as usize] as usize;
                    let transfer = if to == gpu { 0 } else { flat.transfer[(flow as usize * flat.gpus + gpu) * flat.gpus + to] };
                    longest = longest.max(transfer + ways[reader as usize]);
                }
            }
        }
        longest
    }

    /// With free links: whether some path through the places `begin..end`, which alone have changed, is longer than `limit`. `ways` is right from `end` on.
    pub fn exceeds(&mut self, begin: usize, end: usize, ways: &[Nanos], limit: Nanos) -> bool {
        let flat = self.flat;
        let gpus = flat.gpus;
        let checkpoint = begin / STRIDE;
        self.free.copy_from_slice(&self.free_at[checkpoint * gpus..(checkpoint + 1) * gpus]);
        for &op in &self.sequence.order[checkpoint * STRIDE..begin] {
            self.free[self.sequence.gpu[op as usize] as usize] = self.finish[op as usize];
        }
        let mut exceeded = false;
        let mut at = begin;
        while at < end {
            let next = self.stage_end(at);
            let members = &self.sequence.order[at..next];
            let gpu = self.sequence.gpu[members[0] as usize] as usize;
            let ready = members.iter().map(|&op| flat.ready(op as usize, gpu, &self.sequence.gpu, &self.trial)).max().unwrap_or(0);
            let finish = self.free[gpu].max(ready) + flat.stage_time(gpu, members);
            self.free[gpu] = finish;
            for &op in members {
                self.trial[op as usize] = finish;
                exceeded |= finish + self.way_out(op as usize, end, ways) > limit;
            }
            if exceeded {
                break;
            }
            at = next;
        }
        for &op in &self.sequence.order[begin..end] {
            self.trial[op as usize] = self.finish[op as usize];
        }
        exceeded || self.ways_after(end, ways).iter().zip(&self.free).any(|(way, free)| way + free > limit)
    }

    /// Takes back a successful trial from place `from` on.
    pub fn forget_trial(&mut self, from: usize) {
        match self.flat.links {
            LinkMode::Serial => self.trial.copy_from_slice(&self.finish),
            LinkMode::Free => {
                for &op in &self.sequence.order[from..] {
                    self.trial[op as usize] = self.finish[op as usize];
                }
            }
        }
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

    /// Takes the operator at place `op_at`, alone in its stage, into the stage that begins at `begin` on the same GPU, without timing. Stages between that must come before
    /// the operator are put before the stage; `None`, and nothing changed, if one of them must also come after it.
    pub fn merge(&mut self, begin: usize, op_at: usize) -> Option<Merge> {
        let order = &self.sequence.order;
        let op = order[op_at];
        let end = self.stage_end(begin);
        // From the operator back: whatever one of the stages to be moved depends on, or follows on its GPU, moves too.
        let mut needed = vec![false; op_at - begin];
        let mut gpu_needed = vec![false; self.flat.gpus];
        let need = |of: u32, needed: &mut Vec<bool>| {
            for input in self.flat.inputs(of as usize) {
                let at = self.place[input.producer as usize] as usize;
                if at >= begin {
                    needed[at - begin] = true;
                }
            }
        };
        need(op, &mut needed);
        let mut last = op_at;
        while last > end {
            let mut first = last - 1;
            while self.sequence.joined[order[first] as usize] {
                first -= 1;
            }
            let gpu = self.sequence.gpu[order[first] as usize] as usize;
            if gpu_needed[gpu] || needed[first - begin..last - begin].contains(&true) {
                if gpu == self.sequence.gpu[op as usize] as usize {
                    return None;
                }
                gpu_needed[gpu] = true;
                for at in first..last {
                    needed[at - begin] = true;
                    need(order[at], &mut needed);
                }
            }
            last = first;
        }
        if needed[..end - begin].contains(&true) {
            return None;
        }
        let old = order[begin..=op_at].to_vec();
        let (before, after): (Vec<u32>, Vec<u32>) = {
            let (mut before, mut after) = (Vec::new(), Vec::new());
            for at in end..op_at {
                if needed[at - begin] { before.push(order[at]) } else { after.push(order[at]) }
            }
            (before, after)
        };
        let new = before.iter().chain(&old[..end - begin]).chain([&op]).chain(&after);
        for (offset, &op) in new.enumerate() {
            self.sequence.order[begin + offset] = op;
            self.place[op as usize] = (begin + offset) as u32;
        }
        self.sequence.joined[op as usize] = true;
        Some(Merge { begin, op, old })
    }

    /// Takes back a [`merge`](Timed::merge).
    pub fn unmerge(&mut self, merge: Merge) {
        for (offset, &op) in merge.old.iter().enumerate() {
            self.sequence.order[merge.begin + offset] = op;
            self.place[op as usize] = (merge.begin + offset) as u32;
        }
        self.sequence.joined[merge.op as usize] = false;
    }

    /// The operators on a critical path: from a stage that finishes last, back through what each stage waited for last.
    pub fn critical(&self, path: &mut Vec<u32>) {
        path.clear();
        let flat = self.flat;
        let order = &self.sequence.order;
        let Some(last) = (0..flat.operators).max_by_key(|&op| (self.finish[op], std::cmp::Reverse(op))) else { return };
        let mut op = last;
        loop {
            path.push(op as u32);
            let gpu = self.sequence.gpu[op] as usize;
            let mut at = self.place[op] as usize;
            while self.sequence.joined[order[at] as usize] {
                at -= 1;
            }
            let before = order[..at].iter().rev().find(|&&other| self.sequence.gpu[other as usize] as usize == gpu);
            let mut cause = before.map(|&other| (self.finish[other as usize], other as usize));
            loop {
                let member = order[at] as usize;
                for input in flat.inputs(member) {
                    let producer = input.producer as usize;
                    let from = self.sequence.gpu[producer] as usize;
                    let transfer = if from == gpu { 0 } else { flat.transfer(input, from, gpu) };
                    let arrival = self.finish[producer] + transfer;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::improve::{Limits, anneal};
    use crate::schedule::memory::Ledger;
    use crate::schedule::{baseline, evaluate, window};

    fn problem(draw: &mut Draw, n: usize, gpus: usize, links: LinkMode) -> Problem {
        let mut text = format!("{n}\n");
        for op in 0..n {
            text += &format!("{op} {}e-6 0.{}\n", 1 + draw.below(9), 1 + draw.below(9));
        }
        let mut edges = std::collections::BTreeSet::new();
        for _ in 0..2 * n {
            let (a, b) = (draw.below(n), draw.below(n));
            if a != b {
                edges.insert((a.min(b), a.max(b)));
            }
        }
        text += &format!("{}\n", edges.len());
        for (a, b) in edges {
            text += &format!("{a} {b} {}e-6\n", draw.below(9));
        }
        let mut problem = Problem::from_dag_text(&text, gpus, links).unwrap();
        // Every other problem has unequal GPUs and links.
        if draw.below(2) == 0 {
            for row in &mut problem.time {
                row.iter_mut().for_each(|t| *t = 1 + draw.below(9) as Nanos);
            }
            for edge in &mut problem.edges {
                edge.transfer.iter_mut().flatten().flatten().for_each(|t| *t = draw.below(9) as Nanos);
            }
        }
        problem
    }

    /// After thousands of moves, kept and refused, the latency is that of the exact evaluator.
    #[test]
    fn the_latency_is_the_evaluators() {
        let mut draw = Draw(3);
        for round in 0..120 {
            let links = if round % 2 == 0 { LinkMode::Free } else { LinkMode::Serial };
            let (n, gpus) = (2 + draw.below(40), 1 + draw.below(4));
            let problem = problem(&mut draw, n, gpus, links);
            let max_stage = 1 + round % 3;
            let flat = Flat::new(&problem, max_stage > 1);
            let start = baseline::scatter(&problem).unwrap();
            let mut timed = Timed::new(&flat, Sequence::new(&start, &evaluate(&problem, &start).unwrap(), n));
            let all: Vec<usize> = (0..gpus).collect();
            for _ in 0..20 {
                let limits = Limits { gpus: &all, max_stage, evaluations: 100, hot: 0.1, cold: 0.05, ledger: &Ledger::new(&problem) };
                anneal(&mut timed, &limits, &mut draw);
                let schedule = timed.sequence.schedule("test", &flat);
                assert!(schedule.gpus.iter().flatten().all(|stage| stage.operators.len() <= max_stage));
                let timeline = evaluate(&problem, &schedule).unwrap();
                assert_eq!(timed.latency, timeline.latency, "round {round}");
                let fresh = Timed::new(&flat, timed.sequence.clone());
                assert_eq!((&fresh.finish, &fresh.free_at, &fresh.done_at), (&timed.finish, &timed.free_at, &timed.done_at));
                let grouped = window::group(&problem, schedule, 4, max_stage).unwrap();
                assert!(evaluate(&problem, &grouped).unwrap().latency <= timeline.latency);
            }
        }
    }
}
