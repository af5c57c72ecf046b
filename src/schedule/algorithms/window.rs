//! The second level of HIOS-LP: a sliding window groups operators of one GPU into stages.
//!
//! ## Steps
//!
//! Walk the operators by the order of their stages. An operator that begins a stage looks at the stages that follow on its GPU, at most
//! w - 1 of them (the *window* has w operators, itself included), and takes into its stage the single operator there that lowers the latency of the whole schedule
//! most; it repeats that until the stage has s operators or no candidate lowers the latency. Ties: the nearest candidate.
//!
//! A candidate is merged only if the stage graph over all GPUs stays acyclic: no chain of dependencies and GPU orders may lead from the stage through another one to the
//! candidate. The stages between that must come before the candidate are moved before the stage, the others stay behind it, and no GPU's order changes but for
//! the candidate itself.
//!
//! A merge that touches no critical path cannot lower the latency, since that path stays as it is; it is not tried.
//!
//! ## Differences from the paper
//!
//! The paper's window merges the next p operators, for each p up to w - 1. Here a candidate may skip operators of the window, so w and s are independent (with
//! s = 2 and w = 2 both are the same). The published code merges without asking whether a cycle arises over several GPUs.
//!
//! Beyond [`SERIAL_OPERATORS`] operators, candidates are judged as if links were free (`incremental/list.rs` says why). If the outcome is slower than the
//! schedule given, that one is returned.
//!
//! The longest way from each stage to the end, with free links, is kept for what follows the window, so most candidates are refused after a look at the window
//! alone.
//!
//! Complexity: a look at the window for each candidate, at most V·w·s of them, and O(V + E) for each that is not refused.

use crate::device::Nanos;
use crate::error::Result;
use crate::schedule::incremental::{Flat, Outcome, SERIAL_OPERATORS, Sequence, Timed};
use crate::schedule::{LinkMode, Problem, Schedule, evaluate};

/// `schedule` with operators grouped into stages of at most `max_stage` by a window of `window` operators; never slower.
pub(super) fn group(problem: &Problem, schedule: Schedule, window: usize, max_stage: usize) -> Result<Schedule> {
    if window < 2 || max_stage < 2 || problem.operators() < 2 {
        return Ok(schedule);
    }
    let before = evaluate(problem, &schedule)?;
    let mut flat = Flat::new(problem, true);
    if problem.operators() > SERIAL_OPERATORS {
        flat.links = LinkMode::Free;
    }
    let mut timed = Timed::new(&flat, Sequence::new(&schedule, &before, problem.operators()));
    let mut ways = vec![0; flat.operators];
    timed.update_ways(0, flat.operators, &mut ways);
    let mut critical = Critical::of(&timed);
    let mut at = 0;
    while at < flat.operators {
        let head = timed.sequence.order[at] as usize;
        if timed.sequence.joined[head] {
            at += 1;
            continue;
        }
        let mut size = timed.stage_end(at) - at;
        while size < max_stage && grow(&mut timed, head, window, &critical, &mut ways) {
            size += 1;
            critical = Critical::of(&timed);
        }
        at = at.max(timed.place[head] as usize) + 1;
    }
    let grouped = timed.sequence.schedule(&schedule.algorithm, &flat);
    Ok(if evaluate(problem, &grouped)?.latency < before.latency { grouped } else { schedule })
}

/// The operators on one critical path.
struct Critical(Vec<bool>);

impl Critical {
    fn of(timed: &Timed) -> Critical {
        let mut path = Vec::new();
        timed.critical(&mut path);
        let mut on = vec![false; timed.flat.operators];
        path.iter().for_each(|&op| on[op as usize] = true);
        Critical(on)
    }
}

/// Takes the best candidate of its window into the stage of `head`; whether there was one.
fn grow(timed: &mut Timed, head: usize, window: usize, critical: &Critical, ways: &mut [Nanos]) -> bool {
    let gpu = timed.sequence.gpu[head];
    let begin = timed.place[head] as usize;
    let end = timed.stage_end(begin);
    let stage_is_critical = timed.sequence.order[begin..end].iter().any(|&op| critical.0[op as usize]);
    let mut candidates = Vec::new();
    let mut seen = end - begin;
    let mut at = end;
    while at < timed.flat.operators && seen < window {
        let op = timed.sequence.order[at] as usize;
        let next = timed.stage_end(at);
        if timed.sequence.gpu[op] == gpu {
            seen += next - at;
            if next == at + 1 && (stage_is_critical || critical.0[op]) {
                candidates.push(op);
            }
        }
        at = next;
    }
    let mut best: Option<(Outcome, usize)> = None;
    for op in candidates {
        let limit = best.map_or(timed.now.latency, |(outcome, _)| outcome.latency).saturating_sub(1);
        let after = timed.place[op] as usize + 1;
        let Some(undo) = timed.merge(begin, after - 1) else { continue };
        let hopeless = timed.exceeds(begin, after, ways, limit);
        if !hopeless && let Some(outcome) = timed.try_from(begin, limit) {
            best = Some((outcome, op));
            timed.forget_trial(begin);
        }
        timed.unmerge(undo);
    }
    let Some((outcome, op)) = best else { return false };
    let after = timed.place[op] as usize + 1;
    let merged = timed.merge(begin, after - 1).is_some() && timed.try_from(begin, outcome.latency).is_some();
    if merged {
        timed.keep(begin, outcome);
        timed.update_ways(begin, after, ways);
    }
    merged
}
