//! hiosc: an ONNX ahead-of-time compiler for several GPUs and streams.
//!
//! A [`Compiler`] says what to compile and how. It gives a [`Compilation`]: a standalone Rust/CUDA
//! crate, in memory, and its predicted [latency](Compilation::latency).
//!
//! ```no_run
//! # fn main() -> hiosc::Result<()> {
//! let compilation = hiosc::Compiler::new("model.onnx").device("a40").gpus(2).compile()?;
//! println!("{}", compilation.summary());
//! compilation.write("out".as_ref())?;
//! # Ok(()) }
//! ```
//!
//! Check a model before compiling it, and the crate afterwards:
//!
//! ```no_run
//! # fn main() -> hiosc::Result<()> {
//! use hiosc::{Algorithm, ImportOptions, VerifyOptions};
//!
//! let inspection = hiosc::inspect("model.onnx".as_ref(), &ImportOptions::default())?;
//! assert!(inspection.refusals.is_empty(), "not supported: {:?}", inspection.refusals);
//! let compiler = hiosc::Compiler::new("model.onnx").device("a40,l4").algorithm(Algorithm::HiosLp);
//! compiler.compile()?.write("out".as_ref())?;
//! let report = hiosc::verify("out".as_ref(), &VerifyOptions::default().on_virtual(true))?;
//! println!("right on {}", report.device);
//! # Ok(()) }
//! ```
//!
//! What is documented here, with [`vgpu`], is the whole public API. The other modules are private.
//! The feature `internals` makes them public, for the package's own tests, benchmarks, examples and
//! fuzz targets; they may change at any time. docs/architecture.md describes them:
//!
//! ```text
//! model.onnx ─import─▶ Graph ─fuse─▶ Graph ─cost─▶ CostTable ─schedule─▶ Schedule ─plan─▶ Plan ─program─▶ Program ─emit─▶ Crate
//!                                                                                                            └─run─▶ outputs
//! ```
#![warn(missing_docs, unnameable_types)]
// tests, benchmarks, examples and fuzz targets use the rest
#![cfg_attr(not(feature = "internals"), allow(dead_code, unused_imports))]

#[cfg(not(feature = "tool"))]
compile_error!("hiosc measures with the runtime's tools: build it with the feature `tool`, which is on by default");

#[doc(hidden)]
pub mod cli;
pub mod vgpu;

// The passes and what they share: private, but public with the feature `internals`.
#[cfg(not(feature = "internals"))]
mod acceptance;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod acceptance;
#[cfg(not(feature = "internals"))]
mod cache;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod cache;
#[cfg(not(feature = "internals"))]
mod compiler;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod compiler;
#[cfg(not(feature = "internals"))]
mod cost;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod cost;
#[cfg(not(feature = "internals"))]
mod device;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod device;
#[cfg(not(feature = "internals"))]
mod embedded;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod embedded;
#[cfg(not(feature = "internals"))]
mod emit;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod emit;
#[cfg(not(feature = "internals"))]
mod error;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod error;
#[cfg(not(feature = "internals"))]
mod fuse;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod fuse;
#[cfg(not(feature = "internals"))]
mod graph;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod graph;
#[cfg(not(feature = "internals"))]
mod ids;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod ids;
#[cfg(not(feature = "internals"))]
mod import;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod import;
#[cfg(not(feature = "internals"))]
mod kernel;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod kernel;
#[cfg(not(feature = "internals"))]
mod measure;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod measure;
#[cfg(not(feature = "internals"))]
mod plan;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod plan;
#[cfg(not(feature = "internals"))]
mod program;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod program;
#[cfg(not(feature = "internals"))]
mod run;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod run;
#[cfg(not(feature = "internals"))]
mod runtime;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod runtime;
#[cfg(not(feature = "internals"))]
mod schedule;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod schedule;

pub use acceptance::{OutputReport, VerifyOptions, VerifyReport, verify};
pub use compiler::{Compilation, Compiler, Inspection, inspect};
pub use emit::Written;
pub use error::{Error, Result};
pub use import::{ImportOptions, Literal, OperatorCount, Survey};
pub use measure::bench::BenchOptions;
pub use plan::PlanOptions;
pub use program::KernelMode;
pub use runtime::RuntimeOptions;
pub use schedule::{Algorithm, Effort, ScheduleOptions};
