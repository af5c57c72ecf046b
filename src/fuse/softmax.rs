//! `log-softmax`: the logarithm of a softmax becomes one operator, which does not lose what the
//! softmax rounds to 0.

use super::{Patch, Replacement, Uses};
use crate::graph::{Elementwise, Expr, Graph, OpKind, Softmax, Unary};
use crate::ids::OpId;

pub fn log(graph: &Graph, uses: &Uses, op: OpId) -> Option<Patch> {
    let logarithm = graph.operator(op);
    let OpKind::Elementwise(Elementwise { expr: Expr::Unary(Unary::Log, of) }) = &logarithm.kind else { return None };
    let Expr::Input(of) = **of else { return None };
    let read = logarithm.inputs[of];
    let provided = logarithm.outputs[0];
    let producer = uses.sole_producer(graph, read, op)?;
    let mut operator = graph.operator(producer).clone();
    let OpKind::Softmax(Softmax { axis, log: false }) = operator.kind else { return None };
    if graph.tensor(read).shape != graph.tensor(provided).shape {
        return None; // a broadcast
    }
    operator.kind = OpKind::Softmax(Softmax { axis, log: true });
    if graph.tensor(operator.outputs[0]).shape == graph.tensor(provided).shape {
        operator.outputs = vec![provided];
    }
    Some(Patch { at: op, absorbed: vec![producer], constants: Vec::new(), with: Replacement::Operator(Box::new(operator)) })
}
