//! Which operator runs on which GPU, in which stage, in which order.
//!
//! **In**: a [`Problem`] (the graph's dependencies and its costs, and nothing else). **Out**: a [`Schedule`]. All algorithms share one
//! exact evaluator (`evaluate.rs`), and one independent verifier (`verify.rs`) judges what they make.
//!
//! | where | what it does |
//! |---|---|
//! | `problem.rs` | builds a [`Problem`] from a graph and its costs, or from a scheduling graph in text form |
//! | `memory.rs` | weights as a constraint |
//! | `evaluate.rs` | the execution model: when everything starts and ends |
//! | `bounds.rs` | latencies that no schedule can go below |
//! | `verify.rs` | the same model once more, as rules that a timeline must obey |
//! | `text.rs` | schedules in text form, and back |
//! | `incremental/` | the same model for searches: what a change does to the latency |
//! | `algorithms/` | a table with a row an algorithm, and a file for each: [`schedule()`], [`compare`] |
//!
//! Each folder of the table uses only what stands above it.

mod algorithms;
mod bounds;
mod evaluate;
mod incremental;
mod memory;
mod problem;
mod text;
mod verify;

pub use algorithms::{Algorithm, Effort, Found, Options, compare, compare_with, schedule, schedule_with};
pub use bounds::{lower_bound, lower_bound_ungrouped};
pub use evaluate::{evaluate, stage_time};
pub use memory::Memory;
pub use text::{parse, to_text};
pub use verify::verify;

use crate::device::Nanos;
use crate::ids::{GpuId, OpId, TensorId};

/// Operators of one GPU that run concurrently.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stage {
    /// Its operators, in topological order.
    pub operators: Vec<OpId>,
}

/// A mapping of operators to GPUs, and the order of stages on each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// Name of the algorithm, as `--algorithm` takes it.
    pub algorithm: String,
    /// `gpus[g]`: the stages of GPU `g`, in order. May hold empty lists: fewer GPUs than offered is a valid answer.
    pub gpus: Vec<Vec<Stage>>,
}

/// One tensor between operators, as scheduling sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct Edge {
    /// The tensor (a root, never a view).
    pub tensor: TensorId,
    /// Who computes it.
    pub producer: OpId,
    /// Who reads it: ascending, no repeats, never empty.
    pub consumers: Vec<OpId>,
    /// `transfer[from][to]`: time of a copy between these GPUs; `None` where there is no link (and on the diagonal).
    pub transfer: Vec<Vec<Option<Nanos>>>,
}

/// How transfers share a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkMode {
    /// Every transfer starts as soon as its tensor is there (the published model).
    Free,
    /// One transfer at a time per ordered GPU pair, in the order in which their tensors become ready (ties: the producer that comes first in
    /// topological order, then the lowest tensor id).
    Serial,
}

/// What a scheduling algorithm may know: times, dependencies, transfers.
#[derive(Clone, Debug, PartialEq)]
pub struct Problem {
    /// `time[op][gpu]`: t(v).
    pub time: Vec<Vec<Nanos>>,
    /// `utilisation[op][gpu]`: share of the GPU kept busy, in (0, 1].
    pub utilisation: Vec<Vec<f64>>,
    /// All tensors between operators.
    pub edges: Vec<Edge>,
    /// How transfers share a link.
    pub links: LinkMode,
    /// The fixed topological order that breaks ties.
    pub order: Vec<OpId>,
    /// Number of GPUs offered.
    pub gpus: usize,
    /// The weights that operators need where they run, and the room for them.
    pub memory: Memory,
    /// `kinds[op]`: operators of one kind run the same kernels, and cost the same in any stage. Empty: each operator is a kind of its own, its id.
    pub kinds: Vec<u32>,
    /// Stages whose latency is measured, by ascending kinds. A stage that is not here takes what the model says.
    pub stages: Vec<StageCost>,
    /// Sets of operators that may be merged into one, by ascending operators.
    pub merges: Vec<MergeCost>,
}

/// IOS's first strategy, *concurrent execution*: t(S) of independent operators side by side, measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StageCost {
    /// The kinds of its operators: ascending, with repeats, at least two.
    pub kinds: Vec<u32>,
    /// t(S) on each GPU; `None` where it was not measured.
    pub times: Vec<Option<Nanos>>,
}

/// IOS's second strategy, *operator merge*: t(S) of operators that are merged into one, which is the stage's if it is lower than that of running them side by side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MergeCost {
    /// Operators: ascending, no repeats, at least two, independent of each other.
    pub operators: Vec<OpId>,
    /// On each GPU, the time of one operator that computes what all of them compute, and of taking
    /// its result apart; or of one launch that computes them all.
    pub times: Vec<Nanos>,
}

/// One copy of one tensor between two GPUs, as the evaluator timed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transfer {
    /// The tensor.
    pub tensor: TensorId,
    /// Source GPU.
    pub from: GpuId,
    /// Destination GPU.
    pub to: GpuId,
    /// When the link takes it up.
    pub start: Nanos,
    /// When it has arrived.
    pub finish: Nanos,
}

/// A stage with its times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StageTime {
    /// When it starts.
    pub start: Nanos,
    /// When all its operators are done.
    pub finish: Nanos,
}

/// The exact course of a schedule under the execution model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timeline {
    /// `stages[gpu][stage]`.
    pub stages: Vec<Vec<StageTime>>,
    /// All transfers, by (start, from, to, tensor).
    pub transfers: Vec<Transfer>,
    /// Makespan of one inference.
    pub latency: Nanos,
}

/// A schedule with its exact course.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// The schedule.
    pub schedule: Schedule,
    /// Its course, from the evaluator.
    pub timeline: Timeline,
}
