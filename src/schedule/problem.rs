//! Where a [`Problem`] comes from, and what makes one sound.
//!
//! A problem is built from a graph with its costs ([`Problem::new`]), or from the text form of
//! published scheduling graphs ([`Problem::from_dag_text`]). Both end in [`Problem::check`], so the
//! algorithms can rely on their input:
//!
//! 1. Every table has one row per operator and one column per GPU, and every id is in range.
//! 2. An operator takes at least 1 ns. (An operator that took no time could finish at the instant
//!    at which it starts. Then "the order in which tensors become ready" would not be an order.) A
//!    transfer may take no time.
//! 3. Utilisations are in (0, 1].
//! 4. [`Problem::order`] is a topological order of all operators, so there is no cycle.
//! 5. Memory, cost classes, measured stages and merges match these operators and GPUs. Operators of
//!    one cost class take the same time. No operator of a merge reads another's result.
//! 6. The sum of all times, each taken at its worst, is below 2^62 ns, so no sum of times
//!    overflows.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use super::{Edge, LinkMode, Memory, MergeCost, Problem, StageCost};
use crate::cost::{CostTable, GroupedLaunch, OperatorCost};
use crate::device::Nanos;
use crate::error::{Error, Result};
use crate::graph::{Graph, Origin};
use crate::ids::{OpId, TensorId};

/// The most GPUs that a problem may offer: transfer tables grow with the square of their number.
const MAX_GPUS: usize = 64;

/// An upper limit on all sums of times.
const MAX_TOTAL: u128 = 1 << 62;

impl Problem {
    /// The scheduling problem of `graph` with these costs. It has one edge for each root tensor
    /// that one operator computes and another one reads.
    pub fn new(graph: &Graph, costs: &CostTable, links: LinkMode) -> Result<Problem> {
        let gpus = costs.gpus.len();
        let operators = graph.operators.len();
        if costs.operators.len() != operators {
            let message =
                format!("the cost table has {} operators, the graph {operators}: it belongs to another model", costs.operators.len());
            return Err(Error::Usage(message));
        }
        if costs.operators.iter().any(|row| row.len() != gpus)
            || costs.links.len() != gpus
            || costs.links.iter().any(|row| row.len() != gpus)
        {
            return Err(Error::Usage(format!("the cost table does not have {gpus} GPUs throughout")));
        }
        if let Some(link) = costs.links.iter().flatten().flatten().find(|l| !(l.bandwidth.is_finite() && l.bandwidth > 0.0)) {
            return Err(Error::Usage(format!("a link has a bandwidth of {} bytes/s", link.bandwidth)));
        }
        let order = graph.topological_order().ok_or_else(|| Error::internal("schedule", "the graph has a cycle"))?;

        let mut edges = Vec::new();
        for (index, consumers) in graph.consumers().into_iter().enumerate() {
            let tensor = TensorId::new(index);
            let Origin::Operator(producer) = graph.tensor(tensor).origin else { continue };
            if consumers.is_empty() {
                continue;
            }
            let bytes = graph.tensor(tensor).bytes();
            let transfer = costs.links.iter().map(|row| row.iter().map(|link| link.map(|l| l.time(bytes))).collect()).collect();
            edges.push(Edge { tensor, producer, consumers, transfer });
        }
        let cost_classes = cost_classes(costs);
        let problem = Problem {
            time: costs.operators.iter().map(|row| row.iter().map(|c| c.time).collect()).collect(),
            utilisation: costs.operators.iter().map(|row| row.iter().map(|c| c.utilisation).collect()).collect(),
            edges,
            links,
            order,
            gpus,
            memory: weights(graph, costs),
            stages: measured_stages(costs, &cost_classes),
            cost_classes,
            operator_merges: operator_merges(costs),
        };
        problem.check()?;
        Ok(problem)
    }

    /// A problem on `gpus` equal GPUs, from the text form of published scheduling graphs.
    ///
    /// The text has the number of operators; one line per operator, `id time utilisation`; the
    /// number of dependencies; and one line per dependency, `from to time`. Times are milliseconds,
    /// rounded half up to nanoseconds. Ids are 0, 1, 2, ..., with lines in any order, and need not
    /// be topological. Each dependency is a tensor of its own (`t0` is the first). Its time is the
    /// transfer time to any other GPU.
    pub fn from_dag_text(text: &str, gpus: usize, links: LinkMode) -> Result<Problem> {
        if !(1..=MAX_GPUS).contains(&gpus) {
            return Err(Error::Usage(format!("{gpus} GPUs: between 1 and {MAX_GPUS} are possible")));
        }
        let mut lines = Lines { lines: text.lines().enumerate().collect(), next: 0 };

        let operators = lines.count("operators")?;
        let mut rows: Vec<Option<(Nanos, f64)>> = vec![None; operators];
        for _ in 0..operators {
            let line = lines.fields(["id", "time", "utilisation"])?;
            let id = line.id(0, operators)?;
            let time = line.milliseconds(1)?;
            if time == 0 {
                return Err(line.error(format!("time {} is below one nanosecond", line.fields[1])));
            }
            let utilisation = line.number(2)?;
            if !(utilisation > 0.0 && utilisation <= 1.0) {
                return Err(line.error(format!("utilisation {utilisation} is not in (0, 1]")));
            }
            if rows[id].replace((time, utilisation)).is_some() {
                return Err(line.error(format!("operator {id} appears twice")));
            }
        }
        let rows: Vec<(Nanos, f64)> = rows.into_iter().flatten().collect();

        let count = lines.count("dependencies")?;
        let mut edges = Vec::new();
        let mut numbers = Vec::new();
        for index in 0..count {
            let line = lines.fields(["from", "to", "time"])?;
            let (from, to) = (line.id(0, operators)?, line.id(1, operators)?);
            if from == to {
                return Err(line.error(format!("operator {from} depends on itself")));
            }
            let time = line.milliseconds(2)?;
            numbers.push(line.number);
            let transfer = (0..gpus).map(|a| (0..gpus).map(|b| (a != b).then_some(time)).collect()).collect();
            edges.push(Edge { tensor: TensorId::new(index), producer: OpId::new(from), consumers: vec![OpId::new(to)], transfer });
        }
        lines.end()?;

        let order = topological_order(operators, &edges).map_err(|edge| {
            line_error(numbers[edge], format!("a cycle: operator {} depends on itself through others", edges[edge].producer.0))
        })?;
        let problem = Problem {
            time: rows.iter().map(|&(time, _)| vec![time; gpus]).collect(),
            utilisation: rows.iter().map(|&(_, utilisation)| vec![utilisation; gpus]).collect(),
            edges,
            links,
            order,
            gpus,
            memory: Memory::default(),
            cost_classes: Vec::new(),
            stages: Vec::new(),
            operator_merges: Vec::new(),
        };
        problem.check()?;
        Ok(problem)
    }

    /// Number of operators.
    pub fn operators(&self) -> usize {
        self.time.len()
    }

    /// t(v) of `op` on `gpu`.
    pub fn operator_time(&self, op: OpId, gpu: usize) -> Nanos {
        self.time[op.index()][gpu]
    }

    /// Whether all weights fit on one GPU.
    pub fn fits_one_gpu(&self) -> bool {
        super::memory::fastest_fitting_gpu(self).is_ok()
    }

    /// The latency of running one operator after the other on the fastest GPU, whether or not all
    /// weights fit there. Speed-ups are relative to this.
    pub fn sequential_latency(&self) -> Nanos {
        (0..self.gpus).map(|gpu| self.time.iter().map(|row| row[gpu]).sum()).min().unwrap_or(0)
    }

    /// All operators, by id.
    pub(super) fn ids(&self) -> impl Iterator<Item = OpId> + use<> {
        (0..self.operators()).map(OpId::new)
    }

    /// The cost class of an operator.
    pub(super) fn cost_class(&self, op: OpId) -> u32 {
        self.cost_classes.get(op.index()).map_or(op.0, |&cost_class| cost_class)
    }

    /// The measured t(S) of independent operators side by side, which may be listed in any order.
    pub(super) fn measured_time(&self, operators: &[OpId], gpu: usize) -> Option<Nanos> {
        if self.stages.is_empty() {
            return None;
        }
        let mut cost_classes: Vec<u32> = operators.iter().map(|&op| self.cost_class(op)).collect();
        cost_classes.sort_unstable();
        let at = self.stages.binary_search_by(|stage| stage.cost_classes.cmp(&cost_classes)).ok()?;
        self.stages[at].times[gpu]
    }

    /// The time of these operators merged into one, listed in any order. `None` if they cannot be
    /// merged.
    pub(super) fn merged_time(&self, operators: &[OpId], gpu: usize) -> Option<Nanos> {
        if self.operator_merges.is_empty() {
            return None;
        }
        let mut sorted = operators.to_vec();
        sorted.sort_unstable();
        let at = self.operator_merges.binary_search_by(|merge| merge.operators.cmp(&sorted)).ok()?;
        Some(self.operator_merges[at].times[gpu])
    }

    /// `positions[op]`: the index of each operator in [`Problem::order`].
    pub fn positions(&self) -> Vec<usize> {
        let mut positions = vec![0; self.operators()];
        for (index, op) in self.order.iter().enumerate() {
            positions[op.index()] = index;
        }
        positions
    }

    /// Checks that the tables are sound: the list at the top of `schedule/problem.rs`.
    pub fn check(&self) -> Result<()> {
        let (operators, gpus) = (self.operators(), self.gpus);
        let fail = |message: String| Err(Error::Usage(format!("not a scheduling problem: {message}")));
        if !(1..=MAX_GPUS).contains(&gpus) {
            return fail(format!("{gpus} GPUs; between 1 and {MAX_GPUS} are possible"));
        }
        if self.utilisation.len() != operators || self.order.len() != operators {
            return fail("tables of different lengths".into());
        }
        let mut total: u128 = 0;
        for (op, (times, utilisations)) in self.time.iter().zip(&self.utilisation).enumerate() {
            if times.len() != gpus || utilisations.len() != gpus {
                return fail(format!("operator {op} does not have one time per GPU"));
            }
            if times.contains(&0) {
                return fail(format!("operator {op} takes no time"));
            }
            if utilisations.iter().any(|&u| !(u > 0.0 && u <= 1.0)) {
                return fail(format!("operator {op} has a utilisation outside (0, 1]"));
            }
            total += u128::from(times.iter().copied().max().unwrap_or(0));
        }
        let mut position = vec![usize::MAX; operators];
        for (index, op) in self.order.iter().enumerate() {
            match position.get_mut(op.index()) {
                Some(slot) if *slot == usize::MAX => *slot = index,
                _ => return fail(format!("the order names operator {op} twice, or it does not exist")),
            }
        }
        for edge in &self.edges {
            let tensor = edge.tensor;
            if edge.transfer.len() != gpus || edge.transfer.iter().any(|row| row.len() != gpus) {
                return fail(format!("tensor {tensor} does not have one transfer time per GPU pair"));
            }
            if edge.consumers.is_empty() || edge.consumers.windows(2).any(|w| w[0] >= w[1]) {
                return fail(format!("the consumers of tensor {tensor} are not ascending"));
            }
            if edge.producer.index() >= operators || edge.consumers.iter().any(|op| op.index() >= operators) {
                return fail(format!("tensor {tensor} belongs to an operator that does not exist"));
            }
            if edge.consumers.iter().any(|op| position[op.index()] <= position[edge.producer.index()]) {
                return fail(format!("the order puts a consumer of tensor {tensor} before its producer {}", edge.producer));
            }
            let slowest = edge.transfer.iter().flatten().flatten().copied().max().unwrap_or(0);
            total += u128::from(slowest) * gpus as u128;
        }
        let mut tensors: Vec<TensorId> = self.edges.iter().map(|e| e.tensor).collect();
        tensors.sort_unstable();
        if tensors.windows(2).any(|w| w[0] == w[1]) {
            return fail("a tensor has two edges".into());
        }
        let stage_times =
            self.stages.iter().flat_map(|s| s.times.iter().flatten()).chain(self.operator_merges.iter().flat_map(|m| &m.times));
        total += u128::from(stage_times.copied().max().unwrap_or(0)) * operators as u128;
        if total >= MAX_TOTAL {
            return fail("the times add up to more than 2^62 ns".into());
        }
        self.check_memory().and_then(|()| self.check_stages()).and_then(|()| self.check_operator_merges()).or_else(fail)
    }

    fn check_memory(&self) -> Result<(), String> {
        let memory = &self.memory;
        let (operators, gpus) = (memory.reads.len(), memory.capacity.len());
        if *memory != Memory::default() && (operators != self.operators() || gpus != self.gpus) {
            return Err(format!("memory of {operators} operators and {gpus} GPUs"));
        }
        if memory.constants.iter().map(|&c| u128::from(c)).sum::<u128>() >= MAX_TOTAL {
            return Err("the weights add up to more than 2^62 bytes".into());
        }
        let sound =
            |reads: &Vec<u32>| reads.is_sorted_by(|a, b| a < b) && reads.last().is_none_or(|&c| (c as usize) < memory.constants.len());
        match memory.reads.iter().position(|reads| !sound(reads)) {
            Some(op) => Err(format!("the constants of operator {op} are not ascending, or unknown")),
            None => Ok(()),
        }
    }

    fn check_stages(&self) -> Result<(), String> {
        if !self.cost_classes.is_empty() {
            if self.cost_classes.len() != self.operators() {
                return Err(format!("cost classes of {} operators", self.cost_classes.len()));
            }
            // Operators of one cost class have the same times.
            let mut first = BTreeMap::new();
            for (op, &cost_class) in self.cost_classes.iter().enumerate() {
                let other = *first.entry(cost_class).or_insert(op);
                if self.time[op] != self.time[other] {
                    return Err(format!("operators {other} and {op} are of one cost class, but take different times"));
                }
            }
        }
        if !self.stages.is_sorted_by(|a, b| a.cost_classes < b.cost_classes) {
            return Err("the measured stages are not ascending".into());
        }
        for StageCost { cost_classes, times } in &self.stages {
            if cost_classes.len() < 2 || !cost_classes.is_sorted() {
                return Err(format!("the cost classes of the measured stage {cost_classes:?} must be two or more, ascending"));
            }
            if times.len() != self.gpus || times.contains(&Some(0)) {
                return Err(format!("the measured stage {cost_classes:?} does not have one time per GPU, or one of its times is 0"));
            }
        }
        Ok(())
    }

    fn check_operator_merges(&self) -> Result<(), String> {
        if !self.operator_merges.is_sorted_by(|a, b| a.operators < b.operators) {
            return Err("the operator merges are not ascending".into());
        }
        for MergeCost { operators, times } in &self.operator_merges {
            let ascending = operators.is_sorted_by(|a, b| a < b) && operators.last().is_some_and(|op| op.index() < self.operators());
            if operators.len() < 2 || !ascending {
                return Err(format!("the operators of the merge {operators:?} must be two or more operators of the graph, ascending"));
            }
            if times.len() != self.gpus || times.contains(&0) {
                return Err(format!("the merge {operators:?} does not have one time per GPU, or one of its times is 0"));
            }
            let inside = |op: &OpId| operators.binary_search(op).is_ok();
            if self.edges.iter().any(|e| inside(&e.producer) && e.consumers.iter().any(inside)) {
                return Err(format!("an operator of the merge {operators:?} depends on another"));
            }
        }
        Ok(())
    }
}

/// The cost class of each operator. Operators that run the same kernel in the same time on each GPU
/// are of one cost class. Cost classes are numbered in order of first occurrence.
fn cost_classes(costs: &CostTable) -> Vec<u32> {
    let mut numbers: BTreeMap<Vec<(&str, Nanos)>, u32> = BTreeMap::new();
    let cost_class = |row| {
        let next = numbers.len() as u32;
        *numbers.entry(row).or_insert(next)
    };
    costs.operators.iter().map(|row| row.iter().map(|cost| (cost.kernel.name.as_str(), cost.time)).collect()).map(cost_class).collect()
}

/// The operators that one launch can compute together.
fn operator_merges(costs: &CostTable) -> Vec<MergeCost> {
    let merge = |launch: &GroupedLaunch| {
        let times = launch.costs.iter().map(|cost| cost.time).collect();
        MergeCost { operators: launch.operators.clone(), times }
    };
    costs.grouped_launches.iter().map(merge).collect()
}

/// The measured stages, by cost classes instead of kernels. The time of a stage of kernels on a GPU
/// applies to every combination of cost classes that run these kernels there.
fn measured_stages(costs: &CostTable, cost_classes: &[u32]) -> Vec<StageCost> {
    let gpus = costs.gpus.len();
    // `running[gpu]`: the cost classes that run each kernel there.
    let mut running: Vec<BTreeMap<&str, BTreeSet<u32>>> = vec![BTreeMap::new(); gpus];
    for (row, &cost_class) in costs.operators.iter().zip(cost_classes) {
        for (running, cost) in running.iter_mut().zip(row) {
            running.entry(cost.kernel.name.as_str()).or_default().insert(cost_class);
        }
    }
    let mut stages: BTreeMap<Vec<u32>, Vec<Option<Nanos>>> = BTreeMap::new();
    for (kernels, times) in &costs.stages {
        for (gpu, time) in times.iter().enumerate().filter(|(_, time)| time.is_some()) {
            let mut sets: BTreeSet<Vec<u32>> = BTreeSet::from([Vec::new()]);
            for kernel in kernels {
                let with = |set: &Vec<u32>, &cost_class: &u32| {
                    let mut set = set.clone();
                    set.insert(set.partition_point(|&k| k < cost_class), cost_class);
                    set
                };
                let of_kernel = running[gpu].get(kernel.as_str());
                sets = sets.iter().flat_map(|set| of_kernel.into_iter().flatten().map(move |cost_class| with(set, cost_class))).collect();
            }
            for set in sets {
                stages.entry(set).or_insert_with(|| vec![None; gpus])[gpu] = *time;
            }
        }
    }
    stages.into_iter().map(|(cost_classes, times)| StageCost { cost_classes, times }).collect()
}

/// The constants that operators read, each counted once for every layout that their kernels want,
/// and each GPU's memory as its capacity. A constant occupies whole blocks of 256 bytes, as in the
/// plan. Where GPUs want different layouts, the largest counts.
fn weights(graph: &Graph, costs: &CostTable) -> Memory {
    let mut number = BTreeMap::new();
    let mut constants = Vec::new();
    let mut reads = Vec::with_capacity(graph.operators.len());
    for (operator, row) in graph.operators.iter().zip(&costs.operators) {
        let mut read = BTreeSet::new();
        for (position, &input) in operator.inputs.iter().enumerate() {
            let root = graph.root(input);
            if graph.constant(root).is_none() {
                continue;
            }
            let tensor = graph.tensor(root);
            let layout = |cost: &OperatorCost| {
                let packing = cost.kernel.packing(position);
                (packing.map_or(tensor.bytes(), |p| p.elements().saturating_mul(tensor.dtype.bytes())), packing)
            };
            let (bytes, packing) = row.iter().map(layout).max().unwrap_or((tensor.bytes(), None));
            read.insert(*number.entry((root, packing)).or_insert_with(|| {
                constants.push(bytes.max(1).checked_next_multiple_of(256).unwrap_or(u64::MAX));
                constants.len() as u32 - 1
            }));
        }
        reads.push(read.into_iter().collect());
    }
    Memory { constants, reads, capacity: costs.gpus.iter().map(|gpu| gpu.memory).collect() }
}

/// Kahn's algorithm, taking the ready operator of lowest id first. `Err`: an edge on a cycle.
fn topological_order(operators: usize, edges: &[Edge]) -> Result<Vec<OpId>, usize> {
    let mut waiting = vec![0usize; operators];
    let mut outgoing = vec![Vec::new(); operators];
    for edge in edges {
        for &consumer in &edge.consumers {
            waiting[consumer.index()] += 1;
            outgoing[edge.producer.index()].push(consumer);
        }
    }
    let mut ready: BinaryHeap<Reverse<OpId>> = (0..operators).filter(|&op| waiting[op] == 0).map(|op| Reverse(OpId::new(op))).collect();
    let mut order = Vec::with_capacity(operators);
    while let Some(Reverse(op)) = ready.pop() {
        order.push(op);
        for &next in &outgoing[op.index()] {
            waiting[next.index()] -= 1;
            if waiting[next.index()] == 0 {
                ready.push(Reverse(next));
            }
        }
    }
    let Some(stuck) = waiting.iter().position(|&w| w > 0) else { return Ok(order) };
    // Each remaining operator has a remaining producer. Going back far enough ends on a cycle, and
    // so the edge into the operator there is on it.
    let mut at = OpId::new(stuck);
    let mut edge_into = vec![0; operators];
    for (index, edge) in edges.iter().enumerate().rev().filter(|(_, edge)| waiting[edge.producer.index()] > 0) {
        edge.consumers.iter().for_each(|consumer| edge_into[consumer.index()] = index);
    }
    for _ in 0..operators {
        at = edges[edge_into[at.index()]].producer;
    }
    Err(edge_into[at.index()])
}

/// The lines of a scheduling graph, read one by one.
struct Lines<'t> {
    lines: Vec<(usize, &'t str)>,
    next: usize,
}

/// The fields of one line.
struct Line<'t, const N: usize> {
    number: usize,
    fields: [&'t str; N],
    names: [&'static str; N],
}

fn line_error(number: usize, message: impl std::fmt::Display) -> Error {
    Error::Usage(format!("scheduling graph, line {number}: {message}"))
}

impl<'t> Lines<'t> {
    fn fields<const N: usize>(&mut self, names: [&'static str; N]) -> Result<Line<'t, N>> {
        let Some(&(index, text)) = self.lines.get(self.next) else {
            return Err(line_error(self.lines.len() + 1, format!("the text ends here; `{}` expected", names.join(" "))));
        };
        self.next += 1;
        let mut words = text.split_whitespace();
        let mut fields = [""; N];
        for field in &mut fields {
            *field =
                words.next().ok_or_else(|| line_error(index + 1, format!("`{}` expected, found `{}`", names.join(" "), text.trim())))?;
        }
        match words.next() {
            Some(_) => Err(line_error(index + 1, format!("`{}` expected, found `{}`", names.join(" "), text.trim()))),
            None => Ok(Line { number: index + 1, fields, names }),
        }
    }

    /// Reads the number of `what` lines that follow. Fails if fewer lines are left.
    fn count(&mut self, what: &str) -> Result<usize> {
        let line = self.fields(["count"])?;
        let count: u64 =
            line.fields[0].parse().map_err(|_| line.error(format!("the number of {what} expected, found `{}`", line.fields[0])))?;
        let rest = self.lines.len() - self.next;
        if count > rest as u64 {
            return Err(line.error(format!("{count} {what} announced, but only {rest} lines follow")));
        }
        Ok(count as usize)
    }

    fn end(&self) -> Result<()> {
        match self.lines[self.next..].iter().find(|(_, text)| !text.trim().is_empty()) {
            Some((index, text)) => Err(line_error(index + 1, format!("end of the text expected, found `{}`", text.trim()))),
            None => Ok(()),
        }
    }
}

impl<const N: usize> Line<'_, N> {
    fn error(&self, message: impl std::fmt::Display) -> Error {
        line_error(self.number, message)
    }

    fn id(&self, field: usize, operators: usize) -> Result<usize> {
        match self.fields[field].parse::<u32>() {
            Ok(id) if (id as usize) < operators => Ok(id as usize),
            _ => Err(self.error(format!("`{}` is not the id of one of the {operators} operators", self.fields[field]))),
        }
    }

    fn number(&self, field: usize) -> Result<f64> {
        match self.fields[field].parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(number),
            _ => Err(self.error(format!("{} `{}` is not a number", self.names[field], self.fields[field]))),
        }
    }

    /// Milliseconds as nanoseconds, rounded half up.
    fn milliseconds(&self, field: usize) -> Result<Nanos> {
        let number = self.number(field)?;
        if number < 0.0 {
            return Err(self.error(format!("{} {number} is negative", self.names[field])));
        }
        // Anything above 2^62 is refused later by the check of the sum. The cast saturates.
        Ok((number * 1e6 + 0.5).floor() as Nanos)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::{Link, TargetGpu};
    use crate::graph::{DType, Elementwise, Expr, OpKind, Operator, Tensor};
    use crate::kernel::Kernel;

    /// A change that makes a problem invalid.
    type Corruption = fn(&mut Problem);

    const DIAMOND: &str = "4\n0 1.5 0.5\n2 0.000001 1\n1 2 0.25\n3 1 1\n4\n0 1 0.5\n0 2 0\n1 3 0.25\n2 3 1\n";

    #[test]
    fn reads_a_scheduling_graph() {
        let p = Problem::from_dag_text(DIAMOND, 2, LinkMode::Free).unwrap();
        assert_eq!(p.time, [[1_500_000; 2], [2_000_000; 2], [1; 2], [1_000_000; 2]]);
        assert_eq!(p.utilisation[1], [0.25; 2]);
        assert_eq!(p.order, [OpId(0), OpId(1), OpId(2), OpId(3)]);
        assert_eq!(p.edges[3].consumers, [OpId(3)]);
        assert_eq!(p.edges[0].transfer, [[None, Some(500_000)], [Some(500_000), None]]);
    }

    #[test]
    fn order_follows_edges_not_ids() {
        let p = Problem::from_dag_text("3\n0 1 1\n1 1 1\n2 1 1\n2\n2 0 1\n0 1 1\n", 1, LinkMode::Free).unwrap();
        assert_eq!(p.order, [OpId(2), OpId(0), OpId(1)]);
    }

    #[test]
    fn every_broken_text_is_an_error_that_names_the_line() {
        let broken = [
            ("", "line 1: the text ends here; `count` expected"),
            ("x", "line 1: the number of operators expected, found `x`"),
            ("-1", "line 1: the number of operators expected, found `-1`"),
            ("18446744073709551615\n0 1 1\n0\n", "line 1: 18446744073709551615 operators announced, but only 2 lines follow"),
            ("2\n0 1 1\n", "line 1: 2 operators announced, but only 1 lines follow"),
            ("2\n0 1 1\n1 1\n0\n", "line 3: `id time utilisation` expected, found `1 1`"),
            ("1\n0 1 1 1\n0\n", "line 2: `id time utilisation` expected, found `0 1 1 1`"),
            ("2\n0 1 1\n0 1 1\n0\n", "line 3: operator 0 appears twice"),
            ("2\n0 1 1\n2 1 1\n0\n", "line 3: `2` is not the id of one of the 2 operators"),
            ("1\n0 -1 1\n0\n", "line 2: time -1 is negative"),
            ("1\n0 NaN 1\n0\n", "line 2: time `NaN` is not a number"),
            ("1\n0 inf 1\n0\n", "line 2: time `inf` is not a number"),
            ("1\n0 0 1\n0\n", "line 2: time 0 is below one nanosecond"),
            ("1\n0 1 0\n0\n", "line 2: utilisation 0 is not in (0, 1]"),
            ("1\n0 1 1.5\n0\n", "line 2: utilisation 1.5 is not in (0, 1]"),
            ("1\n0 1 1\n", "line 3: the text ends here; `count` expected"),
            ("1\n0 1 1\n1\n0 0 1\n", "line 4: operator 0 depends on itself"),
            ("1\n0 1 1\n1\n0 7 1\n", "line 4: `7` is not the id of one of the 1 operators"),
            ("2\n0 1 1\n1 1 1\n1\n0 1 -2\n", "line 5: time -2 is negative"),
            ("2\n0 1 1\n1 1 1\n2\n0 1 1\n", "line 4: 2 dependencies announced, but only 1 lines follow"),
            ("2\n0 1 1\n1 1 1\n2\n0 1 1\n1 0 1\n", "line 6: a cycle: operator 1 depends on itself through others"),
            ("1\n0 1 1\n0\nmore\n", "line 4: end of the text expected, found `more`"),
            ("1\n0 1e300 1\n0\n", "the times add up to more than 2^62 ns"),
        ];
        for (text, expected) in broken {
            let error = Problem::from_dag_text(text, 2, LinkMode::Free).unwrap_err().to_string();
            assert!(error.contains(expected), "{text:?}: {error}");
        }
        assert!(Problem::from_dag_text(DIAMOND, 0, LinkMode::Free).is_err());
        assert!(Problem::from_dag_text(DIAMOND, 65, LinkMode::Free).is_err());
    }

    #[test]
    fn check_finds_unsound_tables() {
        let good = Problem::from_dag_text(DIAMOND, 2, LinkMode::Free).unwrap();
        let broken: [(&str, Corruption); 9] = [
            ("takes no time", |p| p.time[1][0] = 0),
            ("one time per GPU", |p| p.time[1] = vec![1]),
            ("different lengths", |p| p.utilisation.truncate(3)),
            ("outside (0, 1]", |p| p.utilisation[0][1] = f64::NAN),
            ("before its producer", |p| p.order.swap(0, 1)),
            ("twice", |p| p.order[3] = OpId(0)),
            ("not ascending", |p| p.edges[0].consumers.clear()),
            ("two edges", |p| p.edges[1].tensor = p.edges[0].tensor),
            ("does not exist", |p| p.edges[0].consumers = vec![OpId(9)]),
        ];
        for (expected, break_it) in broken {
            let mut p = good.clone();
            break_it(&mut p);
            let error = p.check().unwrap_err().to_string();
            assert!(error.contains(expected), "{expected}: {error}");
        }
        good.check().unwrap();
    }

    /// `x ─▶ 0 ─▶ a ─▶ 1 ─▶ b`, and `2` reads `b` and a view of `a`. Its output is the model's
    /// output, which no operator reads.
    fn graph_with_a_view() -> Graph {
        let mut graph = Graph::default();
        let mut tensor = |name: &str, origin| {
            let tensor = Tensor { name: name.into(), dtype: DType::F32, shape: vec![250], origin };
            graph.add_tensor(tensor)
        };
        let (x, a, b, c) = (tensor("x", Origin::Input), tensor("a", Origin::Input), tensor("b", Origin::Input), tensor("c", Origin::Input));
        let view = tensor("a_flat", Origin::View(a));
        for (name, inputs, output) in [("0", vec![x], a), ("1", vec![a], b), ("2", vec![b, view], c)] {
            let kind = OpKind::Elementwise(Elementwise { expr: Expr::identity() });
            graph.add_operator(Operator { name: name.into(), kind, inputs, outputs: vec![output] });
        }
        (graph.inputs, graph.outputs) = (vec![x], vec![c]);
        graph
    }

    fn costs(operators: usize) -> CostTable {
        let kernel = Kernel { name: "k".into(), ..Kernel::default() };
        let link = Some(Link { latency: 100, bandwidth: 1e9 });
        CostTable {
            source: "test".into(),
            gpus: vec![TargetGpu { device: "a40".into(), compute_capability: (8, 6), memory: 1 }; 2],
            operators: vec![vec![OperatorCost { time: 5, utilisation: 0.5, kernel }; 2]; operators],
            links: vec![vec![None, link], vec![link, None]],
            stages: Default::default(),
            grouped_launches: Vec::new(),
        }
    }

    /// Operators 0 and 1 run kernel `k`; 2 runs `l` on the second GPU only. The measured times of
    /// `k + k` and `k + l` apply to each set of operators that runs these kernels.
    #[test]
    fn measured_stages_are_known_by_kind() {
        let mut costs = costs(3);
        costs.operators[2][1].kernel.name = "l".into();
        let names = |a: &str, b: &str| vec![a.to_string(), b.to_string()];
        costs.stages =
            [(names("k", "k"), vec![Some(7), Some(8)]), (names("k", "l"), vec![None, Some(9)]), (names("l", "x"), vec![Some(1); 2])].into();
        let p = Problem::new(&graph_with_a_view(), &costs, LinkMode::Serial).unwrap();
        assert_eq!(p.cost_classes, [0, 0, 1]);
        let stage =
            |cost_classes: [u32; 2], times: [Option<Nanos>; 2]| StageCost { cost_classes: cost_classes.to_vec(), times: times.to_vec() };
        assert_eq!(p.stages, [stage([0, 0], [Some(7), Some(8)]), stage([0, 1], [Some(7), Some(9)]), stage([1, 1], [Some(7), None])]);
        assert_eq!(p.measured_time(&[OpId(2), OpId(1)], 1), Some(9));
        assert_eq!(p.measured_time(&[OpId(2), OpId(1), OpId(0)], 1), None);
    }

    #[test]
    fn views_lead_to_the_tensor_that_owns_the_bytes() {
        let p = Problem::new(&graph_with_a_view(), &costs(3), LinkMode::Serial).unwrap();
        let edges: Vec<_> =
            p.edges.iter().map(|e| (e.tensor.0, e.producer.0, e.consumers.iter().map(|c| c.0).collect::<Vec<_>>())).collect();
        assert_eq!(edges, [(1, 0, vec![1, 2]), (2, 1, vec![2])]);
        // 100 ns latency, and 1000 bytes at 1 byte per nanosecond.
        assert_eq!(p.edges[0].transfer, [[None, Some(1100)], [Some(1100), None]]);
        assert_eq!(p.order, [OpId(0), OpId(1), OpId(2)]);
    }

    #[test]
    fn costs_of_another_model_are_refused() {
        let error = Problem::new(&graph_with_a_view(), &costs(2), LinkMode::Free).unwrap_err().to_string();
        assert_eq!(error, "the cost table has 2 operators, the graph 3: it belongs to another model");
        let mut uneven = costs(3);
        uneven.operators[1].pop();
        assert!(Problem::new(&graph_with_a_view(), &uneven, LinkMode::Free).is_err());
        let mut dead_link = costs(3);
        dead_link.links[0][1] = Some(Link { latency: 0, bandwidth: 0.0 });
        assert!(Problem::new(&graph_with_a_view(), &dead_link, LinkMode::Free).is_err());
    }
}
