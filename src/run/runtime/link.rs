//! How a tensor gets from one GPU to another. Chosen at load for each copy stream, by a test with data: `cuDeviceCanAccessPeer` may say yes where
//! data is lost (an IOMMU that translates).
//!
//! * Both logical GPUs on one device: a plain copy.
//! * A sound peer link: a copy between unified addresses.
//! * Otherwise two copies through pinned host memory. The second one runs on a stream of the destination, held by an event until the first is done;
//!   the copy stream in turn is held until the second is done, so that what follows on it follows the whole transfer.

use std::sync::Arc;

use cudarc::driver::{CudaEvent, CudaStream, result, sys};

use super::device::{Gpu, Pinned};
use super::error::{Error, driver};
use super::spec::{BufferAt, Region};

/// Bytes that the test of a peer link moves.
const TEST_BYTES: usize = 256;

/// The way from one GPU to another.
pub(super) enum Link {
    /// A copy between unified addresses.
    Direct,
    /// Two copies through pinned host memory.
    Staged(Box<Staged>),
}

/// What the two copies need.
pub(super) struct Staged {
    buffer: Pinned,
    arrived: CudaEvent,
    onward: Arc<CudaStream>,
    delivered: CudaEvent,
}

impl Link {
    /// The link from `from` to `to`, whose largest tensor has `bytes`.
    pub fn open(from: &Gpu, to: &Gpu, stream: &Arc<CudaStream>, bytes: u64) -> Result<Link, Error> {
        if from.ordinal == to.ordinal || peer_works(from, to, stream)? {
            return Ok(Link::Direct);
        }
        Ok(Link::Staged(Box::new(Staged {
            buffer: Pinned::new(&from.context, bytes.div_ceil(4) as usize)?,
            arrived: from.context.new_event(None).map_err(driver("cuEventCreate"))?,
            onward: to.context.new_stream().map_err(driver("cuStreamCreate"))?,
            delivered: to.context.new_event(None).map_err(driver("cuEventCreate"))?,
        })))
    }

    /// Enqueues a copy on `stream`, a stream of the source.
    pub fn copy(&self, stream: &CudaStream, from: sys::CUdeviceptr, to: sys::CUdeviceptr, bytes: usize) -> Result<(), Error> {
        match self {
            // SAFETY: both addresses are planned places of at least `bytes`, reachable from the stream's context.
            Link::Direct => unsafe { result::memcpy_dtod_async(to, from, bytes, stream.cu_stream()) }.map_err(driver("cuMemcpyDtoDAsync")),
            Link::Staged(staged) => staged.copy(stream, from, to, bytes),
        }
    }
}

impl Staged {
    fn copy(&self, stream: &CudaStream, from: sys::CUdeviceptr, to: sys::CUdeviceptr, bytes: usize) -> Result<(), Error> {
        // SAFETY: the buffer holds the largest tensor of this link and lives as long as the streams; the streams are ordered by the events around it,
        // and transfers of one link by the copy stream, so only one uses it at a time.
        let host = unsafe { std::slice::from_raw_parts_mut(self.buffer.address().cast::<u8>(), bytes) };
        stream.context().bind_to_thread().map_err(driver("cuCtxSetCurrent"))?;
        // SAFETY: as above.
        unsafe { result::memcpy_dtoh_async(host, from, stream.cu_stream()) }.map_err(driver("cuMemcpyDtoHAsync"))?;
        self.arrived.record(stream).map_err(driver("cuEventRecord"))?;
        self.onward.wait(&self.arrived).map_err(driver("cuStreamWaitEvent"))?;
        self.onward.context().bind_to_thread().map_err(driver("cuCtxSetCurrent"))?;
        // SAFETY: as above.
        unsafe { result::memcpy_htod_async(to, host, self.onward.cu_stream()) }.map_err(driver("cuMemcpyHtoDAsync"))?;
        self.delivered.record(&self.onward).map_err(driver("cuEventRecord"))?;
        stream.wait(&self.delivered).map_err(driver("cuStreamWaitEvent"))
    }
}

/// Whether `from` can write to `to` and what it writes arrives.
fn peer_works(from: &Gpu, to: &Gpu, stream: &Arc<CudaStream>) -> Result<bool, Error> {
    let mut possible = 0;
    // SAFETY: writes one integer.
    let asked = unsafe { sys::cuDeviceCanAccessPeer(&mut possible, from.context.cu_device(), to.context.cu_device()) };
    if asked.result().is_err() || possible == 0 {
        return Ok(false);
    }
    from.context.bind_to_thread().map_err(driver("cuCtxSetCurrent"))?;
    // SAFETY: enables access between two live contexts; that it is enabled already is fine.
    let enabled = unsafe { sys::cuCtxEnablePeerAccess(to.context.cu_ctx(), 0) };
    if !matches!(enabled, sys::CUresult::CUDA_SUCCESS | sys::CUresult::CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED) {
        return Ok(false);
    }
    // the beginning of each arena serves as scratch: nothing has run yet
    let start = |gpu| BufferAt { gpu, region: Region::Arena, offset: 0, bytes: TEST_BYTES as u64 };
    let (source, target) = (from.address(start(0)), to.address(start(0)));
    let pattern: Vec<u8> = (0..TEST_BYTES).map(|i| (i * 37 + 11) as u8).collect();
    let mut arrived = vec![0u8; TEST_BYTES];
    // SAFETY: arenas are at least TEST_BYTES long (offsets are multiples of 256), and nothing else uses them yet.
    let moved = unsafe {
        result::memcpy_htod_sync(source, &pattern)
            .and_then(|()| result::memcpy_dtod_async(target, source, TEST_BYTES, stream.cu_stream()))
            .and_then(|()| stream.synchronize())
            .and_then(|()| to.context.bind_to_thread())
            .and_then(|()| result::memcpy_dtoh_sync(&mut arrived, target))
    };
    Ok(moved.is_ok() && arrived == pattern)
}
