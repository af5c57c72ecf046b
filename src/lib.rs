//! hiosc: an ONNX ahead-of-time compiler for several GPUs and streams.
//!
//! A [`Compiler`] says what to compile and how. It gives a [`Compilation`]: a standalone Rust/CUDA
//! crate, in memory, and its predicted latency.
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
//! let report = hiosc::verify("out".as_ref(), &VerifyOptions { on_virtual: true, ..VerifyOptions::default() })?;
//! println!("right on {}", report.device);
//! # Ok(()) }
//! ```
//!
//! Only what is re-exported here, and [`vgpu`], is public API. The other modules are public for
//! hiosc's own program, tests, benchmarks, examples and fuzz targets, and may change at any time.
//! docs/architecture.md describes them:
//!
//! ```text
//! model.onnx ─import─▶ Graph ─fuse─▶ Graph ─cost─▶ CostTable ─schedule─▶ Schedule ─plan─▶ Plan ─program─▶ Program ─emit─▶ Crate
//!                                                                                                            └─run─▶ outputs
//! ```
#![warn(missing_docs)]

#[cfg(not(feature = "tool"))]
compile_error!("hiosc measures with the runtime's tools: build it with the feature `tool`, which is on by default");

#[doc(hidden)]
pub mod acceptance;
#[doc(hidden)]
pub mod cache;
#[doc(hidden)]
pub mod compiler;
#[doc(hidden)]
pub mod cost;
#[doc(hidden)]
pub mod device;
#[doc(hidden)]
pub mod embedded;
#[doc(hidden)]
pub mod emit;
#[doc(hidden)]
pub mod error;
#[doc(hidden)]
pub mod fuse;
#[doc(hidden)]
pub mod graph;
#[doc(hidden)]
pub mod ids;
#[doc(hidden)]
pub mod import;
#[doc(hidden)]
pub mod kernel;
#[doc(hidden)]
pub mod measure;
#[doc(hidden)]
pub mod plan;
#[doc(hidden)]
pub mod program;
#[doc(hidden)]
pub mod run;
#[doc(hidden)]
pub mod runtime;
#[doc(hidden)]
pub mod schedule;
pub mod vgpu;

pub use acceptance::{OutputReport, VerifyOptions, VerifyReport, verify};
pub use compiler::{Compilation, Compiler, Imported, Inspection, Planned, inspect};
pub use cost::Profile;
pub use emit::Written;
pub use error::{Error, Result};
pub use import::{ImportOptions, Literal, OperatorCount, Survey};
pub use measure::bench::BenchOptions;
pub use plan::PlanOptions;
pub use program::KernelMode;
pub use runtime::RuntimeOptions;
pub use schedule::{Algorithm, Effort, ScheduleOptions};
