//! Operators that move elements or repeat them: transpositions, slices, paddings, broadcasts, tiles, nearest upsampling.
//!
//! What keeps the order of elements is a `Reshape`, which `fuse` turns into a view. What repeats elements is a broadcast between two views:
//! upsampling `[H]` by 2 reads `[H, 1]` into `[H, 2]`, tiling it reads `[1, H]` into `[2, H]`.

use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::DimLike;
use tract_onnx::tract_core::ops::Downsample;
use tract_onnx::tract_core::ops::array::{MultiBroadcastTo, Pad as TractPad, PadMode as TractPadMode, Slice as TractSlice, Tile};
use tract_onnx::tract_core::ops::change_axes::{AxisOp, IntoShape};
use tract_onnx::tract_core::ops::nn::resize::NearestUpsample;

use super::{Lowering, Reason};
use crate::graph::{Elementwise, Expr, OpKind, Pad, PadMode, Slice, Tensor};
use crate::ids::TensorId;
use crate::import::tract::typed;

impl Lowering<'_> {
    /// Lowers `node` if it is one of this module's; tells whether it was.
    pub(super) fn movement(&mut self, node: &TypedNode, inputs: &[TensorId], output: &Tensor) -> Result<bool, Reason> {
        let Some(&x) = inputs.first() else { return Ok(false) };
        let shape = self.graph.tensor(x).shape.clone();
        let rank = shape.len();
        let kind = if let Some(op) = node.op_as::<AxisOp>() {
            match moved_axes(op, &shape) {
                Some(permutation) => OpKind::Transpose { permutation },
                None => OpKind::Reshape,
            }
        } else if node.op_is::<IntoShape>() && self.graph.tensor(x).elements() == output.elements() {
            OpKind::Reshape
        } else if let Some(op) = node.op_as::<TractSlice>() {
            let start = op.start.to_usize().map_err(|_| "its bounds are not static".to_string())?;
            part(rank, op.axis, start, 1)
        } else if let Some(op) = node.op_as::<Downsample>() {
            let first = if op.stride > 0 { op.modulo } else { shape[op.axis] - 1 };
            if op.stride < 0 && op.modulo != 0 {
                return Err("reading backwards from the middle is not supported yet".into());
            }
            part(rank, op.axis, first, op.stride)
        } else if let Some(op) = node.op_as::<TractPad>() {
            OpKind::Pad(padding(op, self.datum(node.inputs[0])?)?)
        } else if node.op_is::<MultiBroadcastTo>() {
            let missing = output.shape.len().checked_sub(rank).ok_or("a broadcast to fewer axes")?;
            let wide = self.reshaped(x, [vec![1; missing], shape].concat());
            self.finish(node, broadcast(), vec![wide], output.clone());
            return Ok(true);
        } else if let Some(op) = node.op_as::<NearestUpsample>() {
            let times = op.scales.to_vec();
            self.repeated(node, x, &times, output, true);
            return Ok(true);
        } else if let Some(op) = node.op_as::<Tile>() {
            let times: Result<Vec<usize>, _> = op.multipliers.iter().map(|m| m.to_usize()).collect();
            self.repeated(node, x, &times.map_err(|_| "its repetitions are not static")?, output, false);
            return Ok(true);
        } else {
            return Ok(false);
        };
        self.finish(node, kind, vec![x], output.clone());
        Ok(true)
    }

    /// Every element `times` times: `each` of them in place, or all of them in turn.
    fn repeated(&mut self, node: &TypedNode, x: TensorId, times: &[usize], output: &Tensor, each: bool) {
        let shape = self.graph.tensor(x).shape.clone();
        let pair = |size: usize, times: usize| if each { [size, times] } else { [times, size] };
        let narrow = shape.iter().flat_map(|&size| pair(size, 1)).collect();
        let wide: Vec<usize> = shape.iter().zip(times).flat_map(|(&size, &times)| pair(size, times)).collect();
        let x = self.reshaped(x, narrow);
        self.finish(node, broadcast(), vec![x], Tensor { shape: wide, ..output.clone() });
        let result = self.reshaped(self.tensors[&node.id.into()], output.shape.clone());
        self.tensors.insert(node.id.into(), result);
    }
}

fn broadcast() -> OpKind {
    OpKind::Elementwise(Elementwise { expr: Expr::identity() })
}

/// One axis from `begin`, with `step`; the others whole.
fn part(rank: usize, axis: usize, begin: usize, step: isize) -> OpKind {
    let mut slice = Slice { begin: vec![0; rank], step: vec![1; rank] };
    slice.begin[axis] = begin;
    slice.step[axis] = step;
    OpKind::Slice(slice)
}

fn padding(op: &TractPad, datum: DatumType) -> Result<Pad, Reason> {
    let text = |e: TractError| format!("{e:#}");
    let mode = match &op.mode {
        TractPadMode::Constant(value) => {
            let value = value.cast_to_dt(datum).and_then(|v| typed::values(&v)).map_err(text)?;
            PadMode::Constant(value.only().ok_or("its padding is not one value")?)
        }
        TractPadMode::Reflect => PadMode::Reflect,
        TractPadMode::Edge => PadMode::Edge,
    };
    let (before, after) = op.pads.iter().copied().unzip();
    Ok(Pad { before, after, mode })
}

/// The permutation that `op` is, if it moves elements of a row-major tensor of `shape`.
fn moved_axes(op: &AxisOp, shape: &[usize]) -> Option<Vec<usize>> {
    let AxisOp::Move(from, to) = *op else { return None };
    let mut axes: Vec<usize> = (0..shape.len()).collect();
    let moved = axes.remove(from);
    axes.insert(to, moved);
    let real = axes.iter().filter(|&&axis| shape[axis] != 1);
    (!real.is_sorted()).then_some(axes)
}
