//! Inputs and outputs that live on the GPU.
//!
//! A graph has its addresses baked in, and a plan reuses the memory of an input as soon as it has been read; so a caller's buffers are neither read nor
//! written by the plan itself. Each input and output has a *landing* buffer on every GPU that uploads or downloads it. [`Exec::run_device`] copies from the
//! caller's memory to the landings, runs the plan with uploads and downloads between landings and arena, and copies the outputs to the caller's
//! memory: from device to device, all on the origin stream. A landing on another GPU than the caller's is reached by `cuMemcpyPeerAsync`, which works with and without peer access;
//! it cannot be captured, and is not: these copies stand before and after the graph.

use cudarc::driver::{result, sys};

use super::error::{Error, Result};
use super::exec::Exec;
use super::graph::Graph;
use super::memory::{DeviceMemory, Doing};

/// An address in the memory of a GPU, as the driver counts them.
pub type DevicePointer = sys::CUdeviceptr;

/// What [`Exec::run_device`] needs, made by its first call.
pub(super) struct Resident {
    graph: Option<Graph>,
    inputs: Vec<Landing>,
    outputs: Vec<Landing>,
    /// While the plan is enqueued for them.
    active: bool,
}

struct Landing {
    port: usize,
    gpu: usize,
    memory: DeviceMemory,
}

/// A landing: port, logical GPU, address, bytes.
type Place = (usize, usize, DevicePointer, usize);

fn find(landings: &[Landing], port: usize, gpu: usize) -> Option<DevicePointer> {
    landings.iter().find(|landing| (landing.port, landing.gpu) == (port, gpu)).map(|landing| landing.memory.address())
}

impl Exec {
    /// Runs one inference from and to memory of the plan's first GPU: one address for each input and each output, in order. Whatever the caller enqueued on
    /// these buffers must be complete; the outputs are there when the call returns. Inputs and outputs are copied, from device to device.
    ///
    /// # Safety
    ///
    /// Each address must be of memory of the GPU `placement()[0]` that holds the tensor, and nothing else may use it meanwhile.
    pub unsafe fn run_device(
        &mut self,
        inputs: &[DevicePointer],
        outputs: &[DevicePointer],
        mut enqueue: impl FnMut(&mut Exec) -> Result<()>,
    ) -> Result<()> {
        if inputs.len() != self.inputs.len() {
            return Err(Error::InputCount { expected: self.inputs.len(), found: inputs.len() });
        }
        if outputs.len() != self.outputs.len() {
            return Err(Error::OutputCount { expected: self.outputs.len(), found: outputs.len() });
        }
        self.make_resident(&mut enqueue)?;
        self.finish(|exec| {
            let landings = |exec: &Exec, out: bool| -> Vec<Place> {
                let all = exec.resident.iter().flat_map(|r| if out { &r.outputs } else { &r.inputs });
                all.map(|l| (l.port, l.gpu, l.memory.address(), l.memory.bytes() as usize)).collect()
            };
            for (port, gpu, landing, bytes) in landings(exec, false) {
                exec.copy_across((landing, gpu), (inputs[port], 0), bytes)?;
            }
            exec.issue_resident(&mut enqueue)?;
            for (port, gpu, landing, bytes) in landings(exec, true) {
                exec.copy_across((outputs[port], 0), (landing, gpu), bytes)?;
            }
            Ok(())
        })
    }

    /// Runs one inference on what the landings hold: no copies from and to the caller's memory.
    pub(super) fn run_resident(&mut self, mut enqueue: impl FnMut(&mut Exec) -> Result<()>) -> Result<()> {
        self.make_resident(&mut enqueue)?;
        self.finish(|exec| exec.issue_resident(&mut enqueue))
    }

    /// Where uploads of this input come from, while the plan is to use its landings.
    pub(super) fn input_landing(&self, port: usize, gpu: usize) -> Option<DevicePointer> {
        self.resident.as_ref().filter(|r| r.active).and_then(|r| find(&r.inputs, port, gpu))
    }

    /// Where downloads of this output go, while the plan is to use its landings.
    pub(super) fn output_landing(&self, port: usize, gpu: usize) -> Option<DevicePointer> {
        self.resident.as_ref().filter(|r| r.active).and_then(|r| find(&r.outputs, port, gpu))
    }

    fn issue_resident(&mut self, enqueue: &mut impl FnMut(&mut Exec) -> Result<()>) -> Result<()> {
        let graph = self.resident.as_ref().and_then(|r| r.graph.as_ref()).filter(|_| self.replay);
        match graph {
            Some(graph) => graph.launch(),
            None => self.on_landings(enqueue),
        }
    }

    /// Enqueues the plan with uploads from and downloads to the landings.
    fn on_landings(&mut self, enqueue: &mut impl FnMut(&mut Exec) -> Result<()>) -> Result<()> {
        let active = |exec: &mut Exec, active| exec.resident.iter_mut().for_each(|r| r.active = active);
        active(self, true);
        let issued = enqueue(self);
        active(self, false);
        issued
    }

    /// Makes landings and graph, once.
    fn make_resident(&mut self, enqueue: &mut impl FnMut(&mut Exec) -> Result<()>) -> Result<()> {
        if self.resident.is_some() {
            return Ok(());
        }
        if self.uploads.is_empty() && self.downloads.is_empty() {
            // Nothing has been enqueued so far: which GPU has which input becomes known by doing so.
            self.finish(&mut *enqueue)?;
        }
        let landing = |&(port, gpu): &(usize, usize), bytes: usize| {
            let memory = self.allocate(gpu, bytes as u64)?;
            let stream = self.stream_of(gpu)?.cu_stream();
            // SAFETY: the memory holds `bytes`, and lives until the end of this, below. Its first contents are zeros.
            unsafe { result::memset_d8_async(memory.address(), 0, bytes, stream) }.doing(|| "clear memory".into())?;
            Ok(Landing { port, gpu, memory })
        };
        let inputs = self.uploads.iter().map(|at| landing(at, self.inputs[at.0].memory.bytes())).collect::<Result<_>>()?;
        let outputs = self.downloads.iter().map(|at| landing(at, self.outputs[at.0].memory.bytes())).collect::<Result<_>>()?;
        self.synchronise()?;
        self.resident = Some(Resident { graph: None, inputs, outputs, active: false });
        if self.graph.is_ok() {
            // Where the first capture worked this one should; if not, plain streams do.
            let graph = Graph::capture(&self.origin_stream(), || self.on_landings(enqueue)).ok();
            if let Some(resident) = &mut self.resident {
                resident.graph = graph;
            }
        }
        Ok(())
    }

    /// Enqueues a copy on the origin stream: (address, logical GPU) to and from.
    fn copy_across(&self, to: (DevicePointer, usize), from: (DevicePointer, usize), bytes: usize) -> Result<()> {
        let origin = self.origin_stream();
        origin.context().bind_to_thread().doing(|| "bind a context".into())?;
        let [to_context, from_context] = [to.1, from.1].map(|gpu| self.context(gpu).cu_ctx());
        // SAFETY: the landing holds `bytes`; the caller of `run_device` vouches for the other side.
        unsafe {
            if to_context == from_context {
                result::memcpy_dtod_async(to.0, from.0, bytes, origin.cu_stream())
            } else {
                result::memcpy_peer_async(to_context, to.0, from_context, from.0, bytes, origin.cu_stream())
            }
        }
        .doing(|| "copy between a caller's memory and the model's".into())
    }
}
