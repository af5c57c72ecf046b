//! Matrix products, which arrive as an EinSum of any axes and any number of operands.
//!
//! Steps:
//! 1. *Each operand alone.* If it has an axis twice, its diagonal is taken. Axes of one element are
//!    dropped (so an operand that is broadcast along an axis does not have it). Axes that neither
//!    another operand nor the result has are summed.
//! 2. *Pair by pair, from the left.* Every axis of a pair is in one class: *batch* (both operands,
//!    and still needed), *m* (the first alone), *n* (the second alone), *k* (both operands, no
//!    longer needed: summed). Without k, the product is elementwise. Else it is a strided, batched
//!    matrix product. If the axes of each class collapse into one axis with one stride in each
//!    operand, no operand needs a copy, however it is transposed. If not, operands are transposed
//!    first.
//! 3. *The result* is transposed if its axes are in another order, and gets its axes of one element
//!    back.

use tract_onnx::prelude::*;
use tract_onnx::tract_core::axes::AxesMapping;
use tract_onnx::tract_core::ops::einsum::EinSum;

use super::{Lowering, Reason};
use crate::graph::{Binary, Elementwise, Expr, MatMul, OpKind, Origin, Reduce, ReduceKind, Slice, Tensor, Transpose};
use crate::ids::TensorId;

/// A tensor with a letter for each axis: no letter occurs twice, and no axis has one element.
#[derive(Clone, Debug)]
struct EinsumOperand {
    id: TensorId,
    letters: Vec<char>,
    shape: Vec<usize>,
}

impl EinsumOperand {
    fn extent(&self, letter: char) -> Option<usize> {
        self.letters.iter().position(|&l| l == letter).map(|axis| self.shape[axis])
    }
}

impl Lowering<'_> {
    /// Lowers `node` if it is an EinSum; returns whether it was.
    pub(super) fn matmul(&mut self, node: &TypedNode) -> Result<bool, Reason> {
        let Some(op) = node.op_as::<EinSum>() else { return Ok(false) };
        let output = self.output(node)?;
        self.contraction(node, &op.axes, &self.inputs(node), &output).map(|()| true)
    }

    /// Lowers the sum of products that `map` describes, over the operands in `inputs`, in
    /// `output`'s type.
    pub(super) fn contraction(&mut self, node: &TypedNode, map: &AxesMapping, inputs: &[TensorId], output: &Tensor) -> Result<(), Reason> {
        let made = self.graph.tensors.len();
        let mut einsum = EinsumLowering { lowering: self, node, output, made };
        let mut operands = Vec::new();
        for (slot, &id) in inputs.iter().enumerate() {
            let mut letters = vec![' '; einsum.shape(id).len()];
            map.iter_all_axes().for_each(|axis| axis.inputs[slot].iter().for_each(|&position| letters[position] = axis.repr));
            let id = einsum.typed(id);
            operands.push(einsum.normalize_operand(id, letters));
        }
        let mut letters = vec![' '; output.shape.len()];
        map.iter_all_axes().for_each(|axis| axis.outputs[0].iter().for_each(|&position| letters[position] = axis.repr));
        let wanted: Vec<char> = letters.into_iter().zip(&output.shape).filter(|&(_, &size)| size != 1).map(|(letter, _)| letter).collect();

        for i in 0..operands.len() {
            let shared =
                |letter: char| wanted.contains(&letter) || (0..operands.len()).any(|j| j != i && operands[j].letters.contains(&letter));
            let private = operands[i].letters.iter().copied().filter(|&letter| !shared(letter)).collect();
            operands[i] = einsum.summed(operands[i].clone(), private);
        }
        let mut rest = operands.into_iter();
        let mut result = rest.next().ok_or("an EinSum without operands")?;
        while let Some(next) = rest.next() {
            let later: Vec<char> = rest.as_slice().iter().flat_map(|o| o.letters.iter().copied()).collect();
            let mut order: Vec<char> = wanted.clone();
            order.extend(result.letters.iter().chain(&next.letters).filter(|l| !wanted.contains(l) && later.contains(l)));
            let mut target = Vec::new();
            for letter in order {
                if (result.letters.contains(&letter) || next.letters.contains(&letter)) && !target.contains(&letter) {
                    target.push(letter);
                }
            }
            result = einsum.pair(result, next, &target);
        }
        let result = einsum.ordered(result, &wanted);
        // the last step is the result of the ONNX node
        let provided = self.graph.root(result.id);
        if provided.index() >= made {
            self.graph.tensors[provided.index()].name = output.name.clone();
            self.graph.tensors[result.id.index()].name = output.name.clone();
            if self.graph.producer(provided).is_some_and(|op| matches!(self.graph.operator(op).kind, OpKind::MatMul(_))) {
                self.graph.tensors[provided.index()].shape = output.shape.clone(); // it writes by strides, whatever the shape
            }
        }
        let seen = self.reshaped(result.id, output.shape.clone());
        self.tensors.insert(node.id.into(), seen);
        Ok(())
    }
}

/// The steps of one EinSum; each adds operators if it needs any.
struct EinsumLowering<'a, 'b> {
    lowering: &'a mut Lowering<'b>,
    node: &'a TypedNode,
    output: &'a Tensor,
    /// Tensors from this index on are this EinSum's own.
    made: usize,
}

impl EinsumLowering<'_, '_> {
    fn shape(&self, id: TensorId) -> Vec<usize> {
        self.lowering.graph.tensor(id).shape.clone()
    }

    /// What a strided product reads: the tensor itself instead of this EinSum's view of it.
    fn source(&self, id: TensorId) -> TensorId {
        match self.lowering.graph.tensor(id).origin {
            Origin::View(of) if id.index() >= self.made => of,
            _ => id,
        }
    }

    fn add_intermediate(&mut self, what: &str, kind: OpKind, inputs: Vec<TensorId>, shape: Vec<usize>) -> TensorId {
        let tensor = Tensor { name: format!("{}.{what}", self.output.name), shape, ..self.output.clone() };
        self.lowering.add_intermediate(self.node, kind, inputs, tensor)
    }

    /// The tensor in the type of the computation.
    fn typed(&mut self, id: TensorId) -> TensorId {
        let to = self.output.dtype;
        if self.lowering.graph.tensor(id).dtype == to {
            return id;
        }
        let shape = self.shape(id);
        self.add_intermediate("cast", OpKind::Elementwise(Elementwise { expr: Expr::identity().cast(to) }), vec![id], shape)
    }

    /// The tensor as an operand: diagonals taken, axes of one element dropped.
    fn normalize_operand(&mut self, mut id: TensorId, mut letters: Vec<char>) -> EinsumOperand {
        while let Some((first, second)) = duplicate_letter(&letters) {
            let shape = self.shape(id);
            let size = shape[first];
            // move the two axes last and view them as one: the diagonal is every (size + 1)-th
            // element
            let mut order: Vec<usize> = (0..shape.len()).filter(|&axis| axis != first && axis != second).collect();
            letters = order.iter().map(|&axis| letters[axis]).chain([letters[first]]).collect();
            let outer: Vec<usize> = order.iter().map(|&axis| shape[axis]).collect();
            order.extend([first, second]);
            if !order.is_sorted() {
                let moved = order.iter().map(|&axis| shape[axis]).collect();
                id = self.add_intermediate("moved", OpKind::Transpose(Transpose { permutation: order }), vec![id], moved);
            }
            let flat = self.lowering.reshaped(id, [&outer[..], &[size * size]].concat());
            let mut step = vec![1; outer.len()];
            step.push(size as isize + 1);
            let slice = Slice { begin: vec![0; outer.len() + 1], step };
            id = self.add_intermediate("diagonal", OpKind::Slice(slice), vec![flat], [&outer[..], &[size]].concat());
        }
        let (letters, shape): (Vec<char>, Vec<usize>) = letters.into_iter().zip(self.shape(id)).filter(|&(_, size)| size != 1).unzip();
        let id = self.lowering.reshaped(id, shape.clone());
        EinsumOperand { id, letters, shape }
    }

    /// `x` summed over some axes.
    fn summed(&mut self, x: EinsumOperand, over: Vec<char>) -> EinsumOperand {
        if over.is_empty() {
            return x;
        }
        let axes: Vec<usize> = (0..x.letters.len()).filter(|&axis| over.contains(&x.letters[axis])).collect();
        let narrow = (0..x.shape.len()).map(|axis| if axes.contains(&axis) { 1 } else { x.shape[axis] }).collect();
        let id = self.add_intermediate("sum", OpKind::Reduce(Reduce { kind: ReduceKind::Sum, axes }), vec![x.id], narrow);
        let (letters, shape): (Vec<char>, Vec<usize>) =
            x.letters.into_iter().zip(x.shape).filter(|(letter, _)| !over.contains(letter)).unzip();
        let id = self.lowering.reshaped(id, shape.clone());
        EinsumOperand { id, letters, shape }
    }

    /// `x` with its axes in the given order.
    fn ordered(&mut self, x: EinsumOperand, letters: &[char]) -> EinsumOperand {
        if x.letters == letters {
            return x;
        }
        let permutation: Vec<usize> = letters.iter().filter_map(|letter| x.letters.iter().position(|l| l == letter)).collect();
        let shape: Vec<usize> = permutation.iter().map(|&axis| x.shape[axis]).collect();
        let id = self.add_intermediate("ordered", OpKind::Transpose(Transpose { permutation }), vec![x.id], shape.clone());
        EinsumOperand { id, letters: letters.to_vec(), shape }
    }

    /// The product of two operands, summed over the axes that `target` does not have.
    fn pair(&mut self, a: EinsumOperand, b: EinsumOperand, target: &[char]) -> EinsumOperand {
        let shape: Vec<usize> = target.iter().filter_map(|&letter| a.extent(letter).or(b.extent(letter))).collect();
        let mut result = EinsumOperand { id: a.id, letters: target.to_vec(), shape };
        let both = |letter: &&char| b.letters.contains(letter);
        let summed: Vec<char> = a.letters.iter().filter(both).copied().filter(|letter| !target.contains(letter)).collect();
        if summed.is_empty() {
            let [a, b] = [a, b].map(|x| self.align_axes(x, &result));
            let expr = Expr::binary(Binary::Mul, Expr::Input(0), Expr::Input(1));
            result.id = self.add_intermediate("product", OpKind::Elementwise(Elementwise { expr }), vec![a, b], result.shape.clone());
            return result;
        }
        if let Some(matmul) = matmul(&a, &b, &result) {
            let operands = [a.id, b.id].map(|id| self.source(id)).to_vec();
            result.id = self.add_intermediate("product", OpKind::MatMul(matmul), operands, result.shape.clone());
            return result;
        }
        let of =
            |x: &EinsumOperand, class: &dyn Fn(char) -> bool| -> Vec<char> { x.letters.iter().copied().filter(|&l| class(l)).collect() };
        let batch = of(&a, &|l| target.contains(&l) && b.letters.contains(&l));
        let m = of(&a, &|l| !b.letters.contains(&l));
        let n = of(&b, &|l| !a.letters.contains(&l));
        let a = self.ordered(a, &[&batch[..], &m, &summed].concat());
        let b = self.ordered(b, &[&batch[..], &summed, &n].concat());
        let letters = [batch, m, n].concat();
        let shape: Vec<usize> = letters.iter().filter_map(|&letter| a.extent(letter).or(b.extent(letter))).collect();
        let mut plain = EinsumOperand { id: a.id, letters, shape };
        if let Some(matmul) = matmul(&a, &b, &plain) {
            plain.id = self.add_intermediate("product", OpKind::MatMul(matmul), vec![a.id, b.id], plain.shape.clone());
        }
        self.ordered(plain, target)
    }

    /// `x` with the axes of `like`; axes that it does not have get one element.
    fn align_axes(&mut self, x: EinsumOperand, like: &EinsumOperand) -> TensorId {
        let order: Vec<char> = like.letters.iter().copied().filter(|letter| x.letters.contains(letter)).collect();
        let x = self.ordered(x, &order);
        let shape = like.letters.iter().map(|&letter| x.extent(letter).unwrap_or(1)).collect();
        self.lowering.reshaped(x.id, shape)
    }
}

/// Two axes with the same letter.
fn duplicate_letter(letters: &[char]) -> Option<(usize, usize)> {
    (0..letters.len()).find_map(|i| (i + 1..letters.len()).find(|&j| letters[i] == letters[j]).map(|j| (i, j)))
}

/// One axis: its size, and its stride in (a, b, c), 0 where it is absent.
#[derive(Clone, Copy, Debug, PartialEq)]
struct CollapsedAxis {
    size: usize,
    strides: [usize; 3],
}

/// `c` as one strided, batched matrix product of `a` and `b`, if the axes of each class collapse.
fn matmul(a: &EinsumOperand, b: &EinsumOperand, c: &EinsumOperand) -> Option<MatMul> {
    let mut classes: [Vec<CollapsedAxis>; 4] = Default::default(); // batch, m, n, k
    let mut letters = [&a.letters[..], &b.letters].concat();
    letters.sort_unstable();
    letters.dedup();
    for letter in letters {
        let found = [a, b, c].map(|x| x.letters.iter().position(|&l| l == letter).map(|p| (x.shape[p], x.shape[p + 1..].iter().product())));
        let class = match found.map(|p| p.is_some()) {
            [true, true, true] => 0,
            [true, false, true] => 1,
            [false, true, true] => 2,
            [true, true, false] => 3,
            _ => return None,
        };
        let size = found.into_iter().flatten().map(|(size, _)| size).next()?;
        classes[class].push(CollapsedAxis { size, strides: found.map(|p| p.map_or(0, |(_, stride)| stride)) });
    }
    let [batch, m, n, k] = classes.map(collapse);
    let (batch, m, n, k) = (batch?, m?, n?, k?);
    Some(MatMul {
        batch: batch.size,
        m: m.size,
        n: n.size,
        k: k.size,
        a_strides: [batch.strides[0], m.strides[0], k.strides[0]],
        b_strides: [batch.strides[1], k.strides[1], n.strides[1]],
        c_strides: [batch.strides[2], m.strides[2], n.strides[2]],
        bias: false,
        epilogue: Expr::identity(),
    })
}

/// The axes of one class as one axis, if in every operand the stride of each is the stride of the
/// next inner one times its size.
fn collapse(mut axes: Vec<CollapsedAxis>) -> Option<CollapsedAxis> {
    axes.sort_by_key(|axis| std::cmp::Reverse(axis.strides));
    let mut axes = axes.into_iter().rev();
    let Some(mut whole) = axes.next() else { return Some(CollapsedAxis { size: 1, strides: [0; 3] }) };
    for outer in axes {
        if outer.strides != whole.strides.map(|s| s * whole.size) {
            return None;
        }
        whole.size *= outer.size;
    }
    Some(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `mk,nk->mn`, each operand with its shape.
    fn of(expr: &str, a: &[usize], b: &[usize], c: &[usize]) -> Option<MatMul> {
        let (inputs, output) = expr.split_once("->").expect("an arrow");
        let (first, second) = inputs.split_once(',').expect("two operands");
        let operand =
            |letters: &str, shape: &[usize]| EinsumOperand { id: TensorId(0), letters: letters.chars().collect(), shape: shape.to_vec() };
        matmul(&operand(first, a), &operand(second, b), &operand(output, c))
    }

    #[test]
    fn gemm_with_transposed_weights() {
        let m = of("mk,nk->mn", &[2, 5], &[7, 5], &[2, 7]).expect("a product");
        assert_eq!((m.batch, m.m, m.n, m.k), (1, 2, 7, 5));
        assert_eq!((m.a_strides, m.b_strides, m.c_strides), ([0, 5, 1], [0, 1, 5], [0, 7, 1]));
    }

    #[test]
    fn leading_axes_collapse_into_rows() {
        let m = of("abk,kn->abn", &[2, 3, 5], &[5, 7], &[2, 3, 7]).expect("a product");
        assert_eq!((m.batch, m.m, m.a_strides, m.c_strides), (1, 6, [0, 5, 1], [0, 7, 1]));
    }

    #[test]
    fn heads_are_a_batch() {
        let m = of("bhmk,bhkn->bhmn", &[2, 4, 3, 5], &[2, 4, 5, 7], &[2, 4, 3, 7]).expect("a product");
        assert_eq!((m.batch, m.a_strides[0], m.b_strides[0], m.c_strides[0]), (8, 15, 35, 21));
    }

    #[test]
    fn what_does_not_collapse_is_no_plain_product() {
        assert!(of("abk,kn->ban", &[2, 3, 5], &[5, 7], &[3, 2, 7]).is_none());
        assert!(of("mk,kn->n", &[2, 5], &[5, 7], &[7]).is_none());
    }
}
