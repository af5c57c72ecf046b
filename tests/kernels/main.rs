//! Kernels, compiled for the CPU and run there one at a time, or by NVRTC and not run.

mod kernels;
mod sweep;
#[path = "../support/mod.rs"]
mod support;
