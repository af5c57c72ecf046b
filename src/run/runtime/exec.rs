//! A loaded model, and the calls that a plan is made of: launch, copy, upload, download, record, wait.
//!
//! Calls only enqueue. A plan makes them in host issue order, on streams that order nothing but by events; that this is enough was proved by hiosc's
//! verifier when the plan was made. [`Exec::run`] waits for the origin stream, which all others join.

use std::ffi::c_void;
use std::sync::Arc;

use cudarc::driver::{CudaEvent, CudaStream, result};
use safetensors::SafeTensors;

use super::device::{self, Gpu, Pinned};
use super::error::{Error, driver};
use super::image::Functions;
use super::link::Link;
use super::spec::{BufferAt, Event, Kernel, KernelSpec, Region, Spec, Stream};
use super::Options;

/// A loaded model.
pub struct Exec {
    // in the order in which they must be dropped
    functions: Functions,
    links: Vec<Option<Link>>,
    events: Vec<CudaEvent>,
    streams: Vec<Arc<CudaStream>>,
    stream_gpus: Vec<usize>,
    inputs: Vec<Port>,
    outputs: Vec<Port>,
    gpus: Vec<Gpu>,
    kernels: Vec<Geometry>,
    origin: Stream,
}

struct Port {
    name: String,
    shape: Vec<usize>,
    pinned: Pinned,
}

struct Geometry {
    name: String,
    grid: [u32; 3],
    block: [u32; 3],
    shared_bytes: u32,
}

// SAFETY: the raw handles inside (functions, pinned memory) belong to contexts that may be used from any thread, one at a time: each call binds its
// context to the calling thread first. `Exec` is not `Sync`.
unsafe impl Send for Exec {}

impl Exec {
    /// Opens the GPUs, uploads the weights, loads the kernels, tests the links.
    pub fn load(spec: &Spec, options: &Options, weights: &SafeTensors) -> Result<Exec, Error> {
        let gpus = device::open(spec, options)?;
        upload_weights(spec, &gpus, weights)?;
        let functions = Functions::load(spec, &gpus)?;
        let streams = spec.streams.iter().map(|s| gpus[s.gpu].context.new_stream().map_err(driver("cuStreamCreate"))).collect::<Result<Vec<_>, _>>()?;
        let events = spec.events.iter().map(|&g| gpus[g].context.new_event(None).map_err(driver("cuEventCreate"))).collect::<Result<Vec<_>, _>>()?;
        let links = open_links(spec, &gpus, &streams)?;
        let port = |p: &super::PortSpec| {
            let pinned = Pinned::new(&gpus[spec.streams[spec.origin.0].gpu].context, p.elements())?;
            Ok(Port { name: p.name.into(), shape: p.shape.to_vec(), pinned })
        };
        let inputs = spec.inputs.iter().map(port).collect::<Result<_, _>>()?;
        let outputs = spec.outputs.iter().map(port).collect::<Result<_, _>>()?;
        let geometry = |k: &KernelSpec| Geometry { name: k.name.into(), grid: k.grid, block: k.block, shared_bytes: k.shared_bytes };
        Ok(Exec {
            functions,
            links,
            events,
            streams,
            stream_gpus: spec.streams.iter().map(|s| s.gpu).collect(),
            inputs,
            outputs,
            gpus,
            kernels: spec.kernels.iter().map(geometry).collect(),
            origin: spec.origin,
        })
    }

    /// One inference: copies `inputs` (row-major, in ONNX order) to pinned memory, lets `plan` enqueue its steps, and waits for the origin stream.
    /// The outputs are then in [`Exec::output`].
    pub fn run(&mut self, inputs: &[&[f32]], plan: impl FnOnce(&mut Exec) -> Result<(), Error>) -> Result<(), Error> {
        for (port, values) in self.inputs.iter_mut().zip(inputs) {
            let expected = port.pinned.values().len();
            if values.len() != expected {
                return Err(Error::InputLength { name: port.name.clone(), shape: port.shape.clone(), expected, found: values.len() });
            }
            port.pinned.values_mut().copy_from_slice(values);
        }
        let enqueued = plan(self);
        if enqueued.is_err() {
            self.synchronize_all(); // nothing may still run when the caller gets the error
            return enqueued;
        }
        self.streams[self.origin.0].synchronize().map_err(driver("cuStreamSynchronize"))
    }

    /// The values of output `i`, as of the latest run.
    pub fn output(&self, i: usize) -> &[f32] {
        self.outputs[i].pinned.values()
    }

    /// Launches `kernel` on `stream`, with the addresses of `arguments`.
    pub fn launch(&mut self, stream: Stream, kernel: Kernel, arguments: &[BufferAt]) -> Result<(), Error> {
        let gpu = self.bind(stream)?;
        let geometry = &self.kernels[kernel.0];
        let function = self.functions.get(gpu, kernel.0).ok_or_else(|| Error::Kernel {
            name: geometry.name.clone(),
            message: format!("was not loaded on gpu{gpu}"),
        })?;
        let mut addresses: Vec<u64> = arguments.iter().map(|&at| self.gpus[gpu].address(at)).collect();
        let mut parameters: Vec<*mut c_void> = addresses.iter_mut().map(|a| (a as *mut u64).cast()).collect();
        let three = |v: [u32; 3]| (v[0], v[1], v[2]);
        // SAFETY: the kernel takes one pointer an argument, and reads and writes inside the planned places; the driver copies the parameters before it
        // returns. The plan orders all accesses.
        let launched = unsafe {
            result::launch_kernel(
                function,
                three(geometry.grid),
                three(geometry.block),
                geometry.shared_bytes,
                self.streams[stream.0].cu_stream(),
                &mut parameters,
            )
        };
        launched.map_err(|e| Error::Kernel { name: geometry.name.clone(), message: driver("cuLaunchKernel")(e).to_string() })
    }

    /// Copies a tensor to another GPU, on the copy stream of the pair.
    pub fn copy(&mut self, stream: Stream, from: BufferAt, to: BufferAt) -> Result<(), Error> {
        self.bind(stream)?;
        let (source, target) = (self.gpus[from.gpu].address(from), self.gpus[to.gpu].address(to));
        match &self.links[stream.0] {
            Some(link) => link.copy(&self.streams[stream.0], source, target, from.bytes as usize),
            None => Err(Error::Driver { call: "copy", message: format!("stream {} carries no transfers", stream.0) }),
        }
    }

    /// Copies input `i` from pinned memory.
    pub fn upload(&mut self, stream: Stream, i: usize, to: BufferAt) -> Result<(), Error> {
        self.bind(stream)?;
        let address = self.gpus[to.gpu].address(to);
        // SAFETY: pinned memory that lives as long as `self`, and is not touched before the run is over.
        unsafe { result::memcpy_htod_async(address, self.inputs[i].pinned.values(), self.streams[stream.0].cu_stream()) }
            .map_err(driver("cuMemcpyHtoDAsync"))
    }

    /// Copies output `i` to pinned memory.
    pub fn download(&mut self, stream: Stream, from: BufferAt, i: usize) -> Result<(), Error> {
        self.bind(stream)?;
        let address = self.gpus[from.gpu].address(from);
        // SAFETY: as in `upload`.
        unsafe { result::memcpy_dtoh_async(self.outputs[i].pinned.values_mut(), address, self.streams[stream.0].cu_stream()) }
            .map_err(driver("cuMemcpyDtoHAsync"))
    }

    /// Marks the work enqueued on `stream` so far.
    pub fn record(&mut self, event: Event, stream: Stream) -> Result<(), Error> {
        self.events[event.0].record(&self.streams[stream.0]).map_err(driver("cuEventRecord"))
    }

    /// Holds `stream` until `event` has happened.
    pub fn wait(&mut self, stream: Stream, event: Event) -> Result<(), Error> {
        self.streams[stream.0].wait(&self.events[event.0]).map_err(driver("cuStreamWaitEvent"))
    }

    /// Binds the stream's context to this thread; gives the stream's logical GPU.
    fn bind(&self, stream: Stream) -> Result<usize, Error> {
        let gpu = self.stream_gpus[stream.0];
        self.gpus[gpu].context.bind_to_thread().map_err(driver("cuCtxSetCurrent"))?;
        Ok(gpu)
    }

    fn synchronize_all(&self) {
        for gpu in &self.gpus {
            gpu.context.synchronize().ok();
        }
    }
}

impl Drop for Exec {
    fn drop(&mut self) {
        self.synchronize_all();
    }
}

fn upload_weights(spec: &Spec, gpus: &[Gpu], weights: &SafeTensors) -> Result<(), Error> {
    for w in spec.weights {
        let fail = |message: String| Error::Weights { path: "weights.safetensors".into(), message };
        let tensor = weights.tensor(w.name).map_err(|e| fail(format!("{}: {e}", w.name)))?;
        if tensor.data().len() as u64 != w.bytes {
            return Err(fail(format!("{} has {} bytes, expected {}", w.name, tensor.data().len(), w.bytes)));
        }
        let gpu = &gpus[w.gpu];
        gpu.context.bind_to_thread().map_err(driver("cuCtxSetCurrent"))?;
        let address = gpu.address(BufferAt { gpu: w.gpu, region: Region::Weights, offset: w.offset, bytes: w.bytes });
        // SAFETY: the place lies inside the weights region, and nothing uses it yet.
        unsafe { result::memcpy_htod_sync(address, tensor.data()) }.map_err(driver("cuMemcpyHtoD"))?;
    }
    Ok(())
}

fn open_links(spec: &Spec, gpus: &[Gpu], streams: &[Arc<CudaStream>]) -> Result<Vec<Option<Link>>, Error> {
    let open = |(i, s): (usize, &super::StreamSpec)| match s.copies_to {
        Some((to, largest)) => Link::open(&gpus[s.gpu], &gpus[to], &streams[i], largest).map(Some),
        None => Ok(None),
    };
    spec.streams.iter().enumerate().map(open).collect()
}
