//! Fourier transforms as matrix products.
//!
//! A complex axis of `n` points, each a pair of floats, is `2n` floats, and its transform is a
//! product with a constant matrix of `2n` by `2n` floats. That is `O(n^2)`. It suits the few
//! hundred points of speech models, where a product keeps a GPU busier than the passes of a fast
//! transform. More than [`LONGEST`] points are refused. A short-time transform is *one* product:
//! its frames are rows that overlap in memory, and its window is part of the matrix.

use std::f64::consts::TAU;

use tract_onnx::prelude::*;
use tract_onnx::tract_core::ops::fft::{Fft, Stft};

use super::{Lowering, Reason, extent};
use crate::graph::{DType, Expr, MatMul, OpKind, Origin, Tensor, Transpose};
use crate::ids::TensorId;
use crate::import::tract::typed;

/// The maximum number of points of a transform; its matrix then has 16 MiB.
const LONGEST: usize = 1024;

impl Lowering<'_> {
    /// Lowers `node` if it is a Fourier transform; returns whether it was.
    pub(super) fn fourier(&mut self, node: &TypedNode) -> Result<bool, Reason> {
        let Some(&x) = self.inputs(node).first() else { return Ok(false) };
        let output = &self.output(node)?;
        let shape = self.graph.tensor(x).shape.clone();
        if let Some(op) = node.op_as::<Fft>() {
            let matrix = self.transform(node, extent(&shape, op.axis)?, op.inverse, &[])?;
            self.transformed(node, x, op.axis, matrix, output);
        } else if let Some(op) = node.op_as::<Stft>() {
            let window = op.window.as_ref().map(|w| typed::f32_values(w)).transpose().map_err(|e| format!("{e:#}"))?;
            self.short_time(node, x, op, &window.unwrap_or_default(), output)?;
        } else {
            return Ok(false);
        }
        Ok(true)
    }

    /// The matrix `[2n, 2n]` of an unnormalised transform of `n` points, which first applies a
    /// centred window. An empty window is all ones.
    fn transform(&mut self, node: &TypedNode, n: usize, inverse: bool, window: &[f32]) -> Result<TensorId, Reason> {
        if n > LONGEST {
            return Err(format!(
                "a transform of {n} points is not supported: hiosc computes it as a matrix product, of {LONGEST} points at most"
            ));
        }
        let before = n.checked_sub(window.len()).ok_or("the window is longer than the frame")? / 2;
        let weight = |j: usize| match window {
            [] => 1.0,
            _ => j.checked_sub(before).and_then(|j| window.get(j)).map_or(0.0, |&w| f64::from(w)),
        };
        let mut matrix = vec![0.0f32; 4 * n * n];
        for j in 0..n {
            for k in 0..n {
                let angle = TAU * (j * k % n) as f64 / n as f64;
                let (sin, cos) = if inverse { (-angle).sin_cos() } else { angle.sin_cos() };
                let [[re_re, re_im], [im_re, im_im]] = [[cos, -sin], [sin, cos]].map(|row| row.map(|v| (weight(j) * v) as f32));
                let at = 4 * n * j + 2 * k;
                (matrix[at], matrix[at + 1]) = (re_re, re_im);
                (matrix[at + 2 * n], matrix[at + 2 * n + 1]) = (im_re, im_im);
            }
        }
        let name = format!("{}.matrix", self.operator_name(node));
        let origin = Origin::Constant(matrix.into());
        Ok(self.graph.add_tensor(Tensor { name, dtype: DType::F32, shape: vec![2 * n, 2 * n], origin }))
    }

    /// The transform of `x` along `axis` by `matrix`; axes between it and the pairs are transposed
    /// out of the way and back.
    fn transformed(&mut self, node: &TypedNode, x: TensorId, axis: usize, matrix: TensorId, output: &Tensor) {
        let shape = output.shape.clone();
        let rank = shape.len();
        let mut there: Vec<usize> = (0..rank - 1).filter(|&a| a != axis).collect();
        there.extend([axis, rank - 1]);
        let back = (0..rank).map(|a| there.iter().position(|&t| t == a).unwrap_or(a)).collect();
        let moved: Vec<usize> = there.iter().map(|&a| shape[a]).collect();
        let name = self.operator_name(node);
        let (k, aside) = (2 * shape[axis], axis + 2 != rank);
        let mut value = x;
        let tensor = |what: &str| Tensor { name: format!("{}.{what}", output.name), shape: moved.clone(), ..output.clone() };
        if aside {
            value = self.add(name.clone(), OpKind::Transpose(Transpose { permutation: there }), vec![value], tensor("moved"));
        }
        let product = frames(1, output.shape.iter().product::<usize>() / k, k, [0, k]);
        let result = if aside { tensor("transformed") } else { output.clone() };
        value = self.add(name.clone(), OpKind::MatMul(product), vec![value, matrix], result);
        if aside {
            value = self.add(name, OpKind::Transpose(Transpose { permutation: back }), vec![value], output.clone());
        }
        self.tensors.insert(node.id.into(), value);
    }

    /// Transforms of overlapping frames of `x [.., time, 2]`.
    fn short_time(&mut self, node: &TypedNode, x: TensorId, op: &Stft, window: &[f32], output: &Tensor) -> Result<(), Reason> {
        let shape = self.graph.tensor(x).shape.clone();
        if op.axis.checked_add(2) != Some(shape.len()) {
            return Err("a short-time transform along an axis other than the last is not supported".into());
        }
        let matrix = self.transform(node, op.frame, false, window)?;
        let (outer, time) = (shape[..op.axis].iter().product(), shape[op.axis]);
        let product = frames(outer, extent(&output.shape, op.axis)?, 2 * op.frame, [2 * time, 2 * op.stride]);
        self.finish(node, OpKind::MatMul(product), vec![x, matrix], output.clone());
        Ok(())
    }
}

/// `batch` times `m` rows of `k` floats, `strides` apart, each times a matrix of `k` by `k`.
fn frames(batch: usize, m: usize, k: usize, strides: [usize; 2]) -> MatMul {
    MatMul {
        batch,
        m,
        n: k,
        k,
        a_strides: [strides[0], strides[1], 1],
        b_strides: [0, k, 1],
        c_strides: [m * k, k, 1],
        bias: false,
        epilogue: Expr::identity(),
    }
}
