//! The whole compiler: calls each pass in order, and verifies its result before the next one sees
//! it.
//!
//! ```no_run
//! let compilation = hiosc::Compiler::new("model.onnx").device("a40").gpus(2).compile()?;
//! println!("{}", compilation.summary());
//! compilation.write("out".as_ref())?;
//! # Ok::<(), hiosc::Error>(())
//! ```
//!
//! * `builder.rs`: what to compile and how.
//! * `costs.rs`: where the costs come from.
//! * `planned.rs`: how schedules are compared.
//! * `check.rs`: what a crate is checked with.
//! * `in_process.rs`: a plan that runs in this process, compared with a reference.
//! * `output.rs`: how it is written to disk.
//! * `summary.rs`: the summary of a compilation.
//! * `inspect.rs`: what a model consists of, before it is compiled.

mod builder;
mod check;
mod costs;
mod in_process;
mod inspect;
mod output;
mod planned;
mod summary;

pub use builder::Compiler;
pub use check::check_inputs;
pub use costs::read_profiles;
pub use in_process::{InProcessReport, LayersOptions, in_process};
pub use inspect::{Inspection, inspect};
use output::Reference;
pub use output::{Compilation, parts};
pub use planned::{Imported, Planned};

use crate::emit;
use crate::error::{Error, Result};
use crate::measure::bench::{self, BenchOptions};
use crate::oracle::Choice;
use crate::plan::PlanOptions;
use crate::schedule::{LinkMode, Problem};
use crate::{fuse, import, progress};
use planned::{PassTimer, PlannedSearch, schedule_and_plan, verified_plan};

impl Compiler {
    /// Whether the importer's reader will be asked for a reference.
    fn reads_reference(&self) -> bool {
        self.check && self.recorded_check.is_none() && matches!(self.reference, Choice::Both | Choice::Tract)
    }

    /// Runs every pass.
    pub fn compile(&self) -> Result<Compilation> {
        self.compile_planned(self.plan()?)
    }
}

/// The passes of a [`Compiler`], one after the other. Internal: the command line measures and
/// prints between them, and tests look at what each leaves.
pub trait Passes {
    /// Reads and fuses the model. Measuring, planning and compiling can share one import.
    fn import(&self) -> Result<Imported>;

    /// The scheduling problem of an imported model.
    fn problem(&self, imported: &Imported) -> Result<Problem>;

    /// Runs every pass up to the plan.
    fn plan(&self) -> Result<Planned> {
        self.plan_imported(self.import()?)
    }

    /// Runs the passes from the costs to the plan.
    fn plan_imported(&self, imported: Imported) -> Result<Planned>;

    /// Runs the passes after the plan.
    fn compile_planned(&self, planned: Planned) -> Result<Compilation>;
}

impl Passes for Compiler {
    fn import(&self) -> Result<Imported> {
        // errors in the other arguments are reported before any work is done
        self.target()?;
        self.form()?;
        let mut clock = PassTimer::after(Vec::new());
        let kibibytes = std::fs::metadata(&self.model).map_or(0, |file| file.len().div_ceil(1024));
        progress::step("reading the model", 0, kibibytes);
        let options = import::ImportOptions { no_reference: !self.reads_reference(), ..self.import.clone() };
        let mut model = import::import(&self.model, &options)?;
        clock.lap("import");
        let lowered = model.graph.operators.len();
        let graph = fuse::fuse(std::mem::take(&mut model.graph), &self.no_fuse)?;
        clock.lap("fuse");
        Ok(Imported { model, lowered, graph, timings: clock.laps })
    }

    fn problem(&self, imported: &Imported) -> Result<Problem> {
        let costs = self.cost_table(&imported.graph, self.target()?.as_ref())?;
        Problem::new(&imported.graph, &costs, LinkMode::Serial)
    }

    fn plan_imported(&self, imported: Imported) -> Result<Planned> {
        let Imported { model, lowered, graph, timings } = imported;
        let (target, wanted) = (self.target()?, self.algorithm);
        let mut clock = PassTimer::after(timings);
        let costs = self.cost_table(&graph, target.as_ref())?;
        clock.lap("cost");
        let mut problem = Problem::new(&graph, &costs, LinkMode::Serial)?;
        let options = PlanOptions { stage_barriers: self.stage_barriers };
        let found = schedule_and_plan(&graph, &costs, &mut problem, wanted, &self.scheduling, &options, &mut clock)?;
        let PlannedSearch { schedules, chosen, plan } = found;
        clock.lap("plan");
        let mut all =
            Planned { model, lowered, graph, target, costs, problem, schedules, chosen, plan, rechecked: None, timings: Vec::new() };
        if let (Some(recheck), None) = (&self.recheck, wanted) {
            let recheck = BenchOptions { plan: options, ..recheck.clone() };
            let (fastest, words) = bench::fastest(&all.comparison(), &check_inputs(&all.graph), &recheck)?;
            all.rechecked = Some(words);
            if fastest != chosen {
                all.plan = verified_plan(&all.graph, &all.costs, &all.schedules[fastest], &options)?;
                all.chosen = fastest;
            }
            clock.lap("recheck");
        }
        all.timings = clock.laps;
        Ok(all)
    }

    fn compile_planned(&self, mut planned: Planned) -> Result<Compilation> {
        let mut clock = PassTimer::after(std::mem::take(&mut planned.timings));
        let shipped = planned.ship(self.kernels)?;
        clock.lap("kernels");
        if self.check && self.recorded_check.is_none() {
            let operations: f64 = planned.graph.op_ids().map(|op| planned.graph.operator(op).flops(&planned.graph)).sum();
            progress::step("computing the reference", 0, (operations / 1e6) as u64);
        }
        let mut reference = Reference::default();
        let check = match (self.check, &self.recorded_check) {
            (false, _) => None,
            (true, Some(recorded)) => Some(check::recorded(&planned.graph, recorded)?),
            (true, None) => match check::reference(&planned.model, &planned.graph, &self.model, &self.import, &self.reference) {
                Ok(check::MadeCheck { file, refused, disputes }) => {
                    reference = Reference { source: Some(file.source), refused, disputes, missing: None };
                    Some(file)
                }
                Err(Error::Model { message, .. }) => {
                    reference.missing = Some(message);
                    None
                }
                Err(error) => return Err(error),
            },
        };
        clock.lap("reference");
        progress::step("writing the crate", 0, 1 + planned.graph.weight_elements() / 256);
        let output = emit::emit(&emit::EmitInput {
            program: &planned.program(&shipped)?,
            model_file: self.model.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned()),
            model_hash: planned.model.hash.clone(),
            onnx_nodes: planned.model.onnx_nodes,
            check,
            form: self.form()?,
            options: &self.package,
            // the plan would also depend on what was measured
            command: self.command.as_deref().filter(|_| self.profiled.is_none() && self.recheck.is_none()),
        })?;
        clock.lap("emit");
        planned.timings = clock.laps;
        let inputs = [planned.model.files.clone(), self.files()].concat();
        Ok(Compilation { planned, shipped, output, reference, module: self.module.clone(), inputs })
    }
}
