//! Tests the passes in this process: import, fuse, schedule, plan, and the verifier of what is
//! emitted. Needs no GPU and no C++ compiler.

#[path = "../../examples/conformance/case.rs"]
#[allow(dead_code)]
mod case;
mod cases;
mod emitted;
mod fuse;
mod golden;
mod plan;
mod rewrites;
mod schedule;
mod schedule_graphs;
mod stored;
#[path = "../support/mod.rs"]
mod support;
