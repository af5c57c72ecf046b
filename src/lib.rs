//! hiosc: an ONNX ahead-of-time compiler for several GPUs and streams.
//!
//! ```text
//! model.onnx ─import─▶ Graph ─fuse─▶ Graph ─cost─▶ CostTable ─schedule─▶ Schedule ─plan─▶ Plan ─program─▶ Program ─emit─▶ Crate
//!                                                                                                            └─run─▶ outputs
//! ```
//!
//! The rooms, from the ground up; each depends only on earlier ones (`tests/layers.rs` holds the order, which stands in docs/architecture.md):
//! [`error`], [`ids`], [`embedded`], [`cache`], [`runtime`], [`vgpu`], [`device`], [`graph`], [`import`], [`fuse`], [`kernel`], [`cost`], [`schedule`], [`plan`],
//! [`program`], [`emit`], [`run`], [`measure`], [`acceptance`], [`compiler`].
#![warn(missing_docs)]

#[cfg(not(feature = "tool"))]
compile_error!("hiosc measures with the runtime's tools: build it with the feature `tool`, which is on by default");

pub mod acceptance;
pub mod cache;
pub mod compiler;
pub mod cost;
pub mod device;
pub mod embedded;
pub mod emit;
pub mod error;
pub mod fuse;
pub mod graph;
pub mod ids;
pub mod import;
pub mod kernel;
pub mod measure;
pub mod plan;
pub mod program;
pub mod run;
pub mod runtime;
pub mod schedule;
pub mod vgpu;

pub use compiler::{Compilation, Compiler};
pub use error::{Error, Result};
