//! The command line: parses arguments, calls the library, prints, and chooses the exit code (0
//! done, 1 failed, 2 bad usage, 3 disputed reference).
//!
//! There is one file per subcommand; without a subcommand, hiosc compiles. Arguments that several
//! subcommands take are declared once, in `args.rs`. `progress.rs`, `recorded.rs` and
//! `in_process.rs` have other shared code; `stale.rs` is `--check`.

mod args;
mod bench;
mod cache;
mod check;
mod compile;
mod generated;
mod in_process;
mod inspect;
mod layers;
mod on_virtual;
mod profile;
mod progress;
mod recorded;
mod schedule;
mod stale;
mod verify;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};

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
    #[command(flatten)]
    output: OutputArgs,
}

/// How much is printed.
#[derive(Args)]
struct OutputArgs {
    /// Print each step with its time, and the commands that are run.
    #[arg(short, long, global = true, conflicts_with = "quiet")]
    verbose: bool,
    /// Print errors and what was asked for, but no summary and no progress.
    #[arg(short, long, global = true)]
    quiet: bool,
}

/// How much is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verbosity {
    Quiet,
    Normal,
    Verbose,
}

/// The number in the `format` of all JSON. It changes when a key goes or means something else.
const FORMAT: u32 = 1;

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
    /// Show what hiosc keeps between runs, or delete it.
    Cache(cache::CacheArgs),
    /// Compare scheduling algorithms on models, or on scheduling graphs in text form.
    Schedule(schedule::ScheduleArgs),
    /// Print a script that completes hiosc's arguments in a shell.
    Completions(generated::CompletionsArgs),
    /// Print the manual page of hiosc or of one of its commands, for `man -l -`.
    Man(generated::ManArgs),
}

/// Runs the command that this process was called with.
pub fn main() -> ExitCode {
    let matches = Cli::command().try_get_matches_from(arguments());
    let parsed = matches.and_then(|matches| Ok((Cli::from_arg_matches(&matches)?, recorded_of(&matches))));
    let (cli, recorded) = parsed.unwrap_or_else(|error| match mistaken_command() {
        Some(message) => {
            complain(&message);
            std::process::exit(2)
        }
        None => exit_with(&error),
    });
    let verbosity = match (cli.output.quiet, cli.output.verbose) {
        (true, _) => Verbosity::Quiet,
        (_, true) => Verbosity::Verbose,
        _ => Verbosity::Normal,
    };
    if verbosity != Verbosity::Quiet {
        progress::show(verbosity == Verbosity::Verbose);
    }
    let result = match cli.command {
        Some(Command::Compile(args)) => compile::run(*args, recorded, verbosity),
        Some(Command::Verify(args)) => verify::run(args, verbosity),
        Some(Command::Check(args)) => check::run(args, verbosity),
        Some(Command::Virtual(args)) => on_virtual::run(args),
        Some(Command::Profile(args)) => profile::run(args, verbosity),
        Some(Command::Bench(args)) => bench::run(args),
        Some(Command::Inspect(args)) => inspect::run(args),
        Some(Command::Cache(args)) => cache::run(args),
        Some(Command::Schedule(args)) => schedule::run(args),
        Some(Command::Completions(args)) => generated::completions(args, Cli::command()),
        Some(Command::Man(args)) => generated::man(args, Cli::command()),
        None => compile::run(cli.compile, recorded, verbosity),
    };
    progress::end();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        // the reader has closed the pipe: `hiosc ... | head`
        Err(error) if error.downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() == std::io::ErrorKind::BrokenPipe) => {
            ExitCode::SUCCESS
        }
        Err(error) => {
            match error.downcast_ref::<Error>() {
                Some(error) => complain(&error.to_string()), // its text includes its cause
                None => complain(&format!("{error:#}")),
            }
            ExitCode::from(match error.downcast_ref() {
                Some(Error::Usage(_)) => 2,
                Some(Error::Disputed(_)) => 3,
                _ => 1,
            })
        }
    }
}

/// Prints an error, wrapped on a terminal.
fn complain(message: &str) {
    eprintln!("{}", wrapped(&format!("hiosc: {message}")));
}

/// Prints what clap says, which is no error if help was asked for, and ends the process.
fn exit_with(error: &clap::Error) -> ! {
    let plain = error.render().to_string();
    let wide = wrapped(&plain);
    if error.use_stderr() && wide != plain {
        eprint!("{wide}"); // clap does not wrap the usage
        std::process::exit(error.exit_code());
    }
    error.exit()
}

/// `text` as wide as the terminal of standard error, or unchanged where there is none.
fn wrapped(text: &str) -> String {
    match terminal_size::terminal_size_of(std::io::stderr()) {
        Some((terminal_size::Width(columns), _)) if columns > 20 => {
            text.split('\n').map(|line| wrapped_line(line, columns.into())).collect::<Vec<_>>().join("\n")
        }
        _ => text.into(),
    }
}

/// `line` with a line break instead of a space wherever `columns` require it, and two spaces after
/// each. Words stay whole, so that they can be copied.
fn wrapped_line(line: &str, columns: usize) -> String {
    let mut wrapped = String::new();
    let mut column = 0;
    for (i, word) in line.split(' ').enumerate() {
        let width = word.chars().count();
        if i > 0 && column + 1 + width > columns && column > 2 {
            wrapped.push_str("\n  ");
            column = 2;
        } else if i > 0 {
            wrapped.push(' ');
            column += 1;
        }
        wrapped.push_str(word);
        column += width;
    }
    wrapped
}

/// The words of the command line. Those of [`OutputArgs`] may be before the subcommand; there clap
/// would take them for the arguments of a compilation.
fn arguments() -> Vec<OsString> {
    let mut words: Vec<OsString> = std::env::args_os().collect();
    let flags = ["-v", "-q", "--verbose", "--quiet"];
    let before = words.iter().skip(1).take_while(|word| flags.iter().any(|flag| word == flag)).count();
    let command = words.get(before + 1).and_then(|word| word.to_str());
    if command.is_some_and(|name| Cli::command().find_subcommand(name).is_some()) {
        words[1..before + 2].rotate_left(before);
    }
    words
}

/// The arguments of a compilation as its crate records them.
fn recorded_of(matches: &clap::ArgMatches) -> Option<Vec<String>> {
    match matches.subcommand() {
        None => recorded::of(&Cli::command(), matches),
        Some((name, matches)) => recorded::of(Cli::command().find_subcommand(name)?, matches),
    }
}

/// Parses recorded arguments of a compilation.
fn parse_compile(words: impl Iterator<Item = OsString>) -> anyhow::Result<compile::CompileArgs> {
    let cli = Cli::try_parse_from(["hiosc".into()].into_iter().chain(words));
    Ok(cli.map_err(|error| Error::Usage(format!("the crate records arguments that this hiosc does not take: {}", error.kind())))?.compile)
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
