//! What can go wrong when a model is loaded or run. The text of each error says what to do.

use std::fmt;
use std::path::PathBuf;

/// Why a model could not be loaded or run.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Error {
    /// The CUDA driver is not installed.
    NoDriver,
    /// The driver is older than the kernels need. CUDA versions as the driver encodes them (12040
    /// is 12.4).
    DriverTooOld {
        /// What the kernels need.
        needed: i32,
        /// What the driver supports.
        found: i32,
    },
    /// The plan uses more GPUs than there are.
    NotEnoughGpus {
        /// GPUs of the plan.
        planned: usize,
        /// GPUs present.
        found: usize,
    },
    /// `RuntimeOptions::on` does not name one GPU for each logical GPU of the plan.
    GpuList {
        /// GPUs of the plan.
        planned: usize,
        /// Length of the list.
        listed: usize,
    },
    /// `RuntimeOptions::on` names a GPU that does not exist.
    NoSuchGpu {
        /// The number given.
        gpu: usize,
        /// GPUs present.
        found: usize,
    },
    /// No kernel image runs on this GPU.
    WrongArchitecture {
        /// The GPU's number.
        gpu: usize,
        /// Its name.
        name: String,
        /// Its compute capability.
        found: (u32, u32),
        /// The architectures that there are images for, such as `sm_86`.
        images: Vec<String>,
    },
    /// A GPU has too little free memory.
    OutOfMemory {
        /// The GPU's number.
        gpu: usize,
        /// Bytes needed.
        needed: u64,
        /// Bytes free.
        free: u64,
    },
    /// Pinned host memory could not be allocated.
    OutOfHostMemory {
        /// Bytes needed.
        needed: u64,
    },
    /// An input has the wrong number of elements.
    InputLength {
        /// Its ONNX name.
        name: String,
        /// Its shape, such as `1x3x224x224`.
        shape: String,
        /// Elements expected.
        expected: usize,
        /// Elements given.
        found: usize,
    },
    /// The wrong number of inputs was given.
    InputCount {
        /// Inputs of the model.
        expected: usize,
        /// Inputs given.
        found: usize,
    },
    /// The wrong number of outputs was given.
    OutputCount {
        /// Outputs of the model.
        expected: usize,
        /// Outputs given.
        found: usize,
    },
    /// No weights file was found.
    WeightsMissing {
        /// The paths that were tried.
        looked: Vec<PathBuf>,
    },
    /// A weights file does not belong to this model.
    WeightsMismatch {
        /// The file.
        path: PathBuf,
        /// What is different.
        message: String,
    },
    /// The model's own check failed: it computes something else than its reference.
    Check {
        /// ONNX name of the output; empty if the stored data cannot be used.
        output: String,
        /// What is wrong.
        message: String,
    },
    /// The program was built without compiling its model.
    NotCompiled,
    /// A kernel could not be compiled or loaded.
    Kernel {
        /// Its name.
        name: String,
        /// What the compiler or the driver said.
        message: String,
    },
    /// Data sent from one GPU does not arrive at another.
    Link {
        /// The machine's GPU that it starts from.
        from: usize,
        /// The machine's GPU that it should reach.
        to: usize,
        /// What is wrong.
        message: String,
    },
    /// The driver refused a call.
    Driver {
        /// What was being done.
        call: String,
        /// What the driver said.
        message: String,
    },
    /// The plan is inconsistent: a bug in hiosc.
    Plan(String),
}

/// `Result` with this module's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl std::error::Error for Error {}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::NoDriver => {
                write!(f, "no CUDA driver: libcuda could not be loaded; install the NVIDIA driver, or put its folder on the library path")
            }
            Error::DriverTooOld { needed, found } => write!(
                f,
                "the NVIDIA driver supports CUDA {}, but the kernels need CUDA {} or newer: update the driver, or compile the model again with an older NVRTC",
                version(*found),
                version(*needed)
            ),
            Error::NotEnoughGpus { planned, found: 0 } => {
                write!(f, "the plan uses {}, but the driver reports none: check nvidia-smi and CUDA_VISIBLE_DEVICES", gpus(*planned))
            }
            Error::NotEnoughGpus { planned, found } => write!(
                f,
                "the plan uses {}, but the machine has {found}: put several on one with RuntimeOptions::on(&{:?}) (--on {}), or let it fold them with RuntimeOptions::fold(true) (--fold)",
                gpus(*planned),
                folded(*planned, *found),
                folded(*planned, *found).iter().map(|g| g.to_string()).collect::<Vec<_>>().join(",")
            ),
            Error::GpuList { planned, listed } => write!(
                f,
                "RuntimeOptions::on names {}, but the plan uses {planned}: name one for each, in order (repeats are allowed), or add RuntimeOptions::fold(true)",
                gpus(*listed)
            ),
            Error::NoSuchGpu { gpu, found } => {
                write!(f, "RuntimeOptions::on names GPU {gpu}, but the machine has {}, counted from 0", gpus(*found))
            }
            Error::WrongArchitecture { gpu, name, found, images } => write!(
                f,
                "GPU {gpu} ({name}) has compute capability {}.{}, but the kernels were compiled for {}: compile the model again for sm_{}{}",
                found.0,
                found.1,
                if images.is_empty() { "nothing".to_owned() } else { images.join(", ") },
                found.0,
                found.1
            ),
            Error::OutOfMemory { gpu, needed, free } => write!(
                f,
                "GPU {gpu} has {} bytes of free memory, but the plan needs {needed}: free memory on it, or choose another with RuntimeOptions::on",
                free
            ),
            Error::OutOfHostMemory { needed } => write!(f, "cannot allocate {needed} bytes of pinned host memory"),
            Error::InputLength { name, shape, expected, found } => {
                write!(f, "input `{name}` has shape {shape}: expected {expected} elements, found {found}")
            }
            Error::InputCount { expected, found } => write!(f, "expected {expected} inputs, found {found}"),
            Error::OutputCount { expected, found } => write!(f, "expected {expected} outputs, found {found}"),
            Error::WeightsMissing { looked } => {
                write!(f, "the weights were not found; looked for ")?;
                for (i, path) in looked.iter().enumerate() {
                    write!(f, "{}{}", if i == 0 { "" } else { ", " }, path.display())?;
                }
                write!(f, ": put them beside the program, or give their path with RuntimeOptions::weights")
            }
            Error::WeightsMismatch { path, message } => write!(
                f,
                "{} is not the weights file of this model ({message}): restore the one made with the crate, or give its path with RuntimeOptions::weights",
                path.display()
            ),
            Error::NotCompiled => write!(f, "the model was not compiled, because the variable HIOSC_SKIP was set: build again without it"),
            Error::Check { output, message } if output.is_empty() => write!(f, "the stored check cannot be used: {message}"),
            Error::Check { output, message } => write!(f, "output `{output}` {message}"),
            Error::Kernel { name, message } => write!(f, "kernel {name}: {message}"),
            Error::Link { from, to, message } => write!(f, "data does not arrive from GPU {from} at GPU {to}: {message}"),
            Error::Driver { call, message } => write!(f, "the CUDA driver refused to {call}: {message}"),
            Error::Plan(message) => write!(f, "the plan is inconsistent: {message}"),
        }
    }
}

fn gpus(count: usize) -> String {
    if count == 1 { "1 GPU".into() } else { format!("{count} GPUs") }
}

fn version(cuda: i32) -> String {
    format!("{}.{}", cuda / 1000, cuda % 1000 / 10)
}

fn folded(planned: usize, found: usize) -> Vec<usize> {
    (0..planned).map(|gpu| gpu % found).collect()
}
