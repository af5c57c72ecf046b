//! From a schedule to the exact sequence of CUDA calls of one inference: streams, events, copies,
//! memory.
//!
//! **In**: the graph, its costs, a schedule with its timeline. **Out**: a [`Plan`], made by
//! [`plan()`]. `stages.rs` orders the stages and chooses streams. `build.rs` lists the operations
//! in host issue order. `sync.rs` places the fewest events and waits. `memory.rs` packs one arena
//! per GPU. [`verify()`] proves the result without knowing how it was made. The text form is in
//! `text.rs`.
//!
//! ## Terms and rules
//!
//! * Steps are in *host issue order*. The steps of one stream run in that order; only events order
//!   different streams.
//! * The *origin stream* is [`Plan::origin_stream`], the first compute stream of the first GPU. The
//!   first step of every stream comes after the first step of the origin stream (**fork**), and all
//!   steps come before the end of the origin stream (**join**). So the host waits for the origin
//!   stream alone, and the whole plan can be captured into one CUDA graph.
//! * An event is recorded once per inference, on a stream of its own GPU. Any stream may wait for
//!   it.
//! * A [`Step::Copy`] runs on the copy stream of its ordered GPU pair, which belongs to the source
//!   GPU.
//! * A root tensor has at most one buffer per GPU, and is copied to a GPU at most once. Constants
//!   are in the weights region of each GPU that reads them, once for each layout that its kernels
//!   read.
//! * One launch computes one operator, or all operators of a stage, if the cost table has them as a
//!   group ([`cost::GroupedLaunch`](crate::cost::GroupedLaunch)) and the stage takes at least the
//!   group's time.
//! * A kernel's workspace is a buffer that its launch writes and nothing else reads. It may share
//!   bytes by the same rule as any other buffer.
//! * The counters of a launch are a buffer of its own that shares bytes with nothing: they are zero
//!   from load on, before and after every launch, and so from one inference to the next.
//! * If a launch reads a joined tensor, the buffers of its parts on that GPU are adjacent.
//! * Two buffers of one arena share bytes only if happens-before orders every access of one before
//!   the first access of the other.

mod build;
mod memory;
mod mutants;
mod stages;
mod sync;
mod text;
mod verify;

pub use build::plan;
pub use mutants::mutants;
pub use verify::verify;

use crate::device::Nanos;
use crate::graph::Graph;
use crate::ids::{BufferId, EventId, GpuId, OpId, StreamId, TensorId};
use crate::kernel::Packing;

/// Options of the planner.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PlanOptions {
    /// Every launch of a stage waits for all launches of the previous stage of its GPU, as in the
    /// evaluator's model. Without it, a launch waits only for the data it reads.
    pub stage_barriers: bool,
}

impl PlanOptions {
    /// Sets [`stage_barriers`](Self::stage_barriers).
    pub fn stage_barriers(mut self, keep: bool) -> Self {
        self.stage_barriers = keep;
        self
    }
}

/// What a stream is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StreamKind {
    /// Runs kernels; the number counts the compute streams of its GPU.
    Compute(usize),
    /// Carries copies from its GPU to `to`.
    Copy {
        /// Destination.
        to: GpuId,
    },
}

/// A stream of one GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamPlan {
    /// The GPU it runs on.
    pub gpu: GpuId,
    /// What it is for.
    pub kind: StreamKind,
}

/// One GPU of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GpuPlan {
    /// Size of the arena that holds all its buffers.
    pub arena_bytes: u64,
    /// Constants it reads, ascending, each with its offset in the weights region (a multiple of
    /// 256).
    pub weights: Vec<(Weight, u64)>,
    /// Size of the weights region.
    pub weights_bytes: u64,
}

/// A constant as kernels read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Weight {
    /// The root tensor.
    pub tensor: TensorId,
    /// Its layout; `None` is that of the model.
    pub packing: Option<Packing>,
}

impl Weight {
    /// Its size in bytes.
    pub fn bytes(&self, graph: &Graph) -> u64 {
        let tensor = graph.tensor(self.tensor);
        self.packing.map_or(tensor.bytes(), |packing| packing.elements().saturating_mul(tensor.dtype.bytes()))
    }

    /// Its shape.
    pub fn shape(&self, graph: &Graph) -> Vec<usize> {
        self.packing.map_or_else(|| graph.tensor(self.tensor).shape.clone(), |packing| packing.shape().to_vec())
    }
}

/// What a buffer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Contents {
    /// A root tensor.
    Tensor(TensorId),
    /// Scratch memory, such as partial sums, that one launch writes and reads. The operator is the
    /// first of that launch.
    Workspace(OpId),
    /// Counters that are zero before and after the one launch that uses them. They are zeroed when
    /// the plan is loaded. The operator is the first of that launch.
    Counters(OpId),
}

/// A region of one GPU's arena that holds one root tensor, or the workspace or the counters of one
/// launch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Buffer {
    /// What it is for.
    pub contents: Contents,
    /// The GPU.
    pub gpu: GpuId,
    /// Offset in the arena: a multiple of 256, or adjacent to the previous part of a joined tensor.
    pub offset: u64,
    /// Size: the tensor's, or what the kernel needs.
    pub bytes: u64,
}

impl Buffer {
    /// The tensor that it holds; `None` for a workspace or counters.
    pub fn tensor(&self) -> Option<TensorId> {
        match self.contents {
            Contents::Tensor(tensor) => Some(tensor),
            Contents::Workspace(_) | Contents::Counters(_) => None,
        }
    }

    /// Whether it holds counters, whose bytes nothing else may have.
    pub fn has_counters(&self) -> bool {
        matches!(self.contents, Contents::Counters(_))
    }
}

/// An argument of a kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operand {
    /// A planned buffer.
    Buffer(BufferId),
    /// The buffers of the parts of a joined tensor, which are adjacent.
    Joined(Vec<BufferId>),
    /// A slice: some bytes of a planned buffer.
    Slice {
        /// The buffer.
        buffer: BufferId,
        /// The first byte that is read.
        begin: u64,
        /// Number of bytes that are read.
        bytes: u64,
    },
    /// A constant in the weights region of the launching GPU.
    Weight(Weight),
}

impl Operand {
    /// The buffers that hold it, in order; none for a constant.
    pub fn buffers(&self) -> &[BufferId] {
        match self {
            Operand::Buffer(buffer) | Operand::Slice { buffer, .. } => std::slice::from_ref(buffer),
            Operand::Joined(parts) => parts,
            Operand::Weight(_) => &[],
        }
    }
}

/// One call of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Copies an input of the model from pinned host memory.
    Upload {
        /// Index into [`Graph::inputs`](crate::graph::Graph::inputs).
        input: usize,
        /// Destination.
        to: BufferId,
        /// The stream.
        stream: StreamId,
    },
    /// Launches the kernel of one operator, or of a group.
    Launch {
        /// The operators: one, or those of the group, ascending.
        operators: Vec<OpId>,
        /// The stream.
        stream: StreamId,
        /// Arguments read: the inputs of the operators, one operator after the other.
        reads: Vec<Operand>,
        /// Buffers written: the outputs of the operators, one operator after the other; then the
        /// workspace and the counters, if the kernel needs them.
        writes: Vec<BufferId>,
    },
    /// Copies a tensor between GPUs.
    Copy {
        /// The tensor.
        tensor: TensorId,
        /// Source.
        from: BufferId,
        /// Destination.
        to: BufferId,
        /// The stream.
        stream: StreamId,
    },
    /// Copies an output of the model to pinned host memory.
    Download {
        /// Index into [`Graph::outputs`](crate::graph::Graph::outputs).
        output: usize,
        /// Source.
        from: BufferId,
        /// The stream.
        stream: StreamId,
    },
    /// Records `event` after the work issued on `stream` so far.
    Record {
        /// The event.
        event: EventId,
        /// The stream.
        stream: StreamId,
    },
    /// Makes `stream` wait for `event`.
    Wait {
        /// The event.
        event: EventId,
        /// The stream that waits.
        stream: StreamId,
    },
}

impl Step {
    /// The stream that the step is issued to.
    pub fn stream(&self) -> StreamId {
        match *self {
            Step::Upload { stream, .. }
            | Step::Launch { stream, .. }
            | Step::Copy { stream, .. }
            | Step::Download { stream, .. }
            | Step::Record { stream, .. }
            | Step::Wait { stream, .. } => stream,
        }
    }

    /// Whether the step orders streams (a record or a wait) and moves or computes nothing.
    pub fn is_synchronisation(&self) -> bool {
        matches!(self, Step::Record { .. } | Step::Wait { .. })
    }
}

/// A readable part of the plan: consecutive steps that become one short function of the generated
/// crate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// Its kind.
    pub kind: SectionKind,
    /// Its steps: `steps[first..end]`.
    pub first: usize,
    /// One past its last step.
    pub end: usize,
    /// Predicted (start, finish) of a stage.
    pub predicted: Option<(Nanos, Nanos)>,
}

/// The kinds of sections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SectionKind {
    /// Fork and uploads.
    Begin,
    /// A stage: its waits, its launches, and the copies that leave with its results.
    Stage {
        /// The GPU.
        gpu: GpuId,
        /// Position among the GPU's stages.
        index: usize,
    },
    /// Downloads and join.
    End,
}

/// Everything one inference does. The sections cover all steps, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The GPUs in use, numbered densely: a GPU that the schedule leaves empty is missing here.
    pub gpus: Vec<GpuPlan>,
    /// For each GPU of the plan, the GPU of the target whose costs and kernels it has.
    pub targets: Vec<GpuId>,
    /// All streams, grouped by GPU.
    pub streams: Vec<StreamPlan>,
    /// The stream that all others fork from and join.
    pub origin_stream: StreamId,
    /// All buffers.
    pub buffers: Vec<Buffer>,
    /// `events[e]`: the GPU that owns the event.
    pub events: Vec<GpuId>,
    /// All steps, in host issue order.
    pub steps: Vec<Step>,
    /// The steps in readable parts.
    pub sections: Vec<Section>,
    /// Predicted latency.
    pub latency: Nanos,
}
