//! How the time to schedule grows with the graph: layered graphs of 100 to 30,000 operators with twice as many dependencies, on 8 GPUs, on one core.
//!
//! ```text
//! cargo run --release --example growth [-- LARGEST]
//! ```

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::SystemTime;

use hiosc::schedule::{Algorithm, LinkMode, Options, Problem, evaluate, schedule_with};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let largest: usize = std::env::args().nth(1).map_or(Ok(30_000), |n| n.parse())?;
    println!("operators  links   algorithm   latency ms  CPU seconds");
    for n in [100, 200, 400, 1_000, 3_000, 10_000, 30_000].into_iter().filter(|&n| n <= largest) {
        for (links, name) in [(LinkMode::Free, "free"), (LinkMode::Serial, "serial")] {
            let problem = Problem::from_dag_text(&graph(n), 8, links)?;
            for algorithm in [Algorithm::InterLp, Algorithm::HiosLp, Algorithm::Heft] {
                let started = cpu_seconds();
                let schedule = schedule_with(&problem, algorithm, &Options::default())?.schedule;
                let seconds = cpu_seconds() - started;
                let latency = evaluate(&problem, &schedule)?.latency as f64 / 1e6;
                println!("{n:9}  {name:6}  {algorithm:10} {latency:11.3} {seconds:12.4}");
            }
        }
    }
    Ok(())
}

/// The seconds that this thread has had a core to itself, whatever else the machine does; where the system does not say, those on the clock.
fn cpu_seconds() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanos = text.split(' ').next().and_then(|n| n.parse::<u64>().ok());
    nanos.map_or_else(|| SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0.0, |t| t.as_secs_f64()), |n| n as f64 / 1e9)
}

/// Layers of about 14 operators; dependencies reach up to three layers ahead.
fn graph(n: usize) -> String {
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
