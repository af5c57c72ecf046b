//! `hiosc inspect MODEL.onnx`: shows what a model consists of, and what would be refused.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;

use super::args::InputArgs;
use crate::compiler::inspect;

/// Arguments of `hiosc inspect`.
#[derive(Args)]
pub struct InspectArgs {
    /// The model.
    #[arg(value_name = "MODEL.onnx")]
    model: PathBuf,
    #[command(flatten)]
    inputs: InputArgs,
    /// Print it as JSON.
    #[arg(long)]
    json: bool,
}

/// Inspects the model.
pub fn run(args: InspectArgs) -> anyhow::Result<()> {
    let inspection = inspect(&args.model, &args.inputs.options()?)?;
    let mut out = std::io::stdout().lock();
    if args.json {
        return Ok(writeln!(out, "{:#}", inspection.json())?);
    }
    Ok(write!(out, "{inspection}")?)
}
