//! Random ONNX models: small graphs that branch and join, with attributes drawn from what is valid.
//!
//! The same seed gives the same model. Extents come from a short list, so that kernels repeat from
//! model to model. Values stay near 1, and nothing is decided on a knife's edge: comparisons are
//! with numbers that no value is likely to equal, and nothing is divided by what may vanish.

use rand_xoshiro::SplitMix64;
use rand_xoshiro::rand_core::{Rng, SeedableRng};

use super::onnx::{Attr, Model};

/// Extents of axes.
const EXTENTS: [i64; 5] = [2, 3, 4, 5, 8];

/// No value of a model has more elements.
const MOST_ELEMENTS: i64 = 2048;

/// A value of f32.
#[derive(Clone, Debug)]
struct Value {
    name: String,
    shape: Vec<i64>,
    read: bool,
}

/// A model under construction.
struct Generator {
    rng: SplitMix64,
    model: Model,
    values: Vec<Value>,
    opset: i64,
    names: usize,
}

/// The model of this seed.
pub fn random_model(seed: u64) -> Model {
    let mut rng = SplitMix64::seed_from_u64(seed);
    let opset = [13, 17, 18, 20][(rng.next_u64() >> 40) as usize % 4];
    let mut g = Generator { rng, model: Model::new().opset(opset), values: Vec::new(), opset, names: 0 };
    for i in 0..1 + g.below(3) {
        let rank = [1, 2, 3, 4, 4, 4][g.below(6)];
        let shape: Vec<i64> = (0..rank).map(|axis| if axis == 0 && rank > 2 { 1 + g.below(2) as i64 } else { g.extent() }).collect();
        let name = format!("x{i}");
        g.model = std::mem::take(&mut g.model).input(&name, &shape);
        g.values.push(Value { name, shape, read: false });
    }
    for _ in 0..3 + g.below(10) {
        g.step();
    }
    let unread: Vec<Value> = g.values.iter().filter(|value| !value.read && !value.name.starts_with('x')).cloned().collect();
    let model = unread.iter().fold(g.model, |model, value| model.output(&value.name, &value.shape));
    if unread.is_empty() { model.output("x0", &g.values[0].shape) } else { model }
}

fn elements(shape: &[i64]) -> i64 {
    shape.iter().product()
}

impl Generator {
    fn below(&mut self, n: usize) -> usize {
        (self.rng.next_u64() >> 33) as usize % n
    }

    fn coin(&mut self) -> bool {
        self.below(2) == 0
    }

    fn extent(&mut self) -> i64 {
        EXTENTS[self.below(EXTENTS.len())]
    }

    /// A number in [low, high), with two digits behind the point.
    fn number(&mut self, low: f32, high: f32) -> f32 {
        let share = self.below(1 << 16) as f32 / 65536.0;
        ((low + (high - low) * share) * 100.0).round() / 100.0
    }

    fn name(&mut self, what: &str) -> String {
        self.names += 1;
        format!("{what}{}", self.names)
    }

    /// A constant whose elements are about 1 / `scale`.
    fn weight(&mut self, shape: &[i64], scale: f32) -> String {
        let name = self.name("w");
        let seed = self.rng.next_u64();
        let values = super::random(seed, elements(shape) as usize).into_iter().map(|v| v / scale).collect();
        self.model = std::mem::take(&mut self.model).weight(&name, shape, values);
        name
    }

    /// A constant of these values.
    fn floats(&mut self, shape: &[i64], values: Vec<f32>) -> String {
        let name = self.name("w");
        self.model = std::mem::take(&mut self.model).weight(&name, shape, values);
        name
    }

    fn ints(&mut self, values: &[i64]) -> String {
        let name = self.name("i");
        self.model = std::mem::take(&mut self.model).ints(&name, values);
        name
    }

    /// A value with at least `rank` axes, or exactly that many.
    fn pick(&mut self, fits: impl Fn(&[i64]) -> bool) -> Option<Value> {
        let fitting: Vec<usize> = (0..self.values.len()).filter(|&i| fits(&self.values[i].shape)).collect();
        if fitting.is_empty() {
            return None;
        }
        // rather a late one
        let at = self.below(fitting.len()).max(self.below(fitting.len()));
        self.values[fitting[at]].read = true;
        Some(self.values[fitting[at]].clone())
    }

    /// A node with one result of this shape.
    fn node(&mut self, operator: &str, inputs: &[&str], shape: Vec<i64>, attributes: &[Attr]) {
        let name = self.name("v");
        self.model = std::mem::take(&mut self.model).node(operator, inputs, &name, attributes);
        self.values.push(Value { name, shape, read: false });
    }

    /// The last result, to be read by the next node of the same step.
    fn last(&mut self) -> Value {
        let last = self.values.last_mut().expect("a value");
        last.read = true;
        last.clone()
    }

    /// One step: mostly one node. Nothing if no value fits.
    fn step(&mut self) {
        let steps: [fn(&mut Generator) -> Option<()>; 32] = [
            Self::unary,
            Self::unary,
            Self::binary,
            Self::binary,
            Self::convolution,
            Self::convolution,
            Self::convolution,
            Self::transposed_convolution,
            Self::matrix_product,
            Self::matrix_product,
            Self::gemm,
            Self::normalisation,
            Self::normalisation,
            Self::pool,
            Self::pool,
            Self::global_pool,
            Self::softmax,
            Self::reduction,
            Self::reduction,
            Self::concatenation,
            Self::concatenation,
            Self::split,
            Self::slice,
            Self::pad,
            Self::transpose,
            Self::reshape,
            Self::expand_or_tile,
            Self::gather,
            Self::select,
            Self::cumulative_sum,
            Self::resize,
            Self::space,
        ];
        let rare: [fn(&mut Generator) -> Option<()>; 4] = [Self::recurrent, Self::einsum, Self::largest, Self::convolution];
        let step = if self.below(12) == 0 { rare[self.below(rare.len())] } else { steps[self.below(steps.len())] };
        step(self);
    }

    fn unary(&mut self) -> Option<()> {
        let x = self.pick(|_| true)?;
        let (alpha, beta) = (self.number(0.05, 0.9), self.number(0.3, 0.6));
        let one = [Attr::Float("alpha", alpha)];
        let both = [Attr::Float("alpha", alpha), Attr::Float("beta", beta)];
        let (operator, attributes): (&str, &[Attr]) = match self.below(16) {
            0 => ("Relu", &[]),
            1 => ("Sigmoid", &[]),
            2 => ("Tanh", &[]),
            3 => ("LeakyRelu", &one),
            4 => ("Elu", &one),
            5 => ("HardSigmoid", &both),
            6 => ("Softplus", &[]),
            7 => ("Erf", &[]),
            8 => ("Abs", &[]),
            9 => ("Neg", &[]),
            10 => ("HardSwish", &[]),
            11 => ("Softsign", &[]),
            12 => ("Cos", &[]),
            13 => ("Atan", &[]),
            14 => {
                let (low, high) = (self.number(-0.9, -0.1), self.number(0.1, 0.9));
                let (low, high) = (self.floats(&[], vec![low]), self.floats(&[], vec![high]));
                self.node("Clip", &[&x.name, &low, &high], x.shape, &[]);
                return Some(());
            }
            _ => {
                let slope = self.weight(&vec![1; x.shape.len()], 2.0);
                self.node("PRelu", &[&x.name, &slope], x.shape, &[]);
                return Some(());
            }
        };
        if operator == "HardSwish" && self.opset < 14 {
            return None;
        }
        self.node(operator, &[&x.name], x.shape, attributes);
        Some(())
    }

    fn binary(&mut self) -> Option<()> {
        let x = self.pick(|_| true)?;
        let shape = x.shape.clone();
        let other = self.pick(|other| other == shape).filter(|other| other.name != x.name);
        let operator = ["Add", "Sub", "Mul", "Max", "Min", "Mean", "Add", "Mul"][self.below(8)];
        if let (Some(other), true) = (other, self.below(4) != 0) {
            self.node(operator, &[&x.name, &other.name], shape, &[]);
            return Some(());
        }
        // a constant that is broadcast
        let drop = self.below(shape.len() + 1);
        let mut small = shape[drop..].to_vec();
        for extent in &mut small {
            if self.below(3) == 0 {
                *extent = 1;
            }
        }
        if self.below(5) == 0 {
            let values = super::random(self.rng.next_u64(), elements(&small) as usize);
            let divisor = self.floats(&small, values.into_iter().map(|v| v.signum() * (v.abs() + 0.5)).collect());
            self.node("Div", &[&x.name, &divisor], shape, &[]);
        } else {
            let constant = self.weight(&small, 1.0);
            let inputs = if self.coin() { [&*x.name, &*constant] } else { [&*constant, &*x.name] };
            self.node(operator, &inputs, shape, &[]);
        }
        Some(())
    }

    fn convolution(&mut self) -> Option<()> {
        let x = self.pick(|shape| shape.len() == 4 || shape.len() == 3)?;
        let (channels, space) = (x.shape[1], x.shape[2..].to_vec());
        let group = match self.below(4) {
            0 => channels,
            1 if channels % 2 == 0 => 2,
            _ => 1,
        };
        let filters = group * (1 + self.below(if group == 1 { 8 } else { 2 }) as i64);
        let (mut kernel, mut strides, mut dilations, mut pads, mut out) = (vec![], vec![], vec![], vec![0; 2 * space.len()], vec![]);
        for (axis, &extent) in space.iter().enumerate() {
            let k = [1, 1, 2, 3][self.below(4)];
            let d = if k > 1 && self.below(4) == 0 { 2 } else { 1 };
            let reach = (k - 1) * d + 1;
            pads[axis] = self.below(reach as usize) as i64;
            pads[axis + space.len()] = self.below(reach as usize) as i64;
            let padded = extent + pads[axis] + pads[axis + space.len()];
            if padded < reach {
                return None;
            }
            let s = 1 + self.below(2) as i64;
            out.push((padded - reach) / s + 1);
            kernel.push(k);
            strides.push(s);
            dilations.push(d);
        }
        let terms = channels / group * elements(&kernel);
        let weight = self.weight(&[vec![filters, channels / group], kernel.clone()].concat(), (terms as f32).sqrt() / 2.0);
        let bias = self.coin().then(|| self.weight(&[filters], 1.0));
        let attributes = [
            Attr::Ints("kernel_shape", &kernel),
            Attr::Ints("strides", &strides),
            Attr::Ints("dilations", &dilations),
            Attr::Ints("pads", &pads),
            Attr::Int("group", group),
        ];
        let inputs: Vec<&str> = [x.name.as_str(), &weight].into_iter().chain(bias.as_deref()).collect();
        self.node("Conv", &inputs, [vec![x.shape[0], filters], out].concat(), &attributes);
        Some(())
    }

    fn transposed_convolution(&mut self) -> Option<()> {
        let x = self.pick(|shape| shape.len() == 4 && elements(shape) <= 256)?;
        let (channels, filters) = (x.shape[1], 1 + self.below(4) as i64);
        let (k, s) = (1 + self.below(3) as i64, 1 + self.below(2) as i64);
        let pad = self.below(k as usize) as i64;
        let out: Vec<i64> = x.shape[2..].iter().map(|extent| (extent - 1) * s + k - 2 * pad).collect();
        if out.iter().any(|&extent| extent < 1) {
            return None;
        }
        let weight = self.weight(&[channels, filters, k, k], (channels as f32).sqrt());
        let attributes = [Attr::Ints("kernel_shape", &[k, k]), Attr::Ints("strides", &[s, s]), Attr::Ints("pads", &[pad; 4])];
        self.node("ConvTranspose", &[&x.name, &weight], [vec![x.shape[0], filters], out].concat(), &attributes);
        Some(())
    }

    fn matrix_product(&mut self) -> Option<()> {
        let x = self.pick(|shape| shape.len() >= 2)?;
        let (k, n) = (x.shape[x.shape.len() - 1], self.extent());
        let batched = x.shape.len() > 2 && self.coin();
        let batch = if batched { x.shape[..x.shape.len() - 2].to_vec() } else { Vec::new() };
        let weight = self.weight(&[batch, vec![k, n]].concat(), (k as f32).sqrt());
        let shape = [&x.shape[..x.shape.len() - 1], &[n]].concat();
        self.node("MatMul", &[&x.name, &weight], shape, &[]);
        Some(())
    }

    fn gemm(&mut self) -> Option<()> {
        let x = self.pick(|shape| shape.len() == 2)?;
        let (a, b) = (self.coin(), self.coin());
        let [m, k] = if a { [x.shape[1], x.shape[0]] } else { [x.shape[0], x.shape[1]] };
        let n = self.extent();
        let weight = self.weight(&if b { [n, k] } else { [k, n] }, (k as f32).sqrt());
        let bias = match self.below(4) {
            0 => None,
            1 => Some(self.weight(&[n], 1.0)),
            2 => Some(self.weight(&[m, 1], 1.0)),
            _ => Some(self.weight(&[m, n], 1.0)),
        };
        let (alpha, beta) = (self.number(0.3, 1.5), self.number(0.3, 1.5));
        let attributes =
            [Attr::Int("transA", a.into()), Attr::Int("transB", b.into()), Attr::Float("alpha", alpha), Attr::Float("beta", beta)];
        let inputs: Vec<&str> = [x.name.as_str(), &weight].into_iter().chain(bias.as_deref()).collect();
        self.node("Gemm", &inputs, vec![m, n], &attributes);
        Some(())
    }

    fn normalisation(&mut self) -> Option<()> {
        let epsilon = [Attr::Float("epsilon", 0.1)];
        match self.below(3) {
            0 => {
                let x = self.pick(|shape| shape.len() >= 2)?;
                let c = x.shape[1];
                let [scale, bias, mean] = [0; 3].map(|_| self.weight(&[c], 1.0));
                let variance = super::random(self.rng.next_u64(), c as usize).into_iter().map(|v| v.abs() + 0.3).collect();
                let variance = self.floats(&[c], variance);
                self.node("BatchNormalization", &[&x.name, &scale, &bias, &mean, &variance], x.shape, &epsilon);
            }
            1 => {
                let x = self.pick(|shape| shape.len() == 4 && shape[2] * shape[3] >= 6)?;
                let [scale, bias] = [0; 2].map(|_| self.weight(&[x.shape[1]], 1.0));
                self.node("InstanceNormalization", &[&x.name, &scale, &bias], x.shape, &epsilon);
            }
            _ => {
                let x = self.pick(|shape| shape.last().is_some_and(|&extent| extent >= 4))?;
                if self.opset < 17 {
                    return None;
                }
                let [scale, bias] = [0; 2].map(|_| self.weight(&x.shape[x.shape.len() - 1..], 1.0));
                let attributes = [Attr::Int("axis", -1), epsilon[0]];
                self.node("LayerNormalization", &[&x.name, &scale, &bias], x.shape, &attributes);
            }
        }
        Some(())
    }

    fn pool(&mut self) -> Option<()> {
        let x = self.pick(|shape| shape.len() == 4 && shape[2].min(shape[3]) >= 2)?;
        let (k, s) = (2 + self.below(2) as i64, 1 + self.below(2) as i64);
        let pad = self.below(2) as i64;
        let ceil = self.below(3) == 0;
        let mut out = Vec::new();
        for &extent in &x.shape[2..] {
            let free = extent + 2 * pad - k;
            if free < 0 {
                return None;
            }
            let steps = if ceil && free % s != 0 { free / s + 1 } else { free / s };
            if steps * s >= extent + pad {
                return None; // a window that begins behind the image
            }
            out.push(steps + 1);
        }
        let (kernel, strides, pads) = ([k, k], [s, s], [pad; 4]);
        let mut attributes = vec![Attr::Ints("kernel_shape", &kernel), Attr::Ints("strides", &strides), Attr::Ints("pads", &pads)];
        attributes.push(Attr::Int("ceil_mode", ceil.into()));
        let operator = if self.coin() { "MaxPool" } else { "AveragePool" };
        if operator == "AveragePool" && !ceil {
            attributes.push(Attr::Int("count_include_pad", self.below(2) as i64));
        }
        self.node(operator, &[&x.name], [vec![x.shape[0], x.shape[1]], out].concat(), &attributes);
        Some(())
    }

    fn global_pool(&mut self) -> Option<()> {
        let x = self.pick(|shape| shape.len() == 4)?;
        let operator = if self.coin() { "GlobalAveragePool" } else { "GlobalMaxPool" };
        self.node(operator, &[&x.name], vec![x.shape[0], x.shape[1], 1, 1], &[]);
        Some(())
    }

    fn softmax(&mut self) -> Option<()> {
        let x = self.pick(|_| true)?;
        let axis = self.below(x.shape.len()) as i64 - if self.coin() { x.shape.len() as i64 } else { 0 };
        let operator = if self.below(4) == 0 { "LogSoftmax" } else { "Softmax" };
        self.node(operator, &[&x.name], x.shape, &[Attr::Int("axis", axis)]);
        Some(())
    }

    fn reduction(&mut self) -> Option<()> {
        let x = self.pick(|_| true)?;
        let operators = ["ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceLogSumExp"];
        let operator = operators[self.below(operators.len())];
        let rank = x.shape.len();
        let mut axes: Vec<i64> = (0..rank as i64).filter(|_| self.coin()).collect();
        if axes.is_empty() {
            axes.push(self.below(rank) as i64);
        }
        let keep = self.coin();
        let shape: Vec<i64> = (0..rank)
            .filter_map(|axis| match axes.contains(&(axis as i64)) {
                true => keep.then_some(1),
                false => Some(x.shape[axis]),
            })
            .collect();
        if shape.is_empty() {
            return None;
        }
        let given: Vec<i64> = axes.iter().map(|&axis| if self.coin() { axis - rank as i64 } else { axis }).collect();
        if operator == "ReduceSum" || self.opset >= 18 {
            let given = self.ints(&given);
            self.node(operator, &[&x.name, &given], shape, &[Attr::Int("keepdims", keep.into())]);
        } else {
            self.node(operator, &[&x.name], shape, &[Attr::Int("keepdims", keep.into()), Attr::Ints("axes", &given)]);
        }
        Some(())
    }

    fn concatenation(&mut self) -> Option<()> {
        let x = self.pick(|shape| elements(shape) * 2 <= MOST_ELEMENTS)?;
        let axis = self.below(x.shape.len());
        let shape = x.shape.clone();
        let alike = |other: &[i64]| other.len() == shape.len() && (0..shape.len()).all(|i| i == axis || other[i] == shape[i]);
        let mut parts = vec![x];
        for _ in 0..1 + self.below(2) {
            parts.extend(self.pick(alike));
        }
        let extent: i64 = parts.iter().map(|part| part.shape[axis]).sum();
        let mut out = shape.clone();
        out[axis] = extent;
        let names: Vec<&str> = parts.iter().map(|part| part.name.as_str()).collect();
        self.node("Concat", &names, out, &[Attr::Int("axis", axis as i64)]);
        Some(())
    }

    fn split(&mut self) -> Option<()> {
        let x = self.pick(|shape| shape.iter().any(|&extent| extent >= 2))?;
        let axis = (0..x.shape.len()).rev().find(|&axis| x.shape[axis] >= 2)?;
        let first = 1 + self.below(x.shape[axis] as usize - 1) as i64;
        let sizes = [first, x.shape[axis] - first];
        let split = self.ints(&sizes);
        let names = [self.name("v"), self.name("v")];
        self.model = std::mem::take(&mut self.model).node("Split", &[&x.name, &split], &names.join(","), &[Attr::Int("axis", axis as i64)]);
        for (name, extent) in names.into_iter().zip(sizes) {
            let mut shape = x.shape.clone();
            shape[axis] = extent;
            self.values.push(Value { name, shape, read: false });
        }
        Some(())
    }

    fn slice(&mut self) -> Option<()> {
        let x = self.pick(|_| true)?;
        let axis = self.below(x.shape.len());
        let extent = x.shape[axis];
        let (start, end, step) = match self.below(3) {
            0 => (extent - 1, -extent - 1, -1),
            1 if extent > 2 => (1, extent, 2),
            _ => (0, extent - i64::from(extent > 1), 1),
        };
        let count = if step == -1 { extent } else { (end - start + step - 1) / step };
        let [starts, ends, axes, steps] = [start, end, axis as i64, step].map(|value| self.ints(&[value]));
        let mut shape = x.shape;
        shape[axis] = count;
        self.node("Slice", &[&x.name, &starts, &ends, &axes, &steps], shape, &[]);
        Some(())
    }

    fn pad(&mut self) -> Option<()> {
        let x = self.pick(|shape| shape.iter().all(|&extent| extent >= 2) && elements(shape) <= 512)?;
        let rank = x.shape.len();
        let mut pads = vec![0; 2 * rank];
        for axis in rank.saturating_sub(2)..rank {
            pads[axis] = self.below(2) as i64;
            pads[axis + rank] = self.below(2) as i64;
        }
        let shape: Vec<i64> = (0..rank).map(|axis| x.shape[axis] + pads[axis] + pads[axis + rank]).collect();
        let mode = ["constant", "edge", "reflect"][self.below(3)];
        let pads = self.ints(&pads);
        if mode == "constant" {
            let value = self.number(-1.0, 1.0);
            let value = self.floats(&[], vec![value]);
            self.node("Pad", &[&x.name, &pads, &value], shape, &[Attr::Text("mode", mode)]);
        } else {
            self.node("Pad", &[&x.name, &pads], shape, &[Attr::Text("mode", mode)]);
        }
        Some(())
    }

    fn transpose(&mut self) -> Option<()> {
        let x = self.pick(|shape| shape.len() >= 2)?;
        let mut order: Vec<i64> = (0..x.shape.len() as i64).collect();
        for i in (1..order.len()).rev() {
            let j = self.below(i + 1);
            order.swap(i, j);
        }
        let shape = order.iter().map(|&axis| x.shape[axis as usize]).collect();
        self.node("Transpose", &[&x.name], shape, &[Attr::Ints("perm", &order)]);
        Some(())
    }

    fn reshape(&mut self) -> Option<()> {
        let x = self.pick(|_| true)?;
        let all = elements(&x.shape);
        match self.below(4) {
            0 => {
                let axis = self.below(x.shape.len() + 1);
                let [rows, columns] = [elements(&x.shape[..axis]), elements(&x.shape[axis..])];
                self.node("Flatten", &[&x.name], vec![rows, columns], &[Attr::Int("axis", axis as i64)]);
            }
            1 => {
                let axis = self.below(x.shape.len() + 1);
                let axes = self.ints(&[axis as i64]);
                let mut shape = x.shape;
                shape.insert(axis, 1);
                if shape.len() > 5 {
                    return None;
                }
                self.node("Unsqueeze", &[&x.name, &axes], shape, &[]);
            }
            2 if x.shape.contains(&1) && x.shape.len() > 1 => {
                let axis = x.shape.iter().position(|&extent| extent == 1)?;
                let axes = self.ints(&[axis as i64]);
                let mut shape = x.shape;
                shape.remove(axis);
                self.node("Squeeze", &[&x.name, &axes], shape, &[]);
            }
            _ => {
                let c = EXTENTS.into_iter().rev().find(|c| all % c == 0)?;
                let w = [4, 3, 2].into_iter().find(|w| all / c % w == 0).unwrap_or(1);
                let shape = vec![1, c, all / c / w, w];
                let wanted = self.ints(&[1, c, -1, w]);
                self.node("Reshape", &[&x.name, &wanted], shape, &[]);
            }
        }
        Some(())
    }

    fn expand_or_tile(&mut self) -> Option<()> {
        let x = self.pick(|shape| elements(shape) <= 256)?;
        if self.coin() {
            let shape = [vec![2], x.shape.clone()].concat();
            let wanted = self.ints(&shape);
            (shape.len() <= 5).then(|| self.node("Expand", &[&x.name, &wanted], shape, &[]))
        } else {
            let repeats: Vec<i64> = x.shape.iter().map(|_| 1 + i64::from(self.below(3) == 0)).collect();
            let shape: Vec<i64> = x.shape.iter().zip(&repeats).map(|(extent, repeat)| extent * repeat).collect();
            let repeats = self.ints(&repeats);
            (elements(&shape) <= MOST_ELEMENTS).then(|| self.node("Tile", &[&x.name, &repeats], shape, &[]))
        }
    }

    fn gather(&mut self) -> Option<()> {
        let x = self.pick(|_| true)?;
        let axis = self.below(x.shape.len());
        let extent = x.shape[axis];
        let indices: Vec<i64> = (0..3).map(|_| self.below(2 * extent as usize) as i64 - extent).collect();
        let indices = self.ints(&indices);
        let mut shape = x.shape;
        shape[axis] = 3;
        self.node("Gather", &[&x.name, &indices], shape, &[Attr::Int("axis", axis as i64)]);
        Some(())
    }

    fn select(&mut self) -> Option<()> {
        let x = self.pick(|_| true)?;
        let shape = x.shape.clone();
        let other = self.pick(|other| other == shape)?;
        let threshold = self.floats(&[], vec![0.012_345]);
        let operator = ["Greater", "Less", "GreaterOrEqual"][self.below(3)];
        let condition = self.name("c");
        self.model = std::mem::take(&mut self.model).node(operator, &[&x.name, &threshold], &condition, &[]);
        self.node("Where", &[&condition, &x.name, &other.name], shape, &[]);
        Some(())
    }

    fn cumulative_sum(&mut self) -> Option<()> {
        let x = self.pick(|_| true)?;
        let axis = self.ints(&[self.values.len() as i64 % x.shape.len() as i64]);
        let attributes = [Attr::Int("exclusive", self.below(2) as i64), Attr::Int("reverse", self.below(2) as i64)];
        // a scalar in ONNX, a vector of one element in many models
        self.node("CumSum", &[&x.name, &axis], x.shape, &attributes);
        Some(())
    }

    fn resize(&mut self) -> Option<()> {
        let x = self.pick(|shape| shape.len() == 4 && elements(shape) <= 256 && shape[2].min(shape[3]) >= 2)?;
        let [h, w] = [0; 2].map(|_| self.extent());
        let sizes = self.ints(&[x.shape[0], x.shape[1], h, w]);
        let linear = self.coin();
        let positions = ["half_pixel", "asymmetric", "align_corners"][self.below(3)];
        let mut attributes =
            vec![Attr::Text("mode", if linear { "linear" } else { "nearest" }), Attr::Text("coordinate_transformation_mode", positions)];
        if !linear {
            attributes.push(Attr::Text("nearest_mode", ["floor", "round_prefer_floor"][self.below(2)]));
        }
        self.node("Resize", &[&x.name, "", "", &sizes], vec![x.shape[0], x.shape[1], h, w], &attributes);
        Some(())
    }

    fn space(&mut self) -> Option<()> {
        if self.coin() {
            let x = self.pick(|shape| shape.len() == 4 && shape[1] % 4 == 0)?;
            let mode = ["DCR", "CRD"][self.below(2)];
            let [n, c, h, w] = x.shape[..] else { return None };
            let attributes = [Attr::Int("blocksize", 2), Attr::Text("mode", mode)];
            self.node("DepthToSpace", &[&x.name], vec![n, c / 4, h * 2, w * 2], &attributes);
        } else {
            let x = self.pick(|shape| shape.len() == 4 && shape[2] % 2 == 0 && shape[3] % 2 == 0)?;
            let [n, c, h, w] = x.shape[..] else { return None };
            self.node("SpaceToDepth", &[&x.name], vec![n, c * 4, h / 2, w / 2], &[Attr::Int("blocksize", 2)]);
        }
        Some(())
    }

    fn recurrent(&mut self) -> Option<()> {
        let x = self.pick(|shape| shape.len() == 3)?;
        let [steps, batch, features] = x.shape[..] else { return None };
        let hidden = 1 + self.below(4) as i64;
        let (operator, gates) = if self.coin() { ("LSTM", 4) } else { ("GRU", 3) };
        let direction = ["forward", "reverse", "bidirectional"][self.below(3)];
        let directions = 1 + i64::from(direction == "bidirectional");
        let w = self.weight(&[directions, gates * hidden, features], (features as f32).sqrt());
        let r = self.weight(&[directions, gates * hidden, hidden], (hidden as f32).sqrt());
        let b = self.weight(&[directions, 2 * gates * hidden], 2.0);
        let mut attributes = vec![Attr::Int("hidden_size", hidden), Attr::Text("direction", direction)];
        if operator == "GRU" {
            attributes.push(Attr::Int("linear_before_reset", 1));
        }
        self.node(operator, &[&x.name, &w, &r, &b], vec![steps, directions, batch, hidden], &attributes);
        Some(())
    }

    fn einsum(&mut self) -> Option<()> {
        let x = self.pick(|shape| shape.len() == 3)?;
        let n = self.extent();
        let [b, i, j] = x.shape[..] else { return None };
        let weight = self.weight(&[b, n, j], (j as f32).sqrt());
        self.node("Einsum", &[&x.name, &weight], vec![b, n, i], &[Attr::Text("equation", "bij,bkj->bki")]);
        Some(())
    }

    /// The largest elements, or the index of the largest, as a number. The index is that of an
    /// input, whose elements differ: others may be equal but for rounding.
    fn largest(&mut self) -> Option<()> {
        let x = self.pick(|shape| shape.last().is_some_and(|&extent| extent >= 3))?;
        let x = if x.name.starts_with('x') { x } else { self.values[0].clone() };
        let last = x.shape.len() - 1;
        if x.shape[last] < 3 {
            return None;
        }
        if self.coin() {
            let k = self.ints(&[2]);
            let mut shape = x.shape;
            shape[last] = 2;
            let (values, indices) = (self.name("v"), self.name("n"));
            self.model = std::mem::take(&mut self.model).node("TopK", &[&x.name, &k], &format!("{values},{indices}"), &[]);
            self.values.push(Value { name: values, shape, read: false });
        } else {
            let index = self.name("n");
            self.model = std::mem::take(&mut self.model).node("ArgMax", &[&x.name], &index, &[Attr::Int("axis", -1)]);
            let mut shape = x.shape;
            shape[last] = 1;
            self.node("Cast", &[&index], shape, &[Attr::Int("to", 1)]);
            let number = self.last();
            let scale = self.floats(&[], vec![0.25]);
            self.node("Mul", &[&number.name, &scale], number.shape, &[]);
        }
        Some(())
    }
}
