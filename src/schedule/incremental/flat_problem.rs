//! A problem in flat arrays, for searches that evaluate a million schedules.
//!
//! A [`FlatProblem`] is read only. `evaluator.rs` holds a schedule of it with its times.

use super::stage_costs::{StageCosts, lower_by_known_stages};
use crate::device::Nanos;
use crate::schedule::{LinkMode, Problem};

/// An input of an operator.
#[derive(Clone, Copy)]
pub(in crate::schedule) struct InputEdge {
    pub producer: u32,
    pub edge: u32,
    /// Transfer time to any other GPU, if it is the same between all GPUs.
    pub transfer: Nanos,
}

/// A problem in flat arrays.
pub(in crate::schedule) struct FlatProblem {
    pub operators: usize,
    pub gpus: usize,
    pub links: LinkMode,
    /// `time[op * gpus + gpu]`.
    pub time: Vec<Nanos>,
    /// `utilisation[op * gpus + gpu]`.
    utilisation: Vec<f64>,
    /// `work[op * gpus + gpu]`: the least that an operator adds to the busy time of a GPU, in any
    /// stage.
    pub work: Vec<Nanos>,
    /// The longest path behind each operator, with each operator on it on its fastest GPU.
    pub tail: Vec<Nanos>,
    first_input: Vec<u32>,
    inputs: Vec<InputEdge>,
    first_reader: Vec<u32>,
    readers: Vec<u32>,
    /// Whether the transfer time of each tensor is the same between all GPUs.
    pub uniform: bool,
    /// `transfer[(edge * gpus + from) * gpus + to]`; 0 where there is no link (only linked GPUs are
    /// used).
    pub transfer: Vec<Nanos>,
    /// `outputs[first_output[op]..first_output[op + 1]]`: the edges of the tensors that an operator
    /// computes, by tensor id. `edge_readers[edge]`: the operators that read it.
    pub first_output: Vec<u32>,
    pub outputs: Vec<u32>,
    pub edge_readers: Vec<Vec<u32>>,
    /// Position of each operator in the problem's topological order.
    pub topological_position: Vec<u32>,
    /// Measured stages and merges. Empty unless `new` was told that stages may have several
    /// operators.
    stage_costs: StageCosts,
}

impl FlatProblem {
    /// `grouped`: whether stages may have several operators.
    pub fn new(problem: &Problem, grouped: bool) -> FlatProblem {
        let (operators, gpus) = (problem.operators(), problem.gpus);
        let mut inputs = vec![Vec::new(); operators];
        let mut readers: Vec<Vec<u32>> = vec![Vec::new(); operators];
        let mut outputs = vec![Vec::new(); operators];
        let mut uniform = true;
        for (index, edge) in problem.edges.iter().enumerate() {
            let mut times = edge.transfer.iter().flatten().flatten().copied();
            let first = times.next().unwrap_or(0);
            uniform &= times.all(|t| t == first);
            outputs[edge.producer.index()].push(index as u32);
            for reader in &edge.consumers {
                inputs[reader.index()].push(InputEdge { producer: edge.producer.0, edge: index as u32, transfer: first });
                readers[edge.producer.index()].push(reader.0);
            }
        }
        for list in &mut readers {
            list.sort_unstable();
            list.dedup();
        }
        for list in &mut outputs {
            list.sort_by_key(|&edge| problem.edges[edge as usize].tensor);
        }
        let time: Vec<Nanos> = problem.time.concat();
        let utilisation: Vec<f64> = problem.utilisation.concat();
        let least = |(&t, &u): (&Nanos, &f64)| if grouped { (0.5 * t as f64 * (1.0 + u)).floor() as Nanos } else { t };
        let mut work: Vec<Nanos> = time.iter().zip(&utilisation).map(least).collect();
        let mut shortest = time.clone();
        if grouped {
            lower_by_known_stages(problem, &time, &mut work, &mut shortest);
        }
        let mut tail = vec![0; operators];
        for op in problem.order.iter().rev().map(|op| op.index()) {
            let least = |next: usize| shortest[next * gpus..(next + 1) * gpus].iter().min().copied().unwrap_or(0);
            let after = |&next: &u32| tail[next as usize] + least(next as usize);
            tail[op] = readers[op].iter().map(after).max().unwrap_or(0);
        }
        FlatProblem {
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
            first_output: starts(&outputs),
            outputs: outputs.concat(),
            edge_readers: problem.edges.iter().map(|e| e.consumers.iter().map(|c| c.0).collect()).collect(),
            topological_position: problem.positions().into_iter().map(|p| p as u32).collect(),
            stage_costs: if grouped { StageCosts::new(problem) } else { StageCosts::default() },
        }
    }

    pub fn inputs(&self, op: usize) -> &[InputEdge] {
        &self.inputs[self.first_input[op] as usize..self.first_input[op + 1] as usize]
    }

    pub fn readers(&self, op: usize) -> &[u32] {
        &self.readers[self.first_reader[op] as usize..self.first_reader[op + 1] as usize]
    }

    /// The operators that compute the inputs of `op`.
    pub fn producers(&self, op: usize) -> impl Iterator<Item = u32> {
        self.inputs(op).iter().map(|i| i.producer)
    }

    #[inline]
    pub fn transfer(&self, input: &InputEdge, from: usize, to: usize) -> Nanos {
        if self.uniform { input.transfer } else { self.transfer[(input.edge as usize * self.gpus + from) * self.gpus + to] }
    }

    /// The least that an operator adds to the busy time of any GPU.
    pub fn least_work(&self, op: usize) -> Nanos {
        self.work[op * self.gpus..(op + 1) * self.gpus].iter().copied().min().unwrap_or(0)
    }

    /// When the inputs of `op` are on `gpu` with free links, given where and when their producers
    /// ran.
    pub fn ready(&self, op: usize, gpu: usize, gpu_of: &[u32], finish: &[Nanos]) -> Nanos {
        let arrival = |input: &InputEdge| {
            let from = gpu_of[input.producer as usize] as usize;
            finish[input.producer as usize] + if from == gpu { 0 } else { self.transfer(input, from, gpu) }
        };
        self.inputs(op).iter().map(arrival).max().unwrap_or(0)
    }

    /// t(S), like [`stage_time`](crate::schedule::stage_time).
    pub fn stage_time(&self, gpu: usize, members: &[u32]) -> Nanos {
        if let [only] = members {
            return self.time[*only as usize * self.gpus + gpu];
        }
        let (mut sum, mut busy, mut longest) = (0.0, 0.0, 0.0_f64);
        for &op in members {
            let index = op as usize * self.gpus + gpu;
            let time = self.time[index] as f64;
            sum += time;
            busy += time * self.utilisation[index];
            longest = longest.max(time);
        }
        let modelled = (0.5 * sum + 0.5 * f64::max(busy, longest) + 0.5).floor() as Nanos;
        if self.stage_costs.is_empty() {
            return modelled;
        }
        let concurrent = self.stage_costs.measured_time(gpu, members).unwrap_or(modelled);
        self.stage_costs.merged_time(gpu, members).map_or(concurrent, |merged| merged.min(concurrent))
    }
}

/// Where each list begins when all are concatenated, and where the last one ends.
fn starts<T>(lists: &[Vec<T>]) -> Vec<u32> {
    let mut starts = vec![0];
    for list in lists {
        starts.push(starts[starts.len() - 1] + list.len() as u32);
    }
    starts
}
