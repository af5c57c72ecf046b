//! Running plans in-process, on real or virtual GPUs.
//!
//! **In**: a graph, its costs, a verified plan, its kernels. **Out**: the outputs of one or more inferences. The steps of the plan are interpreted with the
//! primitives of [`runtime`], the very source that generated crates carry; so what a crate will do can be seen without compiling it.

pub(crate) mod program;
pub mod runtime;

use runtime::{DevicePointer, Event, Exec, GpuLayout, Image, ImageKind, Kernel, Layout, Port, Region, Span, Stream, Timing};

use crate::cost::CostTable;
use crate::error::{Error, Result};
use crate::graph::{Constant, DType, Graph};
use crate::ids::TensorId;
use crate::kernel::{self, Shipped, headers};
use crate::plan::{GpuPlan, Plan, Step};
use program::{KernelUse, Program};

/// A plan loaded on GPUs.
pub struct Session {
    calls: Vec<Call>,
    /// Names and types.
    inputs: Vec<(String, DType)>,
    outputs: Vec<(String, DType)>,
    exec: Exec,
}

impl Session {
    /// Loads a plan, which must have passed [`plan::verify`](crate::plan::verify()).
    pub fn load(graph: &Graph, costs: &CostTable, plan: &Plan, kernels: &Shipped, options: &runtime::Options) -> Result<Self> {
        let program = Program::new(graph, costs, plan)?;
        let calls: Vec<Call> = plan.steps.iter().map(|step| Call::resolve(&program, step)).collect::<Result<_>>()?;
        let weights = program.weights.iter().map(|&weight| program.weight_bytes(weight)).collect::<Result<Vec<_>>>()?;
        let types = |ids: &[TensorId]| ids.iter().map(|&t| (graph.tensor(t).name.clone(), graph.tensor(t).dtype)).collect();
        let exec = load(&program, kernels, options, &weights, &calls)?;
        Ok(Session { calls, inputs: types(&graph.inputs), outputs: types(&graph.outputs), exec })
    }

    /// One inference: values of each input in, values of each output out, in the graph's order.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] if an input has another type than the model's, [`Error::Device`] if their number or a length is wrong or a GPU fails.
    pub fn run(&mut self, inputs: &[Constant]) -> Result<Vec<Constant>> {
        let bytes = self.bytes(inputs)?;
        let calls = &self.calls;
        self.exec.run(&bytes, |exec| issue(calls, exec)).map_err(device)?;
        let output = |(i, (_, dtype)): (usize, &(String, DType))| Constant::from_bytes(*dtype, &self.exec.output::<u8>(i));
        Ok(self.outputs.iter().enumerate().map(output).collect())
    }

    /// The bytes of inputs, which must have the model's types.
    fn bytes<'a>(&self, inputs: &'a [Constant]) -> Result<Vec<&'a [u8]>> {
        if let Some(((name, wanted), found)) = self.inputs.iter().zip(inputs).find(|((_, wanted), found)| found.dtype() != *wanted) {
            return Err(Error::Usage(format!("input `{name}` has type {}, and {} was given", wanted.name(), found.dtype().name())));
        }
        Ok(inputs.iter().map(Constant::bytes).collect())
    }

    /// One inference from and to device memory: see [`Exec::run_device`].
    ///
    /// # Safety
    ///
    /// As there: each address must be of memory of the plan's first GPU that holds the tensor, and nothing else may use it meanwhile.
    pub unsafe fn run_device(&mut self, inputs: &[DevicePointer], outputs: &[DevicePointer]) -> Result<()> {
        let calls = &self.calls;
        // SAFETY: the caller's promise.
        unsafe { self.exec.run_device(inputs, outputs, |exec| issue(calls, exec)) }.map_err(device)
    }

    /// Whether inferences replay the captured graph from now on (as they do after loading, where there is one), or use plain streams.
    pub fn use_graph(&mut self, replay: bool) {
        self.exec.use_graph(replay);
    }

    /// Whether the GPUs are virtual ones, whose times mean nothing.
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
        let calls = &self.calls;
        self.exec.time(&bytes, |exec| issue(calls, exec)).map_err(device)
    }

    /// One inference without copies from and to the host, timed.
    pub fn time_resident(&mut self) -> Result<Timing> {
        let calls = &self.calls;
        self.exec.time_resident(|exec| issue(calls, exec)).map_err(device)
    }

    /// One inference on plain streams: when each upload, launch, copy and download ran, in the order of the plan's steps.
    pub fn trace(&mut self, inputs: &[Constant]) -> Result<Vec<Span>> {
        let bytes = self.bytes(inputs)?;
        let calls = &self.calls;
        self.exec.trace(&bytes, |exec| issue(calls, exec)).map_err(device)
    }

    /// Which logical GPU is where, how tensors travel, and whether a graph is replayed.
    pub fn summary(&self) -> String {
        self.exec.summary()
    }
}

/// Loads a plan and runs one inference.
pub fn run(
    graph: &Graph,
    costs: &CostTable,
    plan: &Plan,
    kernels: &Shipped,
    options: &runtime::Options,
    inputs: &[Constant],
) -> Result<Vec<Constant>> {
    Session::load(graph, costs, plan, kernels, options)?.run(inputs)
}

/// A step of the plan in the runtime's terms.
enum Call {
    Upload(Stream, usize, Region),
    Launch(Stream, Kernel<'static>, Vec<Region>),
    Copy(Stream, Region, Region),
    Download(Stream, usize, Region),
    Record(Event, Stream),
    Wait(Stream, Event),
}

impl Call {
    fn resolve(program: &Program<'_>, step: &Step) -> Result<Call> {
        let on = Stream(step.stream().index());
        Ok(match step {
            Step::Upload { input, to, .. } => Call::Upload(on, *input, program.buffer(*to)),
            Step::Launch { operator, stream, reads, writes } => {
                let gpu = program.plan.streams[stream.index()].gpu;
                let mut regions = reads.iter().map(|operand| program.operand(operand, gpu)).collect::<Result<Vec<Region>>>()?;
                regions.extend(writes.iter().map(|&buffer| program.buffer(buffer)));
                let crate::kernel::Kernel { grid, block, shared_bytes, .. } = *program.kernel(*operator, gpu);
                let index = program.kernel_index(*operator, gpu)?;
                Call::Launch(on, Kernel { index, name: "", grid, block, shared_bytes, gpus: &[], images: &[] }, regions)
            }
            Step::Copy { from, to, .. } => Call::Copy(on, program.buffer(*from), program.buffer(*to)),
            Step::Download { output, from, .. } => Call::Download(on, *output, program.buffer(*from)),
            Step::Record { event, .. } => Call::Record(Event(event.index()), on),
            Step::Wait { event, .. } => Call::Wait(on, Event(event.index())),
        })
    }

    fn issue(&self, exec: &mut Exec) -> runtime::Result<()> {
        match self {
            Call::Upload(stream, input, to) => exec.upload(*stream, *input, *to),
            Call::Launch(stream, kernel, regions) => exec.launch(*stream, kernel, regions),
            Call::Copy(stream, from, to) => exec.copy(*stream, *from, *to),
            Call::Download(stream, output, from) => exec.download(*stream, *output, *from),
            Call::Record(event, stream) => exec.record(*event, *stream),
            Call::Wait(stream, event) => exec.wait(*stream, *event),
        }
    }
}

/// Enqueues one inference.
fn issue(calls: &[Call], exec: &mut Exec) -> runtime::Result<()> {
    calls.iter().try_for_each(|call| call.issue(exec))
}

fn load(program: &Program<'_>, shipped: &Shipped, options: &runtime::Options, weights: &[&[u8]], calls: &[Call]) -> Result<Exec> {
    let (graph, plan) = (program.graph, program.plan);
    let port = |&t: &TensorId| Port { name: &graph.tensor(t).name, dtype: graph.tensor(t).dtype, shape: &graph.tensor(t).shape };
    let placed = (0..plan.gpus.len()).map(|gpu| program.placed_weights(gpu)).collect::<Result<Vec<_>>>()?;
    let gpus = plan.gpus.iter().zip(&placed);
    let gpus: Vec<_> = gpus.map(|(gpu, weights)| memory(gpu, weights)).collect();
    let images: Vec<Vec<Image>> = program.kernels.iter().map(|used| images(shipped, &used.kernel.name)).collect();
    let kernels: Vec<_> = program.kernels.iter().zip(&images).enumerate().map(|(i, (used, images))| kernel_of(i, used, images)).collect();
    let sources: Vec<(&str, &str)> = program.kernels.iter().map(|used| (&*used.kernel.name, &*used.kernel.source)).collect();
    let headers = headers();
    let compile = |name: &str, device: (u32, u32)| runtime::compile(&sources, &headers, name, device);
    let inputs: Vec<_> = graph.inputs.iter().map(port).collect();
    let outputs: Vec<_> = graph.outputs.iter().map(port).collect();
    let layout = Layout {
        inputs: &inputs,
        outputs: &outputs,
        gpus: &gpus,
        streams: &program.streams(),
        origin: Stream(plan.origin.index()),
        events: &plan.events.iter().map(|gpu| gpu.index()).collect::<Vec<_>>(),
        kernels: &kernels,
        driver: shipped.driver(),
        compile: Some(&compile),
    };
    Exec::load(&layout, options, weights, |exec| issue(calls, exec)).map_err(device)
}

fn memory<'a>(gpu: &GpuPlan, weights: &'a [(usize, Region)]) -> GpuLayout<'a> {
    GpuLayout { arena_bytes: gpu.arena_bytes, weights_bytes: gpu.weights_bytes, weights }
}

fn images<'a>(shipped: &'a Shipped, kernel: &str) -> Vec<Image<'a>> {
    let image = |image: &'a kernel::Image| {
        let (kind, arch) = image.target();
        Image { kind: if kind == "sm" { ImageKind::Cubin } else { ImageKind::Ptx }, arch, bytes: &image.data }
    };
    shipped.images.get(kernel).into_iter().flatten().map(image).collect()
}

fn kernel_of<'a>(index: usize, used: &'a KernelUse<'a>, images: &'a [Image<'a>]) -> Kernel<'a> {
    let crate::kernel::Kernel { ref name, grid, block, shared_bytes, .. } = *used.kernel;
    Kernel { index, name, grid, block, shared_bytes, gpus: &used.gpus, images }
}

pub(crate) fn device(error: runtime::Error) -> Error {
    match error {
        runtime::Error::Plan(message) => Error::internal("run", message),
        other => Error::Device(other.to_string()),
    }
}
