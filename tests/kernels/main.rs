//! Kernels, compiled for the CPU and run there one at a time, or by NVRTC and not run.

mod kernels;
#[path = "../support/mod.rs"]
mod support;
mod sweep;
