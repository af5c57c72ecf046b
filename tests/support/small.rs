//! A small model with everything that the passes after `schedule` care about: branches, a join, two
//! inputs and two outputs, awkward names. Also functions that take it to a plan.

use super::number::{Number, Rounding, constant};

use hiosc::cost::{CostTable, GroupedLaunch, OperatorCost, estimate};
use hiosc::device::{Nanos, Target};
use hiosc::graph::{
    Binary, Concat, Constant, Conv, DType, Elementwise, Expr, Graph, OpKind, Operator, Origin, Pool, PoolKind, Softmax, Tensor, Unary,
};
use hiosc::ids::{OpId, TensorId};
use hiosc::kernel::{Kernel, Member, Packing};
use hiosc::plan::{self, Plan};
use hiosc::program::{self, KernelMode, Program, Shipped};
use hiosc::schedule::{self, Algorithm, LinkMode, Problem, Schedule, Stage, Timeline};

/// Everything that `emit` and `run` need.
pub struct Compiled {
    pub graph: Graph,
    pub costs: CostTable,
    pub schedule: Schedule,
    pub timeline: Timeline,
    pub plan: Plan,
    pub shipped: Shipped,
}

impl Compiled {
    /// The program of this plan.
    pub fn program(&self) -> Program<'_> {
        self.program_with(&self.shipped)
    }

    /// The same with other compiled kernels.
    pub fn program_with<'a>(&'a self, shipped: &'a Shipped) -> Program<'a> {
        let Compiled { graph, costs, schedule, timeline, plan, .. } = self;
        Program::new(graph, costs, schedule, timeline, plan, shipped).expect("a program")
    }
}

/// The small model, planned for up to `gpus` GPUs.
pub fn compiled(algorithm: Algorithm, gpus: usize) -> Compiled {
    plan_of(graph(), algorithm, gpus)
}

/// A graph, planned for up to `gpus` GPUs.
pub fn plan_of(graph: Graph, algorithm: Algorithm, gpus: usize) -> Compiled {
    plan_with(graph, gpus, |_, _| (), |problem| schedule::schedule(problem, algorithm).expect("a schedule"))
}

/// The small model with other kernels for its convolutions. These need packed weights, a workspace,
/// counters and dynamic shared memory.
pub fn demanding(algorithm: Algorithm, gpus: usize) -> Compiled {
    plan_with(graph(), gpus, demand, |problem| schedule::schedule(problem, algorithm).expect("a schedule"))
}

/// The demanding model, with a kernel that computes `/fire/left` and `/fire/right` in one launch,
/// and takes `time`.
pub fn grouped(gpus: usize, time: Nanos, schedule: impl Fn(&Problem) -> Schedule) -> Compiled {
    let with_group = |graph: &Graph, costs: &mut CostTable| {
        demand(graph, costs);
        let operators = vec![OpId(1), OpId(2)];
        assert_eq!(graph.names(&operators), ["/fire/left", "/fire/right"]);
        let cost = OperatorCost { time, utilisation: 1.0, kernel: group_kernel(graph, &operators) };
        costs.grouped_launches = vec![GroupedLaunch { operators, costs: vec![cost; gpus] }];
    };
    plan_with(graph(), gpus, with_group, schedule)
}

/// `/fire/left` and `/fire/right` as one stage of the first GPU, not in the order of their ids;
/// `/fire/deep` and `/fire/deeper` on the second.
pub fn by_hand(_: &Problem) -> Schedule {
    let stages = |list: &[&[u32]]| list.iter().map(|ops| Stage { operators: ops.iter().map(|&op| OpId(op)).collect() }).collect();
    Schedule { algorithm: "by hand".into(), gpus: vec![stages(&[&[0], &[2, 1], &[5], &[6], &[7], &[8, 9]]), stages(&[&[3], &[4]])] }
}

/// Gives all convolutions a demanding kernel.
fn demand(graph: &Graph, costs: &mut CostTable) {
    for (op, row) in graph.op_ids().zip(&mut costs.operators) {
        if let Some(part) = Part::new(graph, op) {
            row.iter_mut().for_each(|cost| cost.kernel = part.kernel());
        }
    }
}

/// What a demanding kernel does for each of its operators, with one thread per output: weights are
/// tap-major, sums go through the workspace, factors through shared memory. Each output has a
/// counter; if one is not zero at the start, the result is not a number. The function's name
/// contains the kernel's, since kernels may be compiled together.
const DEMANDING: &str = "#include \"hiosc.cuh\"

template <int C, int HEIGHT, int WIDTH, int WINDOW>
__device__ void NAME_convolve(int block, const float *x, const float *packed, const float *bias, float *y, float *sums, unsigned *counters,
                               float *factors) {
  int i = block * 64 + threadIdx.x, k = i / (HEIGHT * WIDTH), p = i / WIDTH % HEIGHT, q = i % WIDTH;
  float sum = counters[i] == 0 ? 0.0f : NAN;
  ++counters[i];
  for (int term = 0; term < WINDOW * WINDOW * C; ++term) {
    int tap = term / C, row = p + tap / WINDOW - WINDOW / 2, column = q + tap % WINDOW - WINDOW / 2;
    bool inside = row >= 0 && row < HEIGHT && column >= 0 && column < WIDTH;
    factors[threadIdx.x] = inside ? x[(term % C * HEIGHT + row) * WIDTH + column] : 0.0f;
    sum += packed[term * 128 + k] * factors[threadIdx.x];
  }
  sums[i] = sum;
  float z = sums[i] + bias[k];
  y[i] = z < 0 ? 0 : z;
  counters[i] = 0;
}
";

/// A convolution of one image with a square window, as in [`Maker::conv`].
struct Part {
    c: usize,
    k: usize,
    height: usize,
    width: usize,
    window: usize,
}

impl Part {
    fn new(graph: &Graph, op: OpId) -> Option<Part> {
        let operator = graph.operator(op);
        let OpKind::Conv(conv) = &operator.kind else { return None };
        let shape = |t: TensorId| graph.tensor(t).shape[..].try_into().expect("four axes");
        let ([_, c, height, width], [_, k, ..]): ([usize; 4], [usize; 4]) = (shape(operator.inputs[0]), shape(operator.outputs[0]));
        assert!((k * height * width).is_multiple_of(64), "whole blocks");
        Some(Part { c, k, height, width, window: conv.kernel[0] })
    }

    fn elements(&self) -> usize {
        self.k * self.height * self.width
    }

    fn packing(&self) -> Packing {
        let taps = self.window * self.window;
        Packing::TapMajor { groups: 1, rows: self.k, channels: self.c, taps, transposed: false }
    }

    fn member(&self) -> Member {
        Member { blocks: self.elements() as u64 / 64, trips: (self.window * self.window * self.c) as u64 }
    }

    /// The function of kernel `name`, called with these arguments.
    fn call(&self, name: &str, arguments: &str) -> String {
        format!("{name}_convolve<{}, {}, {}, {}>({arguments}, factors)", self.c, self.height, self.width, self.window)
    }

    fn kernel(&self) -> Kernel {
        let name = format!("demanding_c{}k{}w{}", self.c, self.k, self.window);
        let source = format!(
            "{}
HIOSC_KERNEL_NO_SYNC({name}, 64, (const float *x, const float *packed, const float *bias, float *y, float *sums, unsigned *counters)) {{
  HIOSC_DYNAMIC_SHARED(float, factors);
  {};
}}
",
            DEMANDING.replace("NAME", &name),
            self.call(&name, "blockIdx.x, x, packed, bias, y, sums, counters")
        );
        Kernel {
            name,
            source,
            grid: [self.member().blocks as u32, 1, 1],
            block: [64, 1, 1],
            shared_bytes: 64 * 4,
            trips: vec![self.member().trips],
            workspace_bytes: self.elements() as u64 * 4,
            counters: self.elements() as u32,
            packings: vec![(1, self.packing())],
            ..Kernel::default()
        }
    }
}

/// Both convolutions, the blocks of the first before those of the second.
fn group_kernel(graph: &Graph, operators: &[OpId]) -> Kernel {
    let parts: Vec<Part> = operators.iter().filter_map(|&op| Part::new(graph, op)).collect();
    let [a, b] = &parts[..] else { panic!("two convolutions") };
    let name = format!("grouped_c{}k{}w{}_c{}k{}w{}", a.c, a.k, a.window, b.c, b.k, b.window);
    let blocks = a.member().blocks;
    let source = format!(
        "{}
HIOSC_KERNEL_NO_SYNC({name}, 64,
    (const float *x, const float *packed, const float *bias, const float *x2, const float *packed2, const float *bias2, float *y, float *y2,
     float *sums, unsigned *counters)) {{
  HIOSC_DYNAMIC_SHARED(float, factors);
  if (blockIdx.x < {blocks}) {};
  else {};
}}
",
        DEMANDING.replace("NAME", &name),
        a.call(&name, "blockIdx.x, x, packed, bias, y, sums, counters"),
        b.call(&name, &format!("blockIdx.x - {blocks}, x2, packed2, bias2, y2, sums + {0}, counters + {0}", a.elements()))
    );
    let members: Vec<Member> = parts.iter().map(Part::member).collect();
    Kernel {
        name,
        source,
        grid: [members.iter().map(|m| m.blocks as u32).sum(), 1, 1],
        block: [64, 1, 1],
        shared_bytes: 64 * 4,
        trips: members.iter().map(|m| m.trips).max().into_iter().collect(),
        workspace_bytes: (a.elements() + b.elements()) as u64 * 4,
        counters: (a.elements() + b.elements()) as u32,
        packings: vec![(1, a.packing()), (4, b.packing())],
        members,
        ..Kernel::default()
    }
}

/// A graph, planned with the estimated costs after `change`.
fn plan_with(graph: Graph, gpus: usize, change: impl Fn(&Graph, &mut CostTable), schedule: impl Fn(&Problem) -> Schedule) -> Compiled {
    let target = Target::uniform("a40", gpus, "nvlink").expect("a known target");
    let mut costs = estimate(&graph, &target).expect("costs");
    change(&graph, &mut costs);
    let problem = Problem::new(&graph, &costs, LinkMode::Serial).expect("a problem");
    let schedule = schedule(&problem);
    let timeline = schedule::evaluate(&problem, &schedule).expect("a timeline");
    let options = plan::PlanOptions::default();
    let plan = plan::plan(&graph, &costs, &schedule, &timeline, &options).expect("a plan");
    plan::verify(&graph, Some(&schedule), &options, &plan).expect("a sound plan");
    let shipped = program::ship(&costs, &plan, KernelMode::Source).expect("kernels");
    Compiled { graph, costs, schedule, timeline, plan, shipped }
}

/// Inputs for `graph`, the same every time.
pub fn inputs(graph: &Graph) -> Vec<Constant> {
    let values = |(i, &t): (usize, &TensorId)| {
        let (dtype, values) = (graph.tensor(t).dtype, super::random(40 + i as u64, graph.tensor(t).elements() as usize));
        let cast = |v: f32| match dtype {
            DType::F32 => Number::float(v.into()),
            DType::Bool => Number::float(f64::from(v > 0.0)).cast(dtype, Rounding::Rounded),
            _ => Number::float((100.0 * v).into()).cast(dtype, Rounding::Rounded),
        };
        constant(dtype, &values.into_iter().map(cast).collect::<Vec<_>>())
    };
    graph.inputs.iter().enumerate().map(values).collect()
}

/// ```text
/// data:0 ─ stem ┬─ left ───┬─ join ─ pool ─ scaled ─┬─ /out/1
///               ├─ right ──┘                 │      └─ Type
///               └─ deep ─ deeper ────────────┼─ (joins too)
///                                       `type` (second input)
/// ```
pub fn graph() -> Graph {
    let mut graph = Graph { name: "small: net".into(), ..Graph::default() };
    let mut make = GraphBuilder { graph: &mut graph, seed: 0 };
    let data = make.tensor("data:0", &[1, 3, 16, 16], Origin::Input);
    let scale = make.tensor("type", &[1, 24, 8, 8], Origin::Input);
    let stem = make.conv("/stem", data, 8, 3);
    let left = make.conv("/fire/left", stem, 8, 1);
    let right = make.conv("/fire/right", stem, 8, 3);
    let deep = make.conv("/fire/deep", stem, 8, 3);
    let deeper = make.conv("/fire/deeper", deep, 8, 1);
    let join = make.operator("/fire/`join`", OpKind::Concat(Concat { axis: 1 }), vec![left, right, deeper], &[1, 24, 16, 16]);
    let window = Pool { kind: PoolKind::Max, kernel: [2, 2], strides: [2, 2], dilations: [1, 1], pads_begin: [0, 0], pads_end: [0, 0] };
    let pool = make.operator("/pool", OpKind::Pool(window), vec![join], &[1, 24, 8, 8]);
    let times = Elementwise { expr: Expr::binary(Binary::Mul, Expr::Input(0), Expr::Input(1)) };
    let scaled = make.operator("/scaled", OpKind::Elementwise(times), vec![pool, scale], &[1, 24, 8, 8]);
    let soft = make.operator("/out/1", OpKind::Softmax(Softmax { axis: 1, log: false }), vec![scaled], &[1, 24, 8, 8]);
    let squared = Elementwise { expr: Expr::identity().then(Unary::Square) };
    let square = make.operator("Type", OpKind::Elementwise(squared), vec![scaled], &[1, 24, 8, 8]);
    graph.inputs = vec![data, scale];
    graph.outputs = vec![soft, square];
    graph.verify().expect("a sound graph");
    graph
}

/// Inputs and outputs of several types, one of them without elements:
///
/// ```text
/// ids i64, mask bool, x f32 ─ kept f32 = x where mask, else 0.5
///                           ─ next i64 = 2 ids + 1 (and once more as `again`)
///                           ─ small bool = mask and x < 0.5
///                           ─ rough f16 = kept
/// nothing f32 0x3 ─ nothing
/// ```
pub fn typed() -> Graph {
    let mut graph = Graph { name: "typed".into(), ..Graph::default() };
    let mut make = GraphBuilder { graph: &mut graph, seed: 0 };
    let [ids, mask, x, nothing] = [("ids", DType::I64, 2), ("mask", DType::Bool, 2), ("x", DType::F32, 2), ("nothing", DType::F32, 0)]
        .map(|(name, dtype, rows)| make.graph.add_tensor(Tensor { name: name.into(), dtype, shape: vec![rows, 3], origin: Origin::Input }));
    let mut function = |name: &str, expr: Expr, inputs: Vec<TensorId>| {
        let types: Vec<DType> = inputs.iter().map(|&t| make.graph.tensor(t).dtype).collect();
        let output = make.operator(name, OpKind::Elementwise(Elementwise { expr: expr.clone() }), inputs, &[2, 3]);
        make.graph.tensors[output.index()].dtype = expr.dtype(&types).expect("types that fit");
        output
    };
    let [a, b] = [Expr::Input(0), Expr::Input(1)];
    let kept = function("kept", Expr::select(a.clone(), b.clone(), Expr::number(0.5)), vec![mask, x]);
    let twice = Expr::binary(Binary::Mul, a.clone(), Expr::Const(2.into()));
    let next = function("next", Expr::binary(Binary::Add, twice, Expr::Const(1.into())), vec![ids]);
    let below = Expr::binary(Binary::Less, b, Expr::number(0.5));
    let small = function("small", Expr::binary(Binary::And, a.clone(), below), vec![mask, x]);
    let rough = function("rough", a.cast(DType::F16), vec![kept]);
    let again = graph.add_tensor(Tensor { name: "again".into(), origin: Origin::View(next), ..graph.tensor(next).clone() });
    graph.inputs = vec![ids, mask, x, nothing];
    let passed_on = graph.add_tensor(Tensor { name: "none".into(), origin: Origin::View(nothing), ..graph.tensor(nothing).clone() });
    graph.outputs = vec![kept, next, small, rough, again, passed_on];
    graph.verify().expect("a sound graph");
    graph
}

/// One input that `width` operators square; the results are concatenated.
pub fn fan(width: usize) -> Graph {
    let mut graph = Graph { name: "fan".into(), ..Graph::default() };
    let mut make = GraphBuilder { graph: &mut graph, seed: 0 };
    let x = make.tensor("x", &[1, 4], Origin::Input);
    let square = || OpKind::Elementwise(Elementwise { expr: Expr::identity().then(Unary::Square) });
    let squares = (0..width).map(|i| make.operator(&format!("square{i}"), square(), vec![x], &[1, 4])).collect();
    let all = make.operator("all", OpKind::Concat(Concat { axis: 1 }), squares, &[1, 4 * width]);
    graph.inputs = vec![x];
    graph.outputs = vec![all];
    graph.verify().expect("a sound graph");
    graph
}

struct GraphBuilder<'a> {
    graph: &'a mut Graph,
    seed: u64,
}

impl GraphBuilder<'_> {
    fn tensor(&mut self, name: &str, shape: &[usize], origin: Origin) -> TensorId {
        self.graph.add_tensor(Tensor { name: name.into(), dtype: DType::F32, shape: shape.to_vec(), origin })
    }

    fn weights(&mut self, name: &str, shape: &[usize]) -> TensorId {
        self.seed += 1;
        let values = super::random(self.seed, shape.iter().product());
        self.tensor(name, shape, Origin::Constant(values.into()))
    }

    fn operator(&mut self, name: &str, kind: OpKind, inputs: Vec<TensorId>, shape: &[usize]) -> TensorId {
        // The operator's id follows from its position; `add_operator` sets the origin.
        let output = self.tensor(&format!("{name}_output_0"), shape, Origin::Input);
        self.graph.add_operator(Operator { name: name.into(), kind, inputs, outputs: vec![output] });
        output
    }

    /// A convolution that keeps height and width, with bias and relu.
    fn conv(&mut self, name: &str, x: TensorId, channels: usize, window: usize) -> TensorId {
        let [n, c, h, w] = self.graph.tensor(x).shape[..] else { panic!("rank 4") };
        let weight = self.weights(&format!("{name}.weight"), &[channels, c, window, window]);
        let bias = self.weights(&format!("{name}.bias"), &[channels]);
        let pad = window / 2;
        let conv = Conv {
            kernel: [window, window],
            strides: [1, 1],
            dilations: [1, 1],
            pads_begin: [pad, pad],
            pads_end: [pad, pad],
            groups: 1,
            bias: true,
            epilogue: Expr::identity().then(Unary::Relu),
        };
        self.operator(name, OpKind::Conv(conv), vec![x, weight, bias], &[n, channels, h, w])
    }
}
