//! `hiosc profile`, `hiosc bench` and `hiosc check`: what needs GPUs, or virtual ones to try it.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;

use clap::Args;
use hiosc::compiler::Planned;
use hiosc::cost::Profile;
use hiosc::kernel::Kernel;
use hiosc::profile::{self, Progress};
use hiosc::run::runtime;
use hiosc::{Compiler, Error, bench, compiler, plan, verify, vgpu};

use crate::scheduling_args::Scheduling;

/// Arguments of `hiosc profile`.
#[derive(Args)]
pub struct ProfileArgs {
    /// The models.
    #[arg(value_name = "MODEL.onnx", required = true)]
    models: Vec<PathBuf>,
    /// Where to write the costs.
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Keep what these files have of the same GPUs; what is measured now counts more.
    #[arg(long, value_name = "FILE")]
    merge: Vec<PathBuf>,
    /// Measure fewer rounds and shorter ones.
    #[arg(long)]
    quick: bool,
    /// The machine's GPUs to measure [default: all].
    #[arg(long, value_name = "0,1", value_delimiter = ',')]
    gpus: Option<Vec<usize>>,
    /// Try it on this many virtual GPUs; the times mean nothing.
    #[arg(long = "virtual", value_name = "N", value_parser = clap::value_parser!(u32).range(1..=64))]
    on_virtual: Option<u32>,
    /// Leave out a fuse rule.
    #[arg(long, value_name = "RULE")]
    no_fuse: Vec<String>,
    /// Shape of an input: NAME:1x3x224x224.
    #[arg(long, value_name = "NAME:SHAPE", value_parser = crate::shape)]
    shapes: Vec<(String, Vec<usize>)>,
    #[command(flatten)]
    scheduling: Scheduling,
}

/// What is compiled, and where it runs.
#[derive(Args)]
struct Common {
    /// The model.
    #[arg(value_name = "MODEL.onnx")]
    model: PathBuf,
    /// Measured costs, or those that `--emit costs` wrote; several are merged.
    #[arg(long, value_name = "FILE")]
    costs: Vec<PathBuf>,
    /// Use costs measured with other kernels or on other GPUs.
    #[arg(long)]
    allow_foreign_costs: bool,
    /// Device model of the GPUs, where there are no measured costs.
    #[arg(long, value_name = "NAME[,NAME]")]
    device: Option<String>,
    /// How many GPUs of one device the plans may use [default: 2].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=64))]
    gpus: Option<u32>,
    /// Run what this algorithm finds.
    #[arg(long, value_name = "NAME")]
    algorithm: Option<String>,
    /// Keep the barriers between the stages of a GPU, as the prediction has them.
    #[arg(long)]
    stage_barriers: bool,
    /// Shape of an input: NAME:1x3x224x224.
    #[arg(long, value_name = "NAME:SHAPE", value_parser = crate::shape)]
    shapes: Vec<(String, Vec<usize>)>,
    /// The machine's GPU for each logical GPU of the plans, in order; repeats are allowed.
    #[arg(long, value_name = "0,1", value_delimiter = ',')]
    on: Option<Vec<usize>>,
    /// Give logical GPUs that share a device contexts of their own: a test of copies, events and graphs across contexts.
    #[arg(long)]
    separate_contexts: bool,
    /// Try it on this many virtual GPUs; times mean nothing there.
    #[arg(long = "virtual", value_name = "N", value_parser = clap::value_parser!(u32).range(1..=64))]
    on_virtual: Option<u32>,
    #[command(flatten)]
    scheduling: Scheduling,
}

/// Arguments of `hiosc bench`.
#[derive(Args)]
pub struct BenchArgs {
    /// Inferences of each plan and way to run it.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    repeat: u32,
    /// Write all figures as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Wait for a line on standard input before each round, and say `round` after it: to take turns with another program.
    #[arg(long)]
    paced: bool,
    /// Write a trace of the chosen plan for Perfetto, predicted and measured side by side.
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    #[command(flatten)]
    common: Common,
}

/// Arguments of `hiosc check`.
#[derive(Args)]
pub struct CheckArgs {
    /// Inputs (`in:NAME`) and expected outputs (`out:NAME`).
    #[arg(long, value_name = "FILE.npz")]
    reference: PathBuf,
    #[command(flatten)]
    common: Common,
}

/// Measures the operators of the models, and writes the file.
pub fn profile(args: ProfileArgs) -> anyhow::Result<()> {
    let with_options = |model: &PathBuf| {
        let mut compiler = args.no_fuse.iter().fold(Compiler::new(model), |compiler, rule| compiler.no_fuse(rule));
        for (name, shape) in &args.shapes {
            compiler = compiler.shape(name, shape);
        }
        compiler
    };
    let graphs = args.models.iter().map(|model| with_options(model).graph()).collect::<Result<Vec<_>, _>>()?;
    let graphs: Vec<_> = graphs.iter().collect();
    let before = compiler::read_profiles(&args.merge)?;
    if let Some(count) = args.on_virtual {
        use_virtual(count, &[], &profile::kernels(&graphs)?)?;
    }
    let options = profile::Options { gpus: args.gpus, quick: args.quick, schedule: args.scheduling.options()? };
    let measured = measure(&graphs, &options)?;
    let profile = match before {
        None => measured,
        Some(mut before) => {
            before.merge(measured)?;
            before
        }
    };
    std::fs::write(&args.output, profile.to_text()).map_err(Error::io(&args.output))?;
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

/// Measures with a progress line on standard error.
pub fn measure(graphs: &[&hiosc::graph::Graph], options: &profile::Options) -> hiosc::Result<Profile> {
    let terminal = std::io::stderr().is_terminal();
    let mut shown = (0, "");
    let measured = profile::profile(graphs, options, &mut |Progress { what, done, of, left }| {
        let tenth = (done * 10 / of.max(1), what);
        if terminal {
            eprint!("\rprofile    {done} of {of} {what}, {:.0} s left   ", left.as_secs_f64());
        } else if tenth != shown {
            shown = tenth;
            eprintln!("profile    {done} of {of} {what}, {:.0} s left", left.as_secs_f64());
        }
    });
    if terminal {
        eprintln!();
    }
    measured
}

impl Common {
    /// Plans the model, and gets the GPUs ready; where the plans are to run.
    fn plan(&self) -> hiosc::Result<(Planned, runtime::Options)> {
        let mut compiler = Compiler::new(&self.model).stage_barriers(self.stage_barriers).scheduling(self.scheduling.options()?);
        for (name, shape) in &self.shapes {
            compiler = compiler.shape(name, shape);
        }
        if let Some(device) = &self.device {
            compiler = compiler.device(device);
        }
        if let Some(gpus) = self.gpus {
            compiler = compiler.gpus(gpus as usize);
        }
        if let Some(algorithm) = &self.algorithm {
            compiler = compiler.algorithm(algorithm);
        }
        for file in &self.costs {
            compiler = compiler.costs(file);
        }
        let planned = compiler.allow_foreign_costs(self.allow_foreign_costs).plan()?;
        if let Some(count) = self.on_virtual {
            let kernels: Vec<Kernel> = planned.costs.operators.iter().flatten().map(|cost| cost.kernel.clone()).collect();
            let architectures: Vec<(u32, u32)> = planned.costs.gpus.iter().map(|gpu| gpu.compute_capability).collect();
            use_virtual(count, &architectures, &kernels)?;
        }
        if planned.costs.source.starts_with("measured")
            && !self.allow_foreign_costs
            && let Some(profile) = compiler::read_profiles(&self.costs)?
        {
            profile.check_gpus(&profile::present()?)?;
        }
        let place = runtime::Options::default().separate_contexts(self.separate_contexts);
        Ok((planned, self.on.as_ref().map_or(place.clone(), |gpus| place.gpus(gpus))))
    }
}

/// Says that the round before is over, if there was one, and waits for a line on standard input.
fn pace() {
    static BEGUN: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);
    // Who has gone away cannot be waited for: the rounds then follow one another.
    if BEGUN.swap(true, std::sync::atomic::Ordering::Relaxed) {
        let _ = writeln!(std::io::stdout(), "round").and_then(|()| std::io::stdout().flush());
    }
    let _ = std::io::stdin().read_line(&mut String::new());
}

/// Measures the compared plans.
pub fn bench(args: BenchArgs) -> anyhow::Result<()> {
    let (planned, place) = args.common.plan()?;
    let plan = plan::Options { stage_barriers: args.common.stage_barriers };
    let before_round = args.paced.then_some(pace as fn());
    let options = bench::Options { rounds: args.repeat as usize, place, plan, before_round };
    let inputs = compiler::check_inputs(&planned.graph);
    let report = bench::bench(&planned, &inputs, &options)?;
    for (file, text) in [(&args.json, &report.json), (&args.trace, &report.trace)] {
        if let Some(file) = file {
            std::fs::write(file, text).map_err(Error::io(file))?;
        }
    }
    Ok(write!(std::io::stdout(), "{}", report.text)?)
}

/// Runs the chosen plan once, and compares.
pub fn check(args: CheckArgs) -> anyhow::Result<()> {
    let (planned, place) = args.common.plan()?;
    let (outputs, summary) = verify::in_process(&planned, &args.reference, &place)?;
    let mut out = std::io::stdout();
    write!(out, "{summary}")?;
    for verify::OutputReport { name, difference, allowed, .. } in &outputs {
        writeln!(out, "output {name:?} differs by at most {difference:.2e} (allowed {allowed:.2e})")?;
    }
    let wrong: Vec<&str> = outputs.iter().filter(|o| !o.passes()).map(|o| o.name.as_str()).collect();
    if !wrong.is_empty() {
        return Err(Error::Mismatch(format!("wrong outputs: {}", wrong.join(", "))).into());
    }
    Ok(writeln!(out, "PASS")?)
}

/// Makes this process run on virtual GPUs that have these kernels.
fn use_virtual(count: u32, architectures: &[(u32, u32)], kernels: &[Kernel]) -> hiosc::Result<()> {
    let mut sources: Vec<(&str, &str)> = kernels.iter().map(|k| (k.name.as_str(), k.source.as_str())).collect();
    sources.sort();
    sources.dedup();
    let folder = vgpu::compile_kernels(&sources, None)?;
    let count = count.to_string();
    let architectures: Vec<String> = architectures.iter().map(|(major, minor)| format!("{major}.{minor}")).collect();
    let architectures = architectures.join(",");
    let mut settings = vec![("HIOSC_VGPU_COUNT", count.as_str())];
    if !architectures.is_empty() {
        settings.push(("HIOSC_VGPU_ARCH", &architectures));
    }
    vgpu::load(&folder, &settings)
}
