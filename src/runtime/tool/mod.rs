//! What only a program needs, not a library: the command line of a generated crate (`check`, `bench`, `trace`, `run`), measuring, and the test of links.
//!
//! A generated crate compiles this with its feature `tool`, which is on by default and which its program needs. hiosc measures with the same code.

pub mod bench;
pub mod cli;
pub mod links;

pub use bench::Prediction;
