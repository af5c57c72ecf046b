//! `hiosc check MODEL.onnx --reference FILE.npz`: runs a plan and compares with a reference.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;

use super::in_process::InProcessArgs;
use crate::acceptance::OutputReport;
use crate::{Error, compiler};

/// Arguments of `hiosc check`.
#[derive(Args)]
pub struct CheckArgs {
    /// Inputs (`in:NAME`) and expected outputs (`out:NAME`).
    #[arg(long, value_name = "FILE.npz")]
    reference: PathBuf,
    #[command(flatten)]
    in_process: InProcessArgs,
}

/// Runs the chosen plan once, and compares.
pub fn run(args: CheckArgs) -> anyhow::Result<()> {
    let (planned, options) = args.in_process.plan()?;
    let (outputs, summary) = compiler::in_process(&planned, &args.reference, &options)?;
    let mut out = std::io::stdout();
    write!(out, "{summary}")?;
    for OutputReport { name, difference, allowed, .. } in &outputs {
        writeln!(out, "output {name:?} differs by at most {difference:.2e} (allowed {allowed:.2e})")?;
    }
    let wrong: Vec<&str> = outputs.iter().filter(|o| !o.passes()).map(|o| o.name.as_str()).collect();
    if !wrong.is_empty() {
        return Err(Error::Mismatch(format!("wrong outputs: {}", wrong.join(", "))).into());
    }
    Ok(writeln!(out, "PASS")?)
}
