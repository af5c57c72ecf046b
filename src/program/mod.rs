//! A plan with kernels, weights and addresses resolved, once, for all that execute or print it.
//!
//! **In**: the graph, its costs, a schedule with its timeline, a verified plan, its kernels.
//! **Out**: a [`Program`]. [`emit`](crate::emit) turns it into source, and [`run`](crate::run)
//! executes it in this process. Neither looks up anything again.
//!
//! * *Kernels*: each once, sorted by name, with the GPUs that launch it and its images (`ship.rs`,
//!   `images.rs`).
//! * *Weights*: each constant once for every layout in which kernels read it, in the order of
//!   tensor ids.
//! * *Calls*: one for each step of the plan, with the memory regions that it accesses.
//! * *Launches* as a table for tools (`launches.rs`), and what each reads and writes (`layers.rs`).
//! * *Streams*, with the largest tensor that each copies.
//! * *Predictions* for each call (`predicted.rs`).

mod images;
mod launches;
mod layers;
mod predicted;
mod ship;

pub use images::{CompiledImage, compile_images};
pub use layers::{Layer, LayerResult, LayerSource};
pub use ship::{KernelMode, PTX_ARCHITECTURE, Shipped, ship};

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use crate::cost::{CostTable, OperatorCost};
use crate::error::{Error, Result};
use crate::graph::{Constant, Graph};
use crate::ids::{BufferId, GpuId, OpId, StreamId};
use crate::kernel::{Kernel, Member};
use crate::plan::{Buffer, Operand, Plan, Step, StreamKind, Weight};
use crate::runtime::tool::Prediction;
use crate::runtime::{Event, Region, Stream, StreamLayout};
use crate::schedule::{Schedule, Timeline};

/// A kernel of the program.
#[derive(Clone, Debug)]
pub struct KernelUse<'a> {
    /// The kernel.
    pub kernel: &'a Kernel,
    /// GPUs of the plan that launch it, ascending.
    pub gpus: Vec<usize>,
    /// Its images; empty if it is compiled at load.
    pub images: &'a [CompiledImage],
}

/// A step of the plan in the runtime's terms.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Call {
    /// Copies an input of the model, by index, to the GPU.
    Upload(Stream, usize, Region),
    /// Launches a kernel, by index into [`Program::kernels`], with these arguments.
    Launch(Stream, usize, Vec<Region>),
    /// Copies from one GPU to another.
    Copy(Stream, Region, Region),
    /// Copies an output of the model, by index, to the host.
    Download(Stream, usize, Region),
    /// Records an event.
    Record(Event, Stream),
    /// Waits for an event.
    Wait(Stream, Event),
}

/// A plan with kernels, weights and addresses resolved.
#[derive(Debug)]
pub struct Program<'a> {
    /// The graph.
    pub graph: &'a Graph,
    /// Its costs.
    pub costs: &'a CostTable,
    /// The schedule that the plan follows.
    pub schedule: &'a Schedule,
    /// Its predicted times.
    pub timeline: &'a Timeline,
    /// The plan.
    pub plan: &'a Plan,
    /// The kernels, compiled or not.
    pub shipped: &'a Shipped,
    /// All kernels, sorted by name.
    pub kernels: Vec<KernelUse<'a>>,
    /// All constants that any GPU reads, once per layout, ascending.
    pub weights: Vec<Weight>,
    /// All streams.
    pub streams: Vec<StreamLayout>,
    /// One for each step of the plan.
    pub calls: Vec<Call>,
    /// One for each call, except records and waits, in order.
    pub predictions: Vec<Prediction<String>>,
}

impl<'a> Program<'a> {
    /// Resolves `plan`, which must have passed its verifier.
    ///
    /// # Errors
    ///
    /// [`Error::Internal`] if the parts do not belong together.
    pub fn new(
        graph: &'a Graph,
        costs: &'a CostTable,
        schedule: &'a Schedule,
        timeline: &'a Timeline,
        plan: &'a Plan,
        shipped: &'a Shipped,
    ) -> Result<Self> {
        let weights: BTreeSet<Weight> = plan.gpus.iter().flat_map(|gpu| gpu.weights.iter().map(|&(weight, _)| weight)).collect();
        let mut program = Program {
            graph,
            costs,
            schedule,
            timeline,
            plan,
            shipped,
            kernels: kernels(costs, plan, shipped)?,
            weights: weights.into_iter().collect(),
            streams: streams(plan),
            calls: Vec::new(),
            predictions: predicted::predicted(graph, costs, timeline, plan)?,
        };
        program.calls = plan.steps.iter().map(|step| program.call(step)).collect::<Result<_>>()?;
        Ok(program)
    }

    fn call(&self, step: &Step) -> Result<Call> {
        let on = Stream(step.stream().index());
        Ok(match step {
            Step::Upload { input, to, .. } => Call::Upload(on, *input, self.buffer(*to)),
            Step::Launch { operators, stream, reads, writes } => {
                let gpu = self.plan.streams[stream.index()].gpu;
                let kernel = &launched(self.costs, self.plan, operators, *stream)?.kernel;
                self.check_launch(kernel, operators, reads, writes)?;
                let kernel = self.kernels.binary_search_by(|used| used.kernel.name.cmp(&kernel.name));
                let kernel = kernel.map_err(|_| Error::internal("program", format!("{operators:?} is not launched on {gpu}")))?;
                let mut regions = reads.iter().map(|operand| self.operand(operand, gpu)).collect::<Result<Vec<Region>>>()?;
                regions.extend(writes.iter().map(|&buffer| self.buffer(buffer)));
                Call::Launch(on, kernel, regions)
            }
            Step::Copy { from, to, .. } => Call::Copy(on, self.buffer(*from), self.buffer(*to)),
            Step::Download { output, from, .. } => Call::Download(on, *output, self.buffer(*from)),
            Step::Record { event, .. } => Call::Record(Event(event.index()), on),
            Step::Wait { event, .. } => Call::Wait(on, Event(event.index())),
        })
    }

    /// Checks that a launch gives `kernel` its weights in the packing that it needs, its workspace
    /// and counters, and an operator for each of its members, whose blocks make up its grid. The
    /// plan's verifier cannot: it does not know kernels.
    fn check_launch(&self, kernel: &Kernel, operators: &[OpId], reads: &[Operand], writes: &[BufferId]) -> Result<()> {
        let wrong = |what: String| Err(Error::internal("program", format!("kernel {} {what}", kernel.name)));
        let members = if operators.len() == 1 { 0 } else { operators.len() };
        let blocks = |members: &[Member]| members.iter().map(|member| member.blocks).sum::<u64>();
        let grid: u64 = kernel.grid.iter().map(|&n| u64::from(n)).product();
        if kernel.members.len() != members || (members > 0 && blocks(&kernel.members) != grid) {
            return wrong(format!("of members {:?} and {grid} blocks computes {operators:?}", kernel.members));
        }
        let packed = |(input, operand): (usize, &Operand)| match operand {
            Operand::Weight(weight) => weight.packing == kernel.packing(input),
            _ => kernel.packing(input).is_none(),
        };
        let inputs = kernel.packings.iter().all(|&(input, _)| input < reads.len());
        let results: usize = operators.iter().map(|&op| self.graph.operator(op).outputs.len()).sum();
        let own: Vec<&Buffer> = writes.iter().skip(results).map(|b| &self.plan.buffers[b.index()]).collect();
        let bytes = |counters: bool| own.iter().filter(|b| b.has_counters() == counters).map(|b| b.bytes).sum::<u64>();
        let (needed, given) = ([kernel.workspace_bytes, kernel.counter_bytes()], [false, true].map(bytes));
        if needed == given && inputs && reads.iter().enumerate().all(packed) {
            return Ok(());
        }
        let [workspace, counters] = needed;
        let packings = &kernel.packings;
        wrong(format!(
            "needs {workspace} bytes of workspace, {counters} of counters and {packings:?}, but gets {given:?} bytes and {reads:?}"
        ))
    }

    /// The counters on a GPU, which must be zero before the first inference.
    pub fn counters(&self, gpu: GpuId) -> Vec<Region> {
        let here = |b: &BufferId| self.plan.buffers[b.index()].gpu == gpu && self.plan.buffers[b.index()].has_counters();
        (0..self.plan.buffers.len()).map(BufferId::new).filter(here).map(|b| self.buffer(b)).collect()
    }

    /// The region of a buffer.
    pub fn buffer(&self, buffer: BufferId) -> Region {
        let b = &self.plan.buffers[buffer.index()];
        Region::arena(b.gpu.index(), b.offset, b.bytes)
    }

    /// The region of a kernel's argument on `gpu`.
    pub fn operand(&self, operand: &Operand, gpu: GpuId) -> Result<Region> {
        match *operand {
            Operand::Buffer(buffer) => Ok(self.buffer(buffer)),
            // adjacent
            Operand::Joined(ref parts) => {
                let bytes = parts.iter().map(|part| self.plan.buffers[part.index()].bytes).sum();
                Ok(Region { bytes, ..self.buffer(parts[0]) })
            }
            Operand::Slice { buffer, begin, bytes } => {
                let whole = self.buffer(buffer);
                Ok(Region { offset: whole.offset + begin, bytes, ..whole })
            }
            Operand::Weight(weight) => {
                let weights = &self.plan.gpus[gpu.index()].weights;
                let found = weights.iter().find(|&&(other, _)| other == weight);
                let &(_, offset) = found.ok_or_else(|| Error::internal("program", format!("{gpu} does not hold {weight:?}")))?;
                Ok(Region::weights(gpu.index(), offset, weight.bytes(self.graph)))
            }
        }
    }

    /// The constants of a GPU: index into [`Program::weights`], and region.
    pub fn placed_weights(&self, gpu: GpuId) -> Result<Vec<(usize, Region)>> {
        let region = |&(weight, offset): &(Weight, u64)| {
            let index = self.weights.binary_search(&weight);
            let index = index.map_err(|_| Error::internal("program", format!("{weight:?} is on no GPU")))?;
            Ok((index, Region::weights(gpu.index(), offset, weight.bytes(self.graph))))
        };
        self.plan.gpus[gpu.index()].weights.iter().map(region).collect()
    }

    /// The values of a constant, in the layout of the model. They can be packed.
    pub fn constant(&self, weight: Weight) -> Result<&'a Constant> {
        let Weight { tensor, packing } = weight;
        let wrong = |what: &str| Error::internal("program", format!("{tensor} {what}"));
        let constant = self.graph.constant(tensor).ok_or_else(|| wrong("is not a constant"))?;
        match packing.filter(|packing| !packing.fits(constant.len())) {
            Some(packing) => Err(wrong(&format!("cannot be packed {packing}"))),
            None => Ok(constant),
        }
    }

    /// The bytes of a constant, little-endian, in its layout.
    pub fn weight(&self, weight: Weight) -> Result<Cow<'a, [u8]>> {
        let constant = self.constant(weight)?;
        let Some(packing) = weight.packing else { return Ok(constant.bytes().into()) };
        let packed = packing.pack(constant.bytes(), constant.dtype().bytes() as usize);
        Ok(packed.ok_or_else(|| Error::internal("program", format!("{} cannot be packed", weight.tensor)))?.into())
    }
}

/// The cost and the kernel of a launch of `operators` on `stream`.
fn launched<'a>(costs: &'a CostTable, plan: &Plan, operators: &[OpId], stream: StreamId) -> Result<&'a OperatorCost> {
    let gpu = plan.streams[stream.index()].gpu;
    let cost = costs.launch(operators, plan.targets[gpu.index()]);
    cost.ok_or_else(|| Error::internal("program", format!("no kernel computes {operators:?} on {gpu}")))
}

/// Each kernel that the plan launches, sorted by name. Two of one name must be the same kernel.
fn kernels<'a>(costs: &'a CostTable, plan: &Plan, shipped: &'a Shipped) -> Result<Vec<KernelUse<'a>>> {
    let mut found: BTreeMap<&'a str, KernelUse<'a>> = BTreeMap::new();
    for step in &plan.steps {
        let Step::Launch { operators, stream, .. } = step else { continue };
        let gpu = plan.streams[stream.index()].gpu;
        let kernel = &launched(costs, plan, operators, *stream)?.kernel;
        let images = shipped.images.get(&kernel.name).map_or(&[][..], Vec::as_slice);
        let entry = found.entry(&kernel.name).or_insert_with(|| KernelUse { kernel, gpus: Vec::new(), images });
        if !entry.kernel.computes_like(kernel) {
            return Err(Error::internal("program", format!("two different kernels are named {}", kernel.name)));
        }
        if let Err(index) = entry.gpus.binary_search(&gpu.index()) {
            entry.gpus.insert(index, gpu.index());
        }
    }
    Ok(found.into_values().collect())
}

/// All streams, in the runtime's form.
fn streams(plan: &Plan) -> Vec<StreamLayout> {
    let mut largest = vec![0; plan.streams.len()];
    for step in &plan.steps {
        if let Step::Copy { from, stream, .. } = step {
            let bytes = plan.buffers[from.index()].bytes;
            largest[stream.index()] = bytes.max(largest[stream.index()]);
        }
    }
    let layout = |(stream, largest): (&crate::plan::StreamPlan, u64)| match stream.kind {
        StreamKind::Compute(_) => StreamLayout::Compute { gpu: stream.gpu.index() },
        StreamKind::Copy { to } => StreamLayout::Copy { gpu: stream.gpu.index(), to: to.index(), largest },
    };
    plan.streams.iter().zip(largest).map(layout).collect()
}
