//! Runs plans in-process, on real or virtual GPUs.
//!
//! **In**: a [`Program`]: a verified and resolved plan. **Out**: the outputs of one or more
//! inferences. Its calls use the primitives of [`runtime`], the same source that generated crates
//! contain. So what a crate will do can be tested without compiling it.

use std::path::Path;

use crate::error::{Error, Result};
use crate::graph::{Constant, DType};
use crate::ids::{GpuId, TensorId};
use crate::kernel::{Kernel, headers};
use crate::plan::GpuPlan;
use crate::program::{self, Call, KernelUse, LayerResult, Program};
use crate::runtime::tool::layers;
use crate::runtime::{
    self, DevicePointer, Exec, GpuLayout, ImageKind, KernelEntry, KernelImage, LaunchResults, Layout, Port, Region, RuntimeOptions, Span,
    Stream, Timing,
};

/// A result of a launch: key, type and shape.
type ResultLayout = (String, DType, Vec<usize>);

/// A plan loaded on GPUs.
#[derive(Debug)]
pub struct Session {
    calls: Vec<Call>,
    /// Launch geometry, by index into the kernels of the program.
    kernels: Vec<KernelEntry<'static>>,
    /// Names and types.
    inputs: Vec<(String, DType)>,
    outputs: Vec<(String, DType)>,
    /// For each launch, the index of its first result among its arguments, and its results.
    launches: Vec<(usize, Vec<ResultLayout>)>,
    exec: Exec,
}

impl Session {
    /// Loads a program, whose plan must have passed [`plan::verify`](crate::plan::verify()).
    pub fn load(program: &Program<'_>, options: &RuntimeOptions) -> Result<Self> {
        let graph = program.graph;
        let types = |ids: &[TensorId]| ids.iter().map(|&t| (graph.tensor(t).name.clone(), graph.tensor(t).dtype)).collect();
        let geometry = |(index, used): (usize, &KernelUse<'_>)| {
            let Kernel { grid, block, shared_bytes, .. } = *used.kernel;
            KernelEntry { index, name: "", grid, block, shared_bytes, gpus: &[], images: &[] }
        };
        let kernels: Vec<KernelEntry<'static>> = program.kernels.iter().enumerate().map(geometry).collect();
        let result = |result: LayerResult<'_>| (result.key, result.tensor.dtype, result.tensor.shape.clone());
        let launches = program.layers()?.into_iter().map(|layer| (layer.first, layer.results.into_iter().map(result).collect()));
        let launches = launches.collect();
        let calls = program.calls.clone();
        let exec = load(program, options, |exec| issue(&calls, &kernels, exec))?;
        Ok(Session { calls, kernels, inputs: types(&graph.inputs), outputs: types(&graph.outputs), launches, exec })
    }

    /// One inference: from the values of each input to those of each output, in the graph's order.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] if an input has another type than the model's. [`Error::Device`] if their
    /// number or a length is wrong, or a GPU fails.
    pub fn run(&mut self, inputs: &[Constant]) -> Result<Vec<Constant>> {
        let bytes = self.bytes(inputs)?;
        let (calls, kernels) = (&self.calls, &self.kernels);
        self.exec.run(&bytes, |exec| issue(calls, kernels, exec)).map_err(device)?;
        let output = |(i, (_, dtype)): (usize, &(String, DType))| Constant::from_bytes(*dtype, &self.exec.output::<u8>(i));
        Ok(self.outputs.iter().enumerate().map(output).collect())
    }

    /// The bytes of inputs, which must have the model's types.
    fn bytes<'a>(&self, inputs: &'a [Constant]) -> Result<Vec<&'a [u8]>> {
        if let Some(((name, wanted), found)) = self.inputs.iter().zip(inputs).find(|((_, wanted), found)| found.dtype() != *wanted) {
            return Err(Error::Usage(format!("input `{name}` has type {}, but {} was given", wanted.name(), found.dtype().name())));
        }
        Ok(inputs.iter().map(Constant::bytes).collect())
    }

    /// One inference from and to device memory: see [`Exec::run_device`].
    ///
    /// # Safety
    ///
    /// As for [`Exec::run_device`]: each address must point to memory of the plan's first GPU that
    /// holds the whole tensor, and nothing else may use it meanwhile.
    pub unsafe fn run_device(&mut self, inputs: &[DevicePointer], outputs: &[DevicePointer]) -> Result<()> {
        let (calls, kernels) = (&self.calls, &self.kernels);
        // SAFETY: the caller's promise.
        unsafe { self.exec.run_device(inputs, outputs, |exec| issue(calls, kernels, exec)) }.map_err(device)
    }

    /// Whether inferences replay the captured graph from now on (the default after loading, if
    /// there is one), or use plain streams.
    pub fn use_graph(&mut self, replay: bool) {
        self.exec.use_graph(replay);
    }

    /// Whether the GPUs are virtual. Their times mean nothing.
    pub fn is_virtual(&self) -> bool {
        self.exec.is_virtual()
    }

    /// Whether inferences replay a graph.
    pub fn replays(&self) -> bool {
        self.exec.replays()
    }

    /// One inference, timed.
    pub fn time(&mut self, inputs: &[Constant]) -> Result<Timing> {
        let bytes = self.bytes(inputs)?;
        let (calls, kernels) = (&self.calls, &self.kernels);
        self.exec.time(&bytes, |exec| issue(calls, kernels, exec)).map_err(device)
    }

    /// One inference without copies from and to the host, timed.
    pub fn time_resident(&mut self) -> Result<Timing> {
        let (calls, kernels) = (&self.calls, &self.kernels);
        self.exec.time_resident(|exec| issue(calls, kernels, exec)).map_err(device)
    }

    /// One inference on plain streams. Returns when each upload, launch, copy and download ran, in
    /// the order of the plan's steps.
    pub fn trace(&mut self, inputs: &[Constant]) -> Result<Vec<Span>> {
        let bytes = self.bytes(inputs)?;
        let (calls, kernels) = (&self.calls, &self.kernels);
        self.exec.trace(&bytes, |exec| issue(calls, kernels, exec)).map_err(device)
    }

    /// One inference, of which `file` gets what each launch writes, under the keys of
    /// [`Program::layers`].
    pub fn save_layers(&mut self, inputs: &[Constant], file: &Path) -> Result<()> {
        let bytes = self.bytes(inputs)?;
        fn port((name, dtype, shape): &ResultLayout) -> Port<'_> {
            Port { name, dtype: *dtype, shape }
        }
        let ports: Vec<Vec<Port<'_>>> = self.launches.iter().map(|(_, results)| results.iter().map(port).collect()).collect();
        let launches: Vec<LaunchResults<'_>> =
            self.launches.iter().zip(&ports).map(|(&(first, _), results)| LaunchResults { first, results }).collect();
        let (calls, kernels) = (&self.calls, &self.kernels);
        layers::save(&mut self.exec, &bytes, &launches, file, |exec| issue(calls, kernels, exec)).map_err(Error::Device)
    }

    /// The GPU that each logical GPU runs on, how tensors are copied, and whether a graph is
    /// replayed.
    pub fn summary(&self) -> String {
        self.exec.summary()
    }
}

/// Loads a program and runs one inference.
pub fn run(program: &Program<'_>, options: &RuntimeOptions, inputs: &[Constant]) -> Result<Vec<Constant>> {
    Session::load(program, options)?.run(inputs)
}

/// Enqueues one inference.
fn issue(calls: &[Call], kernels: &[KernelEntry<'_>], exec: &mut Exec) -> runtime::Result<()> {
    calls.iter().try_for_each(|call| match *call {
        Call::Upload(stream, input, to) => exec.upload(stream, input, to),
        Call::Launch(stream, kernel, ref regions) => exec.launch(stream, &kernels[kernel], regions),
        Call::Copy(stream, from, to) => exec.copy(stream, from, to),
        Call::Download(stream, output, from) => exec.download(stream, output, from),
        Call::Record(event, stream) => exec.record(event, stream),
        Call::Wait(stream, event) => exec.wait(stream, event),
    })
}

fn load(program: &Program<'_>, options: &RuntimeOptions, enqueue: impl FnMut(&mut Exec) -> runtime::Result<()>) -> Result<Exec> {
    let (graph, plan) = (program.graph, program.plan);
    let port = |&t: &TensorId| Port { name: &graph.tensor(t).name, dtype: graph.tensor(t).dtype, shape: &graph.tensor(t).shape };
    let placed = (0..plan.gpus.len()).map(|gpu| program.placed_weights(GpuId::new(gpu))).collect::<Result<Vec<_>>>()?;
    let counters: Vec<_> = (0..plan.gpus.len()).map(|gpu| program.counters(GpuId::new(gpu))).collect();
    let gpus: Vec<_> =
        plan.gpus.iter().zip(placed.iter().zip(&counters)).map(|(gpu, (weights, counters))| memory(gpu, weights, counters)).collect();
    let images: Vec<Vec<KernelImage>> = program.kernels.iter().map(|used| used.images.iter().map(image).collect()).collect();
    let kernels: Vec<_> = program.kernels.iter().zip(&images).enumerate().map(|(i, (used, images))| kernel(i, used, images)).collect();
    let sources: Vec<(&str, &str)> = program.kernels.iter().map(|used| (&*used.kernel.name, &*used.kernel.source)).collect();
    let headers = headers();
    let compile = |name: &str, device: (u32, u32)| runtime::compile(&sources, &headers, name, device);
    let inputs: Vec<_> = graph.inputs.iter().map(port).collect();
    let outputs: Vec<_> = graph.outputs.iter().map(port).collect();
    let layout = Layout {
        inputs: &inputs,
        outputs: &outputs,
        gpus: &gpus,
        streams: &program.streams,
        origin_stream: Stream(plan.origin_stream.index()),
        events: &plan.events.iter().map(|gpu| gpu.index()).collect::<Vec<_>>(),
        kernels: &kernels,
        driver: program.shipped.driver(),
        compile: Some(&compile),
    };
    let weights = program.weights.iter().map(|&weight| program.weight(weight)).collect::<Result<Vec<_>>>()?;
    let weights: Vec<&[u8]> = weights.iter().map(|bytes| &**bytes).collect();
    Exec::load(&layout, options, &weights, enqueue).map_err(device)
}

fn memory<'a>(gpu: &GpuPlan, weights: &'a [(usize, Region)], counters: &'a [Region]) -> GpuLayout<'a> {
    GpuLayout { arena_bytes: gpu.arena_bytes, weights_bytes: gpu.weights_bytes, weights, counters }
}

fn image(image: &program::CompiledImage) -> KernelImage<'_> {
    let (kind, arch) = image.target();
    KernelImage { kind: if kind == "sm" { ImageKind::Cubin } else { ImageKind::Ptx }, arch, bytes: &image.data }
}

fn kernel<'a>(index: usize, used: &'a KernelUse<'_>, images: &'a [KernelImage<'a>]) -> KernelEntry<'a> {
    let Kernel { ref name, grid, block, shared_bytes, .. } = *used.kernel;
    KernelEntry { index, name, grid, block, shared_bytes, gpus: &used.gpus, images }
}

/// Converts an error of the runtime to one of the library.
pub(crate) fn device(error: runtime::Error) -> Error {
    match error {
        runtime::Error::Plan(message) => Error::internal("run", message),
        other => Error::Device(other.to_string()),
    }
}
