//! The numeric reference: the model run by tract.
//!
//! **In**: the model as tract types it, and values of its inputs. **Out**: values of its outputs,
//! computed by tract's optimised pipeline on the CPU. That pipeline swaps the operands of some
//! remainders, and moves a slice with steps before a softmax or a sum over its axis, so models with
//! these are rewritten by our own pipeline instead.

use std::path::Path;

use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::bail;
use tract_onnx::tract_core::ops::Downsample;
use tract_onnx::tract_core::ops::array::StridedSlice;
use tract_onnx::tract_core::ops::binary::TypedBinOp;
use tract_onnx::tract_core::ops::nn::grid_sample::{GridSample, InterpolationMode, PaddingMode};

use super::typed;
use crate::error::Result;
use crate::graph::Constant;

/// Outputs of `model` for `inputs`, each with its shape; `path` is named in errors.
pub fn outputs<'a>(
    path: &Path,
    model: &TypedModel,
    inputs: impl IntoIterator<Item = (&'a Constant, &'a [usize])>,
) -> Result<Vec<Constant>> {
    typed::quietly(path, "computing the reference", || {
        let feeds = inputs
            .into_iter()
            .map(|(values, shape)| Ok(typed::tensor(values, shape)?.into_tvalue()))
            .collect::<TractResult<TVec<TValue>>>()?;
        if let Some(node) = model.nodes().iter().find(|node| is_border_cubic(node)) {
            bail!("{:?}: the reader clamps positions where PyTorch and ONNX Runtime clamp each neighbour", node.name);
        }
        let miscomputed = |node: &TypedNode| {
            let remainder = node.op_as::<TypedBinOp>().is_some_and(|op| op.0.name() == "Rem");
            remainder || node.op_is::<Downsample>() || node.op_is::<StridedSlice>()
        };
        let optimized =
            if model.nodes().iter().any(miscomputed) { typed::simplified(model.clone())? } else { model.clone().into_optimized()? };
        let outputs = optimized.into_runnable()?.run(feeds)?;
        outputs.iter().map(|t| typed::values(t)).collect()
    })
}

/// Whether `node` samples with a cubic whose positions outside are moved to the border.
fn is_border_cubic(node: &TypedNode) -> bool {
    let sample = node.op_as::<GridSample>();
    sample.is_some_and(|op| matches!((&op.mode, &op.padding_mode), (InterpolationMode::Bicubic, PaddingMode::Border)))
}
