//! Random damage to a graph, as a bug of hiosc might cause. The graph's verifier must not panic on
//! it, but may accept a damaged graph that is still valid.

use hiosc::graph::{Gather, Graph, OpKind, Origin};
use hiosc::ids::{OpId, TensorId};

use crate::generate::ByteTape;

/// Makes one random change.
pub fn damage(graph: &mut Graph, tape: &mut ByteTape) {
    let tensors = graph.tensors.len();
    let id = TensorId(if tape.once_in(6) { tape.wild() as u32 } else { tape.below(tensors) as u32 });
    let at = tape.below(tensors);
    let op = tape.below(graph.operators.len());
    match tape.below(12) {
        0 => graph.tensors[at].origin = Origin::View(id),
        1 => graph.tensors[at].origin = Origin::Slice { of: id, begin: tape.wild() as u64 },
        2 => graph.tensors[at].origin = Origin::Joined(vec![id, TensorId(tape.below(tensors) as u32)]),
        3 => graph.tensors[at].origin = Origin::Operator(OpId(tape.below(graph.operators.len() + 1) as u32)),
        4 => {
            let wild = tape.wild();
            let shape = &mut graph.tensors[at].shape;
            match tape.below(shape.len() + 1) {
                axis if axis < shape.len() => shape[axis] = wild,
                _ => shape.push(wild),
            }
        }
        5 => graph.tensors[at].shape.clear(),
        6 => graph.outputs.push(id),
        7 => graph.inputs.push(id),
        8 if !graph.operators.is_empty() => graph.operators[op].inputs.push(id),
        9 if !graph.operators.is_empty() => {
            let inputs = &mut graph.operators[op].inputs;
            match tape.below(inputs.len() + 1) {
                i if i < inputs.len() => inputs[i] = id,
                _ => inputs.clear(),
            }
        }
        _ if !graph.operators.is_empty() => attributes(&mut graph.operators[op].kind, tape),
        _ => {}
    }
}

/// Puts an arbitrary number into an operator's attributes.
fn attributes(kind: &mut OpKind, tape: &mut ByteTape) {
    let (wild, side) = (tape.wild(), tape.below(2));
    let which = tape.below(8);
    match kind {
        OpKind::Conv(conv) => match which {
            0 => conv.kernel[side] = wild,
            1 => conv.strides[side] = wild,
            2 => conv.dilations[side] = wild,
            3 => conv.pads_begin[side] = wild,
            4 => conv.pads_end[side] = wild,
            5 => conv.groups = wild,
            _ => conv.bias = !conv.bias,
        },
        OpKind::Pool(pool) => match which {
            0 => pool.kernel[side] = wild,
            1 => pool.strides[side] = wild,
            2 => pool.dilations[side] = wild,
            3 => pool.pads_begin[side] = wild,
            _ => pool.pads_end[side] = wild,
        },
        OpKind::MatMul(matmul) => match which {
            0 => matmul.batch = wild,
            1 => matmul.m = wild,
            2 => matmul.n = wild,
            3 => matmul.k = wild,
            4 => matmul.a_strides[side] = wild,
            5 => matmul.b_strides[side] = wild,
            _ => matmul.c_strides[side] = wild,
        },
        OpKind::Reduce(reduce) => reduce.axes.push(wild),
        OpKind::Softmax(softmax) => softmax.axis = wild,
        OpKind::Concat(concat) => concat.axis = wild,
        OpKind::ConvNd(conv) => match (which, conv.axes.first_mut()) {
            (0, Some(axis)) => axis.kernel = wild,
            (1, Some(axis)) => axis.stride = wild,
            (2, Some(axis)) => axis.dilation = wild,
            (3, Some(axis)) => axis.pad_begin = wild,
            (4, _) => conv.transposed = !conv.transposed,
            _ => conv.groups = wild,
        },
        OpKind::PoolNd(pool) => match (which, pool.axes.first_mut()) {
            (0, Some(axis)) => axis.kernel = wild,
            (1, Some(axis)) => axis.stride = wild,
            (2, Some(axis)) => axis.dilation = wild,
            (_, Some(axis)) => axis.pad_end = wild,
            _ => {}
        },
        OpKind::Norm(norm) => norm.axes.push(wild),
        OpKind::Lrn(lrn) => lrn.size = wild,
        OpKind::Trilu(trilu) => trilu.diagonal = wild as i64,
        OpKind::Transpose(transpose) => match transpose.permutation.first_mut() {
            Some(axis) => *axis = wild,
            None => transpose.permutation.push(wild),
        },
        OpKind::Slice(slice) => match (which, slice.begin.first_mut(), slice.step.first_mut()) {
            (0..4, Some(begin), _) => *begin = wild,
            (4..7, _, Some(step)) => *step = wild as isize,
            _ => slice.begin.push(wild),
        },
        OpKind::Pad(pad) => match (which, pad.before.first_mut()) {
            (0..4, Some(before)) => *before = wild,
            _ => pad.after.push(wild),
        },
        OpKind::Gather(gather) => {
            *gather = match which {
                0 => Gather::Slices { axis: wild },
                1 => Gather::Elements { axis: wild },
                _ => Gather::Nd { batch_dims: wild },
            }
        }
        OpKind::TopK(topk) => topk.axis = wild,
        OpKind::CumSum(sum) => sum.axis = wild,
        _ => {}
    }
}
