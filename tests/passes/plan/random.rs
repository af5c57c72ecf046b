//! Random graphs, schedules and timelines for the planner's tests, drawn from a tape of numbers so
//! that proptest can shrink them.

use hiosc::cost::{CostTable, GroupedLaunch, OperatorCost};
use hiosc::device::{Link, Nanos, TargetGpu};
use hiosc::graph::{Binary, Concat, Constant, DType, Elementwise, Expr, Graph, OpKind, Operator, Origin, Tensor};
use hiosc::ids::{GpuId, OpId, TensorId};
use hiosc::kernel::{Kernel, Packing};
use hiosc::schedule::{Schedule, Stage, StageTime, Timeline, Transfer};
use rand_xoshiro::SplitMix64;
use rand_xoshiro::rand_core::{Rng, SeedableRng};

/// A tape of random numbers; after its end, zeros.
pub struct NumberTape<I>(pub I);

impl<I: Iterator<Item = u32>> NumberTape<I> {
    /// A number below `n`.
    pub fn pick(&mut self, n: usize) -> usize {
        self.0.next().unwrap_or(0) as usize % n
    }

    /// True once in `n`; false after the end.
    pub fn once_in(&mut self, n: usize) -> bool {
        self.pick(n) == n - 1
    }

    fn of<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.pick(list.len())]
    }
}

/// An endless tape from SplitMix64.
pub fn seeded(seed: u64) -> NumberTape<impl Iterator<Item = u32>> {
    let mut rng = SplitMix64::seed_from_u64(seed);
    NumberTape(std::iter::repeat_with(move || (rng.next_u64() >> 16) as u32))
}

/// Everything a plan is made from.
#[derive(Clone, Debug)]
pub struct PlanCase {
    pub graph: Graph,
    pub costs: CostTable,
    pub schedule: Schedule,
    pub timeline: Timeline,
}

impl PlanCase {
    pub fn new(graph: Graph, stages: &[&[&[u32]]]) -> PlanCase {
        let stage = |ops: &&[u32]| Stage { operators: ops.iter().map(|&op| OpId(op)).collect() };
        let gpus = stages.iter().map(|list| list.iter().map(stage).collect()).collect();
        PlanCase::timed(graph, Schedule { algorithm: "random".into(), gpus }, |_| 1000, 500)
    }

    /// With a timeline in which operators take `time`, and transfers all `transfer`.
    pub fn timed(graph: Graph, schedule: Schedule, time: impl Fn(OpId) -> Nanos, transfer: Nanos) -> PlanCase {
        let timeline = timeline(&graph, &schedule, time, transfer);
        let mut costs = costs(schedule.gpus.len());
        let cost = OperatorCost { time: 1, utilisation: 1.0, kernel: Kernel::default() };
        costs.operators = vec![vec![cost; schedule.gpus.len()]; graph.operators.len()];
        PlanCase { graph, costs, schedule, timeline }
    }
}

/// GPUs with plenty of memory, all linked.
pub fn costs(gpus: usize) -> CostTable {
    let gpu = TargetGpu { device: "test".into(), compute_capability: (8, 6), memory: 1 << 40 };
    let link = |from: usize, to: usize| (from != to).then_some(Link { latency: 1, bandwidth: 1e9 });
    let links = (0..gpus).map(|from| (0..gpus).map(|to| link(from, to)).collect()).collect();
    CostTable {
        source: "test".into(),
        gpus: vec![gpu; gpus],
        operators: Vec::new(),
        links,
        stages: Default::default(),
        grouped_launches: Vec::new(),
    }
}

pub fn tensor(graph: &mut Graph, name: &str, shape: [usize; 2], origin: Origin) -> TensorId {
    let name = if name.is_empty() { format!("t{}", graph.tensors.len()) } else { name.into() };
    graph.add_tensor(Tensor { name, dtype: DType::F32, shape: shape.into(), origin })
}

pub fn input(graph: &mut Graph, name: &str, length: usize) -> TensorId {
    let id = tensor(graph, name, [1, length], Origin::Input);
    graph.inputs.push(id);
    id
}

pub fn constant(graph: &mut Graph, shape: [usize; 2]) -> TensorId {
    let values = vec![1.0; shape[0] * shape[1]];
    tensor(graph, "", shape, Origin::Constant(Constant::F32(values.into())))
}

/// The same bytes under the turned shape.
pub fn view(graph: &mut Graph, of: TensorId) -> TensorId {
    let shape = &graph.tensor(of).shape;
    let shape = [shape[1], shape[0]];
    tensor(graph, "", shape, Origin::View(of))
}

/// The sum of `inputs`, all of one shape, as one new tensor (or several equal ones, to try
/// operators with more outputs).
pub fn sum(graph: &mut Graph, inputs: &[TensorId], outputs: usize) -> Vec<TensorId> {
    let shape = &graph.tensor(inputs[0]).shape;
    let shape = [shape[0], shape[1]];
    let expr = (1..inputs.len()).fold(Expr::identity(), |sum, i| Expr::binary(Binary::Add, sum, Expr::Input(i)));
    operator(graph, OpKind::Elementwise(Elementwise { expr }), inputs, shape, outputs)
}

fn operator(graph: &mut Graph, kind: OpKind, inputs: &[TensorId], shape: [usize; 2], outputs: usize) -> Vec<TensorId> {
    let outputs: Vec<TensorId> = (0..outputs).map(|_| tensor(graph, "", shape, Origin::Input)).collect();
    let name = format!("op{}", graph.operators.len());
    graph.add_operator(Operator { name, kind, inputs: inputs.to_vec(), outputs: outputs.clone() });
    outputs
}

/// A random graph of at most `most` operators: sums and concatenations, with views, constants,
/// results nobody reads, outputs that are inputs.
pub fn graph<I: Iterator<Item = u32>>(tape: &mut NumberTape<I>, most: usize) -> Graph {
    let mut graph = Graph { name: "random".into(), ..Graph::default() };
    let mut known: Vec<TensorId> = Vec::new();
    for i in 0..1 + tape.pick(3) {
        let length = tape.of(&[64, 50, 100, 200]);
        known.push(input(&mut graph, &format!("x{i}"), length));
    }
    for _ in 0..tape.pick(most + 1) {
        // Recent tensors more often than old ones, so that graphs grow deep as well as wide.
        let near = known.len().min(4);
        let first = if tape.once_in(3) { tape.of(&known) } else { known[known.len() - 1 - tape.pick(near)] };
        let shape = [graph.tensor(first).shape[0], graph.tensor(first).shape[1]];
        let alike: Vec<TensorId> = known.iter().copied().filter(|&t| graph.tensor(t).shape == shape).collect();
        let new = if tape.once_in(6) && shape[1] < 1000 {
            let second = tape.of(&alike);
            let shape = [shape[0], 2 * shape[1]];
            if can_be_joined(&graph, &[first, second]) {
                let parts = vec![graph.root(first), graph.root(second)];
                vec![tensor(&mut graph, "", shape, Origin::Joined(parts))]
            } else {
                operator(&mut graph, OpKind::Concat(Concat { axis: 1 }), &[first, second], shape, 1)
            }
        } else {
            let mut inputs = vec![first];
            for _ in 0..tape.pick(3) {
                let another = if tape.once_in(5) { constant(&mut graph, shape) } else { tape.of(&alike) };
                inputs.push(another);
            }
            let outputs = if tape.once_in(12) { 2 } else { 1 };
            sum(&mut graph, &inputs, outputs)
        };
        known.extend(&new);
        if tape.once_in(8) && !is_joined(&graph, new[0]) && graph.tensor(new[0]).elements() >= 16 {
            // 16 bytes or so from an end, or all but these.
            let length = graph.tensor(new[0]).elements();
            let (begin, elements) = tape.of(&[(0, 4), (length - 4, 4), (4, length - 4), (length / 2 / 4 * 4, 4)]);
            known.push(tensor(&mut graph, "", [1, elements as usize], Origin::Slice { of: new[0], begin: begin / 4 * 4 }));
        }
        if tape.once_in(5) {
            let turned = view(&mut graph, new[0]);
            known.push(turned);
            if tape.once_in(2) {
                known.push(view(&mut graph, turned));
            }
        }
    }
    let consumers = graph.consumers();
    let unread = |t: TensorId| consumers[graph.root(t).index()].is_empty();
    let mut outputs: Vec<TensorId> = Vec::new();
    for &t in &known {
        if !is_whole(&graph, t) {
            continue; // no output may be joined or a slice
        }
        let is_input = graph.producer(t).is_none();
        if !is_input && (if unread(t) { !tape.once_in(6) } else { tape.once_in(12) }) || is_input && tape.once_in(15) {
            outputs.push(t);
        }
    }
    let plain: Vec<TensorId> = known.iter().copied().filter(|&t| is_whole(&graph, t)).collect();
    if outputs.is_empty() || tape.once_in(10) {
        outputs.push(plain[plain.len() - 1]);
    }
    graph.outputs = outputs;
    graph
}

fn is_joined(graph: &Graph, t: TensorId) -> bool {
    matches!(graph.tensor(graph.root(t)).origin, Origin::Joined(_))
}

fn is_whole(graph: &Graph, t: TensorId) -> bool {
    !is_joined(graph, t) && graph.tensor(t).elements() == graph.tensor(graph.root(t)).elements()
}

/// Whether these can be adjacent: different results of operators, none a part already, and of whole
/// blocks of 256 bytes, the resolution of the brute force.
fn can_be_joined(graph: &Graph, of: &[TensorId]) -> bool {
    if !of.iter().all(|&t| is_whole(graph, t)) {
        return false;
    }
    let roots: Vec<TensorId> = of.iter().map(|&t| graph.root(t)).collect();
    let taken = |t: &TensorId| graph.tensors.iter().any(|other| matches!(&other.origin, Origin::Joined(parts) if parts.contains(t)));
    let sound =
        |t: &TensorId| matches!(graph.tensor(*t).origin, Origin::Operator(_)) && graph.tensor(*t).bytes().is_multiple_of(256) && !taken(t);
    roots.iter().all(sound) && (1..roots.len()).all(|i| !roots[..i].contains(&roots[i]))
}

/// A random schedule over at most `gpus` GPUs, with a timeline. Stages are sets of operators of one
/// GPU and one wave; an operator's wave is greater than those of its producers, so that stages
/// never form a cycle.
pub fn case<I: Iterator<Item = u32>>(tape: &mut NumberTape<I>, most_operators: usize, most_gpus: usize) -> PlanCase {
    let graph = graph(tape, most_operators);
    let gpus = 1 + tape.pick(most_gpus);
    let spread = tape.pick(3);
    let mut wave = vec![0usize; graph.operators.len()];
    let mut gpu_of = Vec::new();
    for op in graph.op_ids() {
        let producers = graph.operator(op).inputs.iter().flat_map(|&t| graph.producers(t));
        wave[op.index()] = producers.map(|p| wave[p.index()] + 1).max().unwrap_or(0) + if spread > 0 { tape.pick(2 * spread) } else { 0 };
        gpu_of.push(tape.pick(gpus));
    }
    let mut lists = vec![Vec::new(); gpus];
    for w in 0..=wave.iter().copied().max().unwrap_or(0) {
        for (gpu, list) in lists.iter_mut().enumerate() {
            let operators: Vec<OpId> = graph.op_ids().filter(|op| wave[op.index()] == w && gpu_of[op.index()] == gpu).collect();
            if !operators.is_empty() {
                list.push(Stage { operators });
            }
        }
    }
    let times: Vec<Nanos> = graph.op_ids().map(|_| tape.of(&[1000, 0, 1, 2000, 3000])).collect();
    let transfer = tape.of(&[500, 0, 5000]);
    let mut case = PlanCase::timed(graph, Schedule { algorithm: "random".into(), gpus: lists }, |op| times[op.index()], transfer);
    for op in case.graph.op_ids() {
        for gpu in 0..gpus {
            case.costs.operators[op.index()][gpu].kernel = kernel(tape, &case.graph, &[op]);
        }
    }
    // Some stages can be one launch; whether they are depends on their time.
    for stage in case.schedule.gpus.iter().flatten().filter(|stage| stage.operators.len() > 1) {
        if tape.once_in(2) {
            let operators = stage.operators.clone();
            let cost = OperatorCost { time: tape.of(&[0, 1, 2000]), utilisation: 1.0, kernel: kernel(tape, &case.graph, &operators) };
            case.costs.grouped_launches.push(GroupedLaunch { operators, costs: vec![cost; gpus] });
        }
    }
    case.costs.grouped_launches.sort_by(|a, b| a.operators.cmp(&b.operators));
    // Groups are ascending, stages need not be.
    for stage in case.schedule.gpus.iter_mut().flatten() {
        if tape.once_in(2) {
            stage.operators.reverse();
        }
    }
    case
}

/// A kernel that may need a workspace, counters, and packed constants.
fn kernel<I: Iterator<Item = u32>>(tape: &mut NumberTape<I>, graph: &Graph, operators: &[OpId]) -> Kernel {
    let mut kernel = Kernel::default();
    if tape.once_in(4) {
        kernel.workspace_bytes = tape.of(&[256, 512, 100]);
    }
    if tape.once_in(4) {
        kernel.counters = tape.of(&[1, 64, 65]);
    }
    for (position, &input) in operators.iter().flat_map(|&op| &graph.operator(op).inputs).enumerate() {
        if graph.constant(graph.root(input)).is_some() && tape.once_in(3) {
            let rows = graph.tensor(input).elements() as usize;
            kernel.packings.push((position, Packing::TapMajor { groups: 1, rows, channels: 1, taps: 1, transposed: false }));
        }
    }
    kernel
}

/// Longest paths: stages in order on each GPU, each when its data has arrived; a stage lasts as
/// long as its longest operator.
fn timeline(graph: &Graph, schedule: &Schedule, time: impl Fn(OpId) -> Nanos, transfer: Nanos) -> Timeline {
    let mut gpu_of = vec![0; graph.operators.len()];
    for (gpu, list) in schedule.gpus.iter().enumerate() {
        list.iter().flat_map(|stage| &stage.operators).for_each(|op| gpu_of[op.index()] = gpu);
    }
    let mut finish: Vec<Option<Nanos>> = vec![None; graph.operators.len()];
    let mut stages: Vec<Vec<StageTime>> = vec![Vec::new(); schedule.gpus.len()];
    let mut progress = true;
    while progress {
        progress = false;
        for (gpu, stages) in stages.iter_mut().enumerate() {
            while let Some(stage) = schedule.gpus[gpu].get(stages.len()) {
                let ready = |op: &OpId| {
                    let producers = graph.operator(*op).inputs.iter().flat_map(|&t| graph.producers(t));
                    let arrivals = producers.map(|p| finish[p.index()].map(|f| if gpu_of[p.index()] == gpu { f } else { f + transfer }));
                    latest(arrivals)
                };
                let arrived = latest(stage.operators.iter().map(ready));
                let Some(arrived) = arrived else { break };
                let start = stages.last().map_or(0, |previous: &StageTime| previous.finish).max(arrived);
                let end = start + stage.operators.iter().map(|&op| time(op)).max().unwrap_or(0);
                stage.operators.iter().for_each(|op| finish[op.index()] = Some(end));
                stages.push(StageTime { start, finish: end });
                progress = true;
            }
        }
    }
    let mut transfers = Vec::new();
    for op in graph.op_ids() {
        for &tensor in &graph.operator(op).outputs {
            for to in 0..stages.len() {
                let read = |c: &OpId| gpu_of[c.index()] == to && to != gpu_of[op.index()];
                if graph.consumers()[tensor.index()].iter().any(read) {
                    let start = finish[op.index()].unwrap_or(0);
                    let (from, to) = (GpuId::new(gpu_of[op.index()]), GpuId::new(to));
                    transfers.push(Transfer { tensor, from, to, start, finish: start + transfer });
                }
            }
        }
    }
    transfers.sort_by_key(|t| (t.start, t.from, t.to, t.tensor));
    let latency = stages.iter().flatten().map(|stage| stage.finish).max().unwrap_or(0);
    Timeline { stages, transfers, latency }
}

/// The latest of `times`, if all are known.
fn latest(mut times: impl Iterator<Item = Option<Nanos>>) -> Option<Nanos> {
    times.try_fold(0, |latest, time| Some(time?.max(latest)))
}
