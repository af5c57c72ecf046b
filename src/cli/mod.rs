//! The command line: parses arguments, calls the library, prints, and chooses the exit code (0
//! done, 1 failed, 2 bad usage).
//!
//! There is one file per subcommand; without a subcommand, hiosc compiles. Arguments that several
//! subcommands take are declared once, in `args.rs`. `progress.rs` and `in_process.rs` have other
//! shared code.

mod args;
mod bench;
mod check;
mod compile;
mod generated;
mod in_process;
mod inspect;
mod on_virtual;
mod profile;
mod progress;
mod schedule;
mod verify;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use crate::Error;

/// An ONNX ahead-of-time compiler: schedules one model over several GPUs and streams with HIOS-LP,
/// and emits a standalone Rust/CUDA crate.
#[derive(Parser)]
#[command(version, args_conflicts_with_subcommands = true, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    compile: compile::CompileArgs,
}

#[derive(Subcommand)]
enum Command {
    /// Compile a model: the same as without `compile`.
    Compile(Box<compile::CompileArgs>),
    /// Build a generated crate and run its check, on the GPUs, or on virtual GPUs if there are
    /// none.
    Verify(verify::VerifyArgs),
    /// Run a plan of a model in this process and compare with a reference: what `verify` does,
    /// without building a crate.
    Check(check::CheckArgs),
    /// Run a command on virtual GPUs: `hiosc virtual -- cargo test`.
    Virtual(on_virtual::VirtualRunArgs),
    /// Measure the operators of models, and transfers, on the GPUs of this machine.
    Profile(profile::ProfileArgs),
    /// Benchmark the plans of a model against one another on the GPUs: as graphs, on plain streams,
    /// stage by stage.
    Bench(bench::BenchArgs),
    /// Show what a model consists of and what would be refused, without compiling it.
    Inspect(inspect::InspectArgs),
    /// Compare scheduling algorithms on models, or on scheduling graphs in text form.
    Schedule(schedule::ScheduleArgs),
    /// Print a script that completes hiosc's arguments in a shell.
    Completions(generated::CompletionsArgs),
    /// Print the manual page of hiosc or of one of its commands, for `man -l -`.
    Man(generated::ManArgs),
}

/// Runs the command that this process was called with.
pub fn main() -> ExitCode {
    let cli = Cli::try_parse().unwrap_or_else(|error| match mistaken_command() {
        Some(message) => {
            eprintln!("hiosc: {message}");
            std::process::exit(2)
        }
        None => error.exit(),
    });
    let result = match cli.command {
        Some(Command::Compile(args)) => compile::run(*args),
        Some(Command::Verify(args)) => verify::run(args),
        Some(Command::Check(args)) => check::run(args),
        Some(Command::Virtual(args)) => on_virtual::run(args),
        Some(Command::Profile(args)) => profile::run(args),
        Some(Command::Bench(args)) => bench::run(args),
        Some(Command::Inspect(args)) => inspect::run(args),
        Some(Command::Schedule(args)) => schedule::run(args),
        Some(Command::Completions(args)) => generated::completions(args, Cli::command()),
        Some(Command::Man(args)) => generated::man(args, Cli::command()),
        None => compile::run(cli.compile),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        // the reader has closed the pipe: `hiosc ... | head`
        Err(error) if error.downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() == std::io::ErrorKind::BrokenPipe) => {
            ExitCode::SUCCESS
        }
        Err(error) => {
            match error.downcast_ref::<Error>() {
                Some(error) => eprintln!("hiosc: {error}"), // its text includes its cause
                None => eprintln!("hiosc: {error:#}"),
            }
            ExitCode::from(if matches!(error.downcast_ref(), Some(Error::Usage(_))) { 2 } else { 1 })
        }
    }
}

/// If the first argument is neither a command nor a file, but nearly a command: the question
/// whether that was meant. (For clap it is a model, and the arguments after it are wrong.)
fn mistaken_command() -> Option<String> {
    let first = std::env::args_os().nth(1)?.into_string().ok()?;
    let commands: Vec<String> = Cli::command().get_subcommands().map(|command| command.get_name().to_string()).collect();
    let commands: Vec<&str> = commands.iter().map(String::as_str).collect();
    if first.starts_with('-') || commands.contains(&first.as_str()) || std::path::Path::new(&first).exists() {
        return None;
    }
    let meant = crate::error::nearest(&first, &commands)?;
    Some(format!("there is no command or file `{first}`; did you mean `hiosc {meant}`?"))
}
