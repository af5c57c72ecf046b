//! A plan, with its names looked up: what the interpreter needs at every step.
//!
//! * Kernels: each one once, sorted by name, with the plan's GPUs that launch it.
//! * Weights: each constant once, in the order of tensor ids.
//! * Regions: where a buffer or a constant lies.

use std::collections::{BTreeMap, BTreeSet};

use super::runtime::{Region, StreamLayout};
use crate::cost::CostTable;
use crate::error::{Error, Result};
use crate::graph::Graph;
use crate::ids::{BufferId, GpuId, OpId, TensorId};
use crate::kernel::Kernel;
use crate::plan::{Operand, Plan, Step, Stream, StreamKind};

/// A kernel of the program.
#[derive(Clone, Debug)]
pub(crate) struct KernelUse<'a> {
    pub kernel: &'a Kernel,
    /// GPUs of the plan that launch it, ascending.
    pub gpus: Vec<usize>,
}

/// See the module's text.
pub(crate) struct Program<'a> {
    pub graph: &'a Graph,
    pub costs: &'a CostTable,
    pub plan: &'a Plan,
    pub kernels: Vec<KernelUse<'a>>,
    pub weights: Vec<TensorId>,
    index_of_kernel: BTreeMap<&'a str, usize>,
    index_of_weight: BTreeMap<TensorId, usize>,
}

impl<'a> Program<'a> {
    /// Looks everything up. The plan must have passed its verifier.
    pub fn new(graph: &'a Graph, costs: &'a CostTable, plan: &'a Plan) -> Result<Self> {
        let mut program = Program {
            graph,
            costs,
            plan,
            kernels: Vec::new(),
            weights: Vec::new(),
            index_of_kernel: BTreeMap::new(),
            index_of_weight: BTreeMap::new(),
        };
        program.find_kernels()?;
        program.find_weights();
        Ok(program)
    }

    fn find_kernels(&mut self) -> Result<()> {
        let mut found: BTreeMap<&'a str, KernelUse<'a>> = BTreeMap::new();
        for step in &self.plan.steps {
            let Step::Launch { operator, stream, .. } = step else { continue };
            let gpu = self.plan.streams[stream.index()].gpu;
            let kernel = self.kernel(*operator, gpu);
            let entry = found.entry(&kernel.name).or_insert_with(|| KernelUse { kernel, gpus: Vec::new() });
            if entry.kernel != kernel {
                return Err(Error::internal("kernel", format!("two different kernels are named {}", kernel.name)));
            }
            if let Err(place) = entry.gpus.binary_search(&gpu.index()) {
                entry.gpus.insert(place, gpu.index());
            }
        }
        self.index_of_kernel = found.keys().enumerate().map(|(i, &name)| (name, i)).collect();
        self.kernels = found.into_values().collect();
        Ok(())
    }

    fn find_weights(&mut self) {
        let used: BTreeSet<TensorId> = self.plan.gpus.iter().flat_map(|gpu| gpu.weights.iter().map(|&(t, _)| t)).collect();
        self.index_of_weight = used.iter().enumerate().map(|(i, &tensor)| (tensor, i)).collect();
        self.weights = used.into_iter().collect();
    }

    /// The kernel of `operator` on a GPU of the plan.
    pub fn kernel(&self, operator: OpId, gpu: GpuId) -> &'a Kernel {
        &self.costs.operator(operator, self.plan.targets[gpu.index()]).kernel
    }

    /// Position of that kernel in `kernels`.
    pub fn kernel_index(&self, operator: OpId, gpu: GpuId) -> Result<usize> {
        let name = self.kernel(operator, gpu).name.as_str();
        self.index_of_kernel.get(name).copied().ok_or_else(|| Error::internal("run", format!("{operator} is not launched on {gpu}")))
    }

    /// Position of a constant in `weights`.
    pub fn weight_index(&self, tensor: TensorId) -> Result<usize> {
        self.index_of_weight.get(&tensor).copied().ok_or_else(|| Error::internal("run", format!("constant {tensor} is on no GPU")))
    }

    /// Where a buffer lies.
    pub fn buffer(&self, buffer: BufferId) -> Region {
        let b = &self.plan.buffers[buffer.index()];
        Region::arena(b.gpu.index(), b.offset, b.bytes)
    }

    /// Where buffers lie that are one right behind the other.
    pub fn joined(&self, parts: &[BufferId]) -> Region {
        let of = |part: &BufferId| &self.plan.buffers[part.index()];
        Region::arena(of(&parts[0]).gpu.index(), of(&parts[0]).offset, parts.iter().map(|part| of(part).bytes).sum())
    }

    /// Where a kernel's argument lies on `gpu`.
    pub fn operand(&self, operand: &Operand, gpu: GpuId) -> Result<Region> {
        match *operand {
            Operand::Buffer(buffer) => Ok(self.buffer(buffer)),
            Operand::Joined(ref parts) => Ok(self.joined(parts)),
            Operand::Slice { buffer, begin, bytes } => {
                let b = &self.plan.buffers[buffer.index()];
                Ok(Region::arena(b.gpu.index(), b.offset + begin, bytes))
            }
            Operand::Weight(tensor) => {
                let weights = &self.plan.gpus[gpu.index()].weights;
                let found = weights.iter().find(|&&(t, _)| t == tensor);
                let &(_, offset) = found.ok_or_else(|| Error::internal("run", format!("{gpu} does not hold constant {tensor}")))?;
                Ok(Region::weights(gpu.index(), offset, self.graph.tensor(tensor).bytes()))
            }
        }
    }

    /// The constants of a GPU: position in `weights`, and where they go.
    pub fn placed_weights(&self, gpu: usize) -> Result<Vec<(usize, Region)>> {
        let region = |&(tensor, offset): &(TensorId, u64)| {
            Ok((self.weight_index(tensor)?, Region::weights(gpu, offset, self.graph.tensor(tensor).bytes())))
        };
        self.plan.gpus[gpu].weights.iter().map(region).collect()
    }

    /// All streams, as the runtime wants them.
    pub fn streams(&self) -> Vec<StreamLayout> {
        let mut largest = vec![0; self.plan.streams.len()];
        for step in &self.plan.steps {
            if let Step::Copy { from, stream, .. } = step {
                let bytes = self.plan.buffers[from.index()].bytes;
                largest[stream.index()] = bytes.max(largest[stream.index()]);
            }
        }
        let layout = |(stream, largest): (&Stream, u64)| match stream.kind {
            StreamKind::Compute(_) => StreamLayout::Compute { gpu: stream.gpu.index() },
            StreamKind::Copy { to } => StreamLayout::Copy { gpu: stream.gpu.index(), to: to.index(), largest },
        };
        self.plan.streams.iter().zip(largest).map(layout).collect()
    }

    /// The bytes of a constant, little-endian.
    pub fn weight_bytes(&self, tensor: TensorId) -> Result<&'a [u8]> {
        let constant = self.graph.constant(tensor).ok_or_else(|| Error::internal("run", format!("{tensor} is not a constant")))?;
        Ok(constant.bytes())
    }
}
