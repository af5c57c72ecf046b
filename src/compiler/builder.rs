//! What to compile, for what, and how: the builder behind the command line's flags.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::cost::Profile;
use crate::device::Target;
use crate::error::{Error, Result};
use crate::import;
use crate::measure::bench;
use crate::program::KernelMode;
use crate::schedule::{self, Algorithm};

use super::costs::read_text;

/// The device unless another is named.
pub(super) const DEFAULT_DEVICE: &str = "a40";

/// What to compile, for what, and how: a builder. Every call gives the builder back.
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
    pub(super) recheck: Option<bench::Options>,
    pub(super) stage_barriers: bool,
    pub(super) algorithm: Option<String>,
    pub(super) scheduling: schedule::Options,
    pub(super) no_fuse: Vec<String>,
    pub(super) shapes: BTreeMap<String, Vec<usize>>,
    pub(super) constants: BTreeMap<String, import::Literal>,
    pub(super) check: bool,
    pub(super) kernels: KernelMode,
}

impl Compiler {
    /// A compiler for the model at `model`: two A40s on an NVLink bridge, the best of `sequential`, `intra-gpu`, `hios-lp` and `best`, with a check.
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
            scheduling: schedule::Options::default(),
            no_fuse: Vec::new(),
            shapes: BTreeMap::new(),
            constants: BTreeMap::new(),
            check: true,
            kernels: KernelMode::Auto,
        }
    }

    /// The device model, by name; or several, separated by commas, for GPUs that are not all of one kind: `a40,a40,l4`.
    pub fn device(mut self, name: &str) -> Compiler {
        self.device = Some(name.into());
        self
    }

    /// How many GPUs of one device the plan may use at most.
    pub fn gpus(mut self, count: usize) -> Compiler {
        self.gpus = Some(count);
        self
    }

    /// What connects the GPUs, by name; by default the fastest that the devices have.
    pub fn link(mut self, name: &str) -> Compiler {
        self.link = Some(name.into());
        self
    }

    /// Reads GPUs, links and memory from this file (see [`Target::from_topology`]), instead of device, number of GPUs and link.
    pub fn topology(mut self, file: impl Into<PathBuf>) -> Compiler {
        self.topology = Some(file.into());
        self
    }

    /// Reads the costs from this file, instead of estimating them: in the form that [`CostTable::to_text`](crate::cost::CostTable::to_text) writes, or measured, as a [`Profile`]. Several profiles
    /// are merged. A target may be left out; one that is given must be the table's.
    pub fn costs(mut self, file: impl Into<PathBuf>) -> Compiler {
        self.costs.push(file.into());
        self
    }

    /// Whether measured costs are used although they are of other kernels than this hiosc's.
    pub fn allow_foreign_costs(mut self, allow: bool) -> Compiler {
        self.allow_foreign_costs = allow;
        self
    }

    /// Uses these costs, measured before.
    pub fn profiled(mut self, profile: Profile) -> Compiler {
        self.profiled = Some(profile);
        self
    }

    /// Times the compared plans on the GPUs, as graphs, and emits the fastest.
    pub fn recheck(mut self, options: bench::Options) -> Compiler {
        self.recheck = Some(options);
        self
    }

    /// Keeps the barriers between the stages of a GPU: see [`plan::Options::stage_barriers`](crate::plan::Options::stage_barriers).
    pub fn stage_barriers(mut self, keep: bool) -> Compiler {
        self.stage_barriers = keep;
        self
    }

    /// Emits what this algorithm finds, even where another one is better.
    pub fn algorithm(mut self, name: &str) -> Compiler {
        self.algorithm = Some(name.into());
        self
    }

    /// What the scheduling algorithms may do.
    pub fn scheduling(mut self, options: schedule::Options) -> Compiler {
        self.scheduling = options;
        self
    }

    /// Leaves out a fuse rule, by name.
    pub fn no_fuse(mut self, rule: &str) -> Compiler {
        self.no_fuse.push(rule.into());
        self
    }

    /// The shape of an input: replaces what the model says.
    pub fn shape(mut self, input: &str, shape: &[usize]) -> Compiler {
        self.shapes.insert(input.into(), shape.to_vec());
        self
    }

    /// Fixes an input to a value: it is an input no more, and all that follows from it is computed now.
    pub fn constant(mut self, input: &str, value: import::Literal) -> Compiler {
        self.constants.insert(input.into(), value);
        self
    }

    /// Whether the crate carries an input with its reference output (on by default; the reference costs one inference on the CPU).
    pub fn check(mut self, check: bool) -> Compiler {
        self.check = check;
        self
    }

    /// Whether kernels are shipped compiled, as sources, or as this machine can.
    pub fn kernels(mut self, mode: KernelMode) -> Compiler {
        self.kernels = mode;
        self
    }

    /// The algorithm that was asked for.
    pub(super) fn wanted(&self) -> Result<Option<Algorithm>> {
        self.algorithm.as_deref().map(str::parse).transpose()
    }

    /// What to compile for: `None` if that is the cost table's to say.
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
