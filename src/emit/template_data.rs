//! The data of the templates: finished strings, so that no decisions are left to a template.
//!
//! One [`TemplateData`] serves all templates. The code of the plan comes from `code.rs`.

use std::collections::BTreeSet;

use serde::Serialize;

use super::chart::{StreamRow, Tick, rows, ticks};
use super::code::{Calls, Definition, Function, GpuData, KernelData, Writer, calls, micros};
use super::names::{Identifiers, line, markdown, package};
use super::{EmitInput, Form};
use crate::device::Nanos;
use crate::error::{Result, shell_words};
use crate::graph::{DType, Graph};
use crate::ids::TensorId;
use crate::oracle::Source;
use crate::program::{KernelUse, Layer, LayerResult};
use crate::runtime::tool::Prediction;
use crate::runtime::weights::WeightsFile;

/// The oldest Rust that crates build with. hiosc itself needs a newer one, for its dependencies.
const RUST_VERSION: &str = "1.91";

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

impl TemplateData {
    /// The view of `input`, whose weights file has this SHA-256.
    pub fn new(input: &EmitInput, weights_sha256: &str) -> Result<TemplateData> {
        let program = input.program;
        let (graph, plan) = (program.graph, program.plan);
        let writer = Writer::new(program)?;
        let functions = writer.functions()?;
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
            events: writer.events(),
            event_gpus: writer.event_gpus(),
            origin_stream: writer.stream(plan.origin_stream),
            weight_keys: program.weights.iter().map(|&t| format!("{:?}", super::weights::key(t, graph))).collect(),
            kernels: writer.kernels(),
            headers: input.headers().into_keys().map(String::from).collect(),
            calls: calls(&functions),
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

/// `text` with a capital letter at the beginning.
fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}
