//! Kernels: the right image for a GPU, or its source compiled on the spot.
//!
//! Of the images that a crate carries, a GPU takes the cubin of its own major version with the highest minor version not above its own, else PTX of
//! an architecture not above its own. A crate without images carries sources, which NVRTC compiles for the GPUs found, in parallel.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use cudarc::driver::{CudaContext, result, sys};

use super::device::Gpu;
use super::error::{Error, driver};
use super::nvrtc::Nvrtc;
use super::spec::{Image, KernelSpec, Spec};

/// A loaded module, unloaded when dropped.
struct Module {
    context: Arc<CudaContext>,
    module: sys::CUmodule,
}

impl Drop for Module {
    fn drop(&mut self) {
        if self.context.bind_to_thread().is_ok() {
            // SAFETY: loaded by `load`, unloaded once; `Exec` has synchronised before it drops its kernels.
            unsafe { result::module::unload(self.module) }.ok();
        }
    }
}

/// The functions of all kernels on all GPUs that launch them.
pub(super) struct Functions {
    /// `table[gpu][kernel]`
    table: Vec<Vec<Option<sys::CUfunction>>>,
    _modules: Vec<Module>,
}

impl Functions {
    /// The kernel's function on the logical GPU, if the plan launches it there.
    pub fn get(&self, gpu: usize, kernel: usize) -> Option<sys::CUfunction> {
        self.table.get(gpu)?.get(kernel).copied().flatten()
    }

    /// Loads every kernel where it is launched; a physical GPU loads it once.
    pub fn load(spec: &Spec, gpus: &[Gpu]) -> Result<Functions, Error> {
        check_architectures(spec, gpus)?;
        let compiled = compile_sources(spec, gpus)?;
        let mut loaded: BTreeMap<(usize, usize), sys::CUfunction> = BTreeMap::new();
        let mut modules = Vec::new();
        let mut table = vec![vec![None; spec.kernels.len()]; gpus.len()];
        for (k, kernel) in spec.kernels.iter().enumerate() {
            for &g in kernel.gpus {
                let gpu = &gpus[g];
                if let Some(&function) = loaded.get(&(gpu.ordinal, k)) {
                    table[g][k] = Some(function);
                    continue;
                }
                let bytes = match choose(kernel.images, gpu.capability) {
                    Some(image) => image.bytes,
                    None => compiled.get(&(k, gpu.capability)).map(Vec::as_slice).ok_or_else(|| wrong_architecture(spec, gpu))?,
                };
                let (module, function) = load(gpu, kernel, bytes)?;
                modules.push(module);
                loaded.insert((gpu.ordinal, k), function);
                table[g][k] = Some(function);
            }
        }
        Ok(Functions { table, _modules: modules })
    }
}

/// The best image for a GPU of this compute capability.
fn choose<'a>(images: &'a [Image<'a>], (major, minor): (i32, i32)) -> Option<&'a Image<'a>> {
    let version = |image: &Image, kind: &str| {
        let digits = image.architecture.strip_prefix(kind)?.parse::<i32>().ok()?;
        Some((digits / 10, digits % 10))
    };
    let cubin = |image: &&Image| version(image, "sm_").is_some_and(|v| v.0 == major && v.1 <= minor);
    let ptx = |image: &&Image| version(image, "compute_").is_some_and(|v| v <= (major, minor));
    let best = images.iter().filter(cubin).max_by_key(|i| version(i, "sm_"));
    best.or_else(|| images.iter().filter(ptx).max_by_key(|i| version(i, "compute_")))
}

fn check_architectures(spec: &Spec, gpus: &[Gpu]) -> Result<(), Error> {
    let fits = |gpu: &Gpu, kernel: &KernelSpec| match kernel.images {
        [] => gpu.capability >= spec.min_architecture,
        images => choose(images, gpu.capability).is_some(),
    };
    match gpus.iter().find(|gpu| !spec.kernels.iter().all(|kernel| fits(gpu, kernel))) {
        Some(gpu) => Err(wrong_architecture(spec, gpu)),
        None => Ok(()),
    }
}

fn wrong_architecture(spec: &Spec, gpu: &Gpu) -> Error {
    let mut carried: Vec<&str> = spec.kernels.iter().flat_map(|k| k.images).map(|i| i.architecture).collect();
    carried.sort_unstable();
    carried.dedup();
    let (major, minor) = spec.min_architecture;
    let expected = if carried.is_empty() { format!("{major}.{minor} or newer") } else { carried.join(", ") };
    let name = gpu.context.name().unwrap_or_else(|_| "unnamed".into());
    Error::WrongArchitecture { gpu: gpu.ordinal, name, found: gpu.capability, expected }
}

/// Compiles every kernel without images, for every compute capability that launches it, on all cores. Gives cubins by (kernel, capability).
fn compile_sources(spec: &Spec, gpus: &[Gpu]) -> Result<BTreeMap<(usize, (i32, i32)), Vec<u8>>, Error> {
    let mut wanted: Vec<(usize, (i32, i32))> = Vec::new();
    for (k, kernel) in spec.kernels.iter().enumerate().filter(|(_, kernel)| kernel.images.is_empty()) {
        wanted.extend(kernel.gpus.iter().map(|&g| (k, gpus[g].capability)));
    }
    wanted.sort_unstable();
    wanted.dedup();
    if wanted.is_empty() {
        return Ok(BTreeMap::new());
    }
    let nvrtc = Nvrtc::load().map_err(|message| Error::Kernel { name: spec.kernels[wanted[0].0].name.into(), message })?;
    let next = AtomicUsize::new(0);
    let worker = || {
        let mut done = Vec::new();
        while let Some(&(k, (major, minor))) = wanted.get(next.fetch_add(1, Ordering::Relaxed)) {
            let kernel = &spec.kernels[k];
            let cubin = nvrtc.compile(kernel.name, kernel.source, spec.headers, &format!("sm_{major}{minor}"));
            done.push(((k, (major, minor)), cubin));
        }
        done
    };
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get()).min(wanted.len());
    let results: Vec<_> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().filter_map(|w| w.join().ok()).flatten().collect()
    });
    let named = |((k, capability), cubin): (_, Result<Vec<u8>, String>)| match cubin {
        Ok(cubin) => Ok(((k, capability), cubin)),
        Err(message) => Err(Error::Kernel { name: spec.kernels[k].name.into(), message }),
    };
    results.into_iter().map(named).collect()
}

fn load(gpu: &Gpu, kernel: &KernelSpec, bytes: &[u8]) -> Result<(Module, sys::CUfunction), Error> {
    gpu.context.bind_to_thread().map_err(driver("cuCtxSetCurrent"))?;
    let fail = |e| Error::Kernel { name: kernel.name.into(), message: driver("cuModuleLoadData")(e).to_string() };
    // PTX is text and must end in a zero; a cubin knows its length
    let image = [bytes, &[0]].concat();
    // SAFETY: the image is complete, and the driver copies what it needs before it returns.
    let module = unsafe { result::module::load_data(image.as_ptr().cast()) }.map_err(fail)?;
    let module = Module { context: gpu.context.clone(), module };
    let name = CString::new(kernel.name).map_err(|e| Error::Kernel { name: kernel.name.into(), message: e.to_string() })?;
    // SAFETY: the module is loaded.
    let function = unsafe { result::module::get_function(module.module, name) }.map_err(fail)?;
    if kernel.shared_bytes > 48 << 10 {
        let attribute = sys::CUfunction_attribute_enum::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
        // SAFETY: the function is loaded.
        unsafe { result::function::set_function_attribute(function, attribute, kernel.shared_bytes as i32) }.map_err(fail)?;
    }
    Ok((module, function))
}
