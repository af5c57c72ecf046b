//! IOS: the best sequence of stages on one GPU, by dynamic programming over endings; and its greedy
//! baseline.
//!
//! Ding et al., "IOS: Inter-Operator Scheduler for CNN Acceleration", MLSys 2021. An *ending* E of
//! a set S of operators is a part of S from which no dependency leads to the rest of S. The best
//! way to run S is a best way to run S without some ending E, followed by E as the last stage:
//! cost(S) = min over E of cost(S - E) + t(E). The cost of every set that occurs is remembered.
//!
//! ## Terms
//!
//! * A stage consists of *chains*, which the paper calls groups: operators of the stage that depend
//!   on each other and run one after the other. Chains run concurrently. The pruning parameters: r
//!   is the most operators in a chain, s the most chains in a stage. With r = 1, the default, an
//!   ending is a set of operators of S without readers in S.
//! * Both *strategies* of the paper: a stage runs its chains in *concurrent execution*, or merges
//!   its operators into one (*operator merge*) where the problem says what that costs
//!   ([`MergeCost`](crate::schedule::MergeCost)). t(E) is the lower of the two.
//!
//! ## Differences from the paper
//!
//! * The paper measures t(E) on the GPU. Here it is the measured time of the stage if the problem
//!   has one, and else that of the model.
//! * The paper's defaults are r = 3 and s = 8. Here they are 1 and 2, as in the published HIOS
//!   runs, so that all algorithms choose from the same stages.
//! * The paper's networks consist of blocks. Here, a graph with too many sets ([`MAX_SETS`]) is cut
//!   into blocks of at most 64 consecutive operators of the topological order. Each is halved until
//!   it has few enough sets. Blocks run one after the other. The result is optimal for each block
//!   only, and its note says so.
//!
//! *Greedy* is the paper's baseline: run everything that is ready in one stage, at most s operators
//! at a time, and repeat.

use std::collections::HashMap;

use super::Solution;
use crate::device::Nanos;
use crate::error::Result;
use crate::ids::{GpuId, OpId};
use crate::schedule::evaluate::chains_time;
use crate::schedule::memory::fastest_fitting_gpu;
use crate::schedule::{Problem, Schedule, Stage, stage_time};

/// The most sets remembered for one block.
const MAX_SETS: usize = 1000;

/// The pruning parameters of the paper.
#[derive(Clone, Copy)]
pub(super) struct Pruning {
    /// r: the most operators in a chain.
    pub r: usize,
    /// s: the most chains in a stage.
    pub s: usize,
}

/// IOS on the fastest GPU on which all weights fit.
pub(super) fn ios(problem: &Problem, pruning: Pruning) -> Result<Solution> {
    let gpu = fastest_fitting_gpu(problem)?;
    let mut stages = Vec::new();
    let (mut blocks, mut steps) = (0, 0);
    let mut rest = &problem.order[..];
    // A block is first tried at twice the size of the previous one, since neighbouring blocks are
    // about equally wide.
    let mut largest = 64;
    while !rest.is_empty() {
        let mut size = rest.len().min(largest);
        let (block, endings) = loop {
            let mut block = GraphBlock::new(problem, gpu, pruning, &rest[..size]);
            let all = if size == 64 { u64::MAX } else { (1 << size) - 1 };
            let found = block.cost(all).is_some();
            steps += block.steps;
            // A block of one operator always has few enough sets.
            if found || size == 1 {
                break (block.operators, block.best);
            }
            size /= 2;
        };
        let mut endings_in_order = Vec::new();
        let mut set = if size == 64 { u64::MAX } else { (1 << size) - 1 };
        while set != 0 {
            let ending = endings.get(&set).map_or(set, |&(_, ending)| ending);
            endings_in_order.push(Stage { operators: (0..size).filter(|i| ending >> i & 1 == 1).map(|i| block[i]).collect() });
            set &= !ending;
        }
        stages.extend(endings_in_order.into_iter().rev());
        blocks += 1;
        rest = &rest[size..];
        largest = (2 * size).min(64);
    }
    let mut gpus = vec![Vec::new(); problem.gpus];
    gpus[gpu] = stages;
    let note = if blocks > 1 { format!("cut into {blocks} blocks") } else { String::new() };
    Ok(Solution { schedule: Schedule { algorithm: "ios".into(), gpus }, evaluations: steps, note })
}

/// The dynamic program of one block. Bit i is its i-th operator in topological order.
struct GraphBlock<'p> {
    problem: &'p Problem,
    gpu: GpuId,
    pruning: Pruning,
    operators: Vec<OpId>,
    /// The readers of each operator within the block.
    readers: Vec<u64>,
    /// Cost of each set visited so far, and its last stage.
    best: HashMap<u64, (Nanos, u64)>,
    steps: u64,
}

impl<'p> GraphBlock<'p> {
    fn new(problem: &'p Problem, gpu: usize, pruning: Pruning, operators: &[OpId]) -> GraphBlock<'p> {
        let bit: HashMap<OpId, usize> = operators.iter().enumerate().map(|(bit, &op)| (op, bit)).collect();
        let mut readers = vec![0; operators.len()];
        for edge in &problem.edges {
            if let Some(&producer) = bit.get(&edge.producer) {
                for reader in edge.consumers.iter().filter_map(|op| bit.get(op)) {
                    readers[producer] |= 1 << reader;
                }
            }
        }
        GraphBlock { problem, gpu: GpuId::new(gpu), pruning, operators: operators.to_vec(), readers, best: HashMap::new(), steps: 0 }
    }

    /// The least time for `set`. `None` if there are too many sets.
    fn cost(&mut self, set: u64) -> Option<Nanos> {
        if set == 0 {
            return Some(0);
        }
        if let Some(&(cost, _)) = self.best.get(&set) {
            return Some(cost);
        }
        if self.best.len() >= MAX_SETS {
            return None;
        }
        // Inserted now, so that deeper sets count against the limit.
        self.best.insert(set, (Nanos::MAX, set));
        let mut best = (Nanos::MAX, 0);
        self.endings(set, 0, &[], &mut best)?;
        self.best.insert(set, best);
        Some(best.0)
    }

    /// Visits all endings of `set` that extend `ending`, which consists of `chains`, by operators
    /// that precede it. Each ending is visited once, built from its last operator.
    fn endings(&mut self, set: u64, ending: u64, chains: &[u64], best: &mut (Nanos, u64)) -> Option<()> {
        for i in (0..self.operators.len().min(ending.trailing_zeros() as usize)).rev() {
            if set >> i & 1 == 0 || self.readers[i] & set & !ending != 0 {
                continue;
            }
            // The operator joins the chains that read it, and makes them one.
            let (read, mut larger): (Vec<u64>, Vec<u64>) = chains.iter().partition(|&&chain| chain & self.readers[i] != 0);
            let chain = read.into_iter().fold(1 << i, |all, chain| all | chain);
            larger.push(chain);
            if chain.count_ones() as usize > self.pruning.r {
                continue;
            }
            let wider = ending | 1 << i;
            if larger.len() <= self.pruning.s {
                self.steps += 1;
                let cost = self.cost(set & !wider)? + self.stage_time(wider, &larger);
                if cost < best.0 {
                    *best = (cost, wider);
                }
            }
            // More than s chains may become fewer again, but only by an operator that joins some.
            if larger.len() < self.pruning.s || self.pruning.r > 1 && wider.count_ones() as usize <= self.pruning.r * self.pruning.s {
                self.endings(set, wider, &larger, best)?;
            }
        }
        Some(())
    }

    fn stage_time(&self, ending: u64, chains: &[u64]) -> Nanos {
        let members = |set: u64| (0..self.operators.len()).filter(|i| set >> i & 1 == 1).map(|i| self.operators[i]).collect::<Vec<_>>();
        if chains.iter().all(|chain| chain.is_power_of_two()) {
            return stage_time(self.problem, self.gpu, &members(ending));
        }
        let chains: Vec<Vec<OpId>> = chains.iter().map(|&chain| members(chain)).collect();
        chains_time(self.problem, self.gpu, chains.iter().map(Vec::as_slice))
    }
}

/// Everything that is ready in one stage, at most `max_stage` operators at a time, on the fastest
/// GPU on which all weights fit.
pub(super) fn greedy(problem: &Problem, max_stage: usize) -> Result<Schedule> {
    let gpu = fastest_fitting_gpu(problem)?;
    let n = problem.operators();
    // Depth: the index of the stage in which an operator is ready.
    let mut depth = vec![0usize; n];
    let mut makes: Vec<Vec<OpId>> = vec![Vec::new(); n];
    for edge in &problem.edges {
        makes[edge.producer.index()].extend(&edge.consumers);
    }
    let mut levels: Vec<Vec<OpId>> = Vec::new();
    for &op in &problem.order {
        let at = depth[op.index()];
        for reader in &makes[op.index()] {
            depth[reader.index()] = depth[reader.index()].max(at + 1);
        }
        levels.resize(levels.len().max(at + 1), Vec::new());
        levels[at].push(op);
    }
    let stages = levels.iter().flat_map(|level| level.chunks(max_stage.max(1))).map(|ops| Stage { operators: ops.to_vec() }).collect();
    let mut gpus = vec![Vec::new(); problem.gpus];
    gpus[gpu] = stages;
    Ok(Schedule { algorithm: "greedy".into(), gpus })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::{LinkMode, MergeCost, evaluate, verify};

    /// Four independent operators, two long and two short, with utilisation 0.1: a pair costs 0.5 *
    /// sum + 0.5 * longest.
    #[test]
    fn ios_pairs_equals() {
        let problem = Problem::from_dag_text("4\n0 4 0.1\n1 2 0.1\n2 4 0.1\n3 2 0.1\n0\n", 1, LinkMode::Free).unwrap();
        let ios = |s| ios(&problem, Pruning { r: 1, s }).unwrap();
        let found = ios(2);
        assert_eq!(found.note, "");
        // {0, 2}: 4 + 2 = 6; {1, 3}: 2 + 1 = 3. Greedy takes {0, 1} and {2, 3}: 0.5 * 6 + 0.5 * 4,
        // twice.
        assert_eq!(evaluate(&problem, &found.schedule).unwrap().latency, 9_000_000);
        assert_eq!(evaluate(&problem, &greedy(&problem, 2).unwrap()).unwrap().latency, 10_000_000);
        assert_eq!(evaluate(&problem, &ios(1).schedule).unwrap().latency, 12_000_000);
    }

    /// A chain of two beside a longer operator. As two chains of one stage: 0.5 * 18 + 0.5 * 10 =
    /// 14. With r = 1 the best is a stage of two (4, 10) and one more: 16.
    #[test]
    fn a_group_may_be_a_chain() {
        let problem = Problem::from_dag_text("3\n0 4 0.1\n1 4 0.1\n2 10 0.1\n1\n0 1 1\n", 1, LinkMode::Free).unwrap();
        let latency = |r, s| {
            let schedule = ios(&problem, Pruning { r, s }).unwrap().schedule;
            let timeline = evaluate(&problem, &schedule).unwrap();
            verify(&problem, &schedule, &timeline).unwrap();
            timeline.latency / 1_000_000
        };
        assert_eq!([latency(1, 1), latency(1, 2), latency(2, 1), latency(2, 2), latency(3, 8)], [18, 16, 18, 14, 14]);
    }

    /// Two operators that read the same tensor can be merged. IOS does so where that is faster than
    /// side by side.
    #[test]
    fn operators_are_merged_where_that_pays() {
        let mut problem = Problem::from_dag_text("3\n0 1 1\n1 4 0.5\n2 4 0.5\n2\n0 1 1\n0 2 1\n", 1, LinkMode::Free).unwrap();
        let latency = |problem: &Problem| evaluate(problem, &ios(problem, Pruning { r: 1, s: 2 }).unwrap().schedule).unwrap().latency;
        assert_eq!(latency(&problem), 7_000_000);
        let merged = |time| MergeCost { operators: vec![OpId(1), OpId(2)], times: vec![time] };
        problem.operator_merges = vec![merged(5_000_000)];
        assert_eq!(latency(&problem), 6_000_000);
        problem.operator_merges = vec![merged(6_500_000)];
        assert_eq!(latency(&problem), 7_000_000);
    }

    #[test]
    fn a_wide_graph_is_cut_and_says_so() {
        let lines: String = (0..80).map(|i| format!("{i} 1 0.1\n")).collect();
        let problem = Problem::from_dag_text(&format!("80\n{lines}0\n"), 1, LinkMode::Free).unwrap();
        let found = ios(&problem, Pruning { r: 1, s: 2 }).unwrap();
        assert!(found.note.starts_with("cut into"), "{}", found.note);
        // 60 in pairs. A block with an odd number of operators leaves one alone.
        let latency = evaluate(&problem, &found.schedule).unwrap().latency;
        assert!((60_000_000..64_000_000).contains(&latency), "{latency}");
    }
}
