//! Softmax and its logarithm, along any number of axes.
//!
//! A softmax along several axes is one along their product. A view coalesces neighbouring axes
//! into one; other axes are first transposed next to one another.

use tract_onnx::prelude::*;
use tract_onnx::tract_core::ops::nn::{Softmax as TractSoftmax, SoftmaxKind};

use super::{Lowering, Reason};
use crate::graph::{OpKind, Softmax, Tensor, Transpose};

impl Lowering<'_> {
    /// Lowers `node` if it is a softmax or its logarithm; returns whether it was.
    pub(super) fn softmax(&mut self, node: &TypedNode) -> Result<bool, Reason> {
        let Some(op) = node.op_as::<TractSoftmax>() else { return Ok(false) };
        let (x, output) = (self.inputs(node)[0], &self.output(node)?);
        if op.quant_output_dt.is_some() {
            return Err("a quantised softmax is not supported yet".into());
        }
        let shape = &output.shape;
        let (summed, kept): (Vec<usize>, Vec<usize>) = (0..shape.len()).partition(|axis| op.axes.contains(axis));
        // axes of one element may be at any position
        let real: Vec<usize> = (0..shape.len()).filter(|&axis| shape[axis] != 1).collect();
        let positions: Vec<usize> = (0..real.len()).filter(|&i| summed.contains(&real[i])).collect();
        let together = positions.windows(2).all(|pair| pair[0] + 1 == pair[1]);
        let order = [kept, summed.clone()].concat();
        let moved: Vec<usize> = order.iter().map(|&axis| shape[axis]).collect();
        let length: usize = summed.iter().map(|&axis| shape[axis]).product();
        let part = |what: &str, shape: Vec<usize>| Tensor { name: format!("{}.{what}", output.name), shape, ..output.clone() };
        let kind = |axis: usize| OpKind::Softmax(Softmax { axis, log: matches!(op.kind, SoftmaxKind::LogSoftmax) });
        if together {
            let before: usize = positions.first().map_or(1, |&first| real[..first].iter().map(|&axis| shape[axis]).product());
            let rows = vec![before, length, shape.iter().product::<usize>() / before / length];
            let plain = summed.len() == 1;
            let (axis, rows) = if plain { (summed[0], shape.clone()) } else { (1, rows) };
            let input = self.reshaped(x, rows.clone());
            let y = self.add_intermediate(node, kind(axis), vec![input], Tensor { shape: rows, ..output.clone() });
            let seen = self.reshaped(y, shape.clone());
            self.tensors.insert(node.id.into(), seen);
            return Ok(true);
        }
        let x =
            self.add_intermediate(node, OpKind::Transpose(Transpose { permutation: order.clone() }), vec![x], part("moved", moved.clone()));
        let rows = vec![moved.iter().product::<usize>() / length, length];
        let x = self.reshaped(x, rows.clone());
        let y = self.add_intermediate(node, kind(1), vec![x], part("softmax", rows));
        let y = self.reshaped(y, moved);
        let back = (0..shape.len()).map(|axis| order.iter().position(|&o| o == axis).unwrap_or(axis)).collect();
        self.finish(node, OpKind::Transpose(Transpose { permutation: back }), vec![y], output.clone());
        Ok(true)
    }
}
