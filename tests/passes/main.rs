//! Tests the passes in this process: import, fuse, schedule, plan. Needs no GPU and no C++
//! compiler.

mod cases;
mod fuse;
mod golden;
mod plan;
mod rewrites;
mod schedule;
mod schedule_graphs;
#[path = "../support/mod.rs"]
mod support;
