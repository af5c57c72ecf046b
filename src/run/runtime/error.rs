//! What can go wrong at load or in a run. Each text names what was expected, what was found, and what to do.

use std::fmt::{self, Display, Formatter};
use std::path::PathBuf;

/// An error of a planned model.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Error {
    /// No CUDA driver on this machine.
    NoDriver,
    /// The driver is older than the kernel images.
    DriverTooOld {
        /// Oldest version that works (12000 is 12.0).
        needed: i32,
        /// Version found.
        found: i32,
    },
    /// Fewer GPUs than the plan uses.
    NotEnoughGpus {
        /// GPUs that the plan uses.
        planned: usize,
        /// GPUs present.
        found: usize,
    },
    /// `Options::gpus` does not fit the plan or the machine.
    BadGpuMapping {
        /// GPUs that the plan uses.
        planned: usize,
        /// GPUs present.
        found: usize,
        /// What was asked for.
        mapping: Vec<usize>,
    },
    /// The kernels were not compiled for this GPU.
    WrongArchitecture {
        /// Physical GPU.
        gpu: usize,
        /// Its name.
        name: String,
        /// Its compute capability.
        found: (i32, i32),
        /// What the crate carries.
        expected: String,
    },
    /// A GPU has too little free memory.
    OutOfMemory {
        /// Physical GPU.
        gpu: usize,
        /// Bytes that the plan needs there.
        needed: u64,
        /// Bytes that are free.
        free: u64,
    },
    /// An input has the wrong number of values.
    InputLength {
        /// ONNX name.
        name: String,
        /// Its shape.
        shape: Vec<usize>,
        /// Number of values expected.
        expected: usize,
        /// Number of values given.
        found: usize,
    },
    /// The weights file is missing, changed or broken.
    Weights {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// A kernel could not be compiled at load.
    Kernel {
        /// Its name.
        name: String,
        /// What NVRTC said.
        message: String,
    },
    /// A call of the CUDA driver failed.
    Driver {
        /// The call.
        call: &'static str,
        /// What the driver said.
        message: String,
    },
}

impl Display for Error {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Error::NoDriver => write!(f, "no CUDA driver (libcuda) on this machine: install the NVIDIA driver"),
            Error::DriverTooOld { needed, found } => write!(
                f,
                "the NVIDIA driver supports CUDA {}.{}, the kernels need {}.{}: update the driver",
                found / 1000,
                found % 1000 / 10,
                needed / 1000,
                needed % 1000 / 10
            ),
            Error::NotEnoughGpus { planned, found } => write!(
                f,
                "planned for {planned} GPUs, found {found}: run on a machine with {planned}, or let them share with Options::fold(true) or \
                 Options::gpus(&[0, 0])"
            ),
            Error::BadGpuMapping { planned, found, mapping } => {
                write!(f, "Options::gpus({mapping:?}) must name {planned} GPUs, each below {found} (the number present)")
            }
            Error::WrongArchitecture { gpu, name, found, expected } => write!(
                f,
                "GPU {gpu} ({name}) has compute capability {}.{}, the kernels are for {expected}: compile the model again for this device",
                found.0, found.1
            ),
            Error::OutOfMemory { gpu, needed, free } => {
                write!(f, "GPU {gpu} has {} MiB free, the plan needs {} MiB there", free >> 20, needed.div_ceil(1 << 20))
            }
            Error::InputLength { name, shape, expected, found } => {
                let shape: Vec<String> = shape.iter().map(|d| d.to_string()).collect();
                write!(f, "input {name:?} has shape {}: expected {expected} values, found {found}", shape.join("x"))
            }
            Error::Weights { path, message } => write!(f, "weights {}: {message}", path.display()),
            Error::Kernel { name, message } => write!(f, "kernel {name}: {message}"),
            Error::Driver { call, message } => write!(f, "{call}: {message}"),
        }
    }
}

impl std::error::Error for Error {}

/// Names the driver call that failed.
pub(super) fn driver(call: &'static str) -> impl Fn(cudarc::driver::DriverError) -> Error {
    move |e| {
        let text = |r: Result<&std::ffi::CStr, _>| r.map_or_else(|_: cudarc::driver::DriverError| "unknown error".into(), |s| s.to_string_lossy().into_owned());
        Error::Driver { call, message: format!("{} ({})", text(e.error_name()), text(e.error_string())) }
    }
}
