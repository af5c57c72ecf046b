//! Every kernel against plain loops, over shapes chosen to be awkward: odd sizes, strides, pads,
//! dilations, groups, axes of size one, broadcasts, NaN and infinity. A file per family of
//! operators.
//!
//! Each candidate of each operator is compiled for the CPU and run there, one at a time. Outputs
//! stand between guard bytes, inputs between NaNs. Running the blocks in another order on two
//! threads must give the same bits. NVRTC compiles kernels, too, which are not run then.

mod all;
mod attention;
mod cell;
mod common;
mod concat;
mod conv;
mod copy;
mod cumsum;
mod elementwise;
mod gather;
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
