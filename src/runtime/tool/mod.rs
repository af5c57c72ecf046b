//! What a program needs and a library does not: the command line of a generated crate (`check`,
//! `bench`, `trace`, `run`), its measurements, and the link test.
//!
//! A generated crate compiles this with its feature `tool`, which is on by default and which its
//! program needs. hiosc measures with the same code.

pub mod bench;
pub mod cli;
pub mod links;

pub use bench::Prediction;
