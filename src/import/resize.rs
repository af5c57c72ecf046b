//! Resizing as matrix products.
//!
//! Whatever the mode (nearest, linear, cubic) and the way coordinates are mapped, resizing one axis is linear: output `j` of the axis is the sum of
//! `W[j, i]` times input `i`, where `W` is known once the sizes are. tract computes the weights; what is left is a product for each axis that changes.
//! A zero weight does not shield from an infinite or NaN neighbour on the same line, as a plain resampler would.

use tract_onnx::prelude::*;
use tract_onnx::tract_core::ops::nn::resize::Resize;

use super::lower::{Lowering, Reason};
use crate::graph::{DType, Expr, MatMul, OpKind, Origin, Scalar, Tensor};

impl Lowering<'_> {
    /// `op` as one product for each axis that changes.
    pub(super) fn resize(&mut self, node: &TypedNode, op: &Resize, output: Tensor) -> Result<(), Reason> {
        let Some(&x) = self.tensors.get(&node.inputs[0]) else { return Err("its input is a constant without a form".into()) };
        let mut shape = self.graph.tensor(x).shape.clone();
        let scales = self.scales(node, op, &shape, &output.shape)?;
        let changes: Vec<usize> = (0..shape.len()).filter(|&a| shape[a] != output.shape[a] || scales[a] != 1.0).collect();
        self.tensors.insert(node.id.into(), x);
        if output.elements() == 0 {
            let nothing = self.filled(&output, Scalar::from_f64(output.dtype, 0.0));
            self.tensors.insert(node.id.into(), nothing);
            return Ok(());
        }
        for &axis in &changes {
            let (from, to) = (shape[axis], output.shape[axis]);
            let plan = op.plan_axis(scales[axis], from, to);
            let mut weights = vec![0.0; to * from];
            for (tap, (&i, &weight)) in plan.indices.iter().zip(&plan.weights).enumerate() {
                weights[tap / plan.window * from + i] += weight;
            }
            let weights = self.graph.add_tensor(Tensor {
                name: format!("{}.resize-{axis}", node.name),
                dtype: DType::F32,
                shape: vec![to, from],
                origin: Origin::Constant(weights.into()),
            });
            shape[axis] = to;
            let (outer, inner) = (shape[..axis].iter().product(), shape[axis + 1..].iter().product());
            let last = Some(&axis) == changes.last();
            let name = if last { output.name.clone() } else { format!("{}.axis-{axis}", output.name) };
            let input = self.tensors[&node.id.into()];
            let (product, inputs) = if inner == 1 {
                (rows(outer, from, to), vec![input, weights])
            } else {
                (planes(outer, from, to, inner), vec![weights, input])
            };
            self.finish(node, OpKind::MatMul(product), inputs, Tensor { name, shape: shape.clone(), ..output.clone() });
        }
        Ok(())
    }

    /// The scale of each axis: as given, else from the sizes.
    fn scales(&self, node: &TypedNode, op: &Resize, from: &[usize], to: &[usize]) -> Result<Vec<f32>, Reason> {
        let text = |e: TractError| format!("{e:#}");
        if let Some(&outlet) = op.optional_scales_input.and_then(|input| node.inputs.get(input)) {
            let fact = self.model.outlet_fact(outlet).map_err(text)?;
            let scales = fact.konst.as_ref().ok_or("its scales are not constant")?;
            if scales.len() == from.len() {
                return super::typed::f32_values(scales).map_err(text);
            }
        }
        Ok(from.iter().zip(to).map(|(&from, &to)| to as f32 / from as f32).collect())
    }
}

/// The last axis: `y = x W^T`.
fn rows(outer: usize, from: usize, to: usize) -> MatMul {
    MatMul {
        batch: 1,
        m: outer,
        n: to,
        k: from,
        a_strides: [0, from, 1],
        b_strides: [0, 1, from],
        c_strides: [0, to, 1],
        bias: false,
        epilogue: Expr::identity(),
    }
}

/// An axis with `inner` elements behind it: `y = W x` for each of `outer` planes.
fn planes(outer: usize, from: usize, to: usize, inner: usize) -> MatMul {
    MatMul {
        batch: outer,
        m: to,
        n: inner,
        k: from,
        a_strides: [0, from, 1],
        b_strides: [from * inner, inner, 1],
        c_strides: [to * inner, inner, 1],
        bias: false,
        epilogue: Expr::identity(),
    }
}
