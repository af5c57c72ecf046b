//! Measures what the operators of a model cost on the GPUs of this machine, and what transfers
//! between them cost.
//!
//! **In**: graphs, GPUs. **Out**: a [`Profile`]. On virtual GPUs all code paths are real and all
//! times meaningless.
//!
//! 1. GPUs of one kind (name, multiprocessors, memory, clocks, driver) are measured once.
//! 2. Every *distinct* kernel is measured once: all candidates of all operators, by name.
//!    Candidates of one operator take turns, round by round, so that falling clocks affect all of
//!    them alike.
//! 3. A round enqueues several launches on a [blocked stream](crate::runtime::StreamBlocker) and
//!    takes the time between two events around them. So launching from the host does not count, but
//!    the gap between kernels does. The first round warms up. The median of the others counts, and
//!    the interquartile range is recorded.
//! 4. Launches cycle through copies of their f32 inputs, weights and outputs, enough to fill twice
//!    the L2 cache but at most 64: in a model, other operators have used the cache before this one.
//! 5. Transfers are measured by the runtime (`runtime/tool/links.rs`), over several sizes, and
//!    tested with data.
//! 6. *Stages* are measured when the schedulers need them: see `stages.rs`.
//!
//! The fraction of the GPU that a kernel keeps busy is estimated: no event measures it. It only
//! matters for stages that are not measured.

mod gpu;
mod pool;
mod stages;

use std::collections::BTreeMap;

use cudarc::driver::sys::CUdevice_attribute as Attribute;
use cudarc::driver::{CudaContext, DriverError};

use crate::cost::{self, Conditions, Measured, MeasuredStages, Profile, Work, kernels_hash};
use crate::device::{DeviceModel, Link, TargetGpu};
use crate::error::{Error, Result};
use crate::graph::{DType, Graph};
use crate::ids::{OpId, TensorId};
use crate::kernel::{self, Kernel};
use crate::progress;
use crate::runtime::tool::links;
use crate::schedule::ScheduleOptions;
use gpu::ProfiledGpu;

/// Options of a measurement.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct ProfileOptions {
    /// The machine's GPUs; by default all of them.
    pub gpus: Option<Vec<usize>>,
    /// Fewer and shorter rounds.
    pub quick: bool,
    /// Options of the schedulers that determine the stages to measure.
    pub schedule: ScheduleOptions,
}

/// The GPUs of this machine; none without a driver.
pub fn present() -> Result<Vec<(TargetGpu, Conditions)>> {
    // SAFETY: only tests whether the library can be opened; cudarc panics without it.
    if !unsafe { cudarc::driver::sys::is_culib_present() } {
        return Ok(Vec::new());
    }
    let count = match CudaContext::device_count() {
        Ok(count) => count.max(0) as usize,
        // A driver without a GPU reports that, or that it cannot be initialised.
        Err(_) => 0,
    };
    (0..count).map(describe).collect()
}

fn describe(ordinal: usize) -> Result<(TargetGpu, Conditions)> {
    let context = CudaContext::new(ordinal).map_err(device)?;
    let attribute = |which| context.attribute(which).map_err(device);
    let (major, minor) = context.compute_capability().map_err(device)?;
    let mut driver = 0;
    // SAFETY: writes one integer.
    unsafe { cudarc::driver::sys::cuDriverGetVersion(&mut driver) }.result().map_err(device)?;
    let name = context.name().map_err(device)?;
    let gpu = TargetGpu {
        device: name.replace([',', '\n'], " "),
        compute_capability: (major as u32, minor as u32),
        memory: context.total_mem().map_err(device)? as u64,
    };
    let conditions = Conditions {
        sms: attribute(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)? as u32,
        clock: attribute(Attribute::CU_DEVICE_ATTRIBUTE_CLOCK_RATE)? as u32 / 1000,
        memory_clock: attribute(Attribute::CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE)? as u32 / 1000,
        driver,
        kernels: kernels_hash(),
    };
    Ok((gpu, conditions))
}

fn device(error: DriverError) -> Error {
    Error::Device(format!("measuring: {error}"))
}

/// Measures all operators of `graphs`.
///
/// # Errors
///
/// [`Error::Device`] if there is no such GPU or it fails; [`Error::Tool`] without NVRTC.
pub fn profile(graphs: &[&Graph], options: &ProfileOptions) -> Result<Profile> {
    let all = present()?;
    if all.is_empty() {
        return Err(Error::Device(
            "there is no GPU to measure: run this on a machine with one, or try the command with --virtual 2".into(),
        ));
    }
    let ordinals = options.gpus.clone().unwrap_or_else(|| (0..all.len()).collect());
    if let Some(gpu) = ordinals.iter().find(|&&gpu| gpu >= all.len()) {
        return Err(Error::Usage(format!("GPU {gpu}: the machine has {}, counted from 0", all.len())));
    }
    let mut kinds: Vec<usize> = Vec::new();
    for &ordinal in &ordinals {
        if !kinds.iter().any(|&kind| all[kind] == all[ordinal]) {
            kinds.push(ordinal);
        }
    }
    let groups = kinds.iter().map(|&kind| groups(graphs, &all[kind].0.model()?)).collect::<Result<Vec<_>>>()?;
    let mut counter = Counter::new("measuring operators", groups.iter().map(Vec::len).sum());
    let (mut measured_gpus, mut measured) = (Vec::new(), Vec::new());
    for (&kind, groups) in kinds.iter().zip(&groups) {
        let mut gpu = ProfiledGpu::new(kind, &all[kind], groups, options)?;
        measured.push(gpu.operators(groups, &mut counter)?);
        measured_gpus.push(gpu);
    }
    let kind_of: Vec<usize> = ordinals.iter().map(|&o| kinds.iter().position(|&kind| all[kind] == all[o]).unwrap_or(0)).collect();
    let mut kernels: BTreeMap<String, Vec<Option<Measured>>> = BTreeMap::new();
    for name in measured.iter().flat_map(|of_kind| of_kind.keys()) {
        kernels.insert(name.clone(), kind_of.iter().map(|&kind| measured[kind].get(name).copied()).collect());
    }
    let mut links = vec![vec![None; ordinals.len()]; ordinals.len()];
    let rounds = if options.quick { 3 } else { 11 };
    for report in links::measure(&ordinals, rounds).map_err(crate::run::device)? {
        let position = |gpu: usize| ordinals.iter().position(|&o| o == gpu).unwrap_or(0);
        links[position(report.from)][position(report.to)] =
            Some(Link { latency: report.latency, bandwidth: report.bandwidth.max(1.0).round() });
    }
    let (gpus, conditions) = ordinals.iter().map(|&ordinal| all[ordinal].clone()).unzip();
    let mut profile =
        Profile { version: env!("CARGO_PKG_VERSION").into(), gpus, conditions, links, kernels, stages: MeasuredStages::new() };
    let measured_gpus = stages::MeasuredGpus { gpus: measured_gpus, kind_of };
    stages::measure(&mut profile, graphs, measured_gpus, &options.schedule)?;
    Ok(profile)
}

/// All kernels that could compute an operator of `graphs` on `device`, each once.
pub fn kernels(graphs: &[&Graph], device: &DeviceModel) -> Result<Vec<Kernel>> {
    Ok(groups(graphs, device)?.into_iter().flat_map(|group| group.candidates).collect())
}

/// The contents of a kernel's argument.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ArgumentContents {
    /// f32, read or written: any numbers.
    Floats,
    /// Another type, read: zeros, which are valid indices.
    Zeros,
    /// Another type, written: never read again.
    Result,
    /// Counters: zeros that every launch leaves zero, and that no concurrent launch has.
    Counters,
}

/// An argument of a kernel: its bytes, and its contents.
type Argument = (u64, ArgumentContents);

/// The candidates of operators of one signature, and their arguments.
struct SignatureGroup {
    candidates: Vec<Kernel>,
    /// Each input in order, and the output. Each is as large as the most demanding candidate needs.
    tensors: Vec<Argument>,
    work: Work,
}

impl SignatureGroup {
    /// The arguments of `kernel`, one of its candidates: the tensors, then its workspace and its
    /// counters if it needs them.
    fn arguments(&self, kernel: &Kernel) -> Vec<Argument> {
        let own = [(kernel.workspace_bytes, ArgumentContents::Floats), (kernel.counter_bytes(), ArgumentContents::Counters)];
        self.tensors.iter().copied().chain(own.into_iter().filter(|&(bytes, _)| bytes > 0)).collect()
    }
}

fn groups(graphs: &[&Graph], device: &DeviceModel) -> Result<Vec<SignatureGroup>> {
    let mut groups: BTreeMap<Vec<String>, SignatureGroup> = BTreeMap::new();
    for graph in graphs {
        for op in graph.op_ids() {
            let candidates = kernel::candidates(graph, op, device)?;
            let names = candidates.iter().map(|k| k.name.clone()).collect();
            groups.entry(names).or_insert_with(|| {
                let tensors = tensors(graph, op, &candidates);
                SignatureGroup { candidates, tensors, work: cost::work(graph, op) }
            });
        }
    }
    Ok(groups.into_values().collect())
}

fn tensors(graph: &Graph, op: OpId, candidates: &[Kernel]) -> Vec<Argument> {
    let operator = graph.operator(op);
    let contents = |dtype: DType, other: ArgumentContents| if dtype == DType::F32 { ArgumentContents::Floats } else { other };
    let input = |(position, &t): (usize, &TensorId)| {
        let tensor = graph.tensor(t);
        let packed =
            candidates.iter().filter_map(|kernel| kernel.packing(position)).map(|packing| packing.elements() * tensor.dtype.bytes());
        (packed.fold(tensor.bytes(), u64::max), contents(tensor.dtype, ArgumentContents::Zeros))
    };
    let inputs = operator.inputs.iter().enumerate().map(input);
    let outputs = operator.outputs.iter().map(|&t| (graph.tensor(t).bytes(), contents(graph.tensor(t).dtype, ArgumentContents::Result)));
    inputs.chain(outputs).collect()
}

/// Counts what has been measured.
struct Counter {
    what: &'static str,
    done: u64,
    of: u64,
}

impl Counter {
    fn new(what: &'static str, of: usize) -> Counter {
        Counter { what, done: 0, of: of as u64 }
    }

    fn tick(&mut self) {
        self.done += 1;
        progress::step(self.what, self.done, self.of);
    }
}
