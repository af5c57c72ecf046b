//! From an operator to the CUDA kernel that computes it: which template, with which shape and tile, launched how.
//!
//! **In**: an operator of the fused graph, and the device. **Out**: a [`Kernel`]: a unique name
//! that spells out signature and candidate, the text of its one-line instantiation, and its launch
//! geometry. The templates are in `kernels/*.cuh`, ordinary CUDA C++.
//!
//! * A *family* is one header of templates: `conv.cuh`, `matmul.cuh`, ... Each has a file here that chooses its template arguments.
//! * The *signature* of an operator is everything its result depends on but the data: attributes, shapes, epilogue. Operators of one signature
//!   share a kernel, comment included: it speaks of the signature, never of one operator.
//! * A *candidate* is one way to compute a signature: a tile shape, or who shares the work of one output. All candidates of an operator give the same
//!   result up to rounding. [`candidates`] lists them, the one that the shapes suggest first; a profile may pick another.
//!
//! What a kernel relies on, and its callers ensure: parameters are plain pointers, the operator's
//! inputs in order, its output, and its workspace if it has one (of several operators all inputs,
//! then all outputs); all are aligned to 16 bytes (planned buffers and weights start at multiples
//! of 256); what is written overlaps nothing else. A view is read under its own shape.
//!
//! Element types. A family's C++ templates deduce them from their pointer parameters, so a family says only what the parameters are called:
//! `Site::params` adds the tensors' types, `Draft` writes them into the parameter list and, unless all are f32, into the name. Where a template
//! argument must spell a type out, `draft::cpp_type` names it; `draft::vector` is how many elements make 16 bytes. A family whose templates know f32 alone
//! calls `Site::only_f32` first.
//!
//! Not supported, and said so ([`Error::Unsupported`]): tensors of 2^31 elements or more, tensors of no elements.

mod attention;
mod cell;
mod concat;
mod conv;
mod copy;
mod cumsum;
mod draft;
mod elementwise;
mod expr;
mod index;
mod loops;
mod matmul;
mod norm;
mod packing;
mod pool;
mod reduce;
mod resample;
mod sample;
mod softmax;
mod tile;
mod window;
mod work;

pub use packing::Packing;
pub use work::{Traffic, macs, traffic};

use crate::device::DeviceModel;
use crate::graph::{DType, Graph, OpKind, Operator, Tensor};
use crate::ids::OpId;
use crate::{Error, Result, embedded};

/// One instantiated kernel. Two operators of the same signature share one.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Kernel {
    /// Unique in a crate, at most 120 characters of `[a-z0-9_]`, equal for equal signatures: also the file name `kernels/<name>.cu`.
    pub name: String,
    /// The whole `.cu` file: a comment that says in words what it computes, one `#include`, one `HIOSC_KERNEL(...)`.
    pub source: String,
    /// Blocks along x, y, z.
    pub grid: [u32; 3],
    /// Threads of a block along x, y, z.
    pub block: [u32; 3],
    /// Dynamic shared memory a block, in bytes.
    pub shared_bytes: u32,
    /// Static shared memory a block, in bytes. For occupancy estimates.
    pub static_shared_bytes: u32,
    /// Registers a thread, estimated from the tile shape. For occupancy estimates.
    pub registers: u32,
    /// Iterations of the compiled main loop in the longest block, all told if it is nested. The main loop is the one that multiplies; without one, the
    /// one with most memory operations. Of several that multiply, each one's, in the order of the machine code; empty without a loop.
    pub trips: Vec<u64>,
    /// Blocks that share the sum of one tile; they are in the grid, and `trips` is one block's.
    pub split: u32,
    /// Memory that it writes and reads again itself, such as partial sums: its last argument. 0 if it needs none.
    pub workspace_bytes: u64,
    /// Inputs, by position, that it wants packed; they must be constants. A grouped launch counts
    /// the inputs of all its operators, one after the other.
    pub packings: Vec<(usize, Packing)>,
    /// The least compute capability that it runs on; (0, 0) is any.
    pub min_capability: (u32, u32),
    /// What each operator of a grouped launch has of it, in the order of the blocks; empty where it
    /// computes one operator. Its arguments are the inputs of all of them, one operator after the
    /// other, then their outputs, then the workspace.
    pub members: Vec<Member>,
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
    /// A launch of one thread that asks for nothing, and has no name yet.
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
            split: 1,
            workspace_bytes: 0,
            packings: Vec::new(),
            min_capability: (0, 0),
            members: Vec::new(),
        }
    }
}

impl Kernel {
    /// The layout in which it wants its input number `input`; `None` for the model's.
    pub fn packing(&self, input: usize) -> Option<Packing> {
        self.packings.iter().find(|&&(at, _)| at == input).map(|&(_, packing)| packing)
    }
}

/// Multiprocessors of the GPU that default choices have in mind: a kernel of fewer blocks leaves some idle.
const MULTIPROCESSORS: u64 = 84;

/// The most elements of a tensor: indices are 32-bit, with room for the unused end of the last tile.
const MAX_ELEMENTS: u64 = (1 << 31) - (1 << 16);

/// The kernel that the shapes of `op` suggest on `device`: the first of its [`candidates`].
pub fn select(graph: &Graph, op: OpId, device: &DeviceModel) -> Result<Kernel> {
    Ok(candidates(graph, op, device)?.swap_remove(0))
}

/// All kernels that compute `op` on `device`; at least one, the default choice first.
pub fn candidates(graph: &Graph, op: OpId, device: &DeviceModel) -> Result<Vec<Kernel>> {
    let operator = graph.operator(op);
    let site = Site::new(graph, op, operator)?;
    let drafts = match &operator.kind {
        OpKind::Conv(conv) => conv::drafts(&site, conv)?,
        OpKind::Pool(pool) => pool::drafts(&site, pool)?,
        OpKind::MatMul(matmul) => matmul::drafts(&site, matmul)?,
        OpKind::Reduce(reduce) => reduce::drafts(&site, reduce)?,
        OpKind::Elementwise(elementwise) => elementwise::drafts(&site, elementwise)?,
        OpKind::Softmax { axis } => softmax::drafts(&site, *axis, false)?,
        OpKind::LogSoftmax { axis } => softmax::drafts(&site, *axis, true)?,
        OpKind::ConvNd(conv) => window::conv(&site, conv)?,
        OpKind::PoolNd(pool) => window::pool(&site, pool)?,
        OpKind::PoolIndices(pool) => window::indices(&site, pool)?,
        OpKind::Trilu(trilu) => copy::trilu(&site, trilu)?,
        OpKind::Norm(norm) => norm::drafts(&site, norm)?,
        OpKind::Lrn(lrn) => norm::lrn(&site, lrn)?,
        OpKind::GridSample(sample) => sample::drafts(&site, sample)?,
        OpKind::Resample(resample) => resample::drafts(&site, resample)?,
        OpKind::Attention(attention) => attention::drafts(&site, attention)?,
        OpKind::Concat { axis } => concat::drafts(&site, *axis)?,
        OpKind::Transpose { permutation } => copy::transpose(&site, permutation)?,
        OpKind::Slice(slice) => copy::slice(&site, slice)?,
        OpKind::Pad(pad) => copy::pad(&site, pad)?,
        OpKind::Index(index) => index::drafts(&site, *index)?,
        OpKind::CumSum(sum) => cumsum::drafts(&site, sum)?,
        OpKind::Cell(cell) => cell::drafts(&site, *cell)?,
        OpKind::Reshape => return Err(site.wrong("a reshape has no kernel: the free-views rule should have removed it")),
    };
    let mut kernels: Vec<Kernel> = drafts.into_iter().filter_map(draft::Draft::finish).collect();
    let Some((major, minor)) = kernels.iter().map(|kernel| kernel.min_capability).min() else {
        return Err(site.unsupported("it needs more blocks than a GPU can launch"));
    };
    kernels.retain(|kernel| kernel.min_capability <= device.compute_capability);
    if kernels.is_empty() {
        return Err(site.unsupported(&format!("its kernels need compute capability {major}.{minor}, which {} has not", device.name)));
    }
    Ok(kernels)
}

/// The headers that every kernel source includes, for the folder `kernels` of a crate: (`conv.cuh`, text), sorted.
pub fn headers() -> Vec<(&'static str, &'static str)> {
    embedded::folder("kernels").filter(|(name, _)| name.ends_with(".cuh")).collect()
}

/// The sources of `kernels` for the folder `kernels` of a crate: (`<name>.cu`, text), sorted, each once.
pub fn sources<'a>(kernels: impl IntoIterator<Item = &'a Kernel>) -> Vec<(String, String)> {
    let mut files: Vec<_> = kernels.into_iter().map(|k| (format!("{}.cu", k.name), k.source.clone())).collect();
    files.sort();
    files.dedup();
    files
}

/// The operator that a kernel is wanted for, with its tensors looked up and checked.
struct Site<'a> {
    op: OpId,
    operator: &'a Operator,
    inputs: Vec<&'a Tensor>,
    output: &'a Tensor,
}

impl<'a> Site<'a> {
    fn new(graph: &'a Graph, op: OpId, operator: &'a Operator) -> Result<Self> {
        let [output] = operator.outputs[..] else {
            return Err(Error::internal("kernel", format!("{op} has {} outputs instead of one", operator.outputs.len())));
        };
        let site = Site { op, operator, inputs: operator.inputs.iter().map(|&t| graph.tensor(t)).collect(), output: graph.tensor(output) };
        for tensor in site.inputs.iter().chain([&site.output]) {
            let elements = tensor.shape.iter().try_fold(1u64, |n, &d| n.checked_mul(d as u64)).unwrap_or(u64::MAX);
            if elements == 0 {
                return Err(site.unsupported(&format!("tensor {} ({}) has no elements", tensor.name, tensor.shape_text())));
            }
            if elements > MAX_ELEMENTS {
                return Err(site.unsupported(&format!("tensor {} ({}) has 2^31 elements or more", tensor.name, tensor.shape_text())));
            }
        }
        Ok(site)
    }

    /// The operator is sound, but no kernel can compute it.
    fn unsupported(&self, reason: &str) -> Error {
        Error::Unsupported(vec![format!("{} {} ({}): {reason}", self.operator.kind.name(), self.operator.name, self.op)])
    }

    /// The operator breaks a rule of the graph.
    fn wrong(&self, reason: &str) -> Error {
        Error::internal("kernel", format!("{} {} ({}): {reason}", self.operator.kind.name(), self.operator.name, self.op))
    }

    /// `Err(wrong(reason))` unless `condition`.
    fn require(&self, condition: bool, reason: &str) -> Result<()> {
        if condition { Ok(()) } else { Err(self.wrong(reason)) }
    }

    /// The kernel's parameters: the inputs under these names, then the output `y`.
    fn params<S: ToString>(&self, names: &[S]) -> Vec<draft::Param> {
        let inputs = names.iter().zip(&self.inputs).map(|(name, x)| draft::Param { name: name.to_string(), dtype: x.dtype, output: false });
        inputs.chain([draft::Param { name: "y".into(), dtype: self.output.dtype, output: true }]).collect()
    }

    /// An error unless all tensors are f32: for families whose templates know nothing else.
    fn only_f32(&self) -> Result<()> {
        match self.inputs.iter().chain([&self.output]).find(|t| t.dtype != DType::F32) {
            Some(t) => Err(self.unsupported(&format!("tensor {} is of type {}, not f32", t.name, t.dtype.name()))),
            None => Ok(()),
        }
    }

    /// The only input of an operator that has one.
    fn only_input(&self) -> Result<&'a Tensor> {
        match self.inputs[..] {
            [x] => Ok(x),
            _ => Err(self.wrong("it must have exactly one input")),
        }
    }
}
