//! `schedule.txt`: the predicted course of one inference, as a timetable.

use super::names;
use crate::ids::{GpuId, OpId};
use crate::plan::{SectionKind, Step};
use crate::run::program::Program;
use crate::schedule::Timeline;

/// One line a stage and a transfer, in the order in which they start; ties in the order of the plan, stages first.
pub(super) fn text(program: &Program<'_>, timeline: &Timeline) -> String {
    let (graph, plan) = (program.graph, program.plan);
    let mut rows: Vec<(u64, u64, String, String)> = Vec::new();
    for section in &plan.sections {
        let (SectionKind::Stage { gpu, index }, Some((start, finish))) = (section.kind, section.predicted) else { continue };
        let operators: Vec<String> = plan.steps[section.first..section.end].iter().filter_map(|step| launched(program, step)).collect();
        rows.push((start, finish, format!("{gpu} stage {index}"), operators.join(", ")));
    }
    // The timeline counts GPUs as the target does, the plan only those it uses.
    let planned = |target: GpuId| plan.targets.iter().position(|&t| t == target).map_or(target, GpuId::new);
    for transfer in &timeline.transfers {
        let tensor = graph.tensor(transfer.tensor);
        let what = format!("{} {}, {}", names::line(&tensor.name), tensor.shape_text(), names::bytes(tensor.bytes()));
        rows.push((transfer.start, transfer.finish, format!("{} to {}", planned(transfer.from), planned(transfer.to)), what));
    }
    rows.sort_by_key(|row| row.0);

    let width = rows.iter().map(|row| row.2.len()).max().unwrap_or(0);
    let mut text = format!(
        "# {}: {}, {}, predicted latency {}\n# from and to in microseconds\n\n",
        names::line(&graph.name),
        names::count(graph.operators.len(), "operator"),
        names::count(plan.gpus.len(), "GPU"),
        names::micros(plan.latency)
    );
    for (start, finish, place, what) in rows {
        text += &format!("{:>10.1} {:>10.1}  {place:<width$}  {what}\n", start as f64 / 1e3, finish as f64 / 1e3);
    }
    text
}

fn launched(program: &Program<'_>, step: &Step) -> Option<String> {
    let name = |op: OpId| names::line(&program.graph.operator(op).name);
    match step {
        Step::Launch { operator, .. } => Some(name(*operator)),
        _ => None,
    }
}
