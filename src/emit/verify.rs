//! Proves that the generated code does what the proved plan says, from its text alone. Nothing here
//! knows how the text is made: it shares no code with `code.rs`, the templates or
//! [`Program`](crate::program::Program), so that it also finds their faults.
//!
//! **In**: the graph, the cost table, a plan that [`plan::verify`](crate::plan::verify) has proved,
//! the kernels' images, and the files. **Out**: nothing, or the first difference as
//! [`Error::Internal`], which names the step that it would make wrong.
//!
//! The three files are parsed and their names resolved as Rust does it (`read.rs`, with `syntax.rs`
//! for the forms of expressions). Anything of a form that hiosc does not generate is an error,
//! never skipped. The rules:
//!
//! Calls (`steps.rs`), in the order in which `enqueue` makes them, function by function:
//!
//!  1. There is one call for each step of the plan, in host issue order, and no other statement.
//!  2. Each is of its step's kind, on its stream, with its event, input or output.
//!  3. The regions of its arguments are those of its step: GPU, memory, offset and size; for a
//!     launch what it reads, then what it writes.
//!  4. A launch has the name, the grid, the block and the shared memory of the kernel that the cost
//!     table has for its operators on its GPU.
//!
//! Tables (`tables.rs`):
//!
//!  5. Inputs and outputs have the names, types and shapes of the graph's.
//!  6. GPUs, streams, events and the origin stream are those of the plan: sizes of arena and
//!     weights, the GPU of each stream and event, destinations, and the largest tensor that a copy
//!     stream carries.
//!  7. Each GPU gets exactly its weights, each from the right tensor of the weights file, and at
//!     the right address; the file has that tensor with its type and shape, and the bytes of that
//!     constant in that layout.
//!  8. Exactly the counters of each GPU are zeroed.
//!  9. Kernels are numbered in order, each has the GPUs that launch it, exactly its own images, and
//!     its own source; all headers that the sources include are there.
//!
//! Not compared: `lib.rs`, the remarks, and files that nothing runs (predictions, schedule,
//! README). The hash of the weights file is checked when a model is loaded.

mod read;
mod steps;
mod syntax;
mod tables;

use super::Crate;
use crate::cost::CostTable;
use crate::error::{Error, Result};
use crate::graph::Graph;
use crate::ids::{BufferId, EventId, GpuId, StreamId, TensorId};
use crate::kernel::Kernel;
use crate::plan::{Contents, Plan, Step, Weight};
use crate::program::Shipped;
use crate::runtime::{Area, Region};

const PLAN: &str = "src/plan.rs";
const BUFFERS: &str = "src/buffers.rs";
const KERNELS: &str = "src/kernels.rs";

/// The files that are read here, and so parsed.
pub const READ: [&str; 3] = [PLAN, BUFFERS, KERNELS];

/// Checks all rules. `plan` must be sound, and `costs` and `shipped` must be those that it and
/// `output` were made with.
///
/// # Errors
///
/// [`Error::Internal`] with the first difference.
pub fn verify(graph: &Graph, costs: &CostTable, plan: &Plan, shipped: &Shipped, output: &Crate) -> Result<()> {
    let emitted = read::read(output)?;
    let proved = Proved { graph, costs, plan, shipped };
    steps::check(&proved, &emitted)?;
    tables::check(&proved, &emitted, output)
}

/// What the text must say, and how messages describe it.
struct Proved<'a> {
    graph: &'a Graph,
    costs: &'a CostTable,
    plan: &'a Plan,
    shipped: &'a Shipped,
}

impl<'a> Proved<'a> {
    /// The region of a buffer.
    fn buffer(&self, id: BufferId) -> Region {
        let buffer = &self.plan.buffers[id.index()];
        Region { gpu: buffer.gpu.index(), area: Area::Arena, offset: buffer.offset, bytes: buffer.bytes }
    }

    /// The kernel that the cost table has for a launch.
    fn kernel(&self, step: &Step) -> Option<&'a Kernel> {
        let Step::Launch { operators, stream, .. } = step else { return None };
        let target = self.plan.targets.get(self.gpu(*stream).index())?;
        Some(&self.costs.launch(operators, *target)?.kernel)
    }

    /// The GPU of a stream.
    fn gpu(&self, stream: StreamId) -> GpuId {
        self.plan.streams[stream.index()].gpu
    }

    /// The first step for which `is` holds, for a message; nothing if there is none.
    fn first(&self, is: impl Fn(&Step) -> bool) -> String {
        self.plan.steps.iter().position(is).map_or(String::new(), |at| format!("{}: ", self.step(at)))
    }

    /// ``step 12 (launch of `/conv1/Conv` on GPU 0)``.
    fn step(&self, at: usize) -> String {
        let step = &self.plan.steps[at];
        let on = self.stream(step.stream());
        let what = match step {
            Step::Record { event, .. } => format!("record of event {} on {on}, {}", event.0, self.recorded(*event)),
            Step::Wait { event, .. } => format!("wait of {on} for event {}, {}", event.0, self.recorded(*event)),
            _ => self.work(step),
        };
        format!("step {at} ({what})")
    }

    /// A step that moves or computes something.
    fn work(&self, step: &Step) -> String {
        let gpu = self.gpu(step.stream()).0;
        match step {
            Step::Upload { input, .. } => format!("upload of input `{}` to GPU {gpu}", self.name(self.graph.inputs[*input])),
            Step::Download { output, .. } => format!("download of output `{}` from GPU {gpu}", self.name(self.graph.outputs[*output])),
            Step::Launch { operators, .. } => {
                let names: Vec<String> = operators.iter().map(|&op| format!("`{}`", self.graph.operator(op).name)).collect();
                format!("launch of {} on GPU {gpu}", names.join(" and "))
            }
            Step::Copy { tensor, to, .. } => {
                format!("copy of `{}` from GPU {gpu} to GPU {}", self.name(*tensor), self.plan.buffers[to.index()].gpu.0)
            }
            Step::Record { .. } | Step::Wait { .. } => String::new(),
        }
    }

    /// `recorded after the launch of ...`.
    fn recorded(&self, event: EventId) -> String {
        let record = self.plan.steps.iter().position(|step| matches!(step, Step::Record { event: e, .. } if *e == event));
        let before = record.and_then(|at| {
            let same = |step: &&Step| step.stream() == self.plan.steps[at].stream() && !step.is_synchronisation();
            self.plan.steps[..at].iter().rev().find(same)
        });
        before.map_or("recorded before all work".into(), |step| format!("recorded after the {}", self.work(step)))
    }

    /// `stream 3 of GPU 1`.
    fn stream(&self, id: StreamId) -> String {
        format!("stream {} of GPU {}", id.0, self.gpu(id).0)
    }

    fn name(&self, id: TensorId) -> &str {
        &self.graph.tensor(id).name
    }

    /// What a buffer holds.
    fn contents(&self, id: BufferId) -> String {
        match self.plan.buffers[id.index()].contents {
            Contents::Tensor(tensor) => format!("`{}`", self.name(tensor)),
            Contents::Workspace(op) => format!("workspace of `{}`", self.graph.operator(op).name),
            Contents::Counters(op) => format!("counters of `{}`", self.graph.operator(op).name),
        }
    }

    /// The name of a weight in the weights file.
    fn key(&self, weight: Weight) -> String {
        let name = format!("{}:{}", weight.tensor.0, self.name(weight.tensor));
        weight.packing.map_or(name.clone(), |packing| format!("{name}, {packing}"))
    }
}

/// `bytes 0..256 of the arena of GPU 0`.
fn bytes(region: Region) -> String {
    let memory = if region.area == Area::Arena { "arena" } else { "weights" };
    format!("bytes {}..{} of the {memory} of GPU {}", region.offset, region.offset.saturating_add(region.bytes), region.gpu)
}

fn wrong<T>(message: String) -> Result<T> {
    Err(Error::internal("emit", message))
}
