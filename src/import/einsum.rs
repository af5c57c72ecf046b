//! An EinSum of two operands as one strided, batched matrix product.
//!
//! Every axis is in one class: *batch* (both operands and the result), *m* (first operand and result), *n* (second and result), *k* (both operands,
//! summed). The axes of a class must collapse into one axis with one stride in each operand; then no operand needs a copy, however it is transposed.
//! Axes of size 1 belong nowhere.

use tract_onnx::tract_core::ops::einsum::EinSum;

use crate::graph::{Expr, MatMul};

/// One axis: its size, and its stride in (a, b, c), 0 where it is absent or broadcast.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Axis {
    size: usize,
    strides: [usize; 3],
}

/// The product that `op` computes from operands of `inputs`' shapes into `output`'s; or why it is none.
pub fn matmul(op: &EinSum, inputs: &[&[usize]], output: &[usize]) -> Result<MatMul, String> {
    let &[a, b] = inputs else { return Err(format!("an EinSum of {} operands is not supported yet", inputs.len())) };
    if op.q_params.is_some() {
        return Err("a quantised matrix product is not supported yet".into());
    }
    let shapes = [a, b, output];
    let mut classes: [Vec<Axis>; 4] = Default::default(); // batch, m, n, k
    for axis in op.axes.iter_all_axes() {
        let places = [&axis.inputs[0], &axis.inputs[1], &axis.outputs[0]];
        if places.iter().any(|p| p.len() > 1) {
            return Err("an EinSum along a diagonal is not supported yet".into());
        }
        let place = |operand: usize| places[operand].first().copied();
        let extent = |operand: usize| place(operand).map_or(1, |p| shapes[operand][p]);
        let size = (0..3).map(extent).max().unwrap_or(1);
        if size == 1 {
            continue;
        }
        // an operand of extent 1 is broadcast along the axis: as if absent
        let present = [0, 1, 2].map(|operand| extent(operand) == size);
        let stride = |operand: usize| match place(operand) {
            Some(p) if present[operand] => shapes[operand][p + 1..].iter().product(),
            _ => 0,
        };
        let class = match present {
            [true, true, true] => 0,
            [true, false, true] => 1,
            [false, true, true] => 2,
            [true, true, false] => 3,
            _ => return Err(format!("axis {} of this EinSum is summed over one operand alone: not supported yet", axis.repr)),
        };
        classes[class].push(Axis { size, strides: [stride(0), stride(1), stride(2)] });
    }
    let [batch, m, n, k] = classes.map(collapse);
    let [batch, m, n, k] = [batch?, m?, n?, k?];
    Ok(MatMul {
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

/// The axes of one class as one: outermost first, each must continue the next in every operand.
fn collapse(mut axes: Vec<Axis>) -> Result<Axis, String> {
    axes.sort_by_key(|axis| std::cmp::Reverse(axis.strides));
    let mut axes = axes.into_iter().rev();
    let Some(mut whole) = axes.next() else { return Ok(Axis { size: 1, strides: [0; 3] }) };
    for outer in axes {
        if outer.strides != whole.strides.map(|s| s * whole.size) {
            return Err("the axes of this EinSum do not collapse into one matrix product: not supported yet".into());
        }
        whole.size *= outer.size;
    }
    Ok(whole)
}

#[cfg(test)]
mod tests {
    use tract_onnx::tract_core::internal::*;

    use super::*;

    fn of(expr: &str, a: &[usize], b: &[usize], c: &[usize]) -> Result<MatMul, String> {
        let axes = expr.parse::<AxesMapping>().expect("a valid expression");
        matmul(&EinSum::new(axes, f32::datum_type()), &[a, b], c)
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
    fn heads_are_a_batch_and_broadcast_costs_no_copy() {
        let m = of("bhmk,bhkn->bhmn", &[2, 4, 3, 5], &[2, 4, 5, 7], &[2, 4, 3, 7]).expect("a product");
        assert_eq!((m.batch, m.a_strides[0], m.b_strides[0], m.c_strides[0]), (8, 15, 35, 21));
        let m = of("bmk,bkn->bmn", &[3, 1, 5], &[3, 5, 7], &[3, 1, 7]).expect("a product");
        assert_eq!((m.batch, m.m), (3, 1));
    }

    #[test]
    fn what_is_no_product_is_refused() {
        assert!(of("mk,kn->n", &[2, 5], &[5, 7], &[7]).is_err());
        assert!(of("abk,kn->ban", &[2, 3, 5], &[5, 7], &[3, 2, 7]).is_err());
    }
}
