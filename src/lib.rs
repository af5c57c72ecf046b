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
//! In a build script, [`compile`] and [`Build`] make a model a module of the program that is being
//! built, and [`include_model!`] includes it. docs/build-scripts.md has more.
//!
//! | feature | |
//! |---|---|
//! | none | what build scripts and the modules that they make need; models are compiled by the installed program `hiosc` |
//! | `compiler` | the compiler as a library |
//! | `oracle` | reference outputs by a reader that is not the importer's; without it they come from the importer's, which cannot notice what it misread |
//! | `cli` (default) | the program `hiosc` |
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
// Bad input is an error, never a panic. Tests may panic.
#![cfg_attr(not(test), warn(clippy::unwrap_used, clippy::panic, clippy::todo, clippy::unimplemented, clippy::unreachable))]
// tests, benchmarks, examples and fuzz targets use the rest
#![cfg_attr(not(feature = "internals"), allow(dead_code, unused_imports))]
// this page describes the whole library
#![cfg_attr(not(feature = "compiler"), allow(rustdoc::broken_intra_doc_links))]

mod build_script;
#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod cli;
// modules that hiosc generates use it
#[doc(hidden)]
pub mod runtime;
#[cfg(feature = "compiler")]
pub mod vgpu;

// The passes and what they share: private, but public with the feature `internals`.
#[cfg(all(feature = "compiler", not(feature = "internals")))]
mod acceptance;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod acceptance;
#[cfg(all(feature = "compiler", not(feature = "internals")))]
mod cache;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod cache;
#[cfg(all(feature = "compiler", not(feature = "internals")))]
mod compiler;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod compiler;
#[cfg(all(feature = "compiler", not(feature = "internals")))]
mod cost;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod cost;
#[cfg(all(feature = "compiler", not(feature = "internals")))]
mod device;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod device;
#[cfg(all(feature = "compiler", not(feature = "internals")))]
mod embedded;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod embedded;
#[cfg(all(feature = "compiler", not(feature = "internals")))]
mod emit;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod emit;
#[cfg(not(feature = "internals"))]
mod error;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod error;
#[cfg(all(feature = "compiler", not(feature = "internals")))]
mod fuse;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod fuse;
#[cfg(all(feature = "compiler", not(feature = "internals")))]
mod graph;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod graph;
#[cfg(all(feature = "compiler", not(feature = "internals")))]
mod ids;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod ids;
#[cfg(all(feature = "compiler", not(feature = "internals")))]
mod import;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod import;
#[cfg(all(feature = "compiler", not(feature = "internals")))]
mod kernel;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod kernel;
#[cfg(all(feature = "compiler", not(feature = "internals")))]
mod measure;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod measure;
#[cfg(all(feature = "compiler", not(feature = "internals")))]
mod oracle;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod oracle;
#[cfg(all(feature = "compiler", not(feature = "internals")))]
mod panics;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod panics;
#[cfg(all(feature = "compiler", not(feature = "internals")))]
mod plan;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod plan;
#[cfg(all(feature = "compiler", not(feature = "internals")))]
mod program;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod program;
#[cfg(all(feature = "compiler", not(feature = "internals")))]
mod progress;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod progress;
#[cfg(all(feature = "compiler", not(feature = "internals")))]
mod run;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod run;
#[cfg(all(feature = "compiler", not(feature = "internals")))]
mod schedule;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod schedule;

pub use build_script::{Build, compile};
/// The library that calls the CUDA driver, in the version that models use: for programs that share
/// device memory with a model.
#[doc(no_inline)]
pub use cudarc;
pub use error::{Error, Result};
pub use runtime::RuntimeOptions;

#[cfg(feature = "compiler")]
pub use {
    acceptance::{LayersReport, OutputReport, VerifyOptions, VerifyReport, WorstElement, WrongLayer, verify},
    compiler::{Compilation, Compiler, Inspection, inspect},
    emit::{CrateOptions, Written},
    import::{ImportOptions, Literal, OperatorCount, Survey},
    measure::bench::BenchOptions,
    plan::PlanOptions,
    program::KernelMode,
    schedule::{Algorithm, Effort, ScheduleOptions},
};

/// Includes a model that the package's build script compiled with [`compile`] or [`Build`]: a
/// module of this name, with `Model`, `Inputs`, `Outputs`, `RuntimeOptions` and `Error`.
///
/// ```ignore
/// hiosc::include_model!("squeezenet");
/// let mut model = squeezenet::Model::load(squeezenet::RuntimeOptions::default())?;
/// ```
#[macro_export]
macro_rules! include_model {
    ($name:literal) => {
        ::core::include!(::core::concat!(::core::env!("OUT_DIR"), "/", $name, ".rs"));
    };
}
