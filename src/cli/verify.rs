//! `hiosc verify DIR`: builds a generated crate, runs its check, and prints how far its outputs are
//! from the reference.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;

use super::args::{ContextArgs, MachineArgs};
use super::layers::{LayersArgs, model_of};
use super::{FORMAT, Verbosity, progress};
use crate::acceptance::{VerifyOptions, examine};

/// Arguments of `hiosc verify`.
#[derive(Args)]
#[command(mut_arg("on", |arg| arg.help("The machine's GPU for each logical GPU of the plan, in order; repeats are allowed [default: 0,1,...]")))]
pub struct VerifyArgs {
    /// A folder that hiosc wrote.
    #[arg(value_name = "DIR")]
    crate_dir: PathBuf,
    /// What to compare with instead of the crate's own reference: rten or tract, where these two
    /// disagree, or a file with inputs (`in:NAME`) and expected outputs (`out:NAME`).
    #[arg(long, value_name = "rten|tract|FILE.npz")]
    reference: Option<PathBuf>,
    /// Compare with what ONNX Runtime computes from the model; Python must have it.
    #[arg(long, requires = "model")]
    onnxruntime: bool,
    /// The model that the crate was made from. --layers looks for it in the crate's folder, in the
    /// one above and in the current one.
    #[arg(long, value_name = "MODEL.onnx")]
    model: Option<PathBuf>,
    /// Run on virtual GPUs even if there are real ones.
    #[arg(long = "virtual")]
    on_virtual: bool,
    #[command(flatten)]
    machine: MachineArgs,
    /// Also measure the links between these GPUs, and test them with data.
    #[arg(long)]
    links: bool,
    #[command(flatten)]
    contexts: ContextArgs,
    #[command(flatten)]
    layers: LayersArgs,
    /// Repeat with this many orders of execution on virtual GPUs, and require the same bits each
    /// time.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    seeds: u32,
    /// Print the report as JSON, whether the outputs are right or wrong.
    #[arg(long)]
    json: bool,
}

/// Verifies the crate.
pub fn run(args: VerifyArgs, verbosity: Verbosity) -> anyhow::Result<()> {
    let layers = args.layers.layers.then(|| model_of(&args.crate_dir, args.model.as_deref())).transpose()?;
    let options = VerifyOptions {
        reference: args.reference,
        onnxruntime: args.model.filter(|_| args.onnxruntime),
        on_virtual: args.on_virtual,
        gpus: None,
        on: args.machine.on(),
        links: args.links,
        separate_contexts: args.contexts.separate_contexts,
        seeds: args.seeds,
        layers,
        dump: args.layers.dump(),
    };
    let report = examine(&args.crate_dir, &options)?;
    progress::end();
    let mut out = std::io::stdout();
    if args.json {
        let mut all = report.json();
        all["format"] = FORMAT.into();
        writeln!(out, "{all:#}")?;
    }
    report.judge()?;
    if verbosity != Verbosity::Quiet && !args.json {
        write!(out, "{report}")?;
    }
    Ok(())
}
