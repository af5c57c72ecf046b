//! What a plan needs from the machine, as plain data.

use super::dtype::DType;

/// An input or output of the model: row-major values with a static shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Port<'a> {
    /// Its ONNX name.
    pub name: &'a str,
    /// Type of its elements.
    pub dtype: DType,
    /// Extent of each axis, outermost first.
    pub shape: &'a [usize],
}

impl Port<'_> {
    /// Number of elements.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// Size in bytes.
    pub fn bytes(&self) -> usize {
        self.elements() * self.dtype.bytes() as usize
    }

    /// `1x3x224x224`, or `scalar`.
    pub fn shape_text(&self) -> String {
        let extents: Vec<_> = self.shape.iter().map(|d| d.to_string()).collect();
        if extents.is_empty() { "scalar".into() } else { extents.join("x") }
    }
}

/// A stream of the plan, by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stream(pub usize);

/// An event of the plan, by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event(pub usize);

/// The two memory regions of a GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Area {
    /// Holds activations, whose bytes are reused as the plan proceeds, and counters.
    Arena,
    /// Holds the constants; written once, at load.
    Weights,
}

/// A piece of one GPU's memory that holds one tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// The logical GPU.
    pub gpu: usize,
    /// The memory region it is in.
    pub area: Area,
    /// Its first byte.
    pub offset: u64,
    /// Its size.
    pub bytes: u64,
}

impl Region {
    /// A piece of the arena of `gpu`.
    pub const fn arena(gpu: usize, offset: u64, bytes: u64) -> Region {
        Region { gpu, area: Area::Arena, offset, bytes }
    }

    /// A piece of the weights of `gpu`.
    pub const fn weights(gpu: usize, offset: u64, bytes: u64) -> Region {
        Region { gpu, area: Area::Weights, offset, bytes }
    }
}

/// What one logical GPU needs.
#[derive(Clone, Copy, Debug)]
pub struct GpuLayout<'a> {
    /// Size of its arena.
    pub arena_bytes: u64,
    /// Size of its weights region.
    pub weights_bytes: u64,
    /// Its constants: index into the list of weights, and destination.
    pub weights: &'a [(usize, Region)],
    /// Counters of its kernels, in the arena. They are zeroed at load, before the first launch.
    /// Every launch leaves its own zero, and nothing else ever writes them.
    pub counters: &'a [Region],
}

/// What a stream is for.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum StreamLayout {
    /// Runs kernels.
    Compute {
        /// The GPU it runs on.
        gpu: usize,
    },
    /// Carries tensors to another GPU.
    Copy {
        /// The GPU it runs on.
        gpu: usize,
        /// Destination.
        to: usize,
        /// The largest tensor it carries, in bytes.
        largest: u64,
    },
}

impl StreamLayout {
    /// The GPU it runs on.
    pub fn gpu(&self) -> usize {
        match *self {
            StreamLayout::Compute { gpu } | StreamLayout::Copy { gpu, .. } => gpu,
        }
    }
}

/// Forms of compiled kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ImageKind {
    /// Machine code. Runs on GPUs of the same major version and of the same or a higher minor
    /// version.
    Cubin,
    /// Assembly that the driver compiles. Runs on GPUs of the same or a higher version.
    Ptx,
}

/// A kernel compiled for one architecture.
#[derive(Clone, Copy, Debug)]
pub struct KernelImage<'a> {
    /// Its kind.
    pub kind: ImageKind,
    /// The compute capability (major, minor) that it was compiled for.
    pub arch: (u32, u32),
    /// The code.
    pub bytes: &'a [u8],
}

impl KernelImage<'_> {
    /// `sm_86` or `compute_75`.
    pub fn target(&self) -> String {
        let prefix = if self.kind == ImageKind::Cubin { "sm" } else { "compute" };
        format!("{prefix}_{}{}", self.arch.0, self.arch.1)
    }
}

/// A kernel: its launch geometry, the GPUs that launch it, and its images.
#[derive(Clone, Copy, Debug)]
pub struct KernelEntry<'a> {
    /// Index into [`Layout::kernels`].
    pub index: usize,
    /// Name of the function.
    pub name: &'a str,
    /// Blocks along x, y, z.
    pub grid: [u32; 3],
    /// Threads per block along x, y, z.
    pub block: [u32; 3],
    /// Dynamic shared memory per block, in bytes.
    pub shared_bytes: u32,
    /// Logical GPUs that launch it.
    pub gpus: &'a [usize],
    /// Its images; empty if it is compiled at load.
    pub images: &'a [KernelImage<'a>],
}

/// Compiles the kernel of this name for a compute capability, at load. Returns machine code or PTX,
/// or what went wrong.
pub type Compile<'a> = &'a (dyn Fn(&str, (u32, u32)) -> std::result::Result<Vec<u8>, String> + Sync);

/// Everything a plan needs.
#[derive(Clone, Copy)]
pub struct Layout<'a> {
    /// The model's inputs.
    pub inputs: &'a [Port<'a>],
    /// The model's outputs.
    pub outputs: &'a [Port<'a>],
    /// The logical GPUs.
    pub gpus: &'a [GpuLayout<'a>],
    /// All streams.
    pub streams: &'a [StreamLayout],
    /// The stream that all others fork from and join.
    pub origin_stream: Stream,
    /// For each event, the GPU that owns it.
    pub events: &'a [usize],
    /// All kernels.
    pub kernels: &'a [KernelEntry<'a>],
    /// The CUDA version that the driver must support, as the driver encodes it: 12040 is 12.4.
    pub driver: i32,
    /// How kernels without images are compiled.
    pub compile: Option<Compile<'a>>,
}

impl std::fmt::Debug for Layout<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Layout { inputs, outputs, gpus, streams, origin_stream, events, kernels, driver, compile: _ } = self;
        f.debug_struct("Layout")
            .field("inputs", inputs)
            .field("outputs", outputs)
            .field("gpus", gpus)
            .field("streams", streams)
            .field("origin_stream", origin_stream)
            .field("events", events)
            .field("kernels", kernels)
            .field("driver", driver)
            .finish_non_exhaustive()
    }
}
