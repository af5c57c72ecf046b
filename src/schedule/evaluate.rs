//! The exact execution model: when every stage and every transfer of a schedule starts and ends.
//!
//! * A GPU runs its stages in order. A stage starts when the previous stage of its GPU has finished
//!   and all inputs of its operators are available. It lasts [`stage_time`].
//! * On its own GPU, a tensor is available when its producer's stage finishes. On another GPU, it
//!   arrives by one transfer, made once per (tensor, GPU).
//! * With [`LinkMode::Free`], a transfer starts when the producer's stage finishes. With
//!   [`LinkMode::Serial`], an ordered pair of GPUs carries one transfer at a time. Transfers queue
//!   by the time at which the tensor became ready, then by the position of its producer in the
//!   topological order, then by tensor id.
//! * Inputs and constants of the model are on every GPU at time 0.
//!
//! The evaluator simulates events in time order. A heap holds the finish of each GPU's running
//! stage. All finishes of one instant are handled together: their tensors are sorted as above and
//! their transfers handed to the links. Then every GPU whose next stage has all its inputs starts
//! it. That start may lie in the future, since the arrival of an input is known as soon as its
//! transfer is. Handling all of one instant together is correct because every stage takes time
//! ([`Problem::check`]): whatever finishes now has started earlier.
//!
//! Complexity: O((V + E) log V + E·G). Each stage enters the heap once, and each tensor is handed
//! to each GPU at most once.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use super::{LinkMode, Problem, Schedule, StageTime, Timeline, Transfer};
use crate::device::Nanos;
use crate::error::{Error, Result};
use crate::ids::{GpuId, OpId};

/// t(S), the duration of a stage of independent operators on GPU `gpu`.
///
/// * For a single operator, t(v).
/// * For several, the measured time if there is one ([`StageCost`](super::StageCost)). Otherwise
///   the published model: `0.5 * sum(w) + 0.5 * max(sum(w * utilisation), max(w))`, rounded half
///   up, where w is an operator's time alone.
/// * If the operators may be merged and that is faster, the time of the merged operator
///   ([`MergeCost`](super::MergeCost)).
pub fn stage_time(problem: &Problem, gpu: GpuId, operators: &[OpId]) -> Nanos {
    if let [only] = operators {
        return problem.time[only.index()][gpu.index()];
    }
    let modelled = || chains_time(problem, gpu, operators.iter().map(std::slice::from_ref));
    let concurrent = problem.measured_time(operators, gpu.index()).unwrap_or_else(modelled);
    problem.merged_time(operators, gpu.index()).map_or(concurrent, |merged| merged.min(concurrent))
}

/// t(S) by the model for *chains* that run concurrently, where the operators of a chain run one
/// after the other. A chain counts as one operator that takes the sum of their times. (IOS calls a
/// chain a *group*.)
pub(super) fn chains_time<'a>(problem: &Problem, gpu: GpuId, chains: impl Iterator<Item = &'a [OpId]>) -> Nanos {
    let (mut sum, mut busy, mut longest) = (0.0, 0.0, 0.0_f64);
    for chain in chains {
        let mut time = 0.0;
        for op in chain {
            let alone = problem.time[op.index()][gpu.index()] as f64;
            time += alone;
            busy += alone * problem.utilisation[op.index()][gpu.index()];
        }
        sum += time;
        longest = longest.max(time);
    }
    (0.5 * sum + 0.5 * f64::max(busy, longest) + 0.5).floor() as Nanos
}

/// The chains of a stage: operators that depend on each other, directly or through others of the
/// stage, are one chain. `pairs` are its (producer, reader) pairs.
fn chains(operators: &[OpId], pairs: &[(OpId, OpId)]) -> Vec<Vec<OpId>> {
    let mut chains: Vec<Vec<OpId>> = operators.iter().map(|&op| vec![op]).collect();
    for (a, b) in pairs {
        let at = |op| chains.iter().position(|chain: &Vec<OpId>| chain.contains(op));
        if let (Some(a), Some(b)) = (at(a), at(b))
            && a != b
        {
            let moved = chains.swap_remove(a.max(b));
            chains[a.min(b)].extend(moved);
        }
    }
    chains
}

/// Where an operator runs.
#[derive(Clone, Copy, PartialEq)]
struct Slot {
    gpu: usize,
    stage: usize,
}

/// The inputs that a stage still waits for.
#[derive(Clone, Default)]
struct PendingInputs {
    /// The number of (tensor, operator) pairs whose arrival is not known yet.
    inputs: usize,
    /// The latest arrival known so far.
    ready: Nanos,
}

/// The exact timing of `schedule`.
///
/// # Errors
///
/// [`Error::Internal`] if the schedule is not valid: an operator is missing, scheduled twice or
/// unknown, a stage is empty, a transfer has no link, or the stages deadlock. An unsound problem is
/// [`Error::Usage`].
pub fn evaluate(problem: &Problem, schedule: &Schedule) -> Result<Timeline> {
    problem.check()?;
    let slots = slots(problem, schedule)?;
    let position = problem.positions();

    let mut outgoing: Vec<Vec<usize>> = vec![Vec::new(); problem.operators()];
    let mut pending: Vec<Vec<PendingInputs>> = schedule.gpus.iter().map(|stages| vec![PendingInputs::default(); stages.len()]).collect();
    // Dependencies inside a stage, for the few stages that have any.
    let mut inner: BTreeMap<(usize, usize), Vec<(OpId, OpId)>> = BTreeMap::new();
    for (index, edge) in problem.edges.iter().enumerate() {
        outgoing[edge.producer.index()].push(index);
        for consumer in &edge.consumers {
            let at = slots[consumer.index()];
            if at == slots[edge.producer.index()] {
                inner.entry((at.gpu, at.stage)).or_default().push((edge.producer, *consumer));
            } else {
                pending[at.gpu][at.stage].inputs += 1;
            }
        }
    }

    let mut stages: Vec<Vec<StageTime>> = vec![Vec::new(); schedule.gpus.len()];
    let mut transfers = Vec::new();
    let mut running = BinaryHeap::new();
    let mut busy = vec![false; schedule.gpus.len()];
    let mut link_free = vec![vec![0; problem.gpus]; problem.gpus];
    // `delivered[gpu]`: the edge last delivered to this GPU, and its arrival there.
    let mut delivered: Vec<(usize, Nanos)> = vec![(usize::MAX, 0); problem.gpus];
    let mut ready_edges: Vec<usize> = Vec::new();

    loop {
        for gpu in 0..schedule.gpus.len() {
            let next = stages[gpu].len();
            if busy[gpu] || next == schedule.gpus[gpu].len() || pending[gpu][next].inputs > 0 {
                continue;
            }
            let start = pending[gpu][next].ready.max(stages[gpu].last().map_or(0, |s: &StageTime| s.finish));
            let operators = &schedule.gpus[gpu][next].operators;
            let duration = match inner.get(&(gpu, next)) {
                None => stage_time(problem, GpuId::new(gpu), operators),
                Some(pairs) => chains_time(problem, GpuId::new(gpu), chains(operators, pairs).iter().map(Vec::as_slice)),
            };
            let finish = start + duration;
            stages[gpu].push(StageTime { start, finish });
            running.push(Reverse((finish, gpu)));
            busy[gpu] = true;
        }

        let Some(&Reverse((now, _))) = running.peek() else { break };
        ready_edges.clear();
        while let Some(&Reverse((finish, gpu))) = running.peek() {
            if finish != now {
                break;
            }
            running.pop();
            busy[gpu] = false;
            for op in &schedule.gpus[gpu][stages[gpu].len() - 1].operators {
                ready_edges.extend(&outgoing[op.index()]);
            }
        }
        ready_edges.sort_by_key(|&e| (position[problem.edges[e].producer.index()], problem.edges[e].tensor));

        for &index in &ready_edges {
            let edge = &problem.edges[index];
            let from = slots[edge.producer.index()].gpu;
            for consumer in &edge.consumers {
                let at = slots[consumer.index()];
                if at == slots[edge.producer.index()] {
                    continue;
                }
                if delivered[at.gpu].0 != index {
                    let arrival = if at.gpu == from {
                        now
                    } else {
                        let Some(duration) = edge.transfer[from][at.gpu] else {
                            let message =
                                format!("{}: tensor {} has no link from gpu{from} to gpu{}", schedule.algorithm, edge.tensor, at.gpu);
                            return Err(Error::internal("schedule", message));
                        };
                        let start = match problem.links {
                            LinkMode::Free => now,
                            LinkMode::Serial => now.max(link_free[from][at.gpu]),
                        };
                        link_free[from][at.gpu] = start + duration;
                        let (from, to) = (GpuId::new(from), GpuId::new(at.gpu));
                        transfers.push(Transfer { tensor: edge.tensor, from, to, start, finish: start + duration });
                        start + duration
                    };
                    delivered[at.gpu] = (index, arrival);
                }
                let stage = &mut pending[at.gpu][at.stage];
                stage.inputs -= 1;
                stage.ready = stage.ready.max(delivered[at.gpu].1);
            }
        }
    }

    for (gpu, times) in stages.iter().enumerate() {
        if let Some(stage) = schedule.gpus[gpu].get(times.len()) {
            let message = format!(
                "{}: stage {} of gpu{gpu} ({:?}) never starts: its inputs depend on it",
                schedule.algorithm,
                times.len(),
                stage.operators
            );
            return Err(Error::internal("schedule", message));
        }
    }
    transfers.sort_unstable_by_key(|t| (t.start, t.from, t.to, t.tensor));
    let latency = stages.iter().filter_map(|times| times.last()).map(|s| s.finish).max().unwrap_or(0);
    Ok(Timeline { stages, transfers, latency })
}

/// Where each operator runs. An error unless each operator runs exactly once.
fn slots(problem: &Problem, schedule: &Schedule) -> Result<Vec<Slot>> {
    let fail = |message: String| Err(Error::internal("schedule", format!("{}: {message}", schedule.algorithm)));
    if schedule.gpus.len() > problem.gpus {
        return fail(format!("{} GPUs used, {} offered", schedule.gpus.len(), problem.gpus));
    }
    let mut slots: Vec<Option<Slot>> = vec![None; problem.operators()];
    for (gpu, stages) in schedule.gpus.iter().enumerate() {
        for (stage, members) in stages.iter().enumerate() {
            if members.operators.is_empty() {
                return fail(format!("stage {stage} of gpu{gpu} is empty"));
            }
            for op in &members.operators {
                match slots.get_mut(op.index()) {
                    None => return fail(format!("operator {op} does not exist")),
                    Some(Some(_)) => return fail(format!("operator {op} is scheduled twice")),
                    Some(slot) => *slot = Some(Slot { gpu, stage }),
                }
            }
        }
    }
    match slots.iter().position(|slot| slot.is_none()) {
        Some(op) => fail(format!("operator {} is not scheduled", OpId::new(op))),
        None => Ok(slots.into_iter().flatten().collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::TensorId;
    use crate::schedule::{Edge, MergeCost, Stage, StageCost};

    /// Operators with the same time on all of `gpus`, and edges (producer, consumers, transfer
    /// time).
    fn problem(gpus: usize, links: LinkMode, times: &[Nanos], edges: &[(u32, &[u32], Nanos)]) -> Problem {
        let table = |time| (0..gpus).map(|a| (0..gpus).map(|b| (a != b).then_some(time)).collect()).collect();
        let edge = |(index, &(producer, consumers, time)): (usize, &(u32, &[u32], Nanos))| Edge {
            tensor: TensorId::new(index),
            producer: OpId(producer),
            consumers: consumers.iter().map(|&c| OpId(c)).collect(),
            transfer: table(time),
        };
        Problem {
            time: times.iter().map(|&t| vec![t; gpus]).collect(),
            utilisation: vec![vec![0.5; gpus]; times.len()],
            edges: edges.iter().enumerate().map(edge).collect(),
            links,
            order: (0..times.len()).map(OpId::new).collect(),
            gpus,
            memory: Default::default(),
            cost_classes: Vec::new(),
            stages: Vec::new(),
            operator_merges: Vec::new(),
        }
    }

    fn schedule(gpus: &[&[&[u32]]]) -> Schedule {
        let stage = |ops: &&[u32]| Stage { operators: ops.iter().map(|&op| OpId(op)).collect() };
        Schedule { algorithm: "test".into(), gpus: gpus.iter().map(|stages| stages.iter().map(stage).collect()).collect() }
    }

    fn times(timeline: &Timeline) -> Vec<Vec<(Nanos, Nanos)>> {
        timeline.stages.iter().map(|stages| stages.iter().map(|s| (s.start, s.finish)).collect()).collect()
    }

    fn transfers(timeline: &Timeline) -> Vec<(u32, u32, u32, Nanos, Nanos)> {
        timeline.transfers.iter().map(|t| (t.tensor.0, t.from.0, t.to.0, t.start, t.finish)).collect()
    }

    /// ```text
    ///      0 (10)
    ///     /      \      t0 to both, 5 to another GPU
    ///  1 (20)   2 (30)
    ///     \      /      t1, t2: 7
    ///      3 (40)
    /// ```
    fn diamond(links: LinkMode) -> Problem {
        problem(2, links, &[10, 20, 30, 40], &[(0, &[1, 2], 5), (1, &[3], 7), (2, &[3], 7)])
    }

    #[test]
    fn one_gpu_is_a_sum() {
        let t = evaluate(&diamond(LinkMode::Serial), &schedule(&[&[&[0], &[1], &[2], &[3]]])).unwrap();
        assert_eq!(times(&t), [[(0, 10), (10, 30), (30, 60), (60, 100)]]);
        assert!(t.transfers.is_empty());
        assert_eq!(t.latency, 100);
    }

    #[test]
    fn transfers_delay_the_other_gpu_and_overlap_with_work() {
        let t = evaluate(&diamond(LinkMode::Free), &schedule(&[&[&[0], &[1], &[3]], &[&[2]]])).unwrap();
        assert_eq!(times(&t), [vec![(0, 10), (10, 30), (52, 92)], vec![(15, 45)]]);
        assert_eq!(transfers(&t), [(0, 0, 1, 10, 15), (2, 1, 0, 45, 52)]);
        assert_eq!(t.latency, 92);
    }

    #[test]
    fn a_tensor_crosses_once_for_several_readers() {
        let t = evaluate(&diamond(LinkMode::Serial), &schedule(&[&[&[0]], &[&[1], &[2], &[3]]])).unwrap();
        assert_eq!(transfers(&t), [(0, 0, 1, 10, 15)]);
        assert_eq!(t.latency, 105);
    }

    #[test]
    fn a_stage_holds_its_tensors_back_until_all_of_it_is_done() {
        // t({1, 2}) = 0.5 * 50 + 0.5 * max(25, 30) = 40
        let t = evaluate(&diamond(LinkMode::Free), &schedule(&[&[&[0], &[1, 2]], &[&[3]]])).unwrap();
        assert_eq!(times(&t), [vec![(0, 10), (10, 50)], vec![(57, 97)]]);
    }

    #[test]
    fn stage_time_is_the_published_model() {
        let mut p = problem(1, LinkMode::Free, &[10, 21, 30], &[]);
        assert_eq!(stage_time(&p, GpuId(0), &[OpId(1)]), 21);
        assert_eq!(stage_time(&p, GpuId(0), &[OpId(0), OpId(1)]), 26); // 15.5 + 0.5 * max(15.5, 21) = 26
        assert_eq!(stage_time(&p, GpuId(0), &[OpId(1), OpId(2)]), 41); // 25.5 + 0.5 * max(25.5, 30) = 40.5
        p.utilisation = vec![vec![1.0]; 3];
        assert_eq!(stage_time(&p, GpuId(0), &[OpId(0), OpId(1), OpId(2)]), 61);
    }

    #[test]
    fn operators_that_depend_on_each_other_are_one_group_of_a_stage() {
        // {0, then 1} beside 2: 0.5 * 60 + 0.5 * max(30, 30) = 45
        let p = problem(1, LinkMode::Free, &[10, 20, 30, 5], &[(0, &[1], 5), (1, &[3], 5), (2, &[3], 5)]);
        let t = evaluate(&p, &schedule(&[&[&[0, 1, 2], &[3]]])).unwrap();
        assert_eq!(times(&t), [[(0, 45), (45, 50)]]);
        let t = evaluate(&p, &schedule(&[&[&[0, 1], &[2], &[3]]])).unwrap();
        assert_eq!(times(&t), [[(0, 30), (30, 60), (60, 65)]]);
    }

    #[test]
    fn a_known_stage_is_not_modelled() {
        let mut p = problem(1, LinkMode::Free, &[10, 20, 30], &[]);
        p.stages = [([0, 1], 27), ([1, 2], 39)]
            .map(|(cost_classes, t)| StageCost { cost_classes: cost_classes.to_vec(), times: vec![Some(t)] })
            .to_vec();
        p.operator_merges =
            [([0, 2], 33), ([1, 2], 60)].map(|(ops, t)| MergeCost { operators: ops.map(OpId).to_vec(), times: vec![t] }).to_vec();
        let time = |p: &Problem, operators: [u32; 2]| stage_time(p, GpuId(0), &operators.map(OpId));
        assert_eq!([time(&p, [0, 1]), time(&p, [2, 0]), time(&p, [1, 2])], [27, 33, 39]);
        assert_eq!(stage_time(&p, GpuId(0), &[OpId(0), OpId(1), OpId(2)]), 45);
        // Operators of one cost class share their measured stages.
        (p.cost_classes, p.operator_merges) = (vec![5, 3, 5], Vec::new());
        p.stages = [([3, 5], 21), ([5, 5], 31)]
            .map(|(cost_classes, t)| StageCost { cost_classes: cost_classes.to_vec(), times: vec![Some(t)] })
            .to_vec();
        assert_eq!([time(&p, [0, 1]), time(&p, [1, 2]), time(&p, [0, 2])], [21, 21, 31]);
    }

    #[test]
    fn a_serial_link_carries_one_transfer_at_a_time() {
        // 0 and 1 are on GPU 0, and both results go to GPU 1. 2 reads the second one, 3 the first.
        let edges: [(u32, &[u32], Nanos); 2] = [(0, &[3], 50), (1, &[2], 5)];
        let s = schedule(&[&[&[0], &[1]], &[&[2], &[3]]]);
        let free = evaluate(&problem(2, LinkMode::Free, &[10, 10, 1, 1], &edges), &s).unwrap();
        assert_eq!(transfers(&free), [(0, 0, 1, 10, 60), (1, 0, 1, 20, 25)]);
        assert_eq!(free.latency, 61);
        let serial = evaluate(&problem(2, LinkMode::Serial, &[10, 10, 1, 1], &edges), &s).unwrap();
        assert_eq!(transfers(&serial), [(0, 0, 1, 10, 60), (1, 0, 1, 60, 65)]);
        assert_eq!(serial.latency, 67);
    }

    #[test]
    fn equally_ready_tensors_go_by_topological_place_then_id() {
        // One stage computes three tensors at once. In the topological order, operator 1 comes
        // before operator 0.
        let mut p = problem(2, LinkMode::Serial, &[10, 10, 1, 1, 1], &[(0, &[2], 5), (1, &[3], 5), (1, &[4], 5)]);
        p.order = [1, 0, 2, 3, 4].map(OpId).to_vec();
        let t = evaluate(&p, &schedule(&[&[&[1, 0]], &[&[2], &[3], &[4]]])).unwrap();
        assert_eq!(t.transfers.iter().map(|t| t.tensor.0).collect::<Vec<_>>(), [1, 2, 0]);
    }

    #[test]
    fn different_gpu_pairs_do_not_share_a_link() {
        let p = problem(3, LinkMode::Serial, &[10, 1, 1], &[(0, &[1, 2], 50)]);
        let t = evaluate(&p, &schedule(&[&[&[0]], &[&[1]], &[&[2]]])).unwrap();
        assert_eq!(transfers(&t), [(0, 0, 1, 10, 60), (0, 0, 2, 10, 60)]);
    }

    #[test]
    fn what_is_no_schedule_is_an_error() {
        let mut p = diamond(LinkMode::Free);
        let cases = [
            (schedule(&[&[&[0], &[1], &[2]]]), "operator %3 is not scheduled"),
            (schedule(&[&[&[0], &[1], &[2], &[3]], &[&[3]]]), "operator %3 is scheduled twice"),
            (schedule(&[&[&[0], &[1], &[2], &[3], &[4]]]), "operator %4 does not exist"),
            (schedule(&[&[&[0], &[], &[1], &[2], &[3]]]), "stage 1 of gpu0 is empty"),
            (schedule(&[&[&[0], &[1], &[2], &[3]], &[], &[]]), "3 GPUs used, 2 offered"),
            (schedule(&[&[&[1], &[0], &[2], &[3]]]), "stage 0 of gpu0 ([%1]) never starts"),
            (schedule(&[&[&[0, 1, 3], &[2]]]), "stage 0 of gpu0 ([%0, %1, %3]) never starts"),
        ];
        for (schedule, expected) in cases {
            let error = evaluate(&p, &schedule).unwrap_err();
            assert!(matches!(error, Error::Internal { pass: "schedule", .. }));
            assert!(error.to_string().contains(expected), "{expected}: {error}");
        }
        p.edges[0].transfer[0][1] = None;
        let error = evaluate(&p, &schedule(&[&[&[0], &[1], &[3]], &[&[2]]])).unwrap_err().to_string();
        assert!(error.contains("tensor t0 has no link from gpu0 to gpu1"), "{error}");
    }

    #[test]
    fn a_deadlock_between_gpus_is_an_error() {
        // 0 -> 3 and 1 -> 2, but GPU 0 runs 2 before 0 and GPU 1 runs 3 before 1.
        let p = problem(2, LinkMode::Free, &[1, 1, 1, 1], &[(0, &[3], 1), (1, &[2], 1)]);
        let error = evaluate(&p, &schedule(&[&[&[2], &[0]], &[&[3], &[1]]])).unwrap_err().to_string();
        assert!(error.contains("never starts"), "{error}");
    }

    #[test]
    fn nothing_to_do_takes_no_time() {
        let t = evaluate(&problem(2, LinkMode::Free, &[], &[]), &schedule(&[&[], &[]])).unwrap();
        assert_eq!(t, Timeline { stages: vec![vec![], vec![]], transfers: vec![], latency: 0 });
    }
}
