//! A complete schedule as a sequence, the form in which searches change it.
//!
//! A schedule is one topological *sequence* of all operators, with a GPU for each, and a mark on
//! those that join the stage of the operator before them. Each GPU runs its stages in the order of
//! the sequence.
//!
//! Every schedule that can run has such a sequence: order its stages by start. And every sequence
//! that respects the dependencies is a schedule that can run. So a change needs no test for
//! deadlock. It only has to keep each operator between the last operator that it reads and the
//! first one that reads it.

use super::flat_problem::FlatProblem;
use crate::device::Nanos;
use crate::ids::OpId;
use crate::schedule::{Schedule, Stage, Timeline};

/// A schedule as a sequence.
#[derive(Clone, Default)]
pub(in crate::schedule) struct StageSequence {
    /// All operators, in a topological order.
    pub order: Vec<u32>,
    /// GPU of each operator, by operator.
    pub gpu: Vec<u32>,
    /// Whether an operator is in the stage of the previous one, by operator.
    pub grouped: Vec<bool>,
}

impl StageSequence {
    /// The sequence of a schedule: its stages by start.
    pub fn new(schedule: &Schedule, timeline: &Timeline, operators: usize) -> StageSequence {
        let mut stages: Vec<(Nanos, usize, usize)> = Vec::new();
        for (gpu, times) in timeline.stages.iter().enumerate() {
            stages.extend(times.iter().enumerate().map(|(index, time)| (time.start, gpu, index)));
        }
        stages.sort_unstable();
        let mut sequence = StageSequence { order: Vec::with_capacity(operators), gpu: vec![0; operators], grouped: vec![false; operators] };
        for (_, gpu, stage) in stages {
            for (index, op) in schedule.gpus[gpu][stage].operators.iter().enumerate() {
                sequence.order.push(op.0);
                sequence.gpu[op.index()] = gpu as u32;
                sequence.grouped[op.index()] = index > 0;
            }
        }
        sequence
    }

    /// The schedule of this sequence.
    pub fn to_schedule(&self, algorithm: &str, flat: &FlatProblem) -> Schedule {
        let mut gpus: Vec<Vec<Stage>> = vec![Vec::new(); flat.gpus];
        for &op in &self.order {
            let stages = &mut gpus[self.gpu[op as usize] as usize];
            match stages.last_mut() {
                Some(stage) if self.grouped[op as usize] => stage.operators.push(OpId(op)),
                _ => stages.push(Stage { operators: vec![OpId(op)] }),
            }
        }
        for stage in gpus.iter_mut().flatten() {
            stage.operators.sort_by_key(|op| flat.topological_position[op.index()]);
        }
        Schedule { algorithm: algorithm.into(), gpus }
    }
}
