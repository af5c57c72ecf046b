//! What a launch must read and write, whatever kernel computes it: bytes of weights and of
//! activations.
//!
//! **In**: operators of the fused graph. **Out**: [`Traffic`]. The table of launches contains it
//! and [`Operator::macs`], so that what a kernel executes can be compared with what its definition
//! requires.
//!
//! Two other passes count something similar for other purposes, and get other numbers:
//!
//! * `import`'s survey counts the multiply-adds of the model as it was read, before hiosc lowers
//!   and fuses it. It includes what is folded later, and each step of a recurrent layer.
//! * `cost`'s estimate needs the time of a kernel. It counts all arithmetic, epilogues and
//!   comparisons included, but only those taps of a transposed convolution that meet an element.

use std::collections::BTreeMap;

use crate::graph::{Graph, OpKind, Operator, Origin};
use crate::ids::{OpId, TensorId};

/// The bytes that a launch reads from memory and writes to it. Each counts once, however often the
/// blocks read it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Constants that it reads: the tensor that owns the bytes, and how many of them.
    pub weights: BTreeMap<TensorId, u64>,
    /// Activations that it reads.
    pub read_bytes: u64,
    /// Activations that it writes.
    pub write_bytes: u64,
}

impl Traffic {
    /// Bytes of all constants.
    pub fn weight_bytes(&self) -> u64 {
        self.weights.values().sum()
    }
}

/// What a launch of `operators` reads and writes. The same bytes listed twice, or under two shapes,
/// count once. A slice counts its own bytes. An operator that picks elements (a gather, a slice)
/// counts only those: for an embedding table, the rows that it looks up.
pub fn traffic(graph: &Graph, operators: &[OpId]) -> Traffic {
    let mut traffic = Traffic::default();
    let mut read: BTreeMap<TensorId, Vec<(u64, u64)>> = BTreeMap::new();
    // bytes that operators pick, which may be anywhere in a tensor
    let mut some: BTreeMap<TensorId, u64> = BTreeMap::new();
    for operator in operators.iter().map(|&op| graph.operator(op)) {
        for (position, &input) in operator.inputs.iter().enumerate() {
            let mut left = if position == 0 { picked(graph, operator) } else { None };
            for (owner, begin, bytes) in regions(graph, input) {
                let spans = read.entry(owner).or_default();
                match &mut left {
                    None => spans.push((begin, begin + bytes)),
                    Some(left) => {
                        *some.entry(owner).or_default() += bytes.min(*left);
                        *left -= bytes.min(*left);
                    }
                }
            }
        }
        traffic.write_bytes += operator.outputs.iter().map(|&output| graph.tensor(output).bytes()).sum::<u64>();
    }
    for (owner, spans) in read {
        let bytes = (covered(spans) + some.get(&owner).unwrap_or(&0)).min(graph.tensor(owner).bytes());
        match graph.tensor(owner).origin {
            Origin::Constant(_) => *traffic.weights.entry(owner).or_default() += bytes,
            _ => traffic.read_bytes += bytes,
        }
    }
    traffic
}

/// The most bytes of its first input that an operator can read, if it picks elements.
fn picked(graph: &Graph, operator: &Operator) -> Option<u64> {
    let (&x, &y) = (operator.inputs.first()?, operator.outputs.first()?);
    let written = graph.tensor(y).elements() * graph.tensor(x).dtype.bytes();
    match &operator.kind {
        OpKind::Slice(_) | OpKind::Gather(_) => Some(written),
        OpKind::Resample(resample) => Some(written.saturating_mul(resample.taps() as u64)),
        _ => None,
    }
}

/// Where the bytes of a tensor are: for each owner, the first byte and the number of bytes.
fn regions(graph: &Graph, tensor: TensorId) -> Vec<(TensorId, u64, u64)> {
    let t = graph.tensor(tensor);
    match graph.parts(tensor)[..] {
        [root] => vec![(root, graph.begin(tensor) * t.dtype.bytes(), t.bytes())],
        ref parts => parts.iter().map(|&part| (part, 0, graph.tensor(part).bytes())).collect(),
    }
}

/// The number of bytes that at least one of the spans covers.
fn covered(mut spans: Vec<(u64, u64)>) -> u64 {
    spans.sort_unstable();
    let (mut sum, mut reached) = (0, 0);
    for (begin, end) in spans {
        sum += end.saturating_sub(begin.max(reached));
        reached = reached.max(end);
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{Constant, Conv, ConvNd, DType, Elementwise, Expr, Gather, MatMul, Tensor, WindowAxis};

    /// A graph of one operator. A shape given with `true` is a constant's.
    fn graph(kind: OpKind, inputs: &[(&[usize], bool)], output: &[usize]) -> Graph {
        let mut graph = Graph::default();
        let mut tensor =
            |shape: &[usize], origin: Origin| graph.add_tensor(Tensor { name: "t".into(), dtype: DType::F32, shape: shape.into(), origin });
        let zeros = |shape: &[usize]| Origin::Constant(Constant::F32(vec![0.0; shape.iter().product()].into()));
        let ids: Vec<TensorId> =
            inputs.iter().map(|&(shape, constant)| tensor(shape, if constant { zeros(shape) } else { Origin::Input })).collect();
        let y = tensor(output, Origin::Input);
        graph.add_operator(Operator { name: "o".into(), kind, inputs: ids, outputs: vec![y] });
        graph
    }

    fn conv(groups: usize) -> OpKind {
        OpKind::Conv(Conv {
            kernel: [3, 3],
            strides: [1, 1],
            dilations: [1, 1],
            pads_begin: [1, 1],
            pads_end: [1, 1],
            groups,
            bias: true,
            epilogue: Expr::identity(),
        })
    }

    #[test]
    fn a_convolution_counts_its_padding() {
        let g = graph(conv(1), &[(&[1, 8, 10, 10], false), (&[16, 8, 3, 3], true), (&[16], true)], &[1, 16, 10, 10]);
        assert_eq!(g.operator(OpId(0)).macs(&g), 1600 * 8 * 9);
        let t = traffic(&g, &[OpId(0)]);
        assert_eq!((t.weight_bytes(), t.read_bytes, t.write_bytes), (4 * (16 * 72 + 16), 4 * 800, 4 * 1600));
    }

    #[test]
    fn groups_divide_the_products() {
        let g = graph(conv(4), &[(&[1, 8, 10, 10], false), (&[16, 2, 3, 3], true), (&[16], true)], &[1, 16, 10, 10]);
        assert_eq!(g.operator(OpId(0)).macs(&g), 1600 * 2 * 9);
    }

    #[test]
    fn a_transposed_convolution_is_a_scatter() {
        let axis = WindowAxis { kernel: 2, stride: 2, dilation: 1, pad_begin: 0, pad_end: 0 };
        let kind = OpKind::ConvNd(ConvNd { transposed: true, axes: vec![axis; 2], groups: 2, bias: false, epilogue: Expr::identity() });
        let g = graph(kind, &[(&[1, 4, 5, 5], false), (&[6, 2, 2, 2], true)], &[1, 6, 10, 10]);
        assert_eq!(g.operator(OpId(0)).macs(&g), 4 * 25 * 3 * 4);
    }

    #[test]
    fn a_matrix_product() {
        let kind = OpKind::MatMul(MatMul {
            batch: 2,
            m: 3,
            n: 4,
            k: 5,
            a_strides: [15, 5, 1],
            b_strides: [0, 4, 1],
            c_strides: [12, 4, 1],
            bias: false,
            epilogue: Expr::identity(),
        });
        let g = graph(kind, &[(&[2, 3, 5], false), (&[5, 4], true)], &[2, 3, 4]);
        assert_eq!(g.operator(OpId(0)).macs(&g), 2 * 3 * 4 * 5);
    }

    #[test]
    fn of_a_table_the_rows_that_are_looked_up_count() {
        let g = graph(OpKind::Gather(Gather::Slices { axis: 0 }), &[(&[1000, 8], true), (&[5], false)], &[5, 8]);
        let t = traffic(&g, &[OpId(0)]);
        assert_eq!((t.weight_bytes(), t.read_bytes, t.write_bytes), (4 * 40, 4 * 5, 4 * 40));
        let g = graph(OpKind::Gather(Gather::Slices { axis: 0 }), &[(&[3, 8], true), (&[5], false)], &[5, 8]);
        assert_eq!(traffic(&g, &[OpId(0)]).weight_bytes(), 4 * 24, "no more than there is");
        let mut g = graph(OpKind::Gather(Gather::Slices { axis: 0 }), &[(&[12, 8], true), (&[5], false)], &[5, 8]);
        g.operators.push(g.operators[0].clone());
        let t = traffic(&g, &[OpId(0), OpId(1)]);
        assert_eq!((t.weight_bytes(), t.read_bytes, t.write_bytes), (4 * 80, 4 * 5, 4 * 80), "two that may pick other rows");
    }

    #[test]
    fn the_same_bytes_count_once() {
        let mut g = graph(OpKind::Elementwise(Elementwise { expr: Expr::identity() }), &[(&[32], false)], &[16]);
        let x = TensorId(0);
        let view = |of: Origin, shape: &[usize]| Tensor { name: "v".into(), dtype: DType::F32, shape: shape.into(), origin: of };
        let whole = g.add_tensor(view(Origin::View(x), &[4, 8]));
        let first = g.add_tensor(view(Origin::Slice { of: x, begin: 0 }, &[12]));
        let second = g.add_tensor(view(Origin::Slice { of: x, begin: 8 }, &[16]));
        g.operators[0].inputs = vec![x, whole, x];
        assert_eq!(traffic(&g, &[OpId(0)]).read_bytes, 4 * 32);
        g.operators[0].inputs = vec![first, second];
        assert_eq!(traffic(&g, &[OpId(0)]).read_bytes, 4 * 24);
    }
}
