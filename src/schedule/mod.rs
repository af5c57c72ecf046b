//! Schedules: which operator runs on which GPU, in which stage, in which order.
//!
//! **In**: a [`Problem`] (the graph's dependencies and its costs, and nothing else). **Out**: a
//! [`Schedule`]. All algorithms share one exact evaluator (`evaluate.rs`). One independent verifier
//! (`verify.rs`) checks every result.
//!
//! | where | what it does |
//! |---|---|
//! | `problem.rs` | builds a [`Problem`] from a graph and its costs, or from a text |
//! | `memory.rs` | weights as a constraint: GPU capacities and weight budgets |
//! | `evaluate.rs` | the execution model: when every stage and transfer starts and ends |
//! | `bounds.rs` | lower bounds on the latency of any schedule |
//! | `verify.rs` | the execution model again, as rules that a timeline must obey |
//! | `text.rs` | schedules in text form: writer and parser |
//! | `incremental/` | the execution model for searches: how a change affects the latency |
//! | `algorithms/` | a table with one row per algorithm: [`schedule()`], [`compare`] |
//!
//! `incremental/` and `algorithms/` use only the rows above them.

mod algorithms;
mod bounds;
mod evaluate;
mod incremental;
mod memory;
mod problem;
mod text;
mod verify;

pub use algorithms::{Algorithm, Effort, ScheduleOptions, Solution, compare, compare_with, schedule, schedule_with};
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
    /// `gpus[g]`: the stages of GPU `g`, in order. Lists may be empty: a schedule need not use
    /// every GPU offered.
    pub gpus: Vec<Vec<Stage>>,
}

/// A tensor that one operator computes and others read.
#[derive(Clone, Debug, PartialEq)]
pub struct Edge {
    /// The tensor (a root, never a view).
    pub tensor: TensorId,
    /// The operator that computes it.
    pub producer: OpId,
    /// The operators that read it: ascending, no repeats, never empty.
    pub consumers: Vec<OpId>,
    /// `transfer[from][to]`: the time of a copy between these GPUs. `None` where there is no link,
    /// and on the diagonal.
    pub transfer: Vec<Vec<Option<Nanos>>>,
}

/// How transfers share a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LinkMode {
    /// Every transfer starts as soon as its tensor is ready (the published model).
    Free,
    /// One transfer at a time per ordered GPU pair, in the order in which the tensors become ready.
    /// Ties go to the producer that comes first in topological order, then to the lowest tensor id.
    Serial,
}

/// Everything a scheduling algorithm may know: times, dependencies, transfers.
#[derive(Clone, Debug, PartialEq)]
pub struct Problem {
    /// `time[op][gpu]`: t(v).
    pub time: Vec<Vec<Nanos>>,
    /// `utilisation[op][gpu]`: the share of the GPU that the operator keeps busy, in (0, 1].
    pub utilisation: Vec<Vec<f64>>,
    /// All tensors between operators.
    pub edges: Vec<Edge>,
    /// How transfers share a link.
    pub links: LinkMode,
    /// The fixed topological order that breaks ties.
    pub order: Vec<OpId>,
    /// Number of GPUs offered.
    pub gpus: usize,
    /// The weights that each operator needs on its GPU, and the capacity of each GPU.
    pub memory: Memory,
    /// `cost_classes[op]`: operators of one cost class run the same kernels and cost the same in
    /// any stage. If empty, each operator is a cost class of its own, numbered by its id.
    pub cost_classes: Vec<u32>,
    /// Stages with a measured latency, sorted by cost classes. The model gives the time of all
    /// others.
    pub stages: Vec<StageCost>,
    /// Sets of operators that may be merged into one, sorted by operators (IOS's *operator merge*).
    pub operator_merges: Vec<MergeCost>,
}

/// IOS's first strategy, *concurrent execution*: the measured t(S) of independent operators that
/// run side by side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StageCost {
    /// The cost classes of its operators: ascending, with repeats, at least two.
    pub cost_classes: Vec<u32>,
    /// t(S) on each GPU; `None` where it was not measured.
    pub times: Vec<Option<Nanos>>,
}

/// IOS's second strategy, *operator merge*: t(S) of operators that are merged into one. The faster
/// of the two strategies counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MergeCost {
    /// Operators: ascending, no repeats, at least two, independent of each other.
    pub operators: Vec<OpId>,
    /// On each GPU, the time of one operator that computes what all of them compute, including
    /// splitting its result; or of one launch that computes them all.
    pub times: Vec<Nanos>,
}

/// A copy of one tensor from one GPU to another, as timed by the evaluator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transfer {
    /// The tensor.
    pub tensor: TensorId,
    /// Source GPU.
    pub from: GpuId,
    /// Destination GPU.
    pub to: GpuId,
    /// When the link starts it.
    pub start: Nanos,
    /// When the tensor has arrived.
    pub finish: Nanos,
}

/// When a stage starts and finishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StageTime {
    /// When it starts.
    pub start: Nanos,
    /// When all its operators are done.
    pub finish: Nanos,
}

/// The exact timing of a schedule under the execution model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timeline {
    /// `stages[gpu][stage]`.
    pub stages: Vec<Vec<StageTime>>,
    /// All transfers, by (start, from, to, tensor).
    pub transfers: Vec<Transfer>,
    /// Makespan of one inference.
    pub latency: Nanos,
}

/// A schedule with its timeline.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct EvaluatedSchedule {
    /// The schedule.
    pub schedule: Schedule,
    /// Its timeline, from the evaluator.
    pub timeline: Timeline,
}
