//! List scheduling of a partial mapping: the latency of the operators mapped so far, where each GPU
//! runs its operators by priority.
//!
//! HIOS-LP asks for this latency once per path and GPU, so it is computed without building a
//! [`Schedule`](crate::schedule::Schedule). It equals that of
//! [`evaluate`](crate::schedule::evaluate()) for the same mapping with one operator per stage,
//! restricted to the mapped operators (a test checks this). Tensors of unmapped operators are
//! available at time 0, and unmapped readers need no transfer.
//!
//! Operators are numbered by *rank*, their position in priority order. Priorities descend along
//! every edge, so ranks are topological, and one ascending pass visits producers before readers.
//!
//! * With free links, an operator's start depends on lower ranks only. A trial that adds a path
//!   changes nothing before the path's first rank, so it begins there. Behind the path's last rank,
//!   *bottom levels* give the rest: the longest path from an operator's start to the end of the
//!   schedule, over dependencies, transfers and the order of each GPU.
//! * With serial links, the order of transfers depends on when other tensors become ready, so
//!   operators are run in time order. A GPU runs at most one operator at a time. So the next event
//!   is a minimum over the GPUs, and no heap is needed.
//! * Both stop as soon as the latency reaches a bound, the best of an earlier trial.
//! * With more than [`SERIAL_OPERATORS`] operators, links count as free here. A trial with serial
//!   links simulates the whole schedule, which would take many seconds for thousands of operators.
//!
//! Complexity of one trial: O(M + D) with free links and O(M·G + D) with serial ones, for M mapped
//! operators with D dependencies on G GPUs.

use std::ops::Range;

use crate::device::Nanos;
use crate::schedule::{Edge, LinkMode, Problem};

/// The most operators for which mapping and grouping take serial links into account while they
/// decide. The final evaluation always does.
pub(in crate::schedule) const SERIAL_OPERATORS: usize = 1000;

/// Marks an operator that is not mapped.
const UNMAPPED: u32 = u32::MAX;

/// An edge of the problem, with its operators by rank.
struct RankedEdge {
    producer: u32,
    consumers: Vec<u32>,
}

/// A mapping under construction.
pub(in crate::schedule) struct ListScheduler {
    gpus: usize,
    links: LinkMode,
    /// `time[rank * gpus + gpu]`.
    time: Vec<Nanos>,
    edges: Vec<RankedEdge>,
    /// `transfer[(edge * gpus + from) * gpus + to]`; 0 where there is no link (only linked GPUs are
    /// used).
    transfer: Vec<Nanos>,
    /// The transfer time of each edge, if it is the same between all GPUs: a table that stays in
    /// the cache. Otherwise empty.
    uniform: Vec<Nanos>,
    /// `readers[first_reader[rank]..first_reader[rank + 1]]`: the (edge, reader) pairs of an
    /// operator's outputs.
    first_reader: Vec<usize>,
    readers: Vec<(u32, u32)>,
    /// `inputs[first_input[rank]..first_input[rank + 1]]`: the (edge, producer) pairs of an
    /// operator's inputs.
    first_input: Vec<usize>,
    inputs: Vec<(u32, u32)>,
    /// `outputs[rank]`: the edges of an operator's outputs, by tensor id.
    outputs: Vec<Vec<u32>>,

    /// GPU of each operator, by rank.
    gpu: Vec<u32>,
    /// The mapped ranks, ascending.
    mapped: Vec<u32>,
    /// Free links: the finish of each mapped operator, and its bottom level.
    finish: Vec<Nanos>,
    bottom_levels: Vec<Nanos>,
    /// Operators whose times must be recomputed while a path is added. All false otherwise.
    stale: Vec<bool>,
    /// Free links: the latency of all mapped operators.
    latency: Nanos,
    // Buffers of a simulation with serial links, kept to save allocations.
    missing_inputs: Vec<u32>,
    ready: Vec<Nanos>,
    queues: Vec<Vec<u32>>,
    finished: Vec<u32>,
    link_free: Vec<Nanos>,
}

impl ListScheduler {
    /// A scheduler with nothing mapped. `by_rank` lists all operators by priority.
    pub fn new(problem: &Problem, by_rank: &[usize]) -> ListScheduler {
        let (operators, gpus) = (problem.operators(), problem.gpus);
        let mut rank = vec![0u32; operators];
        for (r, &op) in by_rank.iter().enumerate() {
            rank[op] = r as u32;
        }
        let edge =
            |e: &Edge| RankedEdge { producer: rank[e.producer.index()], consumers: e.consumers.iter().map(|c| rank[c.index()]).collect() };
        let edges: Vec<RankedEdge> = problem.edges.iter().map(edge).collect();
        let mut inputs = vec![Vec::new(); operators];
        let mut outputs = vec![Vec::new(); operators];
        for (index, edge) in edges.iter().enumerate() {
            outputs[edge.producer as usize].push(index as u32);
            for &consumer in &edge.consumers {
                inputs[consumer as usize].push((index as u32, edge.producer));
            }
        }
        let readers: Vec<Vec<(u32, u32)>> = outputs
            .iter()
            .map(|made: &Vec<u32>| made.iter().flat_map(|&e| edges[e as usize].consumers.iter().map(move |&c| (e, c))).collect())
            .collect();
        let mut first_reader = vec![0];
        for list in &readers {
            first_reader.push(first_reader[first_reader.len() - 1] + list.len());
        }
        let times = |e: &Edge| e.transfer.iter().flatten().flatten().copied().collect::<Vec<Nanos>>();
        let even = problem.edges.iter().all(|e| times(e).windows(2).all(|w| w[0] == w[1]));
        let uniform = if even { problem.edges.iter().map(|e| times(e).first().copied().unwrap_or(0)).collect() } else { Vec::new() };
        for list in &mut outputs {
            list.sort_by_key(|&edge| problem.edges[edge as usize].tensor);
        }
        let mut first_input = vec![0];
        for list in &inputs {
            first_input.push(first_input[first_input.len() - 1] + list.len());
        }
        ListScheduler {
            gpus,
            links: if operators > SERIAL_OPERATORS { LinkMode::Free } else { problem.links },
            time: by_rank.iter().flat_map(|&op| problem.time[op].iter().copied()).collect(),
            edges,
            transfer: problem.edges.iter().flat_map(|e| e.transfer.iter().flatten().map(|t| t.unwrap_or(0))).collect(),
            uniform,
            first_reader,
            readers: readers.concat(),
            first_input,
            inputs: inputs.concat(),
            outputs,
            gpu: vec![UNMAPPED; operators],
            mapped: Vec::new(),
            finish: vec![0; operators],
            bottom_levels: vec![0; operators],
            stale: vec![false; operators],
            latency: 0,
            missing_inputs: vec![0; operators],
            ready: vec![0; operators],
            queues: vec![Vec::new(); gpus],
            finished: Vec::new(),
            link_free: vec![0; gpus * gpus],
        }
    }

    /// The GPU of the operator of this rank, which must be mapped.
    pub fn gpu_of(&self, rank: usize) -> usize {
        self.gpu[rank] as usize
    }

    /// Maps `path` (ascending ranks, all unmapped) to the GPU of `allowed_gpus` that gives the
    /// lowest latency of all mapped operators. The first one wins ties.
    pub fn map_to_best(&mut self, path: &[u32], allowed_gpus: &[usize]) {
        match self.links {
            LinkMode::Free => self.map_with_free_links(path, allowed_gpus),
            LinkMode::Serial => {
                let at = self.mapped.partition_point(|&rank| rank < path[0]);
                insert_path(&mut self.mapped, at, path);
                let mut best = (Nanos::MAX, allowed_gpus[0]);
                for &gpu in allowed_gpus {
                    self.assign(path, gpu);
                    if let Some(latency) = self.serial_latency(best.0) {
                        best = (latency, gpu);
                    }
                }
                self.assign(path, best.1);
            }
        }
    }

    fn assign(&mut self, path: &[u32], gpu: usize) {
        for &rank in path {
            self.gpu[rank as usize] = gpu as u32;
        }
    }

    /// With free links, a new path makes nothing earlier and changes nothing before its first
    /// operator. Behind its last operator, all bottom levels stay as they are. So a trial times the
    /// operators in between and adds the bottom levels of those that follow.
    fn map_with_free_links(&mut self, path: &[u32], allowed_gpus: &[usize]) {
        let last = path[path.len() - 1];
        let begin = self.mapped.partition_point(|&rank| rank < path[0]);
        let behind = self.mapped.partition_point(|&rank| rank < last);
        let mut free_before = vec![0; self.gpus];
        for &rank in &self.mapped[..begin] {
            free_before[self.gpu[rank as usize] as usize] = self.finish[rank as usize];
        }
        let levels_after = self.next_bottom_levels(behind);
        insert_path(&mut self.mapped, begin, path);
        let end = behind + path.len();
        let mut best = (Nanos::MAX, allowed_gpus[0]);
        for &gpu in allowed_gpus {
            self.assign(path, gpu);
            if let Some(latency) = self.trial_latency(begin..end, free_before.clone(), &levels_after, best.0) {
                best = (latency, gpu);
            }
        }
        self.assign(path, best.1);
        self.latency = best.0;
        self.update_finish_times(begin..end, free_before);
        self.update_bottom_levels(begin..end, levels_after);
    }

    /// Recomputes the finish times of all operators in `range`, which trials have overwritten, and
    /// of the later operators that these delay.
    fn update_finish_times(&mut self, range: Range<usize>, mut free: Vec<Nanos>) {
        // Whether the previous operator on the same GPU may finish later than before.
        let mut later = vec![true; self.gpus];
        for at in range.start..self.mapped.len() {
            let rank = self.mapped[at] as usize;
            let gpu = self.gpu[rank] as usize;
            let stale = std::mem::take(&mut self.stale[rank]);
            if at >= range.end && !stale && !later[gpu] {
                free[gpu] = self.finish[rank];
                continue;
            }
            let before = self.finish[rank];
            later[gpu] = self.time_operator(rank, &mut free) != before || at < range.end;
            if later[gpu] {
                for index in self.first_reader[rank]..self.first_reader[rank + 1] {
                    let reader = self.readers[index].1 as usize;
                    self.stale[reader] = self.gpu[reader] != UNMAPPED;
                }
            }
        }
    }

    /// Recomputes bottom levels in the same way, from the back.
    fn update_bottom_levels(&mut self, range: Range<usize>, mut next: Vec<Nanos>) {
        let mut longer = vec![true; self.gpus];
        for at in (0..range.end).rev() {
            let rank = self.mapped[at] as usize;
            let gpu = self.gpu[rank] as usize;
            let stale = std::mem::take(&mut self.stale[rank]);
            if at < range.start && !stale && !longer[gpu] {
                next[gpu] = self.bottom_levels[rank];
                continue;
            }
            let before = self.bottom_levels[rank];
            next[gpu] = self.time[rank * self.gpus + gpu] + next[gpu].max(self.longest_exit(rank, 0));
            self.bottom_levels[rank] = next[gpu];
            longer[gpu] = next[gpu] != before || at >= range.start;
            if longer[gpu] {
                for index in self.first_input[rank]..self.first_input[rank + 1] {
                    let producer = self.inputs[index].1 as usize;
                    self.stale[producer] = self.gpu[producer] != UNMAPPED;
                }
            }
        }
    }

    /// For each GPU, the bottom level of its first operator at or behind index `at` of `mapped`.
    fn next_bottom_levels(&self, at: usize) -> Vec<Nanos> {
        let mut levels = vec![None; self.gpus];
        let mut gpus_left = self.gpus;
        for &rank in &self.mapped[at..] {
            let slot = &mut levels[self.gpu[rank as usize] as usize];
            if slot.is_none() {
                *slot = Some(self.bottom_levels[rank as usize]);
                gpus_left -= 1;
                if gpus_left == 0 {
                    break;
                }
            }
        }
        levels.into_iter().map(|level| level.unwrap_or(0)).collect()
    }

    /// The longest path from the finish of an operator to the end, through a mapped reader of rank
    /// `from` or more.
    fn longest_exit(&self, rank: usize, from: u32) -> Nanos {
        let gpu = self.gpu[rank] as usize;
        let mut longest = 0;
        for &(edge, consumer) in &self.readers[self.first_reader[rank]..self.first_reader[rank + 1]] {
            let to = self.gpu[consumer as usize];
            if consumer >= from && to != UNMAPPED {
                let transfer = if to as usize == gpu { 0 } else { self.transfer(edge, gpu, to as usize) };
                longest = longest.max(transfer + self.bottom_levels[consumer as usize]);
            }
        }
        longest
    }

    #[inline]
    fn transfer(&self, edge: u32, from: usize, to: usize) -> Nanos {
        match self.uniform.get(edge as usize) {
            Some(&time) => time,
            None => self.transfer[(edge as usize * self.gpus + from) * self.gpus + to],
        }
    }

    /// Times an operator after the previous one on its GPU and after those that it reads.
    fn time_operator(&mut self, rank: usize, free: &mut [Nanos]) -> Nanos {
        let gpus = self.gpus;
        let gpu = self.gpu[rank] as usize;
        let mut start = free[gpu];
        for &(edge, producer) in &self.inputs[self.first_input[rank]..self.first_input[rank + 1]] {
            let from = self.gpu[producer as usize];
            if from == UNMAPPED {
                continue;
            }
            let mut arrival = self.finish[producer as usize];
            if from as usize != gpu {
                arrival += self.transfer(edge, from as usize, gpu);
            }
            start = start.max(arrival);
        }
        let finish = start + self.time[rank * gpus + gpu];
        self.finish[rank] = finish;
        free[gpu] = finish;
        finish
    }

    /// The latency of all mapped operators, if it is below `bound`. Those in `range` are new or may
    /// finish later than before.
    fn trial_latency(&mut self, range: Range<usize>, mut free: Vec<Nanos>, levels_after: &[Nanos], bound: Nanos) -> Option<Nanos> {
        let mut latency = self.latency;
        let behind = self.mapped[range.end - 1] + 1;
        for at in range {
            if latency >= bound {
                return None;
            }
            let rank = self.mapped[at] as usize;
            latency = latency.max(self.time_operator(rank, &mut free) + self.longest_exit(rank, behind));
        }
        let through_gpus = free.iter().zip(levels_after).map(|(free, level)| free + level).max().unwrap_or(0);
        Some(latency.max(through_gpus)).filter(|&latency| latency < bound)
    }

    fn serial_latency(&mut self, bound: Nanos) -> Option<Nanos> {
        let gpus = self.gpus;
        self.link_free.fill(0);
        self.queues.iter_mut().for_each(Vec::clear);
        for &rank in &self.mapped {
            let r = rank as usize;
            let inputs = &self.inputs[self.first_input[r]..self.first_input[r + 1]];
            self.missing_inputs[r] = inputs.iter().filter(|&&(_, producer)| self.gpu[producer as usize] != UNMAPPED).count() as u32;
            self.ready[r] = 0;
            self.queues[self.gpu[r] as usize].push(rank);
        }
        let mut next = vec![0usize; gpus];
        let mut free = vec![0; gpus];
        // Finish of the operator that each GPU runs; `MAX` if the GPU is idle.
        let mut running = vec![Nanos::MAX; gpus];
        let mut arrived = vec![(u32::MAX, 0); gpus];
        let mut latency = 0;
        loop {
            for gpu in 0..gpus {
                if running[gpu] != Nanos::MAX {
                    continue;
                }
                let Some(&rank) = self.queues[gpu].get(next[gpu]) else { continue };
                if self.missing_inputs[rank as usize] > 0 {
                    continue;
                }
                let finish = free[gpu].max(self.ready[rank as usize]) + self.time[rank as usize * gpus + gpu];
                if finish >= bound {
                    return None;
                }
                running[gpu] = finish;
                latency = latency.max(finish);
            }
            let now = running.iter().copied().min().unwrap_or(Nanos::MAX);
            if now == Nanos::MAX {
                return Some(latency);
            }
            self.finished.clear();
            for gpu in 0..gpus {
                if running[gpu] == now {
                    self.finished.push(self.queues[gpu][next[gpu]]);
                    next[gpu] += 1;
                    free[gpu] = now;
                    running[gpu] = Nanos::MAX;
                }
            }
            // Each finished operator is on a GPU of its own, so they use different links, and their
            // order does not matter.
            for &rank in &self.finished {
                let from = self.gpu[rank as usize] as usize;
                for &edge in &self.outputs[rank as usize] {
                    for &consumer in &self.edges[edge as usize].consumers {
                        let to = self.gpu[consumer as usize];
                        if to == UNMAPPED {
                            continue;
                        }
                        let to = to as usize;
                        if arrived[to].0 != edge {
                            let mut arrival = now;
                            if to != from {
                                let link = from * gpus + to;
                                arrival = now.max(self.link_free[link]) + self.transfer[(edge as usize * gpus + from) * gpus + to];
                                self.link_free[link] = arrival;
                            }
                            arrived[to] = (edge, arrival);
                        }
                        self.missing_inputs[consumer as usize] -= 1;
                        let ready = &mut self.ready[consumer as usize];
                        *ready = (*ready).max(arrived[to].1);
                    }
                }
            }
        }
    }
}

/// Inserts ascending `path` into ascending `mapped`, whose first `at` entries precede it. Works
/// from the back, so that the longer remainder moves at once.
fn insert_path(mapped: &mut Vec<u32>, at: usize, path: &[u32]) {
    let mut end = mapped.len();
    mapped.resize(end + path.len(), 0);
    for (left, &rank) in path.iter().enumerate().rev() {
        let index = at + mapped[at..end].partition_point(|&other| other < rank);
        mapped.copy_within(index..end, index + left + 1);
        mapped[index + left] = rank;
        end = index;
    }
}

#[cfg(test)]
mod tests {
    use rand_xoshiro::SplitMix64;
    use rand_xoshiro::rand_core::{Rng, SeedableRng};

    use super::*;
    use crate::ids::{OpId, TensorId};
    use crate::schedule::{Schedule, Stage, evaluate};

    fn below(rng: &mut SplitMix64, limit: u64) -> u64 {
        rng.next_u64() % limit
    }

    fn problem(rng: &mut SplitMix64, operators: usize, gpus: usize, links: LinkMode) -> Problem {
        let time = (0..operators).map(|_| (0..gpus).map(|_| 1 + below(rng, 9)).collect()).collect();
        let mut edges = Vec::new();
        for from in 0..operators - 1 {
            for _ in 0..below(rng, 3) {
                let mut consumers: Vec<OpId> =
                    (0..1 + below(rng, 3)).map(|_| OpId::new(from + 1 + below(rng, (operators - from - 1) as u64) as usize)).collect();
                consumers.sort_unstable();
                consumers.dedup();
                let transfer = (0..gpus).map(|a| (0..gpus).map(|b| (a != b).then(|| below(rng, 9))).collect()).collect();
                edges.push(Edge { tensor: TensorId::new(1000 - edges.len()), producer: OpId::new(from), consumers, transfer });
            }
        }
        let order = (0..operators).map(OpId::new).collect();
        Problem {
            time,
            utilisation: vec![vec![1.0; gpus]; operators],
            edges,
            links,
            order,
            gpus,
            memory: Default::default(),
            cost_classes: Vec::new(),
            stages: Vec::new(),
            operator_merges: Vec::new(),
        }
    }

    /// The problem restricted to the `kept` operators.
    fn restricted(problem: &Problem, kept: &[bool]) -> Problem {
        let ids: Vec<usize> = (0..problem.operators()).filter(|&op| kept[op]).collect();
        let new = |op: OpId| OpId::new(ids.iter().position(|&old| old == op.index()).unwrap());
        let edge = |e: &Edge| Edge {
            producer: new(e.producer),
            consumers: e.consumers.iter().filter(|c| kept[c.index()]).map(|&c| new(c)).collect(),
            ..e.clone()
        };
        Problem {
            time: ids.iter().map(|&op| problem.time[op].clone()).collect(),
            utilisation: ids.iter().map(|&op| problem.utilisation[op].clone()).collect(),
            edges: problem.edges.iter().filter(|e| kept[e.producer.index()]).map(edge).filter(|e| !e.consumers.is_empty()).collect(),
            order: (0..ids.len()).map(OpId::new).collect(),
            ..problem.clone()
        }
    }

    /// After each path, the GPU chosen is the first one of lowest latency by the exact evaluator on
    /// the mapped part of the problem.
    #[test]
    fn each_choice_is_the_evaluators() {
        let mut rng = SplitMix64::seed_from_u64(7);
        for round in 0..300 {
            let links = if round % 2 == 0 { LinkMode::Free } else { LinkMode::Serial };
            let (operators, gpus) = (2 + below(&mut rng, 14) as usize, 1 + below(&mut rng, 4) as usize);
            let problem = problem(&mut rng, operators, gpus, links);
            problem.check().unwrap();
            // Operator ids are topological here and can serve as ranks.
            let by_rank: Vec<usize> = (0..operators).collect();
            let allowed_gpus: Vec<usize> = (0..gpus).collect();
            let mut scheduler = ListScheduler::new(&problem, &by_rank);
            let mut kept = vec![false; operators];
            while kept.contains(&false) {
                let mut path: Vec<u32> = (0..operators as u32).filter(|&op| !kept[op as usize] && below(&mut rng, 4) == 0).collect();
                if path.is_empty() {
                    path = vec![kept.iter().position(|k| !k).unwrap() as u32];
                }
                path.iter().for_each(|&op| kept[op as usize] = true);
                scheduler.map_to_best(&path, &allowed_gpus);
                let part = restricted(&problem, &kept);
                let latency = |choice: usize| {
                    let gpu = |op: usize| if path.contains(&(op as u32)) { choice } else { scheduler.gpu_of(op) };
                    let placed = (0..operators).filter(|&op| kept[op]).enumerate().map(|(new, op)| (OpId::new(new), gpu(op)));
                    let mut schedule = Schedule { algorithm: "list".into(), gpus: vec![Vec::new(); gpus] };
                    placed.for_each(|(op, gpu)| schedule.gpus[gpu].push(Stage { operators: vec![op] }));
                    evaluate(&part, &schedule).unwrap().latency
                };
                let best = allowed_gpus.iter().copied().min_by_key(|&gpu| latency(gpu)).unwrap();
                assert_eq!(scheduler.gpu_of(path[0] as usize), best, "round {round}, path {path:?}");
            }
        }
    }
}
