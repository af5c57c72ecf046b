//! `elementwise-chain`: an elementwise operator absorbs the elementwise operator that produces one
//! of its inputs.
//!
//! The absorbed result must have the shape of the consumer's result: under a broadcast, its value
//! would be computed again for each element.

use super::{MAX_INPUTS, MAX_OPERATIONS, Patch, Replacement, Uses};
use crate::graph::{Elementwise, Expr, Graph, OpKind, Operator};
use crate::ids::OpId;

pub fn chain(graph: &Graph, uses: &Uses, op: OpId) -> Option<Patch> {
    let reader = graph.operator(op);
    let OpKind::Elementwise(outer) = &reader.kind else { return None };
    let shape = &graph.tensor(reader.outputs[0]).shape;
    let (position, absorbed, inner) = reader.inputs.iter().enumerate().find_map(|(i, &t)| {
        let producer = uses.sole_producer(graph, t, op)?;
        let OpKind::Elementwise(inner) = &graph.operator(producer).kind else { return None };
        let same = graph.tensor(t).shape == *shape && graph.tensor(graph.root(t)).shape == *shape;
        (same && reader.inputs.len() + graph.operator(producer).inputs.len() <= MAX_INPUTS).then_some((i, producer, inner))
    })?;
    let first = reader.inputs.len();
    let inlined = inner.expr.substitute(&|i| Expr::Input(first + i));
    // every position that reads the absorbed result, not only the first
    let result = graph.root(reader.inputs[position]);
    let expr = outer.expr.substitute(&|i| if graph.root(reader.inputs[i]) == result { inlined.clone() } else { Expr::Input(i) });
    if expr.operations() > MAX_OPERATIONS {
        return None;
    }
    let inputs = [&reader.inputs[..], &graph.operator(absorbed).inputs[..]].concat();
    let (expr, inputs) = compact(&expr, &inputs);
    let name = graph.operator(absorbed).name.clone();
    let with = Operator { name, kind: OpKind::Elementwise(Elementwise { expr }), inputs, outputs: reader.outputs.clone() };
    Some(Patch { at: op, absorbed: vec![absorbed], constants: Vec::new(), with: Replacement::Operator(Box::new(with)) })
}

/// The same expression over only the inputs it reads, each once.
fn compact<T: Copy + PartialEq>(expr: &Expr, inputs: &[T]) -> (Expr, Vec<T>) {
    let mut used = vec![false; inputs.len()];
    mark(expr, &mut used);
    let mut kept: Vec<T> = Vec::new();
    for (i, &input) in inputs.iter().enumerate() {
        if used[i] && !kept.contains(&input) {
            kept.push(input);
        }
    }
    let expr = expr.substitute(&|i| Expr::Input(kept.iter().position(|&t| t == inputs[i]).unwrap_or(0)));
    (expr, kept)
}

fn mark(expr: &Expr, used: &mut [bool]) {
    match expr {
        Expr::Input(i) => used[*i] = true,
        Expr::Const(_) => {}
        Expr::Cast(_, a) | Expr::Unary(_, a) => mark(a, used),
        Expr::Binary(_, a, b) => {
            mark(a, used);
            mark(b, used);
        }
        Expr::Select(c, a, b) => [c, a, b].into_iter().for_each(|e| mark(e, used)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Binary;

    #[test]
    fn repeated_inputs_become_one() {
        let expr = Expr::binary(Binary::Add, Expr::Input(3), Expr::binary(Binary::Mul, Expr::Input(1), Expr::Input(2)));
        let (expr, inputs) = compact(&expr, &['a', 'b', 'c', 'b']);
        assert_eq!((expr.to_string().as_str(), inputs.as_slice()), ("add(x0, mul(x0, x1))", &['b', 'c'][..]));
    }
}
