//! The whole compiler on one page: each room called in order, its result verified before the next one sees it.
//!
//! ```no_run
//! let compilation = hiosc::Compiler::new("model.onnx").device("a40").gpus(2).compile()?;
//! println!("{}", compilation.summary());
//! compilation.write("out".as_ref())?;
//! # Ok::<(), hiosc::Error>(())
//! ```

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::cost::{CostTable, Profile, Target};
use crate::emit::{self, Check, Crate, Written};
use crate::error::{Error, Result};
use crate::graph::{Constant, DType, Graph, Scalar, Tensor};
use crate::kernel::{self, KernelMode, Shipped};
use crate::plan::Plan;
use crate::schedule::{self, Algorithm, LinkMode, Problem, Schedule, Timeline};
use crate::{bench, cost, fuse, import, plan, summary};

/// The device unless another is named.
const DEFAULT_DEVICE: &str = "a40";

/// What to compile, for what, and how: a builder. Every call gives the builder back.
#[derive(Clone, Debug)]
pub struct Compiler {
    model: PathBuf,
    device: Option<String>,
    gpus: Option<usize>,
    link: Option<String>,
    topology: Option<PathBuf>,
    costs: Vec<PathBuf>,
    allow_foreign_costs: bool,
    profiled: Option<Profile>,
    recheck: Option<bench::Options>,
    stage_barriers: bool,
    algorithm: Option<String>,
    scheduling: schedule::Options,
    no_fuse: Vec<String>,
    shapes: BTreeMap<String, Vec<usize>>,
    constants: BTreeMap<String, import::Literal>,
    check: bool,
    kernels: KernelMode,
}

/// A schedule with its exact course.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// The schedule.
    pub schedule: Schedule,
    /// Its course, from the evaluator.
    pub timeline: Timeline,
}

/// Everything up to the plan: what `--emit` prints.
pub struct Planned {
    /// The imported model.
    pub model: import::Model,
    /// The fused graph.
    pub graph: Graph,
    /// The target's GPUs and links; `None` where a cost table was read and nothing else said.
    pub target: Option<Target>,
    /// Its costs.
    pub costs: CostTable,
    /// What the schedulers were given.
    pub problem: Problem,
    /// The schedules that were compared; sequential first, if one GPU has room for the model.
    pub candidates: Vec<Candidate>,
    /// Which of them the plan follows.
    pub chosen: usize,
    /// The plan.
    pub plan: Plan,
    /// What timing the plans on the GPUs found, if it was asked for.
    pub rechecked: Option<String>,
    /// Time spent in each room.
    pub timings: Vec<(&'static str, Duration)>,
}

/// A finished compilation.
pub struct Compilation {
    /// Everything up to the plan.
    pub planned: Planned,
    /// What became of the kernels.
    pub images: Shipped,
    /// The generated crate, in memory.
    pub output: Crate,
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

    /// Reads the costs from this file, instead of estimating them: in the form that [`CostTable::to_text`] writes, or measured, as a [`Profile`]. Several profiles
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

    /// Keeps the barriers between the stages of a GPU: see [`plan::Options::stage_barriers`].
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

    /// The fused graph: what there is to profile.
    pub fn graph(&self) -> Result<Graph> {
        let model = import::import(&self.model, &import::Options { shapes: self.shapes.clone(), constants: self.constants.clone() })?;
        fuse::fuse(model.graph, &self.no_fuse)
    }

    /// The scheduling problem: the rooms before the scheduler, and nothing more.
    pub fn problem(&self) -> Result<Problem> {
        let target = self.target()?;
        let graph = self.graph()?;
        let costs = self.cost_table(&graph, target.as_ref())?;
        Problem::new(&graph, &costs, LinkMode::Serial)
    }

    fn cost_table(&self, graph: &Graph, target: Option<&Target>) -> Result<CostTable> {
        match (&self.profiled, target) {
            (Some(profile), _) => profile.table(graph, |op| kernel::candidates(graph, op)),
            (None, target) if !self.costs.is_empty() => self.read_costs(graph, target),
            (None, Some(target)) => cost::estimate(graph, target),
            (None, None) => Err(Error::internal("compiler", "no target and no costs")),
        }
    }

    /// Runs every room up to the plan.
    pub fn plan(&self) -> Result<Planned> {
        let mut clock = Clock::default();
        let target = self.target()?;
        let algorithm = self.algorithm.as_deref().map(str::parse::<Algorithm>).transpose()?;

        let model = import::import(&self.model, &import::Options { shapes: self.shapes.clone(), constants: self.constants.clone() })?;
        clock.lap("import");
        let graph = fuse::fuse(model.graph.clone(), &self.no_fuse)?;
        clock.lap("fuse");
        let costs = self.cost_table(&graph, target.as_ref())?;
        clock.lap("cost");
        let mut problem = Problem::new(&graph, &costs, LinkMode::Serial)?;
        let options = plan::Options { stage_barriers: self.stage_barriers };
        let (candidates, chosen, plan) = loop {
            let candidates = compare(&problem, algorithm, &self.scheduling)?;
            let chosen = choose(&candidates, algorithm);
            clock.lap("schedule");
            let Candidate { schedule, timeline } = &candidates[chosen];
            let planned = plan::plan(&graph, &costs, schedule, timeline, &options);
            if planned.is_err() && reserve(&mut problem, &graph, &costs, &candidates[chosen], &options)? {
                continue;
            }
            let plan = planned?;
            plan::verify(&graph, Some(schedule), &options, &plan)?;
            break (candidates, chosen, plan);
        };
        clock.lap("plan");
        let mut planned = Planned { model, graph, target, costs, problem, candidates, chosen, plan, rechecked: None, timings: Vec::new() };
        if let (Some(recheck), None) = (&self.recheck, algorithm) {
            let (fastest, words) = bench::fastest(&planned, &bench::Options { plan: options, ..recheck.clone() })?;
            planned.rechecked = Some(words);
            if fastest != chosen {
                let Candidate { schedule, timeline } = &planned.candidates[fastest];
                let plan = plan::plan(&planned.graph, &planned.costs, schedule, timeline, &options)?;
                plan::verify(&planned.graph, Some(schedule), &options, &plan)?;
                (planned.chosen, planned.plan) = (fastest, plan);
            }
            clock.lap("recheck");
        }
        planned.timings = clock.laps;
        Ok(planned)
    }

    /// What to compile for: `None` if that is the cost table's to say.
    fn target(&self) -> Result<Option<Target>> {
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

    /// Runs every room.
    pub fn compile(&self) -> Result<Compilation> {
        let mut planned = self.plan()?;
        let mut clock = Clock::default();
        let images = kernel::ship(&planned.costs, &planned.plan, self.kernels)?;
        clock.lap("kernels");
        let check = if self.check { Some(reference(&planned.model, &planned.graph)?) } else { None };
        clock.lap("reference");
        let output = emit::emit(&emit::Input {
            graph: &planned.graph,
            costs: &planned.costs,
            schedule: &planned.candidates[planned.chosen].schedule,
            timeline: &planned.candidates[planned.chosen].timeline,
            plan: &planned.plan,
            images: &images,
            model_file: self.model.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned()),
            model_hash: planned.model.hash.clone(),
            check,
        })?;
        clock.lap("emit");
        planned.timings.append(&mut clock.laps);
        Ok(Compilation { planned, images, output })
    }
}

impl Compilation {
    /// Writes the crate to `out`, whole or not at all; an earlier output of hiosc there is replaced, anything else is refused.
    pub fn write(&self, out: &Path) -> Result<Written> {
        emit::write(&self.output, out)
    }

    /// Writes the crate to `folder/NAME`, and a file `folder/NAME.rs` that makes it a module `NAME` of the program that includes it: what a `build.rs` does
    /// with its `OUT_DIR`, since Cargo looks for dependencies before it runs build scripts. The program then says
    /// `include!(concat!(env!("OUT_DIR"), "/NAME.rs"));` and depends on what the crate depends on; `examples/downstream` shows it whole.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] if `name` is not a plain lower-case identifier.
    pub fn write_module(&self, name: &str, folder: &Path) -> Result<()> {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        if !name.starts_with(|c: char| c.is_ascii_lowercase()) || !name.chars().all(plain) || syn::parse_str::<syn::Ident>(name).is_err() {
            return Err(Error::Usage(format!("`{name}` cannot be the name of a module: use lower-case letters, digits and _")));
        }
        let folder = std::path::absolute(folder).map_err(Error::io(folder))?;
        emit::write(&self.output, &folder.join(name))?;
        let source = folder.join(name).join("src").join("lib.rs");
        // the path of a module is relative to this file's folder only where nothing includes it
        let text = format!("// {}\n#[path = {source:?}]\n#[allow(dead_code)] // a program uses a part\npub mod {name};\n", emit::MARK);
        let file = folder.join(format!("{name}.rs"));
        if std::fs::read(&file).is_ok_and(|old| old == text.as_bytes()) {
            return Ok(());
        }
        std::fs::write(&file, text).map_err(Error::io(&file))
    }

    /// What happened, in a screenful.
    pub fn summary(&self) -> String {
        summary::compilation(self)
    }
}

/// Profiles from files, merged.
pub fn read_profiles(files: &[PathBuf]) -> Result<Option<Profile>> {
    let mut merged: Option<Profile> = None;
    for file in files {
        let profile = Profile::parse(&read_text(file)?).map_err(|error| in_file(file, error))?;
        match &mut merged {
            None => merged = Some(profile),
            Some(merged) => merged.merge(profile).map_err(|error| in_file(file, error))?,
        }
    }
    Ok(merged)
}

fn in_file(file: &Path, error: Error) -> Error {
    match error {
        Error::Usage(message) => Error::Usage(format!("{}: {message}", file.display())),
        other => other,
    }
}

impl Compiler {
    /// Costs from files, which must be of this graph, and of this target if there is one.
    fn read_costs(&self, graph: &Graph, target: Option<&Target>) -> Result<CostTable> {
        let file = &self.costs[0];
        let text = read_text(file)?;
        let candidates = |op| kernel::candidates(graph, op);
        let costs = if self.costs.len() > 1 || Profile::is_one(&text) {
            let profile = read_profiles(&self.costs)?.ok_or_else(|| Error::internal("compiler", "no costs"))?;
            if !self.allow_foreign_costs {
                profile.check_fresh().map_err(|error| in_file(file, error))?;
            }
            profile.table(graph, candidates)
        } else {
            CostTable::parse(&text, graph, candidates)
        };
        let costs = costs.map_err(|error| in_file(file, error))?;
        if !self.allow_foreign_costs {
            target.map_or(Ok(()), |target| target.check(&costs)).map_err(|error| in_file(file, error))?;
        }
        Ok(costs)
    }
}

fn read_text(file: &Path) -> Result<String> {
    std::fs::read_to_string(file).map_err(Error::io(file))
}

impl Planned {
    /// The candidate that the plan follows.
    pub fn chosen(&self) -> &Candidate {
        &self.candidates[self.chosen]
    }

    /// The seconds spent in each room, a line each, and in all.
    pub fn timings_text(&self) -> String {
        let line = |room: &str, time: Duration| format!("time       {room:10} {:8.3} s\n", time.as_secs_f64());
        let mut text: String = self.timings.iter().map(|&(room, time)| line(room, time)).collect();
        text.push_str(&line("all", self.timings.iter().map(|&(_, time)| time).sum()));
        text
    }
}

/// Takes what the tensors of this candidate's plan need off each GPU's room for weights, where weights and tensors do not fit together. Whether that leaves less room
/// than before: then another schedule may do. Room only ever shrinks, so this ends.
fn reserve(problem: &mut Problem, graph: &Graph, costs: &CostTable, found: &Candidate, options: &plan::Options) -> Result<bool> {
    let mut boundless = costs.clone();
    boundless.gpus.iter_mut().for_each(|gpu| gpu.memory = u64::MAX);
    let plan = plan::plan(graph, &boundless, &found.schedule, &found.timeline, options)?;
    let mut shrunk = false;
    for (gpu, needs) in plan.targets.iter().map(|gpu| gpu.index()).zip(&plan.gpus) {
        let room = costs.gpus[gpu].memory.saturating_sub(needs.arena_bytes);
        if needs.weights_bytes > room && room < problem.memory.room[gpu] {
            problem.memory.room[gpu] = room;
            shrunk = true;
        }
    }
    Ok(shrunk)
}

/// Sequential, one GPU grouped, HIOS-LP, the search for the best, and what was asked for; each verified. Where no GPU has room for the whole model, those of
/// one GPU are left out, unless asked for.
fn compare(problem: &Problem, wanted: Option<Algorithm>, options: &schedule::Options) -> Result<Vec<Candidate>> {
    let mut algorithms = vec![Algorithm::Sequential, Algorithm::IntraGpu, Algorithm::HiosLp, Algorithm::Best];
    if !problem.fits_one_gpu() {
        algorithms.retain(|a| !a.one_gpu());
    }
    algorithms.extend(wanted.filter(|a| !algorithms.contains(a)));
    let run = |algorithm| {
        let schedule = schedule::schedule_with(problem, algorithm, options)?.schedule;
        let timeline = schedule::evaluate(problem, &schedule)?;
        schedule::verify(problem, &schedule, &timeline)?;
        Ok(Candidate { schedule, timeline })
    };
    algorithms.into_iter().map(run).collect()
}

/// What was asked for; else the lowest latency, the earlier one where two are equal (sequential is first).
fn choose(candidates: &[Candidate], wanted: Option<Algorithm>) -> usize {
    let named = |a: Algorithm| candidates.iter().position(|c| c.schedule.algorithm == a.to_string());
    wanted.and_then(named).unwrap_or_else(|| (0..candidates.len()).min_by_key(|&i| (candidates[i].timeline.latency, i)).unwrap_or(0))
}

/// An input made from a fixed seed, and what tract computes from it.
fn reference(model: &import::Model, graph: &Graph) -> Result<Check> {
    let inputs = check_inputs(graph);
    let outputs = model.reference(&inputs)?;
    Ok(Check { inputs, outputs })
}

/// Inputs made from a fixed seed: what a crate is checked and plans are measured with.
pub fn check_inputs(graph: &Graph) -> Vec<Constant> {
    graph.inputs.iter().enumerate().map(|(i, &t)| check_input(i as u64, graph.tensor(t))).collect()
}

/// Values for an input, from splitmix64 of `seed`. Floating-point numbers have mean 0 and deviation 1 and are roughly normal (the sum of four uniform ones).
/// Integers are 0 or 1: small, not negative, and valid as an index into any axis of two elements or more. Truth values are true as often as false.
fn check_input(seed: u64, tensor: &Tensor) -> Constant {
    let uniform = |i: u64| {
        let mut z = (seed << 40).wrapping_add((i + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 40) as f32 / (1u64 << 24) as f32 - 0.5
    };
    let deviation = (4.0f32 / 12.0).sqrt();
    let normal = |i: u64| (0..4).map(|j| uniform(4 * i + j)).sum::<f32>() / deviation;
    let n = tensor.elements();
    if tensor.dtype == DType::F32 {
        return (0..n).map(normal).collect::<Vec<f32>>().into();
    }
    let value = |i: u64| if tensor.dtype.is_float() { f64::from(normal(i)) } else { f64::from(u8::from(uniform(i) > 0.0)) };
    let size = tensor.dtype.bytes() as usize;
    let bytes: Vec<u8> = (0..n).flat_map(|i| Scalar::from_f64(tensor.dtype, value(i)).bits().to_le_bytes()[..size].to_vec()).collect();
    Constant::from_bytes(tensor.dtype, &bytes)
}

/// Times each room.
struct Clock {
    since: Instant,
    laps: Vec<(&'static str, Duration)>,
}

impl Default for Clock {
    fn default() -> Self {
        Clock { since: Instant::now(), laps: Vec::new() }
    }
}

impl Clock {
    fn lap(&mut self, room: &'static str) {
        let now = Instant::now();
        self.laps.push((room, now - self.since));
        self.since = now;
    }
}
