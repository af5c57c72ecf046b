//! Models of GPUs and of the links between them: the figures that costs are computed from and
//! kernels are chosen by.
//!
//! **In**: names (`--device`, `--gpus`, `--link`) or a topology file. **Out**: a [`Target`]: a
//! [`DeviceModel`] for each GPU and a [`Link`] for each ordered pair. `model.rs` reads the device
//! and link models: text files under `devices/` and `links/` with a source for every figure.
//! `target.rs` makes a target from names, `topology.rs` from a file.

mod model;
mod target;
mod topology;

pub use model::{DeviceModel, LinkModel, closest, device, link};
pub use target::Target;

use crate::error::Result;

/// A time or a duration, in nanoseconds.
pub type Nanos = u64;

/// A directed connection between two GPUs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Link {
    /// Time of an empty transfer.
    pub latency: Nanos,
    /// Bytes per second.
    pub bandwidth: f64,
}

impl Link {
    /// Duration of a transfer of `bytes`, rounded up.
    pub fn time(&self, bytes: u64) -> Nanos {
        self.latency + (bytes as f64 / self.bandwidth * 1e9).ceil() as Nanos
    }
}

/// One GPU of the target, as costs and plans describe it.
#[derive(Clone, Debug, PartialEq)]
pub struct TargetGpu {
    /// Device model, as `--device` names it: `a40`. For a measured GPU, the name that the driver
    /// gives: `NVIDIA A40`.
    pub device: String,
    /// Compute capability: (8, 6).
    pub compute_capability: (u32, u32),
    /// Memory that a plan may use, in bytes.
    pub memory: u64,
}

impl TargetGpu {
    /// The model that kernels are chosen for: the one of its name, otherwise the closest one, with
    /// the GPU's own compute capability.
    pub fn model(&self) -> Result<DeviceModel> {
        let model = device(&self.device).or_else(|_| closest(&self.device))?;
        Ok(DeviceModel { compute_capability: self.compute_capability, ..model })
    }
}
