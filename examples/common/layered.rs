//! Shared by the examples: the CPU time of a thread, and layered graphs of any size.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::SystemTime;

/// The CPU time of this thread in seconds; wall-clock time if the system does not report it.
pub fn cpu_seconds() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanos = text.split(' ').next().and_then(|n| n.parse::<u64>().ok());
    nanos.map_or_else(|| SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0.0, |t| t.as_secs_f64()), |n| n as f64 / 1e9)
}

/// A graph of `n` operators and twice as many dependencies, in text form. It has layers of about 14
/// operators, and dependencies reach up to three layers ahead.
pub fn graph(n: usize) -> String {
    let mut state = n as u64;
    let mut below = |limit: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 33) % limit as u64) as usize
    };
    let mut edges = BTreeSet::new();
    while edges.len() < 2 * n {
        let from = below(n);
        let to = (from / 14 + 1 + below(3)) * 14 + below(14);
        if to < n {
            edges.insert((from, to));
        }
    }
    let mut text = format!("{n}\n");
    for op in 0..n {
        let _ = writeln!(text, "{op} {}e-3 0.{}", 100 + below(3900), 6 + below(4));
    }
    let _ = writeln!(text, "{}", edges.len());
    for (from, to) in edges {
        let _ = writeln!(text, "{from} {to} {}e-3", 80 + below(3000));
    }
    text
}
