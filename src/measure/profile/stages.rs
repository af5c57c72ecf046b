//! Measures t(S) of the stages that the schedulers need.
//!
//! There are too many sets of operators to measure all of them, and nearly all are useless to any
//! schedule. So measuring and scheduling alternate:
//!
//! 1. Measure the pairs that the sliding window considers: operators that are independent and at
//!    most w - 1 positions apart on one GPU, in the sequential schedule and in HIOS-LP's mapping.
//! 2. Run all algorithms, with what is measured so far and the model for the rest.
//! 3. Measure the stages of their schedules that are not measured yet, and continue with 2. Stop
//!    when there are none, or after [`ROUNDS`].
//!
//! So in the end the stages that a schedule relies on are measured, and the window finds those that
//! the model underrates. A stage is identified by its kernels: it is measured once for all sets of
//! operators that run these.

use std::collections::BTreeSet;

use super::Counter;
use super::gpu::ProfiledGpu;
use crate::cost::Profile;
use crate::error::Result;
use crate::graph::Graph;
use crate::ids::{GpuId, OpId};
use crate::kernel;
use crate::schedule::{self, Algorithm, LinkMode, Problem, ScheduleOptions};

/// The most rounds of scheduling and measuring.
const ROUNDS: usize = 8;

/// The measured GPUs, one of each kind, and the kind of each GPU of the profile.
pub(super) struct MeasuredGpus {
    pub gpus: Vec<ProfiledGpu>,
    pub kind_of: Vec<usize>,
}

/// Stages to measure: a GPU of the profile, and kernels, ascending.
type RequestedStages = BTreeSet<(usize, Vec<String>)>;

/// Measures the stages that scheduling `graphs` needs, and adds them to `profile`.
pub(super) fn measure(profile: &mut Profile, graphs: &[&Graph], mut measured_gpus: MeasuredGpus, options: &ScheduleOptions) -> Result<()> {
    if options.max_streams < 2 {
        return Ok(());
    }
    for round in 0..=ROUNDS {
        let mut requested = RequestedStages::new();
        for graph in graphs {
            let costs = profile.table(graph, |op, device| kernel::candidates(graph, op, device))?;
            let problem = Problem::new(graph, &costs, LinkMode::Serial)?;
            let stages = if round == 0 { windows(&problem, options)? } else { scheduled(&problem, options)? };
            let name = |op: &OpId, gpu: usize| costs.operator(*op, GpuId::new(gpu)).kernel.name.clone();
            for (gpu, operators) in stages {
                let mut names: Vec<String> = operators.iter().map(|op| name(op, gpu)).collect();
                names.sort_unstable();
                // The first GPU of the same kind stands for this one.
                let first = measured_gpus.kind_of.iter().position(|kind| *kind == measured_gpus.kind_of[gpu]).unwrap_or(gpu);
                if profile.stages.get(&names).is_none_or(|times| times[first].is_none()) {
                    requested.insert((first, names));
                }
            }
        }
        if requested.is_empty() && round > 0 {
            break;
        }
        let mut counter = Counter::new("measuring stages", requested.len());
        for (first, names) in requested {
            let kind = measured_gpus.kind_of[first];
            let alone = names.iter().filter_map(|name| profile.kernels.get(name)?[first]).map(|m| m.time).sum();
            if let Some(time) = measured_gpus.gpus[kind].stage(&names, alone)? {
                let times = profile.stages.entry(names).or_insert_with(|| vec![None; measured_gpus.kind_of.len()]);
                times.iter_mut().zip(&measured_gpus.kind_of).filter(|(_, of)| **of == kind).for_each(|(mine, _)| *mine = Some(time));
            }
            counter.tick();
        }
    }
    Ok(())
}

/// Pairs that the sliding window looks at.
fn windows(problem: &Problem, options: &ScheduleOptions) -> Result<Vec<(usize, Vec<OpId>)>> {
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
            for (position, &first) in order.iter().enumerate() {
                let near = order[position + 1..].iter().take(options.window.saturating_sub(1));
                let independent = |second: &&OpId| !ancestors[second.index()].contains(&first);
                pairs.extend(near.filter(independent).map(|&second| (gpu, vec![first, second])));
            }
        }
    }
    Ok(pairs)
}

/// All operators that each operator depends on.
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

/// The stages of two or more operators in the schedules of all algorithms but `scatter`. Their
/// operators are independent: `max_chain` is 1.
fn scheduled(problem: &Problem, options: &ScheduleOptions) -> Result<Vec<(usize, Vec<OpId>)>> {
    let fits = problem.fits_one_gpu();
    let mut found = Vec::new();
    let options = ScheduleOptions { max_chain: 1, ..options.clone() };
    for algorithm in Algorithm::ALL.into_iter().filter(|a| *a != Algorithm::Scatter && (fits || !a.one_gpu())) {
        let schedule = schedule::schedule_with(problem, algorithm, &options)?.schedule;
        for (gpu, stages) in schedule.gpus.into_iter().enumerate() {
            found.extend(stages.into_iter().filter(|stage| stage.operators.len() > 1).map(|stage| (gpu, stage.operators)));
        }
    }
    Ok(found)
}
