//! `hiosc MODEL.onnx -o DIR`: compiles a model, writes the crate, and prints a summary, or the text
//! forms of what lies between.

use std::io::Write;
use std::path::PathBuf;

use clap::builder::PossibleValuesParser;
use clap::{Args, ValueEnum};
use hiosc::Compiler;
use hiosc::acceptance::{self, verify};
use hiosc::compiler::Planned;
use hiosc::measure::{bench, profile};
use hiosc::program::KernelMode;

use super::args::{PlanningArgs, SchedulingArgs, device_help};
use super::progress;

/// Arguments of a compilation.
#[derive(Args)]
#[command(mut_arg("device", |arg| arg.help(device_help("the GPUs of this machine, measured; a40 where there are none"))))]
pub struct CompileArgs {
    /// The model.
    #[arg(value_name = "MODEL.onnx", required = true)]
    model: Option<PathBuf>,
    /// Where to write the crate. It appears whole or not at all; an earlier output is replaced.
    #[arg(short, long, value_name = "DIR", required_unless_present = "emit")]
    output: Option<PathBuf>,
    #[command(flatten)]
    planning: PlanningArgs,
    /// Time the compared plans on the GPUs of this machine, and emit the fastest; done in any case where the costs are measured on the way.
    #[arg(long, conflicts_with = "algorithm")]
    recheck: bool,
    /// Ship kernels compiled, as sources, or compiled where NVRTC is found.
    #[arg(long, default_value = "auto")]
    kernels: Kernels,
    /// Print the text form of these rooms' results.
    #[arg(long, value_delimiter = ',', value_name = "ROOM", value_parser = rooms())]
    emit: Vec<String>,
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
    scheduling: SchedulingArgs,
}

#[derive(Clone, Copy, ValueEnum)]
enum Kernels {
    Auto,
    Binary,
    Source,
}

/// The text form of a room's result.
type Text = fn(&Planned) -> hiosc::Result<String>;

/// What `--emit` can print, in the order in which it does.
const ROOMS: &[(&str, Text)] = &[
    ("graph", |planned| Ok(planned.graph.to_string())),
    ("costs", |planned| Ok(planned.costs.to_text(&planned.graph))),
    ("schedule", |planned| Ok(hiosc::schedule::to_text(Some(&planned.graph), &planned.chosen().schedule, &planned.chosen().timeline))),
    ("plan", |planned| Ok(planned.plan.text(&planned.graph))),
    ("kernels", Planned::launches),
];

/// Takes the names of [`ROOMS`].
fn rooms() -> PossibleValuesParser {
    PossibleValuesParser::new(ROOMS.iter().map(|&(name, _)| name))
}

/// Compiles.
pub fn run(args: CompileArgs) -> anyhow::Result<()> {
    let Some(model) = args.model else { anyhow::bail!("no model given") };
    let planning = &args.planning;
    let compiler = args.scheduling.apply(Compiler::new(model).check(!args.no_check))?;
    let mut compiler = planning.apply(compiler)?.kernels(match args.kernels {
        Kernels::Auto => KernelMode::Auto,
        Kernels::Binary => KernelMode::Binary,
        Kernels::Source => KernelMode::Source,
    });
    let named = planning.target.named() || planning.costs.named();
    let measurable = !named && !profile::present()?.is_empty();
    args.output.iter().try_for_each(|folder| hiosc::emit::refuse(folder))?; // before the work rather than after it
    let imported = compiler.import()?;
    if measurable {
        let options = profile::Options { schedule: args.scheduling.options()?, ..Default::default() };
        compiler = compiler.profiled(progress::profile(&[&imported.graph], &options)?);
    }
    if args.recheck || measurable {
        compiler = compiler.recheck(bench::Options::default());
    }
    let planned = compiler.plan_imported(imported)?;

    let mut out = std::io::stdout().lock();
    let Some(folder) = args.output else {
        out.write_all(dump(&planned, &args.emit)?.as_bytes())?;
        if args.timings {
            eprint!("{}", planned.timings_text()); // stdout has the text forms, perhaps for a file
        }
        return Ok(());
    };
    let compilation = compiler.compile_planned(planned)?;
    compilation.write(&folder)?;
    out.write_all(dump(&compilation.planned, &args.emit)?.as_bytes())?;
    write!(out, "{}", compilation.summary())?;
    writeln!(out, "wrote      {}", folder.display())?;
    if args.timings {
        write!(out, "{}", compilation.planned.timings_text())?;
    }
    if args.verify {
        write!(out, "{}", verify(&folder, &acceptance::Options::default())?)?;
    }
    Ok(())
}

/// The text forms of the rooms that are `wanted`, in the order of the rooms.
fn dump(planned: &Planned, wanted: &[String]) -> hiosc::Result<String> {
    ROOMS.iter().filter(|(room, _)| wanted.iter().any(|w| w == room)).map(|(_, text)| text(planned)).collect()
}
