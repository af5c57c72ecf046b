//! tract's windows: what convolution and pooling share.

use tract_onnx::prelude::*;
use tract_onnx::tract_core::ops::cnn::{PaddingSpec, PoolSpec};
use tract_onnx::tract_core::ops::nn::DataFormat;

use super::{Lowering, Reason};
use crate::graph::{OpKind, Tensor, WindowAxis};
use crate::ids::TensorId;
use crate::import::tract::typed;

impl Lowering<'_> {
    /// Adds a windowed operator of rank 4. Views add an axis of size 1 to 1-D input and output, and
    /// to those without a batch axis.
    pub(super) fn windowed(
        &mut self,
        node: &TypedNode,
        kind: OpKind,
        mut inputs: Vec<TensorId>,
        output: Tensor,
        spec: &PoolSpec,
    ) -> Result<(), Reason> {
        let wide = |shape: &[usize]| -> Vec<usize> {
            let mut shape = shape.to_vec();
            if matches!(spec.data_format, DataFormat::CHW) {
                shape.insert(0, 1);
            }
            if spec.rank() == 1 {
                shape.insert(2, 1);
            }
            shape
        };
        let input = self.graph.tensor(inputs[0]).shape.clone();
        inputs[0] = self.reshaped(inputs[0], wide(&input));
        let shape = output.shape.clone();
        let result = self.add_intermediate(node, kind, inputs, Tensor { shape: wide(&shape), ..output });
        let seen = self.reshaped(result, shape);
        self.tensors.insert(node.id.into(), seen);
        Ok(())
    }

    /// Adds a windowed operator. Views add a batch axis to input and output that have none.
    pub(super) fn batched(&mut self, node: &TypedNode, kind: OpKind, mut inputs: Vec<TensorId>, output: Tensor, spec: &PoolSpec) {
        if !matches!(spec.data_format, DataFormat::CHW) {
            return self.finish(node, kind, inputs, output);
        }
        let wide = |shape: &[usize]| [&[1], shape].concat();
        let input = wide(&self.graph.tensor(inputs[0]).shape);
        inputs[0] = self.reshaped(inputs[0], input);
        let result = self.add_intermediate(node, kind, inputs, Tensor { shape: wide(&output.shape), ..output.clone() });
        let seen = self.reshaped(result, output.shape);
        self.tensors.insert(node.id.into(), seen);
    }
}

/// The geometry of a 1-D or 2-D window, widened to 2-D, padding resolved.
pub(super) struct Window {
    pub kernel: [usize; 2],
    pub strides: [usize; 2],
    pub dilations: [usize; 2],
    pub pads_begin: [usize; 2],
    pub pads_end: [usize; 2],
}

impl Window {
    pub fn new(spec: &PoolSpec, input: &[usize]) -> Result<Window, Reason> {
        let extents = extents(spec, input)?;
        let (before, after): (Vec<usize>, Vec<usize>) = match &spec.padding {
            PaddingSpec::ExplicitOnnxPool(before, after, _ceil) => (before.to_vec(), after.to_vec()),
            _ => typed::caught(|| spec.computed_padding(extents))?.iter().map(|d| (d.pad_before, d.pad_after)).unzip(),
        };
        let wide = |values: &[usize], neutral: usize| match *values {
            [w] => Ok([neutral, w]),
            [h, w] => Ok([h, w]),
            _ => Err(format!("windows over {} axes are not supported yet", values.len())),
        };
        Ok(Window {
            kernel: wide(&spec.kernel_shape, 1)?,
            strides: wide(&spec.strides(), 1)?,
            dilations: wide(&spec.dilations(), 1)?,
            pads_begin: wide(&before, 0)?,
            pads_end: wide(&after, 0)?,
        })
    }
}

/// The extents after the channels. Checks what tract does not: every list of the window has one
/// entry per axis, and no kernel size, stride or dilation is 0.
pub(super) fn extents<'a>(spec: &PoolSpec, input: &'a [usize]) -> Result<&'a [usize], Reason> {
    let channels = match spec.data_format {
        DataFormat::NCHW => 1,
        DataFormat::CHW => 0,
        other => return Err(format!("layout {other:?} is not supported")),
    };
    let extents = input.get(channels + 1..).unwrap_or_default();
    let (strides, dilations) = (spec.strides(), spec.dilations());
    let pads = match &spec.padding {
        PaddingSpec::Explicit(before, after) | PaddingSpec::ExplicitOnnxPool(before, after, _) => [before.len(), after.len()],
        _ => [extents.len(); 2],
    };
    if [spec.rank(), strides.len(), dilations.len(), pads[0], pads[1]] != [extents.len(); 5] {
        return Err(format!("its window does not have the {} axes that its input has after the channels", extents.len()));
    }
    if spec.kernel_shape.iter().chain(strides.iter()).chain(dilations.iter()).any(|&n| n == 0) {
        return Err("its window has a kernel size, stride or dilation of 0".into());
    }
    Ok(extents)
}

/// The window, padding resolved.
pub(super) fn axes(spec: &PoolSpec, input: &[usize]) -> Result<Vec<WindowAxis>, Reason> {
    let extents = extents(spec, input)?;
    let (before, after): (Vec<usize>, Vec<usize>) = match &spec.padding {
        PaddingSpec::ExplicitOnnxPool(before, after, _ceil) => (before.to_vec(), after.to_vec()),
        _ => typed::caught(|| spec.computed_padding(extents))?.iter().map(|d| (d.pad_before, d.pad_after)).unzip(),
    };
    let (strides, dilations) = (spec.strides(), spec.dilations());
    let axis = |i: usize| WindowAxis {
        kernel: spec.kernel_shape[i],
        stride: strides[i],
        dilation: dilations[i],
        pad_begin: before[i],
        pad_end: after[i],
    };
    Ok((0..spec.rank()).map(axis).collect())
}
