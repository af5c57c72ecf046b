//! What everything costs: t(v) of each operator on each GPU, and the time of a transfer over each link.
//!
//! **In**: the fused graph and a target (GPUs and links). **Out**: a [`CostTable`], in whole nanoseconds. Here estimated from a device
//! model (`estimate.rs`, `device.rs`) for a target (`target.rs`, `topology.rs`); a measured table has the same form. `text.rs` prints tables and reads them back;
//! `profile.rs` does so with measured costs, which serve any graph.

mod device;
mod estimate;
mod profile;
mod target;
mod text;
mod topology;

pub(crate) use device::closest;
pub use device::{DeviceModel, LinkModel, device, link};
pub use estimate::{Estimate, Work, blocks_per_sm, estimate, estimate_with, fastest, kernel_time, work};
pub use profile::{Conditions, Measured, Profile, kernels_hash};
pub use target::Target;

use std::collections::BTreeMap;

use crate::ids::{GpuId, OpId};
use crate::kernel::Kernel;

/// A time or a duration, in nanoseconds.
pub type Nanos = u64;

/// What one operator costs on one GPU, run alone.
#[derive(Clone, Debug, PartialEq)]
pub struct OperatorCost {
    /// t(v): kernel duration, launch gap included.
    pub time: Nanos,
    /// Share of the GPU that it keeps busy, in (0, 1].
    pub utilisation: f64,
    /// The kernel that takes this time.
    pub kernel: Kernel,
}

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

/// One GPU of the target.
#[derive(Clone, Debug, PartialEq)]
pub struct TargetGpu {
    /// Device model, as `--device` names it: `a40`.
    pub device: String,
    /// Compute capability: (8, 6).
    pub compute_capability: (u32, u32),
    /// Memory that a plan may use, in bytes.
    pub memory: u64,
}

/// Measured t(S) on each GPU of kernels that run side by side, by their names: ascending, with repeats, two or more. `None` where it was not measured.
pub type Stages = BTreeMap<Vec<String>, Vec<Option<Nanos>>>;

/// Costs of one graph on one target.
#[derive(Clone, Debug, PartialEq)]
pub struct CostTable {
    /// How the figures came about: `estimated from device model a40`.
    pub source: String,
    /// The target's GPUs, by [`GpuId`].
    pub gpus: Vec<TargetGpu>,
    /// `operators[op][gpu]`.
    pub operators: Vec<Vec<OperatorCost>>,
    /// `links[from][to]`; `None` on the diagonal. Transfers of one ordered pair go one at a time.
    pub links: Vec<Vec<Option<Link>>>,
    /// Measured t(S) of operators side by side.
    pub stages: Stages,
}

impl CostTable {
    /// The cost of `op` on `gpu`.
    pub fn operator(&self, op: OpId, gpu: GpuId) -> &OperatorCost {
        &self.operators[op.index()][gpu.index()]
    }
}
