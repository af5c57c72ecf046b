//! What only the program of a generated crate needs, and not its library: the command line
//! (`check`, `bench`, `trace`, `run`), its measurements, and the link test.
//!
//! The feature `tool` of the crate, which is on by default, includes this module. hiosc measures
//! with the same code.

pub mod bench;
pub mod cli;
pub mod layers;
pub mod links;

pub use bench::Prediction;
