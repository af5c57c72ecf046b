//! What a planned model needs at run time: devices, memory, streams, kernels, and the few calls that a plan is made of.
//!
//! This folder is part of every generated crate, word for word, and hiosc runs plans with the same code. It knows nothing of graphs or schedules:
//! a [`Spec`] says what to set up, and the plan (generated code, or hiosc's interpreter) makes the calls of [`Exec`] in host issue order.
//!
//! `spec` what a plan consists of · `options` what the user may choose · `device` GPUs and memory · `image` kernels · `link` copies between GPUs ·
//! `exec` the calls · `weights` the side file · `error` what can go wrong

mod device;
mod error;
mod exec;
mod image;
mod link;
pub mod nvrtc;
mod options;
mod spec;
mod weights;

pub use error::Error;
pub use exec::Exec;
pub use options::Options;
pub use spec::{BufferAt, Event, GpuSpec, Image, Kernel, KernelSpec, PortSpec, Region, Spec, Stream, StreamSpec, WeightSpec};
pub use weights::{file_weights, parse_weights};
