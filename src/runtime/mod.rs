//! The runtime: executes a plan on CUDA GPUs through the driver API, without the CUDA runtime
//! library.
//!
//! The same source has two users. A generated crate contains it in `src/runtime/` and calls the
//! primitives of [`Exec`] from the functions of its `plan.rs`. hiosc runs plans in-process by
//! interpreting their steps with the same primitives. So the runtime depends only on the standard
//! library, cudarc, libloading, memmap2, safetensors and sha2. The command line of a generated
//! crate and its measurements are in `tool/`, behind the feature `tool`.
//!
//! 1. [`Layout`] lists what a plan needs: memory, streams, events, kernels, weights. It is plain
//!    data, and constant in a generated crate.
//! 2. [`Exec::load`] allocates all of it on the GPUs that [`RuntimeOptions`] names. If that fails,
//!    it returns a typed [`Error`] and frees everything. Then it captures the whole plan into one
//!    CUDA graph (`graph.rs`).
//! 3. [`Exec::run`] replays the graph and synchronises with the origin stream, which all other
//!    streams have joined. `resident.rs` does the same with inputs and outputs in device memory,
//!    `timing.rs` with timestamps, and `observe.rs` with a look at the result of each launch.
//!
//! Every primitive only enqueues. The events of the plan determine what may run when, and hiosc has
//! proved that they suffice. The runtime adds no synchronisation of its own, except around copies
//! staged through host memory (`copy_path.rs`).

mod blocker;
mod check;
mod compile;
mod copy_path;
mod device;
mod dtype;
mod error;
mod exec;
mod graph;
mod kernel;
mod layout;
mod memory;
pub mod npy;
pub mod nvrtc;
mod observe;
mod options;
mod resident;
mod timing;
#[cfg(feature = "tool")]
pub mod tool;
pub mod weights;

pub use blocker::{MAX_BLOCKED_OPERATIONS, StreamBlocker};
pub use check::{StoredCheck, TOLERANCE, check, other_inputs};
pub use compile::compile;
pub use device::is_virtual;
pub use dtype::{DType, Element, bf16_to_f32, bytes, f16_to_f32, f32_to_bf16, f32_to_f16};
pub use error::{Error, Result};
pub use exec::Exec;
pub use graph::ExecutableGraph;
pub use layout::{Area, Compile, Event, GpuLayout, ImageKind, KernelEntry, KernelImage, Layout, Port, Region, Stream, StreamLayout};
pub use observe::{LaunchResults, ResultSink};
pub use options::RuntimeOptions;
pub use resident::DevicePointer;
pub use timing::{Span, StepKind, Timing};
