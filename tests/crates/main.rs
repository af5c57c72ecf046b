//! Generated crates: written, built as their users build them, and run on virtual GPUs.

mod downstream;
mod emit;
mod models;
#[path = "../support/mod.rs"]
mod support;
mod targets;
