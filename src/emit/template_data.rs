//! The data of the templates: finished strings, so that no decisions are left to a template.
//!
//! One [`TemplateData`] serves all templates. `plan.rs` consists of [`Function`]s: one for each
//! section of the plan (a stage, or what comes before and after all stages). A section is split
//! where its function would exceed [`LONGEST_FUNCTION`] lines.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::chart::{StreamRow, Tick, rows, ticks};
use super::names::{Identifiers, line, markdown, package};
use super::{EmitInput, Form};
use crate::device::Nanos;
use crate::error::{Error, Result, shell_words};
use crate::graph::{DType, Graph};
use crate::ids::{BufferId, EventId, GpuId, OpId, StreamId, TensorId};
use crate::oracle::Source;
use crate::plan::{Contents, GpuPlan, Operand, Plan, SectionKind, Step, StreamKind, Weight};
use crate::program::{Call, KernelUse, Layer, LayerResult, Program};
use crate::runtime::tool::Prediction;
use crate::runtime::weights::WeightsFile;
use crate::runtime::{Region, StreamLayout};

/// The oldest Rust that crates build with. hiosc itself needs a newer one, for its dependencies.
const RUST_VERSION: &str = "1.91";

/// The most lines in the body of a generated function.
const LONGEST_FUNCTION: usize = 48;

/// Up to this many arguments of a launch get a line each, with a remark. More share lines.
const MOST_REMARKS: usize = 24;

/// Everything that the templates may refer to.
#[derive(Serialize)]
pub struct TemplateData {
    pub header: String,
    model: String,
    /// Name of the crate or module, of the library, and what the manifest says.
    pub package: String,
    library: String,
    pub crate_version: String,
    rust_version: &'static str,
    license: String,
    publish: bool,
    standalone: bool,
    /// Whether this is a module of the user's program.
    module: bool,
    /// The place of the weights as a Rust expression, their name beside the executables, and
    /// whether these contain them.
    weights_path: String,
    weights_at: String,
    built_weights: String,
    embed_weights: bool,
    description: String,
    version: &'static str,
    architecture: String,
    /// The lowest compute capability that the most demanding kernels run on; `None` if any does.
    least_capability: Option<String>,
    /// The GPUs that launch them: `GPU 0, GPU 1`.
    demanding_gpus: String,
    /// The architectures of the PTX that is shipped: `` `compute_80` ``.
    ptx: Option<String>,
    gpu_count: usize,
    input_names: String,
    /// `["model.onnx", "--gpus=2"]`
    command: Option<String>,
    /// `model.onnx --gpus=2`
    command_line: Option<String>,
    output_names: String,
    weights_sha256: String,
    predicted_ns: Nanos,
    predicted: String,
    algorithm: String,
    driver: i32,
    has_check: bool,
    check_sha256: String,
    /// Who computed the reference: name, and a sentence; and who disagrees.
    reference: &'static str,
    reference_words: String,
    disputed_by: Option<&'static str>,
    sources_only: bool,
    devices: Vec<String>,
    inputs: Vec<PortData>,
    outputs: Vec<PortData>,
    gpus: Vec<GpuData>,
    streams: Vec<Definition>,
    events: Vec<Definition>,
    event_gpus: String,
    origin_stream: String,
    weight_keys: Vec<String>,
    kernels: Vec<KernelData>,
    headers: Vec<String>,
    calls: Vec<Calls>,
    functions: Vec<Function>,
    predicted_steps: Vec<String>,
    launch_results: Vec<String>,
    model_sha256: String,
    page_header: String,
    page_title: String,
    rows: Vec<StreamRow>,
    ticks: Vec<Tick>,
}

/// A constant: its name, its value, and a remark for the right margin.
#[derive(Clone, Serialize)]
struct Definition {
    name: String,
    value: String,
    remark: String,
}

#[derive(Serialize)]
struct PortData {
    index: usize,
    field: String,
    /// The field in capitals, for constants.
    constant: String,
    onnx: String,
    /// The ONNX name in Markdown.
    markdown: String,
    /// `DType::F32`, and the Rust type of its elements.
    dtype: String,
    rust: &'static str,
    /// The element type: `f32`. Half precision is `f16`, although its Rust type is `u16`.
    element: &'static str,
    /// `values`, or what the values mean if the Rust type is not the element type.
    values: &'static str,
    shape: String,
    extents: String,
    rank: usize,
    elements: u64,
}

#[derive(Serialize)]
struct GpuData {
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
struct KernelData {
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

/// A function that calls others: `enqueue`, or a part of it.
#[derive(Serialize)]
struct Calls {
    public: bool,
    name: String,
    doc: String,
    names: Vec<String>,
}

#[derive(Serialize)]
struct Function {
    name: String,
    docs: Vec<String>,
    lines: Vec<String>,
}

impl TemplateData {
    /// The view of `input`, whose weights file has this SHA-256.
    pub fn new(input: &EmitInput, weights_sha256: &str) -> Result<TemplateData> {
        let program = input.program;
        let (graph, plan) = (program.graph, program.plan);
        let writer = Writer::new(program)?;
        let functions: Vec<Function> =
            (0..plan.sections.len()).map(|s| writer.section(s)).collect::<Result<Vec<_>>>()?.into_iter().flatten().collect();
        let calls = calls(functions.iter().map(|f| f.name.clone()).collect());
        let target = |gpu: usize| &program.costs.gpus[plan.targets[gpu].index()];
        let devices = (0..plan.gpus.len()).map(|g| format!("gpu{g}: {}", target(g).device)).collect();
        let names = |ids: &[TensorId]| json(&ids.iter().map(|&t| graph.tensor(t).name.as_str()).collect::<Vec<&str>>());
        let header = format!(
            "{} {} from {} (sha256 {})",
            super::MARK,
            env!("CARGO_PKG_VERSION"),
            line(&input.model_file),
            input.model_hash.get(..16).unwrap_or("")
        );
        let options = input.options;
        let package = match (&input.form, &options.name) {
            (Form::Module(name), _) => name.clone(),
            (Form::Crate, Some(name)) => name.clone(),
            (Form::Crate, None) => package(&graph.name),
        };
        let weights = WeightsFile { name: &package, sha256: weights_sha256, path: None, embedded: None };
        let least_capability = program.shipped.kernels.iter().map(|kernel| kernel.min_capability).max();
        let needs_it = |used: &&KernelUse| Some(used.kernel.min_capability) == least_capability;
        let demanding: BTreeSet<usize> = program.kernels.iter().filter(needs_it).flat_map(|used| used.gpus.iter().copied()).collect();
        let images = program.shipped.images.values().flatten().map(|image| image.arch.as_str());
        let ptx: BTreeSet<&str> = images.filter(|arch| arch.starts_with("compute")).collect();
        Ok(TemplateData {
            library: package.replace('-', "_"),
            crate_version: options.version.clone().unwrap_or_else(|| "0.1.0".into()),
            rust_version: RUST_VERSION,
            license: options.license.as_ref().map_or(String::new(), json),
            publish: options.publish,
            standalone: options.standalone,
            module: matches!(input.form, Form::Module(_)),
            weights_path: options.weights_path.as_ref().map_or("None".into(), |path| format!("Some({path:?})")),
            weights_at: options.weights_path.as_deref().map_or(String::new(), |path| format!("`{}`", line(path))),
            built_weights: weights.built_name(),
            embed_weights: options.embed_weights,
            page_header: handlebars::html_escape(&header),
            header,
            model: line(&graph.name),
            package,
            description: json(&format!("{} compiled ahead of time by hiosc for {}", line(&graph.name), gpus(plan.gpus.len()))),
            version: env!("CARGO_PKG_VERSION"),
            architecture: capabilities((0..plan.gpus.len()).map(|g| target(g).compute_capability).collect()),
            least_capability: least_capability.filter(|&least| least > (0, 0)).map(|(major, minor)| format!("{major}.{minor}")),
            demanding_gpus: demanding.iter().map(|gpu| format!("GPU {gpu}")).collect::<Vec<_>>().join(", "),
            ptx: (!ptx.is_empty()).then(|| ptx.into_iter().map(|arch| format!("`{arch}`")).collect::<Vec<_>>().join(", ")),
            gpu_count: plan.gpus.len(),
            input_names: names(&graph.inputs),
            command: input.command.map(|words| json(&words)),
            command_line: input.command.map(|words| line(&shell_words(words.iter().map(String::as_str)))),
            output_names: names(&graph.outputs),
            weights_sha256: weights_sha256.into(),
            predicted_ns: plan.latency,
            predicted: micros(plan.latency),
            algorithm: program.schedule.algorithm.clone(),
            driver: program.shipped.driver(),
            has_check: input.check.is_some(),
            check_sha256: input.check.as_ref().map_or_else(String::new, |check| check.sha256.clone()),
            reference: input.check.as_ref().map_or("", |check| check.source.name()),
            reference_words: input.check.as_ref().map_or_else(String::new, |check| capitalised(check.source.words())),
            disputed_by: input.check.as_ref().and_then(|check| check.disputed_by).map(Source::name),
            sources_only: program.shipped.images.is_empty(),
            devices,
            inputs: ports(graph, &graph.inputs),
            outputs: ports(graph, &graph.outputs),
            gpus: writer.gpus()?,
            streams: writer.streams(),
            events: plan
                .events
                .iter()
                .enumerate()
                .map(|(e, gpu)| definition(format!("E{e}"), format!("Event({e})"), gpu.to_string()))
                .collect(),
            event_gpus: plan.events.iter().map(|gpu| gpu.0.to_string()).collect::<Vec<_>>().join(", "),
            origin_stream: writer.stream(plan.origin_stream),
            weight_keys: program.weights.iter().map(|&t| format!("{:?}", super::weights::key(t, graph))).collect(),
            kernels: writer.kernels(),
            headers: input.headers().into_keys().map(String::from).collect(),
            calls,
            functions,
            predicted_steps: program.predictions.iter().map(prediction).collect(),
            launch_results: program.layers()?.iter().map(launch_results).collect(),
            model_sha256: input.model_hash.clone(),
            page_title: handlebars::html_escape(&format!("{}, schedule {}", line(&graph.name), program.schedule.algorithm)),
            rows: rows(program),
            ticks: ticks(plan.latency),
        })
    }
}

/// A prediction as Rust. Names are escaped as in any string literal.
fn prediction(p: &Prediction<String>) -> String {
    let Prediction { kind, label, gpu, stream, stage, start, end } = p;
    let stage = stage.map_or("None".into(), |(gpu, index)| format!("Some(({gpu}, {index}))"));
    let label = line(label);
    format!(
        "Prediction {{ kind: StepKind::{kind:?}, label: {label:?}, gpu: {gpu}, stream: {stream}, stage: {stage}, start: {start}, end: {end} }}"
    )
}

/// The results of a launch as Rust.
fn launch_results(layer: &Layer<'_>) -> String {
    let port = |result: &LayerResult<'_>| {
        let tensor = result.tensor;
        format!("Port {{ name: {:?}, dtype: DType::{:?}, shape: &{:?} }}", result.key, tensor.dtype, tensor.shape)
    };
    format!("LaunchResults {{ first: {}, results: &[{}] }}", layer.first, layer.results.iter().map(port).collect::<Vec<_>>().join(", "))
}

fn definition(name: String, value: String, remark: String) -> Definition {
    Definition { name, value, remark }
}

/// `8.6` if all GPUs are alike, otherwise one for each: `8.6,8.9`.
fn capabilities(of_gpus: Vec<(u32, u32)>) -> String {
    let alike = of_gpus.iter().all(|of| of_gpus.first() == Some(of));
    let shown = if alike { 1 } else { of_gpus.len() };
    of_gpus.iter().take(shown).map(|(major, minor)| format!("{major}.{minor}")).collect::<Vec<_>>().join(",")
}

/// A string, or a list of strings, that is both JSON and TOML.
fn json(value: &(impl Serialize + ?Sized)) -> String {
    // The one character that JSON allows unescaped and TOML does not.
    serde_json::to_string(value).unwrap_or_default().replace('\u{7f}', "\\u007f")
}

fn gpus(n: usize) -> String {
    if n == 1 { "1 GPU".into() } else { format!("{n} GPUs") }
}

fn micros(t: Nanos) -> String {
    format!("{}.{} us", t / 1000, t % 1000 / 100)
}

fn kibibytes(bytes: u64) -> String {
    if bytes < 10 << 10 { format!("{bytes} B") } else { format!("{} KiB", bytes.div_ceil(1 << 10)) }
}

/// Whether Rust has no such type: its values are bit patterns.
fn narrow(dtype: DType) -> bool {
    matches!(dtype, DType::F16 | DType::BF16)
}

fn ports(graph: &Graph, ids: &[TensorId]) -> Vec<PortData> {
    let mut names = Identifiers::default();
    let port = |(index, &id): (usize, &TensorId)| {
        let tensor = graph.tensor(id);
        let field = names.field(&tensor.name);
        PortData {
            index,
            constant: field.trim_end_matches('_').to_uppercase(),
            field,
            onnx: format!("{:?}", tensor.name),
            markdown: markdown(&format!("{:?}", tensor.name)),
            dtype: format!("{:?}", tensor.dtype),
            rust: if narrow(tensor.dtype) { "u16" } else { tensor.dtype.name() },
            element: tensor.dtype.name(),
            values: match tensor.dtype {
                DType::F16 => "half-precision values, as bit patterns",
                DType::BF16 => "bfloat16 values, as bit patterns",
                _ => "values",
            },
            shape: tensor.shape_text(),
            extents: tensor.shape.iter().map(|d| d.to_string()).collect::<Vec<_>>().join(", "),
            rank: tensor.shape.len(),
            elements: tensor.elements(),
        }
    };
    ids.iter().enumerate().map(port).collect()
}

/// `enqueue` calls every function in order. If there are many, it calls parts that do.
fn calls(functions: Vec<String>) -> Vec<Calls> {
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

/// Turns steps into lines.
struct Writer<'a> {
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
    fn new(program: &'a Program<'a>) -> Result<Writer<'a>> {
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

    fn stream(&self, id: StreamId) -> String {
        let stream = self.plan.streams[id.index()];
        match stream.kind {
            StreamKind::Compute(index) => format!("GPU{}_COMPUTE{index}", stream.gpu.0),
            StreamKind::Copy { to } => format!("GPU{}_TO_GPU{}", stream.gpu.0, to.0),
        }
    }

    fn streams(&self) -> Vec<Definition> {
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

    fn gpus(&self) -> Result<Vec<GpuData>> {
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

    fn kernels(&self) -> Vec<KernelData> {
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

/// `text` with a capital letter at the beginning.
fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}
