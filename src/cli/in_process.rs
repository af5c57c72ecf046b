//! The first half of `hiosc bench` and `hiosc check`: plans a model and prepares the GPUs to run
//! its plans in this process.

use std::path::PathBuf;

use clap::Args;

use super::args::{CostArgs, PlacementArgs, PlanningArgs, SchedulingArgs, algorithm_help, device_help};
use crate::compiler::{Passes, Planned};
use crate::import::ImportOptions;
use crate::measure::profile;
use crate::runtime::RuntimeOptions;
use crate::{Compiler, compiler};

/// What is compiled, and where it runs.
#[derive(Args)]
#[command(mut_arg("device", |arg| arg.help(device_help("a40, where there are no measured costs"))))]
#[command(mut_arg("allow_foreign_costs", |arg| arg.help("Use costs measured with other kernels or on other GPUs")))]
#[command(mut_arg("algorithm", |arg| arg.help(algorithm_help("Run the schedule of this algorithm"))))]
pub struct InProcessArgs {
    /// The model.
    #[arg(value_name = "MODEL.onnx")]
    model: PathBuf,
    #[command(flatten)]
    pub planning: PlanningArgs,
    #[command(flatten)]
    placement: PlacementArgs,
    #[command(flatten)]
    scheduling: SchedulingArgs,
}

impl InProcessArgs {
    /// The model, and how it is imported.
    pub fn model(&self) -> crate::Result<(PathBuf, ImportOptions)> {
        let compiler = self.planning.apply(Compiler::new(&self.model))?;
        Ok((self.model.clone(), compiler.import_options().clone()))
    }

    /// Plans the model and prepares the GPUs; also returns where the plans run.
    pub fn plan(&self) -> crate::Result<(Planned, RuntimeOptions)> {
        let planned = self.planning.apply(self.scheduling.apply(Compiler::new(&self.model))?)?.plan()?;
        let architectures: Vec<(u32, u32)> = planned.costs.gpus.iter().map(|gpu| gpu.compute_capability).collect();
        let kernels = || Ok(planned.costs.kernels().cloned().collect());
        self.placement.virtual_gpus.apply(&architectures, kernels)?;
        let CostArgs { costs, allow_foreign_costs } = &self.planning.costs;
        if planned.costs.source.starts_with("measured")
            && !allow_foreign_costs
            && let Some(profile) = compiler::read_profiles(costs)?
        {
            profile.check_gpus(&profile::present()?)?;
        }
        Ok((planned, self.placement.options()))
    }
}
