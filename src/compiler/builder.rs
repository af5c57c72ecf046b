//! What to compile, for which target, and how: the builder behind the command line.

use std::path::{Path, PathBuf};

use crate::cost::Profile;
use crate::device::Target;
use crate::emit::{self, CrateOptions, Form, RecordedCheck};
use crate::error::{Error, Result};
use crate::import::{ImportOptions, Literal};
use crate::measure::bench::BenchOptions;
use crate::oracle::Choice;
#[cfg(doc)]
use crate::plan::PlanOptions;
use crate::program::KernelMode;
use crate::schedule::{Algorithm, ScheduleOptions};

use super::costs::read_text;

/// The device if no other is named.
pub(super) const DEFAULT_DEVICE: &str = "a40";

/// What to compile, for which target, and how. A builder: every method returns it.
#[derive(Clone, Debug)]
pub struct Compiler {
    pub(super) model: PathBuf,
    pub(super) device: Option<String>,
    pub(super) gpus: Option<usize>,
    pub(super) link: Option<String>,
    pub(super) topology: Option<PathBuf>,
    pub(super) costs: Vec<PathBuf>,
    pub(super) allow_foreign_costs: bool,
    pub(super) profiled: Option<Profile>,
    pub(super) recheck: Option<BenchOptions>,
    pub(super) stage_barriers: bool,
    pub(super) algorithm: Option<Algorithm>,
    pub(super) scheduling: ScheduleOptions,
    pub(super) no_fuse: Vec<String>,
    pub(super) import: ImportOptions,
    pub(super) check: bool,
    pub(super) kernels: KernelMode,
    pub(super) package: CrateOptions,
    pub(super) module: Option<String>,
    pub(super) also_read: Vec<PathBuf>,
    pub(super) command: Option<Vec<String>>,
    pub(super) reference: Choice,
    pub(super) recorded_check: Option<RecordedCheck>,
}

impl Compiler {
    /// How the model is imported.
    pub(crate) fn import_options(&self) -> &ImportOptions {
        &self.import
    }

    /// A compiler for the model at `model`. Target: two A40s on an NVLink bridge. Schedule: the
    /// best of `sequential`, `intra-gpu`, `hios-lp` and `best`. The crate has a check.
    pub fn new(model: impl Into<PathBuf>) -> Compiler {
        Compiler {
            model: model.into(),
            device: None,
            gpus: None,
            link: None,
            topology: None,
            costs: Vec::new(),
            allow_foreign_costs: false,
            profiled: None,
            recheck: None,
            stage_barriers: false,
            algorithm: None,
            scheduling: ScheduleOptions::default(),
            no_fuse: Vec::new(),
            import: ImportOptions::default(),
            check: true,
            kernels: KernelMode::Auto,
            package: CrateOptions::default(),
            module: None,
            also_read: Vec::new(),
            command: None,
            reference: Choice::Both,
            recorded_check: None,
        }
    }

    /// The device model, by name; or several, separated by commas, for GPUs of different kinds:
    /// `a40,a40,l4`.
    pub fn device(mut self, name: &str) -> Compiler {
        self.device = Some(name.into());
        self
    }

    /// The most GPUs of one device that the plan may use.
    pub fn gpus(mut self, count: usize) -> Compiler {
        self.gpus = Some(count);
        self
    }

    /// What connects the GPUs, by name. The default is the fastest link that the devices have.
    pub fn link(mut self, name: &str) -> Compiler {
        self.link = Some(name.into());
        self
    }

    /// Reads GPUs, links and memory from this file (docs/topology.md has the format). Cannot be
    /// combined with device, number of GPUs or link.
    pub fn topology(mut self, file: impl Into<PathBuf>) -> Compiler {
        self.topology = Some(file.into());
        self
    }

    /// Reads the costs from this file instead of estimating them. The file has the form that
    /// `hiosc --emit costs` writes, or is a profile that `hiosc profile` measured. Several profiles
    /// are merged. The target may be omitted; if it is given, it must be that of the table.
    pub fn costs(mut self, file: impl Into<PathBuf>) -> Compiler {
        self.costs.push(file.into());
        self
    }

    /// Whether costs are accepted that were measured with other kernels, or for a target other than
    /// the one given.
    pub fn allow_foreign_costs(mut self, allow: bool) -> Compiler {
        self.allow_foreign_costs = allow;
        self
    }

    /// Uses these measured costs.
    pub(crate) fn profiled(mut self, profile: Profile) -> Compiler {
        self.profiled = Some(profile);
        self
    }

    /// Times the compared plans on the GPUs, as CUDA graphs, and emits the fastest. Has no effect
    /// if an algorithm is requested.
    pub fn recheck(mut self, options: BenchOptions) -> Compiler {
        self.recheck = Some(options);
        self
    }

    /// Keeps the barriers between the stages of a GPU: see [`PlanOptions::stage_barriers`].
    pub fn stage_barriers(mut self, keep: bool) -> Compiler {
        self.stage_barriers = keep;
        self
    }

    /// Emits the schedule of this algorithm, even if that of another one is faster.
    pub fn algorithm(mut self, algorithm: Algorithm) -> Compiler {
        self.algorithm = Some(algorithm);
        self
    }

    /// Options of the scheduling algorithms.
    pub fn scheduling(mut self, options: ScheduleOptions) -> Compiler {
        self.scheduling = options;
        self
    }

    /// Leaves out a fuse rule, by name.
    pub fn no_fuse(mut self, rule: &str) -> Compiler {
        self.no_fuse.push(rule.into());
        self
    }

    /// The shape of an input, which overrides the model's.
    pub fn shape(mut self, input: &str, shape: &[usize]) -> Compiler {
        self.import.shapes.insert(input.into(), shape.to_vec());
        self
    }

    /// The value of a symbolic dimension of the model's inputs, such as `batch`.
    pub fn dimension(mut self, name: &str, value: usize) -> Compiler {
        self.import.dimensions.insert(name.into(), value);
        self
    }

    /// Fixes an input to a value. It is no longer an input, and everything that depends on it alone
    /// is computed at compile time.
    pub fn constant(mut self, input: &str, value: Literal) -> Compiler {
        self.import.constants.insert(input.into(), value);
        self
    }

    /// Whether the crate carries an input with its reference output (the default). The reference
    /// costs one inference on the CPU.
    pub fn check(mut self, check: bool) -> Compiler {
        self.check = check;
        self
    }

    /// Whether kernels are shipped compiled, as sources, or compiled if this machine can.
    pub fn kernels(mut self, mode: KernelMode) -> Compiler {
        self.kernels = mode;
        self
    }

    /// Name, version and other options of the generated crate.
    pub fn package(mut self, options: CrateOptions) -> Compiler {
        self.package = options;
        self
    }

    /// Generates a module of this name instead of a crate, for a program that depends on the
    /// library hiosc. [`Compilation::write`](super::Compilation::write) then writes `NAME.rs`,
    /// which the program includes, and a folder `NAME`. Of [`CrateOptions`], only those about
    /// weights have an effect.
    pub fn module(mut self, name: &str) -> Compiler {
        self.module = Some(name.into());
        self
    }

    /// Names a file that was read for an option:
    /// [`Compilation::inputs`](super::Compilation::inputs) lists it, too.
    pub(crate) fn also_read(mut self, file: impl Into<PathBuf>) -> Compiler {
        self.also_read.push(file.into());
        self
    }

    /// The arguments of the program `hiosc` that do the same, which the crate records.
    pub(crate) fn command(mut self, words: Vec<String>) -> Compiler {
        self.command = Some(words);
        self
    }

    /// Where the crate's reference output comes from: `rten`, `tract` (which is also the importer's
    /// reader), or an npz file with `in:NAME` and `out:NAME` ('/' in names as '_'). By default from
    /// rten where it runs the model, else from tract; and from both where they disagree.
    pub fn reference(mut self, from: impl AsRef<Path>) -> Compiler {
        self.reference = Choice::parse(from.as_ref());
        self
    }

    /// Makes the importer forget an attribute of an operator: tests damage it with this.
    #[cfg(feature = "internals")]
    #[doc(hidden)]
    pub fn forgetting(mut self, operator: &'static str, attribute: &'static str) -> Compiler {
        self.import.forgotten.push((operator, attribute));
        self
    }

    /// Makes the crate without computing the outputs of its check, which another crate has: to
    /// compare the other files.
    pub(crate) fn recorded_check(mut self, check: RecordedCheck) -> Compiler {
        self.recorded_check = Some(check);
        self
    }

    /// The files that a compilation of this model reads besides those of the model itself.
    pub(super) fn files(&self) -> Vec<PathBuf> {
        let reference = match &self.reference {
            Choice::File(file) => Some(file),
            _ => None,
        };
        self.topology.iter().chain(&self.costs).chain(&self.also_read).chain(reference).cloned().collect()
    }

    /// What is generated. Fails if it cannot have the name or version that was chosen.
    pub(super) fn form(&self) -> Result<Form> {
        self.package.check()?;
        match &self.module {
            None => Ok(Form::Crate),
            Some(name) if emit::is_module(name) => Ok(Form::Module(name.clone())),
            Some(name) => Err(Error::Usage(format!(
                "`{name}` cannot be the name of a module: use lower-case letters, digits and _; not a keyword, std or hiosc"
            ))),
        }
    }

    /// The target; `None` if the cost table determines it.
    pub(super) fn target(&self) -> Result<Option<Target>> {
        let named = self.device.is_some() || self.gpus.is_some() || self.link.is_some();
        match &self.topology {
            Some(_) if named => {
                Err(Error::Usage("a topology says everything about GPUs and links: leave out device, gpus and link".into()))
            }
            Some(file) => {
                let text = read_text(file)?;
                let name = file.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned());
                Target::from_topology(&text, &name).map(Some)
            }
            None if !named && (!self.costs.is_empty() || self.profiled.is_some()) => Ok(None),
            None => Target::new(self.device.as_deref().unwrap_or(DEFAULT_DEVICE), self.gpus, self.link.as_deref()).map(Some),
        }
    }
}
