//! Generated crates: written, built as their users build them, and run on virtual GPUs.

mod commands;
mod emit;
mod layers;
mod models;
mod oracle;
mod projects;
mod shipping;
#[path = "../support/mod.rs"]
mod support;
mod targets;
