//! RNN, GRU and LSTM.
//!
//! The reader computes them forwards or in both directions, with the usual activations, from the
//! first step to the last. So a reversed layer becomes a forward layer between two reversals, and
//! `layout = 1` becomes transpositions. A layer with other activations, a clip, coupled gates or
//! sequences of different lengths becomes a `Scan`, one for each direction. Everything else stays
//! as it is.
//!
//! In the `Scan`, the products of the inputs with `W` are one product for all steps. A sequence
//! that has ended keeps its state, and its outputs are 0. Formulas and names are those of ONNX.

use super::body::Nodes;
use super::body::{float, graph, int, text};
use super::{Body, Definition, Known, of};
use crate::graph::{Constant, DType, Scalar};

const REASON: &str = "the reader drops direction = reverse, activations, clip, input_forget and sequences of different lengths";

pub const DEFINITIONS: &[Definition] = &[
    of("GRU", recurrent, REASON),
    of("LSTM", recurrent, REASON),
    of("RNN", recurrent, REASON),
    of(QUANTISED, recurrent, "ONNX Runtime's quantiser writes it: what is multiplied by weights is rounded to integers in every step"),
];

/// An LSTM with weights of 8 bits.
const QUANTISED: &str = "com.microsoft.DynamicQuantizeLSTM";

/// A recurrent layer, with its inputs in f32, and the steps first.
struct Layer {
    kind: Kind,
    x: String,
    w: String,
    r: String,
    bias: Option<String>,
    lengths: Option<Known>,
    /// Initial H, and C of an LSTM: `[directions, batch, hidden]`.
    states: Vec<Option<String>>,
    peepholes: Option<String>,
    steps: usize,
    batch: usize,
    inputs: usize,
    hidden: usize,
    /// Whether each direction goes backwards.
    directions: Vec<bool>,
    dtype: DType,
    /// Whether what is multiplied by weights is rounded to integers of 8 bits first.
    quantised: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Rnn,
    Gru,
    Lstm,
}

impl Kind {
    fn gates(self) -> usize {
        match self {
            Kind::Rnn => 1,
            Kind::Gru => 3,
            Kind::Lstm => 4,
        }
    }

    /// The usual activations of one direction.
    fn activations(self) -> &'static [&'static str] {
        match self {
            Kind::Rnn => &["Tanh"],
            Kind::Gru => &["Sigmoid", "Tanh"],
            Kind::Lstm => &["Sigmoid", "Tanh", "Tanh"],
        }
    }
}

fn recurrent(body: &mut Body) -> Result<(), String> {
    let kind = match body.call.node.op_type.as_str() {
        "LSTM" | QUANTISED => Kind::Lstm,
        "GRU" => Kind::Gru,
        _ => Kind::Rnn,
    };
    let x = body.input(0)?;
    let layer = layer_of(body, kind)?;
    let activations = activations(body, &layer)?;
    let usual = activations.iter().zip(kind.activations().iter().cycle()).all(|(found, usual)| found.name.eq_ignore_ascii_case(usual));
    let clipped = body.call.float("clip", 0.0) != 0.0;
    let full = match &layer.lengths {
        None => true,
        Some(lengths) => lengths.ints().is_some_and(|lengths| lengths.iter().all(|&length| length == layer.steps as i64)),
    };
    if layer.quantised && !full {
        return Err("sequences of different lengths are not supported".into());
    }
    let plain = usual && !clipped && full && !layer.quantised && body.call.int("input_forget", 0) == 0;
    let outputs = if plain && !layer.directions.starts_with(&[true]) {
        whole(body, &layer, false)
    } else if plain {
        whole(body, &layer, true)
    } else {
        in_steps(body, &layer, &activations)?
    };
    let by_batch = body.call.int("layout", 0) == 1;
    let count = if kind == Kind::Lstm { 3 } else { 2 };
    for (position, mut value) in outputs.into_iter().take(count).enumerate() {
        if !body.wants(position) {
            continue;
        }
        if by_batch {
            value = body.transpose(&value, if position == 0 { &[2, 0, 1, 3] } else { &[1, 0, 2] });
        }
        body.give(position, &value, &x);
    }
    Ok(())
}

fn layer_of(body: &mut Body, kind: Kind) -> Result<Layer, String> {
    let quantised = body.call.node.op_type == QUANTISED;
    let x = body.input(0)?;
    let [w, r] = match quantised {
        true => [dequantised(body, 1, [8, 9])?, dequantised(body, 2, [10, 11])?],
        false => [body.input(1)?, body.input(2)?],
    };
    let direction = body.text("direction", "forward");
    let directions = match direction.as_str() {
        "forward" => vec![false],
        "reverse" => vec![true],
        "bidirectional" => vec![false, true],
        other => return Err(format!("its direction {other:?} is not one of forward, reverse, bidirectional")),
    };
    let (&[a, b, inputs], &[count, rows, width], &[r_count, r_rows, hidden]) = (&x.shape[..], &w.shape[..], &r.shape[..]) else {
        return Err("X, W and R must have three axes".into());
    };
    let by_batch = match body.call.int("layout", 0) {
        0 => false,
        1 => true,
        other => return Err(format!("its layout {other} is not 0 or 1")),
    };
    let (steps, batch) = if by_batch { (b, a) } else { (a, b) };
    let wanted = kind.gates() * hidden;
    if width != inputs || rows != wanted || r_rows != wanted || count != directions.len() || r_count != count {
        return Err(format!("X {:?}, W {:?} and R {:?} do not fit together for direction {direction}", x.shape, w.shape, r.shape));
    }
    if attribute_differs(body, hidden) {
        return Err(format!("its hidden_size is not the {hidden} of R"));
    }
    let wide = |body: &mut Body, known: Option<Known>, shape: &[usize]| match known {
        None => Ok(None),
        Some(known) if known.shape != shape => Err(format!("an input has the shape {:?} instead of {shape:?}", known.shape)),
        Some(known) => Ok(Some(body.widened(&known))),
    };
    let given = body.optional(3);
    let bias = wide(body, given, &[count, 2 * wanted])?;
    let mut states = Vec::new();
    for position in if kind == Kind::Lstm { 5..7 } else { 5..6 } {
        let given = body.optional(position);
        let state = wide(body, given, &if by_batch { [batch, count, hidden] } else { [count, batch, hidden] })?;
        states.push(state.map(|state| if by_batch { body.transpose(&state, &[1, 0, 2]) } else { state }));
    }
    let given = if kind == Kind::Lstm { body.optional(7) } else { None };
    let peepholes = wide(body, given, &[count, 3 * hidden])?;
    let lengths = body.optional(4);
    if lengths.as_ref().is_some_and(|lengths| lengths.shape != [batch]) {
        return Err(format!("its sequence_lens must be {batch} numbers"));
    }
    let dtype = x.computed();
    let [x, w, r] = [x, w, r].map(|known| body.widened(&known));
    let x = if by_batch { body.transpose(&x, &[1, 0, 2]) } else { x };
    Ok(Layer { kind, x, w, r, bias, lengths, states, peepholes, steps, batch, inputs, hidden, directions, dtype, quantised })
}

/// The weights `[directions, width, rows]` of 8 bits at `position` as f32 `[directions, rows,
/// width]`. Scale and zero point are one for each direction, or one for each row of it.
fn dequantised(body: &mut Body, position: usize, [scale, zero]: [usize; 2]) -> Result<Known, String> {
    let (w, scale, zero) = (body.input(position)?, body.input(scale)?, body.optional(zero));
    let &[directions, width, rows] = &w.shape[..] else { return Err("W and R must have three axes".into()) };
    let parameter = |body: &mut Body, known: &Known| {
        let wide = body.cast(&known.name, DType::F32);
        match known.shape.iter().product::<usize>() {
            count if count == directions => Ok(body.reshape(&wide, &[directions, 1, 1])),
            count if count == directions * rows => Ok(body.reshape(&wide, &[directions, 1, rows])),
            _ => Err(format!("a scale or zero point of shape {:?} does not fit weights of shape {:?}", known.shape, w.shape)),
        }
    };
    let mut value = body.cast(&w.name, DType::F32);
    if let Some(zero) = zero {
        let zero = parameter(body, &zero)?;
        value = body.op("Sub", &[&value, &zero]);
    }
    let scale = parameter(body, &scale)?;
    let value = body.op("Mul", &[&value, &scale]);
    Ok(Known { name: body.transpose(&value, &[0, 2, 1]), dtype: DType::F32, shape: vec![directions, rows, width], value: None })
}

/// `x` rounded to integers of 8 bits between its least and its largest value.
fn rounded(nodes: &mut Nodes, x: &str) -> String {
    let [integers, scale, zero] = <[String; 3]>::try_from(nodes.several("DynamicQuantizeLinear", &[x], vec![], 3)).unwrap_or_default();
    let result = nodes.op("DequantizeLinear", &[&integers, &scale, &zero]);
    // zeros alone have no scale
    let nothing = nodes.number(DType::F32, 0.0);
    let nothing = nodes.op("Equal", &[&scale, &nothing]);
    nodes.op("Where", &[&nothing, x, &result])
}

fn attribute_differs(body: &Body, hidden: usize) -> bool {
    body.call.has("hidden_size") && body.call.int("hidden_size", 0) != hidden as i64
}

/// The layer as the reader reads it: forwards, or in both directions. If it is `reversed`, it goes
/// backwards alone.
fn whole(body: &mut Body, layer: &Layer, reversed: bool) -> [String; 3] {
    let x = if reversed { body.reversed(&layer.x, 0, layer.steps) } else { layer.x.clone() };
    let or_none = |value: &Option<String>| value.clone().unwrap_or_default();
    let mut inputs = vec![x, layer.w.clone(), layer.r.clone(), or_none(&layer.bias), String::new()];
    inputs.extend(layer.states.iter().map(or_none));
    inputs.extend(layer.peepholes.clone());
    while inputs.last().is_some_and(String::is_empty) {
        inputs.pop();
    }
    let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
    let direction = if layer.directions.len() == 2 { "bidirectional" } else { "forward" };
    let mut outputs = body.itself(&inputs, vec![text("direction", direction), int("layout", 0)]);
    outputs.resize(3, String::new());
    let [y, h, c] = <[String; 3]>::try_from(outputs).unwrap_or_default();
    let y = if reversed && !y.is_empty() { body.reversed(&y, 0, layer.steps) } else { y };
    [y, h, c]
}

/// An activation function with its parameters.
#[derive(Clone, Debug)]
struct Activation {
    name: String,
    alpha: f32,
    beta: f32,
}

/// A parameter of an activation function.
#[derive(Clone, Copy)]
enum Parameter {
    /// The function has no such parameter.
    None,
    /// It has no default.
    Needed,
    /// It has this default.
    Or(f32),
}

/// Activation functions: name, alpha and beta.
const ACTIVATIONS: [(&str, Parameter, Parameter); 11] = [
    ("affine", Parameter::Needed, Parameter::Needed),
    ("elu", Parameter::Or(1.0), Parameter::None),
    ("hardsigmoid", Parameter::Or(0.2), Parameter::Or(0.5)),
    ("leakyrelu", Parameter::Or(0.01), Parameter::None),
    ("relu", Parameter::None, Parameter::None),
    ("scaledtanh", Parameter::Needed, Parameter::Needed),
    ("sigmoid", Parameter::None, Parameter::None),
    ("softplus", Parameter::None, Parameter::None),
    ("softsign", Parameter::None, Parameter::None),
    ("tanh", Parameter::None, Parameter::None),
    ("thresholdedrelu", Parameter::Or(1.0), Parameter::None),
];

/// The activations of all directions. Each takes the next values of activation_alpha and
/// activation_beta, if it has such parameters.
fn activations(body: &Body, layer: &Layer) -> Result<Vec<Activation>, String> {
    let usual = layer.kind.activations();
    let count = usual.len() * layer.directions.len();
    let default = || usual.iter().cycle().take(count).map(|name| name.to_string()).collect();
    let names: Vec<String> = body.texts("activations").unwrap_or_else(default);
    if names.len() != count {
        return Err(format!("{} activations instead of {count}", names.len()));
    }
    let (alphas, betas) = (body.floats("activation_alpha"), body.floats("activation_beta"));
    let (mut alphas, mut betas) = (alphas.into_iter(), betas.into_iter());
    let mut all = Vec::new();
    for name in names {
        let name = name.to_lowercase();
        let known = ACTIVATIONS.iter().find(|known| known.0 == name);
        let &(_, alpha, beta) = known.ok_or_else(|| format!("its activation {name:?} is not known"))?;
        let value = |list: &mut std::vec::IntoIter<f32>, parameter: Parameter, what: &str| match parameter {
            Parameter::None => Ok(0.0),
            Parameter::Needed => list.next().ok_or_else(|| format!("its activation {name} needs activation_{what}")),
            Parameter::Or(default) => Ok(list.next().unwrap_or(default)),
        };
        let alpha = value(&mut alphas, alpha, "alpha")?;
        let beta = value(&mut betas, beta, "beta")?;
        all.push(Activation { name, alpha, beta });
    }
    Ok(all)
}

impl Activation {
    /// Its value at `x`, of type `dtype`.
    fn of(&self, step: &mut Nodes, x: &str, dtype: DType) -> String {
        let parameters = || vec![float("alpha", self.alpha), float("beta", self.beta)];
        match self.name.as_str() {
            "affine" => affine(step, x, dtype, self.alpha, self.beta),
            "elu" => step.with("Elu", &[x], vec![float("alpha", self.alpha)]),
            "hardsigmoid" => step.with("HardSigmoid", &[x], parameters()),
            "leakyrelu" => step.with("LeakyRelu", &[x], vec![float("alpha", self.alpha)]),
            "relu" => step.op("Relu", &[x]),
            "scaledtanh" => {
                let inner = affine(step, x, dtype, self.beta, 0.0);
                let tanh = step.op("Tanh", &[&inner]);
                affine(step, &tanh, dtype, self.alpha, 0.0)
            }
            "sigmoid" => step.op("Sigmoid", &[x]),
            "softplus" => step.op("Softplus", &[x]),
            "softsign" => step.op("Softsign", &[x]),
            "thresholdedrelu" => step.with("ThresholdedRelu", &[x], vec![float("alpha", self.alpha)]),
            _ => step.op("Tanh", &[x]),
        }
    }
}

/// `scale * x + shift`.
fn affine(step: &mut Nodes, x: &str, dtype: DType, scale: f32, shift: f32) -> String {
    let scale = step.number(dtype, scale.into());
    let product = step.op("Mul", &[x, &scale]);
    if shift == 0.0 {
        return product;
    }
    let shift = step.number(dtype, shift.into());
    step.op("Add", &[&product, &shift])
}

/// The layer as a `Scan` for each direction: Y, Y_h and Y_c.
fn in_steps(body: &mut Body, layer: &Layer, activations: &[Activation]) -> Result<[String; 3], String> {
    let running = layer.lengths.as_ref().map(|lengths| running(body, lengths, layer));
    let (mut all, mut last): (Vec<String>, Vec<Vec<String>>) = (Vec::new(), vec![Vec::new(); 2]);
    let per_direction = activations.len() / layer.directions.len();
    for (direction, &backwards) in layer.directions.iter().enumerate() {
        let functions = &activations[direction * per_direction..(direction + 1) * per_direction];
        let x = if backwards { backward(body, &layer.x, layer, running.as_deref(), layer.inputs) } else { layer.x.clone() };
        let (y, states) = one_direction(body, layer, direction, &x, running.as_deref(), functions);
        let y = if backwards { backward(body, &y, layer, running.as_deref(), layer.hidden) } else { y };
        all.push(body.reshape(&y, &[layer.steps, 1, layer.batch, layer.hidden]));
        for (list, state) in last.iter_mut().zip(states) {
            list.push(body.reshape(&state, &[1, layer.batch, layer.hidden]));
        }
    }
    let y = body.concat(&all, 1);
    let [h, c] = [0, 1].map(|i| if last[i].is_empty() { String::new() } else { body.concat(&last[i], 0) });
    Ok([y, h, c])
}

/// Whether each sequence is still running in each step: `[steps, batch, 1]`.
fn running(body: &mut Body, lengths: &Known, layer: &Layer) -> String {
    let steps = step_numbers(body, layer.steps);
    let lengths = body.cast(&lengths.name, DType::I64);
    let lengths = body.reshape(&lengths, &[1, layer.batch, 1]);
    body.op("Less", &[&steps, &lengths])
}

/// The numbers of the steps: `[steps, 1, 1]`.
fn step_numbers(body: &mut Body, steps: usize) -> String {
    let numbers: Vec<i64> = (0..steps as i64).collect();
    body.constant(&Constant::I64(numbers.into()), &[steps, 1, 1])
}

/// `x` with its steps in reverse order: those of each sequence that are `running`, or all.
fn backward(body: &mut Body, x: &str, layer: &Layer, running: Option<&str>, width: usize) -> String {
    let (Some(running), Some(lengths)) = (running, &layer.lengths) else { return body.reversed(x, 0, layer.steps) };
    let steps = step_numbers(body, layer.steps);
    let lengths = body.cast(&lengths.name, DType::I64);
    let lengths = body.reshape(&lengths, &[1, layer.batch, 1]);
    let one = body.number(DType::I64, 1.0);
    let last = body.op("Sub", &[&lengths, &one]);
    let mirrored = body.op("Sub", &[&last, &steps]);
    let index = body.op("Where", &[running, &mirrored, &steps]);
    let shape = body.list(&[layer.steps as i64, layer.batch as i64, width as i64]);
    let index = body.op("Expand", &[&index, &shape]);
    body.with("GatherElements", &[x, &index], vec![int("axis", 0)])
}

/// All outputs `[steps, batch, hidden]` and the last states of one direction, forwards.
fn one_direction(
    body: &mut Body,
    layer: &Layer,
    direction: usize,
    x: &str,
    running: Option<&str>,
    functions: &[Activation],
) -> (String, Vec<String>) {
    let (hidden, gates, kind) = (layer.hidden, layer.kind.gates(), layer.kind);
    let of = |body: &mut Body, value: &str, shape: &[usize]| {
        let part = body.slice(value, 0, direction, direction + 1);
        body.reshape(&part, shape)
    };
    let w = of(body, &layer.w, &[gates * hidden, layer.inputs]);
    let w = body.transpose(&w, &[1, 0]);
    let r = of(body, &layer.r, &[gates * hidden, hidden]);
    let r = body.transpose(&r, &[1, 0]);
    let x = if layer.quantised { rounded(body, x) } else { x.to_string() };
    let mut projected = body.op("MatMul", &[&x, &w]);
    let reset_last = kind == Kind::Gru && body.call.int("linear_before_reset", 0) != 0;
    let mut inner_bias = None;
    if let Some(bias) = &layer.bias {
        let bias = of(body, bias, &[2 * gates * hidden]);
        let of_input = body.slice(&bias, 0, 0, gates * hidden);
        projected = body.op("Add", &[&projected, &of_input]);
        let of_state = body.slice(&bias, 0, gates * hidden, 2 * gates * hidden);
        if reset_last {
            // the bias of the hidden gate is inside its reset
            let outer = body.slice(&of_state, 0, 0, 2 * hidden);
            let zeros = body.constant(&Constant::repeated(Scalar::from_f64(layer.dtype, 0.0), hidden), &[hidden]);
            let outer = body.concat(&[outer, zeros], 0);
            projected = body.op("Add", &[&projected, &outer]);
            inner_bias = Some(body.slice(&of_state, 0, 2 * hidden, 3 * hidden));
        } else {
            projected = body.op("Add", &[&projected, &of_state]);
        }
    }
    let mut initial = Vec::new();
    for state in &layer.states {
        initial.push(match state {
            Some(state) => of(body, state, &[layer.batch, hidden]),
            None => {
                let zeros = Constant::repeated(Scalar::from_f64(layer.dtype, 0.0), layer.batch * hidden);
                body.constant(&zeros, &[layer.batch, hidden])
            }
        });
    }
    let peepholes: Option<Vec<String>> = layer.peepholes.as_ref().map(|peepholes| {
        let all = of(body, peepholes, &[3 * hidden]);
        (0..3).map(|i| body.slice(&all, 0, i * hidden, (i + 1) * hidden)).collect()
    });

    let prefix = if layer.directions.len() == 2 { ["forward.", "backward."][direction] } else { "" };
    let names = |what: &str| format!("{prefix}{what}");
    let (h, c, x, m) = (names("H"), names("C"), names("X"), names("running"));
    let mut step = Nodes::new(prefix);
    let context = Step {
        body_clip: body.call.float("clip", 0.0),
        coupled: body.call.int("input_forget", 0) != 0,
        dtype: layer.dtype,
        functions,
        quantised: layer.quantised,
    };
    let mut next = match kind {
        Kind::Rnn => {
            let of_state = step.op("MatMul", &[&h, &r]);
            let sum = step.op("Add", &[&x, &of_state]);
            vec![context.activate(&mut step, 0, &sum)]
        }
        Kind::Gru => vec![context.gru(&mut step, [&x, &h], &r, inner_bias.as_deref(), reset_last)],
        Kind::Lstm => context.lstm(&mut step, [&x, &h, &c], &r, peepholes.as_deref()).into(),
    };
    let mut output = next[0].clone();
    if running.is_some() {
        let zero = step.number(layer.dtype, 0.0);
        output = step.op("Where", &[&m, &output, &zero]);
        for (value, before) in next.iter_mut().zip([&h, &c]) {
            *value = step.op("Where", &[&m, value, before]);
        }
    }
    // each output is a value of its own
    output = step.op("Identity", &[&output]);
    let mut inputs = vec![(h.as_str(), layer.dtype)];
    inputs.extend((kind == Kind::Lstm).then_some((c.as_str(), layer.dtype)));
    inputs.push((&x, layer.dtype));
    inputs.extend(running.map(|_| (m.as_str(), DType::Bool)));
    let outputs: Vec<&str> = next.iter().map(String::as_str).chain([output.as_str()]).collect();
    let loop_body = step.graph(&inputs, &outputs);
    let mut given: Vec<&str> = initial.iter().map(String::as_str).collect();
    given.push(&projected);
    given.extend(running);
    let sequences = 1 + i64::from(running.is_some());
    let count = next.len() + 1;
    let mut results = body.several("Scan", &given, vec![graph("body", loop_body), int("num_scan_inputs", sequences)], count);
    let y = results.pop().unwrap_or_default();
    (y, results)
}

/// What one step needs to know.
struct Step<'a> {
    body_clip: f32,
    coupled: bool,
    dtype: DType,
    functions: &'a [Activation],
    quantised: bool,
}

impl Step<'_> {
    /// The activation `which` of `x`, which is clipped first.
    fn activate(&self, step: &mut Nodes, which: usize, x: &str) -> String {
        let mut x = x.to_string();
        if self.body_clip != 0.0 {
            let (low, high) = (step.number(self.dtype, -f64::from(self.body_clip)), step.number(self.dtype, self.body_clip.into()));
            x = step.op("Clip", &[&x, &low, &high]);
        }
        self.functions[which].of(step, &x, self.dtype)
    }

    /// H of the next step of a GRU; gates are z, r, h.
    fn gru(&self, step: &mut Nodes, [x, h]: [&str; 2], r: &str, bias: Option<&str>, reset_last: bool) -> String {
        let parts =
            |step: &mut Nodes, value: &str, axis: i64| step.several("Split", &[value], vec![int("axis", axis), int("num_outputs", 3)], 3);
        let x = parts(step, x, 1);
        let weights = parts(step, r, 1);
        let [z, reset] = [0, 1].map(|i| {
            let of_state = step.op("MatMul", &[h, &weights[i]]);
            let sum = step.op("Add", &[&x[i], &of_state]);
            self.activate(step, 0, &sum)
        });
        let of_state = if reset_last {
            let mut product = step.op("MatMul", &[h, &weights[2]]);
            if let Some(bias) = bias {
                product = step.op("Add", &[&product, bias]);
            }
            step.op("Mul", &[&reset, &product])
        } else {
            let kept = step.op("Mul", &[&reset, h]);
            step.op("MatMul", &[&kept, &weights[2]])
        };
        let sum = step.op("Add", &[&x[2], &of_state]);
        let candidate = self.activate(step, 1, &sum);
        let one = step.number(self.dtype, 1.0);
        let rest = step.op("Sub", &[&one, &z]);
        let new = step.op("Mul", &[&rest, &candidate]);
        let old = step.op("Mul", &[&z, h]);
        step.op("Add", &[&new, &old])
    }

    /// H and C of the next step of an LSTM; gates are i, o, f, c, peepholes i, o, f.
    fn lstm(&self, step: &mut Nodes, [x, h, c]: [&str; 3], r: &str, peepholes: Option<&[String]>) -> [String; 2] {
        let h = if self.quantised { rounded(step, h) } else { h.to_string() };
        let of_state = step.op("MatMul", &[&h, r]);
        let sums = step.op("Add", &[x, &of_state]);
        let sums = step.several("Split", &[&sums], vec![int("axis", 1), int("num_outputs", 4)], 4);
        let seen = |step: &mut Nodes, sum: &str, which: usize, state: &str| match peepholes {
            None => sum.to_string(),
            Some(peepholes) => {
                let look = step.op("Mul", &[&peepholes[which], state]);
                step.op("Add", &[sum, &look])
            }
        };
        let input = seen(step, &sums[0], 0, c);
        let input = self.activate(step, 0, &input);
        let forget = if self.coupled {
            let one = step.number(self.dtype, 1.0);
            step.op("Sub", &[&one, &input])
        } else {
            let forget = seen(step, &sums[2], 2, c);
            self.activate(step, 0, &forget)
        };
        let candidate = self.activate(step, 1, &sums[3]);
        let old = step.op("Mul", &[&forget, c]);
        let new = step.op("Mul", &[&input, &candidate]);
        let state = step.op("Add", &[&old, &new]);
        let output = seen(step, &sums[1], 1, &state);
        let output = self.activate(step, 0, &output);
        // the clip is of gates, not of the state
        let shown = self.functions[2].of(step, &state, self.dtype);
        let h = step.op("Mul", &[&output, &shown]);
        [h, state]
    }
}
