//! Copies of tensors from one GPU to another.
//!
//! At load, one of three paths is chosen for each ordered pair of GPUs between which the plan has
//! copies:
//!
//! * **same**: both logical GPUs are one device: an ordinary copy. If they have separate contexts
//!   ([`RuntimeOptions::separate_contexts`](super::RuntimeOptions::separate_contexts)), it is
//!   tested like a peer copy.
//! * **peer**: the devices can access each other's memory: a copy with unified addresses.
//!   `cuDeviceCanAccessPeer` alone is not trusted: with an IOMMU between the devices it may report
//!   access although data is lost. So two patterns are copied and read back; any difference means
//!   *staged*.
//! * **staged**: two copies through pinned host memory. The first runs on the plan's copy stream,
//!   on the source GPU. The second runs on a helper stream of the destination GPU, so that each
//!   copy accesses memory of its own GPU only. Two events order them, and the copy stream waits for
//!   the second copy. So an event recorded after the copy still means that the data has arrived,
//!   and all copies of the pair can share one staging buffer.

use std::sync::Arc;

use cudarc::driver::{CudaContext, CudaEvent, CudaStream, result, sys};

use super::error::{Error, Result};
use super::memory::{DeviceMemory, ErrorContext, Pinned};

/// The chosen path.
pub(super) enum CopyPath {
    Same,
    Contexts,
    Peer,
    Staged(Box<HostStaging>),
}

/// The resources of a copy through host memory.
pub(super) struct HostStaging {
    buffer: Pinned,
    helper: Arc<CudaStream>,
    left: CudaEvent,
    arrived: CudaEvent,
}

impl CopyPath {
    /// Its name in summaries.
    pub(super) fn name(&self) -> &'static str {
        match self {
            CopyPath::Same => "same device",
            CopyPath::Contexts => "same device, another context",
            CopyPath::Peer => "peer copy",
            CopyPath::Staged(_) => "through host memory",
        }
    }

    /// Chooses the path from one GPU (that of `stream`) to another. Overwrites the beginning of
    /// both arenas.
    pub(super) fn choose(
        stream: &CudaStream,
        to: &Arc<CudaContext>,
        source: &DeviceMemory,
        target: &DeviceMemory,
        largest: u64,
    ) -> Result<CopyPath> {
        let from = stream.context();
        if from.cu_ctx() == to.cu_ctx() {
            return Ok(CopyPath::Same);
        }
        if from.ordinal() == to.ordinal() && carries_data(stream, to, source, target)? {
            return Ok(CopyPath::Contexts);
        }
        if enable_peer(from, to)? && carries_data(stream, to, source, target)? {
            return Ok(CopyPath::Peer);
        }
        Ok(CopyPath::Staged(Box::new(HostStaging {
            buffer: Pinned::allocate(from, largest as usize)?,
            helper: to.new_stream().context(|| "create a stream".into())?,
            left: from.new_event(None).context(|| "create an event".into())?,
            arrived: to.new_event(None).context(|| "create an event".into())?,
        })))
    }

    /// Enqueues a copy on `stream`, which runs on the source GPU.
    pub(super) fn copy(&self, stream: &CudaStream, to: sys::CUdeviceptr, from: sys::CUdeviceptr, bytes: usize) -> Result<()> {
        match self {
            CopyPath::Same | CopyPath::Contexts | CopyPath::Peer => {
                stream.context().bind_to_thread().context(|| "bind a context".into())?;
                // SAFETY: both regions are within live allocations; the plan orders all accesses.
                unsafe { result::memcpy_dtod_async(to, from, bytes, stream.cu_stream()) }.context(|| "copy between GPUs".into())
            }
            CopyPath::Staged(staging) => staging.copy(stream, to, from, bytes),
        }
    }

    /// The helper stream, if there is one.
    pub(super) fn helper(&self) -> Option<&CudaStream> {
        match self {
            CopyPath::Staged(staging) => Some(&staging.helper),
            _ => None,
        }
    }
}

impl HostStaging {
    fn copy(&self, stream: &CudaStream, to: sys::CUdeviceptr, from: sys::CUdeviceptr, bytes: usize) -> Result<()> {
        if bytes > self.buffer.bytes() {
            return Err(Error::Plan(format!("a copy of {bytes} bytes on a stream for copies of at most {} bytes", self.buffer.bytes())));
        }
        let host = self.buffer.address() as *mut std::ffi::c_void;
        stream.context().bind_to_thread().context(|| "bind a context".into())?;
        // SAFETY: `host` has at least `bytes` bytes and lives until all streams are idle. The
        // previous copy of this pair has finished with it, because `stream` waited for `arrived`.
        unsafe { sys::cuMemcpyDtoHAsync_v2(host, from, bytes, stream.cu_stream()) }.result().context(|| "copy from a GPU".into())?;
        self.left.record(stream).context(|| "record an event".into())?;
        self.helper.wait(&self.left).context(|| "wait for an event".into())?;
        self.helper.context().bind_to_thread().context(|| "bind a context".into())?;
        // SAFETY: as above; `helper` waits for the first copy.
        unsafe { sys::cuMemcpyHtoDAsync_v2(to, host, bytes, self.helper.cu_stream()) }.result().context(|| "copy to a GPU".into())?;
        self.arrived.record(&self.helper).context(|| "record an event".into())?;
        stream.wait(&self.arrived).context(|| "wait for an event".into())
    }
}

/// Maps the memory of `to` into `from`, if the driver supports it. It stays mapped: the rest of the
/// process shares the contexts.
fn enable_peer(from: &CudaContext, to: &CudaContext) -> Result<bool> {
    let mut can = 0;
    // SAFETY: writes one integer.
    unsafe { sys::cuDeviceCanAccessPeer(&mut can, from.cu_device(), to.cu_device()) }
        .result()
        .context(|| "report whether two GPUs are peers".into())?;
    if can == 0 {
        return Ok(false);
    }
    from.bind_to_thread().context(|| "bind a context".into())?;
    // SAFETY: both contexts are alive.
    match unsafe { sys::cuCtxEnablePeerAccess(to.cu_ctx(), 0) } {
        sys::CUresult::CUDA_SUCCESS | sys::CUresult::CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED => Ok(true),
        // For example too many peers: the copy then goes through host memory.
        _ => Ok(false),
    }
}

/// Whether two patterns arrive unchanged when they are copied from `source` to `target`.
fn carries_data(stream: &CudaStream, to: &CudaContext, source: &DeviceMemory, target: &DeviceMemory) -> Result<bool> {
    const LARGEST: u64 = 1 << 20;
    let bytes = source.bytes().min(target.bytes()).min(LARGEST) as usize;
    for salt in [0x5au32, 0xa5] {
        let pattern: Vec<u8> = (0..bytes as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8 ^ salt as u8).collect();
        let mut seen = vec![0u8; bytes];
        stream.context().bind_to_thread().context(|| "bind a context".into())?;
        // SAFETY: both allocations have at least `bytes` bytes; nothing else uses them yet; the
        // synchronous copies return when they are done.
        unsafe {
            result::memcpy_htod_sync(source.address(), &pattern).context(|| "write to a GPU".into())?;
            let copied = result::memcpy_dtod_async(target.address(), source.address(), bytes, stream.cu_stream());
            if copied.is_err() || stream.synchronize().is_err() {
                return Ok(false);
            }
            to.bind_to_thread().context(|| "bind a context".into())?;
            result::memcpy_dtoh_sync(&mut seen, target.address()).context(|| "read from a GPU".into())?;
        }
        if seen != pattern {
            return Ok(false);
        }
    }
    Ok(true)
}
