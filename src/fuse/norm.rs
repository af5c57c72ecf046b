//! Normalisations, which arrive as several operators: squares, a mean, a root, a product. Exporters
//! and tract write them in several ways. These are recognised:
//!
//! * `rms-norm`: `d * f` or `d / f`, where `f` is computed from `mean(d^2) + epsilon` alone and is
//!   its root (or the reciprocal of that);
//! * `layer-norm`: such a normalisation of `d = x - mean(x)` along the same axes;
//! * `norm-epilogue`: an elementwise operator after a normalisation, above all scale and bias. Its
//!   other operands broadcast. A GroupNorm normalises under a shape in which its groups are an
//!   axis, and scales under another, in which they are not; the operands are then viewed under the
//!   first.

use super::{MAX_INPUTS, MAX_OPERATIONS, Patch, Replacement, Uses, new_constant};
use crate::graph::{Binary, DType, Elementwise, Expr, Graph, Norm, OpKind, Operator, Origin, Reduce, ReduceKind, Tensor, Unary};
use crate::ids::{OpId, TensorId};

pub fn root_mean_square(graph: &Graph, uses: &Uses, op: OpId) -> Option<Patch> {
    let last = graph.operator(op);
    let OpKind::Elementwise(Elementwise { expr: Expr::Binary(function, a, b) }) = &last.kind else { return None };
    let (&Expr::Input(a), &Expr::Input(b)) = (&**a, &**b) else { return None };
    let shape = &graph.tensor(last.outputs[0]).shape;
    let full = |i: usize| graph.tensor(last.inputs[i]).shape == *shape;
    let pairs = [(a, b), (b, a)];
    pairs.into_iter().take(if *function == Binary::Mul { 2 } else { 1 }).filter(|&(x, _)| full(x)).find_map(|(x, factor)| {
        let x = last.inputs[x];
        if graph.tensor(x).dtype != DType::F32 {
            return None;
        }
        let (factor, mean, mut absorbed) = inlined(graph, uses, last.inputs[factor], op)?;
        let epsilon = match (function, &factor) {
            (Binary::Mul, Expr::Unary(Unary::Rsqrt, sum)) => epsilon(sum)?,
            (Binary::Mul, Expr::Unary(Unary::Recip, root)) => epsilon(under_root(root)?)?,
            (Binary::Div, root) => epsilon(under_root(root)?)?,
            (Binary::Mul, Expr::Binary(Binary::Div, one, root)) if **one == Expr::number(1.0) => epsilon(under_root(root)?)?,
            _ => return None,
        };
        let reader = absorbed.last().copied().unwrap_or(op);
        let (axes, squares, reduction) = mean_of(graph, uses, mean, reader)?;
        let squared = uses.sole_producer(graph, squares, reduction)?;
        let OpKind::Elementwise(square) = &graph.operator(squared).kind else { return None };
        let inputs = &graph.operator(squared).inputs;
        let is_square = match &square.expr {
            Expr::Unary(Unary::Square, e) => e.is_identity(),
            Expr::Binary(Binary::Mul, a, b) => matches!((&**a, &**b), (Expr::Input(_), Expr::Input(_))),
            _ => false,
        };
        let same = |t: TensorId| graph.root(t) == graph.root(x) && graph.tensor(t).shape == *shape;
        if !is_square || !inputs.iter().all(|&t| same(t)) || graph.tensor(squares).shape != *shape {
            return None;
        }
        absorbed.extend([reduction, squared]);
        let kind = OpKind::Norm(Norm { centred: false, axes, epsilon, epilogue: Expr::identity() });
        let name = graph.operator(squared).name.clone();
        let with = Operator { name, kind, inputs: vec![x], outputs: last.outputs.clone() };
        Some(Patch { at: op, absorbed, constants: Vec::new(), with: Replacement::Operator(Box::new(with)) })
    })
}

pub fn layer(graph: &Graph, uses: &Uses, op: OpId) -> Option<Patch> {
    let mut operator = graph.operator(op).clone();
    let OpKind::Norm(norm) = &mut operator.kind else { return None };
    let difference = operator.inputs[0];
    let producer = uses.sole_producer(graph, difference, op)?;
    let OpKind::Elementwise(Elementwise { expr: Expr::Binary(Binary::Sub, x, mean) }) = &graph.operator(producer).kind else { return None };
    let (&Expr::Input(x), &Expr::Input(mean)) = (&**x, &**mean) else { return None };
    let (x, mean) = (graph.operator(producer).inputs[x], graph.operator(producer).inputs[mean]);
    let (axes, of, reduction) = mean_of(graph, uses, mean, producer)?;
    let shape = &graph.tensor(difference).shape;
    let same = graph.root(of) == graph.root(x) && [x, of].iter().all(|&t| graph.tensor(t).shape == *shape);
    let produced = graph.operator(producer).outputs[0];
    if norm.centred || norm.axes != axes || !same || graph.tensor(produced).shape != *shape {
        return None;
    }
    norm.centred = true;
    operator.inputs[0] = x;
    operator.name = graph.operator(reduction).name.clone();
    Some(Patch { at: op, absorbed: vec![producer, reduction], constants: Vec::new(), with: Replacement::Operator(Box::new(operator)) })
}

pub fn epilogue(graph: &Graph, uses: &Uses, op: OpId) -> Option<Patch> {
    let reader = graph.operator(op);
    let OpKind::Elementwise(e) = &reader.kind else { return None };
    let shape = &graph.tensor(reader.outputs[0]).shape;
    let (normalised, producer) = reader.inputs.iter().find_map(|&t| {
        let producer = uses.sole_producer(graph, t, op)?;
        matches!(graph.operator(producer).kind, OpKind::Norm(_)).then_some((graph.root(t), producer))
    })?;
    let mut operator = graph.operator(producer).clone();
    let OpKind::Norm(norm) = &mut operator.kind else { return None };
    let written = graph.tensor(operator.outputs[0]).shape.clone();
    let (mut more, mut views) = (Vec::new(), Vec::new());
    let first = operator.inputs.len();
    let mut operands = Vec::new(); // the epilogue's operand for each of the reader's inputs
    for &input in &reader.inputs {
        let tensor = graph.tensor(input);
        if graph.root(input) == normalised {
            if tensor.shape != *shape {
                return None; // broadcast, or read under two shapes
            }
            operands.push(None);
            continue;
        }
        let seen = regrouped(&tensor.shape, shape, &written)?;
        let id = if seen == tensor.shape {
            input
        } else {
            views.push(Tensor { shape: seen, origin: Origin::View(input), ..tensor.clone() });
            new_constant(graph, views.len() - 1)
        };
        operands.push(Some(Expr::Input(first + more.len())));
        more.push(id);
    }
    let before = norm.epilogue.clone();
    norm.epilogue = e.expr.substitute(&|i| operands[i].clone().unwrap_or_else(|| before.clone()));
    if norm.epilogue.operations() > MAX_OPERATIONS || first + more.len() > MAX_INPUTS {
        return None;
    }
    operator.inputs.extend(more);
    if written == *shape {
        operator.outputs = reader.outputs.clone();
    }
    Some(Patch { at: op, absorbed: vec![producer], constants: views, with: Replacement::Operator(Box::new(operator)) })
}

/// The shape `part`, which broadcasts to `from`, regrouped so that it broadcasts to `to`, another
/// shape with as many elements. A run of axes that is split or coalesced must be whole in `part`,
/// or have one element there.
fn regrouped(part: &[usize], from: &[usize], to: &[usize]) -> Option<Vec<usize>> {
    let (mut result, mut f, mut t) = (Vec::new(), 0, 0);
    while f < from.len() || t < to.len() {
        // the shortest runs of axes of both with equally many elements
        let (f0, t0) = (f, t);
        let (mut of_from, mut of_to) = (1, 1);
        while f == f0 && t == t0 || of_from != of_to {
            if f < from.len() && (of_from <= of_to || t == to.len()) {
                of_from *= from[f];
                f += 1;
            } else if t < to.len() {
                of_to *= to[t];
                t += 1;
            } else {
                return None;
            }
        }
        if part[f0..f] == from[f0..f] {
            result.extend(&to[t0..t]);
        } else if part[f0..f].iter().all(|&size| size == 1) {
            result.extend((t0..t).map(|_| 1));
        } else {
            return None;
        }
    }
    Some(result)
}

/// `t` as an expression of one tensor, that tensor, and the elementwise operators in between, the
/// last one first.
fn inlined(graph: &Graph, uses: &Uses, t: TensorId, reader: OpId) -> Option<(Expr, TensorId, Vec<OpId>)> {
    let (mut expr, mut at, mut reader, mut absorbed) = (Expr::identity(), t, reader, Vec::new());
    loop {
        let producer = uses.sole_producer(graph, at, reader)?;
        let operator = graph.operator(producer);
        match &operator.kind {
            OpKind::Elementwise(e) if operator.inputs.len() == 1 => {
                expr = expr.substitute(&|_| e.expr.clone());
                at = operator.inputs[0];
                absorbed.push(producer);
                reader = producer;
            }
            _ => return Some((expr, at, absorbed)),
        }
    }
}

/// The number added in `x0 + epsilon`.
fn epsilon(sum: &Expr) -> Option<f32> {
    let Expr::Binary(Binary::Add, a, b) = sum else { return None };
    match (&**a, &**b) {
        (Expr::Input(0), Expr::Const(epsilon)) | (Expr::Const(epsilon), Expr::Input(0)) => epsilon.f32(),
        _ => None,
    }
}

fn under_root(root: &Expr) -> Option<&Expr> {
    match root {
        Expr::Unary(Unary::Sqrt, e) => Some(e),
        _ => None,
    }
}

/// Matches `t`, of which `reader` is the only consumer, as a mean: its axes, source and operator.
fn mean_of(graph: &Graph, uses: &Uses, t: TensorId, reader: OpId) -> Option<(Vec<usize>, TensorId, OpId)> {
    let producer = uses.sole_producer(graph, t, reader)?;
    let operator = graph.operator(producer);
    let OpKind::Reduce(Reduce { kind: ReduceKind::Mean, axes }) = &operator.kind else { return None };
    (graph.tensor(t).shape == graph.tensor(operator.outputs[0]).shape).then(|| (axes.clone(), operator.inputs[0], producer))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operands_follow_split_and_joined_axes() {
        assert_eq!(regrouped(&[1, 6, 1, 1], &[2, 6, 4, 5], &[2, 3, 2, 4, 5]), Some(vec![1, 3, 2, 1, 1]));
        assert_eq!(regrouped(&[1, 6, 1, 1], &[2, 6, 4, 5], &[2, 3, 2, 20]), Some(vec![1, 3, 2, 1]));
        assert_eq!(regrouped(&[1, 3, 1, 1], &[2, 3, 4, 5], &[6, 20]), None);
        assert_eq!(regrouped(&[2, 6], &[2, 6], &[1, 2, 1, 6]), Some(vec![1, 2, 1, 6]));
        assert_eq!(regrouped(&[6, 1], &[6, 1], &[6]), Some(vec![6]));
    }
}
