//! Windows over three axes or more, and transposed convolutions over any number.

use tract_onnx::prelude::*;
use tract_onnx::tract_core::ops::cnn::{Conv, Deconv, KernelFormat, MaxPool, PaddingSpec, PoolSpec};
use tract_onnx::tract_core::ops::nn::DataFormat;

use super::{Lowering, Reason};
use crate::graph::{Constant, ConvNd, DType, Expr, OpKind, Origin, PoolIndices, PoolKind, PoolNd, Tensor, WindowAxis};
use crate::ids::TensorId;

impl Lowering<'_> {
    pub(super) fn conv_nd(&mut self, node: &TypedNode, conv: &Conv, inputs: Vec<TensorId>, output: Tensor) -> Result<(), Reason> {
        if conv.kernel_fmt != KernelFormat::OIHW {
            return Err(format!("weights in layout {:?} are not supported yet", conv.kernel_fmt));
        }
        let axes = axes(&conv.pool_spec, &self.graph.tensor(inputs[0]).shape)?;
        self.any_conv(node, axes, false, &conv.pool_spec, conv.group, inputs, output)
    }

    pub(super) fn deconv(&mut self, node: &TypedNode, op: &Deconv, inputs: Vec<TensorId>, output: Tensor) -> Result<(), Reason> {
        if op.kernel_format != KernelFormat::OIHW {
            return Err(format!("weights in layout {:?} are not supported yet", op.kernel_format));
        }
        let spec = &op.pool_spec;
        let extents = extents(spec, &self.graph.tensor(inputs[0]).shape)?;
        let (strides, dilations) = (spec.strides(), spec.dilations());
        let padding = spec.padding.compute_for_deconv(extents, &spec.kernel_shape, &dilations, &strides, &op.adjustments);
        let padding = padding.map_err(|e| format!("{e:#}"))?;
        let axis = |i: usize| WindowAxis {
            kernel: spec.kernel_shape[i],
            stride: strides[i],
            dilation: dilations[i],
            pad_begin: padding[i].pad_before,
            pad_end: padding[i].pad_after,
        };
        let axes = (0..spec.rank()).map(axis).collect();
        self.any_conv(node, axes, true, spec, op.group, inputs, output)
    }

    #[allow(clippy::too_many_arguments)] // the parts of one operator
    fn any_conv(
        &mut self,
        node: &TypedNode,
        axes: Vec<WindowAxis>,
        transposed: bool,
        spec: &PoolSpec,
        groups: usize,
        mut inputs: Vec<TensorId>,
        output: Tensor,
    ) -> Result<(), Reason> {
        self.bias(node, &mut inputs, spec.output_channels)?;
        let kind = OpKind::ConvNd(ConvNd { transposed, axes, groups, bias: inputs.len() == 3, epilogue: Expr::identity() });
        self.batched(node, kind, inputs, output, spec);
        Ok(())
    }

    pub(super) fn pool_nd(&mut self, node: &TypedNode, spec: &PoolSpec, kind: PoolKind, x: TensorId, output: Tensor) -> Result<(), Reason> {
        let axes = axes(spec, &self.graph.tensor(x).shape)?;
        self.batched(node, OpKind::PoolNd(PoolNd { kind, axes }), vec![x], output, spec);
        Ok(())
    }

    /// A maximum pooling that says where its maxima are, too. tract counts within planes, and another operator turns that into ONNX's way of counting; ours
    /// counts that way at once, and the other operator has nothing left to do.
    pub(super) fn max_pool_with_indices(&mut self, node: &TypedNode, op: &MaxPool, x: TensorId) -> Result<(), Reason> {
        let (values, indices) = (OutletId::new(node.id, 0), OutletId::new(node.id, 1));
        let output = self.describe(values, Origin::Input)?;
        let places = self.describe(indices, Origin::Input)?;
        if matches!(op.pool_spec.data_format, DataFormat::CHW) || places.dtype != DType::I64 {
            return Err("indices of such a max pooling are not supported".into());
        }
        // tract keeps the other operator's type to itself: what it prints is all there is
        let readers = &self.model.node(node.id).outputs[1].successors;
        let reader = readers.first().map(|reader| format!("{:?}", self.model.node(reader.node).op)).unwrap_or_default();
        let axes = axes(&op.pool_spec, &self.graph.tensor(x).shape)?;
        let column_major = reader.contains("column_major: true");
        let kind = OpKind::PoolIndices(PoolIndices { axes, column_major });
        let places = self.step(node, kind, vec![x], places);
        self.tensors.insert(indices, places);
        self.pool(node, &op.pool_spec, PoolKind::Max, vec![x], output)
    }

    /// The third of a convolution's `inputs` as one value a channel; dropped where it is zero.
    pub(super) fn bias(&mut self, node: &TypedNode, inputs: &mut Vec<TensorId>, channels: usize) -> Result<(), Reason> {
        inputs.truncate(3);
        let Some(&bias) = inputs.get(2) else { return Ok(()) };
        let dtype = self.graph.tensor(bias).dtype;
        match self.graph.constant(bias) {
            // tract gives every convolution a bias, often one zero
            Some(values) if values.bytes().iter().all(|&byte| byte == 0) => inputs.truncate(2),
            Some(values) if values.len() == 1 && channels != 1 => {
                let values = values.only().map(|value| Constant::repeated(value, channels)).ok_or("a bias without a value")?;
                let name = format!("{}.bias", node.name);
                inputs[2] = self.graph.add_tensor(Tensor { name, dtype, shape: vec![channels], origin: Origin::Constant(values) });
            }
            _ if self.graph.tensor(bias).elements() != channels as u64 => return Err("a bias must have one value a channel".into()),
            _ => inputs[2] = self.reshaped(bias, vec![channels]),
        }
        Ok(())
    }

    /// A windowed operator; input and output without a batch axis are seen through views that have one.
    fn batched(&mut self, node: &TypedNode, kind: OpKind, mut inputs: Vec<TensorId>, output: Tensor, spec: &PoolSpec) {
        if !matches!(spec.data_format, DataFormat::CHW) {
            return self.finish(node, kind, inputs, output);
        }
        let wide = |shape: &[usize]| [&[1], shape].concat();
        let input = wide(&self.graph.tensor(inputs[0]).shape);
        inputs[0] = self.reshaped(inputs[0], input);
        let result = self.step(node, kind, inputs, Tensor { shape: wide(&output.shape), ..output.clone() });
        let seen = self.reshaped(result, output.shape);
        self.tensors.insert(node.id.into(), seen);
    }
}

/// The extents behind the channels.
fn extents<'a>(spec: &PoolSpec, input: &'a [usize]) -> Result<&'a [usize], Reason> {
    match spec.data_format {
        DataFormat::NCHW => Ok(&input[2..]),
        DataFormat::CHW => Ok(&input[1..]),
        other => Err(format!("layout {other:?} is not supported")),
    }
}

/// The window, padding resolved.
fn axes(spec: &PoolSpec, input: &[usize]) -> Result<Vec<WindowAxis>, Reason> {
    let extents = extents(spec, input)?;
    let (before, after): (Vec<usize>, Vec<usize>) = match &spec.padding {
        PaddingSpec::ExplicitOnnxPool(before, after, _ceil) => (before.to_vec(), after.to_vec()),
        _ => spec.computed_padding(extents).iter().map(|d| (d.pad_before, d.pad_after)).unzip(),
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
