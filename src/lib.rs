//! hiosc: an ONNX ahead-of-time compiler for several GPUs and streams.
//!
//! ```text
//! model.onnx ─import─▶ Graph ─fuse─▶ Graph ─cost─▶ CostTable ─schedule─▶ Schedule ─plan─▶ Plan ─emit─▶ Crate
//! ```
//!
//! The rooms, in the order data flows through them; each depends only on earlier ones.
#![warn(missing_docs)]

pub mod cache;
pub mod embedded;
pub mod error;
pub mod ids;

pub mod compiler;
pub mod cost;
pub mod emit;
pub mod fuse;
pub mod graph;
pub mod import;
pub mod kernel;
pub mod plan;
pub mod run;
pub mod schedule;

pub mod inspect;
mod summary;
pub mod verify;
pub mod vgpu;

pub use compiler::{Compilation, Compiler};
pub use error::{Error, Result};
