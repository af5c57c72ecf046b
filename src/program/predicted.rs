//! When each step of a plan is predicted to run: a trace shows it beside the measured times.

use super::launched;
use crate::cost::CostTable;
use crate::device::Nanos;
use crate::error::Result;
use crate::graph::Graph;
use crate::ids::{GpuId, TensorId};
use crate::plan::{Plan, SectionKind, Step};
use crate::runtime::StepKind;
use crate::runtime::tool::Prediction;
use crate::schedule::Timeline;

/// A prediction for each upload, launch, copy and download, in the order of the plan's steps: what
/// [`Session::trace`](crate::run::Session::trace) measures. A launch starts with its stage and
/// takes its own time, at most the stage's. Copies from and to the host are not predicted: they
/// take no time here, at the beginning and at the end.
pub(super) fn predicted(graph: &Graph, costs: &CostTable, timeline: &Timeline, plan: &Plan) -> Result<Vec<Prediction<String>>> {
    let mut all = Vec::new();
    for section in &plan.sections {
        let stage = match section.kind {
            SectionKind::Stage { gpu, index } => Some((gpu, index)),
            _ => None,
        };
        let (begin, end) = section.predicted.unwrap_or(match section.kind {
            SectionKind::End => (plan.latency, plan.latency),
            _ => (0, 0),
        });
        for step in &plan.steps[section.first..section.end] {
            let stream = step.stream().index();
            let gpu = plan.streams[stream].gpu;
            let name = |t: TensorId| graph.tensor(t).name.clone();
            let (kind, label, start, end) = match step {
                Step::Record { .. } | Step::Wait { .. } => continue,
                Step::Upload { input, .. } => (StepKind::Upload, format!("input {}", name(graph.inputs[*input])), 0, 0),
                Step::Download { output, .. } => {
                    (StepKind::Download, format!("output {}", name(graph.outputs[*output])), plan.latency, plan.latency)
                }
                Step::Launch { operators, stream, .. } => {
                    let alone: Nanos = launched(costs, plan, operators, *stream)?.time;
                    (StepKind::Launch, graph.names(operators).join(" + "), begin, end.min(begin + alone))
                }
                Step::Copy { tensor, to, .. } => {
                    let target = |gpu: GpuId| plan.targets[gpu.index()];
                    let (from, to) = (target(gpu), target(plan.buffers[to.index()].gpu));
                    let found = timeline.transfers.iter().find(|t| (t.tensor, t.from, t.to) == (*tensor, from, to));
                    let (start, finish) = found.map_or((end, end), |t| (t.start, t.finish));
                    (StepKind::Copy, name(*tensor), start, finish)
                }
            };
            let stage = if kind == StepKind::Launch { stage.map(|(gpu, index)| (gpu.index(), index)) } else { None };
            all.push(Prediction { kind, label, gpu: gpu.index(), stream, stage, start, end });
        }
    }
    Ok(all)
}
