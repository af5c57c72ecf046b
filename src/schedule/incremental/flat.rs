//! Problems in flat arrays: what `best` and the window ask a million times a second.
//!
//! A [`Flat`] is read only; `sequence.rs` holds a schedule of it, `free_links.rs` and `serial_links.rs` time one, `merge.rs` is the window's part.

use super::known::{Known, share_known_stages};
use crate::device::Nanos;
use crate::schedule::{LinkMode, Problem};

/// An operand of an operator.
#[derive(Clone, Copy)]
pub(in crate::schedule) struct Input {
    pub producer: u32,
    pub flow: u32,
    /// Transfer time to any other GPU, if links are equal.
    pub transfer: Nanos,
}

/// A problem in flat arrays.
pub(in crate::schedule) struct Flat {
    pub operators: usize,
    pub gpus: usize,
    pub links: LinkMode,
    /// `time[op * gpus + gpu]`.
    pub time: Vec<Nanos>,
    /// `utilisation[op * gpus + gpu]`.
    utilisation: Vec<f64>,
    /// `work[op * gpus + gpu]`: the least that an operator adds to the busy time of a GPU, whatever stage it is in.
    pub work: Vec<Nanos>,
    /// The longest chain of operators behind each one, each on its fastest GPU.
    pub tail: Vec<Nanos>,
    first_input: Vec<u32>,
    inputs: Vec<Input>,
    first_reader: Vec<u32>,
    readers: Vec<u32>,
    /// All transfer times of a tensor are equal.
    pub uniform: bool,
    /// `transfer[(flow * gpus + from) * gpus + to]`; 0 where there is no link (only linked GPUs are used).
    pub transfer: Vec<Nanos>,
    /// `flows[first_flow[op]..]`: the tensors an operator makes, by tensor id, with their readers.
    pub first_flow: Vec<u32>,
    pub flows: Vec<u32>,
    pub flow_readers: Vec<Vec<u32>>,
    /// Place of each operator in the problem's order.
    pub position: Vec<u32>,
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

    pub fn inputs(&self, op: usize) -> &[Input] {
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
    pub fn transfer(&self, input: &Input, from: usize, to: usize) -> Nanos {
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

    /// t(S), as [`stage_time`](crate::schedule::stage_time).
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
