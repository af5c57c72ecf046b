//! Convolution, and its transpose. A convolution over one or two axes in single precision becomes a
//! `Conv`, which has faster kernels; views widen one axis to two. Everything else, transposes
//! included, becomes a `ConvNd`.

use tract_onnx::prelude::*;
use tract_onnx::tract_core::ops::cnn::{Conv as TractConv, Deconv, KernelFormat, PoolSpec};

use super::window::{Window, axes, extents};
use super::{Lowering, Reason};
use crate::graph::{Constant, Conv, ConvNd, DType, Expr, OpKind, Origin, Tensor, WindowAxis};
use crate::ids::TensorId;
use crate::import::tract::typed;

impl Lowering<'_> {
    /// Lowers `node` if it is a convolution or its transpose; returns whether it was.
    pub(super) fn conv(&mut self, node: &TypedNode) -> Result<bool, Reason> {
        if let Some(op) = node.op_as::<TractConv>() {
            self.conv_2d(node, op, self.inputs(node), self.output(node)?)?;
        } else if let Some(op) = node.op_as::<Deconv>() {
            self.deconv(node, op, self.inputs(node), self.output(node)?)?;
        } else {
            return Ok(false);
        }
        Ok(true)
    }

    fn conv_2d(&mut self, node: &TypedNode, conv: &TractConv, mut inputs: Vec<TensorId>, output: Tensor) -> Result<(), Reason> {
        if conv.kernel_fmt != KernelFormat::OIHW {
            return Err(format!("weights in layout {:?} are not supported yet", conv.kernel_fmt));
        }
        if conv.pool_spec.rank() > 2 || output.dtype != DType::F32 {
            return self.conv_nd(node, conv, inputs, output);
        }
        let window = Window::new(&conv.pool_spec, &self.graph.tensor(inputs[0]).shape)?;
        let weights = self.graph.tensor(inputs[1]).shape.clone();
        if weights.len() == 3 {
            inputs[1] = self.reshaped(inputs[1], vec![weights[0], weights[1], 1, weights[2]]);
        }
        self.bias(node, &mut inputs, conv.output_channels())?;
        let kind = OpKind::Conv(Conv {
            kernel: window.kernel,
            strides: window.strides,
            dilations: window.dilations,
            pads_begin: window.pads_begin,
            pads_end: window.pads_end,
            groups: conv.group,
            bias: inputs.len() == 3,
            epilogue: Expr::identity(),
        });
        self.windowed(node, kind, inputs, output, &conv.pool_spec)
    }

    pub(super) fn conv_nd(&mut self, node: &TypedNode, conv: &TractConv, inputs: Vec<TensorId>, output: Tensor) -> Result<(), Reason> {
        if conv.kernel_fmt != KernelFormat::OIHW {
            return Err(format!("weights in layout {:?} are not supported yet", conv.kernel_fmt));
        }
        let axes = axes(&conv.pool_spec, &self.graph.tensor(inputs[0]).shape)?;
        self.any_conv(node, axes, false, &conv.pool_spec, conv.group, inputs, output)
    }

    fn deconv(&mut self, node: &TypedNode, op: &Deconv, inputs: Vec<TensorId>, output: Tensor) -> Result<(), Reason> {
        if op.kernel_format != KernelFormat::OIHW {
            return Err(format!("weights in layout {:?} are not supported yet", op.kernel_format));
        }
        let spec = &op.pool_spec;
        let extents = extents(spec, &self.graph.tensor(inputs[0]).shape)?;
        let (strides, dilations) = (spec.strides(), spec.dilations());
        if op.adjustments.len() != extents.len() {
            return Err(format!("its output is padded along {} axes of {}", op.adjustments.len(), extents.len()));
        }
        let compute = || spec.padding.compute_for_deconv(extents, &spec.kernel_shape, &dilations, &strides, &op.adjustments);
        let padding = typed::caught(compute)?.map_err(|e| format!("{e:#}"))?;
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

    /// Makes the third of a convolution's `inputs` one value per channel, or drops it if it is
    /// zero.
    fn bias(&mut self, node: &TypedNode, inputs: &mut Vec<TensorId>, channels: usize) -> Result<(), Reason> {
        inputs.truncate(3);
        let Some(&bias) = inputs.get(2) else { return Ok(()) };
        let dtype = self.graph.tensor(bias).dtype;
        match self.graph.constant(bias) {
            // tract gives every convolution a bias, often a single zero
            Some(values) if values.bytes().iter().all(|&byte| byte == 0) => inputs.truncate(2),
            Some(values) if values.len() == 1 && channels != 1 => {
                let values = values.only().map(|value| Constant::repeated(value, channels)).ok_or("a bias without a value")?;
                let name = format!("{}.bias", node.name);
                inputs[2] = self.graph.add_tensor(Tensor { name, dtype, shape: vec![channels], origin: Origin::Constant(values) });
            }
            _ if self.graph.tensor(bias).elements() != channels as u64 => return Err("a bias must have one value per channel".into()),
            _ => inputs[2] = self.reshaped(bias, vec![channels]),
        }
        Ok(())
    }
}
