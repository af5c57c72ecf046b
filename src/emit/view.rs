//! What the templates are given: finished strings.

use std::collections::BTreeMap;

use serde::Serialize;

use super::EmitOptions;
use super::names::{self, quoted};
use super::plan::{self, PlanView, Writer};
use crate::error::Result;
use crate::graph::Graph;
use crate::ids::{GpuId, TensorId};
use crate::kernel::Kernel;
use crate::run::KernelCode;
use crate::run::program::Program;
use crate::run::runtime::{ImageKind, Region};

/// An input or output.
#[derive(Clone, Serialize)]
pub(super) struct PortView {
    pub onnx: String,
    /// As a Rust string literal.
    pub name: String,
    pub field: String,
    pub shape: String,
    pub extents: String,
    pub elements: u64,
}

/// `lib.rs`, `main.rs`, `README.md` and `Cargo.toml` share one view.
#[derive(Serialize)]
pub(super) struct CrateView {
    pub first_line: String,
    pub package: String,
    pub crate_name: String,
    pub description: String,
    pub title: String,
    pub about: Vec<String>,
    pub dependencies: Vec<String>,
    pub inputs: Vec<PortView>,
    pub outputs: Vec<PortView>,
    pub example_inputs: String,
    pub example_output: String,
    pub run_inputs: String,
    pub run_outputs: String,
    pub predicted: u64,
    pub compile: String,
    pub needs: Vec<String>,
    pub gpus: Vec<GpuRow>,
    pub alternatives: Vec<String>,
    pub has_check: bool,
}

/// A row of the README's table.
#[derive(Serialize)]
pub(super) struct GpuRow {
    pub name: String,
    pub device: String,
    pub arena: String,
    pub weights: String,
    pub streams: String,
}

/// `buffers.rs`.
#[derive(Serialize)]
pub(super) struct BuffersView {
    pub first_line: String,
    pub gpus: Vec<GpuView>,
    pub weights: Vec<String>,
    pub weights_sha256: String,
    pub inputs: Vec<PortView>,
    pub outputs: Vec<PortView>,
}

/// One GPU's memory.
#[derive(Serialize)]
pub(super) struct GpuView {
    pub gpu: usize,
    pub arena_bytes: u64,
    pub arena_text: String,
    pub sharing: String,
    pub weights_bytes: u64,
    pub weights_text: String,
    pub buffers: Vec<String>,
    pub weights: Vec<String>,
    pub placed: Vec<String>,
}

/// `kernels.rs`.
#[derive(Serialize)]
pub(super) struct KernelsView {
    pub first_line: String,
    pub about: String,
    pub imports: String,
    pub driver: i32,
    pub kernels: Vec<KernelView>,
    pub sources: Vec<SourceView>,
    pub headers: Vec<String>,
}

/// One kernel.
#[derive(Serialize)]
pub(super) struct KernelView {
    pub constant: String,
    pub words: String,
    pub index: usize,
    pub name: String,
    pub grid: String,
    pub block: String,
    pub shared_bytes: u32,
    pub gpus: String,
    pub images: Vec<ImageView>,
}

/// One compiled form of a kernel.
#[derive(Serialize)]
pub(super) struct ImageView {
    pub kind: &'static str,
    pub major: u32,
    pub minor: u32,
    pub path: String,
}

/// One kernel source that is compiled at load.
#[derive(Serialize)]
pub(super) struct SourceView {
    pub name: String,
    pub file: String,
}

/// Inputs or outputs, with field names of their own.
pub(super) fn ports(graph: &Graph, tensors: &[TensorId]) -> Vec<PortView> {
    let mut unique = names::Unique::default();
    let port = |&t: &TensorId| {
        let tensor = graph.tensor(t);
        PortView {
            onnx: names::line(&tensor.name).replace('`', "'"),
            name: format!("{:?}", tensor.name),
            field: unique.pick(&names::field(&tensor.name)),
            shape: tensor.shape_text(),
            extents: tensor.shape.iter().map(|d| d.to_string()).collect::<Vec<_>>().join(", "),
            elements: tensor.elements(),
        }
    };
    tensors.iter().map(port).collect()
}

/// The crate as a whole.
pub(super) fn krate(program: &Program<'_>, options: &EmitOptions, package: &str, first_line: &str) -> CrateView {
    let (graph, plan) = (program.graph, program.plan);
    let inputs = ports(graph, &graph.inputs);
    let outputs = ports(graph, &graph.outputs);
    let list = |ports: &[PortView], each: &dyn Fn(usize, &PortView) -> String| {
        ports.iter().enumerate().map(|(i, p)| each(i, p)).collect::<Vec<_>>().join(", ")
    };
    let model = names::line(&options.model);
    let gpus = names::count(plan.gpus.len(), "GPU");
    CrateView {
        first_line: first_line.to_owned(),
        package: package.to_owned(),
        crate_name: package.replace('-', "_"),
        description: format!("{} on {gpus}, compiled by hiosc", model.replace(['"', '\\'], "'")),
        title: format!("The model {} on {gpus}, compiled by hiosc.", quoted(&options.model)),
        about: about(program, options),
        dependencies: dependencies(&options.kernels),
        example_inputs: list(&inputs, &|_, p| format!("{}: &{}", p.field, p.field)),
        example_output: outputs.first().map(|p| p.field.clone()).unwrap_or_default(),
        run_inputs: list(&inputs, &|_, p| format!("inputs.{}", p.field)),
        run_outputs: list(&outputs, &|i, p| format!("{}: self.exec.output({i}).to_vec()", p.field)),
        inputs,
        outputs,
        predicted: plan.latency,
        compile: if options.kernels == KernelCode::Sources { "Some(&kernels::compile)".into() } else { "None".into() },
        needs: needs(program, options),
        gpus: (0..plan.gpus.len()).map(|gpu| gpu_row(program, gpu)).collect(),
        alternatives: options.alternatives.iter().map(|(name, time)| format!("{} | {}", names::line(name), names::micros(*time))).collect(),
        has_check: options.check.is_some(),
    }
}

fn about(program: &Program<'_>, options: &EmitOptions) -> Vec<String> {
    let plan = program.plan;
    vec![
        format!(
            "{} in {}, scheduled by `{}`.",
            names::count(program.graph.operators.len(), "operator"),
            stages(program),
            options_algorithm(options)
        ),
        format!("Predicted latency of one inference: {}; costs: {}.", names::micros(plan.latency), names::line(&program.costs.source)),
        format!("SHA-256 of the model file: `{}`.", names::line(&options.model_sha256)),
    ]
}

fn options_algorithm(options: &EmitOptions) -> String {
    names::line(&options.algorithm)
}

fn stages(program: &Program<'_>) -> String {
    let stages = program.plan.sections.iter().filter(|s| matches!(s.kind, crate::plan::SectionKind::Stage { .. })).count();
    let copies = program.plan.steps.iter().filter(|s| matches!(s, crate::plan::Step::Copy { .. })).count();
    let copies = match copies {
        0 => "no copies between GPUs".to_owned(),
        1 => "1 copy between GPUs".to_owned(),
        n => format!("{n} copies between GPUs"),
    };
    format!("{}, {copies}", names::count(stages, "stage"))
}

/// The crates it depends on, as lines of its Cargo.toml; versions are pinned by the Cargo.lock beside it, and cudarc here too.
fn dependencies(kernels: &KernelCode) -> Vec<String> {
    let mut lines = vec![super::CUDARC.to_owned()];
    if *kernels == KernelCode::Sources {
        lines.push("libloading = \"0.9\"".into());
    }
    lines.push("safetensors = { version = \"0.8\", default-features = false }".into());
    lines.push("sha2 = \"0.10\"".into());
    lines
}

fn needs(program: &Program<'_>, options: &EmitOptions) -> Vec<String> {
    let cuda = |version: i32| format!("{}.{}", version / 1000, version % 1000 / 10);
    let driver = cuda(options.kernels.driver());
    let mut needs = vec![format!("To build: Rust. To run: the NVIDIA driver for CUDA {driver} or newer, and nothing else of CUDA.")];
    needs.push(match &options.kernels {
        KernelCode::Compiled { images, compiler, .. } => {
            let mut targets: Vec<String> = images.values().flatten().map(super::target).collect();
            targets.sort();
            targets.dedup();
            format!("Kernels: compiled by {} for {}.", names::line(compiler), targets.join(", "))
        }
        KernelCode::Sources => "Kernels: **sources only**, because there was no NVRTC where this crate was made. They are compiled each time the model is loaded, which \
             takes some seconds and needs NVRTC (`libnvrtc.so.12`) on the machine that runs it. Make the crate again where NVRTC is installed to avoid both."
            .into(),
    });
    needs.push(format!("{}, or fewer with `--fold`.", names::count(program.plan.gpus.len(), "GPU")));
    needs
}

fn gpu_row(program: &Program<'_>, gpu: usize) -> GpuRow {
    let plan = program.plan;
    let target = &program.costs.gpus[plan.targets[gpu].index()];
    let streams = plan.streams.iter().filter(|s| s.gpu == GpuId::new(gpu));
    let total = streams.clone().count();
    let compute = streams.filter(|s| matches!(s.kind, crate::plan::StreamKind::Compute(_))).count();
    GpuRow {
        name: format!("gpu{gpu}"),
        device: names::line(&target.device),
        arena: names::bytes(plan.gpus[gpu].arena_bytes),
        weights: names::bytes(plan.gpus[gpu].weights_bytes),
        streams: format!("{compute} compute, {} copy", total - compute),
    }
}

/// `buffers.rs`.
pub(super) fn buffers(
    program: &Program<'_>,
    constants: &BTreeMap<TensorId, String>,
    weights_sha256: String,
    first_line: &str,
) -> Result<BuffersView> {
    let gpus = (0..program.plan.gpus.len()).map(|gpu| gpu_view(program, constants, gpu)).collect::<Result<_>>()?;
    let weights = program.weights.iter().map(|weight| format!("{:?}", weight.name)).collect();
    let graph = program.graph;
    let (inputs, outputs) = (ports(graph, &graph.inputs), ports(graph, &graph.outputs));
    Ok(BuffersView { first_line: first_line.to_owned(), gpus, weights, weights_sha256, inputs, outputs })
}

fn gpu_view(program: &Program<'_>, constants: &BTreeMap<TensorId, String>, gpu: usize) -> Result<GpuView> {
    let (graph, plan) = (program.graph, program.plan);
    let own = || plan.buffers.iter().filter(|b| b.gpu == GpuId::new(gpu));
    let line = |tensor: TensorId, what: &str, region: Region| {
        let code = format!("pub const {}: Region = Region::{what}({gpu}, {}, {});", constants[&tensor], region.offset, region.bytes);
        let t = graph.tensor(tensor);
        format!("{code:<96} // {} {}", t.shape_text(), quoted(&t.name))
    };
    let placed = program.placed_weights(gpu)?;
    let total: u64 = own().map(|b| b.bytes).sum();
    let g = &plan.gpus[gpu];
    Ok(GpuView {
        gpu,
        arena_bytes: g.arena_bytes,
        arena_text: names::bytes(g.arena_bytes),
        sharing: if total > g.arena_bytes { format!(" for {} of tensors", names::bytes(total)) } else { String::new() },
        weights_bytes: g.weights_bytes,
        weights_text: names::bytes(g.weights_bytes),
        buffers: own().map(|b| line(b.tensor, "arena", Region::arena(gpu, b.offset, b.bytes))).collect(),
        weights: placed.iter().map(|&(w, region)| line(program.weights[w].tensor, "weights", region)).collect(),
        placed: plan::pack(placed.iter().map(|(w, _)| format!("({w}, weights{gpu}::{}),", constants[&program.weights[*w].tensor])), 120),
    })
}

/// `kernels.rs`.
pub(super) fn kernels(program: &Program<'_>, options: &EmitOptions, headers: Vec<String>, first_line: &str) -> Result<KernelsView> {
    let from_sources = options.kernels == KernelCode::Sources;
    let views = program.kernels.iter().enumerate().map(|(index, used)| {
        let images = options.kernels.images(&used.kernel.name)?;
        Ok(KernelView {
            constant: plan::kernel_constant(&used.kernel.name),
            words: words(used.kernel),
            index,
            name: used.kernel.name.clone(),
            grid: format!("{:?}", used.kernel.grid),
            block: format!("{:?}", used.kernel.block),
            shared_bytes: used.kernel.shared_bytes,
            gpus: used.gpus.iter().map(|g| g.to_string()).collect::<Vec<_>>().join(", "),
            images: images
                .iter()
                .map(|image| ImageView {
                    kind: if image.kind == ImageKind::Cubin { "Cubin" } else { "Ptx" },
                    major: image.arch.0,
                    minor: image.arch.1,
                    path: super::image_path(&used.kernel.name, image),
                })
                .collect(),
        })
    });
    let source =
        |used: &crate::run::program::KernelUse<'_>| SourceView { name: used.kernel.name.clone(), file: format!("{}.cu", used.kernel.name) };
    Ok(KernelsView {
        first_line: first_line.to_owned(),
        about: match &options.kernels {
            KernelCode::Compiled { compiler, .. } => format!("Compiled by {}.", names::line(compiler)),
            KernelCode::Sources => "They are compiled by NVRTC when the model is loaded.".into(),
        },
        imports: (if from_sources { "self, Kernel" } else { "Image, ImageKind, Kernel" }).into(),
        driver: options.kernels.driver(),
        kernels: views.collect::<Result<_>>()?,
        sources: if from_sources { program.kernels.iter().map(source).collect() } else { Vec::new() },
        headers: if from_sources { headers } else { Vec::new() },
    })
}

/// The comment that a kernel's source begins with.
fn words(kernel: &Kernel) -> String {
    let comment = kernel.source.lines().next().and_then(|line| line.strip_prefix("//"));
    names::line(comment.map_or(kernel.name.as_str(), str::trim))
}

/// `plan.rs`.
pub(super) fn plan_view(
    program: &Program<'_>,
    options: &EmitOptions,
    constants: &BTreeMap<TensorId, String>,
    first_line: &str,
) -> Result<PlanView> {
    let writer = Writer::new(program, constants);
    let plan = program.plan;
    let copies = plan.gpus.len();
    let arenas = (0..copies).map(|gpu| format!("gpu{gpu}"));
    let weights = plan.gpus.iter().enumerate().filter(|(_, g)| !g.weights.is_empty()).map(|(gpu, _)| format!("weights{gpu}"));
    Ok(PlanView {
        first_line: first_line.to_owned(),
        title: format!("{}, {}", quoted(&options.model), stages(program)),
        about: about(program, options),
        modules: arenas.chain(weights).collect::<Vec<_>>().join(", "),
        streams: writer.streams(),
        origin: plan::stream_name(plan, plan.origin),
        layouts: program.streams().iter().map(plan::layout_code).collect(),
        event_count: plan.events.len(),
        events: plan::pack(plan.events.iter().map(|gpu| format!("{},", gpu.0)), 120),
        functions: writer.functions()?,
    })
}
