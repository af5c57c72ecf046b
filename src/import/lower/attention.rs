//! Scaled dot-product attention: one operator or, if a head is too deep for it, a product, a
//! softmax and a product.
//!
//! Queries are `[batch, heads, rows, depth]` (or without heads); keys and values may have fewer
//! heads, which neighbouring heads of the queries share.

use tract_onnx::prelude::*;
use tract_transformers::ops::sdpa::Sdpa;

use super::{Lowering, Reason};
use crate::graph::{Attention, Binary, Constant, DType, Elementwise, Expr, MatMul, OpKind, Origin, Softmax, Tensor};
use crate::ids::TensorId;
use crate::import::onnx::limits;

/// What tract adds to a score that a causal mask hides.
const HIDDEN: f32 = f32::MIN;

impl Lowering<'_> {
    /// Lowers `node` if it is scaled dot-product attention; returns whether it was.
    pub(super) fn attention(&mut self, node: &TypedNode) -> Result<bool, Reason> {
        let Some(op) = node.op_as::<Sdpa>() else { return Ok(false) };
        let (inputs, output) = (&self.inputs(node)[..], &self.output(node)?);
        for (&outlet, &id) in node.inputs.iter().zip(inputs) {
            let fact = self.model.outlet_fact(outlet).map_err(|e| format!("{e:#}"))?;
            if fact.datum_type != DatumType::F32 || self.graph.tensor(id).dtype != DType::F32 {
                return Err(format!("operands of type {:?} are not supported yet", fact.datum_type));
            }
        }
        let four = |shape: &[usize]| -> Result<[usize; 4], Reason> {
            match *shape {
                [batch, rows, depth] => Ok([batch, 1, rows, depth]),
                [batch, heads, rows, depth] => Ok([batch, heads, rows, depth]),
                _ => Err(format!("operands of {} axes", shape.len())),
            }
        };
        let shape = |i: usize| four(&self.graph.tensor(inputs[i]).shape);
        let ([batch, heads, rows, depth], [_, kv_heads, columns, _], [.., value_depth]) = (shape(0)?, shape(1)?, shape(2)?);
        let mask = if inputs.len() > 3 { Some(shape(3)?) } else { None };
        let scale = match &op.scale {
            Some(scale) => scale.cast_to_scalar::<f32>().map_err(|e| format!("{e:#}"))?,
            None => (depth as f32).sqrt().recip(),
        };
        let broadcast = |shape: [usize; 4]| {
            let strides = contiguous(shape);
            std::array::from_fn(|axis| if shape[axis] == 1 { 0 } else { strides[axis] })
        };
        let attention = Attention {
            batch,
            heads,
            kv_heads,
            rows,
            columns,
            depth,
            value_depth,
            scale,
            causal: op.is_causal,
            q_strides: contiguous([batch, heads, rows, depth]),
            k_strides: contiguous([batch, kv_heads, columns, depth]),
            v_strides: contiguous([batch, kv_heads, columns, value_depth]),
            mask_strides: mask.map(broadcast),
            y_strides: contiguous([batch, heads, rows, value_depth]),
        };
        if depth.max(value_depth) <= Attention::MAX_DEPTH {
            self.finish(node, OpKind::Attention(attention), inputs.to_vec(), output.clone());
        } else {
            self.products(node, &attention, inputs, mask, output)?;
        }
        Ok(true)
    }

    /// The same as separate operators. Heads that share keys and values are rows of one product.
    fn products(
        &mut self,
        node: &TypedNode,
        a: &Attention,
        inputs: &[TensorId],
        mask: Option<[usize; 4]>,
        output: &Tensor,
    ) -> Result<(), Reason> {
        let part =
            |what: &str, shape: [usize; 4]| Tensor { name: format!("{}.{what}", output.name), shape: shape.into(), ..output.clone() };
        let (products, tall) = (a.batch * a.kv_heads, a.heads / a.kv_heads * a.rows);
        let square = [a.batch, a.heads, a.rows, a.columns];
        let scores = product(products, tall, a.columns, a.depth, [a.columns * a.depth, 1, a.depth]);
        let scores = self.add_intermediate(node, OpKind::MatMul(scores), vec![inputs[0], inputs[1]], part("products", square));
        let mut operands = vec![scores];
        let mut expr = Expr::binary(Binary::Mul, Expr::Input(0), Expr::number(a.scale));
        if let Some(shape) = mask {
            operands.push(self.reshaped(inputs[3], shape.into()));
            expr = Expr::binary(Binary::Add, expr, Expr::Input(operands.len() - 1));
        }
        if a.causal {
            let behind = a.columns as isize - a.rows as isize;
            let visible = |i: usize| (i % a.columns) as isize <= (i / a.columns) as isize + behind;
            limits::table(&[a.rows, a.columns], 4)?;
            let values = (0..a.rows * a.columns).map(|i| if visible(i) { 0.0 } else { HIDDEN }).collect();
            let triangle = Tensor { origin: Origin::Constant(Constant::F32(values)), ..part("triangle", [1, 1, a.rows, a.columns]) };
            operands.push(self.graph.add_tensor(triangle));
            expr = Expr::binary(Binary::Add, expr, Expr::Input(operands.len() - 1));
        }
        let scores = self.add_intermediate(node, OpKind::Elementwise(Elementwise { expr }), operands, part("scores", square));
        let weights = self.add_intermediate(node, OpKind::Softmax(Softmax { axis: 3, log: false }), vec![scores], part("weights", square));
        let result = product(products, tall, a.value_depth, a.columns, [a.columns * a.value_depth, a.value_depth, 1]);
        self.finish(node, OpKind::MatMul(result), vec![weights, inputs[2]], output.clone());
        Ok(())
    }
}

/// `batch` products of contiguous rows `[m, k]` by a matrix of the given strides along (batch, k,
/// n).
fn product(batch: usize, m: usize, n: usize, k: usize, b_strides: [usize; 3]) -> MatMul {
    MatMul { batch, m, n, k, a_strides: [m * k, k, 1], b_strides, c_strides: [m * n, n, 1], bias: false, epilogue: Expr::identity() }
}

/// Strides of a row-major tensor.
fn contiguous([_, b, c, d]: [usize; 4]) -> [usize; 4] {
    [b * c * d, c * d, d, 1]
}
