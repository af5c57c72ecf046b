//! List scheduling of a partial mapping: the latency of the operators mapped so far, each GPU running its own by priority.
//!
//! HIOS-LP asks this question once for each path and GPU, so it is answered without building a [`Schedule`](crate::schedule::Schedule). The answer
//! is that of [`evaluate`](crate::schedule::evaluate()) for the same mapping, one operator a stage (a test holds them to it), restricted to the
//! mapped operators: tensors of unmapped operators are there at time 0, and unmapped readers need no transfer.
//!
//! Operators are numbered by *rank*, their place in priority order. Priorities descend along every edge, so ranks are topological, and the
//! arrays are walked in ascending order.
//!
//! * With free links, an operator's start depends only on lower ranks: one pass over the mapped ranks. A trial that adds a path changes
//!   nothing before the path's first rank, so the pass begins there.
//! * With serial links, a transfer's turn depends on when other tensors become ready, so operators are run in time order. A GPU has at
//!   most one operator running: the next instant is the minimum over the GPUs, and no heap is needed.
//! * Either stops as soon as the latency reaches a bound, the best that an earlier trial has found.
//!
//! * Beyond [`SERIAL_OPERATORS`] operators, links count as free here: a trial with serial links is a whole run, and thousands of operators would take many seconds.
//!
//! One question: O(M + D) with free links and O(M·G + D) with serial ones, for M mapped operators with D dependencies on G GPUs.

use std::ops::Range;

use crate::device::Nanos;
use crate::schedule::{Edge, LinkMode, Problem};

/// The most operators for which mapping and grouping count the waiting on serial links while they decide; the result is always judged with it.
pub(in crate::schedule) const SERIAL_OPERATORS: usize = 1000;

/// Marks an operator that is not mapped.
const UNMAPPED: u32 = u32::MAX;

/// An edge of the problem, its operators by rank.
struct Flow {
    producer: u32,
    consumers: Vec<u32>,
}

/// A mapping under construction.
pub(in crate::schedule) struct ListScheduler {
    gpus: usize,
    links: LinkMode,
    /// `time[rank * gpus + gpu]`.
    time: Vec<Nanos>,
    flows: Vec<Flow>,
    /// `transfer[(flow * gpus + from) * gpus + to]`; 0 where there is no link: only linked GPUs are asked about.
    transfer: Vec<Nanos>,
    /// The transfer time of each flow, if that is the same between all GPUs: a table that stays in the cache. Else empty.
    uniform: Vec<Nanos>,
    /// `readers[first_reader[rank]..first_reader[rank + 1]]`: the readers of what an operator makes, with the flows.
    first_reader: Vec<usize>,
    readers: Vec<(u32, u32)>,
    /// `inputs[first_input[rank]..first_input[rank + 1]]`: the flows that an operator reads, with their producers.
    first_input: Vec<usize>,
    inputs: Vec<(u32, u32)>,
    /// `outputs[rank]`: the flows that an operator makes, by tensor id.
    outputs: Vec<Vec<u32>>,

    /// GPU of each operator, by rank.
    gpu: Vec<u32>,
    /// The mapped ranks, ascending.
    mapped: Vec<u32>,
    /// Free links: finish of each mapped operator, and the longest way from its start to the end.
    finish: Vec<Nanos>,
    ways: Vec<Nanos>,
    /// Operators to be timed anew while a path is put in; all false otherwise.
    stale: Vec<bool>,
    /// Free links: the latency of all mapped operators.
    latency: Nanos,
    // What a serial run needs, kept to save allocations.
    missing: Vec<u32>,
    ready: Vec<Nanos>,
    queues: Vec<Vec<u32>>,
    finished: Vec<u32>,
    link_free: Vec<Nanos>,
}

impl ListScheduler {
    /// Nothing mapped yet. `by_rank` lists all operators by priority.
    pub fn new(problem: &Problem, by_rank: &[usize]) -> ListScheduler {
        let (operators, gpus) = (problem.operators(), problem.gpus);
        let mut rank = vec![0u32; operators];
        for (r, &op) in by_rank.iter().enumerate() {
            rank[op] = r as u32;
        }
        let flow = |e: &Edge| Flow { producer: rank[e.producer.index()], consumers: e.consumers.iter().map(|c| rank[c.index()]).collect() };
        let flows: Vec<Flow> = problem.edges.iter().map(flow).collect();
        let mut per_operator = vec![Vec::new(); operators];
        let mut outputs = vec![Vec::new(); operators];
        for (index, flow) in flows.iter().enumerate() {
            outputs[flow.producer as usize].push(index as u32);
            for &consumer in &flow.consumers {
                per_operator[consumer as usize].push((index as u32, flow.producer));
            }
        }
        let readers: Vec<Vec<(u32, u32)>> = outputs
            .iter()
            .map(|made: &Vec<u32>| made.iter().flat_map(|&f| flows[f as usize].consumers.iter().map(move |&c| (f, c))).collect())
            .collect();
        let mut first_reader = vec![0];
        for list in &readers {
            first_reader.push(first_reader[first_reader.len() - 1] + list.len());
        }
        let times = |e: &Edge| e.transfer.iter().flatten().flatten().copied().collect::<Vec<Nanos>>();
        let even = problem.edges.iter().all(|e| times(e).windows(2).all(|w| w[0] == w[1]));
        let uniform = if even { problem.edges.iter().map(|e| times(e).first().copied().unwrap_or(0)).collect() } else { Vec::new() };
        for list in &mut outputs {
            list.sort_by_key(|&flow| problem.edges[flow as usize].tensor);
        }
        let mut first_input = vec![0];
        for list in &per_operator {
            first_input.push(first_input[first_input.len() - 1] + list.len());
        }
        ListScheduler {
            gpus,
            links: if operators > SERIAL_OPERATORS { LinkMode::Free } else { problem.links },
            time: by_rank.iter().flat_map(|&op| problem.time[op].iter().copied()).collect(),
            flows,
            transfer: problem.edges.iter().flat_map(|e| e.transfer.iter().flatten().map(|t| t.unwrap_or(0))).collect(),
            uniform,
            first_reader,
            readers: readers.concat(),
            first_input,
            inputs: per_operator.concat(),
            outputs,
            gpu: vec![UNMAPPED; operators],
            mapped: Vec::new(),
            finish: vec![0; operators],
            ways: vec![0; operators],
            stale: vec![false; operators],
            latency: 0,
            missing: vec![0; operators],
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

    /// Maps `path` (ascending ranks, all unmapped) to the GPU of `candidates` that gives the lowest latency of all mapped operators; the first wins ties.
    pub fn map_to_best(&mut self, path: &[u32], candidates: &[usize]) {
        match self.links {
            LinkMode::Free => self.map_free(path, candidates),
            LinkMode::Serial => {
                let at = self.mapped.partition_point(|&rank| rank < path[0]);
                merge(&mut self.mapped, at, path);
                let mut best = (Nanos::MAX, candidates[0]);
                for &gpu in candidates {
                    self.assign(path, gpu);
                    if let Some(latency) = self.latency_serial(best.0) {
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

    /// With free links a new path makes nothing earlier, and changes nothing before its first operator; and behind its last one, each operator still has the same way
    /// to the end. So a trial times the operators between the two, and adds the ways that lead on from there.
    fn map_free(&mut self, path: &[u32], candidates: &[usize]) {
        let last = path[path.len() - 1];
        let begin = self.mapped.partition_point(|&rank| rank < path[0]);
        let behind = self.mapped.partition_point(|&rank| rank < last);
        let mut free_before = vec![0; self.gpus];
        for &rank in &self.mapped[..begin] {
            free_before[self.gpu[rank as usize] as usize] = self.finish[rank as usize];
        }
        let ways_behind = self.first_ways(behind);
        merge(&mut self.mapped, begin, path);
        let end = behind + path.len();
        let mut best = (Nanos::MAX, candidates[0]);
        for &gpu in candidates {
            self.assign(path, gpu);
            if let Some(latency) = self.window_latency(begin..end, free_before.clone(), &ways_behind, best.0) {
                best = (latency, gpu);
            }
        }
        self.assign(path, best.1);
        self.latency = best.0;
        self.time_on(begin..end, free_before);
        self.ways_back(begin..end, ways_behind);
    }

    /// Times all operators of `window`, which trials have left with any times, and of those behind it the ones that come later for it.
    fn time_on(&mut self, window: Range<usize>, mut free: Vec<Nanos>) {
        // Whether the operator before on the same GPU may have changed.
        let mut later = vec![true; self.gpus];
        for at in window.start..self.mapped.len() {
            let rank = self.mapped[at] as usize;
            let gpu = self.gpu[rank] as usize;
            let stale = std::mem::take(&mut self.stale[rank]);
            if at >= window.end && !stale && !later[gpu] {
                free[gpu] = self.finish[rank];
                continue;
            }
            let before = self.finish[rank];
            later[gpu] = self.time_next(rank, &mut free) != before || at < window.end;
            if later[gpu] {
                for index in self.first_reader[rank]..self.first_reader[rank + 1] {
                    let reader = self.readers[index].1 as usize;
                    self.stale[reader] = self.gpu[reader] != UNMAPPED;
                }
            }
        }
    }

    /// In the same way, the longest ways to the end, from the back.
    fn ways_back(&mut self, window: Range<usize>, mut next: Vec<Nanos>) {
        let mut longer = vec![true; self.gpus];
        for at in (0..window.end).rev() {
            let rank = self.mapped[at] as usize;
            let gpu = self.gpu[rank] as usize;
            let stale = std::mem::take(&mut self.stale[rank]);
            if at < window.start && !stale && !longer[gpu] {
                next[gpu] = self.ways[rank];
                continue;
            }
            let before = self.ways[rank];
            next[gpu] = self.time[rank * self.gpus + gpu] + next[gpu].max(self.way_out(rank, 0));
            self.ways[rank] = next[gpu];
            longer[gpu] = next[gpu] != before || at >= window.start;
            if longer[gpu] {
                for index in self.first_input[rank]..self.first_input[rank + 1] {
                    let producer = self.inputs[index].1 as usize;
                    self.stale[producer] = self.gpu[producer] != UNMAPPED;
                }
            }
        }
    }

    /// For each GPU, the way to the end from its first operator at or behind place `at` of the mapped ones.
    fn first_ways(&self, at: usize) -> Vec<Nanos> {
        let mut ways = vec![None; self.gpus];
        let mut missing = self.gpus;
        for &rank in &self.mapped[at..] {
            let slot = &mut ways[self.gpu[rank as usize] as usize];
            if slot.is_none() {
                *slot = Some(self.ways[rank as usize]);
                missing -= 1;
                if missing == 0 {
                    break;
                }
            }
        }
        ways.into_iter().map(|way| way.unwrap_or(0)).collect()
    }

    /// The longest way from the finish of an operator through a mapped reader of rank `from` or more.
    fn way_out(&self, rank: usize, from: u32) -> Nanos {
        let gpu = self.gpu[rank] as usize;
        let mut longest = 0;
        for &(flow, consumer) in &self.readers[self.first_reader[rank]..self.first_reader[rank + 1]] {
            let to = self.gpu[consumer as usize];
            if consumer >= from && to != UNMAPPED {
                let transfer = if to as usize == gpu { 0 } else { self.transfer(flow, gpu, to as usize) };
                longest = longest.max(transfer + self.ways[consumer as usize]);
            }
        }
        longest
    }

    #[inline]
    fn transfer(&self, flow: u32, from: usize, to: usize) -> Nanos {
        match self.uniform.get(flow as usize) {
            Some(&time) => time,
            None => self.transfer[(flow as usize * self.gpus + from) * self.gpus + to],
        }
    }

    /// Times the operator that comes next, after those that it reads.
    fn time_next(&mut self, rank: usize, free: &mut [Nanos]) -> Nanos {
        let gpus = self.gpus;
        let gpu = self.gpu[rank] as usize;
        let mut start = free[gpu];
        for &(flow, producer) in &self.inputs[self.first_input[rank]..self.first_input[rank + 1]] {
            let from = self.gpu[producer as usize];
            if from == UNMAPPED {
                continue;
            }
            let mut arrival = self.finish[producer as usize];
            if from as usize != gpu {
                arrival += self.transfer(flow, from as usize, gpu);
            }
            start = start.max(arrival);
        }
        let finish = start + self.time[rank * gpus + gpu];
        self.finish[rank] = finish;
        free[gpu] = finish;
        finish
    }

    /// The latency of all mapped operators, if it is below `bound`. Those at the places of `window` are new or may be later than before.
    fn window_latency(&mut self, window: Range<usize>, mut free: Vec<Nanos>, ways_behind: &[Nanos], bound: Nanos) -> Option<Nanos> {
        let mut latency = self.latency;
        let behind = self.mapped[window.end - 1] + 1;
        for at in window {
            if latency >= bound {
                return None;
            }
            let rank = self.mapped[at] as usize;
            latency = latency.max(self.time_next(rank, &mut free) + self.way_out(rank, behind));
        }
        let on = free.iter().zip(ways_behind).map(|(free, way)| free + way).max().unwrap_or(0);
        Some(latency.max(on)).filter(|&latency| latency < bound)
    }

    fn latency_serial(&mut self, bound: Nanos) -> Option<Nanos> {
        let gpus = self.gpus;
        self.link_free.fill(0);
        self.queues.iter_mut().for_each(Vec::clear);
        for &rank in &self.mapped {
            let r = rank as usize;
            let inputs = &self.inputs[self.first_input[r]..self.first_input[r + 1]];
            self.missing[r] = inputs.iter().filter(|&&(_, producer)| self.gpu[producer as usize] != UNMAPPED).count() as u32;
            self.ready[r] = 0;
            self.queues[self.gpu[r] as usize].push(rank);
        }
        let mut next = vec![0usize; gpus];
        let mut free = vec![0; gpus];
        // Finish of the operator that each GPU runs; `MAX` when it waits.
        let mut running = vec![Nanos::MAX; gpus];
        let mut arrived = vec![(u32::MAX, 0); gpus];
        let mut latency = 0;
        loop {
            for gpu in 0..gpus {
                if running[gpu] != Nanos::MAX {
                    continue;
                }
                let Some(&rank) = self.queues[gpu].get(next[gpu]) else { continue };
                if self.missing[rank as usize] > 0 {
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
            // Each comes from another GPU, so they use different links, and their order does not matter.
            for &rank in &self.finished {
                let from = self.gpu[rank as usize] as usize;
                for &flow in &self.outputs[rank as usize] {
                    for &consumer in &self.flows[flow as usize].consumers {
                        let to = self.gpu[consumer as usize];
                        if to == UNMAPPED {
                            continue;
                        }
                        let to = to as usize;
                        if arrived[to].0 != flow {
                            let mut arrival = now;
                            if to != from {
                                let link = from * gpus + to;
                                arrival = now.max(self.link_free[link]) + self.transfer[(flow as usize * gpus + from) * gpus + to];
                                self.link_free[link] = arrival;
                            }
                            arrived[to] = (flow, arrival);
                        }
                        self.missing[consumer as usize] -= 1;
                        let ready = &mut self.ready[consumer as usize];
                        *ready = (*ready).max(arrived[to].1);
                    }
                }
            }
        }
    }
}

/// Merges ascending `path` into ascending `mapped`, whose first `at` entries lie before it: from the back, so that the longer rest moves at once.
fn merge(mapped: &mut Vec<u32>, at: usize, path: &[u32]) {
    let mut end = mapped.len();
    mapped.resize(end + path.len(), 0);
    for (left, &rank) in path.iter().enumerate().rev() {
        let place = at + mapped[at..end].partition_point(|&other| other < rank);
        mapped.copy_within(place..end, place + left + 1);
        mapped[place + left] = rank;
        end = place;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{OpId, TensorId};
    use crate::schedule::{Schedule, Stage, evaluate};

    /// A small generator of our own: any numbers will do.
    struct Draw(u64);

    impl Draw {
        fn below(&mut self, limit: u64) -> u64 {
            self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (self.0 >> 33) % limit
        }
    }

    fn problem(draw: &mut Draw, operators: usize, gpus: usize, links: LinkMode) -> Problem {
        let time = (0..operators).map(|_| (0..gpus).map(|_| 1 + draw.below(9)).collect()).collect();
        let mut edges = Vec::new();
        for from in 0..operators - 1 {
            for _ in 0..draw.below(3) {
                let mut consumers: Vec<OpId> =
                    (0..1 + draw.below(3)).map(|_| OpId::new(from + 1 + draw.below((operators - from - 1) as u64) as usize)).collect();
                consumers.sort_unstable();
                consumers.dedup();
                let transfer = (0..gpus).map(|a| (0..gpus).map(|b| (a != b).then(|| draw.below(9))).collect()).collect();
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
            kinds: Vec::new(),
            stages: Vec::new(),
            merges: Vec::new(),
        }
    }

    /// The problem that is left when only `kept` operators are there.
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

    /// After each path: the GPU chosen is the first of lowest latency by the exact evaluator on the mapped part of the problem.
    #[test]
    fn each_choice_is_the_evaluators() {
        let mut draw = Draw(7);
        for round in 0..300 {
            let links = if round % 2 == 0 { LinkMode::Free } else { LinkMode::Serial };
            let (operators, gpus) = (2 + draw.below(14) as usize, 1 + draw.below(4) as usize);
            let problem = problem(&mut draw, operators, gpus, links);
            problem.check().unwrap();
            // Operator ids are topological here, and may serve as ranks.
            let by_rank: Vec<usize> = (0..operators).collect();
            let candidates: Vec<usize> = (0..gpus).collect();
            let mut scheduler = ListScheduler::new(&problem, &by_rank);
            let mut kept = vec![false; operators];
            while kept.contains(&false) {
                let mut path: Vec<u32> = (0..operators as u32).filter(|&op| !kept[op as usize] && draw.below(4) == 0).collect();
                if path.is_empty() {
                    path = vec![kept.iter().position(|k| !k).unwrap() as u32];
                }
                path.iter().for_each(|&op| kept[op as usize] = true);
                scheduler.map_to_best(&path, &candidates);
                let part = restricted(&problem, &kept);
                let latency = |choice: usize| {
                    let gpu = |op: usize| if path.contains(&(op as u32)) { choice } else { scheduler.gpu_of(op) };
                    let placed = (0..operators).filter(|&op| kept[op]).enumerate().map(|(new, op)| (OpId::new(new), gpu(op)));
                    let mut schedule = Schedule { algorithm: "list".into(), gpus: vec![Vec::new(); gpus] };
                    placed.for_each(|(op, gpu)| schedule.gpus[gpu].push(Stage { operators: vec![op] }));
                    evaluate(&part, &schedule).unwrap().latency
                };
                let best = candidates.iter().copied().min_by_key(|&gpu| latency(gpu)).unwrap();
                assert_eq!(scheduler.gpu_of(path[0] as usize), best, "round {round}, path {path:?}");
            }
        }
    }
}
