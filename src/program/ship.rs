//! From kernels to what the crate ships: compiled images if NVRTC is found, otherwise sources.
//!
//! **In**: the kernels that a plan launches. **Out**: [`Shipped`]. Each kernel is compiled to a
//! cubin for every architecture of the target that it runs on, and to PTX, which any newer GPU can
//! load (see `images.rs`).

use std::collections::{BTreeMap, BTreeSet};

use super::{CompiledImage, compile_images, launched};
use crate::cost::CostTable;
use crate::error::{Error, Result};
use crate::kernel::Kernel;
use crate::plan::{Plan, Step};
use crate::runtime::nvrtc::Nvrtc;

/// The architecture that PTX is made for: the oldest one with asynchronous copies.
pub const PTX_ARCHITECTURE: &str = "compute_80";

/// The same if an older GPU is among the targets: the oldest one that NVRTC 13 knows.
const OLD_PTX_ARCHITECTURE: &str = "compute_75";

/// How kernels are shipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum KernelMode {
    /// Compiled if NVRTC is found, otherwise as sources.
    Auto,
    /// Compiled. Without NVRTC this is an error.
    Binary,
    /// As sources. The crate compiles them at load, and needs NVRTC then.
    Source,
}

/// The kernels of a crate, compiled or not.
#[derive(Clone, Debug, Default)]
pub struct Shipped {
    /// All kernels that the plan launches, by name.
    pub kernels: Vec<Kernel>,
    /// Images of each kernel, by name; empty if only sources are shipped.
    pub images: BTreeMap<String, Vec<CompiledImage>>,
    /// Version of the NVRTC that compiled them.
    pub nvrtc: Option<(i32, i32)>,
    /// The reason if there are no images.
    pub note: Option<String>,
}

impl Shipped {
    /// The oldest CUDA version whose driver can load them, in the driver's encoding: 12000 is 12.0.
    /// A cubin runs on every driver of NVRTC's major version.
    pub fn driver(&self) -> i32 {
        self.nvrtc.map_or(12, |(major, _)| major).max(12) * 1000
    }
}

/// Collects the kernels that `plan` launches, and compiles them as `mode` says.
pub fn ship(costs: &CostTable, plan: &Plan, mode: KernelMode) -> Result<Shipped> {
    let mut kernels: BTreeMap<&str, &Kernel> = BTreeMap::new();
    for step in &plan.steps {
        if let Step::Launch { operators, stream, .. } = step {
            let kernel = &launched(costs, plan, operators, *stream)?.kernel;
            kernels.insert(&kernel.name, kernel);
        }
    }
    let kernels: Vec<Kernel> = kernels.into_values().cloned().collect();
    let sources = |kernels, note: String| Shipped { kernels, images: BTreeMap::new(), nvrtc: None, note: Some(note) };
    if mode == KernelMode::Source {
        return Ok(sources(kernels, "as requested".into()));
    }
    let nvrtc = match Nvrtc::load() {
        Ok(nvrtc) => nvrtc,
        Err(why) if mode == KernelMode::Auto => return Ok(sources(kernels, why)),
        Err(why) => return Err(Error::Tool { tool: "NVRTC".into(), message: why }),
    };
    let architectures = architectures(plan.targets.iter().map(|t| costs.gpus[t.index()].compute_capability));
    let mut images: BTreeMap<String, Vec<CompiledImage>> = BTreeMap::new();
    for image in compile_images(&kernels.iter().collect::<Vec<_>>(), &architectures, &nvrtc)? {
        images.entry(image.kernel.clone()).or_default().push(image);
    }
    Ok(Shipped { kernels, images, nvrtc: Some(nvrtc.version()), note: None })
}

/// The targets of every kernel: machine code for each kind of GPU, PTX for newer ones. Every kernel
/// is compiled for all kinds, since one GPU may run the parts of several logical GPUs.
fn architectures(capabilities: impl Iterator<Item = (u32, u32)>) -> Vec<String> {
    let kinds: BTreeSet<(u32, u32)> = capabilities.collect();
    let ptx = if kinds.first().is_some_and(|&oldest| oldest < (8, 0)) { OLD_PTX_ARCHITECTURE } else { PTX_ARCHITECTURE };
    let machine_code = kinds.into_iter().map(|(major, minor)| format!("sm_{major}{minor}"));
    machine_code.chain([ptx.to_string()]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_gpu_once() {
        let found = architectures([(8, 9), (8, 6), (8, 9), (12, 0)].into_iter());
        assert_eq!(found, ["sm_86", "sm_89", "sm_120", "compute_80"]);
        assert_eq!(architectures([(8, 0), (7, 0)].into_iter()), ["sm_70", "sm_80", "compute_75"]);
    }
}
