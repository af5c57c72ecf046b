//! What a convolution or a matrix product can absorb: a scale into its weights, a bias, and an
//! epilogue. A resampling absorbs an epilogue, too.
//!
//! The two folds change constants: `(w * x + b) * s + t = (w * s) * x + (b * s + t)`, per output
//! channel. They need an identity epilogue; the `epilogue` rule comes after them.

use super::{MAX_OPERATIONS, Patch, Replacement, Uses, new_constant};
use crate::graph::{Binary, DType, Elementwise, Expr, Graph, OpKind, Operator, Origin, Tensor, Values};
use crate::ids::{OpId, TensorId};

/// `fold-scale`: convolution, then a product by a constant per channel.
pub fn scale(graph: &Graph, uses: &Uses, op: OpId) -> Option<Patch> {
    let (producer, scale) = per_channel(graph, uses, op, Binary::Mul)?;
    let operator = graph.operator(producer);
    if !matches!(operator.kind, OpKind::Conv(_) | OpKind::ConvNd(_)) {
        return None;
    }
    let (weights, scale) = (graph.constant_f32(operator.inputs[1])?, &scale[..]);
    let per_output = weights.len() / scale.len();
    let scaled: Vec<f32> = weights.iter().enumerate().map(|(i, w)| w * scale[i / per_output]).collect();
    let mut constants = vec![renewed(graph, operator.inputs[1], scaled)];
    let mut inputs = operator.inputs.clone();
    inputs[1] = new_constant(graph, 0);
    if let Some(&bias) = operator.inputs.get(2) {
        let bias_values = graph.constant_f32(bias)?;
        constants.push(renewed(graph, bias, bias_values.iter().zip(scale.iter()).map(|(b, s)| b * s).collect()));
        inputs[2] = new_constant(graph, 1);
    }
    Some(replaced(graph, op, producer, Operator { inputs, ..operator.clone() }, constants))
}

/// `fold-bias`: convolution or matrix product, then a constant added per channel (per column).
pub fn bias(graph: &Graph, uses: &Uses, op: OpId) -> Option<Patch> {
    let (producer, added) = per_channel(graph, uses, op, Binary::Add)?;
    let mut operator = graph.operator(producer).clone();
    let has_bias = match &mut operator.kind {
        OpKind::Conv(conv) => std::mem::replace(&mut conv.bias, true),
        OpKind::ConvNd(conv) => std::mem::replace(&mut conv.bias, true),
        OpKind::MatMul(matmul) => std::mem::replace(&mut matmul.bias, true),
        _ => return None,
    };
    let values: Vec<f32> = if has_bias {
        graph.constant_f32(operator.inputs[2])?.iter().zip(added.iter()).map(|(a, b)| a + b).collect()
    } else {
        added.to_vec()
    };
    let name = format!("{}.bias", operator.name);
    let constant = Tensor { name, dtype: DType::F32, shape: vec![values.len()], origin: Origin::Constant(values.into()) };
    operator.inputs.truncate(2);
    operator.inputs.push(new_constant(graph, 0));
    Some(replaced(graph, op, producer, operator, vec![constant]))
}

/// `epilogue`: an elementwise operator over the finished sums, and over other tensors of exactly
/// their shape (a residual).
pub fn epilogue(graph: &Graph, uses: &Uses, op: OpId) -> Option<Patch> {
    let reader = graph.operator(op);
    let OpKind::Elementwise(e) = &reader.kind else { return None };
    let shape = &graph.tensor(reader.outputs[0]).shape;
    let fits = |t: TensorId| graph.tensor(t).shape == *shape;
    if !reader.inputs.iter().all(|&t| fits(t)) {
        return None;
    }
    let (sum, producer) = reader.inputs.iter().find_map(|&t| {
        let producer = uses.sole_producer(graph, t, op)?;
        matches!(graph.operator(producer).kind, OpKind::Conv(_) | OpKind::ConvNd(_) | OpKind::MatMul(_) | OpKind::Resample(_))
            .then_some((graph.root(t), producer))
    })?;
    let mut operator = graph.operator(producer).clone();
    let written = graph.tensor(operator.outputs[0]).shape.clone();
    let others: Vec<TensorId> = reader.inputs.iter().copied().filter(|&t| graph.root(t) != sum).collect();
    if !others.is_empty() && written != *shape {
        return None; // a residual must be readable in the sum's own layout
    }
    let (fixed, epilogue) = match &mut operator.kind {
        OpKind::Conv(conv) => (2 + usize::from(conv.bias), &mut conv.epilogue),
        OpKind::ConvNd(conv) => (2 + usize::from(conv.bias), &mut conv.epilogue),
        OpKind::MatMul(matmul) => (2 + usize::from(matmul.bias), &mut matmul.epilogue),
        OpKind::Resample(resample) => (resample.fixed_inputs(), &mut resample.epilogue),
        _ => return None,
    };
    let first = operator.inputs.len() - fixed + 1;
    let before = epilogue.clone();
    *epilogue = e.expr.substitute(&|i| {
        let input = reader.inputs[i];
        if graph.root(input) == sum {
            return before.clone();
        }
        Expr::Input(first + others.iter().position(|&t| t == input).unwrap_or(0))
    });
    if epilogue.operations() > MAX_OPERATIONS {
        return None;
    }
    operator.inputs.extend(&others);
    Some(replaced(graph, op, producer, operator, Vec::new()))
}

/// Matches `op` as `producer's result (binary) constant`, where the constant varies along the
/// producer's channels alone. Returns the producer, which has an identity epilogue and no other
/// consumer, and one value per channel.
fn per_channel(graph: &Graph, uses: &Uses, op: OpId, wanted: Binary) -> Option<(OpId, Values<f32>)> {
    let reader = graph.operator(op);
    let OpKind::Elementwise(Elementwise { expr: Expr::Binary(found, a, b) }) = &reader.kind else { return None };
    let (Expr::Input(a), Expr::Input(b)) = (&**a, &**b) else { return None };
    let (sum, constant) = match (graph.constant_f32(reader.inputs[*a]), graph.constant_f32(reader.inputs[*b])) {
        (None, Some(_)) => (reader.inputs[*a], reader.inputs[*b]),
        (Some(_), None) => (reader.inputs[*b], reader.inputs[*a]),
        _ => return None,
    };
    let producer = uses.sole_producer(graph, sum, op)?;
    let output = &graph.tensor(reader.outputs[0]).shape;
    if *found != wanted || graph.tensor(sum).shape != *output {
        return None;
    }
    // stride and number of the channels in the result
    let (stride, channels) = match &graph.operator(producer).kind {
        OpKind::Conv(conv) if conv.epilogue.is_identity() => {
            let written = &graph.tensor(graph.operator(producer).outputs[0]).shape;
            (written[2] * written[3], written[1])
        }
        OpKind::ConvNd(conv) if conv.epilogue.is_identity() => {
            let written = &graph.tensor(graph.operator(producer).outputs[0]).shape;
            (written[2..].iter().product(), written[1])
        }
        OpKind::MatMul(m) if m.epilogue.is_identity() => (m.c_strides[2], m.n),
        _ => return None,
    };
    let shape = &graph.tensor(constant).shape;
    let mut varying = (0..shape.len()).filter(|&axis| shape[axis] != 1);
    let axis = varying.next()?;
    let axis_stride: usize = output[axis + 1..].iter().product();
    let fits = varying.next().is_none() && shape[axis] == channels && axis_stride == stride;
    Some((producer, graph.constant_f32(constant).filter(|_| fits)?.clone()))
}

/// The constant `id` with other values.
fn renewed(graph: &Graph, id: TensorId, values: Vec<f32>) -> Tensor {
    Tensor { origin: Origin::Constant(values.into()), ..graph.tensor(id).clone() }
}

/// The patch that replaces `op` by `operator`, the changed `producer`, which writes `op`'s output
/// if that has the shape of its own.
fn replaced(graph: &Graph, op: OpId, producer: OpId, mut operator: Operator, constants: Vec<Tensor>) -> Patch {
    let provided = graph.operator(op).outputs[0];
    if graph.tensor(provided).shape == graph.tensor(operator.outputs[0]).shape {
        operator.outputs = vec![provided];
    }
    Patch { at: op, absorbed: vec![producer], constants, with: Replacement::Operator(Box::new(operator)) }
}
