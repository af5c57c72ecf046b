//! `hiosc check MODEL.onnx --reference FILE.npz`: runs a plan and compares with a reference.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;

use super::in_process::InProcessArgs;
use super::layers::LayersArgs;
use super::{Verbosity, progress};
use crate::compiler::{InProcessReport, LayersOptions};
use crate::{acceptance, compiler};

/// Arguments of `hiosc check`.
#[derive(Args)]
pub struct CheckArgs {
    /// Inputs (`in:NAME`) and expected outputs (`out:NAME`).
    #[arg(long, value_name = "FILE.npz")]
    reference: PathBuf,
    #[command(flatten)]
    layers: LayersArgs,
    #[command(flatten)]
    in_process: InProcessArgs,
}

/// Runs the chosen plan once, and compares.
pub fn run(args: CheckArgs, verbosity: Verbosity) -> anyhow::Result<()> {
    let (planned, options) = args.in_process.plan()?;
    let wanted = LayersOptions { compare: args.layers.layers.then(|| args.in_process.model()).transpose()?, dump: args.layers.dump() };
    let InProcessReport { outputs, layers, dumped, summary } = compiler::in_process(&planned, &args.reference, &options, &wanted)?;
    progress::end();
    acceptance::with_layers(acceptance::right(&outputs), layers.as_ref())?;
    if verbosity != Verbosity::Quiet {
        let mut out = std::io::stdout();
        write!(out, "{summary}")?;
        outputs.iter().try_for_each(|output| writeln!(out, "verify     {output}"))?;
        layers.iter().try_for_each(|layers| writeln!(out, "layers     {layers}"))?;
        dumped.iter().try_for_each(|path| writeln!(out, "wrote      {}", path.display()))?;
    }
    Ok(())
}
