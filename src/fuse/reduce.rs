//! `mean`: a sum that is multiplied by 1/n or divided by n becomes a mean. tract writes means so.

use super::{Patch, Replacement, Uses};
use crate::graph::{Binary, Expr, Graph, OpKind, Operator, Reduce, ReduceKind};
use crate::ids::OpId;

pub fn mean(graph: &Graph, uses: &Uses, op: OpId) -> Option<Patch> {
    let product = graph.operator(op);
    let OpKind::Elementwise(e) = &product.kind else { return None };
    let factor = match &e.expr {
        Expr::Binary(Binary::Mul, a, b) => match (&**a, &**b) {
            (Expr::Input(0), Expr::Const(c)) | (Expr::Const(c), Expr::Input(0)) => c.f32()?,
            _ => return None,
        },
        Expr::Binary(Binary::Div, a, b) => match (&**a, &**b) {
            (Expr::Input(0), Expr::Const(c)) => c.f32()?.recip(),
            _ => return None,
        },
        _ => return None,
    };
    let producer = uses.sole_producer(graph, *product.inputs.first()?, op)?;
    let sum = graph.operator(producer);
    let OpKind::Reduce(Reduce { kind: ReduceKind::Sum, axes }) = &sum.kind else { return None };
    let count: usize = axes.iter().map(|&a| graph.tensor(sum.inputs[0]).shape[a]).product();
    if (factor * count as f32 - 1.0).abs() > 1e-6 {
        return None;
    }
    let kind = OpKind::Reduce(Reduce { kind: ReduceKind::Mean, axes: axes.clone() });
    let with = Replacement::Operator(Box::new(Operator { kind, ..sum.clone() }));
    Some(Patch { at: op, absorbed: vec![producer], constants: Vec::new(), with })
}
