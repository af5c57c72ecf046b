//! Checks a schedule and its timeline, knowing nothing of how either was made.
//!
//! ## Rules
//!
//! 1. *Once.* Every operator is in exactly one stage. No stage is empty. No more GPUs are used than
//!    offered. The timeline has one time per stage.
//! 2. *Order in a stage.* A stage lists its operators in topological order.
//! 3. *Independence.* The stages of all GPUs have a common order that respects each GPU's order and
//!    all dependencies between stages. So no operator of a stage depends on another one through
//!    operators outside the stage. Operators of a stage that depend on each other directly form a
//!    *chain*, run in the order in which they are listed. Chains run concurrently.
//! 4. *Transfers.* Where an operator reads a tensor made on another GPU, there is exactly one
//!    transfer for this (tensor, GPU). It starts from the GPU that made the tensor and uses a link
//!    that exists. There are no other transfers. Transfers are listed by (start, from, to, tensor).
//! 5. *Transfer times.* A transfer takes its link's transfer time. With free links, it starts when
//!    its tensor is ready (when the stage that makes it finishes). With serial links, the transfers
//!    of one ordered GPU pair are taken in the order (tensor ready, position of its producer in the
//!    topological order, tensor id). Each starts when its tensor is ready or when the previous
//!    transfer has ended, whichever is later.
//! 6. *Stage times.* A stage starts at the latest of: 0; the finish of the previous stage on its
//!    GPU; and, for each tensor that one of its operators reads, the time at which that tensor is
//!    available: when it is ready, if it was made on this GPU; otherwise the end of its transfer to
//!    this GPU. The stage ends t(S) after its start.
//! 7. *Latency.* It is the latest finish of a stage, and not below [`lower_bound`].
//! 8. *Memory.* The constants that the operators of a GPU read, each counted once, fit in the GPU's
//!    capacity for weights.

use std::collections::{BTreeMap, BTreeSet};

use super::bounds::lower_bound;
use super::{LinkMode, Problem, Schedule, StageCost, StageTime, Timeline, Transfer};
use crate::device::Nanos;
use crate::error::{Error, Result};
use crate::ids::{GpuId, OpId, TensorId};

fn violated<T>(rule: u32, message: String) -> Result<T> {
    Err(Error::internal("schedule", format!("rule {rule}: {message}")))
}

/// Checks every rule at the top of `schedule/verify.rs`.
///
/// # Errors
///
/// [`Error::Internal`] with the rule that is broken, and where.
pub fn verify(problem: &Problem, schedule: &Schedule, timeline: &Timeline) -> Result<()> {
    problem.check()?;
    let verifier = Verifier { problem, schedule, timeline, stage_of: stages_of(problem, schedule, timeline)? };
    verifier.order_in_stages()?;
    verifier.independence()?;
    verifier.transfers()?;
    verifier.transfer_times()?;
    verifier.stage_times()?;
    verifier.latency()?;
    verifier.memory()
}

/// Rule 1. Returns the (GPU, stage) of each operator.
fn stages_of(problem: &Problem, schedule: &Schedule, timeline: &Timeline) -> Result<Vec<(usize, usize)>> {
    if schedule.gpus.len() > problem.gpus {
        return violated(1, format!("{} GPUs are used, {} offered", schedule.gpus.len(), problem.gpus));
    }
    if timeline.stages.len() != schedule.gpus.len() {
        return violated(1, format!("the schedule has {} GPUs, the timeline {}", schedule.gpus.len(), timeline.stages.len()));
    }
    let mut listed: Vec<(OpId, usize, usize)> = Vec::new();
    for (gpu, stages) in schedule.gpus.iter().enumerate() {
        if stages.len() != timeline.stages[gpu].len() {
            return violated(1, format!("gpu{gpu} has {} stages, in the timeline {}", stages.len(), timeline.stages[gpu].len()));
        }
        for (index, stage) in stages.iter().enumerate() {
            if stage.operators.is_empty() {
                return violated(1, format!("stage {index} of gpu{gpu} is empty"));
            }
            listed.extend(stage.operators.iter().map(|&op| (op, gpu, index)));
        }
    }
    listed.sort_unstable();
    for (expected, (op, ..)) in listed.iter().enumerate() {
        if op.index() < expected {
            return violated(1, format!("operator {op} is in two stages"));
        }
        if op.index() > expected {
            return violated(1, format!("operator {} is in no stage", OpId::new(expected)));
        }
    }
    if listed.len() != problem.time.len() {
        return violated(1, format!("{} operators are scheduled, the problem has {}", listed.len(), problem.time.len()));
    }
    Ok(listed.into_iter().map(|(_, gpu, stage)| (gpu, stage)).collect())
}

/// A transfer of one link: when its tensor is ready, its producer's position in the topological
/// order, and the transfer.
type Queued<'a> = (Nanos, usize, &'a Transfer);

struct Verifier<'a> {
    problem: &'a Problem,
    schedule: &'a Schedule,
    timeline: &'a Timeline,
    /// (GPU, stage) of each operator.
    stage_of: Vec<(usize, usize)>,
}

impl Verifier<'_> {
    /// When the stage that computes `op` finishes.
    fn ready(&self, op: OpId) -> Nanos {
        let (gpu, stage) = self.stage_of[op.index()];
        self.timeline.stages[gpu][stage].finish
    }

    /// Position of each operator in the topological order.
    fn positions(&self) -> BTreeMap<OpId, usize> {
        self.problem.order.iter().enumerate().map(|(position, &op)| (op, position)).collect()
    }

    fn order_in_stages(&self) -> Result<()> {
        let positions = self.positions();
        for (gpu, stages) in self.schedule.gpus.iter().enumerate() {
            for (index, stage) in stages.iter().enumerate() {
                if !stage.operators.is_sorted_by_key(|op| positions[op]) {
                    return violated(2, format!("the operators of stage {index} of gpu{gpu} are not in topological order"));
                }
            }
        }
        Ok(())
    }

    /// Rule 3. If each stage is one node of a graph, a dependency between two operators of a stage
    /// through other stages is a cycle, and so is a deadlock. Stages without predecessors are
    /// removed until none is left. What remains is on a cycle or behind one.
    fn independence(&self) -> Result<()> {
        let mut first = vec![0];
        for stages in &self.schedule.gpus {
            first.push(first[first.len() - 1] + stages.len());
        }
        let node = |(gpu, stage): (usize, usize)| first[gpu] + stage;
        let count = first[first.len() - 1];
        let mut after: Vec<Vec<usize>> = vec![Vec::new(); count];
        let mut before = vec![0; count];
        for (gpu, stages) in self.schedule.gpus.iter().enumerate() {
            for stage in 1..stages.len() {
                after[node((gpu, stage - 1))].push(node((gpu, stage)));
            }
        }
        for edge in &self.problem.edges {
            for &reader in &edge.consumers {
                let (from, to) = (self.stage_of[edge.producer.index()], self.stage_of[reader.index()]);
                if from != to {
                    after[node(from)].push(node(to));
                }
            }
        }
        for &next in after.iter().flatten() {
            before[next] += 1;
        }
        let mut open: Vec<usize> = (0..count).filter(|&n| before[n] == 0).collect();
        let mut removed = 0;
        while let Some(n) = open.pop() {
            removed += 1;
            for &next in &after[n] {
                before[next] -= 1;
                if before[next] == 0 {
                    open.push(next);
                }
            }
        }
        match before.iter().position(|&b| b > 0) {
            None if removed == count => Ok(()),
            stuck => violated(3, format!("the stages wait for each other in a cycle ({} of {count} can run; stuck: {stuck:?})", removed)),
        }
    }

    /// Rule 4.
    fn transfers(&self) -> Result<()> {
        let mut needed: Vec<(TensorId, GpuId, GpuId)> = Vec::new();
        for edge in &self.problem.edges {
            let from = self.stage_of[edge.producer.index()].0;
            let mut to: Vec<usize> =
                edge.consumers.iter().map(|reader| self.stage_of[reader.index()].0).filter(|&gpu| gpu != from).collect();
            to.sort_unstable();
            to.dedup();
            for gpu in to {
                if edge.transfer[from][gpu].is_none() {
                    return violated(4, format!("tensor {} is needed on gpu{gpu}, to which gpu{from} has no link", edge.tensor));
                }
                needed.push((edge.tensor, GpuId::new(from), GpuId::new(gpu)));
            }
        }
        needed.sort_unstable();
        let mut made: Vec<_> = self.timeline.transfers.iter().map(|t| (t.tensor, t.from, t.to)).collect();
        made.sort_unstable();
        if let Some(twice) = made.windows(2).find(|w| w[0] == w[1]) {
            let (tensor, from, to) = twice[0];
            return violated(4, format!("tensor {tensor} is transferred twice from {from} to {to}"));
        }
        if let Some((tensor, from, to)) = needed.iter().find(|t| made.binary_search(t).is_err()) {
            return violated(4, format!("the transfer of tensor {tensor} from {from} to {to} is missing"));
        }
        if let Some((tensor, from, to)) = made.iter().find(|t| needed.binary_search(t).is_err()) {
            return violated(4, format!("no operator needs the transfer of tensor {tensor} from {from} to {to}"));
        }
        if !self.timeline.transfers.is_sorted_by_key(|t| (t.start, t.from, t.to, t.tensor)) {
            return violated(4, "the transfers are not in order".into());
        }
        Ok(())
    }

    /// Rule 5.
    fn transfer_times(&self) -> Result<()> {
        let positions = self.positions();
        let edges: BTreeMap<TensorId, &super::Edge> = self.problem.edges.iter().map(|e| (e.tensor, e)).collect();
        let mut queues: BTreeMap<(GpuId, GpuId), Vec<Queued>> = BTreeMap::new();
        for transfer in &self.timeline.transfers {
            let edge = edges[&transfer.tensor];
            let ready = self.ready(edge.producer);
            let duration = edge.transfer[transfer.from.index()][transfer.to.index()].unwrap_or(0);
            if transfer.start.checked_add(duration) != Some(transfer.finish) {
                return violated(5, format!("{transfer:?} does not take {duration} ns"));
            }
            if self.problem.links == LinkMode::Free && transfer.start != ready {
                return violated(5, format!("{transfer:?} does not start when its tensor is ready, at {ready}"));
            }
            queues.entry((transfer.from, transfer.to)).or_default().push((ready, positions[&edge.producer], transfer));
        }
        if self.problem.links == LinkMode::Serial {
            for queue in queues.values_mut() {
                queue.sort_by_key(|&(ready, position, transfer)| (ready, position, transfer.tensor));
                let mut link_free = 0;
                for &(ready, _, transfer) in queue.iter() {
                    if transfer.start != Nanos::max(ready, link_free) {
                        return violated(5, format!("{transfer:?}: its tensor is ready at {ready}, its link free at {link_free}"));
                    }
                    link_free = transfer.finish;
                }
            }
        }
        Ok(())
    }

    /// Rule 6.
    fn stage_times(&self) -> Result<()> {
        let arrival: BTreeMap<(TensorId, GpuId), Nanos> = self.timeline.transfers.iter().map(|t| ((t.tensor, t.to), t.finish)).collect();
        let mut earliest: Vec<Vec<Nanos>> = self.schedule.gpus.iter().map(|stages| vec![0; stages.len()]).collect();
        for edge in &self.problem.edges {
            for reader in &edge.consumers {
                let (gpu, stage) = self.stage_of[reader.index()];
                if self.stage_of[edge.producer.index()] == (gpu, stage) {
                    continue;
                }
                let local = self.stage_of[edge.producer.index()].0 == gpu;
                let there = if local { self.ready(edge.producer) } else { arrival[&(edge.tensor, GpuId::new(gpu))] };
                earliest[gpu][stage] = earliest[gpu][stage].max(there);
            }
        }
        for (gpu, times) in self.timeline.stages.iter().enumerate() {
            let mut previous = 0;
            for (stage, &StageTime { start, finish }) in times.iter().enumerate() {
                let due = earliest[gpu][stage].max(previous);
                if start != due {
                    return violated(6, format!("stage {stage} of gpu{gpu} starts at {start} instead of {due}"));
                }
                let duration = self.duration(gpu, &self.schedule.gpus[gpu][stage].operators);
                if start.checked_add(duration) != Some(finish) {
                    return violated(6, format!("stage {stage} of gpu{gpu} runs from {start} to {finish}, but takes {duration} ns"));
                }
                previous = finish;
            }
        }
        Ok(())
    }

    /// t(S): the mean of running the operators one after the other and of running them side by side
    /// as far as the GPU is not saturated. A measured time or a faster merge takes precedence.
    fn duration(&self, gpu: usize, operators: &[OpId]) -> Nanos {
        let alone: Vec<Nanos> = operators.iter().map(|op| self.problem.time[op.index()][gpu]).collect();
        if alone.len() == 1 {
            return alone[0];
        }
        let set: BTreeSet<OpId> = operators.iter().copied().collect();
        let depends = self.problem.edges.iter().any(|e| set.contains(&e.producer) && e.consumers.iter().any(|c| set.contains(c)));
        let mut shortest = None;
        if !depends {
            // How often each cost class occurs.
            let mut cost_classes: BTreeMap<u32, usize> = BTreeMap::new();
            set.iter().for_each(|op| *cost_classes.entry(self.problem.cost_classes.get(op.index()).map_or(op.0, |&k| k)).or_default() += 1);
            for StageCost { cost_classes: of, times } in &self.problem.stages {
                if of.len() == set.len()
                    && cost_classes.iter().all(|(cost_class, &count)| of.iter().filter(|&k| k == cost_class).count() == count)
                {
                    shortest = times[gpu];
                }
            }
        }
        let apart = shortest.unwrap_or_else(|| self.modelled(gpu, operators, &alone));
        let merged = self.problem.operator_merges.iter().filter(|m| m.operators.iter().copied().collect::<BTreeSet<_>>() == set);
        merged.map(|m| m.times[gpu]).fold(apart, Nanos::min)
    }

    fn modelled(&self, gpu: usize, operators: &[OpId], alone: &[Nanos]) -> Nanos {
        let one_by_one = alone.iter().map(|&t| t as f64).sum::<f64>();
        let busy = operators.iter().zip(alone).map(|(op, &t)| t as f64 * self.problem.utilisation[op.index()][gpu]).sum::<f64>();
        // Each operator carries the label of its chain. A dependency merges two labels.
        let mut label: BTreeMap<OpId, OpId> = operators.iter().map(|&op| (op, op)).collect();
        for edge in &self.problem.edges {
            for reader in &edge.consumers {
                if let (Some(&a), Some(&b)) = (label.get(&edge.producer), label.get(reader)) {
                    label.values_mut().filter(|l| **l == b).for_each(|l| *l = a);
                }
            }
        }
        let mut length: BTreeMap<OpId, Nanos> = BTreeMap::new();
        operators.iter().zip(alone).for_each(|(op, &t)| *length.entry(label[op]).or_default() += t);
        let longest = length.into_values().max().unwrap_or(0) as f64;
        let side_by_side = if busy > longest { busy } else { longest };
        ((one_by_one + side_by_side) / 2.0).round() as Nanos
    }

    /// Rule 8.
    fn memory(&self) -> Result<()> {
        let memory = &self.problem.memory;
        for (gpu, &capacity) in memory.capacity.iter().enumerate() {
            let here = self.stage_of.iter().zip(&memory.reads).filter(|((on, _), _)| *on == gpu);
            let constants: BTreeSet<u32> = here.flat_map(|(_, reads)| reads).copied().collect();
            let bytes: u64 = constants.into_iter().map(|c| memory.constants[c as usize]).sum();
            if bytes > capacity {
                return violated(8, format!("gpu{gpu} would hold {bytes} bytes of weights, but its capacity is {capacity}"));
            }
        }
        Ok(())
    }

    /// Rule 7.
    fn latency(&self) -> Result<()> {
        let last = self.timeline.stages.iter().flatten().map(|s| s.finish).max().unwrap_or(0);
        if self.timeline.latency != last {
            return violated(7, format!("the latency is {}, but the last stage finishes at {last}", self.timeline.latency));
        }
        let bound = lower_bound(self.problem);
        if last < bound {
            return violated(7, format!("a latency of {last} is below the lower bound {bound}"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Change<'a, T> = &'a dyn Fn(&mut T);

    /// ```text
    ///   0 ──▶ 1 ──▶ 3      all 4 ms at utilisation 0.5, each edge 1 ms to another GPU
    ///     ╲─▶ 2 ──╱
    /// ```
    fn diamond() -> Problem {
        let text = "4\n0 4 0.5\n1 4 0.5\n2 4 0.5\n3 4 0.5\n4\n0 1 1\n0 2 1\n1 3 1\n2 3 1\n";
        Problem::from_dag_text(text, 2, LinkMode::Free).unwrap()
    }

    #[test]
    fn a_hand_made_timeline_passes_and_every_change_is_seen() {
        let ms = 1_000_000;
        let stage = |ops: &[u32]| crate::schedule::Stage { operators: ops.iter().map(|&op| OpId(op)).collect() };
        let at = |start: Nanos, finish: Nanos| StageTime { start: start * ms, finish: finish * ms };
        let moved = |tensor, from, to, start: Nanos| Transfer {
            tensor: TensorId(tensor),
            from: GpuId(from),
            to: GpuId(to),
            start: start * ms,
            finish: (start + 1) * ms,
        };
        let p = diamond();
        let schedule = Schedule { algorithm: "test".into(), gpus: vec![vec![stage(&[0]), stage(&[1]), stage(&[3])], vec![stage(&[2])]] };
        let good = Timeline {
            stages: vec![vec![at(0, 4), at(4, 8), at(10, 14)], vec![at(5, 9)]],
            transfers: vec![moved(1, 0, 1, 4), moved(3, 1, 0, 9)],
            latency: 14 * ms,
        };
        verify(&p, &schedule, &good).unwrap();

        let timelines: [(&str, Change<Timeline>); 9] = [
            ("rule 1", &|t| t.stages[0].truncate(2)),
            ("rule 4: the transfer of tensor t3", &|t| t.transfers.truncate(1)),
            ("rule 4: tensor t3 is transferred twice", &|t| t.transfers.push(moved(3, 1, 0, 9))),
            ("rule 4: no operator needs", &|t| t.transfers.push(moved(0, 0, 1, 9))),
            ("rule 4: the transfers are not in order", &|t| t.transfers.swap(0, 1)),
            ("rule 5", &|t| t.transfers[1].finish += 1),
            ("rule 6: stage 2 of gpu0 starts", &|t| (t.stages[0][2].start, t.stages[0][2].finish) = (9 * ms, 13 * ms)),
            ("rule 6: stage 2 of gpu0 runs", &|t| t.stages[0][2].finish += 1),
            ("rule 7", &|t| t.latency -= 1),
        ];
        for (expected, change) in timelines {
            let mut t = good.clone();
            change(&mut t);
            let error = verify(&p, &schedule, &t).unwrap_err().to_string();
            assert!(error.contains(expected), "{expected}: {error}");
        }

        let schedules: [(&str, Change<Schedule>); 7] = [
            ("rule 1: operator %3 is in two stages", &|s| s.gpus[0][1].operators.push(OpId(3))),
            ("rule 1: operator %1 is in no stage", &|s| s.gpus[0][1].operators = vec![OpId(7)]),
            ("rule 1: stage 1 of gpu0 is empty", &|s| s.gpus[0][1].operators.clear()),
            ("rule 1: 3 GPUs", &|s| s.gpus.push(vec![])),
            ("rule 3: the stages wait", &|s| s.gpus[0].swap(0, 1)),
            ("rule 4", &|s| {
                let (a, b) = (s.gpus[0][1].clone(), s.gpus[1][0].clone());
                (s.gpus[0][1], s.gpus[1][0]) = (b, a);
            }),
            ("rule 1", &|s| drop(s.gpus[0].pop())),
        ];
        for (expected, change) in schedules {
            let mut s = schedule.clone();
            change(&mut s);
            let error = verify(&p, &s, &good).unwrap_err().to_string();
            assert!(error.contains(expected), "{expected}: {error}");
        }
    }

    #[test]
    fn members_of_a_stage_depend_on_each_other_directly_or_not_at_all() {
        let p = diamond();
        let stage = |ops: &[u32]| crate::schedule::Stage { operators: ops.iter().map(|&op| OpId(op)).collect() };
        let none = |stages: &[usize]| Timeline {
            stages: stages.iter().map(|&n| vec![StageTime { start: 0, finish: 0 }; n]).collect(),
            transfers: vec![],
            latency: 0,
        };
        let says = |gpus: Vec<Vec<crate::schedule::Stage>>, expected: &str| {
            let lengths: Vec<usize> = gpus.iter().map(Vec::len).collect();
            let error = verify(&p, &Schedule { algorithm: "test".into(), gpus }, &none(&lengths)).unwrap_err().to_string();
            assert!(error.contains(expected), "{expected}: {error}");
        };
        // A chain runs in order: 4 + 4 ms.
        says(vec![vec![stage(&[0, 1]), stage(&[2]), stage(&[3])]], "rule 6: stage 0 of gpu0 runs from 0 to 0, but takes 8000000 ns");
        says(vec![vec![stage(&[0, 3])], vec![stage(&[1]), stage(&[2])]], "rule 3: the stages wait");
        says(vec![vec![stage(&[0]), stage(&[2, 1]), stage(&[3])]], "rule 2");
    }
}
