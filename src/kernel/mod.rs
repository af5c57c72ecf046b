//! From an operator to the CUDA kernel that computes it: which template, with which shape and tile, launched how.
//!
//! **In**: an operator of the fused graph. **Out**: a [`Kernel`]: a unique name that spells out signature and candidate, the text of its
//! one-line instantiation, and its launch geometry. The templates are in `kernels/*.cuh`, ordinary CUDA C++.

/// One instantiated kernel. Two operators of the same signature share one.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Kernel {
    /// Unique in a crate, at most 120 characters of `[a-z0-9_]`, equal for equal signatures: also the file name `kernels/<name>.cu`.
    pub name: String,
    /// The whole `.cu` file: a comment that says in words what it computes, one `#include`, one `HIOSC_KERNEL(...)`.
    pub source: String,
    /// Blocks along x, y, z.
    pub grid: [u32; 3],
    /// Threads of a block along x, y, z.
    pub block: [u32; 3],
    /// Dynamic shared memory a block, in bytes.
    pub shared_bytes: u32,
    /// Static shared memory a block, in bytes. For occupancy estimates.
    pub static_shared_bytes: u32,
    /// Registers a thread, estimated from the tile shape. For occupancy estimates.
    pub registers: u32,
}
