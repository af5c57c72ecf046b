//! Rules 15 to 17: no step is superfluous.
//!
//! A wait is tested by trial: the clocks of all later steps are computed again without it, until
//! one of them no longer covers what its step needs. In a minimal plan that is the very next
//! operation.

use super::order::{HappensBefore, Vectors, covers};
use super::{Accesses, Subject};
use crate::error::Result;
use crate::ids::{BufferId, EventId};
use crate::plan::Step;

/// Checks rules 15 to 17.
pub(super) fn check(s: &Subject, accesses: &Accesses, order: &HappensBefore, needs: &Vectors) -> Result<()> {
    let mut scratch = Vectors::new(s.plan.steps.len() + 1, s.plan.streams.len());
    for wait in (0..s.plan.steps.len()).filter(|&i| order.record[i].is_some()) {
        if !is_missed(wait, order, needs, &mut scratch) {
            return s.broken(15, format_args!("{} is redundant: every required order holds without it", s.step(wait)));
        }
    }
    if let Some(event) = accesses.waits.iter().position(Vec::is_empty) {
        return s.broken(16, format_args!("nothing waits for {}: {}", EventId::new(event), s.step(accesses.record[event])));
    }
    for (b, &writer) in accesses.writer.iter().enumerate() {
        if accesses.readers[b].is_empty() && !matches!(s.plan.steps[writer], Step::Launch { .. }) {
            return s.broken(17, format_args!("nothing reads {}: {}", s.buffer(BufferId::new(b)), s.step(writer)));
        }
    }
    Ok(())
}

/// Whether some step after `wait` would lack a required order without it. `scratch` has a row for
/// each step; its contents do not matter.
fn is_missed(wait: usize, order: &HappensBefore, needs: &Vectors, scratch: &mut Vectors) -> bool {
    let mut clock = vec![0; scratch.row(0).len()];
    for i in wait + 1..order.stream.len() {
        clock.fill(0);
        let previous = if order.previous[i] == Some(wait) { order.previous[wait] } else { order.previous[i] };
        for before in [previous, order.record[i]].into_iter().flatten() {
            let vectors = if before > wait { &*scratch } else { &order.clocks };
            order.advance(&mut clock, before, vectors.row(before));
        }
        if !covers(&clock, needs.row(i)) {
            return true;
        }
        scratch.row_mut(i).copy_from_slice(&clock);
    }
    false
}
