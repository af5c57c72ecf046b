//! How a tensor gets from one GPU to another.
//!
//! For each ordered pair of GPUs between which the plan copies, one of three ways is chosen at load:
//! * **same**: both logical GPUs are one device: an ordinary copy. If they have contexts of their own (`Options::separate_contexts`), it is tested like a peer copy.
//! * **peer**: the devices reach each other's memory: a copy on unified addresses. `cuDeviceCanAccessPeer` alone is not believed (with an IOMMU in the way it
//!   can say yes while data is lost): two patterns are copied and read back, and any difference means *staged*.
//! * **staged**: two copies through page-locked host memory. The first runs on the plan's copy stream, on the source GPU; the second on a helper
//!   stream of the destination GPU, so that each touches memory of its own GPU only. Two events tie them together, and the copy stream waits for the second: what
//!   the plan records after the copy therefore still means "it has arrived", and one staging buffer serves all copies of the pair, one after the other.

use std::sync::Arc;

use cudarc::driver::{CudaContext, CudaEvent, CudaStream, result, sys};

use super::error::{Error, Result};
use super::memory::{DeviceMemory, Doing, Pinned};

/// The chosen way.
pub(super) enum Link {
    Same,
    Contexts,
    Peer,
    Staged(Box<Staging>),
}

/// What the way through host memory needs.
pub(super) struct Staging {
    buffer: Pinned,
    helper: Arc<CudaStream>,
    left: CudaEvent,
    arrived: CudaEvent,
}

impl Link {
    /// As in summaries.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Link::Same => "same device",
            Link::Contexts => "same device, another context",
            Link::Peer => "peer copy",
            Link::Staged(_) => "through host memory",
        }
    }

    /// Chooses the way from one GPU (that of `stream`) to another. Overwrites the beginning of both arenas.
    pub(super) fn choose(
        stream: &CudaStream,
        to: &Arc<CudaContext>,
        source: &DeviceMemory,
        target: &DeviceMemory,
        largest: u64,
    ) -> Result<Link> {
        let from = stream.context();
        if from.cu_ctx() == to.cu_ctx() {
            return Ok(Link::Same);
        }
        if from.ordinal() == to.ordinal() && carries_data(stream, to, source, target)? {
            return Ok(Link::Contexts);
        }
        if enable_peer(from, to)? && carries_data(stream, to, source, target)? {
            return Ok(Link::Peer);
        }
        Ok(Link::Staged(Box::new(Staging {
            buffer: Pinned::allocate(from, largest as usize)?,
            helper: to.new_stream().doing(|| "create a stream".into())?,
            left: from.new_event(None).doing(|| "create an event".into())?,
            arrived: to.new_event(None).doing(|| "create an event".into())?,
        })))
    }

    /// Enqueues a copy on `stream`, which lives on the source GPU.
    pub(super) fn copy(&self, stream: &CudaStream, to: sys::CUdeviceptr, from: sys::CUdeviceptr, bytes: usize) -> Result<()> {
        match self {
            Link::Same | Link::Contexts | Link::Peer => {
                stream.context().bind_to_thread().doing(|| "bind a context".into())?;
                // SAFETY: both regions lie within live allocations; the plan orders all accesses.
                unsafe { result::memcpy_dtod_async(to, from, bytes, stream.cu_stream()) }.doing(|| "copy between GPUs".into())
            }
            Link::Staged(staging) => staging.copy(stream, to, from, bytes),
        }
    }

    /// The helper stream, if there is one.
    pub(super) fn helper(&self) -> Option<&CudaStream> {
        match self {
            Link::Staged(staging) => Some(&staging.helper),
            _ => None,
        }
    }
}

impl Staging {
    fn copy(&self, stream: &CudaStream, to: sys::CUdeviceptr, from: sys::CUdeviceptr, bytes: usize) -> Result<()> {
        if bytes > self.buffer.bytes() {
            return Err(Error::Plan(format!("a copy of {bytes} bytes on a stream that carries {} at most", self.buffer.bytes())));
        }
        let host = self.buffer.address() as *mut std::ffi::c_void;
        stream.context().bind_to_thread().doing(|| "bind a context".into())?;
        // SAFETY: `host` holds `bytes` and lives until all streams are idle; the previous copy of this pair has left it, because `stream` waited for `arrived`.
        unsafe { sys::cuMemcpyDtoHAsync_v2(host, from, bytes, stream.cu_stream()) }.result().doing(|| "copy from a GPU".into())?;
        self.left.record(stream).doing(|| "record an event".into())?;
        self.helper.wait(&self.left).doing(|| "wait for an event".into())?;
        self.helper.context().bind_to_thread().doing(|| "bind a context".into())?;
        // SAFETY: as above; `helper` waits until the first half is done.
        unsafe { sys::cuMemcpyHtoDAsync_v2(to, host, bytes, self.helper.cu_stream()) }.result().doing(|| "copy to a GPU".into())?;
        self.arrived.record(&self.helper).doing(|| "record an event".into())?;
        stream.wait(&self.arrived).doing(|| "wait for an event".into())
    }
}

/// Maps the memory of `to` into `from`, where the driver says it can. It stays mapped: contexts are shared with the rest of the process.
fn enable_peer(from: &CudaContext, to: &CudaContext) -> Result<bool> {
    let mut can = 0;
    // SAFETY: writes one integer.
    unsafe { sys::cuDeviceCanAccessPeer(&mut can, from.cu_device(), to.cu_device()) }
        .result()
        .doing(|| "say whether two GPUs are peers".into())?;
    if can == 0 {
        return Ok(false);
    }
    from.bind_to_thread().doing(|| "bind a context".into())?;
    // SAFETY: both contexts are alive.
    match unsafe { sys::cuCtxEnablePeerAccess(to.cu_ctx(), 0) } {
        sys::CUresult::CUDA_SUCCESS | sys::CUresult::CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED => Ok(true),
        // Such as too many peers: the way through host memory remains.
        _ => Ok(false),
    }
}

/// Whether two patterns survive the way from `source` to `target`.
fn carries_data(stream: &CudaStream, to: &CudaContext, source: &DeviceMemory, target: &DeviceMemory) -> Result<bool> {
    const LARGEST: u64 = 1 << 20;
    let bytes = source.bytes().min(target.bytes()).min(LARGEST) as usize;
    for salt in [0x5au32, 0xa5] {
        let pattern: Vec<u8> = (0..bytes as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8 ^ salt as u8).collect();
        let mut seen = vec![0u8; bytes];
        stream.context().bind_to_thread().doing(|| "bind a context".into())?;
        // SAFETY: both allocations hold `bytes`; nothing else uses them yet; the synchronous copies return when they are done.
        unsafe {
            result::memcpy_htod_sync(source.address(), &pattern).doing(|| "write to a GPU".into())?;
            let copied = result::memcpy_dtod_async(target.address(), source.address(), bytes, stream.cu_stream());
            if copied.is_err() || stream.synchronize().is_err() {
                return Ok(false);
            }
            to.bind_to_thread().doing(|| "bind a context".into())?;
            result::memcpy_dtoh_sync(&mut seen, target.address()).doing(|| "read from a GPU".into())?;
        }
        if seen != pattern {
            return Ok(false);
        }
    }
    Ok(true)
}
