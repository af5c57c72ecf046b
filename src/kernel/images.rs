<<<<<<< HEAD
//! From kernels to what the crate ships: compiled images where NVRTC is found, sources where it is not.
//!
//! **In**: the kernels that a plan launches. **Out**: [`Images`]. Each kernel is one unit; units are compiled in parallel, to a cubin for every
//! architecture of the target and to PTX for [`PTX_ARCHITECTURE`], which any newer GPU can load. Results are cached by content.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{fs, thread};
=======
//! Kernels compiled for GPUs: many at once, in parallel, and kept in the [cache](crate::cache) under a hash of everything they depend on.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{env, process, thread};
>>>>>>> kernels

use sha2::{Digest, Sha256};

use super::nvrtc::Nvrtc;
use super::{Kernel, headers};
<<<<<<< HEAD
use crate::cache;
use crate::cost::CostTable;
use crate::error::{Error, Result};
use crate::plan::{Plan, Step};

/// The oldest architecture that PTX is made for: the oldest one that NVRTC 13 knows.
pub const PTX_ARCHITECTURE: &str = "compute_75";

/// How kernels are shipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KernelMode {
    /// Compiled where NVRTC is found, else as sources.
    Auto,
    /// Compiled; without NVRTC an error.
    Binary,
    /// As sources: the crate compiles them when it is loaded, and needs NVRTC then.
    Source,
}

/// A compiled kernel for one architecture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// `sm_86` (a cubin) or `compute_75` (PTX).
    pub architecture: String,
    /// What NVRTC made.
    pub bytes: Vec<u8>,
}

/// The kernels of a crate, compiled or not.
#[derive(Clone, Debug)]
pub struct Images {
    /// All kernels that the plan launches, by name.
    pub kernels: Vec<Kernel>,
    /// Images of each kernel, by name; empty if only sources are shipped.
    pub images: BTreeMap<String, Vec<Image>>,
    /// Version of the NVRTC that made them.
    pub nvrtc: Option<(i32, i32)>,
    /// Why there are no images, if there are none.
    pub note: Option<String>,
}

/// Collects the kernels of `plan`, and compiles them as `mode` says.
pub fn build(costs: &CostTable, plan: &Plan, mode: KernelMode) -> Result<Images> {
    let mut kernels: BTreeMap<&str, &Kernel> = BTreeMap::new();
    for step in &plan.steps {
        if let Step::Launch { operator, stream, .. } = step {
            let gpu = plan.targets[plan.streams[stream.index()].gpu.index()];
            let kernel = &costs.operator(*operator, gpu).kernel;
            kernels.insert(&kernel.name, kernel);
        }
    }
    let kernels: Vec<Kernel> = kernels.into_values().cloned().collect();
    let sources = |kernels, note: String| Images { kernels, images: BTreeMap::new(), nvrtc: None, note: Some(note) };
    if mode == KernelMode::Source {
        return Ok(sources(kernels, "as asked for".into()));
    }
    let nvrtc = match Nvrtc::load() {
        Ok(nvrtc) => nvrtc,
        Err(why) if mode == KernelMode::Auto => return Ok(sources(kernels, why)),
        Err(why) => return Err(Error::Tool { tool: "NVRTC".into(), message: why }),
    };
    let mut architectures: Vec<String> =
        plan.targets.iter().map(|t| costs.gpus[t.index()].compute_capability).map(|(major, minor)| format!("sm_{major}{minor}")).collect();
    architectures.sort();
    architectures.dedup();
    architectures.push(PTX_ARCHITECTURE.into());
    let images = compile_all(&nvrtc, &kernels, &architectures)?;
    Ok(Images { kernels, images, nvrtc: Some(nvrtc.version()), note: None })
}

/// Every kernel for every architecture, on all cores. The first error in kernel order is reported.
fn compile_all(nvrtc: &Nvrtc, kernels: &[Kernel], architectures: &[String]) -> Result<BTreeMap<String, Vec<Image>>> {
    let units: Vec<(&Kernel, &String)> = kernels.iter().flat_map(|k| architectures.iter().map(move |a| (k, a))).collect();
    let next = AtomicUsize::new(0);
    let worker = || {
        let mut done = Vec::new();
        while let Some(&(kernel, architecture)) = units.get(next.fetch_add(1, Ordering::Relaxed)) {
            done.push((kernel, architecture, compile(nvrtc, kernel, architecture)));
        }
        done
    };
    let threads = thread::available_parallelism().map_or(1, |n| n.get()).min(units.len().max(1));
    let mut results: Vec<_> = thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().flat_map(|w| w.join().unwrap_or_default()).collect()
    });
    if results.len() != units.len() {
        return Err(Error::internal("kernel", "a compilation thread died"));
    }
    results.sort_by_key(|(kernel, architecture, _)| (kernel.name.clone(), (*architecture).clone()));
    let mut images: BTreeMap<String, Vec<Image>> = BTreeMap::new();
    for (kernel, architecture, result) in results {
        images.entry(kernel.name.clone()).or_default().push(Image { architecture: architecture.clone(), bytes: result? });
    }
    Ok(images)
}

/// One kernel for one architecture, from the cache if it is there.
fn compile(nvrtc: &Nvrtc, kernel: &Kernel, architecture: &str) -> Result<Vec<u8>> {
    let mut hash = Sha256::new();
    let mut add = |text: &str| {
        hash.update((text.len() as u64).to_le_bytes());
        hash.update(text);
    };
    add(&format!("{:?}", nvrtc.version()));
    add(architecture);
    add(&kernel.source);
    for (name, text) in headers() {
        add(name);
        add(text);
    }
    let name: String = hash.finalize().iter().map(|b| format!("{b:02x}")).collect();
    let folder = cache::dir().join("nvrtc");
    let cached = folder.join(name);
    if let Ok(bytes) = fs::read(&cached) {
        return Ok(bytes);
    }
    let bytes = nvrtc
        .compile(&kernel.name, &kernel.source, &headers(), architecture)
        .map_err(|message| Error::internal("kernel", format!("NVRTC refuses {}: {message}", kernel.name)))?;
    // a cache that cannot be written costs time, not correctness
    if fs::create_dir_all(&folder).is_ok()
        && let Ok(part) = tempfile::NamedTempFile::new_in(&folder)
        && fs::write(part.path(), &bytes).is_ok()
    {
        part.persist(&cached).ok();
    }
    Ok(bytes)
=======
use crate::{Error, Result, cache};

/// Changes when what this file writes changes its meaning.
const FORMAT: &str = "hiosc image 1";

/// One kernel compiled for one architecture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// [`Kernel::name`].
    pub kernel: String,
    /// What it runs on: `sm_86` (then it is a cubin) or `compute_75` (then it is PTX, text without a closing zero byte).
    pub arch: String,
    /// The image.
    pub data: Vec<u8>,
}

impl Image {
    /// Name of its file: `<kernel>.sm_86.cubin` or `<kernel>.compute_75.ptx`.
    pub fn file_name(&self) -> String {
        let kind = if is_cubin(&self.arch) { "cubin" } else { "ptx" };
        format!("{}.{}.{kind}", self.kernel, self.arch)
    }
}

/// Compiles every kernel for every architecture, on all processors; what the cache has is not compiled again. The images come in the
/// order of `kernels`, and of `archs` within one kernel.
pub fn compile_images(kernels: &[&Kernel], archs: &[String], nvrtc: &Nvrtc) -> Result<Vec<Image>> {
    compile_images_in(&cache::dir().join("images"), kernels, archs, nvrtc)
}

/// [`compile_images`] with the cache in `folder`.
fn compile_images_in(folder: &Path, kernels: &[&Kernel], archs: &[String], nvrtc: &Nvrtc) -> Result<Vec<Image>> {
    let headers: Vec<(&str, &str)> = headers().into_iter().map(|(path, text)| (path.trim_start_matches("kernels/"), text)).collect();
    let jobs: Vec<(&Kernel, &str)> = kernels.iter().flat_map(|k| archs.iter().map(move |arch| (*k, arch.as_str()))).collect();
    let done: Vec<Mutex<Option<Result<Vec<u8>>>>> = jobs.iter().map(|_| Mutex::new(None)).collect();
    let next = AtomicUsize::new(0);
    let work = || {
        loop {
            let i = next.fetch_add(1, Ordering::Relaxed);
            let Some((kernel, arch)) = jobs.get(i) else { break };
            *done[i].lock().unwrap_or_else(|e| e.into_inner()) = Some(image(folder, kernel, arch, &headers, nvrtc));
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
        .map(|(&(kernel, arch), result)| {
            let data = result.unwrap_or_else(|| Err(Error::internal("kernel", "an image was never compiled")))?;
            Ok(Image { kernel: kernel.name.clone(), arch: arch.to_string(), data })
        })
        .collect()
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
            "{location} returned something that is neither cubin nor PTX (virtual GPUs bring a stand-in of that name: \
             set HIOSC_NVRTC to the real one)"
        )));
    }
    // A cache that cannot be written costs time, not correctness.
    let _ = keep(&file, &data);
    Ok(data)
}

/// Whether `data` looks like what `arch` asks for.
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
>>>>>>> kernels
}
