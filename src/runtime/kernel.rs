//! Loads each kernel on the GPUs that launch it: the best of its images for the GPU, or one that is
//! compiled now.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;

use cudarc::driver::{CudaContext, CudaFunction, sys};
use cudarc::nvrtc::Ptx;

use super::compile::virtual_nvrtc;
use super::device::{Device, DeviceMap, is_virtual};
use super::error::{Error, Result};
use super::layout::{Compile, ImageKind, KernelEntry, KernelImage, Layout};
use super::memory::{ErrorContext, describe};

/// A kernel with more dynamic shared memory than this must request it with a function attribute.
const DEFAULT_MAX_SHARED_BYTES: u32 = 48 * 1024;

/// `functions[device][kernel]`: the loaded kernels; `None` if the device does not launch one.
pub(super) fn load(layout: &Layout<'_>, device_map: &DeviceMap) -> Result<Vec<Vec<Option<CudaFunction>>>> {
    let mut functions = Vec::new();
    for (d, device) in device_map.devices.iter().enumerate() {
        let used = |kernel: &&KernelEntry<'_>| kernel.gpus.iter().any(|&gpu| device_map.device_of[gpu] == d);
        let wanted: Vec<&KernelEntry<'_>> = layout.kernels.iter().filter(used).collect();
        let mut loaded = vec![None; layout.kernels.len()];
        let from_sources = layout.compile.is_some() && is_virtual(&device.name) && virtual_nvrtc().is_some();
        let source_only = |kernel: &KernelEntry<'_>| from_sources || kernel.images.is_empty();
        let missing: Vec<&KernelEntry<'_>> = wanted.iter().copied().filter(|k| source_only(k)).collect();
        let compiled = compile_all(&missing, layout.compile, device)?;
        for (kernel, code) in missing.iter().zip(compiled) {
            loaded[kernel.index] = Some(function(kernel, code, &device.context)?);
        }
        for kernel in wanted.iter().filter(|k| !source_only(k)) {
            let image = choose(kernel.images, device.capability).ok_or_else(|| wrong_architecture(device, kernel.images))?;
            let mut code = image.bytes.to_vec();
            if image.kind == ImageKind::Ptx {
                code.push(0);
            }
            loaded[kernel.index] = Some(function(kernel, code, &device.context)?);
        }
        functions.push(loaded);
    }
    Ok(functions)
}

/// The machine code of the GPU's own major version with the highest minor version not above the
/// GPU's; otherwise the newest PTX that the GPU can run.
fn choose<'a>(images: &'a [KernelImage<'a>], found: (u32, u32)) -> Option<&'a KernelImage<'a>> {
    let newest = |kind, fits: &dyn Fn((u32, u32)) -> bool| images.iter().filter(|i| i.kind == kind && fits(i.arch)).max_by_key(|i| i.arch);
    newest(ImageKind::Cubin, &|arch| arch.0 == found.0 && arch.1 <= found.1).or_else(|| newest(ImageKind::Ptx, &|arch| arch <= found))
}

fn wrong_architecture(device: &Device, images: &[KernelImage<'_>]) -> Error {
    let images = images.iter().map(KernelImage::target).collect();
    Error::WrongArchitecture { gpu: device.ordinal, name: device.name.clone(), found: device.capability, images }
}

fn function(kernel: &KernelEntry<'_>, code: Vec<u8>, context: &Arc<CudaContext>) -> Result<CudaFunction> {
    let refused = |error| Error::Kernel { name: kernel.name.to_owned(), message: format!("the driver refused it: {}", describe(error)) };
    let module = context.load_module(Ptx::from_binary(code)).map_err(refused)?;
    let function = module.load_function(kernel.name).map_err(refused)?;
    if kernel.shared_bytes > DEFAULT_MAX_SHARED_BYTES {
        let attribute = sys::CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
        function
            .set_attribute(attribute, kernel.shared_bytes as i32)
            .context(|| format!("give kernel {} {} bytes of shared memory", kernel.name, kernel.shared_bytes))?;
    }
    Ok(function)
}

/// Compiles on all cores. The results are in the order of `kernels`; so is the failure that is
/// reported.
fn compile_all(kernels: &[&KernelEntry<'_>], compile: Option<Compile<'_>>, device: &Device) -> Result<Vec<Vec<u8>>> {
    if kernels.is_empty() {
        return Ok(Vec::new());
    }
    let Some(compile) = compile else { return Err(wrong_architecture(device, &[])) };
    let next = AtomicUsize::new(0);
    let (sender, receiver) = mpsc::channel();
    std::thread::scope(|scope| {
        let workers = std::thread::available_parallelism().map_or(1, |n| n.get()).min(kernels.len());
        for _ in 0..workers {
            let sender = sender.clone();
            scope.spawn(|| {
                let sender = sender;
                loop {
                    let i = next.fetch_add(1, Ordering::Relaxed);
                    let Some(kernel) = kernels.get(i) else { break };
                    let result = compile(kernel.name, device.capability);
                    // The receiver outlives the scope.
                    let _ = sender.send((i, result));
                }
            });
        }
    });
    drop(sender);
    let mut results: Vec<_> = receiver.iter().collect();
    results.sort_by_key(|&(i, _)| i);
    let failed = |i: usize, message| Error::Kernel { name: kernels[i].name.to_owned(), message };
    results.into_iter().map(|(i, result)| result.map_err(|message| failed(i, message))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_closest_image_is_chosen() {
        let image = |kind, major, minor| KernelImage { kind, arch: (major, minor), bytes: &[] };
        let images =
            [image(ImageKind::Cubin, 8, 0), image(ImageKind::Cubin, 8, 6), image(ImageKind::Cubin, 9, 0), image(ImageKind::Ptx, 7, 5)];
        let target = |found| choose(&images, found).map(KernelImage::target);
        assert_eq!(target((8, 6)).as_deref(), Some("sm_86"));
        assert_eq!(target((8, 9)).as_deref(), Some("sm_86"));
        assert_eq!(target((8, 5)).as_deref(), Some("sm_80"));
        assert_eq!(target((9, 0)).as_deref(), Some("sm_90"));
        assert_eq!(target((10, 0)).as_deref(), Some("compute_75"));
        assert_eq!(target((7, 0)), None);
    }
}
