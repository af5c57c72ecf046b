//! Plans with one step missing, for tests. A plan is minimal if the verifier rejects each of them.

use super::{Plan, Step};

/// Every plan that lacks exactly one wait, record or copy of `plan`, with the index of the missing
/// step. The sections still cover all steps.
pub fn mutants(plan: &Plan) -> impl Iterator<Item = (usize, Plan)> + '_ {
    let removable = |step: &Step| step.is_synchronisation() || matches!(step, Step::Copy { .. });
    (0..plan.steps.len()).filter(move |&i| removable(&plan.steps[i])).map(|i| (i, without(plan, i)))
}

/// `plan` without its step `i`.
fn without(plan: &Plan, i: usize) -> Plan {
    let mut mutant = plan.clone();
    mutant.steps.remove(i);
    for section in &mut mutant.sections {
        section.first -= usize::from(section.first > i);
        section.end -= usize::from(section.end > i);
    }
    mutant
}
