//! Proves a plan right, from its steps alone. Nothing here knows how plans are made.
//!
//! Happens-before is a partial order of the steps: the steps of one stream in host issue order, and
//! each wait after its record, which is the one issued most recently before it. The plan is right
//! if every execution that keeps this order computes the graph.
//!
//! Well-formed (`shape.rs`):
//!
//!  1. Every number of a GPU, stream, buffer, event, operator, tensor, input or output is in range.
//!     The GPUs stand for different GPUs of the target. Streams are grouped by GPU, in the order of
//!     the GPUs: compute streams counted from 0, then at most one copy stream to each other GPU.
//!     The origin stream is the first compute stream of the first GPU.
//!  2. The sections cover all steps in order: first `Begin`, last `End`, between them stages, those
//!     of one GPU in order and each once. If a schedule is given, they are its stages: each
//!     launches exactly its operators, on its GPU.
//!  3. A buffer holds a tensor that owns its bytes and is not a constant, with its size, inside the
//!     arena, at a multiple of 256 unless it is adjacent to the previous part of a joined tensor
//!     that is read; there is one per (tensor, GPU). Or it is the workspace of a launch, inside the
//!     arena, at a multiple of 256. Or it has the counters of a launch, at least one, of 4 bytes
//!     each, inside the arena, at a multiple of 256.
//!  4. The weights of a GPU are exactly the constants its launches read, in the layouts in which
//!     they read them, ascending, at multiples of 256, inside the region, not overlapping. A packed
//!     one is no smaller than its tensor.
//!  5. Every operator is launched exactly once, on a compute stream, alone or with others. The
//!     operands of a launch are of its GPU and hold exactly the inputs and outputs of its
//!     operators, one operator after the other. The parts of a joined input are adjacent. A slice
//!     has the right bytes, from a multiple of 16 on. A launch may also write a workspace of its
//!     own, then counters of its own.
//!  6. Uploads and downloads run on compute streams of their buffer's GPU and name the right
//!     tensor. Each output is downloaded exactly once, unless it has no elements.
//!  7. A copy moves a tensor from its buffer on one GPU to its buffer on another, on the copy
//!     stream of that pair.
//!  8. Every buffer is written by exactly one step.
//!  9. Every event is recorded exactly once, on a stream of its own GPU. Every wait is issued after
//!     the record.
//!
//! Ordered (`order.rs`):
//!
//! 10. Fork: the first step of every stream comes after the first step of the origin stream.
//! 11. Join: the last operation of every stream comes before the end of the origin stream. (With
//!     rule 15, so do its records and waits.)
//! 12. Every read comes after the write of its buffer.
//! 13. Of two buffers that share bytes, one is written after every access of the other. Counters
//!     share bytes with no other buffer, in whatever order: so nothing but their launch (rules 5 to
//!     8) ever writes the zeros that they begin with.
//! 14. With `stage_barriers`: every launch comes after all launches of the previous stage of its
//!     GPU.
//!
//! Minimal (`minimality.rs`):
//!
//! 15. No wait is redundant: without it, some order that rules 10 to 14 require would be lost.
//! 16. Every record has a wait.
//! 17. Every buffer that an upload or a copy writes is read.
//!
//! In a plan that keeps rules 1 to 14, a record with a necessary wait is itself necessary, and so
//! is a copy that something reads. So rules 15 to 17 say: without any one wait, record or copy, the
//! plan is wrong.
//!
//! Happens-before is kept as one vector clock per step. All that must come before a step is one
//! vector too, so each test compares two vectors. Cost: steps times streams, plus pairs of buffers
//! that share bytes, plus for each wait the few steps until its absence shows.

mod minimality;
mod order;
mod shape;

use super::{Buffer, Contents, Plan, PlanOptions, Step};
use crate::error::{Error, Result};
use crate::graph::Graph;
use crate::ids::{BufferId, OpId, StreamId, TensorId};
use crate::schedule::Schedule;

/// Checks all rules. `schedule`, if given, is the one that `plan` must follow, and `options` are
/// those it was made with.
///
/// Returns the first violation as [`Error::Internal`], with the rule's number and the steps
/// concerned. The graph must be sound.
pub fn verify(graph: &Graph, schedule: Option<&Schedule>, options: &PlanOptions, plan: &Plan) -> Result<()> {
    let subject = Subject { graph, plan };
    let accesses = shape::check(&subject, schedule)?;
    let (order, needs) = order::check(&subject, &accesses, options)?;
    minimality::check(&subject, &accesses, &order, &needs)
}

/// The steps that access each buffer and event.
struct Accesses {
    /// `writer[b]`: the one step that writes buffer `b`.
    writer: Vec<usize>,
    /// `readers[b]`: the steps that read it, ascending, without repeats.
    readers: Vec<Vec<usize>>,
    /// `waits[e]`: the steps that wait for event `e`.
    waits: Vec<Vec<usize>>,
    /// `record[e]`: the step that records event `e`.
    record: Vec<usize>,
}

/// The plan under verification, and how messages describe it.
struct Subject<'a> {
    graph: &'a Graph,
    plan: &'a Plan,
}

impl Subject<'_> {
    /// `rule 12 (read after write): ...`.
    fn broken<T>(&self, rule: u32, message: impl std::fmt::Display) -> Result<T> {
        const NAMES: [&str; 17] = [
            "numbers",
            "sections",
            "buffers",
            "weights",
            "launches",
            "uploads and downloads",
            "copies",
            "one writer",
            "events",
            "fork",
            "join",
            "read after write",
            "shared bytes",
            "stage barriers",
            "redundant wait",
            "record without wait",
            "unread transfer",
        ];
        Err(Error::internal("plan", format!("rule {rule} ({}): {message}", NAMES[rule as usize - 1])))
    }

    /// `t3 "conv1/weight"`.
    fn tensor(&self, id: TensorId) -> String {
        match self.graph.tensors.get(id.index()) {
            Some(tensor) => format!("{id} {:?}", tensor.name),
            None => format!("{id}"),
        }
    }

    /// `b7 ("relu1" on gpu0)`.
    fn buffer(&self, id: BufferId) -> String {
        match self.plan.buffers.get(id.index()) {
            Some(Buffer { contents: Contents::Tensor(tensor), gpu, .. }) => format!("{id} ({} on {gpu})", self.tensor(*tensor)),
            Some(Buffer { contents: Contents::Workspace(op), gpu, .. }) => format!("{id} (workspace of {op} on {gpu})"),
            Some(Buffer { contents: Contents::Counters(op), gpu, .. }) => format!("{id} (counters of {op} on {gpu})"),
            None => format!("{id}"),
        }
    }

    /// `step 12 (launch of %3 "conv1" on s0)`.
    fn step(&self, at: usize) -> String {
        let step = &self.plan.steps[at];
        let what = match step {
            Step::Upload { input, .. } => format!("upload of input {input}"),
            Step::Launch { operators, .. } => {
                let name = |operator: &OpId| match self.graph.operators.get(operator.index()) {
                    Some(op) => format!("{operator} {:?}", op.name),
                    None => format!("{operator}"),
                };
                format!("launch of {}", operators.iter().map(name).collect::<Vec<_>>().join(" and "))
            }
            Step::Copy { tensor, to, .. } => format!("copy of {} to {to}", self.tensor(*tensor)),
            Step::Download { output, .. } => format!("download of output {output}"),
            Step::Record { event, .. } => format!("record of {event}"),
            Step::Wait { event, .. } => format!("wait for {event}"),
        };
        format!("step {at} ({what} on {})", step.stream())
    }

    /// All streams of the plan.
    fn stream_ids(&self) -> impl Iterator<Item = StreamId> + use<> {
        (0..self.plan.streams.len()).map(StreamId::new)
    }
}
