//! Pooling. Over one or two axes in single precision, it becomes a `Pool`, which has faster
//! kernels; views widen one axis to two. Everything else becomes a `PoolNd`.

use tract_onnx::prelude::*;
use tract_onnx::tract_core::ops::cnn::{MaxPool, PoolSpec, SumPool};
use tract_onnx::tract_core::ops::nn::DataFormat;

use super::window::{Window, axes};
use super::{Lowering, Reason};
use crate::graph::{DType, OpKind, Origin, Pool, PoolIndices, PoolKind, PoolNd, Tensor};
use crate::ids::TensorId;

impl Lowering<'_> {
    /// Lowers `node` if it is a pooling; returns whether it was.
    pub(super) fn pool(&mut self, node: &TypedNode) -> Result<bool, Reason> {
        if let Some(op) = node.op_as::<MaxPool>() {
            self.pool_2d(node, &op.pool_spec, PoolKind::Max, self.inputs(node), self.output(node)?)?;
        } else if let Some(op) = node.op_as::<SumPool>() {
            let kind = if op.normalize { PoolKind::Average { count_include_pad: op.count_include_pad } } else { PoolKind::Sum };
            self.pool_2d(node, &op.pool_spec, kind, self.inputs(node), self.output(node)?)?;
        } else {
            return Ok(false);
        }
        Ok(true)
    }

    fn pool_2d(&mut self, node: &TypedNode, spec: &PoolSpec, kind: PoolKind, inputs: Vec<TensorId>, output: Tensor) -> Result<(), Reason> {
        if spec.rank() > 2 || output.dtype != DType::F32 {
            return self.pool_nd(node, spec, kind, inputs[0], output);
        }
        let Window { kernel, strides, dilations, pads_begin, pads_end } = Window::new(spec, &self.graph.tensor(inputs[0]).shape)?;
        let kind = OpKind::Pool(Pool { kind, kernel, strides, dilations, pads_begin, pads_end });
        self.windowed(node, kind, inputs, output, spec)
    }

    fn pool_nd(&mut self, node: &TypedNode, spec: &PoolSpec, kind: PoolKind, x: TensorId, output: Tensor) -> Result<(), Reason> {
        let axes = axes(spec, &self.graph.tensor(x).shape)?;
        self.batched(node, OpKind::PoolNd(PoolNd { kind, axes }), vec![x], output, spec);
        Ok(())
    }

    /// Lowers `node` if it is a maximum pooling that also gives the positions of its maxima.
    ///
    /// tract's positions are within planes, and a second operator converts them to ONNX's. Ours
    /// gives ONNX's positions directly, so the second operator becomes an identity.
    pub(super) fn pool_with_indices(&mut self, node: &TypedNode) -> Result<bool, Reason> {
        let Some(op) = node.op_as::<MaxPool>().filter(|op| op.with_index_outputs.is_some()) else { return Ok(false) };
        let x = self.inputs(node)[0];
        let (values, indices) = (OutletId::new(node.id, 0), OutletId::new(node.id, 1));
        let output = self.describe(values, Origin::Input)?;
        let positions = self.describe(indices, Origin::Input)?;
        if matches!(op.pool_spec.data_format, DataFormat::CHW) || positions.dtype != DType::I64 {
            return Err("indices of a max pooling are not supported in this layout or type".into());
        }
        // the second operator's type is private to tract: only its debug text is visible
        let readers = &self.model.node(node.id).outputs[1].successors;
        let reader = readers.first().map(|reader| format!("{:?}", self.model.node(reader.node).op)).unwrap_or_default();
        let axes = axes(&op.pool_spec, &self.graph.tensor(x).shape)?;
        let column_major = reader.contains("column_major: true");
        let kind = OpKind::PoolIndices(PoolIndices { axes, column_major });
        let positions = self.add_intermediate(node, kind, vec![x], positions);
        self.tensors.insert(indices, positions);
        self.pool_2d(node, &op.pool_spec, PoolKind::Max, vec![x], output)?;
        Ok(true)
    }
}
