//! The command line, through the real binary.

mod attributes;
mod cli;
mod errors;
mod hostile;
mod invalid;
mod memory;
mod mistakes;
mod operators;
mod profile;
mod schedule_command;
#[path = "../support/mod.rs"]
mod support;
