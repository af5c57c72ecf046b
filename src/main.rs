//! The command line: parses arguments, calls [`hiosc::Compiler`] and [`hiosc::verify`], prints, and chooses the exit code
//! (0 done, 1 failed, 2 bad usage).

mod measure_command;
mod schedule_command;
mod scheduling_args;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};
use hiosc::import::{self, Literal};
use hiosc::inspect::inspect;
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
    /// Run a plan of a model in this process and compare with a reference: what `verify` does, without building a crate.
    Check(measure_command::CheckArgs),
    /// Measure the operators of models, and transfers, on the GPUs of this machine.
    Profile(measure_command::ProfileArgs),
    /// Measure the plans of a model against one another on the GPUs: as graphs, on plain streams, stage by stage.
    Bench(measure_command::BenchArgs),
    /// Say what a model is made of and what would be refused, before compiling it.
    Inspect(Inspect),
    /// Compare scheduling algorithms on models, or on scheduling graphs in text form.
    Schedule(schedule_command::Schedule),
}

#[derive(Args)]
struct Compile {
    /// The model.
    #[arg(value_name = "MODEL.onnx", required = true)]
    model: Option<PathBuf>,
    /// Where to write the crate. It appears whole or not at all; an earlier output is replaced.
    #[arg(short, long, value_name = "DIR", required_unless_present = "emit")]
    output: Option<PathBuf>,
    /// Device model of the GPUs, or of each: a40,a40,l4 [default: the GPUs of this machine, measured; a40 where there are none].
    #[arg(long, value_name = "NAME[,NAME]")]
    device: Option<String>,
    /// How many GPUs of one device the plan may use [default: 2].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=64))]
    gpus: Option<u32>,
    /// What connects the GPUs, such as nvlink or pcie4 [default: the fastest that the devices have].
    #[arg(long, value_name = "NAME")]
    link: Option<String>,
    /// Read GPUs, links and memory from a file.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["device", "gpus", "link"])]
    topology: Option<PathBuf>,
    /// Read the costs from a file that `hiosc profile` or `--emit costs` wrote; several profiles are merged.
    #[arg(long, value_name = "FILE")]
    costs: Vec<PathBuf>,
    /// Use costs that were measured with other kernels, or for another target.
    #[arg(long)]
    allow_foreign_costs: bool,
    /// Time the compared plans on the GPUs of this machine, and emit the fastest; done in any case where the costs are measured on the way.
    #[arg(long, conflicts_with = "algorithm")]
    recheck: bool,
    /// Keep the barriers between the stages of a GPU, as the prediction has them.
    #[arg(long)]
    stage_barriers: bool,
    #[arg(long, value_name = "NAME", help = algorithm_help())]
    algorithm: Option<String>,
    /// Leave out a fuse rule.
    #[arg(long, value_name = "RULE")]
    no_fuse: Vec<String>,
    /// Shape of an input: NAME:1x3x224x224.
    #[arg(long, value_name = "NAME:SHAPE", value_parser = shape)]
    shapes: Vec<(String, Vec<usize>)>,
    /// Fix an input to the values in a .npy file: it is an input no more. For axes, bounds, flags.
    #[arg(long, value_name = "NAME=FILE.npy", value_parser = constant)]
    constant: Vec<(String, PathBuf)>,
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
    #[command(flatten)]
    scheduling: scheduling_args::Scheduling,
}

#[derive(Args)]
struct Inspect {
    /// The model.
    #[arg(value_name = "MODEL.onnx")]
    model: PathBuf,
    /// Shape of an input: NAME:1x3x224x224.
    #[arg(long, value_name = "NAME:SHAPE", value_parser = shape)]
    shapes: Vec<(String, Vec<usize>)>,
    /// Fix an input to the values in a .npy file: it is an input no more.
    #[arg(long, value_name = "NAME=FILE.npy", value_parser = constant)]
    constant: Vec<(String, PathBuf)>,
    /// Print it as JSON.
    #[arg(long)]
    json: bool,
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
    /// The machine's GPU for each logical GPU of the plan, in order; repeats are allowed [default: 0,1,... as far as there are].
    #[arg(long, value_name = "0,1", value_delimiter = ',')]
    gpus: Option<Vec<usize>>,
    /// Measure the links between these GPUs, too, and check them with data.
    #[arg(long)]
    links: bool,
    /// Give logical GPUs that share a device contexts of their own: a test of copies, events and graphs across contexts.
    #[arg(long)]
    separate_contexts: bool,
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

fn algorithm_help() -> String {
    let names: Vec<_> = hiosc::schedule::Algorithm::ALL.iter().map(|a| a.name()).collect();
    format!("Emit what this algorithm finds instead of the best: {}", names.join(", "))
}

/// `NAME:1x3x224x224`
pub(crate) fn shape(text: &str) -> Result<(String, Vec<usize>), String> {
    let (name, shape) = text.rsplit_once(':').ok_or("expected NAME:SHAPE, for example input:1x3x224x224")?;
    let dims = shape.split('x').map(|d| d.parse::<usize>().ok());
    let dims: Option<Vec<usize>> = dims.collect();
    Ok((name.to_string(), dims.ok_or_else(|| format!("{shape:?} is not a shape such as 1x3x224x224"))?))
}

/// `NAME=FILE.npy`
fn constant(text: &str) -> Result<(String, PathBuf), String> {
    let (name, file) = text.split_once('=').ok_or("expected NAME=FILE.npy, for example axes=axes.npy")?;
    Ok((name.to_string(), file.into()))
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.command {
        Some(Command::Verify(args)) => run_verify(args),
        Some(Command::Check(args)) => measure_command::check(args),
        Some(Command::Profile(args)) => measure_command::profile(args),
        Some(Command::Bench(args)) => measure_command::bench(args),
        Some(Command::Inspect(args)) => run_inspect(args),
        Some(Command::Schedule(args)) => schedule_command::run(args),
        None => run_compile(cli.compile),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        // who reads our output has seen enough: `hiosc ... | head`
        Err(error) if error.downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() == std::io::ErrorKind::BrokenPipe) => {
            ExitCode::SUCCESS
        }
        Err(error) => {
            match error.downcast_ref::<Error>() {
                Some(error) => eprintln!("hiosc: {error}"), // its text has its cause
                None => eprintln!("hiosc: {error:#}"),
            }
            ExitCode::from(if matches!(error.downcast_ref(), Some(Error::Usage(_))) { 2 } else { 1 })
        }
    }
}

fn run_compile(args: Compile) -> anyhow::Result<()> {
    let Some(model) = args.model else { anyhow::bail!("no model given") };
    let named = args.device.is_some() || args.gpus.is_some() || args.link.is_some() || args.topology.is_some() || !args.costs.is_empty();
    let mut compiler = Compiler::new(model).stage_barriers(args.stage_barriers).check(!args.no_check);
    let scheduling = args.scheduling.options()?;
    compiler = compiler.allow_foreign_costs(args.allow_foreign_costs).scheduling(scheduling.clone());
    if let Some(device) = &args.device {
        compiler = compiler.device(device);
    }
    if let Some(gpus) = args.gpus {
        compiler = compiler.gpus(gpus as usize);
    }
    if let Some(link) = &args.link {
        compiler = compiler.link(link);
    }
    if let Some(file) = args.topology {
        compiler = compiler.topology(file);
    }
    for file in args.costs {
        compiler = compiler.costs(file);
    }
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
    for (name, file) in &args.constant {
        compiler = compiler.constant(name, Literal::from_npy(file)?);
    }
    let measurable = !named && !hiosc::profile::present()?.is_empty();
    if measurable {
        let graph = compiler.graph()?;
        let options = hiosc::profile::Options { schedule: scheduling, ..Default::default() };
        compiler = compiler.profiled(measure_command::measure(&[&graph], &options)?);
    }
    if args.recheck || measurable {
        compiler = compiler.recheck(hiosc::bench::Options::default());
    }

    let mut out = std::io::stdout().lock();
    let Some(folder) = args.output else {
        let planned = compiler.plan()?;
        out.write_all(dump(&planned, &args.emit).as_bytes())?;
        if args.timings {
            eprint!("{}", planned.timings_text()); // stdout has the text forms, perhaps for a file
        }
        return Ok(());
    };
    hiosc::emit::refuse(&folder)?; // before the work rather than after it
    let compilation = compiler.compile()?;
    compilation.write(&folder)?;
    out.write_all(dump(&compilation.planned, &args.emit).as_bytes())?;
    write!(out, "{}", compilation.summary())?;
    writeln!(out, "wrote      {}", folder.display())?;
    if args.timings {
        write!(out, "{}", compilation.planned.timings_text())?;
    }
    if args.verify {
        write!(out, "{}", verify(&folder, &verify::Options::default())?)?;
    }
    Ok(())
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

fn run_inspect(args: Inspect) -> anyhow::Result<()> {
    let mut options = import::Options { shapes: args.shapes.into_iter().collect(), ..Default::default() };
    for (name, file) in args.constant {
        options.constants.insert(name, Literal::from_npy(&file)?);
    }
    let inspection = inspect(&args.model, &options)?;
    let mut out = std::io::stdout().lock();
    if args.json {
        return Ok(writeln!(out, "{:#}", inspection.json())?);
    }
    Ok(write!(out, "{inspection}")?)
}

fn run_verify(args: Verify) -> anyhow::Result<()> {
    let options = verify::Options {
        reference: args.reference,
        on_virtual: args.on_virtual,
        gpus: None,
        place: args.gpus,
        links: args.links,
        separate_contexts: args.separate_contexts,
        seeds: args.seeds,
    };
    Ok(write!(std::io::stdout(), "{}", verify(&args.crate_dir, &options)?)?)
}
