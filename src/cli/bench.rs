//! `hiosc bench MODEL.onnx`: measures the compared plans of a model against one another.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use hiosc::measure::bench;
use hiosc::{Error, compiler, plan};

use super::in_process::InProcessArgs;

/// Arguments of `hiosc bench`.
#[derive(Args)]
pub struct BenchArgs {
    /// Inferences of each plan and way to run it.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    repeat: u32,
    /// Write all figures as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Wait for a line on standard input before each round, and say `round` after it: to take turns with another program.
    #[arg(long)]
    paced: bool,
    /// Write a trace of the chosen plan for Perfetto, predicted and measured side by side.
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    #[command(flatten)]
    in_process: InProcessArgs,
}

/// Says that the round before is over, if there was one, and waits for a line on standard input.
fn pace() {
    static BEGUN: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);
    // Who has gone away cannot be waited for: the rounds then follow one another.
    if BEGUN.swap(true, std::sync::atomic::Ordering::Relaxed) {
        let _ = writeln!(std::io::stdout(), "round").and_then(|()| std::io::stdout().flush());
    }
    let _ = std::io::stdin().read_line(&mut String::new());
}

/// Measures the compared plans.
pub fn run(args: BenchArgs) -> anyhow::Result<()> {
    let (planned, place) = args.in_process.plan()?;
    let plan = plan::Options { stage_barriers: args.in_process.planning.stage_barriers };
    let before_round = args.paced.then_some(pace as fn());
    let options = bench::Options { rounds: args.repeat as usize, place, plan, before_round };
    let inputs = compiler::check_inputs(&planned.graph);
    let report = bench::bench(&planned.contest(), &inputs, &options)?;
    for (file, text) in [(&args.json, &report.json), (&args.trace, &report.trace)] {
        if let Some(file) = file {
            std::fs::write(file, text).map_err(Error::io(file))?;
        }
    }
    Ok(write!(std::io::stdout(), "{}", report.text)?)
}
