//! `hiosc bench MODEL.onnx`: benchmarks the compared plans of a model against one another.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;

use super::in_process::InProcessArgs;
use super::progress;
use crate::measure::bench::{self, BenchOptions};
use crate::plan::PlanOptions;
use crate::{Error, compiler};

/// Arguments of `hiosc bench`.
#[derive(Args)]
pub struct BenchArgs {
    /// Inferences of each plan in each mode.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    repeat: u32,
    /// Write all figures as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Wait for a line on standard input before each round, and print `round` after it: to
    /// alternate with another program.
    #[arg(long)]
    paced: bool,
    /// Write a trace of the chosen plan for Perfetto, predicted and measured side by side.
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    #[command(flatten)]
    in_process: InProcessArgs,
}

/// Reports the end of the previous round, if there was one, and waits for a line on standard input.
fn pace() {
    static BEGUN: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);
    // If the other program has ended, the rounds follow one another.
    if BEGUN.swap(true, std::sync::atomic::Ordering::Relaxed) {
        let _ = writeln!(std::io::stdout(), "round").and_then(|()| std::io::stdout().flush());
    }
    let _ = std::io::stdin().read_line(&mut String::new());
}

/// Measures the compared plans.
pub fn run(args: BenchArgs) -> anyhow::Result<()> {
    let (planned, runtime) = args.in_process.plan()?;
    let plan = PlanOptions::default().stage_barriers(args.in_process.planning.stage_barriers);
    let options = BenchOptions::default().rounds(args.repeat as usize).runtime(runtime).plan(plan);
    let options = if args.paced { options.before_round(pace) } else { options };
    let inputs = compiler::check_inputs(&planned.graph);
    let report = bench::bench(&planned.comparison(), &inputs, &options)?;
    for (file, text) in [(&args.json, &report.json), (&args.trace, &report.trace)] {
        if let Some(file) = file {
            std::fs::write(file, text).map_err(Error::io(file))?;
        }
    }
    progress::end();
    Ok(write!(std::io::stdout(), "{}", report.text)?)
}
