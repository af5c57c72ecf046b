//! `hiosc MODEL.onnx -o DIR`: compiles a model, writes the crate, and prints a summary. `--emit`
//! prints intermediate results as text.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::builder::PossibleValuesParser;
use clap::{Args, ValueEnum};

use serde_json::json;

use super::args::{CrateArgs, PlanningArgs, SchedulingArgs, device_help};
use super::{FORMAT, Verbosity, progress, stale};
use crate::acceptance::{VerifyOptions, examine, verify};
use crate::compiler::{Passes, Planned};
use crate::measure::bench::BenchOptions;
use crate::measure::profile::{self, ProfileOptions};
use crate::program::KernelMode;
use crate::{Compiler, Error};

/// Arguments of a compilation.
#[derive(Args)]
#[command(mut_arg("device", |arg| arg.help(device_help("the GPUs of this machine, measured; a40 if there are none"))))]
pub struct CompileArgs {
    /// The model.
    #[arg(value_name = "MODEL.onnx", required_unless_present = "check")]
    pub model: Option<PathBuf>,
    /// Where to write the crate. It appears whole or not at all; an earlier output is replaced.
    #[arg(short, long, value_name = "DIR", required_unless_present_any = ["emit", "check"])]
    output: Option<PathBuf>,
    /// Write nothing, but say whether the crate in DIR is what would be written there. Without a
    /// model and other options, with those that the crate records.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["output", "module", "emit", "verify", "recheck", "depfile", "timings", "json"])]
    pub check: Option<PathBuf>,
    #[command(flatten)]
    planning: PlanningArgs,
    /// Time the compared plans on the GPUs of this machine and emit the fastest. Always done if
    /// this command measures the costs.
    #[arg(long, conflicts_with = "algorithm")]
    recheck: bool,
    /// How kernels are shipped: binary (compiled), source, or auto (compiled if NVRTC is found).
    #[arg(long, default_value = "auto")]
    kernels: Kernels,
    /// Print these intermediate results as text.
    #[arg(long, value_delimiter = ',', value_name = "RESULT", value_parser = results())]
    emit: Vec<String>,
    /// Do not store an input and its reference output in the crate.
    #[arg(long, conflicts_with = "verify")]
    no_check: bool,
    /// Where the reference output comes from: rten, tract (which is also the importer's reader), or
    /// a file with inputs (`in:NAME`) and outputs (`out:NAME`). By default from rten where it runs
    /// the model, else from tract; from both where they disagree.
    #[arg(long, value_name = "rten|tract|FILE.npz", conflicts_with = "no_check")]
    reference: Option<PathBuf>,
    /// Run the crate's check after writing it.
    #[arg(long, requires = "output", conflicts_with = "module")]
    verify: bool,
    /// Print what was done as JSON.
    #[arg(long, requires = "output", conflicts_with_all = ["emit", "timings"])]
    json: bool,
    /// Print the seconds spent in each pass.
    #[arg(long)]
    timings: bool,
    /// Write the files that this compilation reads, as a rule for make.
    #[arg(long, value_name = "FILE", requires = "output")]
    depfile: Option<PathBuf>,
    #[command(flatten)]
    krate: CrateArgs,
    #[command(flatten)]
    scheduling: SchedulingArgs,
}

#[derive(Clone, Copy, ValueEnum)]
enum Kernels {
    Auto,
    Binary,
    Source,
}

/// The text form of one intermediate result.
type Text = fn(&Planned) -> crate::Result<String>;

/// What `--emit` can print, in the order of the output.
const RESULTS: &[(&str, Text)] = &[
    ("graph", |planned| Ok(planned.graph.to_string())),
    ("costs", |planned| Ok(planned.costs.to_text(&planned.graph))),
    ("schedule", |planned| Ok(crate::schedule::to_text(Some(&planned.graph), &planned.chosen().schedule, &planned.chosen().timeline))),
    ("plan", |planned| Ok(planned.plan.text(&planned.graph))),
    ("kernels", Planned::launches),
];

/// Accepts the names of [`RESULTS`].
fn results() -> PossibleValuesParser {
    PossibleValuesParser::new(RESULTS.iter().map(|&(name, _)| name))
}

/// Compiles the model; `command` are the same arguments, as a crate records them, if they can be
/// recorded.
pub fn run(args: CompileArgs, command: Option<Vec<String>>, verbosity: Verbosity) -> anyhow::Result<()> {
    if let Some(folder) = &args.check {
        return stale::run(folder, &args, command, verbosity);
    }
    let mut compiler = args.compiler()?;
    if let Some(command) = command {
        compiler = compiler.command(command);
    }
    let named = args.planning.target.named() || args.planning.costs.named();
    let measurable = !named && !profile::present()?.is_empty();
    let written = args.output.as_deref().map(|folder| args.krate.written(folder));
    args.output.iter().try_for_each(|folder| args.krate.check_destination(folder))?; // before any work is done
    if let Some(file) = &args.depfile {
        std::fs::write(file, "").map_err(Error::io(file))?;
    }
    let imported = compiler.import()?;
    if measurable {
        let options = ProfileOptions { schedule: args.scheduling.options()?, ..Default::default() };
        compiler = compiler.profiled(profile::profile(&[&imported.graph], &options)?);
    }
    if args.recheck || measurable {
        compiler = compiler.recheck(BenchOptions::default());
    }
    let planned = compiler.plan_imported(imported)?;

    let (Some(folder), Some((crate_folder, target))) = (args.output, written) else {
        progress::end();
        std::io::stdout().write_all(dump(&planned, &args.emit)?.as_bytes())?;
        if args.timings {
            eprint!("{}", planned.timings_text()); // stdout holds the text forms, and may go to a file
        }
        return Ok(());
    };
    let compilation = compiler.compile_planned(planned)?;
    let files = compilation.write(&folder)?;
    if let Some(file) = &args.depfile {
        std::fs::write(file, rule(&target, compilation.inputs())).map_err(Error::io(file))?;
    }
    progress::end();
    let mut out = std::io::stdout();
    if args.json {
        let mut all = compilation.json();
        all["format"] = FORMAT.into();
        all["hiosc"] = env!("CARGO_PKG_VERSION").into();
        all["written"] = json!({ "path": crate_folder, "files": files.files, "changed": files.changed, "bytes": files.bytes });
        let report = args.verify.then(|| examine(&crate_folder, &VerifyOptions::default())).transpose()?;
        if let Some(report) = &report {
            all["verify"] = report.json();
        }
        progress::end();
        writeln!(out, "{all:#}")?;
        return Ok(report.map_or(Ok(()), |report| report.judge())?);
    }
    out.write_all(dump(&compilation.planned, &args.emit)?.as_bytes())?;
    if verbosity != Verbosity::Quiet {
        write!(out, "{}", compilation.summary())?;
        writeln!(out, "wrote      {}", crate_folder.display())?;
    }
    if args.timings {
        write!(out, "{}", compilation.planned.timings_text())?;
    }
    if args.verify {
        let report = verify(&crate_folder, &VerifyOptions::default())?;
        progress::end();
        if verbosity != Verbosity::Quiet {
            write!(out, "{report}")?;
        }
    }
    Ok(())
}

impl CompileArgs {
    /// The compiler that these arguments describe.
    pub fn compiler(&self) -> anyhow::Result<Compiler> {
        let Some(model) = &self.model else { anyhow::bail!("no model given") };
        let mut compiler = self.scheduling.apply(Compiler::new(model).check(!self.no_check))?;
        if let Some(reference) = &self.reference {
            compiler = compiler.reference(reference);
        }
        Ok(self.planning.apply(self.krate.apply(compiler))?.kernels(match self.kernels {
            Kernels::Auto => KernelMode::Auto,
            Kernels::Binary => KernelMode::Binary,
            Kernels::Source => KernelMode::Source,
        }))
    }
}

/// `target: input input`, as make reads it.
fn rule(target: &Path, inputs: &[PathBuf]) -> String {
    let escaped = |path: &Path| path.to_string_lossy().replace('$', "$$").replace('#', "\\#").replace(' ', "\\ ");
    let inputs: Vec<String> = inputs.iter().map(|input| escaped(input)).collect();
    format!("{}: {}\n", escaped(target), inputs.join(" "))
}

/// The text forms of the `wanted` results, in the order of [`RESULTS`].
fn dump(planned: &Planned, wanted: &[String]) -> crate::Result<String> {
    RESULTS.iter().filter(|(name, _)| wanted.iter().any(|w| w == name)).map(|(_, text)| text(planned)).collect()
}
