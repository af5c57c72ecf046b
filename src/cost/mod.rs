//! Costs: t(v) of each operator on each GPU, and the time of a transfer over each link.
//!
//! **In**: the fused graph and a target (GPUs and links). **Out**: a [`CostTable`], in whole
//! nanoseconds. Costs are estimated from device models (`estimate.rs`) or measured; both give a
//! table of the same form. `text.rs` prints tables and reads them back; `profile.rs` does the same
//! for measured costs, which apply to any graph.

mod estimate;
mod profile;
mod text;

pub use estimate::{Estimate, Work, blocks_per_sm, estimate, estimate_with, fastest, kernel_time, work};
pub use profile::{Conditions, Measured, Profile, kernels_hash};

use std::collections::BTreeMap;

use crate::device::{DeviceModel, Link, Nanos, Target, TargetGpu};
use crate::error::{Error, Result};
use crate::ids::{GpuId, OpId};
use crate::kernel::Kernel;

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

/// The result of `of` for each GPU. `of` is called once per kind of GPU.
fn by_kind<T: Clone>(gpus: &[DeviceModel], mut of: impl FnMut(&DeviceModel) -> Result<T>) -> Result<Vec<T>> {
    let mut all: Vec<T> = Vec::with_capacity(gpus.len());
    for (gpu, model) in gpus.iter().enumerate() {
        all.push(match gpus[..gpu].iter().position(|earlier| earlier == model) {
            Some(same) => all[same].clone(),
            None => of(model)?,
        });
    }
    Ok(all)
}

/// Measured t(S) on each GPU of kernels that run side by side. The key is their names: two or more,
/// ascending, with repeats. `None` where it was not measured.
pub type MeasuredStages = BTreeMap<Vec<String>, Vec<Option<Nanos>>>;

/// Operators that one launch can compute together, on every GPU of the target.
#[derive(Clone, Debug, PartialEq)]
pub struct GroupedLaunch {
    /// Ascending, at least two, independent of each other. A launch of more operators than a stage
    /// may hold is never used.
    pub operators: Vec<OpId>,
    /// What the launch costs on each GPU, by [`GpuId`]. Its kernel has a
    /// [`Member`](crate::kernel::Member) for each operator, in the same order.
    pub costs: Vec<OperatorCost>,
}

/// Costs of one graph on one target.
#[derive(Clone, Debug, PartialEq)]
pub struct CostTable {
    /// Where the figures come from: `estimated from device model a40`.
    pub source: String,
    /// The target's GPUs, by [`GpuId`].
    pub gpus: Vec<TargetGpu>,
    /// `operators[op][gpu]`.
    pub operators: Vec<Vec<OperatorCost>>,
    /// `links[from][to]`; `None` on the diagonal. Transfers of one ordered pair run one at a time.
    pub links: Vec<Vec<Option<Link>>>,
    /// Measured t(S) of operators side by side.
    pub stages: MeasuredStages,
    /// Groups of operators that one launch can compute together, sorted by operators. The text form
    /// omits them: no kernel family creates them yet.
    pub grouped_launches: Vec<GroupedLaunch>,
}

impl CostTable {
    /// The cost of `op` on `gpu`.
    pub fn operator(&self, op: OpId, gpu: GpuId) -> &OperatorCost {
        &self.operators[op.index()][gpu.index()]
    }

    /// The cost of one launch on `gpu` that computes `operators`, ascending: a single one, or those
    /// of a grouped launch of the table. `None` if no kernel does.
    pub fn launch(&self, operators: &[OpId], gpu: GpuId) -> Option<&OperatorCost> {
        let row = match operators {
            [only] => self.operators.get(only.index())?,
            several => &self.grouped_launch(several)?.costs,
        };
        row.get(gpu.index())
    }

    /// The grouped launch of these operators, ascending.
    pub fn grouped_launch(&self, operators: &[OpId]) -> Option<&GroupedLaunch> {
        let at = self.grouped_launches.binary_search_by(|launch| launch.operators[..].cmp(operators)).ok()?;
        Some(&self.grouped_launches[at])
    }

    /// All kernels, with repeats.
    pub fn kernels(&self) -> impl Iterator<Item = &Kernel> {
        let grouped = self.grouped_launches.iter().flat_map(|launch| &launch.costs);
        self.operators.iter().flatten().chain(grouped).map(|cost| &cost.kernel)
    }

    /// Checks that these are costs of `target`: the same GPUs and links.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] with the first difference.
    pub fn check_target(&self, target: &Target) -> Result<()> {
        let gpus = target.table_gpus();
        let error = |message: String| {
            Err(Error::Usage(format!("costs: {message}; without --device, --gpus, --link and --topology, the table's own target is used")))
        };
        if self.gpus.len() != gpus.len() {
            return error(format!("the table has {} GPUs, the target {}", self.gpus.len(), gpus.len()));
        }
        let describe = |gpu: &TargetGpu| {
            let (major, minor) = gpu.compute_capability;
            format!("{}, compute capability {major}.{minor}, {} bytes", gpu.device, gpu.memory)
        };
        for (index, (found, wanted)) in self.gpus.iter().zip(&gpus).enumerate() {
            if found != wanted {
                return error(format!("gpu{index} of the table is {}, of the target {}", describe(found), describe(wanted)));
            }
        }
        let describe = |link: Option<Link>| link.map_or("none".into(), |l| format!("{} ns, {} bytes/s", l.latency, l.bandwidth));
        for from in 0..gpus.len() {
            for to in 0..gpus.len() {
                let (found, wanted) = (self.links[from][to], target.links[from][to]);
                if found != wanted {
                    let (found, wanted) = (describe(found), describe(wanted));
                    return error(format!("link gpu{from} -> gpu{to} of the table is {found}, of the target {wanted}"));
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_of_another_target_says_what_differs() {
        let table = |target: &Target| CostTable {
            source: target.source(),
            gpus: target.table_gpus(),
            operators: Vec::new(),
            links: target.links.clone(),
            stages: Default::default(),
            grouped_launches: Vec::new(),
        };
        let target = Target::new("a40,l4", None, None).unwrap();
        table(&target).check_target(&target).unwrap();
        let cases = [
            ("a40,l4,l4", None, "costs: the table has 3 GPUs, the target 2; without --device"),
            (
                "a40,a40",
                None,
                "costs: gpu1 of the table is a40, compute capability 8.6, 48000000000 bytes, of the target l4, compute capability 8.9, ",
            ),
            (
                "a40,l4",
                Some("pcie5"),
                "costs: link gpu0 -> gpu1 of the table is 6000 ns, 49770000000 bytes/s, of the target 6000 ns, 24885000000 ",
            ),
        ];
        for (devices, link, expected) in cases {
            let other = table(&Target::new(devices, None, link).unwrap());
            let message = other.check_target(&target).unwrap_err().to_string();
            assert!(message.starts_with(expected), "{expected}: {message}");
        }
    }
}
