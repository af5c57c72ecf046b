//! The order in which the host issues stages, the launches of each, and the compute stream of each
//! operator.
//!
//! * **GPUs**: those without a stage are dropped, the others renumbered densely in their old order.
//!   A graph without operators keeps the first GPU, for inputs that are outputs.
//! * **Issue order**: always the ready stage of earliest predicted start (ties: lowest GPU, then
//!   lowest index). A stage is ready when the previous stage of its GPU and all stages that compute
//!   its inputs have been issued. On a sound timeline, this is the order of predicted starts.
//! * **Launches**: one for each operator of a stage; or one for all, if the cost table has them as
//!   a group and the timeline gives the stage at least the group's time.
//! * **Streams**: the launches of a stage take different compute streams, and a GPU has as many as
//!   its widest stage has launches. A launch prefers the stream whose latest launch computed one of
//!   its inputs, then a stream that wrote one earlier, then the lowest free one: data that stays in
//!   its stream needs no event. Each preference is tried for all launches of the stage before the
//!   next one. Ties go to the launch that is first in the stage, then to the lowest stream.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::cost::CostTable;
use crate::device::Nanos;
use crate::error::{Error, Result};
use crate::graph::{Graph, Origin};
use crate::ids::{GpuId, OpId};
use crate::schedule::{Schedule, StageTime, Timeline};

/// One stage of the schedule on the plan's GPUs.
#[derive(Clone)]
pub(super) struct PlannedStage<'a> {
    pub gpu: GpuId,
    pub index: usize,
    pub operators: &'a [OpId],
    /// The same operators, grouped by launch.
    pub launches: Vec<&'a [OpId]>,
    pub predicted: (Nanos, Nanos),
}

/// The GPU and the compute stream of each operator, and the issue order.
pub(super) struct Assignment<'a> {
    /// For each GPU of the plan, the schedule's GPU.
    pub targets: Vec<GpuId>,
    /// In host issue order.
    pub stages: Vec<PlannedStage<'a>>,
    /// The GPU of each operator, in the plan's numbering.
    pub gpu_of: Vec<GpuId>,
    /// The compute stream of each operator, counted on its GPU.
    pub stream_index: Vec<usize>,
    /// Number of compute streams of each GPU.
    pub stream_count: Vec<usize>,
}

impl<'a> Assignment<'a> {
    pub fn new(graph: &Graph, costs: &'a CostTable, schedule: &'a Schedule, timeline: &Timeline) -> Result<Self> {
        let mut targets: Vec<GpuId> = (0..schedule.gpus.len()).filter(|&g| !schedule.gpus[g].is_empty()).map(GpuId::new).collect();
        if targets.is_empty() {
            targets.push(GpuId::new(0));
        }
        let mut stages = Vec::new();
        for (gpu, target) in targets.iter().enumerate() {
            for (index, stage) in schedule.gpus.get(target.index()).into_iter().flatten().enumerate() {
                let time = timeline.stages.get(target.index()).and_then(|times| times.get(index));
                let time = time.ok_or_else(|| unsound(format!("the timeline lacks stage {index} of {target}")))?;
                let operators = &stage.operators[..];
                let launches = match group(costs, operators, *target, time) {
                    Some(group) => vec![group],
                    None => operators.chunks(1).collect(),
                };
                let predicted = (time.start, time.finish);
                stages.push(PlannedStage { gpu: GpuId::new(gpu), index, operators, launches, predicted });
            }
        }
        let stage_of = stage_of_each(graph, &stages)?;
        let gpu_of: Vec<GpuId> = stage_of.iter().map(|&s| stages[s].gpu).collect();
        let stages = issue_order(graph, stages, &stage_of)?;
        check_dependencies(graph, &stages)?;
        let mut stream_count = vec![1; targets.len()];
        for stage in &stages {
            let widest = &mut stream_count[stage.gpu.index()];
            *widest = stage.launches.len().max(*widest);
        }
        let stream_index = choose_streams(graph, &stages, &gpu_of, &stream_count);
        Ok(Assignment { targets, stages, gpu_of, stream_index, stream_count })
    }
}

/// The operators of a stage as a group that takes no longer than the stage, if they form one.
fn group<'a>(costs: &'a CostTable, operators: &[OpId], target: GpuId, time: &StageTime) -> Option<&'a [OpId]> {
    let mut sorted = operators.to_vec();
    sorted.sort_unstable();
    let group = costs.grouped_launch(&sorted)?;
    let cost = group.costs.get(target.index())?;
    (cost.time <= time.finish.saturating_sub(time.start)).then_some(&group.operators[..])
}

/// The error for a schedule that breaks a rule of its verifier.
fn unsound(message: String) -> Error {
    Error::internal("schedule", message)
}

/// The stage of each operator, of which there must be exactly one.
fn stage_of_each(graph: &Graph, stages: &[PlannedStage]) -> Result<Vec<usize>> {
    let mut stage_of = vec![None; graph.operators.len()];
    for (i, stage) in stages.iter().enumerate() {
        if stage.operators.is_empty() {
            return Err(unsound(format!("stage {} of {} is empty", stage.index, stage.gpu)));
        }
        for &op in stage.operators {
            let slot = stage_of.get_mut(op.index()).ok_or_else(|| unsound(format!("the graph has no operator {op}")))?;
            if slot.replace(i).is_some() {
                return Err(unsound(format!("operator {op} {:?} is scheduled twice", graph.operator(op).name)));
            }
        }
    }
    let all = stage_of.iter().enumerate();
    all.map(|(op, s)| s.ok_or_else(|| unsound(format!("operator {} {:?} is not scheduled", OpId::new(op), graph.operators[op].name))))
        .collect()
}

/// Kahn's algorithm over the stages, earliest predicted start first.
fn issue_order<'a>(graph: &Graph, stages: Vec<PlannedStage<'a>>, stage_of: &[usize]) -> Result<Vec<PlannedStage<'a>>> {
    let mut followers: Vec<Vec<usize>> = vec![Vec::new(); stages.len()];
    let mut waiting = vec![0usize; stages.len()];
    let mut edge = |from: usize, to: usize| {
        followers[from].push(to);
        waiting[to] += 1;
    };
    for s in 1..stages.len() {
        if stages[s - 1].gpu == stages[s].gpu {
            edge(s - 1, s);
        }
    }
    for op in graph.op_ids() {
        let to = stage_of[op.index()];
        let producers = graph.operator(op).inputs.iter().flat_map(|&t| graph.producers(t));
        producers.map(|p| stage_of[p.index()]).filter(|&from| from != to).for_each(|from| edge(from, to));
    }
    let key = |s: usize| Reverse((stages[s].predicted.0, stages[s].gpu, stages[s].index, s));
    let mut ready: BinaryHeap<_> = (0..stages.len()).filter(|&s| waiting[s] == 0).map(key).collect();
    let mut order = Vec::with_capacity(stages.len());
    while let Some(Reverse((.., s))) = ready.pop() {
        order.push(stages[s].clone());
        for &next in &followers[s] {
            waiting[next] -= 1;
            if waiting[next] == 0 {
                ready.push(key(next));
            }
        }
    }
    match (0..stages.len()).find(|&s| waiting[s] > 0) {
        None => Ok(order),
        Some(s) => Err(unsound(format!("stage {} of {} depends on itself through other stages", stages[s].index, stages[s].gpu))),
    }
}

/// Producers must come before consumers, also inside a stage.
fn check_dependencies(graph: &Graph, stages: &[PlannedStage]) -> Result<()> {
    let mut issued = vec![false; graph.operators.len()];
    for &op in stages.iter().flat_map(|stage| stage.operators) {
        for producer in graph.operator(op).inputs.iter().flat_map(|&t| graph.producers(t)) {
            if !issued[producer.index()] {
                let (name, of) = (&graph.operator(op).name, &graph.operator(producer).name);
                return Err(unsound(format!("operator {op} {name:?} comes before {producer} {of:?}, whose result it reads")));
            }
        }
        issued[op.index()] = true;
    }
    Ok(())
}

/// The compute stream of each operator, counted on its GPU.
fn choose_streams(graph: &Graph, stages: &[PlannedStage], gpu_of: &[GpuId], stream_count: &[usize]) -> Vec<usize> {
    const NONE: usize = usize::MAX;
    let mut stream_index = vec![NONE; graph.operators.len()];
    let mut latest: Vec<Vec<&[OpId]>> = stream_count.iter().map(|&n| vec![&[][..]; n]).collect();
    for stage in stages {
        let g = stage.gpu.index();
        let mut free = vec![true; stream_count[g]];
        // 2: the stream's latest launch computed an input; 1: an input was written on the stream;
        // 0: no preference.
        let preference = |launch: &[OpId], stream: usize, stream_index: &[usize]| {
            let wrote = |t| match graph.tensor(t).origin {
                Origin::Operator(p) if gpu_of[p.index()] != stage.gpu || stream_index[p.index()] != stream => 0,
                Origin::Operator(p) if latest[g][stream].contains(&p) => 2,
                Origin::Operator(_) => 1,
                Origin::Input => usize::from(stream == 0),
                _ => 0,
            };
            let inputs = launch.iter().flat_map(|&op| &graph.operator(op).inputs);
            inputs.flat_map(|&t| graph.parts(t)).map(wrote).max().unwrap_or(0)
        };
        for wanted in [2, 1, 0] {
            for launch in &stage.launches {
                if stream_index[launch[0].index()] == NONE
                    && let Some(stream) = (0..free.len()).find(|&s| free[s] && preference(launch, s, &stream_index) >= wanted)
                {
                    launch.iter().for_each(|op| stream_index[op.index()] = stream);
                    free[stream] = false;
                }
            }
        }
        for launch in &stage.launches {
            latest[g][stream_index[launch[0].index()]] = launch;
        }
    }
    stream_index
}
