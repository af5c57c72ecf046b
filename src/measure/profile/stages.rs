//! Measuring t(S) of the stages that the schedulers ask for.
//!
//! There are too many sets of operators to measure all of them, and nearly all are of no use to any schedule. So measuring and scheduling take turns:
//!
//! 1. Measure the pairs that the sliding window looks at: operators that are independent and at most w - 1 places apart on one GPU, in the sequential schedule and in
//!    HIOS-LP's mapping.
//! 2. Let all algorithms schedule, with what is measured so far and the model for the rest.
//! 3. Measure the stages that their schedules have and that are not measured yet, and go on with 2; end when there are none, or after [`ROUNDS`].
//!
//! So, in the end, stages that a schedule relies on are measured, and those that the model underrates are found by the window. A stage is known by its kernels:
//! it is measured once for all sets of operators that run these.

use std::collections::BTreeSet;

use super::gpu::Gpu;
use super::{Clock, Progress};
use crate::cost::Profile;
use crate::error::Result;
use crate::graph::Graph;
use crate::ids::{GpuId, OpId};
use crate::kernel;
use crate::schedule::{self, Algorithm, LinkMode, Problem};

/// The most turns of scheduling and measuring.
const ROUNDS: usize = 8;

/// The kinds of GPUs of a machine, and the kind of each GPU of the profile.
pub(super) struct Machines {
    pub gpus: Vec<Gpu>,
    pub kind_of: Vec<usize>,
}

/// A stage on a GPU of the profile, by its kernels, ascending.
type Asked = BTreeSet<(usize, Vec<String>)>;

/// Measures the stages that scheduling `graphs` asks for, and puts them into `profile`.
pub(super) fn measure(
    profile: &mut Profile,
    graphs: &[&Graph],
    mut machines: Machines,
    options: &schedule::Options,
    progress: &mut dyn FnMut(Progress),
) -> Result<()> {
    if options.max_streams < 2 {
        return Ok(());
    }
    for round in 0..=ROUNDS {
        let mut asked = Asked::new();
        for graph in graphs {
            let costs = profile.table(graph, |op, device| kernel::candidates(graph, op, device))?;
            let problem = Problem::new(graph, &costs, LinkMode::Serial)?;
            let stages = if round == 0 { windows(&problem, options)? } else { scheduled(&problem, options)? };
            let name = |op: &OpId, gpu: usize| costs.operator(*op, GpuId::new(gpu)).kernel.name.clone();
            for (gpu, operators) in stages {
                let mut names: Vec<String> = operators.iter().map(|op| name(op, gpu)).collect();
                names.sort_unstable();
                // A GPU of the same kind answers for this one.
                let first = machines.kind_of.iter().position(|kind| *kind == machines.kind_of[gpu]).unwrap_or(gpu);
                if profile.stages.get(&names).is_none_or(|times| times[first].is_none()) {
                    asked.insert((first, names));
                }
            }
        }
        if asked.is_empty() && round > 0 {
            break;
        }
        let mut clock = Clock::new("stages", asked.len(), progress);
        for (first, names) in asked {
            let kind = machines.kind_of[first];
            let alone = names.iter().filter_map(|name| profile.kernels.get(name)?[first]).map(|m| m.time).sum();
            if let Some(time) = machines.gpus[kind].stage(&names, alone)? {
                let times = profile.stages.entry(names).or_insert_with(|| vec![None; machines.kind_of.len()]);
                times.iter_mut().zip(&machines.kind_of).filter(|(_, of)| **of == kind).for_each(|(mine, _)| *mine = Some(time));
            }
            clock.tick();
        }
    }
    Ok(())
}

/// Pairs that the sliding window looks at.
fn windows(problem: &Problem, options: &schedule::Options) -> Result<Vec<(usize, Vec<OpId>)>> {
    let ancestors = ancestors(problem);
    let mut algorithms = vec![Algorithm::InterLp];
    if problem.fits_one_gpu() {
        algorithms.push(Algorithm::Sequential);
    }
    let mut pairs = Vec::new();
    for algorithm in algorithms {
        let schedule = schedule::schedule_with(problem, algorithm, options)?.schedule;
        for (gpu, stages) in schedule.gpus.iter().enumerate() {
            let order: Vec<OpId> = stages.iter().flat_map(|stage| stage.operators.iter().copied()).collect();
            for (place, &first) in order.iter().enumerate() {
                let near = order[place + 1..].iter().take(options.window.saturating_sub(1));
                let independent = |second: &&OpId| !ancestors[second.index()].contains(&first);
                pairs.extend(near.filter(independent).map(|&second| (gpu, vec![first, second])));
            }
        }
    }
    Ok(pairs)
}

/// All operators that each one depends on.
fn ancestors(problem: &Problem) -> Vec<BTreeSet<OpId>> {
    let mut ancestors: Vec<BTreeSet<OpId>> = vec![BTreeSet::new(); problem.operators()];
    let mut makes: Vec<Vec<OpId>> = vec![Vec::new(); problem.operators()];
    problem.edges.iter().for_each(|edge| makes[edge.producer.index()].extend(&edge.consumers));
    for &op in &problem.order {
        let mut mine = ancestors[op.index()].clone();
        mine.insert(op);
        for reader in &makes[op.index()] {
            ancestors[reader.index()].extend(&mine);
        }
    }
    ancestors
}

/// The stages of several operators in the schedules of all algorithms, save those that hold dependencies.
fn scheduled(problem: &Problem, options: &schedule::Options) -> Result<Vec<(usize, Vec<OpId>)>> {
    let fits = problem.fits_one_gpu();
    let mut found = Vec::new();
    let options = schedule::Options { max_chain: 1, ..options.clone() };
    for algorithm in Algorithm::ALL.into_iter().filter(|a| *a != Algorithm::Scatter && (fits || !a.one_gpu())) {
        let schedule = schedule::schedule_with(problem, algorithm, &options)?.schedule;
        for (gpu, stages) in schedule.gpus.into_iter().enumerate() {
            found.extend(stages.into_iter().filter(|stage| stage.operators.len() > 1).map(|stage| (gpu, stage.operators)));
        }
    }
    Ok(found)
}
