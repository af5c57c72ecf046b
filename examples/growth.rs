//! How scheduling time grows with the graph: layered graphs of 100 to 30,000 operators with twice
//! as many dependencies, for 8 GPUs, on one core.
//!
//! ```text
//! cargo run --release --example growth [-- LARGEST]
//! ```

#[path = "common/layered.rs"]
mod layered;

use hiosc::schedule::{Algorithm, LinkMode, Problem, ScheduleOptions, evaluate, schedule_with};
use layered::{cpu_seconds, graph};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let largest: usize = std::env::args().nth(1).map_or(Ok(30_000), |n| n.parse())?;
    println!("operators  links   algorithm   latency ms  CPU seconds");
    for n in [100, 200, 400, 1_000, 3_000, 10_000, 30_000].into_iter().filter(|&n| n <= largest) {
        for (links, name) in [(LinkMode::Free, "free"), (LinkMode::Serial, "serial")] {
            let problem = Problem::from_dag_text(&graph(n), 8, links)?;
            for algorithm in [Algorithm::InterLp, Algorithm::HiosLp, Algorithm::Heft] {
                let started = cpu_seconds();
                let schedule = schedule_with(&problem, algorithm, &ScheduleOptions::default())?.schedule;
                let seconds = cpu_seconds() - started;
                let latency = evaluate(&problem, &schedule)?.latency as f64 / 1e6;
                println!("{n:9}  {name:6}  {algorithm:10} {latency:11.3} {seconds:12.4}");
            }
        }
    }
    Ok(())
}
