//! The second level of HIOS-LP: a sliding window groups operators of one GPU into stages.
//!
//! ## Steps
//!
//! Visit the operators in the order of their stages. An operator that begins a stage looks at the
//! stages that follow on its GPU, within a *window* of w operators, its own stage included. Of the
//! operators there that are alone in their stage, the one that lowers the latency of the whole
//! schedule most joins. Repeat until the stage has s operators or no operator of the window lowers
//! the latency. Ties: the nearest operator.
//!
//! An operator joins only if the stage graph over all GPUs stays acyclic: no path of dependencies
//! and GPU orders may lead from the stage through another one to the operator. Stages in between
//! that must precede the operator are moved before the stage, and the others stay behind it. Apart
//! from the operator itself, no GPU's order changes.
//!
//! If neither the stage nor the operator is on the critical path, joining them cannot lower the
//! latency, since that path stays as it is. It is not tried.
//!
//! ## Differences from the paper
//!
//! The paper's window groups the next p operators, for each p up to w - 1. Here an operator may
//! skip operators of the window, so w and s are independent (with s = 2 and w = 2 both are the
//! same). The published code groups without checking for cycles over several GPUs.
//!
//! Beyond [`SERIAL_OPERATORS`] operators, operators are judged as if links were free
//! (`incremental/list_scheduler.rs` says why). If the result is not faster than the given schedule,
//! that one is returned.
//!
//! ## Complexity
//!
//! The bottom level of each stage with free links (the longest path from its start to the end) is
//! kept for what follows the window. So most operators are rejected after a pass over the window
//! alone. At most V·w·s joins are tried, each with one such pass, and with O(V + E) if it is
//! not rejected.

use crate::device::Nanos;
use crate::error::Result;
use crate::schedule::incremental::{Evaluation, FlatProblem, IncrementalEvaluator, SERIAL_OPERATORS, StageSequence};
use crate::schedule::{LinkMode, Problem, Schedule, evaluate};

/// `schedule` with operators grouped into stages of at most `max_stage` by a window of `window`
/// operators. Never slower.
pub(super) fn group_operators(problem: &Problem, schedule: Schedule, window: usize, max_stage: usize) -> Result<Schedule> {
    if window < 2 || max_stage < 2 || problem.operators() < 2 {
        return Ok(schedule);
    }
    let before = evaluate(problem, &schedule)?;
    let mut flat = FlatProblem::new(problem, true);
    if problem.operators() > SERIAL_OPERATORS {
        flat.links = LinkMode::Free;
    }
    let mut evaluator = IncrementalEvaluator::new(&flat, StageSequence::new(&schedule, &before, problem.operators()));
    let mut bottom_levels = vec![0; flat.operators];
    evaluator.update_bottom_levels(0, flat.operators, &mut bottom_levels);
    let mut critical = CriticalPath::of(&evaluator);
    let mut at = 0;
    while at < flat.operators {
        let head = evaluator.sequence.order[at] as usize;
        if evaluator.sequence.grouped[head] {
            at += 1;
            continue;
        }
        let mut size = evaluator.stage_end(at) - at;
        while size < max_stage && grow(&mut evaluator, head, window, &critical, &mut bottom_levels) {
            size += 1;
            critical = CriticalPath::of(&evaluator);
        }
        at = at.max(evaluator.position[head] as usize) + 1;
    }
    let grouped = evaluator.sequence.to_schedule(&schedule.algorithm, &flat);
    Ok(if evaluate(problem, &grouped)?.latency < before.latency { grouped } else { schedule })
}

/// The operators on one critical path.
struct CriticalPath(Vec<bool>);

impl CriticalPath {
    fn of(evaluator: &IncrementalEvaluator) -> CriticalPath {
        let mut path = Vec::new();
        evaluator.critical_path(&mut path);
        let mut on = vec![false; evaluator.flat.operators];
        path.iter().for_each(|&op| on[op as usize] = true);
        CriticalPath(on)
    }
}

/// The best operator of the window joins the stage of `head`. Returns whether there was one.
fn grow(evaluator: &mut IncrementalEvaluator, head: usize, window: usize, critical: &CriticalPath, bottom_levels: &mut [Nanos]) -> bool {
    let gpu = evaluator.sequence.gpu[head];
    let begin = evaluator.position[head] as usize;
    let end = evaluator.stage_end(begin);
    let stage_is_critical = evaluator.sequence.order[begin..end].iter().any(|&op| critical.0[op as usize]);
    let mut window_operators = Vec::new();
    let mut seen = end - begin;
    let mut at = end;
    while at < evaluator.flat.operators && seen < window {
        let op = evaluator.sequence.order[at] as usize;
        let next = evaluator.stage_end(at);
        if evaluator.sequence.gpu[op] == gpu {
            seen += next - at;
            if next == at + 1 && (stage_is_critical || critical.0[op]) {
                window_operators.push(op);
            }
        }
        at = next;
    }
    let mut best: Option<(Evaluation, usize)> = None;
    for op in window_operators {
        let limit = best.map_or(evaluator.current.latency, |(evaluation, _)| evaluation.latency).saturating_sub(1);
        let after = evaluator.position[op] as usize + 1;
        let Some(undo) = evaluator.join_stage(begin, after - 1) else { continue };
        let too_late = evaluator.exceeds(begin, after, bottom_levels, limit);
        if !too_late && let Some(evaluation) = evaluator.try_change(begin, limit) {
            best = Some((evaluation, op));
            evaluator.roll_back(begin);
        }
        evaluator.undo_join(undo);
    }
    let Some((evaluation, op)) = best else { return false };
    let after = evaluator.position[op] as usize + 1;
    let grouped = evaluator.join_stage(begin, after - 1).is_some() && evaluator.try_change(begin, evaluation.latency).is_some();
    if grouped {
        evaluator.commit(begin, evaluation);
        evaluator.update_bottom_levels(begin, after, bottom_levels);
    }
    grouped
}
