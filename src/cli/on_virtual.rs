//! `hiosc virtual -- COMMAND`: runs a program on virtual GPUs, whether it is a model's own, one
//! that uses models, or `cargo test`.
//!
//! The command needs no preparation: models hand their kernels' sources to the virtual driver,
//! which calls this program again (`--compile-kernels`) to compile them for the CPU.

use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;

use clap::Args;

use crate::{Error, vgpu};

/// Arguments of `hiosc virtual`.
#[derive(Args)]
pub struct VirtualRunArgs {
    /// Number of virtual GPUs.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=64))]
    gpus: u32,
    /// Seed of the order of execution.
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// The program and its arguments, after `--`.
    #[arg(value_name = "COMMAND", last = true, required_unless_present = "compile_kernels")]
    command: Vec<OsString>,
    /// Compile the kernels of this folder, and print where they are.
    #[arg(long, value_name = "DIR", hide = true)]
    compile_kernels: Option<PathBuf>,
}

/// Replaces this process by the command, with virtual GPUs in its environment.
pub fn run(args: VirtualRunArgs) -> anyhow::Result<()> {
    if let Some(folder) = &args.compile_kernels {
        return Ok(writeln!(std::io::stdout(), "{}", vgpu::compile_crate_kernels(folder)?.display())?);
    }
    let Some((program, arguments)) = args.command.split_first() else { anyhow::bail!("no command given") };
    let mut command = Command::new(program);
    command.args(arguments).env("HIOSC_VGPU_COUNT", args.gpus.to_string()).env("HIOSC_VGPU_SEED", args.seed.to_string());
    vgpu::on_demand_env(&mut command, &std::env::current_exe()?)?;
    let error = replace(&mut command)?;
    let name = program.to_string_lossy().into_owned();
    Err(Error::Tool { tool: name, message: format!("cannot be started: {error}") }.into())
}

/// Becomes the command; returns why that failed.
#[cfg(unix)]
fn replace(command: &mut Command) -> anyhow::Result<std::io::Error> {
    Ok(std::os::unix::process::CommandExt::exec(command))
}

/// Runs the command, and exits with its exit code.
#[cfg(not(unix))]
fn replace(command: &mut Command) -> anyhow::Result<std::io::Error> {
    match command.status() {
        Ok(status) => std::process::exit(status.code().unwrap_or(1)),
        Err(error) => Ok(error),
    }
}
