//! Generates models of one node each, in the order of the operator families that they lower to.

use std::collections::BTreeMap;

use hiosc::graph::{Constant, DType, Scalar};

use crate::support::harness::Random;
use crate::support::onnx::{Attr, BOOL, F16, I32, I64, Model};

const F32: i32 = 1;
const U8: i32 = 2;
const I8: i32 = 3;
const F64: i32 = 11;

/// A model, and how to generate its inputs.
pub struct Swept {
    pub name: String,
    pub model: Model,
    /// Shapes of the inputs, by name: in an ONNX file, an axis of size 0 means an unknown size.
    pub shapes: BTreeMap<String, Vec<usize>>,
    pub draws: Vec<DrawnKind>,
}

/// How to generate the values of an input.
#[derive(Clone, Copy, Debug)]
pub enum DrawnKind {
    /// Numbers around zero.
    Small,
    /// The same with extreme values, infinities and NaN among them.
    Special,
    /// Floating-point numbers from 0.1 to 2, integers from 1 to 8.
    Positive,
    /// Numbers in (-1, 1).
    Unit,
    /// Indices from `-n` to `n - 1`.
    Index(usize),
}

impl DrawnKind {
    /// Values of a tensor.
    pub fn values(self, r: &mut Random, dtype: DType, shape: &[usize]) -> Constant {
        if let DrawnKind::Special = self {
            return r.typed(dtype, shape).values;
        }
        let signed = !matches!(dtype, DType::U8 | DType::U16 | DType::U32 | DType::U64 | DType::Bool);
        let mut one = || {
            let value = match self {
                DrawnKind::Index(n) => r.below(2 * n) as f64 - n as f64,
                DrawnKind::Positive if dtype.is_float() => 0.1 + r.below(1901) as f64 / 1000.0,
                DrawnKind::Positive => 1.0 + r.below(8) as f64,
                DrawnKind::Unit => (r.below(1999) as f64 - 999.0) / 1000.0,
                _ if dtype == DType::Bool => r.below(2) as f64,
                _ if dtype.is_float() => (r.below(4001) as f64 - 2000.0) / 1000.0,
                _ => r.below(17) as f64 - if signed { 8.0 } else { 0.0 },
            };
            Scalar::from_f64(dtype, value).bits().to_le_bytes()[..dtype.bytes() as usize].to_vec()
        };
        let bytes: Vec<u8> = (0..shape.iter().product::<usize>()).flat_map(|_| one()).collect();
        Constant::from_bytes(dtype, &bytes)
    }
}

/// A model under construction, with its inputs in the order of the node's.
#[derive(Default)]
struct Node {
    model: Model,
    names: Vec<String>,
    shapes: BTreeMap<String, Vec<usize>>,
    draws: Vec<DrawnKind>,
}

impl Node {
    /// A run-time input.
    fn x(mut self, elem_type: i32, shape: &[usize], draw: DrawnKind) -> Node {
        let name = format!("x{}", self.names.len());
        self.model = self.model.input_of(elem_type, &name, &signed(shape));
        self.shapes.insert(name.clone(), shape.to_vec());
        self.names.push(name);
        self.draws.push(draw);
        self
    }

    /// A list of integers known at compile time.
    fn ints(mut self, values: &[i64]) -> Node {
        let name = format!("c{}", self.names.len());
        self.model = self.model.ints(&name, values);
        self.names.push(name);
        self
    }

    /// Random weights.
    fn weight(mut self, shape: &[usize]) -> Node {
        let name = format!("w{}", self.names.len());
        self.model = self.model.random_weight(&name, &signed(shape));
        self.names.push(name);
        self
    }

    /// One number known at compile time.
    fn number(mut self, value: f32) -> Node {
        let name = format!("n{}", self.names.len());
        self.model = self.model.weight(&name, &[], vec![value]);
        self.names.push(name);
        self
    }

    /// One integer known at compile time.
    fn int(mut self, value: i64) -> Node {
        let name = format!("i{}", self.names.len());
        self.model = self.model.int(&name, value);
        self.names.push(name);
        self
    }

    /// Weights that are all 1.5.
    fn positive_weight(mut self, shape: &[usize]) -> Node {
        let name = format!("p{}", self.names.len());
        self.model = self.model.weight(&name, &signed(shape), vec![1.5; shape.iter().product()]);
        self.names.push(name);
        self
    }

    /// An omitted input.
    fn none(mut self) -> Node {
        self.names.push(String::new());
        self
    }

    /// The finished model, whose node computes outputs of these types.
    fn node(self, op: &str, outputs: &[i32], attrs: &[Attr]) -> Swept {
        let names: Vec<&str> = self.names.iter().map(String::as_str).collect();
        let results: Vec<String> = (0..outputs.len()).map(|i| format!("y{i}")).collect();
        let mut model = self.model.node(op, &names, &results.join(","), attrs);
        for (name, &elem_type) in results.iter().zip(outputs) {
            model = model.output_of(elem_type, name, &[]); // tract infers the shape
        }
        let text = |attr: &Attr| match attr {
            Attr::Int(name, value) => format!(" {name}={value}"),
            Attr::Ints(name, values) => format!(" {name}={values:?}"),
            Attr::Float(name, value) => format!(" {name}={value}"),
            Attr::Text(name, value) => format!(" {name}={value}"),
        };
        Swept { name: format!("{op}{}", attrs.iter().map(text).collect::<String>()), model, shapes: self.shapes, draws: self.draws }
    }
}

fn new() -> Node {
    Node::default()
}

fn signed(shape: &[usize]) -> Vec<i64> {
    shape.iter().map(|&d| d as i64).collect()
}

impl Random {
    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    fn chance(&mut self, one_in: usize) -> bool {
        self.below(one_in) == 0
    }

    /// Extents of `rank` axes, often odd ones and 1.
    fn shape(&mut self, rank: usize) -> Vec<usize> {
        (0..rank).map(|_| self.pick(&[1, 2, 3, 4, 5, 7, 8])).collect()
    }

    /// What `shape` may be broadcast from: fewer axes, and axes of size 1.
    fn narrower(&mut self, shape: &[usize]) -> Vec<usize> {
        let dropped = self.below(shape.len() + 1) * usize::from(self.chance(3));
        shape[dropped..].iter().map(|&d| if self.chance(3) { 1 } else { d }).collect()
    }

    /// Some axes of `rank`, at least one, ascending, some of them counted from the end.
    fn axes(&mut self, rank: usize) -> Vec<i64> {
        let first = self.below(rank);
        let axes = (0..rank).filter(|&axis| axis == first || self.chance(3)).collect::<Vec<_>>();
        axes.into_iter().map(|axis| if self.chance(3) { axis as i64 - rank as i64 } else { axis as i64 }).collect()
    }
}

/// Generates some models.
type Group = fn(&mut Random) -> Vec<Swept>;

/// All models, in a fixed order: those of each operator family, then those that lower to operators
/// of several families.
pub fn all() -> Vec<Swept> {
    // a seed that no other row has, and the function that uses it
    let rows: Vec<(u64, Group)> = vec![
        (1012, cell),
        (1014, concat),
        (1000, conv),
        (1001, conv_transposed),
        (1009, copy),
        (1015, cumsum),
        (1004, elementwise),
        (1005, elementwise_pairs),
        (1006, elementwise_casts),
        (1011, gather),
        (1016, grid_sample),
        (1017, lrn),
        (1003, matmul),
        (1008, norm),
        (1002, pool),
        (1007, reduce),
        (1010, resample),
        (1018, scatter),
        (1019, softmax),
        (1020, topk),
        (1021, fourier),
        (1013, quantised),
    ];
    rows.iter().flat_map(|(seed, draw)| draw(&mut Random(*seed))).collect()
}

/// A window over `axes` axes.
struct SweptWindow {
    extents: Vec<usize>,
    kernel: Vec<i64>,
    strides: Vec<i64>,
    dilations: Vec<i64>,
    pads: Vec<i64>,
}

fn window(r: &mut Random, axes: usize) -> SweptWindow {
    let kernel: Vec<i64> = (0..axes).map(|_| r.pick(&[1, 2, 3])).collect();
    let dilations: Vec<i64> = (0..axes).map(|_| r.pick(&[1, 1, 2])).collect();
    let strides = (0..axes).map(|_| r.pick(&[1, 2, 3])).collect();
    let pads = (0..2 * axes).map(|i| r.below(kernel[i % axes] as usize) as i64).collect();
    let extents = (0..axes).map(|a| ((kernel[a] - 1) * dilations[a] + 1) as usize + r.below(if axes == 3 { 4 } else { 9 })).collect();
    SweptWindow { extents, kernel, strides, dilations, pads }
}

fn cell(r: &mut Random) -> Vec<Swept> {
    let mut all = Vec::new();
    let (steps, batch, input, hidden) = (5, 2, 3, 4);
    for (op, gates) in [("LSTM", 4), ("GRU", 3), ("RNN", 1)] {
        for direction in ["forward", "reverse", "bidirectional"] {
            let d = if direction == "bidirectional" { 2 } else { 1 };
            let node = new().x(F32, &[steps, batch, input], DrawnKind::Small);
            let node = node.weight(&[d, gates * hidden, input]).weight(&[d, gates * hidden, hidden]);
            let node = if r.chance(2) { node.weight(&[d, 2 * gates * hidden]) } else { node };
            let attrs = [Attr::Int("hidden_size", hidden as i64), Attr::Text("direction", direction)];
            all.push(node.node(op, &[F32, F32], &attrs));
        }
    }
    all
}

fn concat(r: &mut Random) -> Vec<Swept> {
    let mut all = Vec::new();
    let types = [F32, I64, U8, F16, BOOL, F64, I32];
    for (i, &elem_type) in types.iter().enumerate() {
        let (rank, parts) = (1 + i % 4, 1 + i % 3);
        let axis = r.below(rank);
        let shape = r.shape(rank);
        let node = (0..=parts).fold(new(), |node, part| {
            let mut own = shape.clone();
            own[axis] = [3, 0, 1, 4][part];
            node.x(elem_type, &own, DrawnKind::Small)
        });
        all.push(node.node("Concat", &[elem_type], &[Attr::Int("axis", axis as i64 - if i % 2 == 0 { rank as i64 } else { 0 })]));
    }
    all
}

fn conv(r: &mut Random) -> Vec<Swept> {
    let one = |i: usize, r: &mut Random| {
        let w = window(r, 1 + i % 3);
        let groups = r.pick(&[1, 1, 2, 4]);
        let (inputs, outputs) = (groups * r.pick(&[1, 2, 3]), groups * r.pick(&[1, 2, 5]));
        let kernel: Vec<usize> = w.kernel.iter().map(|&k| k as usize).collect();
        let mut node = new().x(F32, &[&[r.pick(&[1, 2]), inputs][..], &w.extents].concat(), DrawnKind::Small);
        node = node.weight(&[&[outputs, inputs / groups][..], &kernel].concat());
        if r.chance(2) {
            node = node.weight(&[outputs]);
        }
        let mut attrs = vec![Attr::Ints("strides", &w.strides), Attr::Ints("dilations", &w.dilations), Attr::Int("group", groups as i64)];
        attrs.push(match i % 5 {
            0 => Attr::Text("auto_pad", "SAME_UPPER"),
            1 => Attr::Text("auto_pad", "SAME_LOWER"),
            _ => Attr::Ints("pads", &w.pads),
        });
        node.node("Conv", &[F32], &attrs)
    };
    (0..36).map(|i| one(i, r)).collect()
}

fn conv_transposed(r: &mut Random) -> Vec<Swept> {
    let one = |i: usize, r: &mut Random| {
        let axes = 1 + i % 3;
        let w = window(r, axes);
        let groups = r.pick(&[1, 1, 2]);
        let (inputs, outputs) = (groups * r.pick(&[1, 2, 3]), r.pick(&[1, 2, 5]));
        let kernel: Vec<usize> = w.kernel.iter().map(|&k| k as usize).collect();
        let extents: Vec<usize> = w.extents.iter().map(|&e| e.min(4)).collect();
        let more: Vec<i64> = w.strides.iter().map(|&s| r.below(s as usize) as i64).collect();
        // pads that leave at least one element
        let pads: Vec<i64> = w.pads.iter().map(|&p| if extents.contains(&1) { 0 } else { p.min(1) }).collect();
        let node =
            new().x(F32, &[&[1, inputs][..], &extents].concat(), DrawnKind::Small).weight(&[&[inputs, outputs][..], &kernel].concat());
        let attrs = [
            Attr::Ints("strides", &w.strides),
            Attr::Ints("dilations", &w.dilations),
            Attr::Int("group", groups as i64),
            Attr::Ints("pads", &pads),
            Attr::Ints("output_padding", &more),
        ];
        node.node("ConvTranspose", &[F32], &attrs)
    };
    (0..18).map(|i| one(i, r)).collect()
}

fn copy(r: &mut Random) -> Vec<Swept> {
    let mut all = Vec::new();
    let types = [F32, I64, U8, F16, BOOL, F64, I32];
    for (i, permutation) in
        [&[1, 0][..], &[0, 2, 1], &[2, 0, 1], &[3, 1, 0, 2], &[0, 2, 3, 1], &[4, 3, 2, 1, 0], &[0]].into_iter().enumerate()
    {
        let shape = r.shape(permutation.len());
        all.push(new().x(types[i], &shape, DrawnKind::Small).node("Transpose", &[types[i]], &[Attr::Ints("perm", permutation)]));
    }
    for (i, (starts, ends, axes, steps)) in [
        (&[1i64][..], &[5i64][..], &[0i64][..], &[1i64][..]),
        (&[-1], &[-9], &[1], &[-2]),
        (&[0, 2], &[9999, -1], &[1, 2], &[2, 1]),
        (&[3, -1, 0], &[0, 0, 4], &[0, 1, 2], &[-1, -3, 3]),
        (&[2], &[2], &[1], &[1]),
    ]
    .into_iter()
    .enumerate()
    {
        let node = new().x(types[i], &[6, 7, 5], DrawnKind::Small).ints(starts).ints(ends).ints(axes).ints(steps);
        all.push(node.node("Slice", &[types[i]], &[]));
    }
    for (i, mode) in ["constant", "reflect", "edge", "constant", "edge"].into_iter().enumerate() {
        let node = new().x(F32, &[3, 4, 5], DrawnKind::Small).ints(&[0, i as i64 % 3, 1, 2, 0, 2]);
        let node = if i == 3 { node.number(1.5) } else { node };
        all.push(node.node("Pad", &[F32], &[Attr::Text("mode", mode)]));
    }
    all.push(new().x(F32, &[4, 5], DrawnKind::Small).ints(&[-1, 1, 0, -2]).node("Pad", &[F32], &[]));
    all.push(new().x(I32, &[2, 3], DrawnKind::Small).ints(&[1, 0, 0, 2]).node("Pad", &[I32], &[]));
    all.push(new().x(F32, &[2, 1, 3], DrawnKind::Small).ints(&[2, 4, 1]).node("Tile", &[F32], &[]));
    all.push(new().x(I64, &[2, 1], DrawnKind::Small).ints(&[3, 2, 4]).node("Expand", &[I64], &[]));
    all.push(new().x(F32, &[2, 3, 4], DrawnKind::Small).ints(&[4, -1]).node("Reshape", &[F32], &[]));
    all.push(new().x(F32, &[2, 8, 3, 2], DrawnKind::Small).node(
        "DepthToSpace",
        &[F32],
        &[Attr::Int("blocksize", 2), Attr::Text("mode", "CRD")],
    ));
    all.push(new().x(F32, &[2, 8, 3, 2], DrawnKind::Small).node("DepthToSpace", &[F32], &[Attr::Int("blocksize", 2)]));
    all.push(new().x(F32, &[1, 2, 4, 6], DrawnKind::Small).node("SpaceToDepth", &[F32], &[Attr::Int("blocksize", 2)]));
    all.push(new().x(F32, &[5, 7], DrawnKind::Small).ints(&[2, 4, 1]).node("Split", &[F32, F32, F32], &[Attr::Int("axis", 1)]));
    for upper in [0, 1] {
        all.push(new().x(F32, &[2, 4, 5], DrawnKind::Small).node("Trilu", &[F32], &[Attr::Int("upper", upper)]));
        all.push(new().x(I64, &[4, 3], DrawnKind::Small).node("Trilu", &[I64], &[Attr::Int("upper", upper)]));
    }
    all
}

fn cumsum(_: &mut Random) -> Vec<Swept> {
    let mut all = Vec::new();
    for (axis, exclusive, reverse) in [(0, 0, 0), (1, 1, 0), (-1, 0, 1), (1, 1, 1)] {
        let attrs = [Attr::Int("exclusive", exclusive), Attr::Int("reverse", reverse)];
        let axis = new().x(F32, &[3, 5, 4], DrawnKind::Small).int(axis);
        all.push(axis.node("CumSum", &[F32], &attrs));
    }
    all
}

fn elementwise(r: &mut Random) -> Vec<Swept> {
    let mut all = Vec::new();
    let plain = [
        "Abs",
        "Neg",
        "Exp",
        "Floor",
        "Ceil",
        "Round",
        "Sign",
        "Erf",
        "Sigmoid",
        "Tanh",
        "Relu",
        "HardSwish",
        "Softplus",
        "Softsign",
        "Sin",
        "Cos",
        "Atan",
        "Sinh",
        "Cosh",
        "Asinh",
        "Elu",
        "Selu",
        "LeakyRelu",
        "HardSigmoid",
        "ThresholdedRelu",
        "Celu",
        "Identity",
    ];
    for (i, op) in plain.into_iter().enumerate() {
        let shape = r.shape(i % 5);
        all.push(new().x(F32, &shape, DrawnKind::Small).node(op, &[F32], &[]));
    }
    for op in ["Abs", "Neg", "Exp", "Relu", "Sigmoid", "Tanh", "Floor", "Ceil", "Erf"] {
        all.push(new().x(F32, &[5, 8], DrawnKind::Special).node(op, &[F32], &[]));
    }
    for op in ["Sqrt", "Log", "Reciprocal"] {
        all.push(new().x(F32, &r.shape(3), DrawnKind::Positive).node(op, &[F32], &[]));
    }
    for op in ["Asin", "Acos", "Atanh"] {
        all.push(new().x(F32, &r.shape(2), DrawnKind::Unit).node(op, &[F32], &[]));
    }
    all.push(new().x(F32, &r.shape(2), DrawnKind::Positive).node("Tan", &[F32], &[]));
    for elem_type in [F16, F64, I32, I64, I8] {
        all.push(new().x(elem_type, &[3, 5], DrawnKind::Small).node("Abs", &[elem_type], &[]));
        all.push(new().x(elem_type, &[0, 5], DrawnKind::Small).node("Neg", &[elem_type], &[]));
    }
    for op in ["Exp", "Tanh", "Sqrt"] {
        let draw = if op == "Sqrt" { DrawnKind::Positive } else { DrawnKind::Small };
        all.push(new().x(F16, &[4, 8], draw).node(op, &[F16], &[]));
        all.push(new().x(F64, &[7], draw).node(op, &[F64], &[]));
    }
    all.push(new().x(BOOL, &[2, 9], DrawnKind::Small).node("Not", &[BOOL], &[]));
    all.push(new().x(F32, &[3, 8], DrawnKind::Small).number(-0.5).number(1.0).node("Clip", &[F32], &[]));
    all.push(new().x(F32, &[3, 5], DrawnKind::Small).none().number(1.0).node("Clip", &[F32], &[]));
    all.push(new().x(F32, &[3, 5, 2], DrawnKind::Small).weight(&[5, 1]).node("PRelu", &[F32], &[]));
    all.push(new().x(F32, &[2, 6], DrawnKind::Special).node("IsNaN", &[BOOL], &[]));
    all.push(new().x(F32, &[2, 6], DrawnKind::Special).node("IsInf", &[BOOL], &[]));
    all
}

fn elementwise_pairs(r: &mut Random) -> Vec<Swept> {
    let mut all = Vec::new();
    let mut broadcast = |op: &str, elem_type: i32, result: i32, draws: [DrawnKind; 2], attrs: &[Attr]| {
        let rank = r.below(5);
        let mut shape = r.shape(rank);
        if r.chance(8) && rank > 0 {
            shape[0] = 0;
        }
        let other: Vec<usize> = r.narrower(&shape);
        let (a, b) = if r.chance(2) { (&shape, &other) } else { (&other, &shape) };
        all.push(new().x(elem_type, a, draws[0]).x(elem_type, b, draws[1]).node(op, &[result], attrs));
    };
    for op in ["Add", "Sub", "Mul", "Div", "Max", "Min", "Pow"] {
        let first = if op == "Pow" { DrawnKind::Positive } else { DrawnKind::Small };
        let second = if op == "Div" { DrawnKind::Positive } else { DrawnKind::Small };
        (0..4).for_each(|_| broadcast(op, F32, F32, [first, second], &[]));
        broadcast(op, F64, F64, [first, second], &[]);
    }
    for op in ["Add", "Sub", "Mul", "Div", "Max", "Min"] {
        for elem_type in [I32, I64] {
            let second = if op == "Div" { DrawnKind::Positive } else { DrawnKind::Small };
            broadcast(op, elem_type, elem_type, [DrawnKind::Small, second], &[]);
        }
        broadcast(op, U8, U8, [DrawnKind::Small, DrawnKind::Positive], &[]);
    }
    for op in ["Less", "Greater", "LessOrEqual", "GreaterOrEqual", "Equal"] {
        for elem_type in [F32, I32, I64] {
            let draw = if elem_type == F32 { DrawnKind::Special } else { DrawnKind::Small };
            broadcast(op, elem_type, BOOL, [draw, draw], &[]);
        }
    }
    for op in ["And", "Or", "Xor"] {
        broadcast(op, BOOL, BOOL, [DrawnKind::Small; 2], &[]);
    }
    for elem_type in [I32, I64, U8] {
        broadcast("Mod", elem_type, elem_type, [DrawnKind::Small, DrawnKind::Positive], &[]);
    }
    broadcast("Mod", F32, F32, [DrawnKind::Small, DrawnKind::Positive], &[Attr::Int("fmod", 1)]);
    for direction in ["LEFT", "RIGHT"] {
        broadcast("BitShift", U8, U8, [DrawnKind::Small; 2], &[Attr::Text("direction", direction)]);
    }
    for elem_type in [F32, I64, U8, F16] {
        let where_ =
            new().x(BOOL, &[3, 1, 4], DrawnKind::Small).x(elem_type, &[2, 4], DrawnKind::Small).x(elem_type, &[3, 2, 1], DrawnKind::Small);
        all.push(where_.node("Where", &[elem_type], &[]));
    }
    all
}

fn elementwise_casts(r: &mut Random) -> Vec<Swept> {
    let types = [F32, F16, F64, I32, I64, I8, U8, BOOL];
    let mut all = Vec::new();
    for from in types {
        for to in types.into_iter().filter(|&to| to != from) {
            // converting a value that does not fit the type is undefined
            let draw = if to == U8 { DrawnKind::Positive } else { DrawnKind::Small };
            all.push(new().x(from, &r.shape(2), draw).node("Cast", &[to], &[Attr::Int("to", to.into())]));
        }
    }
    all
}

fn gather(r: &mut Random) -> Vec<Swept> {
    let mut all = Vec::new();
    for (i, elem_type) in [F32, I64, U8, F16, BOOL, F32].into_iter().enumerate() {
        let rank = 1 + i % 3;
        let axis = i % rank;
        let shape = r.shape(rank);
        let indices = {
            let rank = r.below(3);
            r.shape(rank)
        };
        let index_type = if i % 2 == 0 { I64 } else { I32 };
        let node = new().x(elem_type, &shape, DrawnKind::Small).x(index_type, &indices, DrawnKind::Index(shape[axis]));
        all.push(node.node("Gather", &[elem_type], &[Attr::Int("axis", axis as i64)]));
    }
    all.push(new().x(F32, &[5, 3], DrawnKind::Small).ints(&[4, -1, 0, 0]).node("Gather", &[F32], &[Attr::Int("axis", 0)]));
    for (axis, shape, indices) in [(0, [3, 4], [5, 4]), (1, [3, 4], [3, 2]), (-1, [2, 7], [2, 9])] {
        let extent = shape[if axis < 0 { 1 } else { axis as usize }];
        let node = new().x(F32, &shape, DrawnKind::Small).x(I64, &indices, DrawnKind::Index(extent));
        all.push(node.node("GatherElements", &[F32], &[Attr::Int("axis", axis)]));
    }
    for (shape, indices, batch) in [(&[3, 3, 3][..], &[4, 2][..], 0), (&[3, 3], &[2, 2, 1], 0), (&[2, 3, 3], &[2, 4, 1], 1)] {
        let node = new().x(F32, shape, DrawnKind::Small).x(I64, indices, DrawnKind::Index(3));
        all.push(node.node("GatherND", &[F32], &[Attr::Int("batch_dims", batch)]));
    }
    all
}

fn grid_sample(_: &mut Random) -> Vec<Swept> {
    let mut all = Vec::new();
    for mode in ["bilinear", "nearest", "bicubic"] {
        for padding in ["zeros", "border", "reflection"] {
            let node = new().x(F32, &[2, 3, 4, 5], DrawnKind::Small).x(F32, &[2, 3, 2, 2], DrawnKind::Small);
            let attrs = [Attr::Text("mode", mode), Attr::Text("padding_mode", padding), Attr::Int("align_corners", 1)];
            all.push(node.node("GridSample", &[F32], &attrs));
        }
    }
    all
}

fn lrn(_: &mut Random) -> Vec<Swept> {
    let mut all = Vec::new();
    for size in [1, 3, 5] {
        all.push(new().x(F32, &[2, 6, 3, 2], DrawnKind::Small).node("LRN", &[F32], &[Attr::Int("size", size), Attr::Float("alpha", 0.1)]));
    }
    all
}

fn matmul(r: &mut Random) -> Vec<Swept> {
    let mut all = Vec::new();
    for i in 0..24 {
        let (m, n, k) = (r.pick(&[1, 2, 5, 33]), r.pick(&[1, 3, 8, 40]), r.pick(&[1, 4, 7, 64]));
        let batch = {
            let rank = r.below(3);
            r.shape(rank)
        };
        let elem_type = if i % 6 == 0 { F64 } else { F32 };
        let a = [r.narrower(&batch), vec![m, k]].concat();
        let b = [batch, vec![k, n]].concat();
        all.push(new().x(elem_type, &a, DrawnKind::Small).x(elem_type, &b, DrawnKind::Small).node("MatMul", &[elem_type], &[]));
    }
    all.push(new().x(F32, &[7], DrawnKind::Small).x(F32, &[7, 3], DrawnKind::Small).node("MatMul", &[F32], &[]));
    all.push(new().x(F32, &[2, 3, 7], DrawnKind::Small).x(F32, &[7], DrawnKind::Small).node("MatMul", &[F32], &[]));
    for i in 0..12i64 {
        let (m, n, k) = (r.pick(&[1, 3, 17]), r.pick(&[1, 4, 19]), r.pick(&[1, 5, 32]));
        let a = if i & 1 == 0 { [m, k] } else { [k, m] };
        let b = if i & 2 == 0 { [k, n] } else { [n, k] };
        let node = new().x(F32, &a, DrawnKind::Small).weight(&b);
        let node = match i % 3 {
            0 => node,
            1 => node.weight(&[n]),
            _ => node.x(F32, &[m, 1], DrawnKind::Small),
        };
        let attrs = [Attr::Int("transA", i & 1), Attr::Int("transB", i >> 1 & 1), Attr::Float("alpha", 0.5), Attr::Float("beta", 2.0)];
        all.push(node.node("Gemm", &[F32], &attrs));
    }
    let equations: [(&str, &[&[usize]]); 9] = [
        ("ij,jk->ik", &[&[3, 4], &[4, 5]]),
        ("bij,bkj->bki", &[&[2, 3, 4], &[2, 5, 4]]),
        ("abcd,abed->abce", &[&[2, 3, 4, 5], &[2, 3, 7, 5]]),
        ("i,j->ij", &[&[4], &[5]]),
        ("ij->ji", &[&[4, 5]]),
        ("ijk->j", &[&[2, 3, 4]]),
        ("ij,ij->", &[&[3, 4], &[3, 4]]),
        ("bhid,hde->bie", &[&[2, 3, 4, 5], &[3, 5, 6]]),
        ("ij,jk,kl->il", &[&[2, 3], &[3, 4], &[4, 5]]),
    ];
    for (equation, shapes) in equations {
        let node = shapes.iter().fold(new(), |node, shape| node.x(F32, shape, DrawnKind::Small));
        all.push(node.node("Einsum", &[F32], &[Attr::Text("equation", equation)]));
    }
    all
}

fn norm(r: &mut Random) -> Vec<Swept> {
    let mut all = Vec::new();
    for (shape, axis) in [(&[2, 3, 8][..], -1), (&[2, 3, 8], 1), (&[4, 300], 1), (&[2, 1], -1)] {
        let start = if axis < 0 { shape.len() - 1 } else { axis as usize };
        let node = new().x(F32, shape, DrawnKind::Small).weight(&shape[start..]);
        let node = if r.chance(2) { node.weight(&shape[start..]) } else { node };
        all.push(node.node("LayerNormalization", &[F32], &[Attr::Int("axis", axis), Attr::Float("epsilon", 1e-3)]));
    }
    for shape in [&[2, 3, 5][..], &[1, 4, 3, 3]] {
        let c = shape[1];
        all.push(new().x(F32, shape, DrawnKind::Small).weight(&[c]).weight(&[c]).node("InstanceNormalization", &[F32], &[]));
        let node = new().x(F32, shape, DrawnKind::Small).weight(&[c]).weight(&[c]).weight(&[c]).positive_weight(&[c]);
        all.push(node.node("BatchNormalization", &[F32], &[]));
    }
    all
}

fn pool(r: &mut Random) -> Vec<Swept> {
    let one = |i: usize, r: &mut Random| {
        let w = window(r, 1 + i % 3);
        let shape = [&[r.pick(&[1, 2]), r.pick(&[1, 3])][..], &w.extents].concat();
        let ceil = Attr::Int("ceil_mode", r.below(2) as i64);
        let mut attrs = vec![Attr::Ints("kernel_shape", &w.kernel), Attr::Ints("strides", &w.strides), Attr::Ints("pads", &w.pads), ceil];
        if i.is_multiple_of(2) {
            attrs.push(Attr::Ints("dilations", &w.dilations));
            new().x(F32, &shape, DrawnKind::Small).node("MaxPool", &[F32], &attrs)
        } else {
            attrs.push(Attr::Int("count_include_pad", r.below(2) as i64));
            new().x(F32, &shape, DrawnKind::Small).node("AveragePool", &[F32], &attrs)
        }
    };
    let mut all: Vec<Swept> = (0..36).map(|i| one(i, r)).collect();
    for op in ["GlobalAveragePool", "GlobalMaxPool"] {
        all.extend(
            [&[2, 3, 7][..], &[1, 1, 1, 5], &[2, 3, 4, 5, 3]].map(|shape| new().x(F32, shape, DrawnKind::Small).node(op, &[F32], &[])),
        );
    }
    all
}

fn reduce(r: &mut Random) -> Vec<Swept> {
    let mut all = Vec::new();
    let ops = [
        "ReduceMax",
        "ReduceMin",
        "ReduceMean",
        "ReduceProd",
        "ReduceL1",
        "ReduceL2",
        "ReduceSumSquare",
        "ReduceLogSum",
        "ReduceLogSumExp",
    ];
    for op in ops {
        for i in 0..4 {
            let rank = 1 + r.below(4);
            let mut shape = r.shape(rank);
            if i == 3 {
                shape[0] = 300;
            }
            let axes = r.axes(rank);
            let draw = if op == "ReduceLogSum" { DrawnKind::Positive } else { DrawnKind::Small };
            let attrs = [Attr::Ints("axes", &axes), Attr::Int("keepdims", r.below(2) as i64)];
            all.push(new().x(F32, &shape, draw).node(op, &[F32], &attrs));
        }
    }
    for op in ["ReduceMax", "ReduceMin"] {
        for elem_type in [I32, I64, U8, I8, F64] {
            all.push(new().x(elem_type, &[3, 5], DrawnKind::Small).node(op, &[elem_type], &[Attr::Ints("axes", &[1])]));
        }
    }
    for (i, elem_type) in [F32, F32, I32, I64, F64].into_iter().enumerate() {
        let shape = r.shape(3);
        all.push(new().x(elem_type, &shape, DrawnKind::Small).ints(&[i as i64 % 3]).node("ReduceSum", &[elem_type], &[]));
    }
    all.push(new().x(F32, &[0, 5], DrawnKind::Small).ints(&[0]).node("ReduceSum", &[F32], &[]));
    for op in ["ArgMax", "ArgMin"] {
        for (axis, last) in [(0, 0), (-1, 0), (1, 1)] {
            let attrs = [Attr::Int("axis", axis), Attr::Int("select_last_index", last), Attr::Int("keepdims", last)];
            all.push(new().x(I32, &[3, 9, 4], DrawnKind::Small).node(op, &[I64], &attrs));
            all.push(new().x(F32, &[3, 9], DrawnKind::Small).node(op, &[I64], &attrs));
        }
    }
    all
}

fn resample(r: &mut Random) -> Vec<Swept> {
    let mut all = Vec::new();
    let transformations =
        ["half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel", "half_pixel_symmetric", "tf_half_pixel_for_nn"];
    for mode in ["nearest", "linear", "cubic"] {
        for transformation in transformations {
            for sizes in [[1, 2, 7, 3], [1, 2, 2, 9]] {
                let node = new().x(F32, &[1, 2, 4, 5], DrawnKind::Special).none().none().ints(&sizes);
                let mut attrs = vec![Attr::Text("mode", mode), Attr::Text("coordinate_transformation_mode", transformation)];
                attrs.push(Attr::Text("nearest_mode", r.pick(&["floor", "ceil", "round_prefer_floor", "round_prefer_ceil"])));
                all.push(node.node("Resize", &[F32], &attrs));
            }
        }
        for (antialias, exclude) in [(1, 0), (0, 1), (1, 1)] {
            let node = new().x(F32, &[1, 2, 9, 8], DrawnKind::Small).none().none().ints(&[3, 11]);
            let attrs = [
                Attr::Text("mode", mode),
                Attr::Int("antialias", antialias),
                Attr::Int("exclude_outside", exclude),
                Attr::Ints("axes", &[2, 3]),
                Attr::Float("cubic_coeff_a", -0.5),
            ];
            let mut swept = node.node("Resize", &[F32], &attrs);
            swept.model = swept.model.opset(19);
            all.push(swept);
        }
        // any rank, and every axis
        for (shape, sizes) in [(&[5, 3][..], &[4, 7][..]), (&[6], &[11]), (&[2, 3, 4, 5, 3], &[4, 2, 6, 3, 4]), (&[1, 1], &[3, 2])] {
            let node = new().x(F32, shape, DrawnKind::Small).none().none().ints(sizes);
            all.push(node.node("Resize", &[F32], &[Attr::Text("mode", mode)]));
        }
        // integers are not interpolated
        let types: &[i32] = if mode == "nearest" { &[F16, F64, U8, I8, I32, I64] } else { &[F16, F64] };
        for &elem_type in types {
            let node = new().x(elem_type, &[1, 3, 4, 5], DrawnKind::Small).none().none().ints(&[1, 3, 6, 3]);
            all.push(node.node("Resize", &[elem_type], &[Attr::Text("mode", mode)]));
        }
        for policy in ["not_larger", "not_smaller"] {
            let node = new().x(F32, &[1, 2, 4, 5], DrawnKind::Small).none().none().ints(&[7, 7]);
            let attrs = [Attr::Text("mode", mode), Attr::Text("keep_aspect_ratio_policy", policy), Attr::Ints("axes", &[-2, -1])];
            let mut swept = node.node("Resize", &[F32], &attrs);
            swept.model = swept.model.opset(19);
            all.push(swept);
        }
    }
    all
}

fn scatter(_: &mut Random) -> Vec<Swept> {
    let mut all = Vec::new();
    for reduction in ["none", "add", "mul"] {
        // without a reduction, an index that occurs twice has no defined result: an index per
        // column
        let (updates, extent) = if reduction == "none" { ([1, 5], 4) } else { ([6, 5], 4) };
        let node = new().x(F32, &[4, 5], DrawnKind::Small).x(I64, &updates, DrawnKind::Index(extent)).x(F32, &updates, DrawnKind::Small);
        all.push(node.node("ScatterElements", &[F32], &[Attr::Int("axis", 0), Attr::Text("reduction", reduction)]));
        let rows = if reduction == "none" { 1 } else { 5 };
        let node = new().x(F32, &[4, 3], DrawnKind::Small).x(I64, &[rows, 1], DrawnKind::Index(4)).x(F32, &[rows, 3], DrawnKind::Small);
        all.push(node.node("ScatterND", &[F32], &[Attr::Text("reduction", reduction)]));
    }
    all
}

fn softmax(_: &mut Random) -> Vec<Swept> {
    let mut all = Vec::new();
    for op in ["Softmax", "LogSoftmax"] {
        for (shape, axis) in [(&[3, 5][..], -1), (&[2, 300], 1), (&[4, 3, 2], 0), (&[2, 3, 4, 5], 1), (&[1], 0), (&[2, 1, 3], 1)] {
            all.push(new().x(F32, shape, DrawnKind::Small).node(op, &[F32], &[Attr::Int("axis", axis)]));
        }
    }
    all.push(new().x(F16, &[3, 8], DrawnKind::Small).node("Softmax", &[F16], &[Attr::Int("axis", 1)]));
    all
}

fn topk(_: &mut Random) -> Vec<Swept> {
    let mut all = Vec::new();
    for (axis, largest) in [(0, 1), (1, 0), (-1, 1)] {
        let attrs = [Attr::Int("axis", axis), Attr::Int("largest", largest), Attr::Int("sorted", 1)];
        all.push(new().x(F32, &[5, 6, 9], DrawnKind::Small).ints(&[4]).node("TopK", &[F32, I64], &attrs));
    }
    all
}

fn fourier(_: &mut Random) -> Vec<Swept> {
    let mut all = Vec::new();
    for n in [4, 6, 16] {
        all.push(new().x(F32, &[2, n, 1], DrawnKind::Small).node("DFT", &[F32], &[Attr::Int("axis", 1)]));
        all.push(new().x(F32, &[2, n, 2], DrawnKind::Small).node("DFT", &[F32], &[Attr::Int("axis", 1), Attr::Int("inverse", 1)]));
    }
    all
}

fn quantised(_: &mut Random) -> Vec<Swept> {
    let mut all = Vec::new();
    for elem_type in [U8, I8] {
        all.push(new().x(elem_type, &[3, 5], DrawnKind::Small).number(0.05).node("DequantizeLinear", &[F32], &[]));
        all.push(new().x(elem_type, &[4, 6], DrawnKind::Small).x(elem_type, &[6, 3], DrawnKind::Small).node("MatMulInteger", &[I32], &[]));
        let conv = new().x(elem_type, &[1, 2, 5, 5], DrawnKind::Small).x(elem_type, &[3, 2, 3, 3], DrawnKind::Small);
        all.push(conv.node("ConvInteger", &[I32], &[Attr::Ints("pads", &[1, 1, 1, 1])]));
    }
    all.push(new().x(F32, &[3, 5], DrawnKind::Small).number(0.05).node("QuantizeLinear", &[U8], &[]));
    all.push(new().x(F32, &[3, 5], DrawnKind::Small).node("DynamicQuantizeLinear", &[U8, F32, U8], &[]));
    all
}
