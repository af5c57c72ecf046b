//! Selects the CUDA kernel that computes an operator: its template, shape, tile and launch
//! geometry.
//!
//! **In**: an operator of the fused graph, and the device. **Out**: a [`Kernel`]: a unique name
//! that spells out signature and candidate, its source, which instantiates a template, and its
//! launch geometry. The templates are in `kernels/*.cuh`, ordinary CUDA C++.
//!
//! * A *family* is one header of templates: `conv.cuh`, `matmul.cuh`, ... Each has a file here that
//!   chooses its template arguments.
//! * The *signature* of an operator is everything that its result depends on except the data:
//!   attributes, shapes, epilogue. Operators with the same signature share a kernel. They share its
//!   comment, too, which describes the signature and never a single operator.
//! * A *candidate* is one way to compute a signature: a tile shape, or which threads share the work
//!   of one output. All candidates of an operator give the same result up to rounding.
//!   [`candidates`] lists them, beginning with the one that the shapes suggest; a profile may pick
//!   another.
//!
//! A kernel relies on the following, which its callers ensure. Its parameters are plain pointers:
//! the operator's inputs in order, its output, then its workspace and its counters if it has them
//! (for several operators, all inputs, then all outputs). All pointers are aligned to 16 bytes
//! (planned buffers and weights start at multiples of 256). Written memory overlaps nothing else.
//! Nothing is known of what a workspace holds before the launch; counters are zero. A view is read
//! under its own shape.
//!
//! Element types. A family's C++ templates deduce them from their pointer parameters, so a family
//! only names its parameters: `OpContext::params` adds the tensors' types, and `KernelSpec` writes
//! them into the parameter list and, unless all are f32, into the name. Where a template argument
//! must spell out a type, `spec::cpp_type` names it; `spec::vector` is the number of elements in 16
//! bytes. A family whose templates support only f32 calls `OpContext::only_f32` first.
//!
//! Tensors of 2^31 elements or more and tensors without elements are not supported
//! ([`Error::Unsupported`]).

mod attention;
mod cell;
mod concat;
mod conv;
mod copy;
mod cumsum;
mod depthwise;
mod elementwise;
mod expr;
mod gather;
mod gather_gemm;
mod grid_sample;
mod loops;
mod lrn;
mod matmul;
mod norm;
mod packing;
mod pool;
mod reduce;
mod resample;
mod scatter;
mod softmax;
mod spec;
mod tile;
mod topk;
mod traffic;
mod window;

pub use packing::Packing;
pub use traffic::{Traffic, traffic};

use crate::device::DeviceModel;
use crate::graph::{DType, Graph, OpKind, Operator, Origin, Tensor};
use crate::ids::OpId;
use crate::{Error, Result, embedded};

/// One instantiated kernel. Operators with the same signature share one.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Kernel {
    /// Unique in a crate, at most 120 characters of `[a-z0-9_]`, equal for equal signatures. Also
    /// the file name: `kernels/<name>.cu`.
    pub name: String,
    /// The whole `.cu` file: a comment that says in words what it computes, one `#include`, one
    /// `HIOSC_KERNEL(...)`.
    pub source: String,
    /// Blocks along x, y, z.
    pub grid: [u32; 3],
    /// Threads per block along x, y, z.
    pub block: [u32; 3],
    /// Dynamic shared memory per block, in bytes.
    pub shared_bytes: u32,
    /// Static shared memory per block, in bytes. For occupancy estimates.
    pub static_shared_bytes: u32,
    /// Registers per thread, estimated from the tile shape. For occupancy estimates.
    pub registers: u32,
    /// Iterations of the compiled main loop in the longest block; the total if it is nested. The
    /// main loop is the one that multiplies, or, if none does, the one with the most memory
    /// operations. If several multiply, one entry for each, in the order of the machine code. Empty
    /// without a loop.
    pub trips: Vec<u64>,
    /// Cycles from the start of its first block to the end of its last on the device that it was
    /// selected for, by the models in `gather_gemm.rs` and `tile.rs`: simulated or assumed, not
    /// measured. `None` for kernels without such a model. The only field that differs between
    /// devices.
    pub cycles: Option<u64>,
    /// Blocks that share the sum of one tile. The grid includes them; `trips` is that of one block.
    pub split: u32,
    /// Bytes of memory that the kernel itself writes and reads back, such as partial sums; passed
    /// after its outputs. 0 if it needs none.
    pub workspace_bytes: u64,
    /// Counters of 32 bits that are zero before every launch: zeroed when the model is loaded, and
    /// left zero by the kernel itself; passed after the workspace, as the last argument. 0 if it
    /// needs none.
    pub counters: u32,
    /// Inputs, by position, that the kernel reads packed; they must be constants. A grouped launch
    /// counts the inputs of all its operators, one operator after the other.
    pub packings: Vec<(usize, Packing)>,
    /// The lowest compute capability that the kernel runs on; (0, 0) is any.
    pub min_capability: (u32, u32),
    /// The share of each operator of a grouped launch, in the order of the blocks; empty if the
    /// kernel computes one operator. The arguments of a grouped launch are the inputs of all
    /// operators, one operator after the other, then their outputs, then one workspace and one
    /// array of counters for all of them.
    pub members: Vec<Member>,
    /// What each thread does, if the family knows: for estimates.
    pub effort: Option<Effort>,
}

/// What a thread of a kernel does, for estimates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Effort {
    /// Instructions.
    pub instructions: u64,
    /// Words of four bytes between memory and registers. A load counts as many words as the
    /// addresses of neighbouring threads are apart, since that is what the cache must look up.
    pub words: u64,
    /// Loads that wait for one another. All loads that are in flight together count once.
    pub rounds: u64,
    /// Cycles of other steps that wait for one another, such as shuffles and barriers.
    pub chain: u64,
}

/// One operator of a grouped launch.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Member {
    /// Blocks of the grid that compute it. Those of all members add up to the grid.
    pub blocks: u64,
    /// Iterations of the main loop in each of them.
    pub trips: u64,
}

impl Default for Kernel {
    /// A launch of one thread that needs nothing else and has no name yet.
    fn default() -> Kernel {
        Kernel {
            name: String::new(),
            source: String::new(),
            grid: [1; 3],
            block: [1; 3],
            shared_bytes: 0,
            static_shared_bytes: 0,
            registers: 1,
            trips: Vec::new(),
            cycles: None,
            split: 1,
            workspace_bytes: 0,
            counters: 0,
            packings: Vec::new(),
            min_capability: (0, 0),
            members: Vec::new(),
            effort: None,
        }
    }
}

impl Kernel {
    /// The layout in which the kernel reads its input number `input`; `None` for the model's
    /// layout.
    pub fn packing(&self, input: usize) -> Option<Packing> {
        self.packings.iter().find(|&&(at, _)| at == input).map(|&(_, packing)| packing)
    }

    /// Whether it is the same kernel, perhaps selected for another device.
    pub fn computes_like(&self, other: &Kernel) -> bool {
        Kernel { cycles: other.cycles, ..self.clone() } == *other
    }

    /// Size of its counters in bytes.
    pub fn counter_bytes(&self) -> u64 {
        4 * u64::from(self.counters)
    }
}

/// The most elements of a tensor: indices are 32-bit and must also reach the unused end of the last
/// tile.
const MAX_ELEMENTS: u64 = (1 << 31) - (1 << 16);

/// The most elements of a packed constant, in elements of the constant itself. Small groups and
/// products of a batch would be mostly padding.
const MAX_PADDING: u64 = 4;

/// Packed constants of at most this many elements may have more padding.
const SMALL_PACKED: u64 = 1 << 20;

/// The kernel that the shapes of `op` suggest on `device`: the first of its [`candidates`].
pub fn select(graph: &Graph, op: OpId, device: &DeviceModel) -> Result<Kernel> {
    Ok(candidates(graph, op, device)?.swap_remove(0))
}

/// The kernels that compute `op` on `device` and are worth trying; at least one, the default choice
/// first.
pub fn candidates(graph: &Graph, op: OpId, device: &DeviceModel) -> Result<Vec<Kernel>> {
    kernels(graph, op, device, false)
}

/// All kernels that compute `op` on `device`, those that are slow there included: every tile, and
/// every split of its sums. For tests and benchmarks of kernels.
pub fn every_candidate(graph: &Graph, op: OpId, device: &DeviceModel) -> Result<Vec<Kernel>> {
    kernels(graph, op, device, true)
}

fn kernels(graph: &Graph, op: OpId, device: &DeviceModel, all: bool) -> Result<Vec<Kernel>> {
    let operator = graph.operator(op);
    let ctx = OpContext::new(graph, op, operator, device, all)?;
    // One row per operator.
    let specs = match &operator.kind {
        OpKind::Attention(attention) => attention::specs(&ctx, attention)?,
        OpKind::Cell(cell) => cell::specs(&ctx, *cell)?,
        OpKind::Concat(concat) => concat::specs(&ctx, concat.axis)?,
        OpKind::Conv(conv) => conv::specs(&ctx, conv)?,
        OpKind::ConvNd(conv) => conv::specs_nd(&ctx, conv)?,
        OpKind::Transpose(transpose) => copy::transpose(&ctx, transpose)?,
        OpKind::Slice(slice) => copy::slice(&ctx, slice)?,
        OpKind::Pad(pad) => copy::pad(&ctx, pad)?,
        OpKind::Trilu(trilu) => copy::trilu(&ctx, trilu)?,
        OpKind::Reshape(_) => return Err(ctx.wrong("a reshape has no kernel: the free-views rule should have removed it")),
        OpKind::CumSum(sum) => cumsum::specs(&ctx, sum)?,
        OpKind::Elementwise(elementwise) => elementwise::specs(&ctx, elementwise)?,
        OpKind::Gather(gather) => gather::specs(&ctx, *gather)?,
        OpKind::GridSample(sample) => grid_sample::specs(&ctx, sample)?,
        OpKind::Lrn(lrn) => lrn::specs(&ctx, lrn)?,
        OpKind::MatMul(matmul) => matmul::specs(&ctx, matmul)?,
        OpKind::Norm(norm) => norm::specs(&ctx, norm)?,
        OpKind::Pool(pool) => pool::specs(&ctx, pool)?,
        OpKind::PoolNd(pool) => pool::specs_nd(&ctx, pool)?,
        OpKind::PoolIndices(pool) => pool::indices(&ctx, pool)?,
        OpKind::Reduce(reduce) => reduce::specs(&ctx, reduce)?,
        OpKind::Resample(resample) => resample::specs(&ctx, resample)?,
        OpKind::Scatter(scatter) => scatter::specs(&ctx, *scatter)?,
        OpKind::Softmax(softmax) => softmax::specs(&ctx, softmax)?,
        OpKind::TopK(topk) => topk::specs(&ctx, topk)?,
    };
    let mut kernels: Vec<Kernel> = specs.into_iter().filter_map(spec::KernelSpec::finish).collect();
    let Some((major, minor)) = kernels.iter().map(|kernel| kernel.min_capability).min() else {
        return Err(ctx.unsupported("it needs more blocks than a GPU can launch"));
    };
    kernels.retain(|kernel| kernel.min_capability <= device.compute_capability);
    if kernels.is_empty() {
        return Err(ctx.unsupported(&format!("its kernels need compute capability {major}.{minor}, which {} does not have", device.name)));
    }
    Ok(kernels)
}

/// The headers that every kernel source includes, for the folder `kernels` of a crate: (`conv.cuh`,
/// text), sorted.
pub fn headers() -> Vec<(&'static str, &'static str)> {
    embedded::folder("kernels").filter(|(name, _)| name.ends_with(".cuh")).collect()
}

/// The sources of `kernels` for the folder `kernels` of a crate: (`<name>.cu`, text), sorted, each
/// once.
pub fn sources<'a>(kernels: impl IntoIterator<Item = &'a Kernel>) -> Vec<(String, String)> {
    let mut files: Vec<_> = kernels.into_iter().map(|k| (format!("{}.cu", k.name), k.source.clone())).collect();
    files.sort();
    files.dedup();
    files
}

/// The operator that needs a kernel, with its tensors looked up and their sizes checked, and the
/// device that will run it.
struct OpContext<'a> {
    graph: &'a Graph,
    device: &'a DeviceModel,
    /// Whether slow candidates are wanted, too.
    all: bool,
    op: OpId,
    operator: &'a Operator,
    inputs: Vec<&'a Tensor>,
    output: &'a Tensor,
}

impl<'a> OpContext<'a> {
    fn new(graph: &'a Graph, op: OpId, operator: &'a Operator, device: &'a DeviceModel, all: bool) -> Result<Self> {
        let [output] = operator.outputs[..] else {
            return Err(Error::internal("kernel", format!("{op} has {} outputs instead of one", operator.outputs.len())));
        };
        let inputs = operator.inputs.iter().map(|&t| graph.tensor(t)).collect();
        let ctx = OpContext { graph, device, all, op, operator, inputs, output: graph.tensor(output) };
        for tensor in ctx.inputs.iter().chain([&ctx.output]) {
            let elements = tensor.shape.iter().try_fold(1u64, |n, &d| n.checked_mul(d as u64)).unwrap_or(u64::MAX);
            if elements == 0 {
                return Err(ctx.unsupported(&format!("tensor {} ({}) has no elements", tensor.name, tensor.shape_text())));
            }
            if elements > MAX_ELEMENTS {
                return Err(ctx.unsupported(&format!("tensor {} ({}) has 2^31 elements or more", tensor.name, tensor.shape_text())));
            }
        }
        Ok(ctx)
    }

    /// The error for a sound operator that no kernel can compute.
    fn unsupported(&self, reason: &str) -> Error {
        Error::Unsupported(vec![format!("{} {} ({}): {reason}", self.operator.kind.name(), self.operator.name, self.op)])
    }

    /// The error for an operator that breaks a rule of the graph.
    fn wrong(&self, reason: &str) -> Error {
        Error::internal("kernel", format!("{} {} ({}): {reason}", self.operator.kind.name(), self.operator.name, self.op))
    }

    /// `Err(wrong(reason))` unless `condition`.
    fn require(&self, condition: bool, reason: &str) -> Result<()> {
        if condition { Ok(()) } else { Err(self.wrong(reason)) }
    }

    /// The kernel's parameters: the inputs under these names, then the output `y`.
    fn params<S: ToString>(&self, names: &[S]) -> Vec<spec::Param> {
        let inputs = names.iter().zip(&self.inputs).map(|(name, x)| spec::Param { name: name.to_string(), dtype: x.dtype, output: false });
        inputs.chain([spec::Param { name: "y".into(), dtype: self.output.dtype, output: true }]).collect()
    }

    /// Fails unless all tensors are f32: for families whose templates support nothing else.
    fn only_f32(&self) -> Result<()> {
        match self.inputs.iter().chain([&self.output]).find(|t| t.dtype != DType::F32) {
            Some(t) => Err(self.unsupported(&format!("tensor {} is of type {}, not f32", t.name, t.dtype.name()))),
            None => Ok(()),
        }
    }

    /// Whether input number `input` is all of a constant, perhaps under another shape, that can be
    /// packed for the kernel without too much padding.
    fn packable(&self, input: usize, packing: Packing) -> bool {
        let tensor = self.operator.inputs[input];
        let root = self.graph.tensor(self.graph.root(tensor));
        matches!(root.origin, Origin::Constant(_))
            && self.graph.begin(tensor) == 0
            && packing.fits(root.elements() as usize)
            && packing.elements() <= MAX_ELEMENTS.min((MAX_PADDING * root.elements()).max(SMALL_PACKED))
    }

    /// Threads per block for `work` independent threads: fewer where larger blocks would leave
    /// multiprocessors of the device idle.
    fn block_size(&self, work: u64) -> u32 {
        [256, 128].into_iter().find(|&threads| spec::blocks(work, threads) >= 2 * self.device.sms).unwrap_or(64)
    }

    /// The input of an operator that has only one.
    fn only_input(&self) -> Result<&'a Tensor> {
        match self.inputs[..] {
            [x] => Ok(x),
            _ => Err(self.wrong("it must have exactly one input")),
        }
    }
}
