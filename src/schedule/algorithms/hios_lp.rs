//! HIOS-LP's inter-GPU mapping: each longest path goes to one GPU as a whole, the longest first.
//!
//! Kundu and Shu, "HIOS: Hierarchical Inter-Operator Scheduler for Real-Time Inference of
//! DAG-Structured Deep Learning Models on Multiple GPUs", IEEE CLUSTER 2023. LP is *longest path*.
//! Every stage has one operator here; the second half of HIOS-LP, which groups operators of one GPU
//! into stages, is `sliding_window.rs`.
//!
//! ## The problem
//!
//! Give each operator a GPU so that the latency of one inference is low. Operators that depend on
//! each other gain nothing from different GPUs and lose the transfer, so the unit that is mapped is
//! a path. The longest path matters most, so it chooses first.
//!
//! ## Terms
//!
//! * *Priority* of an operator: the longest distance from its start to the end of a sink, t(v) of
//!   all operators on the way plus the transfer times between them. Each GPU runs its operators by
//!   descending priority. A transfer counts even where both ends may end up on one GPU.
//! * A path of unmapped operators is *valid* if only its first and last operator touch mapped
//!   operators (have an edge from or to one). A path that crossed mapped operators in its middle
//!   would force transfers in the middle of what is supposed to stay together.
//! * The *length* of a path: t(v) of its operators, the transfer times between them, the longest
//!   transfer that enters its first operator from a mapped one, and the longest that leaves its
//!   last operator to a mapped one.
//!
//! ## Steps
//!
//! 1. Compute all priorities.
//! 2. Find the longest valid path among the unmapped operators: for each operator, from the sinks
//!    up, the longest valid rest of a path that starts there. A successor that touches a mapped
//!    operator can only be the end of the path.
//! 3. For each GPU, schedule the operators mapped so far and this path, by priority
//!    (`incremental/list_scheduler.rs`), and keep the GPU of lowest latency.
//! 4. Repeat from 2 until all operators are mapped.
//!
//! A path may go only to GPUs on which its weights fit. If the path fits nowhere as a
//! whole, its operators are mapped one by one (`schedule/memory.rs`).
//!
//! Ties: between operators of equal priority, between equally long paths and between equally long
//! rests of a path, the operator that comes first in the fixed topological order; between GPUs, the
//! lowest. The result may leave GPUs empty.
//!
//! ## Unequal GPUs and links
//!
//! Priorities and path lengths take the mean time over the GPUs and the mean transfer time over the
//! ordered GPU pairs, rounded half up. Step 3 takes the real times. Where GPUs are not all linked
//! to each other, only GPUs that are (`placement::linked_gpus`) are used.
//!
//! ## Differences from the paper and from the published code
//!
//! * The paper leaves two things open. We decided both by the mean speed-up over sequential on the
//!   published random graphs (2 / 4 / 8 / 12 GPUs, default family), which is 1.954 / 3.655 / 5.528
//!   / 5.603 as implemented.
//!   * Whether the transfers at a path's ends count in its length. We count them. Without them:
//!     1.957 / 3.628 / 5.299 / 5.512.
//!   * Whether the first operator of a longer path may also have mapped successors, and the last
//!     one mapped predecessors. We allow both, as the rule says. Otherwise: 1.955 / 3.662 / 5.256 /
//!     5.232, which is also what an independent implementation of the paper gives, graph by graph
//!     (a test checks that).
//! * Serial links: the paper's transfers never wait for each other. Step 3 uses the problem's own
//!   execution model, so with [`LinkMode::Serial`](crate::schedule::LinkMode) a mapping that
//!   overloads a link takes longer.
//! * The paper's edges are one tensor with one reader. Here a tensor with several readers is
//!   transferred once to each GPU, in the evaluation. Priorities and paths count it on each edge,
//!   as the paper does.
//! * The published code is not followed: its test for validity can never fail, predecessors' finish
//!   times are wrong in its evaluation, and it does not terminate on some of its own random graphs.
//!
//! ## Complexity
//!
//! With P paths (P <= V, and close to V / 2 on the published random graphs) and G GPUs: O(P·(V +
//! E)) for the paths at worst, and in practice little more than O((V + E)·log V), since a path
//! changes few lengths; O(P·G·(V + E)) for the evaluations, with a small constant: with free links,
//! a trial times only the operators from the path's first to its last, and every trial ends as soon
//! as it is no better than the best.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::placement::{largest_first, linked_gpus, one_operator_stages};
use crate::device::Nanos;
use crate::error::Result;
use crate::ids::OpId;
use crate::schedule::incremental::ListScheduler;
use crate::schedule::memory::WeightBudget;
use crate::schedule::{Problem, Schedule};

/// Which paths of unmapped operators are valid.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Validity {
    /// Only the first and the last operator touch mapped ones.
    Ends,
    /// In addition, the first operator has no mapped successor and the last one no mapped
    /// predecessor. Only tests use this reading of the rule.
    #[cfg_attr(not(test), allow(dead_code))]
    InThenOut,
    /// All paths are valid.
    Relaxed,
}

/// HIOS-LP's inter-GPU mapping, one operator per stage.
pub(super) fn inter_lp(problem: &Problem, validity: Validity) -> Result<Schedule> {
    let gpus = linked_gpus(problem);
    let graph = MeanGraph::new(problem, &gpus);
    let mut scheduler = ListScheduler::new(problem, &graph.by_rank);
    let mut paths = LongestPaths::new(&graph, validity);
    let mut budget = WeightBudget::new(problem);
    while let Some(path) = paths.next() {
        // The whole path where it fits, else its operators one by one.
        for part in if fits_somewhere(&budget, &graph, &path, &gpus) { path.chunks(path.len()) } else { path.chunks(1) } {
            let ops: Vec<usize> = part.iter().map(|&rank| graph.by_rank[rank as usize]).collect();
            let fitting = budget.fitting_gpus(&ops, &gpus);
            if fitting.is_empty() {
                return largest_first(problem, "inter-lp");
            }
            scheduler.map_to_best(part, &fitting);
            ops.iter().for_each(|&op| budget.add(op, scheduler.gpu_of(part[0] as usize)));
        }
    }
    let placed = graph.by_rank.iter().enumerate().map(|(rank, &op)| (OpId::new(op), scheduler.gpu_of(rank)));
    Ok(one_operator_stages("inter-lp", problem.gpus, placed))
}

fn fits_somewhere(budget: &WeightBudget, graph: &MeanGraph, path: &[u32], gpus: &[usize]) -> bool {
    let ops: Vec<usize> = path.iter().map(|&rank| graph.by_rank[rank as usize]).collect();
    gpus.iter().any(|&gpu| budget.fits(&ops, gpu))
}

/// The problem with mean times: one per operator and one per edge. Operators are numbered by rank
/// (descending priority).
pub(super) struct MeanGraph {
    /// `by_rank[rank]`: the operator.
    pub by_rank: Vec<usize>,
    /// Mean t(v), by rank.
    pub time: Vec<Nanos>,
    /// Position in the fixed topological order, by rank.
    position: Vec<usize>,
    /// (successor, mean transfer time), by rank.
    successors: Vec<Vec<(u32, Nanos)>>,
    /// (predecessor, mean transfer time), by rank.
    predecessors: Vec<Vec<(u32, Nanos)>>,
}

impl MeanGraph {
    pub fn new(problem: &Problem, gpus: &[usize]) -> MeanGraph {
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
        // Every operator takes time, so priorities descend strictly along edges, and ranks are a
        // topological order.
        let mut by_rank: Vec<usize> = problem.order.iter().map(|op| op.index()).collect();
        by_rank.sort_by_key(|&op| (std::cmp::Reverse(priority[op]), position[op]));

        let mut rank = vec![0u32; operators];
        for (r, &op) in by_rank.iter().enumerate() {
            rank[op] = r as u32;
        }
        let mut predecessors = vec![Vec::new(); operators];
        for (op, list) in successors.iter().enumerate() {
            for &(next, transfer) in list {
                predecessors[rank[next] as usize].push((rank[op], transfer));
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

/// Decomposes a graph into valid longest paths. When a path is mapped, only lengths that may have
/// changed are recomputed: those of the operators that touch it, and of those that lead to them.
struct LongestPaths<'g> {
    graph: &'g MeanGraph,
    validity: Validity,
    /// Whether an operator is mapped, by rank.
    mapped: Vec<bool>,
    /// The longest transfer from a mapped predecessor, if there is one, by rank.
    entry: Vec<Option<Nanos>>,
    /// The longest transfer to a mapped successor, if there is one, by rank.
    exit: Vec<Option<Nanos>>,
    /// Length of the longest valid path that starts here (entry not counted), and its second
    /// operator, by rank.
    longest: Vec<(Nanos, Option<u32>)>,
    /// Ranks whose length must be recomputed, the last one first: successors before predecessors.
    stale: BinaryHeap<u32>,
    is_stale: Vec<bool>,
    /// Whole lengths (entry counted) with their first operator: the longest on top, then the first
    /// in topological order. May contain outdated lengths.
    starts: BinaryHeap<(Nanos, Reverse<usize>, u32)>,
}

impl<'g> LongestPaths<'g> {
    fn new(graph: &'g MeanGraph, validity: Validity) -> Self {
        let operators = graph.time.len();
        LongestPaths {
            graph,
            validity,
            mapped: vec![false; operators],
            entry: vec![None; operators],
            exit: vec![None; operators],
            longest: vec![(0, None); operators],
            stale: (0..operators as u32).collect(),
            is_stale: vec![true; operators],
            starts: BinaryHeap::new(),
        }
    }

    /// Whether a path that reaches this operator ends there, because the operator has an edge from
    /// or to a mapped one and the rule applies.
    fn ends_at(&self, rank: u32) -> bool {
        self.validity != Validity::Relaxed && (self.entry[rank as usize].is_some() || self.exit[rank as usize].is_some())
    }

    /// Length of a path's last operator.
    fn last(&self, rank: u32) -> Nanos {
        self.graph.time[rank as usize] + self.exit[rank as usize].unwrap_or(0)
    }

    /// Length of the longest valid path that starts here.
    fn length(&self, rank: u32) -> Nanos {
        self.entry[rank as usize].unwrap_or(0) + self.longest[rank as usize].0
    }

    fn mark(&mut self, rank: u32) {
        if !std::mem::replace(&mut self.is_stale[rank as usize], true) {
            self.stale.push(rank);
        }
    }

    fn mark_predecessors(&mut self, rank: u32) {
        let graph = self.graph;
        graph.predecessors[rank as usize].iter().for_each(|&(previous, _)| self.mark(previous));
    }

    /// Brings all lengths up to date.
    fn update(&mut self) {
        while let Some(rank) = self.stale.pop() {
            self.is_stale[rank as usize] = false;
            if self.mapped[rank as usize] {
                continue;
            }
            let new = self.longest_from(rank);
            let changed = new != std::mem::replace(&mut self.longest[rank as usize], new);
            self.starts.push((self.length(rank), Reverse(self.graph.position[rank as usize]), rank));
            // If a path ends here in any case, the rest does not matter to predecessors.
            if changed && !self.ends_at(rank) {
                self.mark_predecessors(rank);
            }
        }
    }

    fn longest_from(&self, rank: u32) -> (Nanos, Option<u32>) {
        let graph = self.graph;
        // Longer wins; then the first in topological order. Never equal for different operators.
        let order = |length: Nanos, rank: u32| (length, Reverse(graph.position[rank as usize]));
        let mut best = (self.last(rank), None);
        for &(next, transfer) in &graph.successors[rank as usize] {
            let through =
                self.validity == Validity::InThenOut && (self.exit[rank as usize].is_some() || self.entry[next as usize].is_some());
            if self.mapped[next as usize] || through {
                continue;
            }
            let rest = if self.ends_at(next) { self.last(next) } else { self.longest[next as usize].0 };
            let length = graph.time[rank as usize] + transfer + rest;
            if best.1.map_or(length >= best.0, |other| order(length, next) > order(best.0, other)) {
                best = (length, Some(next));
            }
        }
        best
    }

    /// The longest valid path, by ascending rank. It counts as mapped from now on. `None` once all
    /// operators are mapped.
    fn next(&mut self) -> Option<Vec<u32>> {
        let graph = self.graph;
        self.update();
        let first = loop {
            let (length, _, rank) = self.starts.pop()?;
            if !self.mapped[rank as usize] && length == self.length(rank) {
                break rank;
            }
        };
        let mut path = vec![first];
        let mut end = first;
        while let Some(next) = self.longest[end as usize].1 {
            path.push(next);
            end = next;
            if self.ends_at(next) {
                break;
            }
        }
        for &rank in &path {
            self.mapped[rank as usize] = true;
        }
        for &rank in &path {
            for &(next, transfer) in &graph.successors[rank as usize] {
                self.entry[next as usize] = self.entry[next as usize].max(Some(transfer));
                self.mark(next);
                self.mark_predecessors(next);
            }
            for &(previous, transfer) in &graph.predecessors[rank as usize] {
                self.exit[previous as usize] = self.exit[previous as usize].max(Some(transfer));
                self.mark(previous);
                self.mark_predecessors(previous);
            }
        }
        Some(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::{LinkMode, evaluate};

    fn problem(text: &str) -> Problem {
        Problem::from_dag_text(text, 2, LinkMode::Free).unwrap()
    }

    /// All paths, longest first, as operator ids.
    fn paths(problem: &Problem, validity: Validity) -> Vec<Vec<usize>> {
        let graph = MeanGraph::new(problem, &[0, 1]);
        let mut paths = LongestPaths::new(&graph, validity);
        std::iter::from_fn(|| paths.next()).map(|path| path.iter().map(|&rank| graph.by_rank[rank as usize]).collect()).collect()
    }

    /// ```text
    ///  0 (5) ─▶ 1 (5) ─▶ 2 (5) ─▶ 3 (5)      first path; all transfers 1
    ///    ╲                        ╱
    ///     ▶ 4 (2) ─▶ 5 (2) ─▶ 6 (2)          second path: only its ends touch the first
    /// ```
    #[test]
    fn a_branch_is_one_path() {
        let p = problem("7\n0 5 1\n1 5 1\n2 5 1\n3 5 1\n4 2 1\n5 2 1\n6 2 1\n7\n0 1 1\n1 2 1\n2 3 1\n0 4 1\n4 5 1\n5 6 1\n6 3 1\n");
        assert_eq!(paths(&p, Validity::Ends), [vec![0, 1, 2, 3], vec![4, 5, 6]]);
        let s = inter_lp(&p, Validity::Ends).unwrap();
        assert_eq!(s.gpus.iter().map(Vec::len).collect::<Vec<_>>(), [4, 3]);
        assert_eq!(evaluate(&p, &s).unwrap().latency, 20_000_000);
    }

    /// As above, with operator 2 longer and an edge 1 ─▶ 5. Now the middle of the branch touches a
    /// mapped operator, and the branch splits at 5. Of the two parts that remain, 4 with 5 (1 + 2 +
    /// 1 + 2) and 5 with 6 (4 + 2 + 1 + 2 + 1), the second is longer because of its costly entry.
    #[test]
    fn the_middle_of_a_path_touches_nothing() {
        let p = problem("7\n0 5 1\n1 5 1\n2 12 1\n3 5 1\n4 2 1\n5 2 1\n6 2 1\n8\n0 1 1\n1 2 1\n2 3 1\n0 4 1\n4 5 1\n5 6 1\n6 3 1\n1 5 4\n");
        assert_eq!(paths(&p, Validity::Ends), [vec![0, 1, 2, 3], vec![5, 6], vec![4]]);
        assert_eq!(paths(&p, Validity::InThenOut), [vec![0, 1, 2, 3], vec![5, 6], vec![4]]);
        // Relaxed, it is one path all the same.
        assert_eq!(paths(&p, Validity::Relaxed), [vec![0, 1, 2, 3], vec![4, 5, 6]]);
    }

    /// With operator 4 longer still, the branch is cut behind 5 instead: 5 may end a path, but
    /// nothing may follow it there.
    #[test]
    fn a_path_ends_where_it_touches() {
        let p =
            problem("7\n0 5 1\n1 5 1\n2 30 1\n3 5 1\n4 10 1\n5 2 1\n6 2 1\n8\n0 1 1\n1 2 1\n2 3 1\n0 4 1\n4 5 1\n5 6 1\n6 3 1\n1 5 4\n");
        assert_eq!(paths(&p, Validity::Ends), [vec![0, 1, 2, 3], vec![4, 5], vec![6]]);
        assert_eq!(paths(&p, Validity::InThenOut), [vec![0, 1, 2, 3], vec![4], vec![5, 6]]);
    }

    #[test]
    fn equally_long_paths_go_by_topological_order() {
        let p = problem("4\n0 1 1\n1 1 1\n2 1 1\n3 1 1\n2\n0 3 1\n1 2 1\n");
        assert_eq!(paths(&p, Validity::Ends), [vec![0, 3], vec![1, 2]]);
        let p = problem("3\n0 1 1\n1 1 1\n2 1 1\n2\n0 2 1\n0 1 1\n");
        assert_eq!(paths(&p, Validity::Ends), [vec![0, 1], vec![2]]);
    }

    #[test]
    fn means_are_rounded_half_up() {
        assert_eq!(mean([1, 2].into_iter()), 2);
        assert_eq!(mean([1, 1, 2].into_iter()), 1);
        assert_eq!(mean([].into_iter()), 0);
        assert_eq!(mean([u64::MAX, u64::MAX].into_iter()), u64::MAX);
    }

    /// With the stricter ends, the result is that of an independent implementation on the published
    /// graphs.
    #[test]
    fn agrees_with_an_independent_implementation() {
        let folder = std::env::var_os("HIOSC_DAGS")
            .map_or_else(|| concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/dags").into(), std::path::PathBuf::from);
        let Ok(reference) = std::fs::read_to_string(folder.join("reference_results.csv")) else {
            println!("SKIPPED agrees_with_an_independent_implementation: no scheduling graphs (set HIOSC_DAGS to their folder)");
            return;
        };
        let column = reference.lines().next().unwrap().split(',').position(|name| name == "independent_lp_exact").unwrap();
        let (mut rows, mut equal) = (0, 0);
        for row in reference.lines().skip(1).map(|line| line.split(',').collect::<Vec<_>>()) {
            let (Ok(text), Ok(expected)) =
                (std::fs::read_to_string(folder.join(format!("random/{}.txt", row[0]))), row[column].parse::<f64>())
            else {
                continue;
            };
            let p = Problem::from_dag_text(&text, row[1].parse().unwrap(), LinkMode::Free).unwrap();
            let latency = evaluate(&p, &inter_lp(&p, Validity::InThenOut).unwrap()).unwrap().latency;
            rows += 1;
            assert!((latency as f64 / 1e6 / expected - 1.0).abs() < 0.005, "{row:?}: {latency}");
            equal += usize::from((latency as f64 / 1e6 - expected).abs() < 1e-4);
        }
        println!("{equal} of {rows} latencies are equal");
        // The rest are ties that the floating-point times used there break the other way.
        assert!(rows > 150 && equal * 100 >= rows * 90, "{equal} of {rows}");
    }
}
