//! Dense operators that are one of ours each: transposed convolution, softmax, normalisation, sampling, attention.
//!
//! A softmax along several axes is one along their product: neighbours are seen through a view as one axis, others are moved side by side before.

use tract_onnx::prelude::*;
use tract_onnx::tract_core::ops::array::Trilu as TractTrilu;
use tract_onnx::tract_core::ops::cnn::Deconv;
use tract_onnx::tract_core::ops::einsum::EinSum;
use tract_onnx::tract_core::ops::nn::grid_sample::{GridSample as TractGridSample, InterpolationMode, PaddingMode};
use tract_onnx::tract_core::ops::nn::{RmsNorm, Softmax, SoftmaxKind};
use tract_onnx_opl::lrn::Lrn as TractLrn;
use tract_transformers::ops::sdpa::Sdpa;

use super::{Lowering, Reason};
use crate::graph::{DType, Expr, GridSample, Interpolation, Lrn, Norm, OpKind, Outside, Tensor, Trilu};
use crate::ids::TensorId;

impl Lowering<'_> {
    /// Lowers `node` if it is one of this module's; tells whether it was.
    pub(super) fn dense(&mut self, node: &TypedNode, inputs: &[TensorId], output: &Tensor) -> Result<bool, Reason> {
        let kind = if let Some(op) = node.op_as::<Deconv>() {
            self.deconv(node, op, inputs.to_vec(), output.clone())?;
            return Ok(true);
        } else if let Some(op) = node.op_as::<EinSum>() {
            self.einsum(node, op, inputs, output)?;
            return Ok(true);
        } else if let Some(op) = node.op_as::<Softmax>() {
            self.softmax(node, op, inputs[0], output)?;
            return Ok(true);
        } else if let Some(op) = node.op_as::<Sdpa>() {
            self.attention(node, op, inputs, output)?;
            return Ok(true);
        } else if let Some(op) = node.op_as::<RmsNorm>() {
            let epsilon = op.eps.cast_to_scalar::<f32>().map_err(|e| format!("{e:#}"))?;
            OpKind::Norm(Norm { centred: false, axes: vec![op.axis], epsilon, epilogue: Expr::identity() })
        } else if let Some(op) = node.op_as::<TractLrn>() {
            OpKind::Lrn(Lrn { size: op.size, alpha: op.alpha, beta: op.beta, bias: op.bias })
        } else if let Some(op) = node.op_as::<TractGridSample>() {
            OpKind::GridSample(grid_sample(op, output.shape.len() - 2)?)
        } else if let Some(op) = node.op_as::<TractTrilu>() {
            let diagonal = inputs.get(1).and_then(|&k| self.graph.constant(k)?.only()).ok_or("its diagonal is not constant")?;
            // further away than any element is as good as any other place there
            let most = output.shape.iter().sum::<usize>() as f64;
            let kind = OpKind::Trilu(Trilu { upper: op.upper, diagonal: diagonal.number().clamp(-most, most) as i64 });
            self.finish(node, kind, vec![inputs[0]], output.clone());
            return Ok(true);
        } else {
            return Ok(false);
        };
        if inputs.iter().any(|&t| self.graph.tensor(t).dtype != DType::F32) {
            return Err("operands other than f32 are not supported yet".into());
        }
        self.finish(node, kind, inputs.to_vec(), output.clone());
        Ok(true)
    }

    fn softmax(&mut self, node: &TypedNode, op: &Softmax, x: TensorId, output: &Tensor) -> Result<(), Reason> {
        if op.quant_output_dt.is_some() {
            return Err("a quantised softmax is not supported yet".into());
        }
        let shape = &output.shape;
        let (summed, kept): (Vec<usize>, Vec<usize>) = (0..shape.len()).partition(|axis| op.axes.contains(axis));
        // axes of one element stand wherever it suits
        let real: Vec<usize> = (0..shape.len()).filter(|&axis| shape[axis] != 1).collect();
        let positions: Vec<usize> = (0..real.len()).filter(|&i| summed.contains(&real[i])).collect();
        let together = positions.windows(2).all(|pair| pair[0] + 1 == pair[1]);
        let order = [kept, summed.clone()].concat();
        let moved: Vec<usize> = order.iter().map(|&axis| shape[axis]).collect();
        let length: usize = summed.iter().map(|&axis| shape[axis]).product();
        let part = |what: &str, shape: Vec<usize>| Tensor { name: format!("{}.{what}", output.name), shape, ..output.clone() };
        let kind = |axis: usize| match op.kind {
            SoftmaxKind::Softmax => OpKind::Softmax { axis },
            SoftmaxKind::LogSoftmax => OpKind::LogSoftmax { axis },
        };
        if together {
            let before: usize = positions.first().map_or(1, |&first| real[..first].iter().map(|&axis| shape[axis]).product());
            let rows = vec![before, length, shape.iter().product::<usize>() / before / length];
            let plain = summed.len() == 1;
            let (axis, rows) = if plain { (summed[0], shape.clone()) } else { (1, rows) };
            let input = self.reshaped(x, rows.clone());
            let y = self.step(node, kind(axis), vec![input], Tensor { shape: rows, ..output.clone() });
            let seen = self.reshaped(y, shape.clone());
            self.tensors.insert(node.id.into(), seen);
            return Ok(());
        }
        let x = self.step(node, OpKind::Transpose { permutation: order.clone() }, vec![x], part("moved", moved.clone()));
        let rows = vec![moved.iter().product::<usize>() / length, length];
        let x = self.reshaped(x, rows.clone());
        let y = self.step(node, kind(1), vec![x], part("softmax", rows));
        let y = self.reshaped(y, moved);
        let back = (0..shape.len()).map(|axis| order.iter().position(|&o| o == axis).unwrap_or(axis)).collect();
        self.finish(node, OpKind::Transpose { permutation: back }, vec![y], output.clone());
        Ok(())
    }
}

fn grid_sample(op: &TractGridSample, axes: usize) -> Result<GridSample, Reason> {
    let interpolation = match op.mode {
        InterpolationMode::Nearest => Interpolation::Nearest,
        InterpolationMode::Bilinear => Interpolation::Linear,
        InterpolationMode::Bicubic => Interpolation::Cubic,
    };
    if axes > 3 || (axes != 2 && interpolation == Interpolation::Cubic) {
        return Err(format!("{} sampling over {axes} axes is not supported", interpolation.name()));
    }
    let outside = match op.padding_mode {
        PaddingMode::Zeros => Outside::Zeros,
        PaddingMode::Border => Outside::Border,
        PaddingMode::Reflection => Outside::Reflection,
    };
    Ok(GridSample { interpolation, outside, align_corners: op.align_corners })
}
