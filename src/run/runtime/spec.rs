//! What a plan consists of: sizes, counts and names, as tables of constants.

/// A stream of the plan, by its position in [`Spec::streams`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stream(pub usize);

/// An event of the plan, by its position in [`Spec::events`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event(pub usize);

/// A kernel of the plan, by its position in [`Spec::kernels`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kernel(pub usize);

/// The two allocations of a GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Region {
    /// Activations.
    Arena,
    /// Constants.
    Weights,
}

/// A planned place in the memory of one GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BufferAt {
    /// Logical GPU.
    pub gpu: usize,
    /// Which allocation.
    pub region: Region,
    /// Offset in it, in bytes.
    pub offset: u64,
    /// Size in bytes.
    pub bytes: u64,
}

/// A logical GPU.
#[derive(Clone, Copy, Debug)]
pub struct GpuSpec {
    /// Bytes of its arena.
    pub arena_bytes: u64,
    /// Bytes of its weights region.
    pub weights_bytes: u64,
}

/// A stream.
#[derive(Clone, Copy, Debug)]
pub struct StreamSpec {
    /// The logical GPU that it lives on.
    pub gpu: usize,
    /// For a stream that carries transfers: the logical GPU that they go to, and the bytes of the largest.
    pub copies_to: Option<(usize, u64)>,
}

/// A constant to upload at load.
#[derive(Clone, Copy, Debug)]
pub struct WeightSpec<'a> {
    /// The logical GPU.
    pub gpu: usize,
    /// Its name in `weights.safetensors`.
    pub name: &'a str,
    /// Offset in the weights region.
    pub offset: u64,
    /// Size in bytes.
    pub bytes: u64,
}

/// A kernel compiled for one architecture.
#[derive(Clone, Copy, Debug)]
pub struct Image<'a> {
    /// `sm_86` (a cubin) or `compute_75` (PTX).
    pub architecture: &'a str,
    /// The image.
    pub bytes: &'a [u8],
}

/// A kernel with its launch geometry.
#[derive(Clone, Copy, Debug)]
pub struct KernelSpec<'a> {
    /// Its `extern "C"` name.
    pub name: &'a str,
    /// Blocks along x, y, z.
    pub grid: [u32; 3],
    /// Threads of a block along x, y, z.
    pub block: [u32; 3],
    /// Dynamic shared memory a block, in bytes.
    pub shared_bytes: u32,
    /// The logical GPUs that launch it.
    pub gpus: &'a [usize],
    /// CUDA C++ source; compiled at load if there are no images.
    pub source: &'a str,
    /// Compiled forms; empty if the crate ships sources only.
    pub images: &'a [Image<'a>],
}

/// An input or output of the model, f32, row-major.
#[derive(Clone, Copy, Debug)]
pub struct PortSpec<'a> {
    /// ONNX name.
    pub name: &'a str,
    /// Extents.
    pub shape: &'a [usize],
}

impl PortSpec<'_> {
    /// Number of values.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }
}

/// Everything that is set up at load.
#[derive(Clone, Copy, Debug)]
pub struct Spec<'a> {
    /// Name of the model.
    pub model: &'a str,
    /// Logical GPUs.
    pub gpus: &'a [GpuSpec],
    /// Streams.
    pub streams: &'a [StreamSpec],
    /// The stream that the host waits for: all others join it.
    pub origin: Stream,
    /// The logical GPU of each event.
    pub events: &'a [usize],
    /// Kernels.
    pub kernels: &'a [KernelSpec<'a>],
    /// Headers that kernel sources include: (name, text).
    pub headers: &'a [(&'a str, &'a str)],
    /// Constants.
    pub weights: &'a [WeightSpec<'a>],
    /// Inputs, in ONNX order.
    pub inputs: &'a [PortSpec<'a>],
    /// Outputs, in ONNX order.
    pub outputs: &'a [PortSpec<'a>],
    /// Oldest CUDA driver that can load the images, as `cuDriverGetVersion` counts: 12000 for 12.0.
    pub min_driver: i32,
    /// Oldest compute capability that the kernels can be compiled for.
    pub min_architecture: (i32, i32),
}
