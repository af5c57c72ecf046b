//! The GPUs of a plan: logical ones mapped to physical ones, a context each, one arena and one weights region.

use std::ffi::c_void;
use std::sync::Arc;

use cudarc::driver::{CudaContext, result, sys};

use super::error::{Error, driver};
use super::spec::{BufferAt, GpuSpec, Region, Spec};
use super::Options;

/// A logical GPU, ready.
pub(super) struct Gpu {
    /// Number of the physical GPU.
    pub ordinal: usize,
    /// Its context; shared by all logical GPUs on it.
    pub context: Arc<CudaContext>,
    /// Its compute capability.
    pub capability: (i32, i32),
    arena: Allocation,
    weights: Allocation,
}

impl Gpu {
    /// Device address of a planned place.
    pub fn address(&self, at: BufferAt) -> sys::CUdeviceptr {
        let base = match at.region {
            Region::Arena => self.arena.address,
            Region::Weights => self.weights.address,
        };
        base + at.offset
    }
}

/// Device memory that is freed when dropped.
struct Allocation {
    context: Arc<CudaContext>,
    address: sys::CUdeviceptr,
}

impl Allocation {
    /// `bytes` of the memory of `context`, at least one so that the address is valid.
    fn new(context: &Arc<CudaContext>, bytes: u64) -> Result<Allocation, Error> {
        context.bind_to_thread().map_err(driver("cuCtxSetCurrent"))?;
        // SAFETY: the memory is used only through planned places inside it, and freed once, here.
        let address = unsafe { result::malloc_sync(bytes.max(1) as usize) }.map_err(driver("cuMemAlloc"))?;
        Ok(Allocation { context: context.clone(), address })
    }
}

impl Drop for Allocation {
    fn drop(&mut self) {
        if self.context.bind_to_thread().is_ok() {
            // SAFETY: allocated by `new`; `Exec` has synchronised before it drops its GPUs. An error cannot be reported here.
            unsafe { result::free_sync(self.address) }.ok();
        }
    }
}

/// Page-locked host memory for `f32` values, freed when dropped.
pub(super) struct Pinned {
    context: Arc<CudaContext>,
    start: *mut f32,
    len: usize,
}

impl Pinned {
    /// Zeros.
    pub fn new(context: &Arc<CudaContext>, len: usize) -> Result<Pinned, Error> {
        context.bind_to_thread().map_err(driver("cuCtxSetCurrent"))?;
        // portable: every context may use it
        let bytes = len.max(1) * size_of::<f32>();
        // SAFETY: freed once, in `drop`; initialised right below.
        let start = unsafe { result::malloc_host(bytes, sys::CU_MEMHOSTALLOC_PORTABLE) }.map_err(driver("cuMemHostAlloc"))?.cast::<f32>();
        // SAFETY: `bytes` bytes from `start` are ours, and all-zero bits are the value 0.0.
        unsafe { start.write_bytes(0, len.max(1)) };
        Ok(Pinned { context: context.clone(), start, len })
    }

    /// The values. No copy to or from them may be in flight.
    pub fn values(&self) -> &[f32] {
        // SAFETY: `len` initialised values from `start`; `Exec` reads only after synchronising.
        unsafe { std::slice::from_raw_parts(self.start, self.len) }
    }

    /// The values, to be changed. No copy to or from them may be in flight.
    pub fn values_mut(&mut self) -> &mut [f32] {
        // SAFETY: as in `values`, and `self` is borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.start, self.len) }
    }

    /// Where they are, for asynchronous copies.
    pub fn address(&self) -> *mut f32 {
        self.start
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        if self.context.bind_to_thread().is_ok() {
            // SAFETY: allocated by `new`, and nothing is in flight (see `Allocation`).
            unsafe { result::free_host(self.start.cast::<c_void>()) }.ok();
        }
    }
}

/// The physical GPU of each logical one.
fn mapping(options: &Options, planned: usize) -> Result<Vec<usize>, Error> {
    // SAFETY: only asks whether the library can be opened.
    if !unsafe { sys::is_culib_present() } {
        return Err(Error::NoDriver);
    }
    result::init().map_err(driver("cuInit"))?;
    let found = result::device::get_count().map_err(driver("cuDeviceGetCount"))?.max(0) as usize;
    if let Some(mapping) = &options.gpus {
        if mapping.len() != planned || mapping.iter().any(|&gpu| gpu >= found) {
            return Err(Error::BadGpuMapping { planned, found, mapping: mapping.clone() });
        }
        return Ok(mapping.clone());
    }
    if found >= planned {
        return Ok((0..planned).collect());
    }
    if options.fold && found > 0 {
        eprintln!("{planned} GPUs planned, {found} found: they are shared");
        return Ok((0..planned).map(|gpu| gpu % found).collect());
    }
    Err(Error::NotEnoughGpus { planned, found })
}

/// Opens the GPUs of `spec` and allocates their memory, after checking that it is free everywhere.
pub(super) fn open(spec: &Spec, options: &Options) -> Result<Vec<Gpu>, Error> {
    let mapping = mapping(options, spec.gpus.len())?;
    check_driver(spec)?;
    let mut contexts: Vec<(usize, Arc<CudaContext>)> = Vec::new();
    for &ordinal in &mapping {
        if contexts.iter().all(|(known, _)| *known != ordinal) {
            let context = CudaContext::new(ordinal).map_err(driver("cuDevicePrimaryCtxRetain"))?;
            // SAFETY: cudarc then no longer waits on our behalf before a buffer is used, freed or dropped. The plan's verifier has proved that every
            // access follows, by stream order and events, the accesses it depends on; memory is freed only after all work is done.
            unsafe { context.disable_event_tracking() };
            contexts.push((ordinal, context));
        }
    }
    for (ordinal, context) in &contexts {
        let on_it = mapping.iter().zip(spec.gpus).filter(|(o, _)| *o == ordinal);
        let needed: u64 = on_it.map(|(_, gpu)| gpu.arena_bytes + gpu.weights_bytes).sum();
        context.bind_to_thread().map_err(driver("cuCtxSetCurrent"))?;
        let (free, _) = result::mem_get_info().map_err(driver("cuMemGetInfo"))?;
        if needed > free as u64 {
            return Err(Error::OutOfMemory { gpu: *ordinal, needed, free: free as u64 });
        }
    }
    let ready = |(&ordinal, gpu): (&usize, &GpuSpec)| {
        let context = contexts.iter().find(|(known, _)| *known == ordinal).map(|(_, context)| context.clone());
        let context = context.ok_or(Error::NotEnoughGpus { planned: spec.gpus.len(), found: contexts.len() })?;
        let capability = context.compute_capability().map_err(driver("cuDeviceGetAttribute"))?;
        let arena = Allocation::new(&context, gpu.arena_bytes)?;
        let weights = Allocation::new(&context, gpu.weights_bytes)?;
        Ok(Gpu { ordinal, context, capability, arena, weights })
    };
    mapping.iter().zip(spec.gpus).map(ready).collect()
}

fn check_driver(spec: &Spec) -> Result<(), Error> {
    let mut found = 0;
    // SAFETY: writes one integer.
    unsafe { sys::cuDriverGetVersion(&mut found) }.result().map_err(driver("cuDriverGetVersion"))?;
    if found < spec.min_driver {
        return Err(Error::DriverTooOld { needed: spec.min_driver, found });
    }
    Ok(())
}
