//! `hiosc inspect MODEL.onnx`: shows what a model consists of, and what would be refused. If
//! something would be, the exit code is 1.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;

use super::args::InputArgs;
use super::{FORMAT, progress};
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
    progress::end();
    let mut out = std::io::stdout().lock();
    match args.json {
        true => {
            let mut all = inspection.json();
            all["format"] = FORMAT.into();
            writeln!(out, "{all:#}")?
        }
        false => write!(out, "{inspection}")?,
    }
    if !inspection.refusals.is_empty() {
        std::process::exit(1); // what is refused is printed already
    }
    Ok(())
}
