//! The resources of a plan on its GPUs, and the primitives that its steps call.

use std::collections::BTreeSet;
use std::sync::Arc;

use cudarc::driver::{CudaContext, CudaEvent, CudaFunction, CudaStream, LaunchConfig, PushKernelArg, result, sys};

use super::copy_path::CopyPath;
use super::device::{self, DeviceMap};
use super::dtype::Element;
use super::error::{Error, Result};
use super::graph::ExecutableGraph;
use super::kernel;
use super::layout::{Area, Event, KernelEntry, Layout, Port, Region, Stream, StreamLayout};
use super::memory::{DeviceMemory, ErrorContext, Pinned};
use super::observe::Observer;
use super::options::RuntimeOptions;
use super::resident::Resident;
use super::timing::{Recorder, StepKind};

/// Everything that one model holds on its GPUs. Fields are dropped in this order, after all work
/// has ended.
pub struct Exec {
    /// The captured plan, or why there is none.
    pub(super) graph: std::result::Result<ExecutableGraph, String>,
    pub(super) resident: Option<Resident>,
    /// Whether inferences replay the graph; otherwise each of them enqueues the plan.
    pub(super) replay: bool,
    pub(super) recorder: Option<Recorder>,
    pub(super) observer: Option<Observer>,
    /// Recorded on the origin stream at the end of an inference.
    pub(super) end: Option<CudaEvent>,
    /// `(input, GPU)` and `(output, GPU)` of all uploads and downloads enqueued so far.
    pub(super) uploads: BTreeSet<(usize, usize)>,
    pub(super) downloads: BTreeSet<(usize, usize)>,
    functions: Vec<Vec<Option<CudaFunction>>>,
    /// For each copy stream, its destination and the path there.
    copy_paths: Vec<Option<(usize, CopyPath)>>,
    events: Vec<CudaEvent>,
    pub(super) streams: Vec<Arc<CudaStream>>,
    pub(super) gpu_of_stream: Vec<usize>,
    origin_stream: Stream,
    gpus: Vec<GpuMemory>,
    pub(super) inputs: Vec<HostTensor>,
    pub(super) outputs: Vec<HostTensor>,
    device_map: DeviceMap,
}

impl std::fmt::Debug for Exec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Exec").field("summary", &self.summary()).finish_non_exhaustive()
    }
}

/// Memory of one logical GPU.
struct GpuMemory {
    arena: DeviceMemory,
    weights: DeviceMemory,
}

/// An input or output, in pinned memory.
pub(super) struct HostTensor {
    name: String,
    shape: String,
    /// Bytes of an element.
    element: usize,
    pub(super) memory: Pinned,
}

impl Exec {
    /// Allocates what `layout` lists, uploads `weights` (the bytes of each constant), and zeroes
    /// the counters of kernels. Memory is allocated after all other checks. `enqueue` issues one
    /// inference. It runs once on zeros, is captured into a graph, and the graph runs once.
    pub fn load(
        layout: &Layout<'_>,
        options: &RuntimeOptions,
        weights: &[&[u8]],
        mut enqueue: impl FnMut(&mut Exec) -> Result<()>,
    ) -> Result<Exec> {
        device::check_driver(layout.driver)?;
        let device_map = device::map_devices(layout.gpus.len(), options)?;
        let functions = kernel::load(layout, &device_map)?;
        let gpus = allocate(layout, &device_map)?;
        let context = |gpu: usize| &device_map.devices[device_map.device_of[gpu]].context;
        let mut streams = Vec::new();
        let mut copy_paths = Vec::new();
        for stream in layout.streams {
            let cuda = context(stream.gpu()).new_stream().context(|| "create a stream".into())?;
            copy_paths.push(match *stream {
                StreamLayout::Compute { .. } => None,
                StreamLayout::Copy { gpu, to, largest } => {
                    Some((to, CopyPath::choose(&cuda, context(to), &gpus[gpu].arena, &gpus[to].arena, largest)?))
                }
            });
            streams.push(cuda);
        }
        let event = |&gpu: &usize| context(gpu).new_event(None).context(|| "create an event".into());
        let events = layout.events.iter().map(event).collect::<Result<Vec<_>>>()?;
        let host = |port: &Port<'_>| {
            let memory = Pinned::allocate(context(0), port.bytes())?;
            Ok(HostTensor { name: port.name.to_owned(), shape: port.shape_text(), element: port.dtype.bytes() as usize, memory })
        };
        let inputs = layout.inputs.iter().map(host).collect::<Result<Vec<_>>>()?;
        let outputs = layout.outputs.iter().map(host).collect::<Result<Vec<_>>>()?;
        let gpu_of_stream = layout.streams.iter().map(StreamLayout::gpu).collect();
        let mut exec = Exec {
            graph: Err("as requested".into()),
            resident: None,
            replay: true,
            recorder: None,
            observer: None,
            end: None,
            uploads: BTreeSet::new(),
            downloads: BTreeSet::new(),
            functions,
            copy_paths,
            events,
            streams,
            gpu_of_stream,
            origin_stream: layout.origin_stream,
            gpus,
            inputs,
            outputs,
            device_map,
        };
        exec.upload_weights(layout, weights)?;
        exec.zero_counters(layout)?;
        // The driver may load a kernel at its first launch, which a capture may not allow.
        if !options.no_warm_up {
            exec.finish(&mut enqueue)?;
        }
        if !options.plain_streams {
            let origin_stream = exec.origin_stream();
            exec.graph = ExecutableGraph::capture(&origin_stream, || enqueue(&mut exec));
        }
        if !options.no_warm_up && exec.graph.is_ok() {
            exec.run_again(enqueue)?;
        }
        Ok(exec)
    }

    fn upload_weights(&self, layout: &Layout<'_>, weights: &[&[u8]]) -> Result<()> {
        for &(index, region) in layout.gpus.iter().flat_map(|gpu| gpu.weights) {
            let bytes = *weights.get(index).ok_or_else(|| Error::Plan(format!("no weights number {index}")))?;
            if bytes.len() as u64 != region.bytes {
                return Err(Error::Plan(format!("weights number {index} have {} bytes, expected {}", bytes.len(), region.bytes)));
            }
            let address = self.address(region)?;
            let stream = self.stream_of(region.gpu)?;
            self.bind(region.gpu)?;
            // SAFETY: `address` checked that the region is within its allocation; both sides live
            // until the copy has completed, below.
            unsafe { result::memcpy_htod_async(address, bytes, stream.cu_stream()) }.context(|| "upload weights".into())?;
        }
        self.synchronise()
    }

    /// Zeroes the counters of kernels. It comes after the tests of copies between GPUs, which
    /// overwrite the arenas, and is done before anything is launched.
    fn zero_counters(&self, layout: &Layout<'_>) -> Result<()> {
        for &region in layout.gpus.iter().flat_map(|gpu| gpu.counters) {
            let address = self.address(region)?;
            let stream = self.stream_of(region.gpu)?;
            self.bind(region.gpu)?;
            // SAFETY: `address` checked that the region is within its allocation, which lives until
            // all streams are idle.
            unsafe { result::memset_d8_async(address, 0, region.bytes as usize, stream.cu_stream()) }
                .context(|| "zero the counters of kernels".into())?;
        }
        self.synchronise()
    }

    /// Waits for all streams of this model. It does not synchronise the contexts: another model may
    /// be capturing in them.
    pub(super) fn synchronise(&self) -> Result<()> {
        self.streams.iter().try_for_each(|stream| stream.synchronize().context(|| "finish all work".into()))
    }

    /// Some stream of a logical GPU.
    pub(super) fn stream_of(&self, gpu: usize) -> Result<&Arc<CudaStream>> {
        let stream = self.gpu_of_stream.iter().position(|&of| of == gpu).map(|at| &self.streams[at]);
        stream.ok_or_else(|| Error::Plan(format!("GPU {gpu} has no stream")))
    }

    /// Runs one inference: copies the bytes of `inputs` to pinned memory, replays the graph or
    /// calls `enqueue`, and waits. After a failure nothing is in flight. `enqueue` must be the same
    /// as in [`Exec::load`].
    pub fn run(&mut self, inputs: &[&[u8]], enqueue: impl FnMut(&mut Exec) -> Result<()>) -> Result<()> {
        self.put_inputs(inputs)?;
        self.run_again(enqueue)
    }

    /// Copies `inputs` to pinned memory.
    pub(super) fn put_inputs(&mut self, inputs: &[&[u8]]) -> Result<()> {
        if inputs.len() != self.inputs.len() {
            return Err(Error::InputCount { expected: self.inputs.len(), found: inputs.len() });
        }
        for (host, bytes) in self.inputs.iter_mut().zip(inputs) {
            if bytes.len() != host.memory.bytes() {
                let (expected, found) = (host.memory.bytes() / host.element, bytes.len() / host.element);
                return Err(Error::InputLength { name: host.name.clone(), shape: host.shape.clone(), expected, found });
            }
            host.memory.contents_mut().copy_from_slice(bytes);
        }
        Ok(())
    }

    /// Runs one inference on the inputs that are in pinned memory.
    pub(super) fn run_again(&mut self, mut enqueue: impl FnMut(&mut Exec) -> Result<()>) -> Result<()> {
        self.finish(|exec| match &exec.graph {
            Ok(graph) if exec.replay => graph.launch(),
            _ => enqueue(exec),
        })
    }

    /// Sets whether inferences replay the graph from now on, if there is one.
    pub fn use_graph(&mut self, replay: bool) {
        self.replay = replay;
    }

    /// Calls `enqueue`, and waits until its work has completed.
    pub(super) fn finish(&mut self, enqueue: impl FnOnce(&mut Exec) -> Result<()>) -> Result<()> {
        let mut done = enqueue(self);
        if let (Ok(()), Some(end)) = (&done, &self.end) {
            done = end.record(&self.streams[self.origin_stream.0]).context(|| "record an event".into());
        }
        let done = done.and_then(|()| self.streams[self.origin_stream.0].synchronize().context(|| "finish an inference".into()));
        if done.is_err() {
            self.drain();
        }
        done
    }

    /// The values of an output, after [`Exec::run`]; `T` is the type of its elements.
    pub fn output<T: Element>(&self, output: usize) -> Vec<T> {
        T::values(self.outputs[output].memory.contents())
    }

    /// Replaces the contents of `values` by those of an output, after [`Exec::run`].
    pub fn read_output<T: Element>(&self, output: usize, values: &mut Vec<T>) {
        T::read(self.outputs[output].memory.contents(), values);
    }

    /// The bytes of an output, after [`Exec::run`].
    pub fn output_bytes(&self, output: usize) -> &[u8] {
        self.outputs[output].memory.contents()
    }

    /// Enqueues a kernel; `regions` are its arguments.
    pub fn launch(&mut self, stream: Stream, kernel: &KernelEntry<'_>, regions: &[Region]) -> Result<()> {
        self.step(StepKind::Launch, stream, |exec| exec.issue_launch(stream, kernel, regions))?;
        self.observed(regions)
    }

    fn issue_launch(&self, stream: Stream, kernel: &KernelEntry<'_>, regions: &[Region]) -> Result<()> {
        let gpu = self.gpu_of(stream)?;
        if let Some(stray) = regions.iter().find(|region| region.gpu != gpu) {
            return Err(Error::Plan(format!("kernel {} on GPU {gpu} reads memory of GPU {}", kernel.name, stray.gpu)));
        }
        let function = self.functions[self.device_map.device_of[gpu]].get(kernel.index).and_then(Option::as_ref);
        let function = function.ok_or_else(|| Error::Plan(format!("kernel {} is not loaded on GPU {gpu}", kernel.name)))?;
        let addresses = regions.iter().map(|&region| self.address(region)).collect::<Result<Vec<_>>>()?;
        let mut call = self.streams[stream.0].launch_builder(function);
        for address in &addresses {
            call.arg(address);
        }
        let ([x, y, z], [bx, by, bz]) = (kernel.grid, kernel.block);
        let config = LaunchConfig { grid_dim: (x, y, z), block_dim: (bx, by, bz), shared_mem_bytes: kernel.shared_bytes };
        // SAFETY: every kernel of hiosc takes one pointer per tensor, in this order. The regions
        // are within live allocations, and the plan orders all accesses.
        unsafe { call.launch(config) }.context(|| format!("launch kernel {}", kernel.name))?;
        Ok(())
    }

    /// Enqueues a copy between GPUs, on a copy stream.
    pub fn copy(&mut self, stream: Stream, from: Region, to: Region) -> Result<()> {
        self.step(StepKind::Copy, stream, |exec| exec.issue_copy(stream, from, to))
    }

    fn issue_copy(&self, stream: Stream, from: Region, to: Region) -> Result<()> {
        if from.bytes != to.bytes
            || self.gpu_of(stream)? != from.gpu
            || self.copy_paths[stream.0].as_ref().is_none_or(|&(gpu, _)| gpu != to.gpu)
        {
            return Err(Error::Plan(format!("a copy from {from:?} to {to:?} on stream {}", stream.0)));
        }
        let (_, path) = self.copy_paths[stream.0].as_ref().ok_or_else(|| Error::Plan(format!("a copy on compute stream {}", stream.0)))?;
        path.copy(&self.streams[stream.0], self.address(to)?, self.address(from)?, from.bytes as usize)
    }

    /// Enqueues the copy of an input from pinned host memory, or from its resident buffer on the
    /// GPU.
    pub fn upload(&mut self, stream: Stream, input: usize, to: Region) -> Result<()> {
        self.uploads.insert((input, to.gpu));
        self.step(StepKind::Upload, stream, |exec| {
            let memory = exec.inputs.get(input).map(|host| &host.memory).filter(|memory| memory.bytes() as u64 == to.bytes);
            let memory = memory.ok_or_else(|| Error::Plan(format!("input {input} does not fit {to:?}")))?;
            let (address, bytes) = (exec.address(to)?, to.bytes as usize);
            exec.bind(exec.gpu_of(stream)?)?;
            let cuda = exec.streams[stream.0].cu_stream();
            let resident = exec.resident_input(input, to.gpu);
            // SAFETY: both sides have `to.bytes` bytes and live until all streams are idle.
            let copied = match resident {
                Some(resident) => unsafe { result::memcpy_dtod_async(address, resident, bytes, cuda) },
                None => unsafe { sys::cuMemcpyHtoDAsync_v2(address, memory.address() as *const _, bytes, cuda) }.result(),
            };
            copied.context(|| format!("upload input {input}"))
        })
    }

    /// Enqueues the copy of an output to pinned host memory, or to its resident buffer on the GPU.
    pub fn download(&mut self, stream: Stream, output: usize, from: Region) -> Result<()> {
        self.downloads.insert((output, from.gpu));
        self.step(StepKind::Download, stream, |exec| {
            let memory = exec.outputs.get(output).map(|host| &host.memory).filter(|memory| memory.bytes() as u64 == from.bytes);
            let memory = memory.ok_or_else(|| Error::Plan(format!("output {output} does not fit {from:?}")))?;
            let (address, bytes) = (exec.address(from)?, from.bytes as usize);
            exec.bind(exec.gpu_of(stream)?)?;
            let cuda = exec.streams[stream.0].cu_stream();
            let resident = exec.resident_output(output, from.gpu);
            // SAFETY: both sides have `from.bytes` bytes and live until all streams are idle.
            let copied = match resident {
                Some(resident) => unsafe { result::memcpy_dtod_async(resident, address, bytes, cuda) },
                None => unsafe { sys::cuMemcpyDtoHAsync_v2(memory.address() as *mut _, address, bytes, cuda) }.result(),
            };
            copied.context(|| format!("download output {output}"))
        })
    }

    /// Records `event` after the work enqueued on `stream` so far.
    pub fn record(&mut self, event: Event, stream: Stream) -> Result<()> {
        self.gpu_of(stream)?;
        self.event(event)?.record(&self.streams[stream.0]).context(|| format!("record event {}", event.0))
    }

    /// Makes `stream` wait for `event`.
    pub fn wait(&mut self, stream: Stream, event: Event) -> Result<()> {
        self.gpu_of(stream)?;
        self.streams[stream.0].wait(self.event(event)?).context(|| format!("wait for event {}", event.0))
    }

    /// The machine's GPU of each logical GPU.
    pub fn placement(&self) -> Vec<usize> {
        self.device_map.device_of.iter().map(|&d| self.device_map.devices[d].ordinal).collect()
    }

    /// The GPU of each logical GPU, how tensors are copied, and whether a graph is replayed, as
    /// text.
    pub fn summary(&self) -> String {
        let mut text = String::new();
        for (gpu, &d) in self.device_map.device_of.iter().enumerate() {
            let device = &self.device_map.devices[d];
            let (major, minor) = device.capability;
            text += &format!("gpu{gpu}: GPU {} of {}, {} (sm_{major}{minor})\n", device.ordinal, self.device_map.found, device.name);
        }
        let mut used: Vec<usize> = self.placement();
        used.sort();
        used.dedup();
        let used = used.len();
        if used < self.gpus.len() {
            text += &format!("folded: {} logical GPUs share {used} of the machine\n", self.gpus.len());
        }
        for (stream, path) in self.copy_paths.iter().enumerate() {
            if let Some((to, path)) = path {
                text += &format!("gpu{} to gpu{to}: {}\n", self.gpu_of_stream[stream], path.name());
            }
        }
        let (count, plural) = (self.streams.len(), if self.streams.len() == 1 { "" } else { "s" });
        text += &match &self.graph {
            Ok(graph) => format!("replay: one CUDA graph of {} nodes, over {count} stream{plural}\n", graph.nodes()),
            Err(reason) => format!("replay: none, the plan is enqueued on {count} plain stream{plural} ({reason})\n"),
        };
        text
    }

    /// Whether the GPUs are virtual ones, whose times mean nothing.
    pub fn is_virtual(&self) -> bool {
        self.device_map.devices.iter().any(|device| device::is_virtual(&device.name))
    }

    /// Whether inferences replay a graph.
    pub fn replays(&self) -> bool {
        self.replay && self.graph.is_ok()
    }

    pub(super) fn gpu_of(&self, stream: Stream) -> Result<usize> {
        self.gpu_of_stream.get(stream.0).copied().ok_or_else(|| Error::Plan(format!("no stream {}", stream.0)))
    }

    fn event(&self, event: Event) -> Result<&CudaEvent> {
        self.events.get(event.0).ok_or_else(|| Error::Plan(format!("no event {}", event.0)))
    }

    /// The stream that all others fork from and join.
    pub(super) fn origin_stream(&self) -> Arc<CudaStream> {
        self.streams[self.origin_stream.0].clone()
    }

    /// The context of a logical GPU.
    pub(super) fn context(&self, gpu: usize) -> &Arc<CudaContext> {
        &self.device_map.devices[self.device_map.device_of[gpu]].context
    }

    /// Allocates memory of a logical GPU.
    pub(super) fn allocate(&self, gpu: usize, bytes: u64) -> Result<DeviceMemory> {
        memory(&self.device_map, gpu, bytes)
    }

    pub(super) fn bind(&self, gpu: usize) -> Result<()> {
        self.context(gpu).bind_to_thread().context(|| "bind a context".into())
    }

    /// The address of a region, which must be within its allocation.
    pub(super) fn address(&self, region: Region) -> Result<sys::CUdeviceptr> {
        let gpu = self.gpus.get(region.gpu).ok_or_else(|| Error::Plan(format!("no GPU {}", region.gpu)))?;
        let memory = if region.area == Area::Arena { &gpu.arena } else { &gpu.weights };
        match region.offset.checked_add(region.bytes) {
            Some(end) if end <= memory.bytes() => Ok(memory.address() + region.offset),
            _ => Err(Error::Plan(format!("{region:?} ends beyond {} bytes", memory.bytes()))),
        }
    }

    /// Waits until nothing is in flight. Ignores errors: they have been reported, or the next call
    /// will report them.
    fn drain(&self) {
        for stream in self.streams.iter().map(|s| s.as_ref()).chain(self.copy_paths.iter().flatten().filter_map(|(_, path)| path.helper()))
        {
            let _ = stream.synchronize();
        }
    }
}

impl Drop for Exec {
    fn drop(&mut self) {
        self.drain();
    }
}

/// Allocates the arenas and weights of all logical GPUs, after checking that each device has enough
/// free memory for its logical GPUs.
fn allocate(layout: &Layout<'_>, device_map: &DeviceMap) -> Result<Vec<GpuMemory>> {
    for (d, device) in device_map.devices.iter().enumerate() {
        let own = layout.gpus.iter().zip(&device_map.device_of).filter(|&(_, &of)| of == d);
        let needed: u64 = own.map(|(gpu, _)| gpu.arena_bytes + gpu.weights_bytes).sum();
        let (free, _) = device.context.mem_get_info().context(|| "report its free memory".into())?;
        if needed > free as u64 {
            return Err(Error::OutOfMemory { gpu: device.ordinal, needed, free: free as u64 });
        }
    }
    let gpu = |(g, gpu): (usize, &super::layout::GpuLayout<'_>)| {
        Ok(GpuMemory { arena: memory(device_map, g, gpu.arena_bytes)?, weights: memory(device_map, g, gpu.weights_bytes)? })
    };
    layout.gpus.iter().enumerate().map(gpu).collect()
}

/// Memory of a logical GPU.
fn memory(device_map: &DeviceMap, gpu: usize, bytes: u64) -> Result<DeviceMemory> {
    let device = &device_map.devices[device_map.device_of[gpu]];
    match DeviceMemory::allocate(&device.context, bytes)? {
        Some(memory) => Ok(memory),
        None => {
            let (free, _) = device.context.mem_get_info().context(|| "report its free memory".into())?;
            Err(Error::OutOfMemory { gpu: device.ordinal, needed: bytes, free: free as u64 })
        }
    }
}
