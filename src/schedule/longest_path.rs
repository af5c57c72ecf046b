//! HIOS-LP's inter-GPU mapping: whole longest paths go to one GPU, the longest first.
//!
//! Kundu and Shu, "HIOS: Hierarchical Inter-Operator Scheduler for Real-Time Inference of DAG-Structured Deep Learning Models on Multiple GPUs",
//! IEEE CLUSTER 2023. LP is *longest path*. The second half of HIOS-LP, which groups operators of one GPU into stages, is not here yet: every
//! stage has one operator.
//!
//! ## The problem
//!
//! Give each operator a GPU so that the latency of one inference is low. Operators that depend on each other gain nothing from
//! different GPUs and lose the transfer, so the unit that is mapped is a path; and the longest path matters most, so it chooses first.
//!
//! ## Terms
//!
//! * *Priority* of an operator: the longest distance from its start to the end of a sink, t(v) of all operators on the way plus the transfer
//!   times between them. Each GPU runs its operators by descending priority. A transfer counts even where both ends may end up on one GPU.
//! * A path of unmapped operators is *valid* if only its first and last operator touch mapped operators (have an edge from or to one). A path that
//!   crossed mapped operators in its middle would force transfers in the middle of what is supposed to stay together.
//!
//! ## Steps
//!
//! 1. Compute all priorities.
//! 2. Find the longest valid path among the unmapped operators: for each operator, from the sinks up, the longest valid rest of a path that
//!    starts there. A successor that touches a mapped operator can only be the end of the path.
//! 3. For each GPU, schedule the operators mapped so far and this path, by priority (`list.rs`), and keep the GPU of lowest latency.
//! 4. Repeat from 2 until all operators are mapped.
//!
//! Ties: between operators of equal priority, between equally long paths and between equally long rests of a path, the operator that comes
//! first in the fixed topological order; between GPUs, the lowest. The result may leave GPUs empty.
//!
//! ## Unequal GPUs and links
//!
//! Priorities and path lengths take the mean time over the GPUs and the mean transfer time over the ordered GPU pairs, rounded half up; step 3
//! takes the real times. Where GPUs are not all linked to each other, only GPUs that are (`baseline::linked_gpus`) are used.
//!
//! ## Differences from the paper and from the published code
//!
//! * Serial links: the paper's transfers never wait for each other. Step 3 uses the problem's own execution model, so with [`LinkMode::Serial`](super::LinkMode) a
//!   mapping pays for the links that it crowds.
//! * The paper's edges are one tensor, one reader. Here a tensor with several readers crosses once to each GPU, in the evaluation; priorities and
//!   paths count it on each edge, as the paper does.
//! * The published code is not followed: its test for validity can never fail, predecessors' finish times are wrong in its evaluation, and it fails to end on some of
//!   its own random graphs.
//!
//! ## Complexity
//!
//! With P paths (P <= V, and close to V / 2 on the published random graphs), G GPUs: O(P·(V + E)) for the paths and O(P·G·(V + E)) for the evaluations,
//! the latter with a small constant: a trial begins at the path's first operator and ends as soon as it is worse than the best.

use super::baseline::{linked_gpus, one_operator_stages};
use super::list::ListScheduler;
use super::{Problem, Schedule};
use crate::cost::Nanos;
use crate::ids::OpId;

/// HIOS-LP's inter-GPU mapping, one operator a stage.
pub(super) fn hios_lp(problem: &Problem) -> Schedule {
    let gpus = linked_gpus(problem);
    let graph = MeanGraph::new(problem, &gpus);
    let mut scheduler = ListScheduler::new(problem, &graph.by_rank);
    let mut paths = LongestPaths::new(&graph);
    while let Some(path) = paths.next() {
        scheduler.map_to_best(&path, &gpus);
    }
    let placed = graph.by_rank.iter().enumerate().map(|(rank, &op)| (OpId::new(op), scheduler.gpu_of(rank)));
    one_operator_stages("hios-lp", problem.gpus, placed)
}

/// The problem as paths see it: one time an operator, one time an edge, operators numbered by rank (descending priority).
struct MeanGraph {
    /// `by_rank[rank]`: the operator.
    by_rank: Vec<usize>,
    /// Mean t(v), by rank.
    time: Vec<Nanos>,
    /// Place in the fixed topological order, by rank.
    position: Vec<usize>,
    /// (successor, mean transfer time), by rank.
    successors: Vec<Vec<(u32, Nanos)>>,
    /// Predecessors, by rank.
    predecessors: Vec<Vec<u32>>,
}

impl MeanGraph {
    fn new(problem: &Problem, gpus: &[usize]) -> MeanGraph {
        let operators = problem.operators();
        let time: Vec<Nanos> = problem.time.iter().map(|row| mean(gpus.iter().map(|&gpu| row[gpu]))).collect();
        let mut successors: Vec<Vec<(usize, Nanos)>> = vec![Vec::new(); operators];
        for edge in &problem.edges {
            let pairs = gpus.iter().flat_map(|&from| gpus.iter().filter_map(move |&to| edge.transfer[from][to]));
            let transfer = mean(pairs);
            successors[edge.producer.index()].extend(edge.consumers.iter().map(|c| (c.index(), transfer)));
        }

        let position = problem.positions();
        let mut priority = vec![0; operators];
        for op in problem.order.iter().rev().map(|op| op.index()) {
            let rest = successors[op].iter().map(|&(next, transfer)| transfer + priority[next]).max().unwrap_or(0);
            priority[op] = time[op] + rest;
        }
        // Every operator takes time, so priorities descend strictly along edges, and ranks are a topological order.
        let mut by_rank: Vec<usize> = problem.order.iter().map(|op| op.index()).collect();
        by_rank.sort_by_key(|&op| (std::cmp::Reverse(priority[op]), position[op]));

        let mut rank = vec![0u32; operators];
        for (r, &op) in by_rank.iter().enumerate() {
            rank[op] = r as u32;
        }
        let mut predecessors = vec![Vec::new(); operators];
        for (op, list) in successors.iter().enumerate() {
            for &(next, _) in list {
                predecessors[rank[next] as usize].push(rank[op]);
            }
        }
        MeanGraph {
            time: by_rank.iter().map(|&op| time[op]).collect(),
            position: by_rank.iter().map(|&op| position[op]).collect(),
            successors: by_rank.iter().map(|&op| successors[op].iter().map(|&(next, transfer)| (rank[next], transfer)).collect()).collect(),
            predecessors,
            by_rank,
        }
    }
}

/// The mean, rounded half up; 0 of nothing.
fn mean(values: impl Iterator<Item = Nanos>) -> Nanos {
    let (sum, count) = values.fold((0u128, 0u128), |(sum, count), value| (sum + u128::from(value), count + 1));
    if count == 0 { 0 } else { ((2 * sum + count) / (2 * count)) as Nanos }
}

/// Takes a graph apart into valid longest paths.
struct LongestPaths<'g> {
    graph: &'g MeanGraph,
    /// The unmapped ranks, ascending.
    unmapped: Vec<u32>,
    /// Whether an operator is mapped, by rank.
    mapped: Vec<bool>,
    /// Whether an operator has an edge from or to a mapped one, by rank.
    touches: Vec<bool>,
    /// Length of the longest valid path that starts here, and its second operator, by rank.
    longest: Vec<(Nanos, Option<u32>)>,
}

impl<'g> LongestPaths<'g> {
    fn new(graph: &'g MeanGraph) -> Self {
        let operators = graph.time.len();
        LongestPaths {
            graph,
            unmapped: (0..operators as u32).collect(),
            mapped: vec![false; operators],
            touches: vec![false; operators],
            longest: vec![(0, None); operators],
        }
    }

    /// The longest valid path, by ascending rank, which counts as mapped from now on; `None` when all operators are.
    fn next(&mut self) -> Option<Vec<u32>> {
        let graph = self.graph;
        // Longer wins; then the first in topological order. Never equal for different operators.
        let order = |length: Nanos, rank: u32| (length, std::cmp::Reverse(graph.position[rank as usize]));
        for &rank in self.unmapped.iter().rev() {
            let rest = |&(next, transfer): &(u32, Nanos)| {
                let is_last = self.touches[next as usize];
                let length = if is_last { graph.time[next as usize] } else { self.longest[next as usize].0 };
                (transfer + length, next)
            };
            let open = graph.successors[rank as usize].iter().filter(|(next, _)| !self.mapped[*next as usize]);
            let best = open.map(rest).max_by_key(|&(length, next)| order(length, next));
            let (length, next) = best.map_or((0, None), |(length, next)| (length, Some(next)));
            self.longest[rank as usize] = (graph.time[rank as usize] + length, next);
        }
        let first = *self.unmapped.iter().max_by_key(|&&rank| order(self.longest[rank as usize].0, rank))?;

        let mut path = vec![first];
        let mut end = first;
        while let Some(next) = self.longest[end as usize].1 {
            path.push(next);
            end = next;
            if self.touches[next as usize] {
                break;
            }
        }
        for &rank in &path {
            self.mapped[rank as usize] = true;
        }
        for &rank in &path {
            let successors = graph.successors[rank as usize].iter().map(|(next, _)| next);
            for &neighbour in graph.predecessors[rank as usize].iter().chain(successors) {
                self.touches[neighbour as usize] = true;
            }
        }
        self.unmapped.retain(|&rank| !self.mapped[rank as usize]);
        Some(path)
    }
}
