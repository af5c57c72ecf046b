//! Compiles kernels for GPUs, many in parallel, and keeps the images in the [cache](crate::cache)
//! under a hash of everything they depend on.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{env, process, thread};

use sha2::{Digest, Sha256};

use crate::kernel::{Kernel, headers};
use crate::runtime::nvrtc::Nvrtc;
use crate::{Error, Result, cache, progress};

/// Changes when the format of cached images changes.
const FORMAT: &str = "hiosc image 1";

/// One kernel compiled for one architecture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompiledImage {
    /// [`Kernel::name`].
    pub kernel: String,
    /// Its target: `sm_86` for a cubin, or `compute_75` for PTX (text without a terminating zero
    /// byte).
    pub arch: String,
    /// The image.
    pub data: Vec<u8>,
}

impl CompiledImage {
    /// `sm_86` as ("sm", (8, 6)), `compute_75` as ("compute", (7, 5)).
    pub fn target(&self) -> (&str, (u32, u32)) {
        let (kind, digits) = self.arch.split_once('_').unwrap_or((&self.arch, ""));
        let version: u32 = digits.parse().unwrap_or(0);
        (kind, (version / 10, version % 10))
    }

    /// Name of its file: `<kernel>.sm_86.cubin` or `<kernel>.compute_75.ptx`.
    pub fn file_name(&self) -> String {
        let kind = if is_cubin(&self.arch) { "cubin" } else { "ptx" };
        format!("{}.{}.{kind}", self.kernel, self.arch)
    }
}

/// Compiles every kernel for every architecture, on all processors, except what the cache has. The
/// images are in the order of `kernels`, and of `archs` within one kernel. A kernel that needs a
/// newer GPU gets no machine code for older ones, and PTX for the oldest one that runs it.
pub fn compile_images(kernels: &[&Kernel], archs: &[String], nvrtc: &Nvrtc) -> Result<Vec<CompiledImage>> {
    compile_images_in(&cache::dir().join("images"), kernels, archs, nvrtc)
}

/// [`compile_images`] with the cache in `folder`.
fn compile_images_in(folder: &Path, kernels: &[&Kernel], archs: &[String], nvrtc: &Nvrtc) -> Result<Vec<CompiledImage>> {
    let headers = headers();
    let jobs: Vec<(&Kernel, String)> =
        kernels.iter().flat_map(|&kernel| archs.iter().filter_map(move |arch| Some((kernel, suited(kernel, arch)?)))).collect();
    let done: Vec<Mutex<Option<Result<Vec<u8>>>>> = jobs.iter().map(|_| Mutex::new(None)).collect();
    let (next, finished) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let work = || {
        loop {
            let i = next.fetch_add(1, Ordering::Relaxed);
            let Some((kernel, arch)) = jobs.get(i) else { break };
            *done[i].lock().unwrap_or_else(|e| e.into_inner()) = Some(image(folder, kernel, arch, &headers, nvrtc));
            progress::step("compiling kernels", finished.fetch_add(1, Ordering::Relaxed) as u64 + 1, jobs.len() as u64);
        }
    };
    let threads = thread::available_parallelism().map_or(1, |n| n.get()).min(jobs.len());
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    let results = done.into_iter().map(|slot| slot.into_inner().unwrap_or_else(|e| e.into_inner()));
    jobs.iter()
        .zip(results)
        .map(|((kernel, arch), result)| {
            let data = result.unwrap_or_else(|| Err(Error::internal("program", "an image was never compiled")))?;
            Ok(CompiledImage { kernel: kernel.name.clone(), arch: arch.to_string(), data })
        })
        .collect()
}

/// The architecture to compile `kernel` for if `arch` is wanted; `None` if it does not run there.
fn suited(kernel: &Kernel, arch: &str) -> Option<String> {
    let (kind, number) = arch.split_once('_')?;
    let (major, minor) = kernel.min_capability;
    match number.parse::<u32>() {
        Ok(number) if number < 10 * major + minor => (kind == "compute").then(|| format!("compute_{major}{minor}")),
        _ => Some(arch.to_string()),
    }
}

fn is_cubin(arch: &str) -> bool {
    arch.starts_with("sm_")
}

/// One image, from the cache or from NVRTC.
fn image(folder: &Path, kernel: &Kernel, arch: &str, headers: &[(&str, &str)], nvrtc: &Nvrtc) -> Result<Vec<u8>> {
    let file = folder.join(key(kernel, arch, headers, nvrtc));
    if let Some(data) = fs::read(&file).ok().filter(|data| genuine(data, arch)) {
        return Ok(data);
    }
    let failed = |message: String| Error::Tool { tool: "NVRTC".into(), message };
    let data = nvrtc.compile(&format!("{}.cu", kernel.name), &kernel.source, headers, arch).map_err(failed)?;
    if !genuine(&data, arch) {
        let location = nvrtc.location();
        return Err(failed(format!(
            "{location} returned something that is neither cubin nor PTX (the virtual GPUs' stand-in for NVRTC does this: \
             set HIOSC_NVRTC to the real library)"
        )));
    }
    // A cache that cannot be written costs time, not correctness.
    let _ = keep(&file, &data);
    Ok(data)
}

/// Whether `data` looks like an image for `arch`.
fn genuine(data: &[u8], arch: &str) -> bool {
    if is_cubin(arch) { data.starts_with(b"\x7fELF") } else { data.windows(8).any(|w| w == b".version") }
}

fn key(kernel: &Kernel, arch: &str, headers: &[(&str, &str)], nvrtc: &Nvrtc) -> String {
    let (major, minor) = nvrtc.version();
    let version = format!("{major}.{minor}");
    let own = [FORMAT, &version, arch, &kernel.name, &kernel.source];
    let mut hash = Sha256::new();
    for part in own.into_iter().chain(headers.iter().flat_map(|(name, text)| [*name, *text])) {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Writes `file` so that it appears whole or not at all.
fn keep(file: &Path, data: &[u8]) -> std::io::Result<()> {
    let folder = file.parent().map_or_else(env::temp_dir, PathBuf::from);
    fs::create_dir_all(&folder)?;
    let mut temporary = tempfile::Builder::new().prefix(&format!("{}-", process::id())).tempfile_in(&folder)?;
    temporary.write_all(data)?;
    temporary.persist(file)?;
    Ok(())
}
