//! Tests every kernel against plain loops, on shapes chosen to be awkward: odd sizes, strides,
//! pads, dilations, groups, axes of size one, broadcasts. Values include NaN and infinity. One file
//! per operator family.
//!
//! Each candidate of each operator is compiled for the CPU and run there, one at a time. Guard
//! bytes surround the outputs, NaNs the inputs. Running the blocks in another order on two threads
//! must give the same bits. NVRTC, if present, compiles the kernels as well, but they are not run.

mod all;
mod attention;
mod cell;
mod common;
mod concat;
mod conv;
mod copy;
mod cumsum;
mod depthwise;
mod elementwise;
mod gather;
mod gather_gemm;
mod grid_sample;
mod lrn;
mod matmul;
mod norm;
mod pool;
mod reduce;
mod resample;
mod scatter;
mod softmax;
#[path = "../support/mod.rs"]
mod support;
mod sweep;
mod topk;
