//! Virtual GPUs: the driver itself, and plans that run in-process.
//!
//! One test loads the virtual driver into this process, permanently. So no test here may look for a
//! GPU, or use `hiosc::Compiler`, which does.

mod random_models;
mod run;
#[path = "../support/mod.rs"]
mod support;
mod vgpu;
mod vgpu_capture;
