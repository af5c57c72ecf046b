//! A small model with everything that the rooms after `schedule` care about: branches, a join, two inputs and two outputs, awkward names; and its way to a plan.

use std::sync::Arc;

use super::number::{Number, Rounding, constant};

use hiosc::cost::{CostTable, estimate};
use hiosc::device::Target;
use hiosc::graph::{Binary, Constant, Conv, DType, Elementwise, Expr, Graph, OpKind, Operator, Origin, Pool, PoolKind, Tensor, Unary};
use hiosc::ids::{OpId, TensorId};
use hiosc::kernel::{Kernel, Packing};
use hiosc::plan::{self, Plan};
use hiosc::program::{self, KernelMode, Program, Shipped};
use hiosc::schedule::{self, Algorithm, LinkMode, Problem, Schedule, Timeline};

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
    /// The plan with everything looked up.
    pub fn program(&self) -> Program<'_> {
        self.program_with(&self.shipped)
    }

    /// The same with other images.
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
    plan_with(graph, algorithm, gpus, |_, _| None)
}

/// The small model with other kernels for its convolutions: they want packed weights, a workspace and dynamic shared memory, which hiosc's own do not.
pub fn demanding(algorithm: Algorithm, gpus: usize) -> Compiled {
    plan_with(graph(), algorithm, gpus, |graph, op| match &graph.operator(op).kind {
        OpKind::Conv(conv) => Some(demanding_kernel(graph, op, conv.kernel[0])),
        _ => None,
    })
}

/// A convolution of one image with a square window, as in [`Maker::conv`].
fn demanding_kernel(graph: &Graph, op: OpId, window: usize) -> Kernel {
    let operator = graph.operator(op);
    let ([_, c, height, width], [_, k, ..]) = (&graph.tensor(operator.inputs[0]).shape[..], &graph.tensor(operator.outputs[0]).shape[..])
    else {
        panic!("four axes")
    };
    let (taps, pad, elements) = (window * window, window / 2, k * height * width);
    let name = format!("demanding_c{c}k{k}w{window}");
    let source = format!(
        "#include \"hiosc.cuh\"

// A convolution, a thread an output: weights are tap-major, sums go through the workspace, factors through shared memory.
HIOSC_KERNEL_NO_SYNC({name}, 64,
    (const float *__restrict__ x,
     const float *__restrict__ packed,
     const float *__restrict__ bias,
     float *__restrict__ y,
     float *__restrict__ sums)) {{
  HIOSC_DYNAMIC_SHARED(float, factors);
  int i = blockIdx.x * 64 + threadIdx.x, k = i / ({height} * {width}), p = i / {width} % {height}, q = i % {width};
  float sum = 0;
  for (int term = 0; term < {taps} * {c}; ++term) {{
    int tap = term / {c}, row = p + tap / {window} - {pad}, column = q + tap % {window} - {pad};
    bool inside = row >= 0 && row < {height} && column >= 0 && column < {width};
    factors[threadIdx.x] = inside ? x[(term % {c} * {height} + row) * {width} + column] : 0.0f;
    sum += packed[term * 128 + k] * factors[threadIdx.x];
  }}
  sums[i] = sum;
  float z = sums[i] + bias[k];
  y[i] = z > 0 ? z : 0;
}}
"
    );
    assert!(elements.is_multiple_of(64), "whole blocks");
    Kernel {
        name,
        source,
        grid: [elements as u32 / 64, 1, 1],
        block: [64, 1, 1],
        shared_bytes: 64 * 4,
        workspace_bytes: elements as u64 * 4,
        packings: vec![(1, Packing::TapMajor { groups: 1, rows: *k, channels: *c, taps, transposed: false })],
        ..Kernel::default()
    }
}

/// A graph, planned with the kernels that `other` gives instead of hiosc's.
fn plan_with(graph: Graph, algorithm: Algorithm, gpus: usize, other: impl Fn(&Graph, OpId) -> Option<Kernel>) -> Compiled {
    let target = Target::uniform("a40", gpus, "nvlink").expect("a known target");
    let mut costs = estimate(&graph, &target).expect("costs");
    for op in graph.op_ids() {
        if let Some(kernel) = other(&graph, op) {
            costs.operators[op.index()].iter_mut().for_each(|cost| cost.kernel = kernel.clone());
        }
    }
    let problem = Problem::new(&graph, &costs, LinkMode::Serial).expect("a problem");
    let schedule = schedule::schedule(&problem, algorithm).expect("a schedule");
    let timeline = schedule::evaluate(&problem, &schedule).expect("a timeline");
    let options = plan::Options::default();
    let plan = plan::plan(&graph, &costs, &schedule, &timeline, &options).expect("a plan");
    plan::verify(&graph, Some(&schedule), &options, &plan).expect("a sound plan");
    let shipped = program::ship(&costs, &plan, KernelMode::Source).expect("kernels");
    Compiled { graph, costs, schedule, timeline, plan, shipped }
}

/// Inputs for it, the same every time.
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
    let mut make = Maker { graph: &mut graph, seed: 0 };
    let data = make.tensor("data:0", &[1, 3, 16, 16], Origin::Input);
    let scale = make.tensor("type", &[1, 24, 8, 8], Origin::Input);
    let stem = make.conv("/stem", data, 8, 3);
    let left = make.conv("/fire/left", stem, 8, 1);
    let right = make.conv("/fire/right", stem, 8, 3);
    let deep = make.conv("/fire/deep", stem, 8, 3);
    let deeper = make.conv("/fire/deeper", deep, 8, 1);
    let join = make.operator("/fire/`join`", OpKind::Concat { axis: 1 }, vec![left, right, deeper], &[1, 24, 16, 16]);
    let window = Pool { kind: PoolKind::Max, kernel: [2, 2], strides: [2, 2], dilations: [1, 1], pads_begin: [0, 0], pads_end: [0, 0] };
    let pool = make.operator("/pool", OpKind::Pool(window), vec![join], &[1, 24, 8, 8]);
    let times = Elementwise { expr: Expr::binary(Binary::Mul, Expr::Input(0), Expr::Input(1)) };
    let scaled = make.operator("/scaled", OpKind::Elementwise(times), vec![pool, scale], &[1, 24, 8, 8]);
    let soft = make.operator("/out/1", OpKind::Softmax { axis: 1 }, vec![scaled], &[1, 24, 8, 8]);
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
    let mut make = Maker { graph: &mut graph, seed: 0 };
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

/// One input, squared `width` times over, and all of it joined.
pub fn fan(width: usize) -> Graph {
    let mut graph = Graph { name: "fan".into(), ..Graph::default() };
    let mut make = Maker { graph: &mut graph, seed: 0 };
    let x = make.tensor("x", &[1, 4], Origin::Input);
    let square = || OpKind::Elementwise(Elementwise { expr: Expr::identity().then(Unary::Square) });
    let squares = (0..width).map(|i| make.operator(&format!("square{i}"), square(), vec![x], &[1, 4])).collect();
    let all = make.operator("all", OpKind::Concat { axis: 1 }, squares, &[1, 4 * width]);
    graph.inputs = vec![x];
    graph.outputs = vec![all];
    graph.verify().expect("a sound graph");
    graph
}

struct Maker<'a> {
    graph: &'a mut Graph,
    seed: u64,
}

impl Maker<'_> {
    fn tensor(&mut self, name: &str, shape: &[usize], origin: Origin) -> TensorId {
        self.graph.add_tensor(Tensor { name: name.into(), dtype: DType::F32, shape: shape.to_vec(), origin })
    }

    fn weights(&mut self, name: &str, shape: &[usize]) -> TensorId {
        self.seed += 1;
        let values: Arc<[f32]> = super::random(self.seed, shape.iter().product()).into();
        self.tensor(name, shape, Origin::Constant(Constant::F32(values)))
    }

    fn operator(&mut self, name: &str, kind: OpKind, inputs: Vec<TensorId>, shape: &[usize]) -> TensorId {
        // The operator's id follows from its place; `add_operator` sets the origin.
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
