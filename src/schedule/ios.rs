//! IOS: the best sequence of stages on one GPU, by dynamic programming over endings; and its greedy companion.
//!
//! Ding et al., "IOS: Inter-Operator Scheduler for CNN Acceleration", MLSys 2021. The best way to run a set S of operators is a best way to run S without an
//! *ending* E, followed by E as the last stage: cost(S) = min over E of cost(S - E) + t(E). An ending is a part of S from which no dependency leads to the rest of S. All
//! sets that come about are remembered.
//!
//! ## Differences from the paper
//!
//! * A stage of ours holds independent operators, so an ending is a set of operators of S without readers in S. The paper's stages may also hold
//!   short chains (its pruning parameter r is the longest chain; here r = 1, and s is the number of streams).
//! * Operator merge, the paper's second strategy, changes the graph. It belongs to the fuse room and has no place in a problem of times.
//! * Networks of the paper consist of blocks. Here a graph whose sets are too many ([`MAX_SETS`]) is cut into blocks of consecutive operators of the topological
//!   order, of 64 at most, halved until each block has few enough; blocks run one after the other. The result is exact only on each block, and says so.
//!
//! *Greedy* is the paper's baseline: run everything that is ready in one stage, at most s operators at a time, and repeat.

use std::collections::HashMap;

use super::baseline::fastest_gpu;
use super::{Found, Problem, Schedule, Stage, stage_time};
use crate::cost::Nanos;
use crate::ids::{GpuId, OpId};

/// The most sets remembered for one block.
const MAX_SETS: usize = 1000;

/// IOS on the fastest GPU, at most `max_stage` operators a stage.
pub(super) fn ios(problem: &Problem, max_stage: usize) -> Found {
    let gpu = fastest_gpu(problem);
    let mut stages = Vec::new();
    let (mut blocks, mut steps) = (0, 0);
    let mut rest = &problem.order[..];
    // A block begins with twice the size of the one before: neighbours are about equally wide.
    let mut largest = 64;
    while !rest.is_empty() {
        let mut size = rest.len().min(largest);
        let (block, endings) = loop {
            let mut block = Block::new(problem, gpu, max_stage, &rest[..size]);
            let all = if size == 64 { u64::MAX } else { (1 << size) - 1 };
            let found = block.cost(all).is_some();
            steps += block.steps;
            // One operator always fits.
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
    Found { schedule: Schedule { algorithm: "ios".into(), gpus }, evaluations: steps, note }
}

/// The dynamic program of one block: bit i is its i-th operator, in topological order.
struct Block<'p> {
    problem: &'p Problem,
    gpu: GpuId,
    max_stage: usize,
    operators: Vec<OpId>,
    /// The readers of each operator, within the block.
    readers: Vec<u64>,
    /// Cost of each set met so far, and its last stage.
    best: HashMap<u64, (Nanos, u64)>,
    steps: u64,
}

impl<'p> Block<'p> {
    fn new(problem: &'p Problem, gpu: usize, max_stage: usize, operators: &[OpId]) -> Block<'p> {
        let bit: HashMap<OpId, usize> = operators.iter().enumerate().map(|(bit, &op)| (op, bit)).collect();
        let mut readers = vec![0; operators.len()];
        for edge in &problem.edges {
            if let Some(&producer) = bit.get(&edge.producer) {
                for reader in edge.consumers.iter().filter_map(|op| bit.get(op)) {
                    readers[producer] |= 1 << reader;
                }
            }
        }
        Block { problem, gpu: GpuId::new(gpu), max_stage, operators: operators.to_vec(), readers, best: HashMap::new(), steps: 0 }
    }

    /// The least time for `set`; `None` when there are too many sets.
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
        // Holds the place, so that deeper sets count against the limit.
        self.best.insert(set, (Nanos::MAX, set));
        let last: Vec<usize> = (0..self.operators.len()).filter(|&i| set >> i & 1 == 1 && self.readers[i] & set == 0).collect();
        let mut best = (Nanos::MAX, 0);
        self.endings(set, &last, 0, &mut Vec::new(), &mut best)?;
        self.best.insert(set, best);
        Some(best.0)
    }

    /// All endings of `set` that hold `members` and some of `last[from..]`.
    fn endings(&mut self, set: u64, last: &[usize], from: usize, members: &mut Vec<OpId>, best: &mut (Nanos, u64)) -> Option<()> {
        for index in from..last.len() {
            members.push(self.operators[last[index]]);
            let ending = last.iter().filter(|&&i| members.contains(&self.operators[i])).fold(0, |bits, i| bits | 1 << i);
            self.steps += 1;
            let cost = self.cost(set & !ending)? + stage_time(self.problem, self.gpu, members);
            if cost < best.0 {
                *best = (cost, ending);
            }
            if members.len() < self.max_stage {
                self.endings(set, last, index + 1, members, best)?;
            }
            members.pop();
        }
        Some(())
    }
}

/// Everything that is ready in one stage, at most `max_stage` operators at a time, on the fastest GPU.
pub(super) fn greedy(problem: &Problem, max_stage: usize) -> Schedule {
    let n = problem.operators();
    // Depth: the stage in which an operator is ready.
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
    gpus[fastest_gpu(problem)] = stages;
    Schedule { algorithm: "greedy".into(), gpus }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::{LinkMode, evaluate};

    /// Four independent operators, two long and two short, utilisation 0.1: a pair costs 0.5 * sum + 0.5 * longest.
    #[test]
    fn ios_pairs_equals() {
        let problem = Problem::from_dag_text("4\n0 4 0.1\n1 2 0.1\n2 4 0.1\n3 2 0.1\n0\n", 1, LinkMode::Free).unwrap();
        let found = ios(&problem, 2);
        assert_eq!(found.note, "");
        // {0, 2}: 4 + 2 = 6; {1, 3}: 2 + 1 = 3. Greedy takes {0, 1} and {2, 3}: 0.5 * 6 + 0.5 * 4, twice.
        assert_eq!(evaluate(&problem, &found.schedule).unwrap().latency, 9_000_000);
        assert_eq!(evaluate(&problem, &greedy(&problem, 2)).unwrap().latency, 10_000_000);
        assert_eq!(evaluate(&problem, &ios(&problem, 1).schedule).unwrap().latency, 12_000_000);
    }

    #[test]
    fn a_wide_graph_is_cut_and_says_so() {
        let lines: String = (0..80).map(|i| format!("{i} 1 0.1\n")).collect();
        let problem = Problem::from_dag_text(&format!("80\n{lines}0\n"), 1, LinkMode::Free).unwrap();
        let found = ios(&problem, 2);
        assert!(found.note.starts_with("cut into"), "{}", found.note);
        // 60 in pairs; a block with an odd number of operators leaves one alone.
        let latency = evaluate(&problem, &found.schedule).unwrap().latency;
        assert!((60_000_000..64_000_000).contains(&latency), "{latency}");
    }
}
