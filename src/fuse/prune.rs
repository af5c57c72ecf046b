//! Drops unused operators and tensors and renumbers the rest without gaps, in the order of both
//! tables.

use crate::graph::{Graph, OnnxValue, Origin};
use crate::ids::{OpId, TensorId};

/// The `alive` operators of `graph` that an output depends on, with their tensors.
pub fn prune(graph: &Graph, alive: &[bool]) -> Graph {
    let mut tensor_used = vec![false; graph.tensors.len()];
    let mut op_used = vec![false; graph.operators.len()];
    let mut open: Vec<TensorId> = graph.outputs.iter().chain(&graph.inputs).copied().collect();
    while let Some(t) = open.pop() {
        if std::mem::replace(&mut tensor_used[t.index()], true) {
            continue;
        }
        match &graph.tensor(t).origin {
            Origin::View(of) | Origin::Slice { of, .. } => open.push(*of),
            Origin::Joined(parts) => open.extend(parts),
            &Origin::Operator(op) if alive[op.index()] && !std::mem::replace(&mut op_used[op.index()], true) => {
                open.extend(&graph.operator(op).inputs);
                open.extend(&graph.operator(op).outputs);
            }
            _ => {}
        }
    }
    let number = |used: &[bool]| -> Vec<usize> {
        used.iter()
            .scan(0, |next, &u| {
                let this = *next;
                *next += usize::from(u);
                Some(this)
            })
            .collect()
    };
    let (new_tensor, new_op) = (number(&tensor_used), number(&op_used));
    let tensor_id = |t: TensorId| TensorId::new(new_tensor[t.index()]);
    let mut pruned = Graph { name: graph.name.clone(), ..Graph::default() };
    for t in graph.tensor_ids().filter(|t| tensor_used[t.index()]) {
        let mut tensor = graph.tensor(t).clone();
        tensor.origin = match tensor.origin {
            Origin::View(of) => Origin::View(tensor_id(of)),
            Origin::Slice { of, begin } => Origin::Slice { of: tensor_id(of), begin },
            Origin::Joined(parts) => Origin::Joined(parts.into_iter().map(tensor_id).collect()),
            Origin::Operator(op) => Origin::Operator(OpId::new(new_op[op.index()])),
            other => other,
        };
        pruned.tensors.push(tensor);
    }
    for op in graph.op_ids().filter(|op| op_used[op.index()]) {
        let mut operator = graph.operator(op).clone();
        operator.inputs.iter_mut().chain(&mut operator.outputs).for_each(|t| *t = tensor_id(*t));
        pruned.operators.push(operator);
    }
    pruned.inputs = graph.inputs.iter().map(|&t| tensor_id(t)).collect();
    pruned.outputs = graph.outputs.iter().map(|&t| tensor_id(t)).collect();
    // nothing may read the view that has a value's shape, but its bytes are there
    let owner = |mut t: TensorId| {
        while let Origin::View(of) = graph.tensor(t).origin {
            t = of;
        }
        t
    };
    let values = graph.values.iter().map(|value| OnnxValue { tensor: owner(value.tensor), ..value.clone() });
    let kept = values.filter(|value| tensor_used[value.tensor.index()]);
    pruned.values = kept.map(|value| OnnxValue { tensor: tensor_id(value.tensor), ..value }).collect();
    pruned
}
