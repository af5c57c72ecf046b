//! Memory that is freed on drop: device memory, and pinned host memory.
//!
//! Device memory comes from plain `cuMemAlloc`: peers cannot access memory of cudarc's
//! stream-ordered pools without further calls.

use std::ffi::c_void;
use std::sync::Arc;

use cudarc::driver::{CudaContext, result, sys};

use super::error::{Error, Result};

/// Adds the operation that failed to a driver error.
pub(super) trait ErrorContext<T> {
    fn context(self, call: impl FnOnce() -> String) -> Result<T>;
}

impl<T> ErrorContext<T> for std::result::Result<T, result::DriverError> {
    fn context(self, call: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|error| Error::Driver { call: call(), message: describe(error) })
    }
}

/// `CUDA_ERROR_OUT_OF_MEMORY (out of memory)`.
pub(super) fn describe(error: result::DriverError) -> String {
    let text = |t: std::result::Result<&std::ffi::CStr, _>| t.map(|t: &std::ffi::CStr| t.to_string_lossy().into_owned()).ok();
    match (text(error.error_name()), text(error.error_string())) {
        (Some(name), Some(meaning)) => format!("{name} ({meaning})"),
        _ => format!("error {}", error.0 as u32),
    }
}

/// Device memory.
pub(super) struct DeviceMemory {
    context: Arc<CudaContext>,
    address: sys::CUdeviceptr,
    bytes: u64,
}

impl DeviceMemory {
    /// Allocates at least one byte, uninitialised. `Ok(None)` if the GPU has too little free
    /// memory.
    pub(super) fn allocate(context: &Arc<CudaContext>, bytes: u64) -> Result<Option<DeviceMemory>> {
        context.bind_to_thread().context(|| "bind a context".into())?;
        // SAFETY: the context is bound, the size is not zero, and the address is freed in `drop`
        // only.
        match unsafe { result::malloc_sync(bytes.max(1) as usize) } {
            Ok(address) => Ok(Some(DeviceMemory { context: context.clone(), address, bytes })),
            Err(error) if error.0 == sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY => Ok(None),
            Err(error) => Err(error).context(|| format!("allocate {bytes} bytes")),
        }
    }

    /// Its address.
    pub(super) fn address(&self) -> sys::CUdeviceptr {
        self.address
    }

    /// Its size.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Drop for DeviceMemory {
    fn drop(&mut self) {
        // A failure cannot be handled here. The driver frees what remains when the process ends.
        let _ = self.context.bind_to_thread();
        // SAFETY: allocated in `allocate`, freed once; `Exec` waits for its streams before it drops
        // any memory.
        let _ = unsafe { result::free_sync(self.address) };
    }
}

/// Host memory, pinned for every GPU. Not write-combined: the host reads it, which would then be
/// slow.
pub(super) struct Pinned {
    context: Arc<CudaContext>,
    address: *mut u8,
    bytes: usize,
}

// SAFETY: only this value owns the memory, and it has no thread affinity.
unsafe impl Send for Pinned {}

impl Pinned {
    /// Allocates zeroed memory.
    pub(super) fn allocate(context: &Arc<CudaContext>, bytes: usize) -> Result<Pinned> {
        context.bind_to_thread().context(|| "bind a context".into())?;
        // SAFETY: the context is bound and the size is not zero; freed in `drop` only.
        let address = match unsafe { result::malloc_host(bytes.max(1), sys::CU_MEMHOSTALLOC_PORTABLE) } {
            Ok(address) => address as *mut u8,
            Err(error) if error.0 == sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY => {
                return Err(Error::OutOfHostMemory { needed: bytes as u64 });
            }
            Err(error) => return Err(error).context(|| format!("allocate {bytes} bytes of pinned memory")),
        };
        // SAFETY: just allocated with at least this size.
        unsafe { address.write_bytes(0, bytes) };
        Ok(Pinned { context: context.clone(), address, bytes })
    }

    /// Its address.
    pub(super) fn address(&self) -> *mut u8 {
        self.address
    }

    /// Its size.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Its contents. No work that uses it may be in flight.
    pub(super) fn contents(&self) -> &[u8] {
        // SAFETY: initialised at allocation, with this size.
        unsafe { std::slice::from_raw_parts(self.address, self.bytes) }
    }

    /// Its contents. No work that uses it may be in flight.
    pub(super) fn contents_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and `self` is borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.address, self.bytes) }
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        let _ = self.context.bind_to_thread();
        // SAFETY: allocated in `allocate`, freed once, with no work in flight.
        let _ = unsafe { result::free_host(self.address as *mut c_void) };
    }
}
