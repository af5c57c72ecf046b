//! `hiosc check MODEL.onnx --reference FILE.npz`: runs a plan and compares with a reference.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;

use super::in_process::InProcessArgs;
use super::{Verbosity, progress};
use crate::{acceptance, compiler};

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
pub fn run(args: CheckArgs, verbosity: Verbosity) -> anyhow::Result<()> {
    let (planned, options) = args.in_process.plan()?;
    let (outputs, summary) = compiler::in_process(&planned, &args.reference, &options)?;
    progress::end();
    acceptance::right(&outputs)?;
    if verbosity != Verbosity::Quiet {
        let mut out = std::io::stdout();
        write!(out, "{summary}")?;
        outputs.iter().try_for_each(|output| writeln!(out, "verify     {output}"))?;
    }
    Ok(())
}
