//! Running plans.

pub mod runtime;
