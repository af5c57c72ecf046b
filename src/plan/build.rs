//! From a schedule to the plan: all operations in host issue order, then synchronisation and
//! memory, then the steps.
//!
//! 1. **Begin**: each input of the model is uploaded to every GPU that reads it, in the order of
//!    the inputs. The first GPU uses the origin stream, the others their first compute stream. An
//!    input that no operator reads and that is also an output goes through the first GPU.
//! 2. **Stages**, in the order of `stages.rs`: the launches, then the copies of their results,
//!    straight from the producer to each GPU that reads them. Copies of one stage are issued as the
//!    timeline starts them. Ties go to the producer that is first in the topological order, then to
//!    the lowest tensor, then to the lowest destination. This is the evaluator's order on each
//!    ordered GPU pair.
//! 3. **End**: each output is downloaded on the stream of the launch (or upload) that wrote it. An
//!    output may be a view, an input, or the same tensor as another output. `import` ensures that
//!    none is a constant: nothing would write it.
//!
//! Inputs and outputs without elements have no bytes, no buffer and no steps.
//!
//! A stream, event or buffer exists only if something uses it.

use std::collections::BTreeSet;

use super::memory::{Neighbours, assign_offsets, padded};
use super::stages::Assignment;
use super::sync::{Synchronisation, synchronise};
use super::{Buffer, Contents, GpuPlan, Operand, Plan, PlanOptions, Section, SectionKind, Step, StreamKind, StreamPlan, Weight};
use crate::cost::CostTable;
use crate::error::{Error, Result};
use crate::graph::{Graph, Origin};
use crate::ids::{BufferId, EventId, GpuId, OpId, StreamId, TensorId};
use crate::kernel::{Kernel, Packing};
use crate::schedule::{Schedule, Timeline};

/// Makes the plan of `schedule`, whose predicted times are `timeline`. Check the result with
/// [`verify`](super::verify()).
///
/// Fails if the schedule or the graph is unsound (a bug), or if a GPU lacks memory.
pub fn plan(graph: &Graph, costs: &CostTable, schedule: &Schedule, timeline: &Timeline, options: &PlanOptions) -> Result<Plan> {
    let assignment = Assignment::new(graph, costs, schedule, timeline)?;
    let mut builder = Builder::new(graph, &assignment, costs, timeline)?;
    builder.uploads();
    for stage in 0..assignment.stages.len() {
        builder.stage(stage, options)?;
    }
    builder.downloads()?;

    let streams: Vec<StreamId> = builder.operations.iter().map(|o| o.step.stream()).collect();
    let (ancestors, sync) = synchronise(&streams, ORIGIN_STREAM, &builder.required);
    let arenas = assign_offsets(&mut builder.buffers, &builder.accesses, &builder.neighbours, &ancestors, assignment.targets.len());
    let gpus: Vec<GpuPlan> = arenas.into_iter().enumerate().map(|(g, arena)| builder.gpu_plan(GpuId::new(g), arena)).collect();
    check_memory(costs, &assignment, &gpus)?;
    let IssuedSteps { steps, sections, events } = sequence(&assignment, builder.operations, &builder.streams, &sync);
    Ok(Plan {
        gpus,
        targets: assignment.targets.clone(),
        streams: builder.streams,
        origin_stream: ORIGIN_STREAM,
        buffers: builder.buffers,
        events,
        steps,
        sections,
        latency: timeline.latency,
    })
}

/// Streams are numbered GPU by GPU, compute streams first. So the first compute stream of the first
/// GPU is stream 0.
const ORIGIN_STREAM: StreamId = StreamId(0);

/// An upload, launch, copy or download, and its section.
struct Operation {
    section: usize,
    step: Step,
}

/// A copy of a result of a stage to another GPU.
#[derive(Clone, Copy)]
struct PlannedCopy {
    tensor: TensorId,
    to: GpuId,
    stream: StreamId,
    /// Issue order within the stage: predicted start, then the producer's position in the
    /// topological order.
    key: (u64, usize),
}

struct Builder<'a> {
    graph: &'a Graph,
    costs: &'a CostTable,
    assignment: &'a Assignment<'a>,
    streams: Vec<StreamPlan>,
    /// The first stream of each GPU.
    first_stream: Vec<StreamId>,
    /// The copies of each operator's results.
    copies: Vec<Vec<PlannedCopy>>,
    operations: Vec<Operation>,
    /// For each operation, those that must come before it.
    required: Vec<Vec<usize>>,
    buffers: Vec<Buffer>,
    /// For each buffer, the operations that access it; its writer is the first.
    accesses: Vec<Vec<usize>>,
    /// `buffer_of[gpu][tensor]`: the buffer there, once something writes it.
    buffer_of: Vec<Vec<Option<BufferId>>>,
    /// Buffers that must be adjacent.
    neighbours: Vec<Neighbours>,
    /// The launches of the latest stage of each GPU.
    latest_launches: Vec<Vec<usize>>,
}

impl<'a> Builder<'a> {
    fn new(graph: &'a Graph, assignment: &'a Assignment<'a>, costs: &'a CostTable, timeline: &Timeline) -> Result<Self> {
        let copies = list_copies(graph, assignment, costs, timeline)?;
        let gpus = assignment.targets.len();
        let mut builder = Builder {
            graph,
            costs,
            assignment,
            streams: Vec::new(),
            first_stream: Vec::new(),
            copies,
            operations: Vec::new(),
            required: Vec::new(),
            buffers: Vec::new(),
            accesses: Vec::new(),
            buffer_of: vec![vec![None; graph.tensors.len()]; gpus],
            neighbours: Vec::new(),
            latest_launches: vec![Vec::new(); gpus],
        };
        builder.number_streams();
        Ok(builder)
    }

    /// GPU by GPU: its compute streams, then its copy streams by destination.
    fn number_streams(&mut self) {
        let gpus = self.assignment.targets.len();
        let mut link = vec![vec![None; gpus]; gpus];
        for (op, copies) in self.copies.iter().enumerate() {
            for copy in copies {
                link[self.assignment.gpu_of[op].index()][copy.to.index()] = Some(StreamId::default());
            }
        }
        for (g, links) in link.iter_mut().enumerate() {
            let gpu = GpuId::new(g);
            self.first_stream.push(StreamId::new(self.streams.len()));
            self.streams.extend((0..self.assignment.stream_count[g]).map(|index| StreamPlan { gpu, kind: StreamKind::Compute(index) }));
            for (to, slot) in links.iter_mut().enumerate().filter(|(_, slot)| slot.is_some()) {
                *slot = Some(StreamId::new(self.streams.len()));
                self.streams.push(StreamPlan { gpu, kind: StreamKind::Copy { to: GpuId::new(to) } });
            }
        }
        for (op, copies) in self.copies.iter_mut().enumerate() {
            for copy in copies {
                copy.stream = link[self.assignment.gpu_of[op].index()][copy.to.index()].unwrap_or_default();
            }
        }
    }

    /// The stream on which `op` is launched.
    fn stream_of(&self, op: OpId) -> StreamId {
        StreamId::new(self.first_stream[self.assignment.gpu_of[op.index()].index()].index() + self.assignment.stream_index[op.index()])
    }

    /// Adds an operation, which must come after the writes of what it reads.
    fn push(&mut self, section: usize, step: Step, reads: &[BufferId], writes: &[BufferId]) {
        let operation = self.operations.len();
        self.required.push(reads.iter().map(|b| self.accesses[b.index()][0]).collect());
        for b in reads.iter().chain(writes) {
            self.accesses[b.index()].push(operation);
        }
        self.operations.push(Operation { section, step });
    }

    /// A new buffer of `tensor` on `gpu`, to be written by the next operation.
    fn buffer(&mut self, tensor: TensorId, gpu: GpuId) -> BufferId {
        let id = self.add_buffer(Contents::Tensor(tensor), gpu, self.graph.tensor(tensor).bytes());
        self.buffer_of[gpu.index()][tensor.index()] = Some(id);
        id
    }

    fn add_buffer(&mut self, contents: Contents, gpu: GpuId, bytes: u64) -> BufferId {
        self.buffers.push(Buffer { contents, gpu, offset: 0, bytes });
        self.accesses.push(Vec::new());
        BufferId::new(self.buffers.len() - 1)
    }

    /// The buffer of `tensor` on `gpu`, which an earlier operation must have written.
    fn written(&self, tensor: TensorId, gpu: GpuId) -> Result<BufferId> {
        let name = &self.graph.tensor(tensor).name;
        self.buffer_of[gpu.index()][tensor.index()]
            .ok_or_else(|| Error::internal("graph", format!("tensor {tensor} {name:?} is read on {gpu}, but nothing writes it there")))
    }

    fn uploads(&mut self) {
        let consumers = self.graph.consumers();
        for (input, &given) in self.graph.inputs.iter().enumerate() {
            let tensor = self.graph.root(given);
            if self.graph.tensor(tensor).bytes() == 0 {
                continue;
            }
            let mut gpus: Vec<GpuId> = consumers[tensor.index()].iter().map(|op| self.assignment.gpu_of[op.index()]).collect();
            if gpus.is_empty() && self.graph.outputs.iter().any(|&t| self.graph.root(t) == tensor) {
                gpus.push(GpuId::new(0));
            }
            gpus.sort_unstable();
            gpus.dedup();
            for gpu in gpus.into_iter().filter(|gpu| self.buffer_of[gpu.index()][tensor.index()].is_none()).collect::<Vec<_>>() {
                let to = self.buffer(tensor, gpu);
                self.push(0, Step::Upload { input, to, stream: self.first_stream[gpu.index()] }, &[], &[to]);
            }
        }
    }

    /// The launches of stage `index` of the issue order, then the copies of their results.
    fn stage(&mut self, index: usize, options: &PlanOptions) -> Result<()> {
        let assignment = self.assignment;
        let stage = &assignment.stages[index];
        let section = 1 + index;
        let mut launches = Vec::new();
        for &operators in &stage.launches {
            let kernel = kernel(self.costs, assignment, operators)?;
            let (mut reads, mut writes, mut read_buffers) = (Vec::new(), Vec::new(), Vec::new());
            for &op in operators {
                for &input in &self.graph.operator(op).inputs {
                    let operand = self.operand(input, kernel.packing(reads.len()), stage.gpu)?;
                    for &buffer in operand.buffers() {
                        if !read_buffers.contains(&buffer) {
                            read_buffers.push(buffer);
                        }
                    }
                    reads.push(operand);
                }
            }
            for &op in operators {
                writes.extend(self.graph.operator(op).outputs.iter().map(|&t| self.buffer(t, stage.gpu)));
            }
            if kernel.workspace_bytes > 0 {
                writes.push(self.add_buffer(Contents::Workspace(operators[0]), stage.gpu, kernel.workspace_bytes));
            }
            if kernel.counters > 0 {
                writes.push(self.add_buffer(Contents::Counters(operators[0]), stage.gpu, kernel.counter_bytes()));
            }
            let step = Step::Launch { operators: operators.into(), stream: self.stream_of(operators[0]), reads, writes: writes.clone() };
            launches.push(self.operations.len());
            self.push(section, step, &read_buffers, &writes);
            if options.stage_barriers
                && let Some(required) = self.required.last_mut()
            {
                required.extend(&self.latest_launches[stage.gpu.index()]);
            }
        }
        self.latest_launches[stage.gpu.index()] = launches;

        let mut leaving: Vec<PlannedCopy> = stage.operators.iter().flat_map(|op| self.copies[op.index()].iter().copied()).collect();
        leaving.sort_by_key(|t| (t.key, t.tensor, t.to));
        for PlannedCopy { tensor, to: gpu, stream, .. } in leaving {
            let from = self.written(tensor, stage.gpu)?;
            let to = self.buffer(tensor, gpu);
            self.push(section, Step::Copy { tensor, from, to, stream }, &[from], &[to]);
        }
        Ok(())
    }

    /// The argument of a launch on `gpu` that holds `input`. `packing` is the layout in which the
    /// kernel reads a constant.
    fn operand(&mut self, input: TensorId, packing: Option<Packing>, gpu: GpuId) -> Result<Operand> {
        let root = self.graph.root(input);
        if let Origin::Constant(_) = self.graph.tensor(root).origin {
            return Ok(Operand::Weight(Weight { tensor: root, packing }));
        }
        let parts = self.graph.parts(root);
        let buffers: Vec<BufferId> = parts.iter().map(|&part| self.written(part, gpu)).collect::<Result<_>>()?;
        let (given, owner) = (self.graph.tensor(input), self.graph.tensor(root));
        Ok(match buffers[..] {
            [buffer] if given.bytes() == owner.bytes() => Operand::Buffer(buffer),
            [buffer] => Operand::Slice { buffer, begin: self.graph.begin(input) * given.dtype.bytes(), bytes: given.bytes() },
            _ => {
                if !self.neighbours.contains(&buffers) {
                    self.neighbours.push(buffers.clone());
                }
                Operand::Joined(buffers)
            }
        })
    }

    /// The weights region of `gpu`: the constants that its launches read, one after the other.
    fn gpu_plan(&self, gpu: GpuId, arena_bytes: u64) -> GpuPlan {
        let mut constants = BTreeSet::new();
        for operation in &self.operations {
            let Step::Launch { stream, reads, .. } = &operation.step else { continue };
            if self.streams[stream.index()].gpu == gpu {
                constants.extend(reads.iter().filter_map(|operand| match operand {
                    Operand::Weight(weight) => Some(*weight),
                    _ => None,
                }));
            }
        }
        let mut weights_bytes = 0u64;
        let mut weights = Vec::with_capacity(constants.len());
        for weight in constants {
            weights.push((weight, weights_bytes));
            weights_bytes = weights_bytes.saturating_add(padded(weight.bytes(self.graph)));
        }
        GpuPlan { arena_bytes, weights, weights_bytes }
    }

    fn downloads(&mut self) -> Result<()> {
        let section = 1 + self.assignment.stages.len();
        for (output, &given) in self.graph.outputs.iter().enumerate() {
            let tensor = self.graph.root(given);
            if self.graph.tensor(tensor).bytes() == 0 {
                continue;
            }
            let gpu = match self.graph.producer(tensor) {
                Some(op) => self.assignment.gpu_of[op.index()],
                None => GpuId::new(self.buffer_of.iter().position(|at| at[tensor.index()].is_some()).unwrap_or(0)),
            };
            let from = self.written(tensor, gpu)?;
            let stream = self.operations[self.accesses[from.index()][0]].step.stream();
            self.push(section, Step::Download { output, from, stream }, &[from], &[]);
        }
        Ok(())
    }
}

/// For each operator, the copies of its results: one for each other GPU that reads them.
fn list_copies(graph: &Graph, assignment: &Assignment, costs: &CostTable, timeline: &Timeline) -> Result<Vec<Vec<PlannedCopy>>> {
    let cycle = || Error::internal("graph", "its operators form a cycle");
    let mut position = vec![0; graph.operators.len()];
    for (i, op) in graph.topological_order().ok_or_else(cycle)?.into_iter().enumerate() {
        position[op.index()] = i;
    }
    let mut start: Vec<_> = timeline.transfers.iter().map(|t| (t.tensor, t.to, t.start)).collect();
    start.sort_unstable();
    let predicted = |tensor, to| {
        let at = start.partition_point(|&(t, g, _)| (t, g) < (tensor, to));
        start.get(at).filter(|&&(t, g, _)| (t, g) == (tensor, to)).map_or(u64::MAX, |&(.., time)| time)
    };
    let consumers = graph.consumers();
    let mut copies = vec![Vec::new(); graph.operators.len()];
    for op in graph.op_ids() {
        let from = assignment.gpu_of[op.index()];
        for &tensor in &graph.operator(op).outputs {
            let mut gpus: Vec<GpuId> =
                consumers[tensor.index()].iter().map(|c| assignment.gpu_of[c.index()]).filter(|&g| g != from).collect();
            gpus.sort_unstable();
            gpus.dedup();
            for to in gpus {
                let (a, b) = (assignment.targets[from.index()], assignment.targets[to.index()]);
                if costs.links.get(a.index()).and_then(|row| row.get(b.index())).is_none_or(|link| link.is_none()) {
                    let name = &graph.tensor(tensor).name;
                    return Err(Error::internal(
                        "schedule",
                        format!("tensor {name:?} must go from {a} to {b}, between which there is no link"),
                    ));
                }
                let key = (predicted(tensor, b), position[op.index()]);
                copies[op.index()].push(PlannedCopy { tensor, to, stream: StreamId::default(), key });
            }
        }
    }
    Ok(copies)
}

/// The kernel that computes `operators` on their GPU.
fn kernel<'a>(costs: &'a CostTable, assignment: &Assignment, operators: &[OpId]) -> Result<&'a Kernel> {
    let target = assignment.targets[assignment.gpu_of[operators[0].index()].index()];
    let cost = costs.launch(operators, target);
    cost.map(|cost| &cost.kernel).ok_or_else(|| Error::internal("plan", format!("no kernel on {target} computes {operators:?}")))
}

fn check_memory(costs: &CostTable, assignment: &Assignment, gpus: &[GpuPlan]) -> Result<()> {
    for (target, gpu) in assignment.targets.iter().zip(gpus) {
        let device = costs.gpus.get(target.index());
        let device =
            device.ok_or_else(|| Error::internal("schedule", format!("the schedule uses {target}, which the costs do not know")))?;
        let needed = gpu.arena_bytes.saturating_add(gpu.weights_bytes);
        if needed > device.memory {
            let (arena, weights, name, memory) = (gpu.arena_bytes, gpu.weights_bytes, &device.device, device.memory);
            return Err(Error::Usage(format!(
                "{target} ({name}) would need {needed} bytes ({weights} of weights, {arena} of activations) but has {memory}: \
                 spread the model over more GPUs (--gpus) or choose a larger device (--device)"
            )));
        }
    }
    Ok(())
}

struct IssuedSteps {
    steps: Vec<Step>,
    sections: Vec<Section>,
    events: Vec<GpuId>,
}

/// Inserts records and waits between the operations.
fn sequence(assignment: &Assignment, operations: Vec<Operation>, streams: &[StreamPlan], sync: &Synchronisation) -> IssuedSteps {
    let mut awaited = vec![false; operations.len()];
    sync.waits.iter().flatten().chain(&sync.join).for_each(|&u| awaited[u] = true);
    let mut event_of: Vec<Option<EventId>> = vec![None; operations.len()];
    let (mut steps, mut sections, mut events) = (Vec::new(), Vec::new(), Vec::new());
    let mut record = |steps: &mut Vec<Step>, stream: StreamId| {
        let event = EventId::new(events.len());
        events.push(streams[stream.index()].gpu);
        steps.push(Step::Record { event, stream });
        event
    };
    let fork = sync.fork.contains(&true).then(|| record(&mut steps, ORIGIN_STREAM));
    let mut first = 0;
    let mut close = |steps: &[Step], section: usize| {
        let stage = section.checked_sub(1).and_then(|s| assignment.stages.get(s));
        let kind = match stage {
            Some(stage) => SectionKind::Stage { gpu: stage.gpu, index: stage.index },
            None if section == 0 => SectionKind::Begin,
            None => SectionKind::End,
        };
        sections.push(Section { kind, first, end: steps.len(), predicted: stage.map(|stage| stage.predicted) });
        first = steps.len();
    };
    let mut section = 0;
    for (v, operation) in operations.into_iter().enumerate() {
        while section < operation.section {
            close(&steps, section);
            section += 1;
        }
        let stream = operation.step.stream();
        let before = sync.waits[v].iter().map(|&u| event_of[u]).chain(sync.fork[v].then_some(fork));
        steps.extend(before.flatten().map(|event| Step::Wait { event, stream }));
        steps.push(operation.step);
        if awaited[v] {
            event_of[v] = Some(record(&mut steps, stream));
        }
    }
    while section <= assignment.stages.len() {
        close(&steps, section);
        section += 1;
    }
    steps.extend(sync.join.iter().filter_map(|&u| event_of[u]).map(|event| Step::Wait { event, stream: ORIGIN_STREAM }));
    close(&steps, section);
    IssuedSteps { steps, sections, events }
}
