//! What a problem knows of stages beyond the model, in tables that `best` asks a million times a second: stages that were measured, and merges of operators.

use std::collections::BTreeMap;

use crate::device::Nanos;
use crate::ids::OpId;
use crate::schedule::{MergeCost, Problem, StageCost};

/// See the top of this file.
#[derive(Default)]
pub(super) struct Known {
    /// Kind of each operator.
    kinds: Vec<u32>,
    /// By ascending kinds.
    stages: Vec<StageCost>,
    /// `pairs[a * P + b]` for kinds a <= b below P: the place of their stage in `stages`, and one. Nearly all stages are pairs.
    pairs: Vec<u32>,
    /// P.
    pairable: usize,
    /// By ascending operators.
    merges: Vec<MergeCost>,
}

/// The table of pairs is for that many kinds at most.
const MAX_PAIRABLE: usize = 2048;

impl Known {
    pub fn new(problem: &Problem) -> Known {
        if problem.stages.is_empty() {
            return Known { merges: problem.merges.clone(), ..Known::default() };
        }
        let kinds: Vec<u32> = problem.ids().map(|op| problem.kind(op)).collect();
        let pairable = problem.stages.iter().flat_map(|s| &s.kinds).max().map_or(0, |&k| k as usize + 1).min(MAX_PAIRABLE);
        let mut pairs = vec![0; pairable * pairable];
        for (place, stage) in problem.stages.iter().enumerate() {
            if let [a, b] = stage.kinds[..]
                && (b as usize) < pairable
            {
                pairs[a as usize * pairable + b as usize] = place as u32 + 1;
            }
        }
        Known { kinds, stages: problem.stages.clone(), pairs, pairable, merges: problem.merges.clone() }
    }

    pub fn is_empty(&self) -> bool {
        self.stages.is_empty() && self.merges.is_empty()
    }

    /// The measured t(S) of independent operators side by side.
    pub fn measured(&self, gpu: usize, members: &[u32]) -> Option<Nanos> {
        if self.stages.is_empty() {
            return None;
        }
        if let [a, b] = *members {
            let (a, b) = (self.kinds[a as usize], self.kinds[b as usize]);
            let (low, high) = (a.min(b) as usize, a.max(b) as usize);
            if high < self.pairable {
                let place = self.pairs[low * self.pairable + high];
                return if place == 0 { None } else { self.stages[place as usize - 1].times[gpu] };
            }
        }
        let mut kinds: Vec<u32> = members.iter().map(|&op| self.kinds[op as usize]).collect();
        kinds.sort_unstable();
        let place = self.stages.binary_search_by(|stage| stage.kinds.cmp(&kinds)).ok()?;
        self.stages[place].times[gpu]
    }

    /// The time of these operators merged into one.
    pub fn merged(&self, gpu: usize, members: &[u32]) -> Option<Nanos> {
        if self.merges.is_empty() {
            return None;
        }
        let mut sorted: Vec<OpId> = members.iter().map(|&op| OpId(op)).collect();
        sorted.sort_unstable();
        let place = self.merges.binary_search_by(|merge| merge.operators.cmp(&sorted)).ok()?;
        Some(self.merges[place].times[gpu])
    }
}

/// A stage whose latency is known may be shorter than the model thinks possible: its operators share it in proportion to their times alone, and are done
/// no sooner.
pub(super) fn share_known_stages(problem: &Problem, time: &[Nanos], work: &mut [Nanos], shortest: &mut [Nanos]) {
    let gpus = problem.gpus;
    // `known` ns on `gpu` for the operators `stage`, shared by each of `sharers`.
    let mut share = |gpu: usize, known: Nanos, stage: &[usize], sharers: &mut dyn Iterator<Item = usize>| {
        let alone: Nanos = stage.iter().map(|op| time[op * gpus + gpu]).sum();
        for at in sharers.map(|op| op * gpus + gpu) {
            work[at] = work[at].min((u128::from(known) * u128::from(time[at]) / u128::from(alone)) as Nanos);
            shortest[at] = shortest[at].min(known);
        }
    };
    let mut of_kind: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
    problem.ids().for_each(|op| of_kind.entry(problem.kind(op)).or_default().push(op.index()));
    for StageCost { kinds, times } in &problem.stages {
        // Operators of one kind have the same time: the first of them stands for all.
        let Some(operators) = kinds.iter().map(|kind| of_kind.get(kind)).collect::<Option<Vec<_>>>() else { continue };
        let stage: Vec<usize> = operators.iter().map(|ops| ops[0]).collect();
        for (gpu, known) in times.iter().enumerate().filter_map(|(gpu, time)| Some((gpu, (*time)?))) {
            share(gpu, known, &stage, &mut operators.iter().flat_map(|ops| ops.iter().copied()));
        }
    }
    for MergeCost { operators, times } in &problem.merges {
        let stage: Vec<usize> = operators.iter().map(|op| op.index()).collect();
        times.iter().enumerate().for_each(|(gpu, &known)| share(gpu, known, &stage, &mut stage.iter().copied()));
    }
}
