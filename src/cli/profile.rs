//! `hiosc profile MODEL.onnx... -o FILE`: measures what operators and transfers cost on the GPUs of
//! this machine.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;

use super::args::{MachineArgs, ModelArgs, SchedulingArgs, VirtualArgs};
use super::{Verbosity, progress};
use crate::compiler::Passes;
use crate::device::closest;
use crate::measure::profile::{self, ProfileOptions};
use crate::{Compiler, Error, compiler};

/// Arguments of `hiosc profile`.
#[derive(Args)]
#[command(mut_arg("on", |arg| arg.help("The machine's GPUs to measure [default: all]")))]
pub struct ProfileArgs {
    /// The models.
    #[arg(value_name = "MODEL.onnx", required = true)]
    models: Vec<PathBuf>,
    /// Where to write the costs.
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Keep the results in these files for the same GPUs; new measurements take precedence.
    #[arg(long, value_name = "FILE")]
    merge: Vec<PathBuf>,
    /// Measure fewer and shorter rounds.
    #[arg(long)]
    quick: bool,
    #[command(flatten)]
    machine: MachineArgs,
    #[command(flatten)]
    virtual_gpus: VirtualArgs,
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    scheduling: SchedulingArgs,
}

/// Measures the operators of the models, and writes the file.
pub fn run(args: ProfileArgs, verbosity: Verbosity) -> anyhow::Result<()> {
    let import = |model: &PathBuf| args.model.apply(Compiler::new(model))?.import();
    let models = args.models.iter().map(import).collect::<Result<Vec<_>, _>>()?;
    let graphs: Vec<_> = models.iter().map(|imported| &imported.graph).collect();
    let before = compiler::read_profiles(&args.merge)?;
    args.virtual_gpus.apply(&[], || profile::kernels(&graphs, &closest("virtual")?))?;
    let options = ProfileOptions { gpus: args.machine.on(), quick: args.quick, schedule: args.scheduling.options()? };
    let measured = profile::profile(&graphs, &options)?;
    let profile = match before {
        None => measured,
        Some(mut before) => {
            before.merge(measured)?;
            before
        }
    };
    std::fs::write(&args.output, profile.to_text()).map_err(Error::io(&args.output))?;
    progress::end();
    if verbosity == Verbosity::Quiet {
        return Ok(());
    }
    let gpus: Vec<&str> = profile.gpus.iter().map(|gpu| gpu.device.as_str()).collect();
    writeln!(
        std::io::stdout(),
        "profile    {} kernels on {}\nwrote      {}",
        profile.kernels.len(),
        gpus.join(", "),
        args.output.display()
    )?;
    Ok(())
}
