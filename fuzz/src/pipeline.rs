//! Takes a graph through all passes up to the crate and verifies each result, as `hiosc::Compiler`
//! does.

use hiosc::cost;
use hiosc::device::Target;
use hiosc::emit;
use hiosc::fuse::fuse;
use hiosc::graph::{Graph, Origin};
use hiosc::plan::{self, PlanOptions};
use hiosc::program::{self, KernelMode, Program};
use hiosc::schedule::{self, Algorithm, Effort, LinkMode, Problem, ScheduleOptions};

use crate::accepted;

/// How a graph is compiled.
pub struct CompileOptions {
    /// Fuse rules that are left out.
    pub without: Vec<String>,
    /// The GPUs, as `--device` names them.
    pub devices: String,
    pub links: LinkMode,
    pub algorithm: Algorithm,
    pub scheduling: ScheduleOptions,
    pub stage_barriers: bool,
    /// Whether a crate is generated.
    pub emitted: bool,
}

impl Default for CompileOptions {
    fn default() -> CompileOptions {
        CompileOptions {
            without: Vec::new(),
            devices: "a40,a40".into(),
            links: LinkMode::Serial,
            algorithm: Algorithm::HiosLp,
            scheduling: ScheduleOptions::default().effort(Effort::Evaluations(100)),
            stage_barriers: false,
            emitted: false,
        }
    }
}

/// Limits for a graph that goes beyond `fuse`: its operators, and the elements of each tensor.
const SMALL: (usize, u64) = (40, 1 << 20);

/// Compiles `graph`. A refusal is not a finding.
pub fn run(graph: Graph, options: &CompileOptions) {
    let Some(graph) = accepted(fuse(graph, &options.without)) else { return };
    let small = graph.operators.len() <= SMALL.0 && graph.tensors.iter().all(|t| t.elements() <= SMALL.1);
    if small {
        let _ = planned(&graph, options);
    }
}

/// From the fused graph to the plan, and to the crate.
fn planned(graph: &Graph, options: &CompileOptions) -> Option<()> {
    let target = accepted(Target::new(&options.devices, None, None))?;
    let costs = accepted(cost::estimate(graph, &target))?;
    let problem = accepted(Problem::new(graph, &costs, options.links))?;
    let schedule = accepted(schedule::schedule_with(&problem, options.algorithm, &options.scheduling))?.schedule;
    let timeline = accepted(schedule::evaluate(&problem, &schedule))?;
    accepted(schedule::verify(&problem, &schedule, &timeline))?;
    let planning = PlanOptions::default().stage_barriers(options.stage_barriers);
    let plan = accepted(plan::plan(graph, &costs, &schedule, &timeline, &planning))?;
    accepted(plan::verify(graph, Some(&schedule), &planning, &plan))?;
    let shipped = accepted(program::ship(&costs, &plan, KernelMode::Source))?;
    let program = accepted(Program::new(graph, &costs, &schedule, &timeline, &plan, &shipped))?;
    let _ = accepted(program.launches(graph.operators.len()))?;
    if options.emitted && graph.tensors.iter().all(|t| !matches!(t.origin, Origin::Constant(_)) || t.bytes() < 1 << 16) {
        let (model_file, model_hash) = ("model.onnx".into(), "0".repeat(64));
        let (form, options) = (emit::Form::Crate, emit::CrateOptions::default());
        accepted(emit::emit(&emit::EmitInput {
            program: &program,
            model_file,
            model_hash,
            onnx_nodes: 0,
            check: None,
            form,
            options: &options,
            command: None,
        }))?;
    }
    Some(())
}

/// Schedules `problem` with every fast algorithm, each schedule evaluated and verified.
pub fn scheduled(problem: &Problem) {
    if problem.operators() > SMALL.0 || problem.gpus > 8 || problem.edges.len() > 4 * SMALL.0 {
        return;
    }
    for algorithm in [Algorithm::Sequential, Algorithm::HiosLp, Algorithm::Heft, Algorithm::HiosMr] {
        let Some(found) = accepted(schedule::schedule_with(problem, algorithm, &CompileOptions::default().scheduling)) else { continue };
        let Some(timeline) = accepted(schedule::evaluate(problem, &found.schedule)) else { continue };
        let _ = accepted(schedule::verify(problem, &found.schedule, &timeline));
    }
}
