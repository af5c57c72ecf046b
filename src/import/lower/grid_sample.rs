//! Sampling at computed positions: tract's `GridSample` becomes ours.

use tract_onnx::prelude::*;
use tract_onnx::tract_core::ops::nn::grid_sample::{GridSample as TractGridSample, InterpolationMode, PaddingMode};

use super::{Lowering, Reason};
use crate::graph::{GridSample, Interpolation, OpKind, Outside};

impl Lowering<'_> {
    /// Lowers `node` if it samples a grid; returns whether it did.
    pub(super) fn grid_sample(&mut self, node: &TypedNode) -> Result<bool, Reason> {
        let Some(op) = node.op_as::<TractGridSample>() else { return Ok(false) };
        let kind = attributes(op, self.output(node)?.shape.len() - 2)?;
        self.single_precision(node, OpKind::GridSample(kind))
    }
}

fn attributes(op: &TractGridSample, axes: usize) -> Result<GridSample, Reason> {
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
