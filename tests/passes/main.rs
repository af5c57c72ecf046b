//! What each pass makes of a model, in this process: import, fuse, schedule, plan. No GPU and no
//! C++ compiler is needed.

mod cases;
mod fuse;
mod golden;
mod plan;
mod rewrites;
mod schedule;
mod schedule_graphs;
#[path = "../support/mod.rs"]
mod support;
