//! Groups of arguments that several subcommands take, each declared once.
//!
//! A subcommand flattens the groups that it needs. Most groups are then applied to a [`Compiler`].
//!
//! | group | flags | taken by |
//! |---|---|---|
//! | [`InputArgs`] | `--shapes`, `--dim`, `--constant` | all subcommands that read a model, except schedule |
//! | [`ModelArgs`] | `--no-fuse` and `InputArgs` | compile, profile, bench, check |
//! | [`DeviceArgs`] | `--device`, `--link`, `--topology` | compile, bench, check, schedule |
//! | [`TargetArgs`] | `--gpus` and `DeviceArgs` | compile, bench, check |
//! | [`CostArgs`] | `--costs`, `--allow-foreign-costs` | compile, bench, check, schedule |
//! | [`SchedulingArgs`] | options of the algorithms | compile, profile, bench, check, schedule |
//! | [`CrateArgs`] | `--name`, `--module`, `--embed-weights` and others | compile |
//! | [`PlanningArgs`] | `--algorithm`, `--stage-barriers`, other groups | compile, bench, check |
//! | [`VirtualArgs`] | `--virtual N` | profile, bench, check |
//! | [`MachineArgs`] | `--on` | verify, profile |
//! | [`ContextArgs`] | `--separate-contexts` | verify, bench, check |
//! | [`PlacementArgs`] | `--on`, and the two above | bench, check |
//!
//! The help texts here fit most subcommands. A subcommand with another default or meaning overrides
//! them with `mut_arg`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Args;

use crate::emit::{self, CrateOptions};
use crate::import::{self, Literal};
use crate::kernel::Kernel;
use crate::runtime::RuntimeOptions;
use crate::schedule::{Algorithm, Effort, ScheduleOptions};
use crate::{Compiler, vgpu};

/// Shapes and values of the inputs of a model.
#[derive(Args)]
pub struct InputArgs {
    /// Shape of an input: NAME:1x3x224x224; several are separated by commas.
    #[arg(long, value_name = "NAME:SHAPE", value_parser = |text: &str| list(text, shape))]
    shapes: Vec<List<Vec<usize>>>,
    /// Value of a symbolic dimension of the inputs: batch=8; several are separated by commas.
    #[arg(long, value_name = "NAME=N", value_parser = |text: &str| list(text, dimension))]
    dim: Vec<List<usize>>,
    /// Fix an input to the values in a .npy file, so that it is no longer an input. For axes,
    /// bounds, flags.
    #[arg(long, value_name = "NAME=FILE.npy", value_parser = constant)]
    constant: Vec<(String, PathBuf)>,
}

impl InputArgs {
    /// The import options that these arguments give. Reads the files.
    pub fn options(&self) -> crate::Result<import::ImportOptions> {
        let mut options = import::ImportOptions {
            shapes: distinct("--shapes", &self.shapes)?,
            dimensions: distinct("--dim", &self.dim)?,
            ..Default::default()
        };
        for (name, file) in &self.constant {
            options.constants.insert(name.clone(), Literal::from_npy(file)?);
        }
        Ok(options)
    }

    fn apply(&self, mut compiler: Compiler) -> crate::Result<Compiler> {
        let import::ImportOptions { shapes, dimensions, constants, .. } = self.options()?;
        for (name, shape) in shapes {
            compiler = compiler.shape(&name, &shape);
        }
        for (name, value) in dimensions {
            compiler = compiler.dimension(&name, value);
        }
        for (name, value) in constants {
            compiler = compiler.constant(&name, value);
        }
        Ok(self.constant.iter().fold(compiler, |compiler, (_, file)| compiler.also_read(file)))
    }
}

/// How a model becomes a graph.
#[derive(Args)]
pub struct ModelArgs {
    /// Leave out a fuse rule.
    #[arg(long, value_name = "RULE")]
    no_fuse: Vec<String>,
    #[command(flatten)]
    inputs: InputArgs,
}

impl ModelArgs {
    /// `compiler` with these arguments.
    pub fn apply(&self, compiler: Compiler) -> crate::Result<Compiler> {
        self.inputs.apply(self.no_fuse.iter().fold(compiler, |compiler, rule| compiler.no_fuse(rule)))
    }
}

/// The GPUs. Each subcommand declares its own `--gpus`: one number, or several to compare.
#[derive(Args)]
pub struct DeviceArgs {
    #[arg(long, value_name = "NAME[,NAME]", help = device_help("a40"))]
    device: Option<String>,
    /// Link between the GPUs, such as nvlink or pcie4 [default: the fastest that the devices
    /// have].
    #[arg(long, value_name = "NAME")]
    link: Option<String>,
    /// Read GPUs, links and memory from a file.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["device", "gpus", "link"])]
    topology: Option<PathBuf>,
}

/// The help of `--device`, which defaults to `default`.
pub fn device_help(default: &str) -> String {
    format!("Device model of the GPUs, or of each: a40,a40,l4 [default: {default}]")
}

impl DeviceArgs {
    /// Whether any of them is given.
    pub fn named(&self) -> bool {
        self.device.is_some() || self.link.is_some() || self.topology.is_some()
    }

    /// `compiler` with these arguments.
    pub fn apply(&self, mut compiler: Compiler) -> crate::Result<Compiler> {
        if let Some(device) = &self.device {
            compiler = compiler.device(device);
        }
        if let Some(link) = &self.link {
            compiler = compiler.link(link);
        }
        if let Some(file) = &self.topology {
            compiler = compiler.topology(file);
        }
        Ok(compiler)
    }
}

/// The target.
#[derive(Args)]
pub struct TargetArgs {
    #[command(flatten)]
    devices: DeviceArgs,
    /// How many GPUs of one device the plan may use [default: 2].
    #[arg(long, alias = "num-gpus", value_name = "N", value_parser = clap::value_parser!(u32).range(1..=64))]
    gpus: Option<u32>,
}

impl TargetArgs {
    /// Whether any of them is given.
    pub fn named(&self) -> bool {
        self.devices.named() || self.gpus.is_some()
    }

    /// `compiler` with these arguments.
    pub fn apply(&self, compiler: Compiler) -> crate::Result<Compiler> {
        let compiler = self.devices.apply(compiler)?;
        Ok(match self.gpus {
            Some(gpus) => compiler.gpus(gpus as usize),
            None => compiler,
        })
    }
}

/// Sources of costs other than the device models.
#[derive(Args)]
pub struct CostArgs {
    /// Read the costs from a file that `hiosc profile` or `--emit costs` wrote; several profiles
    /// are merged.
    #[arg(long, value_name = "FILE")]
    pub costs: Vec<PathBuf>,
    /// Use costs that were measured with other kernels, or for another target.
    #[arg(long)]
    pub allow_foreign_costs: bool,
}

impl CostArgs {
    /// Whether they name a file.
    pub fn named(&self) -> bool {
        !self.costs.is_empty()
    }

    /// `compiler` with these arguments.
    pub fn apply(&self, compiler: Compiler) -> crate::Result<Compiler> {
        let compiler = compiler.allow_foreign_costs(self.allow_foreign_costs);
        Ok(self.costs.iter().fold(compiler, |compiler, file| compiler.costs(file)))
    }
}

/// Options of the scheduling algorithms: flags for [`ScheduleOptions`].
///
/// A subcommand must flatten these last: their help heading applies to all flags after them.
#[derive(Args)]
#[command(next_help_heading = "Scheduling")]
pub struct SchedulingArgs {
    /// Number of operators in the sliding window.
    #[arg(long, value_name = "W", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..))]
    window: u32,
    /// Maximum number of operators in a stage; for `ios`, of chains.
    #[arg(long, value_name = "S", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..))]
    max_streams: u32,
    /// Maximum number of operators in a chain of an `ios` stage (its pruning parameter r).
    #[arg(long, value_name = "R", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    max_chain: u32,
    /// HIOS-LP takes any path of unmapped operators, not only valid ones.
    #[arg(long)]
    relaxed_paths: bool,
    /// One operator per stage; the same as --max-streams 1 --max-chain 1.
    #[arg(long, conflicts_with_all = ["max_streams", "max_chain"])]
    no_grouping: bool,
    /// The budget of `best`: low, default, high (ten times the default) or a number of evaluations.
    #[arg(long, value_name = "LEVEL", default_value = "default")]
    effort: String,
    /// The seed of `best`.
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
}

impl SchedulingArgs {
    /// The options that these arguments give.
    pub fn options(&self) -> crate::Result<ScheduleOptions> {
        Ok(ScheduleOptions {
            window: self.window as usize,
            max_streams: if self.no_grouping { 1 } else { self.max_streams as usize },
            max_chain: if self.no_grouping { 1 } else { self.max_chain as usize },
            relaxed_paths: self.relaxed_paths,
            effort: self.effort.parse::<Effort>()?,
            seed: self.seed,
        })
    }

    /// `compiler` with these arguments.
    pub fn apply(&self, compiler: Compiler) -> crate::Result<Compiler> {
        Ok(compiler.scheduling(self.options()?))
    }
}

/// What is generated: a crate or a module, and where its weights are.
#[derive(Args)]
#[command(next_help_heading = "Output")]
pub struct CrateArgs {
    /// Name of the crate [default: the model's].
    #[arg(long, value_name = "NAME", conflicts_with = "module")]
    name: Option<String>,
    /// Version of the crate [default: 0.1.0].
    #[arg(long, value_name = "VERSION", conflicts_with = "module")]
    crate_version: Option<String>,
    /// Licence of the crate, as an SPDX expression.
    #[arg(long, value_name = "SPDX", conflicts_with = "module")]
    license: Option<String>,
    /// Let the crate be published: leave out `publish = false`.
    #[arg(long, conflicts_with = "module")]
    publish: bool,
    /// Make the crate a workspace of its own, so that it builds below a workspace that does not
    /// list it.
    #[arg(long, conflicts_with = "module")]
    standalone: bool,
    /// Put the weights into the executables that contain the model.
    #[arg(long)]
    embed_weights: bool,
    /// Where the weights file is on the machines that run the model; tried before the executable's
    /// folder.
    #[arg(long, value_name = "FILE", conflicts_with = "embed_weights")]
    weights_path: Option<String>,
    /// Write a module for a program that depends on the library hiosc: DIR/NAME.rs, which it
    /// includes, and DIR/NAME/.
    #[arg(long, value_name = "NAME")]
    module: Option<String>,
}

impl CrateArgs {
    /// `compiler` with these arguments.
    pub fn apply(&self, compiler: Compiler) -> Compiler {
        let package = CrateOptions {
            name: self.name.clone(),
            version: self.crate_version.clone(),
            license: self.license.clone(),
            publish: self.publish,
            standalone: self.standalone,
            embed_weights: self.embed_weights,
            weights_path: self.weights_path.clone(),
        };
        let compiler = compiler.package(package);
        self.module.iter().fold(compiler, |compiler, name| compiler.module(name))
    }

    /// Fails if something that hiosc did not make is where it will write.
    pub fn check_destination(&self, folder: &Path) -> crate::Result<()> {
        match &self.module {
            None => emit::check_destination(folder),
            Some(name) => emit::check_module_destination(name, folder),
        }
    }

    /// What is written to `folder`: the folder of the crate or module, and the file by which it is
    /// found.
    pub fn written(&self, folder: &Path) -> (PathBuf, PathBuf) {
        match &self.module {
            None => (folder.to_path_buf(), folder.join("Cargo.toml")),
            Some(name) => (folder.join(name), folder.join(format!("{name}.rs"))),
        }
    }
}

/// Everything that a plan depends on, except the model's file and [`SchedulingArgs`].
#[derive(Args)]
pub struct PlanningArgs {
    #[command(flatten)]
    pub target: TargetArgs,
    #[command(flatten)]
    pub costs: CostArgs,
    /// Keep the barriers between the stages of a GPU, as in the prediction.
    #[arg(long)]
    pub stage_barriers: bool,
    #[arg(long, value_name = "NAME", help = algorithm_help("Emit the schedule of this algorithm instead of the best"))]
    algorithm: Option<String>,
    #[command(flatten)]
    model: ModelArgs,
}

/// The help of `--algorithm`: `what` it does, and the names.
pub fn algorithm_help(what: &str) -> String {
    let names: Vec<_> = Algorithm::ALL.iter().map(|a| a.name()).collect();
    format!("{what}: {}", names.join(", "))
}

impl PlanningArgs {
    /// `compiler` with these arguments.
    pub fn apply(&self, compiler: Compiler) -> crate::Result<Compiler> {
        let mut compiler = compiler.stage_barriers(self.stage_barriers);
        if let Some(algorithm) = &self.algorithm {
            compiler = compiler.algorithm(algorithm.parse()?);
        }
        self.model.apply(self.costs.apply(self.target.apply(compiler)?)?)
    }
}

/// Whether this process uses virtual GPUs instead of the machine's.
#[derive(Args)]
pub struct VirtualArgs {
    /// Run on this many virtual GPUs; times mean nothing there.
    #[arg(long = "virtual", value_name = "N", value_parser = clap::value_parser!(u32).range(1..=64))]
    on_virtual: Option<u32>,
}

impl VirtualArgs {
    /// If `--virtual` is given, makes this process use virtual GPUs of these architectures (of the
    /// default one if the list is empty) that have these kernels.
    pub fn apply(&self, architectures: &[(u32, u32)], kernels: impl FnOnce() -> crate::Result<Vec<Kernel>>) -> crate::Result<()> {
        let Some(count) = self.on_virtual else { return Ok(()) };
        let kernels = kernels()?;
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
}

/// GPUs of this machine, for a subcommand that has no number of GPUs. `--gpus` is the former name.
#[derive(Args)]
pub struct MachineArgs {
    #[arg(long, value_name = "0,1", value_delimiter = ',')]
    on: Option<Vec<usize>>,
    #[arg(long, value_name = "0,1", value_delimiter = ',', hide = true, conflicts_with = "on")]
    gpus: Option<Vec<usize>>,
}

impl MachineArgs {
    /// The GPUs, if any are named.
    pub fn on(&self) -> Option<Vec<usize>> {
        if self.gpus.is_some() {
            eprintln!("hiosc: note: --gpus is a number of GPUs; those of this machine are named with --on");
        }
        self.on.clone().or_else(|| self.gpus.clone())
    }
}

/// Contexts of logical GPUs on one device.
#[derive(Args)]
pub struct ContextArgs {
    /// Give logical GPUs that share a device separate contexts: a test of copies, events and graphs
    /// across contexts.
    #[arg(long)]
    pub separate_contexts: bool,
}

/// Where plans run in this process.
#[derive(Args)]
pub struct PlacementArgs {
    /// The machine's GPU for each logical GPU of the plans, in order; repeats are allowed.
    #[arg(long, value_name = "0,1", value_delimiter = ',')]
    on: Option<Vec<usize>>,
    #[command(flatten)]
    contexts: ContextArgs,
    #[command(flatten)]
    pub virtual_gpus: VirtualArgs,
}

impl PlacementArgs {
    /// The options that these arguments give.
    pub fn options(&self) -> RuntimeOptions {
        let options = RuntimeOptions::default().separate_contexts(self.contexts.separate_contexts);
        self.on.as_ref().map_or(options.clone(), |gpus| options.on(gpus))
    }
}

/// Names with values, separated by commas.
#[derive(Clone)]
struct List<T>(Vec<(String, T)>);

/// Parses a list whose items `item` parses. A comma may also be part of a name: then what is before
/// it is no item.
fn list<T>(text: &str, item: fn(&str) -> Result<(String, T), String>) -> Result<List<T>, String> {
    let (mut items, mut begin) = (Vec::new(), 0);
    let ends: Vec<usize> = text.match_indices(',').map(|(comma, _)| comma).collect();
    for end in ends {
        if let Ok(parsed) = item(&text[begin..end]) {
            items.push(parsed);
            begin = end + 1;
        }
    }
    items.push(item(&text[begin..])?);
    Ok(List(items))
}

/// The values by name. Fails if a name has two.
fn distinct<T: Clone + PartialEq>(option: &str, lists: &[List<T>]) -> crate::Result<BTreeMap<String, T>> {
    let mut values: BTreeMap<String, T> = BTreeMap::new();
    for (name, value) in lists.iter().flat_map(|list| &list.0) {
        if values.insert(name.clone(), value.clone()).is_some_and(|other| other != *value) {
            return Err(crate::Error::Usage(format!("{option} gives {name:?} two values")));
        }
    }
    Ok(values)
}

/// `NAME:1x3x224x224`
fn shape(text: &str) -> Result<(String, Vec<usize>), String> {
    let (name, shape) = text.rsplit_once(':').ok_or("expected NAME:SHAPE, for example input:1x3x224x224")?;
    let dims = shape.split('x').map(|d| d.parse::<usize>().ok());
    let dims: Option<Vec<usize>> = dims.collect();
    Ok((name.to_string(), dims.ok_or_else(|| format!("{shape:?} is not a shape such as 1x3x224x224"))?))
}

/// `NAME=8`
fn dimension(text: &str) -> Result<(String, usize), String> {
    let (name, value) = text.rsplit_once('=').ok_or("expected NAME=N, for example batch=8")?;
    match value.parse::<usize>() {
        Ok(value) if value > 0 => Ok((name.to_string(), value)),
        _ => Err(format!("{value:?} is not a positive number")),
    }
}

/// `NAME=FILE.npy`
fn constant(text: &str) -> Result<(String, PathBuf), String> {
    let (name, file) = text.split_once('=').ok_or("expected NAME=FILE.npy, for example axes=axes.npy")?;
    Ok((name.to_string(), file.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_may_have_names_with_commas() {
        let shapes = |text: &str| list(text, shape).map(|list| list.0);
        let of = |name: &str, shape: &[usize]| (name.to_string(), shape.to_vec());
        assert_eq!(shapes("a:1x8,b:2"), Ok(vec![of("a", &[1, 8]), of("b", &[2])]));
        assert_eq!(shapes("in,put:1x4,b:2"), Ok(vec![of("in,put", &[1, 4]), of("b", &[2])]));
        assert!(shapes("a:1,3").is_err() && shapes("a:1,").is_err() && shapes("").is_err());
        let dims = list("batch=8,a,b=2,x=y=3", dimension).map(|list| list.0);
        assert_eq!(dims, Ok(vec![("batch".into(), 8), ("a,b".into(), 2), ("x=y".into(), 3)]));
    }
}
