//! What each room makes of a model, in this process: import, fuse, schedule, plan. No GPU and no C++ compiler is needed.

mod cases;
mod fuse;
mod mends;
mod plan;
mod schedule;
mod schedule_graphs;
#[path = "../support/mod.rs"]
mod support;
