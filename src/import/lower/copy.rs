//! Operators that move elements unchanged: transpositions, slices, paddings, triangles.
//!
//! A node that keeps the order of elements becomes a `Reshape`, which `fuse` turns into a view.

use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::DimLike;
use tract_onnx::tract_core::ops::Downsample;
use tract_onnx::tract_core::ops::array::{Pad as TractPad, PadMode as TractPadMode, Slice as TractSlice, Trilu as TractTrilu};
use tract_onnx::tract_core::ops::change_axes::{AxisOp, IntoShape};

use super::{Lowering, Reason};
use crate::graph::{OpKind, Pad, PadMode, Reshape, Slice, Transpose, Trilu};
use crate::import::tract::typed;

impl Lowering<'_> {
    /// Lowers `node` if it moves elements; returns whether it did.
    pub(super) fn copy(&mut self, node: &TypedNode) -> Result<bool, Reason> {
        let inputs = self.inputs(node);
        let Some(&x) = inputs.first() else { return Ok(false) };
        let shape = self.graph.tensor(x).shape.clone();
        let rank = shape.len();
        let output = self.output(node)?;
        let kind = if let Some(op) = node.op_as::<AxisOp>() {
            match moved_axes(op, &shape) {
                Some(permutation) => OpKind::Transpose(Transpose { permutation }),
                None => OpKind::Reshape(Reshape),
            }
        } else if node.op_is::<IntoShape>() && self.graph.tensor(x).elements() == output.elements() {
            OpKind::Reshape(Reshape)
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
        } else if let Some(op) = node.op_as::<TractTrilu>() {
            let diagonal = inputs.get(1).and_then(|&k| self.graph.constant(k)?.only()).ok_or("its diagonal is not constant")?;
            // all diagonals beyond the matrix have the same effect
            let most = shape.iter().sum::<usize>() as f64;
            OpKind::Trilu(Trilu { upper: op.upper, diagonal: diagonal.number().clamp(-most, most) as i64 })
        } else {
            return Ok(false);
        };
        self.finish(node, kind, vec![x], output);
        Ok(true)
    }
}

/// A slice of one axis from `begin`, with `step`; the other axes are whole.
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

/// The permutation of `op`, if it moves elements of a row-major tensor of `shape`.
fn moved_axes(op: &AxisOp, shape: &[usize]) -> Option<Vec<usize>> {
    let AxisOp::Move(from, to) = *op else { return None };
    let mut axes: Vec<usize> = (0..shape.len()).collect();
    let moved = axes.remove(from);
    axes.insert(to, moved);
    let real = axes.iter().filter(|&&axis| shape[axis] != 1);
    (!real.is_sorted()).then_some(axes)
}
