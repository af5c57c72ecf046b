//! A plan's resources on its GPUs, and the primitives that its steps are made of.

use std::sync::Arc;

use cudarc::driver::{CudaEvent, CudaFunction, CudaStream, LaunchConfig, PushKernelArg, result, sys};

use super::device::{self, Placement};
use super::dtype::Element;
use super::error::{Error, Result};
use super::kernel;
use super::layout::{Area, Event, Kernel, Layout, Port, Region, Stream, StreamLayout};
use super::link::Link;
use super::memory::{DeviceMemory, Doing, Pinned};
use super::options::Options;

/// Everything one model holds on its GPUs. Fields are dropped in this order, after all work has ended.
pub struct Exec {
    functions: Vec<Vec<Option<CudaFunction>>>,
    /// For each copy stream, its destination and the way there.
    links: Vec<Option<(usize, Link)>>,
    events: Vec<CudaEvent>,
    streams: Vec<Arc<CudaStream>>,
    gpu_of_stream: Vec<usize>,
    origin: Stream,
    gpus: Vec<Gpu>,
    inputs: Vec<HostTensor>,
    outputs: Vec<HostTensor>,
    placement: Placement,
}

/// Memory of one logical GPU.
struct Gpu {
    arena: DeviceMemory,
    weights: DeviceMemory,
}

/// An input or output, in page-locked memory.
struct HostTensor {
    name: String,
    shape: String,
    /// Bytes of an element.
    element: usize,
    memory: Pinned,
}

impl Exec {
    /// Claims all that `layout` asks for and uploads `weights` (the bytes of each constant). Memory is asked for after everything else has been checked.
    pub fn load(layout: &Layout<'_>, options: &Options, weights: &[&[u8]]) -> Result<Exec> {
        device::check_driver(layout.driver)?;
        let placement = device::place(layout.gpus.len(), options)?;
        let functions = kernel::load(layout, &placement)?;
        let gpus = allocate(layout, &placement)?;
        let context = |gpu: usize| &placement.devices[placement.of_gpu[gpu]].context;
        let mut streams = Vec::new();
        let mut links = Vec::new();
        for stream in layout.streams {
            let cuda = context(stream.gpu()).new_stream().doing(|| "create a stream".into())?;
            links.push(match *stream {
                StreamLayout::Compute { .. } => None,
                StreamLayout::Copy { gpu, to, largest } => {
                    Some((to, Link::choose(&cuda, context(to), &gpus[gpu].arena, &gpus[to].arena, largest)?))
                }
            });
            streams.push(cuda);
        }
        let event = |&gpu: &usize| context(gpu).new_event(None).doing(|| "create an event".into());
        let events = layout.events.iter().map(event).collect::<Result<Vec<_>>>()?;
        let host = |port: &Port<'_>| {
            let memory = Pinned::allocate(context(0), port.bytes())?;
            Ok(HostTensor { name: port.name.to_owned(), shape: port.shape_text(), element: port.dtype.bytes() as usize, memory })
        };
        let inputs = layout.inputs.iter().map(host).collect::<Result<Vec<_>>>()?;
        let outputs = layout.outputs.iter().map(host).collect::<Result<Vec<_>>>()?;
        let gpu_of_stream = layout.streams.iter().map(StreamLayout::gpu).collect();
        let exec = Exec { functions, links, events, streams, gpu_of_stream, origin: layout.origin, gpus, inputs, outputs, placement };
        exec.upload_weights(layout, weights)?;
        Ok(exec)
    }

    fn upload_weights(&self, layout: &Layout<'_>, weights: &[&[u8]]) -> Result<()> {
        for &(index, region) in layout.gpus.iter().flat_map(|gpu| gpu.weights) {
            let bytes = *weights.get(index).ok_or_else(|| Error::Plan(format!("no weights number {index}")))?;
            if bytes.len() as u64 != region.bytes {
                return Err(Error::Plan(format!("weights number {index} have {} bytes, expected {}", bytes.len(), region.bytes)));
            }
            let address = self.address(region)?;
            self.bind(region.gpu)?;
            // SAFETY: `address` checked that the region lies within its allocation; the copy has ended when the call returns.
            unsafe { result::memcpy_htod_sync(address, bytes) }.doing(|| "upload weights".into())?;
        }
        // The copy may return before its last bytes have arrived: they are in flight to the device, ordered only on the default stream.
        for device in &self.placement.devices {
            device.context.synchronize().doing(|| "finish the upload of weights".into())?;
        }
        Ok(())
    }

    /// Runs one inference: copies the bytes of `inputs` in, calls `enqueue`, waits. On failure nothing is in flight any more when it returns.
    pub fn run(&mut self, inputs: &[&[u8]], enqueue: impl FnOnce(&mut Exec) -> Result<()>) -> Result<()> {
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
        let done = enqueue(self).and_then(|()| self.streams[self.origin.0].synchronize().doing(|| "finish an inference".into()));
        if done.is_err() {
            self.settle();
        }
        done
    }

    /// The values of an output, after [`Exec::run`]; `T` is the type of its elements.
    pub fn output<T: Element>(&self, output: usize) -> Vec<T> {
        T::values(self.outputs[output].memory.contents())
    }

    /// Enqueues a kernel; `regions` are its arguments.
    pub fn launch(&mut self, stream: Stream, kernel: &Kernel<'_>, regions: &[Region]) -> Result<()> {
        let gpu = self.gpu_of(stream)?;
        if let Some(stray) = regions.iter().find(|region| region.gpu != gpu) {
            return Err(Error::Plan(format!("kernel {} on GPU {gpu} reads memory of GPU {}", kernel.name, stray.gpu)));
        }
        let function = self.functions[self.placement.of_gpu[gpu]].get(kernel.index).and_then(Option::as_ref);
        let function = function.ok_or_else(|| Error::Plan(format!("kernel {} is not loaded on GPU {gpu}", kernel.name)))?;
        let addresses = regions.iter().map(|&region| self.address(region)).collect::<Result<Vec<_>>>()?;
        let mut call = self.streams[stream.0].launch_builder(function);
        for address in &addresses {
            call.arg(address);
        }
        let ([x, y, z], [bx, by, bz]) = (kernel.grid, kernel.block);
        let config = LaunchConfig { grid_dim: (x, y, z), block_dim: (bx, by, bz), shared_mem_bytes: kernel.shared_bytes };
        // SAFETY: every kernel of hiosc takes one pointer a tensor, in this order; the regions lie within live allocations, and the plan orders all accesses.
        unsafe { call.launch(config) }.doing(|| format!("launch kernel {}", kernel.name))?;
        Ok(())
    }

    /// Enqueues a copy between GPUs, on a copy stream.
    pub fn copy(&mut self, stream: Stream, from: Region, to: Region) -> Result<()> {
        if from.bytes != to.bytes || self.gpu_of(stream)? != from.gpu || self.links[stream.0].as_ref().is_none_or(|&(gpu, _)| gpu != to.gpu)
        {
            return Err(Error::Plan(format!("a copy from {from:?} to {to:?} on stream {}", stream.0)));
        }
        let (_, link) = self.links[stream.0].as_ref().ok_or_else(|| Error::Plan(format!("a copy on compute stream {}", stream.0)))?;
        link.copy(&self.streams[stream.0], self.address(to)?, self.address(from)?, from.bytes as usize)
    }

    /// Enqueues the copy of an input from host memory.
    pub fn upload(&mut self, stream: Stream, input: usize, to: Region) -> Result<()> {
        let memory = self.inputs.get(input).map(|host| &host.memory).filter(|memory| memory.bytes() as u64 == to.bytes);
        let memory = memory.ok_or_else(|| Error::Plan(format!("input {input} does not fit {to:?}")))?;
        let address = self.address(to)?;
        self.bind(self.gpu_of(stream)?)?;
        let cuda = self.streams[stream.0].cu_stream();
        // SAFETY: both sides hold `to.bytes` and live until all streams are idle.
        unsafe { sys::cuMemcpyHtoDAsync_v2(address, memory.address() as *const _, to.bytes as usize, cuda) }
            .result()
            .doing(|| format!("upload input {input}"))
    }

    /// Enqueues the copy of an output to host memory.
    pub fn download(&mut self, stream: Stream, output: usize, from: Region) -> Result<()> {
        let memory = self.outputs.get(output).map(|host| &host.memory).filter(|memory| memory.bytes() as u64 == from.bytes);
        let memory = memory.ok_or_else(|| Error::Plan(format!("output {output} does not fit {from:?}")))?;
        let address = self.address(from)?;
        self.bind(self.gpu_of(stream)?)?;
        let cuda = self.streams[stream.0].cu_stream();
        // SAFETY: both sides hold `from.bytes` and live until all streams are idle.
        unsafe { sys::cuMemcpyDtoHAsync_v2(memory.address() as *mut _, address, from.bytes as usize, cuda) }
            .result()
            .doing(|| format!("download output {output}"))
    }

    /// Marks the work enqueued on `stream` so far.
    pub fn record(&mut self, event: Event, stream: Stream) -> Result<()> {
        self.gpu_of(stream)?;
        self.event(event)?.record(&self.streams[stream.0]).doing(|| format!("record event {}", event.0))
    }

    /// Holds `stream` until `event` has happened.
    pub fn wait(&mut self, stream: Stream, event: Event) -> Result<()> {
        self.gpu_of(stream)?;
        self.streams[stream.0].wait(self.event(event)?).doing(|| format!("wait for event {}", event.0))
    }

    /// The machine's GPU of each logical GPU.
    pub fn placement(&self) -> Vec<usize> {
        self.placement.of_gpu.iter().map(|&d| self.placement.devices[d].ordinal).collect()
    }

    /// In words: which logical GPU is where, and how tensors travel.
    pub fn summary(&self) -> String {
        let mut text = String::new();
        for (gpu, &d) in self.placement.of_gpu.iter().enumerate() {
            let device = &self.placement.devices[d];
            let (major, minor) = device.capability;
            text += &format!("gpu{gpu}: GPU {} of {}, {} (sm_{major}{minor})\n", device.ordinal, self.placement.found, device.name);
        }
        let used = self.placement.devices.len();
        if used < self.gpus.len() {
            text += &format!("folded: {} logical GPUs share {used} of the machine\n", self.gpus.len());
        }
        for (stream, link) in self.links.iter().enumerate() {
            if let Some((to, link)) = link {
                text += &format!("gpu{} to gpu{to}: {}\n", self.gpu_of_stream[stream], link.name());
            }
        }
        text
    }

    fn gpu_of(&self, stream: Stream) -> Result<usize> {
        self.gpu_of_stream.get(stream.0).copied().ok_or_else(|| Error::Plan(format!("no stream {}", stream.0)))
    }

    fn event(&self, event: Event) -> Result<&CudaEvent> {
        self.events.get(event.0).ok_or_else(|| Error::Plan(format!("no event {}", event.0)))
    }

    fn bind(&self, gpu: usize) -> Result<()> {
        self.placement.devices[self.placement.of_gpu[gpu]].context.bind_to_thread().doing(|| "bind a context".into())
    }

    /// The address of a region, which must lie within its memory.
    fn address(&self, region: Region) -> Result<sys::CUdeviceptr> {
        let gpu = self.gpus.get(region.gpu).ok_or_else(|| Error::Plan(format!("no GPU {}", region.gpu)))?;
        let memory = if region.area == Area::Arena { &gpu.arena } else { &gpu.weights };
        match region.offset.checked_add(region.bytes) {
            Some(end) if end <= memory.bytes() => Ok(memory.address() + region.offset),
            _ => Err(Error::Plan(format!("{region:?} ends beyond {} bytes", memory.bytes()))),
        }
    }

    /// Waits until nothing is in flight; errors have been reported already, or will be by the next call.
    fn settle(&self) {
        for stream in self.streams.iter().map(|s| s.as_ref()).chain(self.links.iter().flatten().filter_map(|(_, link)| link.helper())) {
            let _ = stream.synchronize();
        }
    }
}

impl Drop for Exec {
    fn drop(&mut self) {
        self.settle();
    }
}

/// Allocates arenas and weights of all logical GPUs, after checking that each device has room for all of its own.
fn allocate(layout: &Layout<'_>, placement: &Placement) -> Result<Vec<Gpu>> {
    for (d, device) in placement.devices.iter().enumerate() {
        let own = layout.gpus.iter().zip(&placement.of_gpu).filter(|&(_, &of)| of == d);
        let needed: u64 = own.map(|(gpu, _)| gpu.arena_bytes + gpu.weights_bytes).sum();
        let (free, _) = device.context.mem_get_info().doing(|| "tell its free memory".into())?;
        if needed > free as u64 {
            return Err(Error::OutOfMemory { gpu: device.ordinal, needed, free: free as u64 });
        }
    }
    let memory = |gpu: usize, bytes: u64| {
        let device = &placement.devices[placement.of_gpu[gpu]];
        match DeviceMemory::allocate(&device.context, bytes)? {
            Some(memory) => Ok(memory),
            None => {
                let (free, _) = device.context.mem_get_info().doing(|| "tell its free memory".into())?;
                Err(Error::OutOfMemory { gpu: device.ordinal, needed: bytes, free: free as u64 })
            }
        }
    };
    let gpu = |(g, gpu): (usize, &super::layout::GpuLayout<'_>)| {
        Ok(Gpu { arena: memory(g, gpu.arena_bytes)?, weights: memory(g, gpu.weights_bytes)? })
    };
    layout.gpus.iter().enumerate().map(gpu).collect()
}
