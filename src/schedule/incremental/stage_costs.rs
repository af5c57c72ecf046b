//! Measured stages and operator merges of a problem, in lookup tables for searches.

use std::collections::BTreeMap;

use crate::device::Nanos;
use crate::ids::OpId;
use crate::schedule::{MergeCost, Problem, StageCost};

/// Stage times that do not come from the model.
#[derive(Default)]
pub(super) struct StageCosts {
    /// The cost class of each operator.
    cost_classes: Vec<u32>,
    /// By ascending cost classes.
    stages: Vec<StageCost>,
    /// `pairs[a * P + b]` for cost classes a <= b < P: 1 + the index of their stage in `stages`, or
    /// 0 if there is none. Nearly all stages are pairs.
    pairs: Vec<u32>,
    /// P, the number of cost classes in `pairs`.
    paired_classes: usize,
    /// By ascending operators.
    operator_merges: Vec<MergeCost>,
}

/// The most cost classes in the table of pairs.
const MAX_PAIRED_CLASSES: usize = 2048;

impl StageCosts {
    pub fn new(problem: &Problem) -> StageCosts {
        if problem.stages.is_empty() {
            return StageCosts { operator_merges: problem.operator_merges.clone(), ..StageCosts::default() };
        }
        let cost_classes: Vec<u32> = problem.ids().map(|op| problem.cost_class(op)).collect();
        let paired_classes =
            problem.stages.iter().flat_map(|s| &s.cost_classes).max().map_or(0, |&k| k as usize + 1).min(MAX_PAIRED_CLASSES);
        let mut pairs = vec![0; paired_classes * paired_classes];
        for (index, stage) in problem.stages.iter().enumerate() {
            if let [a, b] = stage.cost_classes[..]
                && (b as usize) < paired_classes
            {
                pairs[a as usize * paired_classes + b as usize] = index as u32 + 1;
            }
        }
        StageCosts { cost_classes, stages: problem.stages.clone(), pairs, paired_classes, operator_merges: problem.operator_merges.clone() }
    }

    pub fn is_empty(&self) -> bool {
        self.stages.is_empty() && self.operator_merges.is_empty()
    }

    /// The measured t(S) of independent operators side by side.
    pub fn measured_time(&self, gpu: usize, members: &[u32]) -> Option<Nanos> {
        if self.stages.is_empty() {
            return None;
        }
        if let [a, b] = *members {
            let (a, b) = (self.cost_classes[a as usize], self.cost_classes[b as usize]);
            let (low, high) = (a.min(b) as usize, a.max(b) as usize);
            if high < self.paired_classes {
                let index = self.pairs[low * self.paired_classes + high];
                return if index == 0 { None } else { self.stages[index as usize - 1].times[gpu] };
            }
        }
        let mut cost_classes: Vec<u32> = members.iter().map(|&op| self.cost_classes[op as usize]).collect();
        cost_classes.sort_unstable();
        let index = self.stages.binary_search_by(|stage| stage.cost_classes.cmp(&cost_classes)).ok()?;
        self.stages[index].times[gpu]
    }

    /// The time of these operators merged into one.
    pub fn merged_time(&self, gpu: usize, members: &[u32]) -> Option<Nanos> {
        if self.operator_merges.is_empty() {
            return None;
        }
        let mut sorted: Vec<OpId> = members.iter().map(|&op| OpId(op)).collect();
        sorted.sort_unstable();
        let index = self.operator_merges.binary_search_by(|merge| merge.operators.cmp(&sorted)).ok()?;
        Some(self.operator_merges[index].times[gpu])
    }
}

/// Lowers `work` and `shortest` where a stage of known latency is shorter than the model thinks
/// possible. Its operators share its latency in proportion to their times alone, and none of them
/// finishes sooner.
pub(super) fn lower_by_known_stages(problem: &Problem, time: &[Nanos], work: &mut [Nanos], shortest: &mut [Nanos]) {
    let gpus = problem.gpus;
    // The stage of the operators `stage` takes `known` ns on `gpu`. Each of `members` gets its
    // share.
    let mut share = |gpu: usize, known: Nanos, stage: &[usize], members: &mut dyn Iterator<Item = usize>| {
        let alone: Nanos = stage.iter().map(|op| time[op * gpus + gpu]).sum();
        for at in members.map(|op| op * gpus + gpu) {
            work[at] = work[at].min((u128::from(known) * u128::from(time[at]) / u128::from(alone)) as Nanos);
            shortest[at] = shortest[at].min(known);
        }
    };
    let mut of_class: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
    problem.ids().for_each(|op| of_class.entry(problem.cost_class(op)).or_default().push(op.index()));
    for StageCost { cost_classes, times } in &problem.stages {
        // Operators of one cost class take the same time, so the first of them stands for all.
        let Some(operators) = cost_classes.iter().map(|cost_class| of_class.get(cost_class)).collect::<Option<Vec<_>>>() else { continue };
        let stage: Vec<usize> = operators.iter().map(|ops| ops[0]).collect();
        for (gpu, known) in times.iter().enumerate().filter_map(|(gpu, time)| Some((gpu, (*time)?))) {
            share(gpu, known, &stage, &mut operators.iter().flat_map(|ops| ops.iter().copied()));
        }
    }
    for MergeCost { operators, times } in &problem.operator_merges {
        let stage: Vec<usize> = operators.iter().map(|op| op.index()).collect();
        times.iter().enumerate().for_each(|(gpu, &known)| share(gpu, known, &stage, &mut stage.iter().copied()));
    }
}
