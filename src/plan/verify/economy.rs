//! Rules 15 to 17: nothing is there in vain.
//!
//! Whether a wait is redundant is tried: the clocks of all later steps are computed once more without it, until one of them no longer counts what
//! the step needs. In a good plan that is the very next operation.

use super::order::{Course, Vectors, covers};
use super::{Accesses, Subject};
use crate::error::Result;
use crate::ids::{BufferId, EventId};
use crate::plan::Step;

/// Checks rules 15 to 17.
pub(super) fn check(s: &Subject, accesses: &Accesses, course: &Course, needs: &Vectors) -> Result<()> {
    let mut scratch = Vectors::new(s.plan.steps.len() + 1, s.plan.streams.len());
    for wait in (0..s.plan.steps.len()).filter(|&i| course.record[i].is_some()) {
        if !is_missed(wait, course, needs, &mut scratch) {
            return s.broken(15, format_args!("all that needs {} is ordered without it", s.step(wait)));
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

/// Whether some step after `wait` would lack an order without it. `scratch` has a row for each step; its contents do not matter.
fn is_missed(wait: usize, course: &Course, needs: &Vectors, scratch: &mut Vectors) -> bool {
    let mut clock = vec![0; scratch.row(0).len()];
    for i in wait + 1..course.stream.len() {
        clock.fill(0);
        let previous = if course.previous[i] == Some(wait) { course.previous[wait] } else { course.previous[i] };
        for before in [previous, course.record[i]].into_iter().flatten() {
            let vectors = if before > wait { &*scratch } else { &course.clocks };
            course.advance(&mut clock, before, vectors.row(before));
        }
        if !covers(&clock, needs.row(i)) {
            return true;
        }
        scratch.row_mut(i).copy_from_slice(&clock);
    }
    false
}
