//! The command line: parses arguments, calls [`hiosc::Compiler`] and [`hiosc::verify`], prints, and chooses the exit code
//! (0 done, 1 failed, 2 bad usage).

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};
use hiosc::kernel::KernelMode;
use hiosc::verify::{self, verify};
use hiosc::{Compiler, Error};

/// An ONNX ahead-of-time compiler: one model over several GPUs and streams, scheduled with HIOS-LP, as a standalone Rust/CUDA crate.
#[derive(Parser)]
#[command(version, args_conflicts_with_subcommands = true, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    compile: Compile,
}

#[derive(Subcommand)]
enum Command {
    /// Build a generated crate's own check and run it: on the GPUs, or on virtual GPUs where there are none.
    Verify(Verify),
}

#[derive(Args)]
struct Compile {
    /// The model.
    #[arg(value_name = "MODEL.onnx", required = true)]
    model: Option<PathBuf>,
    /// Where to write the crate. It appears whole or not at all; an earlier output is replaced.
    #[arg(short, long, value_name = "DIR", required_unless_present = "emit")]
    output: Option<PathBuf>,
    /// Device model of the GPUs.
    #[arg(long, default_value = "a40")]
    device: String,
    /// How many GPUs the plan may use.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=64))]
    gpus: u32,
    /// What connects the GPUs: nvlink or pcie4.
    #[arg(long, default_value = "nvlink")]
    link: String,
    /// Emit what this algorithm finds (hios-lp, sequential, scatter) instead of the best.
    #[arg(long)]
    algorithm: Option<String>,
    /// Leave out a fuse rule.
    #[arg(long, value_name = "RULE")]
    no_fuse: Vec<String>,
    /// Shape of an input: NAME:1x3x224x224.
    #[arg(long, value_name = "NAME:SHAPE", value_parser = shape)]
    shapes: Vec<(String, Vec<usize>)>,
    /// Ship kernels compiled, as sources, or compiled where NVRTC is found.
    #[arg(long, default_value = "auto")]
    kernels: Kernels,
    /// Print the text form of these rooms' results.
    #[arg(long, value_delimiter = ',', value_name = "ROOM")]
    emit: Vec<Room>,
    /// Do not store an input and its reference output in the crate.
    #[arg(long, conflicts_with = "verify")]
    no_check: bool,
    /// Run the crate's check after writing it.
    #[arg(long, requires = "output")]
    verify: bool,
    /// Print the seconds spent in each room.
    #[arg(long)]
    timings: bool,
}

#[derive(Args)]
struct Verify {
    /// A folder that hiosc wrote.
    #[arg(value_name = "DIR")]
    crate_dir: PathBuf,
    /// Inputs (`in:NAME`) and expected outputs (`out:NAME`) to use instead of the crate's own.
    #[arg(long, value_name = "FILE.npz")]
    reference: Option<PathBuf>,
    /// Run on virtual GPUs even where there are real ones.
    #[arg(long = "virtual")]
    on_virtual: bool,
    /// Number of virtual GPUs (default: as many as the plan uses).
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=64))]
    gpus: Option<u32>,
    /// Repeat with this many orders of execution on virtual GPUs, and require the same bits each time.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    seeds: u32,
}

#[derive(Clone, Copy, ValueEnum)]
enum Kernels {
    Auto,
    Binary,
    Source,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Room {
    Graph,
    Costs,
    Schedule,
    Plan,
}

/// `NAME:1x3x224x224`
fn shape(text: &str) -> Result<(String, Vec<usize>), String> {
    let (name, shape) = text.rsplit_once(':').ok_or("expected NAME:SHAPE, for example input:1x3x224x224")?;
    let dims = shape.split('x').map(|d| d.parse::<usize>().ok().filter(|&d| d > 0));
    let dims: Option<Vec<usize>> = dims.collect();
    Ok((name.to_string(), dims.ok_or_else(|| format!("{shape:?} is not a shape such as 1x3x224x224"))?))
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.command {
        Some(Command::Verify(args)) => run_verify(args),
        None => run_compile(cli.compile),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("hiosc: {error}"); // not the chain: our errors say themselves what caused them
            ExitCode::from(if matches!(error.downcast_ref(), Some(Error::Usage(_))) { 2 } else { 1 })
        }
    }
}

fn run_compile(args: Compile) -> anyhow::Result<()> {
    let Some(model) = args.model else { anyhow::bail!("no model given") };
    let mut compiler = Compiler::new(model).device(&args.device).gpus(args.gpus as usize).link(&args.link).check(!args.no_check);
    compiler = compiler.kernels(match args.kernels {
        Kernels::Auto => KernelMode::Auto,
        Kernels::Binary => KernelMode::Binary,
        Kernels::Source => KernelMode::Source,
    });
    if let Some(algorithm) = &args.algorithm {
        compiler = compiler.algorithm(algorithm);
    }
    for rule in &args.no_fuse {
        compiler = compiler.no_fuse(rule);
    }
    for (name, shape) in &args.shapes {
        compiler = compiler.shape(name, shape);
    }

    let mut out = std::io::stdout().lock();
    let Some(folder) = args.output else {
        let planned = compiler.plan()?;
        out.write_all(dump(&planned, &args.emit).as_bytes())?;
        return Ok(out.write_all(timings(&planned, args.timings).as_bytes())?);
    };
    hiosc::emit::refuse(&folder)?; // before the work rather than after it
    let compilation = compiler.compile()?;
    compilation.write(&folder)?;
    out.write_all(dump(&compilation.planned, &args.emit).as_bytes())?;
    write!(out, "{}", compilation.summary())?;
    writeln!(out, "wrote      {}", folder.display())?;
    out.write_all(timings(&compilation.planned, args.timings).as_bytes())?;
    if args.verify {
        write!(out, "{}", verify(&folder, &verify::Options::default())?)?;
    }
    Ok(())
}

/// The seconds of each room, if `wanted`.
fn timings(planned: &hiosc::compiler::Planned, wanted: bool) -> String {
    let rooms = planned.timings.iter().filter(|_| wanted);
    rooms.map(|(room, time)| format!("time       {room:10} {:8.3} s\n", time.as_secs_f64())).collect()
}

/// The text forms of `rooms`, in the order of the rooms.
fn dump(planned: &hiosc::compiler::Planned, rooms: &[Room]) -> String {
    let chosen = planned.chosen();
    let texts = [
        (Room::Graph, planned.graph.to_string()),
        (Room::Costs, planned.costs.to_text(&planned.graph)),
        (Room::Schedule, hiosc::schedule::to_text(Some(&planned.graph), &chosen.schedule, &chosen.timeline)),
        (Room::Plan, planned.plan.text(&planned.graph)),
    ];
    texts.into_iter().filter(|(room, _)| rooms.contains(room)).map(|(_, text)| text).collect()
}

fn run_verify(args: Verify) -> anyhow::Result<()> {
    let options =
        verify::Options { reference: args.reference, on_virtual: args.on_virtual, gpus: args.gpus.map(|n| n as usize), seeds: args.seeds };
    Ok(write!(std::io::stdout(), "{}", verify(&args.crate_dir, &options)?)?)
}
