//! The runtime: executes a plan on CUDA GPUs through the driver, and nothing but the driver.
//!
//! The same source serves two masters. A generated crate carries it under `src/runtime/` and calls the primitives of [`Exec`] from the functions
//! of its `plan.rs`; hiosc runs plans in-process by interpreting their steps with the same primitives. Hence it names nothing outside
//! itself but the standard library, cudarc, libloading, safetensors and sha2. The command line of a generated crate and what it measures with are apart, in
//! `tool/`, behind the feature `tool`.
//!
//! 1. [`Layout`] says what a plan needs: memory, streams, events, kernels, weights. It is plain data, constant in a generated crate.
//! 2. [`Exec::load`] claims all of it on the GPUs that [`Options`] names, or fails with a typed [`Error`] and leaves nothing behind.
//!    The whole plan is captured into one CUDA graph then (`graph.rs`).
//! 3. [`Exec::run`] replays it and waits for the origin stream, where all other streams have joined. `resident.rs` is the same from and to device memory,
//!    `timing.rs` the same with a clock.
//!
//! Every primitive only enqueues. What may run when is decided by the events of the plan, which hiosc has proved sufficient; the runtime adds
//! no synchronisation of its own, except around copies that have to pass through host memory (`link.rs`).

mod compile;
mod device;
mod dtype;
mod error;
mod exec;
mod gate;
mod graph;
mod kernel;
mod layout;
mod link;
mod memory;
pub mod npy;
pub mod nvrtc;
mod options;
mod resident;
mod timing;
#[cfg(feature = "tool")]
pub mod tool;
pub mod weights;

pub use compile::compile;
pub use device::is_virtual;
pub use dtype::{DType, Element, bytes, f16_to_f32, f32_to_f16};
pub use error::{Error, Result};
pub use exec::Exec;
pub use gate::{BEHIND_A_GATE, Gate};
pub use graph::Graph;
pub use layout::{Area, Compile, Event, GpuLayout, Image, ImageKind, Kernel, Layout, Port, Region, Stream, StreamLayout};
pub use options::Options;
pub use resident::DevicePointer;
pub use timing::{Span, Timing, Work};
