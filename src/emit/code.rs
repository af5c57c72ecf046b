//! The code of a plan, as finished strings: what `plan.rs`, `buffers.rs` and `kernels.rs` say, and
//! what `emit::verify` reads back.
//!
//! `plan.rs` consists of [`Function`]s: one for each section of the plan (a stage, or what comes
//! before and after all stages). A section is split where its function would exceed
//! [`LONGEST_FUNCTION`] lines.

use std::collections::BTreeMap;

use serde::Serialize;

use super::names::{Identifiers, line};
use crate::device::Nanos;
use crate::error::{Error, Result};
use crate::graph::Graph;
use crate::ids::{BufferId, EventId, GpuId, OpId, StreamId, TensorId};
use crate::plan::{Contents, GpuPlan, Operand, Plan, SectionKind, Step, StreamKind, Weight};
use crate::program::{Call, KernelUse, Program};
use crate::runtime::{Region, StreamLayout};

/// The most lines in the body of a generated function.
const LONGEST_FUNCTION: usize = 48;

/// Up to this many arguments of a launch get a line each, with a remark. More share lines.
const MOST_REMARKS: usize = 24;

/// A constant: its name, its value, and a remark for the right margin.
#[derive(Clone, Serialize)]
pub struct Definition {
    name: String,
    value: String,
    remark: String,
}

#[derive(Serialize)]
pub struct GpuData {
    id: usize,
    arena_bytes: u64,
    weights_bytes: u64,
    memory: String,
    buffers: Vec<Definition>,
    weights: Vec<Definition>,
    /// `(3, weights0::CONV1_WEIGHT)`
    uploads: Vec<String>,
    /// `gpu0::CONV1_COUNTERS`
    counters: Vec<String>,
}

#[derive(Serialize)]
pub struct KernelData {
    constant: String,
    index: usize,
    name: String,
    grid: String,
    block: String,
    shared_bytes: u32,
    gpus: String,
    images: Vec<ImageData>,
}

#[derive(Serialize)]
struct ImageData {
    kind: &'static str,
    arch: String,
    path: String,
}

#[derive(Serialize)]
pub struct Function {
    name: String,
    docs: Vec<String>,
    lines: Vec<String>,
}

/// A function that calls others: `enqueue`, or a part of it.
#[derive(Serialize)]
pub struct Calls {
    public: bool,
    name: String,
    doc: String,
    names: Vec<String>,
}

/// Turns steps into lines.
pub struct Writer<'a> {
    program: &'a Program<'a>,
    graph: &'a Graph,
    plan: &'a Plan,
    /// Constant of each buffer, within its GPU's module.
    buffers: Vec<String>,
    /// For each GPU, the regions that are read there and are not one whole buffer.
    regions: Vec<BTreeMap<RegionKey, Definition>>,
    /// Constant of each weight, within its GPU's module.
    weights: Vec<BTreeMap<Weight, String>>,
    /// For each event, what it marks: the step before its record.
    marks: Vec<String>,
    /// The GPU that launches each operator.
    gpu_of: Vec<Option<GpuId>>,
}

impl<'a> Writer<'a> {
    /// A writer for `program`.
    ///
    /// # Errors
    ///
    /// [`Error::Internal`] if a step refers to what does not exist.
    pub fn new(program: &'a Program<'a>) -> Result<Writer<'a>> {
        let (graph, plan) = (program.graph, program.plan);
        let mut names: Vec<Identifiers> = plan.gpus.iter().map(|_| Identifiers::default()).collect();
        let name = |contents: Contents| match contents {
            Contents::Tensor(tensor) => graph.tensor(tensor).name.clone(),
            Contents::Workspace(op) => format!("{} workspace", graph.operator(op).name),
            Contents::Counters(op) => format!("{} counters", graph.operator(op).name),
        };
        let buffers = plan.buffers.iter().map(|b| names[b.gpu.index()].constant(&name(b.contents))).collect();
        let mut regions: Vec<BTreeMap<RegionKey, Definition>> = plan.gpus.iter().map(|_| BTreeMap::new()).collect();
        for step in &plan.steps {
            let Step::Launch { operators, stream, reads, .. } = step else { continue };
            let gpu = plan.streams[stream.index()].gpu.index();
            for (operand, &given) in reads.iter().zip(operators.iter().flat_map(|&op| &graph.operator(op).inputs)) {
                let Some(key) = region_key(operand) else { continue };
                if !regions[gpu].contains_key(&key) {
                    let region = region(program, &mut names[gpu], &key, program.operand(operand, GpuId::new(gpu))?, given);
                    regions[gpu].insert(key, region);
                }
            }
        }
        let constants = |gpu: &GpuPlan| {
            let mut names = Identifiers::default();
            gpu.weights.iter().map(|&(weight, _)| (weight, names.constant(&graph.tensor(weight.tensor).name))).collect()
        };
        let mut gpu_of = vec![None; graph.operators.len()];
        for step in &plan.steps {
            if let Step::Launch { operators, stream, .. } = step {
                operators.iter().for_each(|op| gpu_of[op.index()] = Some(plan.streams[stream.index()].gpu));
            }
        }
        let mut writer = Writer {
            program,
            graph,
            plan,
            buffers,
            regions,
            weights: plan.gpus.iter().map(constants).collect(),
            marks: Vec::new(),
            gpu_of,
        };
        writer.marks = writer.marks()?;
        Ok(writer)
    }

    /// For each event, in words, what has happened when it completes.
    fn marks(&self) -> Result<Vec<String>> {
        let mut latest: Vec<Option<String>> = vec![None; self.plan.streams.len()];
        let mut marks = vec![String::new(); self.plan.events.len()];
        for step in &self.plan.steps {
            let stream = step.stream();
            let gpu = self.plan.streams[stream.index()].gpu;
            match step {
                Step::Record { event, .. } => {
                    let mark = latest[stream.index()].clone().unwrap_or_else(|| format!("{gpu} begins"));
                    *marks.get_mut(event.index()).ok_or_else(|| Error::internal("emit", format!("{event} does not exist")))? = mark;
                }
                Step::Wait { .. } => {}
                Step::Upload { input, .. } => {
                    latest[stream.index()] = Some(format!("input {:?} on {gpu}", self.name(self.graph.inputs[*input])))
                }
                Step::Download { output, .. } => {
                    latest[stream.index()] = Some(format!("output {:?} from {gpu}", self.name(self.graph.outputs[*output])));
                }
                Step::Launch { operators, .. } => {
                    let names: Vec<String> = self.graph.names(operators).into_iter().map(|name| format!("`{}`", line(name))).collect();
                    latest[stream.index()] = Some(format!("{} on {gpu}", names.join(" and ")))
                }
                Step::Copy { tensor, .. } => latest[stream.index()] = Some(format!("`{}` from {gpu}", self.name(*tensor))),
            }
        }
        Ok(marks)
    }

    /// The ONNX name of a tensor, for comments.
    fn name(&self, id: TensorId) -> String {
        line(&self.graph.tensor(id).name)
    }

    /// The constant of a stream.
    pub fn stream(&self, id: StreamId) -> String {
        let stream = self.plan.streams[id.index()];
        match stream.kind {
            StreamKind::Compute(index) => format!("GPU{}_COMPUTE{index}", stream.gpu.0),
            StreamKind::Copy { to } => format!("GPU{}_TO_GPU{}", stream.gpu.0, to.0),
        }
    }

    /// The constants of all streams.
    pub fn streams(&self) -> Vec<Definition> {
        let one = |(i, stream): (usize, &StreamLayout)| {
            let layout = match stream {
                StreamLayout::Compute { gpu } => format!("StreamLayout::Compute {{ gpu: {gpu} }}"),
                StreamLayout::Copy { gpu, to, largest } => {
                    format!("StreamLayout::Copy {{ gpu: {gpu}, to: {to}, largest: {largest} }}")
                }
            };
            definition(self.stream(StreamId::new(i)), format!("Stream({i})"), layout)
        };
        self.program.streams.iter().enumerate().map(one).collect()
    }

    /// The constants of all events.
    pub fn events(&self) -> Vec<Definition> {
        let one = |(e, gpu): (usize, &GpuId)| definition(format!("E{e}"), format!("Event({e})"), gpu.to_string());
        self.plan.events.iter().enumerate().map(one).collect()
    }

    /// The GPU of each event: `0, 0, 1`.
    pub fn event_gpus(&self) -> String {
        self.plan.events.iter().map(|gpu| gpu.0.to_string()).collect::<Vec<_>>().join(", ")
    }

    /// `1x64x56x56 `conv1``, or the operator of a workspace or of counters: for comments.
    fn contents(&self, contents: Contents) -> String {
        match contents {
            Contents::Tensor(t) => format!("{} `{}`", self.graph.tensor(t).shape_text(), self.name(t)),
            Contents::Workspace(op) => format!("workspace of `{}`", line(&self.graph.operator(op).name)),
            Contents::Counters(op) => format!("counters of `{}`, zero before and after", line(&self.graph.operator(op).name)),
        }
    }

    fn buffer(&self, id: BufferId) -> String {
        format!("gpu{}::{}", self.plan.buffers[id.index()].gpu.0, self.buffers[id.index()])
    }

    /// What a launch on `gpu` reads.
    fn operand(&self, gpu: GpuId, operand: &Operand) -> Result<String> {
        let region = |key: RegionKey| {
            let known = self.regions[gpu.index()].get(&key);
            let region = known.ok_or_else(|| Error::internal("emit", format!("{operand:?} has no name on {gpu}")))?;
            Ok(format!("gpu{}::{}", gpu.0, region.name))
        };
        match (operand, region_key(operand)) {
            (_, Some(key)) => region(key),
            (Operand::Weight(weight), _) => self.weight(gpu, *weight),
            (Operand::Buffer(b), _) => Ok(self.buffer(*b)),
            _ => Err(Error::internal("emit", format!("{operand:?} has no region"))),
        }
    }

    fn weight(&self, gpu: GpuId, weight: Weight) -> Result<String> {
        let name = self.weights[gpu.index()].get(&weight);
        let name = name.ok_or_else(|| Error::internal("emit", format!("{weight:?} is not among the weights of {gpu}")))?;
        Ok(format!("weights{}::{name}", gpu.0))
    }

    /// Buffers, weights and uploads of each GPU.
    pub fn gpus(&self) -> Result<Vec<GpuData>> {
        let one = |(g, gpu): (usize, &GpuPlan)| {
            let here = self.plan.buffers.iter().zip(&self.buffers).enumerate().filter(|(_, (b, _))| b.gpu.index() == g);
            let counters = here.clone().filter(|(_, (b, _))| b.has_counters()).map(|(i, _)| self.buffer(BufferId::new(i))).collect();
            let buffers = here
                .map(|(i, (b, name))| definition(name.clone(), arena(self.program.buffer(BufferId::new(i))), self.contents(b.contents)));
            let regions = self.regions[g].values().cloned();
            let placed = self.program.placed_weights(GpuId::new(g))?;
            let weights = gpu.weights.iter().zip(&placed).map(|(&(weight, _), &(index, Region { offset, bytes, .. }))| {
                let name = &self.weights[g][&weight];
                let packed = weight.packing.map_or(String::new(), |packing| format!(", packed {packing}"));
                let remark = format!("{}{packed}", self.contents(Contents::Tensor(weight.tensor)));
                (definition(name.clone(), format!("weights({offset}, {bytes})"), remark), format!("({index}, weights{g}::{name})"))
            });
            let (weights, uploads) = weights.unzip();
            Ok(GpuData {
                id: g,
                arena_bytes: gpu.arena_bytes,
                weights_bytes: gpu.weights_bytes,
                memory: kibibytes(gpu.arena_bytes + gpu.weights_bytes),
                buffers: buffers.chain(regions).collect(),
                weights,
                uploads,
                counters,
            })
        };
        self.plan.gpus.iter().enumerate().map(one).collect()
    }

    /// The kernels, and their images.
    pub fn kernels(&self) -> Vec<KernelData> {
        let three = |v: [u32; 3]| format!("[{}, {}, {}]", v[0], v[1], v[2]);
        let one = |(index, used): (usize, &KernelUse)| {
            let KernelUse { kernel, gpus, images } = used;
            let images = images.iter().map(|image| {
                let (kind, (major, minor)) = image.target();
                let kind = if kind == "sm" { "Cubin" } else { "Ptx" };
                ImageData { kind, arch: format!("({major}, {minor})"), path: format!("kernels/{}", image.file_name()) }
            });
            KernelData {
                constant: kernel.name.to_uppercase(),
                index,
                name: kernel.name.clone(),
                grid: three(kernel.grid),
                block: three(kernel.block),
                shared_bytes: kernel.shared_bytes,
                gpus: gpus.iter().map(|g| g.to_string()).collect::<Vec<_>>().join(", "),
                images: images.collect(),
            }
        };
        self.program.kernels.iter().enumerate().map(one).collect()
    }

    /// The functions of the plan, in the order of their calls.
    pub fn functions(&self) -> Result<Vec<Function>> {
        let sections = (0..self.plan.sections.len()).map(|section| self.section(section));
        Ok(sections.collect::<Result<Vec<_>>>()?.into_iter().flatten().collect())
    }

    /// The functions of one section: one, or several if it is long.
    fn section(&self, section: usize) -> Result<Vec<Function>> {
        let section = &self.plan.sections[section];
        let steps = &self.plan.steps[section.first..section.end];
        let (name, mut docs) = match section.kind {
            SectionKind::Begin => ("begin".into(), vec!["The fork from the origin stream, and the uploads of the model's inputs.".into()]),
            SectionKind::End => ("end".into(), vec!["The downloads of the model's outputs, and the join on the origin stream.".into()]),
            SectionKind::Stage { gpu, index } => {
                let mut title = format!("{gpu}, stage {index}");
                if let Some((start, finish)) = section.predicted {
                    title += &format!(": {}, from {}", micros(finish - start), micros(start));
                }
                (format!("{gpu}_stage{index}"), vec![title])
            }
        };
        for step in steps {
            match step {
                Step::Launch { operators, .. } => {
                    for &operator in operators {
                        let op = self.graph.operator(operator);
                        docs.push(format!("`{}`: {}", line(&op.name), op.kind));
                        docs.extend(self.after(operator, step.stream()));
                    }
                }
                Step::Copy { tensor, to, .. } => {
                    docs.push(format!("copies to {}: `{}`", self.plan.buffers[to.index()].gpu, self.name(*tensor)));
                }
                _ => {}
            }
        }
        let mut parts: Vec<Vec<String>> = vec![Vec::new()];
        for at in section.first..section.end {
            let lines = self.step(at)?;
            match parts.last_mut() {
                Some(part) if part.is_empty() || part.len() + lines.len() <= LONGEST_FUNCTION => part.extend(lines),
                _ => parts.push(lines),
            }
        }
        let count = parts.len();
        let function = |(i, lines)| Function {
            name: if i == 0 { name.clone() } else { format!("{name}_part{}", i + 1) },
            docs: if i == 0 { docs.clone() } else { vec![format!("Part {} of {count} of `{name}`.", i + 1)] },
            lines,
        };
        Ok(parts.into_iter().enumerate().map(function).collect())
    }

    /// `after A, and B from gpu1`: what an operator reads, and where that was computed.
    fn after(&self, operator: OpId, stream: StreamId) -> Option<String> {
        let here = self.plan.streams[stream.index()].gpu;
        let mut sources: Vec<String> = Vec::new();
        for t in self.graph.operator(operator).inputs.iter().flat_map(|&t| self.graph.parts(t)) {
            let source = match self.graph.producer(t) {
                Some(producer) => {
                    let name = line(&self.graph.operator(producer).name);
                    if self.gpu_of[producer.index()] == Some(here) {
                        format!("`{name}`")
                    } else {
                        format!("`{name}` on {}", self.gpu_of[producer.index()]?)
                    }
                }
                None if self.graph.constant(t).is_some() => continue,
                None => format!("input `{}`", self.name(t)),
            };
            if !sources.contains(&source) {
                sources.push(source);
            }
        }
        (!sources.is_empty()).then(|| format!("after {}", sources.join(", ")))
    }

    /// The lines of one step, each with its remark at the right.
    fn step(&self, at: usize) -> Result<Vec<String>> {
        let step = &self.plan.steps[at];
        let stream = self.stream(step.stream());
        let event = |e: &EventId| format!("E{}", e.0);
        let shape = |t: TensorId| self.graph.tensor(t).shape_text();
        Ok(match step {
            Step::Wait { event: e, .. } => {
                vec![right(format!("x.wait({stream}, {})?;", event(e)), &format!("after {}", self.marks[e.index()]))]
            }
            Step::Record { event: e, .. } => {
                vec![right(format!("x.record({}, {stream})?;", event(e)), &format!("marks {}", self.marks[e.index()]))]
            }
            Step::Upload { input, to, .. } => {
                let remark = format!("{} {:?}", shape(self.graph.inputs[*input]), self.name(self.graph.inputs[*input]));
                vec![right(format!("x.upload({stream}, {input}, {})?;", self.buffer(*to)), &remark)]
            }
            Step::Download { output, from, .. } => {
                let remark = format!("{} {:?}", shape(self.graph.outputs[*output]), self.name(self.graph.outputs[*output]));
                vec![right(format!("x.download({stream}, {output}, {})?;", self.buffer(*from)), &remark)]
            }
            Step::Copy { tensor, from, to, .. } => {
                let remark = format!("{} `{}`, {}", shape(*tensor), self.name(*tensor), kibibytes(self.graph.tensor(*tensor).bytes()));
                vec![
                    "x.copy(".to_string(),
                    format!("    {stream},"),
                    right(format!("    {},", self.buffer(*from)), &remark),
                    right(format!("    {},", self.buffer(*to)), &format!("on {}", self.plan.buffers[to.index()].gpu)),
                    ")?;".into(),
                ]
            }
            Step::Launch { operators, stream: on, reads, writes } => {
                let inputs = operators.iter().flat_map(|&op| &self.graph.operator(op).inputs);
                let gpu = self.plan.streams[on.index()].gpu;
                let Call::Launch(_, kernel, _) = self.program.calls[at] else {
                    return Err(Error::internal("emit", format!("step {at} launches no kernel")));
                };
                let mut lines = vec![
                    "x.launch(".to_string(),
                    format!("    {stream},"),
                    format!("    &{},", self.program.kernels[kernel].kernel.name.to_uppercase()),
                    "    &[".into(),
                ];
                let mut arguments = Vec::new();
                for (operand, &t) in reads.iter().zip(inputs) {
                    let address = self.operand(gpu, operand)?;
                    arguments.push((address, format!("{} `{}`", shape(t), self.name(t))));
                }
                for b in writes {
                    arguments.push((self.buffer(*b), format!("-> {}", self.contents(self.plan.buffers[b.index()].contents))));
                }
                if arguments.len() <= MOST_REMARKS {
                    lines.extend(arguments.iter().map(|(address, remark)| right(format!("        {address},"), remark)));
                } else {
                    let group = |group: &[(String, String)]| group.iter().map(|(address, _)| format!(" {address},")).collect::<String>();
                    lines.extend(arguments.chunks(arguments.len().div_ceil(MOST_REMARKS)).map(|some| format!("       {}", group(some))));
                }
                lines.extend(["    ],".into(), ")?;".into()]);
                lines
            }
        })
    }
}

/// `enqueue` calls every function in order. If there are many, it calls parts that do.
pub fn calls(functions: &[Function]) -> Vec<Calls> {
    let functions: Vec<String> = functions.iter().map(|function| function.name.clone()).collect();
    let doc = "Enqueues one inference, in host issue order.".to_string();
    if functions.len() <= LONGEST_FUNCTION {
        return vec![Calls { public: true, name: "enqueue".into(), doc, names: functions }];
    }
    let chunks: Vec<&[String]> = functions.chunks(LONGEST_FUNCTION).collect();
    let part = |(i, names): (usize, &&[String])| Calls {
        public: false,
        name: format!("part{i}"),
        doc: format!("Part {} of {} of an inference.", i + 1, chunks.len()),
        names: names.to_vec(),
    };
    let parts: Vec<Calls> = chunks.iter().enumerate().map(part).collect();
    let mut all = vec![Calls { public: true, name: "enqueue".into(), doc, names: parts.iter().map(|p| p.name.clone()).collect() }];
    all.extend(parts);
    all
}

fn definition(name: String, value: String, remark: String) -> Definition {
    Definition { name, value, remark }
}

/// Adjacent buffers, or one buffer; the first byte that is read, and how many.
type RegionKey = (Vec<BufferId>, u64, Option<u64>);

/// The region of an operand that is not one whole buffer.
fn region_key(operand: &Operand) -> Option<RegionKey> {
    match operand {
        Operand::Joined(parts) => Some((parts.clone(), 0, None)),
        Operand::Slice { buffer, begin, bytes } => Some((vec![*buffer], *begin, Some(*bytes))),
        Operand::Buffer(_) | Operand::Weight(_) => None,
    }
}

/// The constant of the region `key`, whose bytes are `memory` and which holds the tensor `given`.
fn region(program: &Program, names: &mut Identifiers, (buffers, begin, bytes): &RegionKey, memory: Region, given: TensorId) -> Definition {
    let (graph, first) = (program.graph, &program.plan.buffers[buffers[0].index()]);
    let tensor = graph.tensor(if bytes.is_some() { given } else { graph.root(given) });
    let how = match bytes {
        None => format!("in {} parts", buffers.len()),
        Some(_) => {
            let whole = first.tensor().map_or(String::new(), |t| line(&graph.tensor(t).name));
            format!("from byte {begin} of `{whole}` on")
        }
    };
    let remark = format!("{}, {how}: `{}`", tensor.shape_text(), line(&tensor.name));
    definition(names.constant(&tensor.name), arena(memory), remark)
}

/// A region of the arena, as the generated code spells it.
fn arena(Region { offset, bytes, .. }: Region) -> String {
    format!("arena({offset}, {bytes})")
}

/// `code`, with `remark` as a comment at the right margin.
fn right(code: String, remark: &str) -> String {
    format!("{code:<64} // {remark}")
}

/// A time in microseconds, for comments.
pub fn micros(t: Nanos) -> String {
    format!("{}.{} us", t / 1000, t % 1000 / 100)
}

fn kibibytes(bytes: u64) -> String {
    if bytes < 10 << 10 { format!("{bytes} B") } else { format!("{} KiB", bytes.div_ceil(1 << 10)) }
}
