//! Inferences on inputs and outputs that stay on the GPU.
//!
//! A graph contains fixed addresses, and a plan reuses the memory of an input as soon as the input
//! has been read. So the plan itself does not access the caller's buffers. Instead, each input and
//! output has a *resident buffer* in the memory of every GPU to which it is uploaded or from which
//! it is downloaded. [`Exec::run_device`] copies the caller's inputs to the resident buffers, runs
//! the plan with uploads and downloads between resident buffers and arena, and copies the outputs
//! to the caller's memory. The copies from and to the caller's memory run on the origin stream,
//! from device to device.
//!
//! If the resident buffer is on another GPU than the caller's buffer, the copy is a
//! `cuMemcpyPeerAsync`, which works with and without peer access. It cannot be captured, so these
//! copies run before and after the graph.

use cudarc::driver::{result, sys};

use super::error::{Error, Result};
use super::exec::Exec;
use super::graph::ExecutableGraph;
use super::memory::{DeviceMemory, ErrorContext};

/// An address in the memory of a GPU: the driver's `CUdeviceptr`.
pub type DevicePointer = sys::CUdeviceptr;

/// What [`Exec::run_device`] needs, made by its first call.
pub(super) struct Resident {
    graph: Option<ExecutableGraph>,
    inputs: Vec<ResidentBuffer>,
    outputs: Vec<ResidentBuffer>,
    /// Set while the plan is enqueued with resident buffers.
    active: bool,
}

struct ResidentBuffer {
    port: usize,
    gpu: usize,
    memory: DeviceMemory,
}

/// A resident buffer: port, logical GPU, address, bytes.
type ResidentSlot = (usize, usize, DevicePointer, usize);

fn find(buffers: &[ResidentBuffer], port: usize, gpu: usize) -> Option<DevicePointer> {
    buffers.iter().find(|buffer| (buffer.port, buffer.gpu) == (port, gpu)).map(|buffer| buffer.memory.address())
}

impl Exec {
    /// Runs one inference with inputs and outputs in memory of the plan's first GPU, given the
    /// address of each, in order. All work that the caller enqueued on these buffers must have
    /// completed. When the call returns, the outputs are complete. Inputs and outputs are copied,
    /// from device to device.
    ///
    /// # Safety
    ///
    /// Each address must point to memory of the GPU `placement()[0]` that holds the whole tensor,
    /// and nothing else may use that memory meanwhile.
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
            let slots = |exec: &Exec, out: bool| -> Vec<ResidentSlot> {
                let all = exec.resident.iter().flat_map(|r| if out { &r.outputs } else { &r.inputs });
                all.map(|l| (l.port, l.gpu, l.memory.address(), l.memory.bytes() as usize)).collect()
            };
            for (port, gpu, resident, bytes) in slots(exec, false) {
                exec.copy_across((resident, gpu), (inputs[port], 0), bytes)?;
            }
            exec.issue_resident(&mut enqueue)?;
            for (port, gpu, resident, bytes) in slots(exec, true) {
                exec.copy_across((outputs[port], 0), (resident, gpu), bytes)?;
            }
            Ok(())
        })
    }

    /// Runs one inference on the contents of the resident buffers, without copies from and to the
    /// caller's memory.
    pub(super) fn run_resident(&mut self, mut enqueue: impl FnMut(&mut Exec) -> Result<()>) -> Result<()> {
        self.make_resident(&mut enqueue)?;
        self.finish(|exec| exec.issue_resident(&mut enqueue))
    }

    /// The source of uploads of this input, while the plan is enqueued with resident buffers.
    pub(super) fn resident_input(&self, port: usize, gpu: usize) -> Option<DevicePointer> {
        self.resident.as_ref().filter(|r| r.active).and_then(|r| find(&r.inputs, port, gpu))
    }

    /// The destination of downloads of this output, while the plan is enqueued with resident
    /// buffers.
    pub(super) fn resident_output(&self, port: usize, gpu: usize) -> Option<DevicePointer> {
        self.resident.as_ref().filter(|r| r.active).and_then(|r| find(&r.outputs, port, gpu))
    }

    fn issue_resident(&mut self, enqueue: &mut impl FnMut(&mut Exec) -> Result<()>) -> Result<()> {
        let graph = self.resident.as_ref().and_then(|r| r.graph.as_ref()).filter(|_| self.replay);
        match graph {
            Some(graph) => graph.launch(),
            None => self.enqueue_staged(enqueue),
        }
    }

    /// Enqueues the plan with uploads from and downloads to the resident buffers.
    fn enqueue_staged(&mut self, enqueue: &mut impl FnMut(&mut Exec) -> Result<()>) -> Result<()> {
        let active = |exec: &mut Exec, active| exec.resident.iter_mut().for_each(|r| r.active = active);
        active(self, true);
        let issued = enqueue(self);
        active(self, false);
        issued
    }

    /// Allocates the resident buffers and captures their graph, once.
    fn make_resident(&mut self, enqueue: &mut impl FnMut(&mut Exec) -> Result<()>) -> Result<()> {
        if self.resident.is_some() {
            return Ok(());
        }
        if self.uploads.is_empty() && self.downloads.is_empty() {
            // Nothing has been enqueued so far. A first run shows which GPUs each input is uploaded
            // to.
            self.finish(&mut *enqueue)?;
        }
        let resident_buffer = |&(port, gpu): &(usize, usize), bytes: usize| {
            let memory = self.allocate(gpu, bytes as u64)?;
            let stream = self.stream_of(gpu)?.cu_stream();
            // SAFETY: the memory has `bytes` bytes, and outlives the synchronisation below.
            unsafe { result::memset_d8_async(memory.address(), 0, bytes, stream) }.context(|| "clear memory".into())?;
            Ok(ResidentBuffer { port, gpu, memory })
        };
        let inputs = self.uploads.iter().map(|at| resident_buffer(at, self.inputs[at.0].memory.bytes())).collect::<Result<_>>()?;
        let outputs = self.downloads.iter().map(|at| resident_buffer(at, self.outputs[at.0].memory.bytes())).collect::<Result<_>>()?;
        self.synchronise()?;
        self.resident = Some(Resident { graph: None, inputs, outputs, active: false });
        if self.graph.is_ok() {
            // The first capture worked, so this one should. If it fails, plain streams are used.
            let graph = ExecutableGraph::capture(&self.origin_stream(), || self.enqueue_staged(enqueue)).ok();
            if let Some(resident) = &mut self.resident {
                resident.graph = graph;
            }
        }
        Ok(())
    }

    /// Enqueues a copy on the origin stream. Both ends are (address, logical GPU).
    fn copy_across(&self, to: (DevicePointer, usize), from: (DevicePointer, usize), bytes: usize) -> Result<()> {
        let origin_stream = self.origin_stream();
        origin_stream.context().bind_to_thread().context(|| "bind a context".into())?;
        let [to_context, from_context] = [to.1, from.1].map(|gpu| self.context(gpu).cu_ctx());
        // SAFETY: the resident buffer has `bytes` bytes; the caller of `run_device` guarantees the
        // same of the other side.
        unsafe {
            if to_context == from_context {
                result::memcpy_dtod_async(to.0, from.0, bytes, origin_stream.cu_stream())
            } else {
                result::memcpy_peer_async(to_context, to.0, from_context, from.0, bytes, origin_stream.cu_stream())
            }
        }
        .context(|| "copy between a caller's memory and the model's".into())
    }
}
