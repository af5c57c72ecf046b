//! Resampling at positions known at compile time: each element of the result is computed from a few
//! positions of the input, which tables list.
//!
//! Whatever the mode (nearest, linear, cubic, with or without a filter against aliasing) and the
//! mapping of coordinates, output `j` along a resized axis is the weighted sum of a few elements of
//! that axis. Elements and weights are known once the sizes are. So an axis becomes a table of
//! positions and a table of weights, with one row for each `j`, and the kernel knows no modes.
//! Several axes are resampled at once: their taps are combined, and the weights of a combination
//! are multiplied.

use std::fmt::{self, Display, Formatter};

use super::{Attributes, elements};
use crate::graph::{Constant, DType, Expr, Graph, Operator, Origin, Scalar};

/// An axis that is resampled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TappedAxis {
    /// The axis.
    pub axis: usize,
    /// Elements in each sum: the length of a row of the tables.
    pub taps: usize,
}

/// Resampling along some axes. Inputs: `x`; for each axis its positions `[extent in y, taps]` as
/// i32 and, if `weighted`, its weights `[extent in y, taps]` as f32, all of them constants; then
/// the epilogue's further inputs, each of the output's shape.
///
/// A tap of weight 0 is not read, so an infinite or NaN neighbour with that weight does no harm.
/// Half precision is summed in single precision.
#[derive(Clone, Debug, PartialEq)]
pub struct Resample {
    /// The axes, ascending: 1 to [`Resample::MAX_AXES`].
    pub axes: Vec<TappedAxis>,
    /// Whether taps have weights. If not, each axis has one tap, and elements of any type are
    /// copied.
    pub weighted: bool,
    /// The value, before the epilogue, where the first position of a row is -1. If `None`, all
    /// positions are inside.
    pub outside: Option<Scalar>,
    /// Applied to each finished sum: `x0` is the sum, `x1..` the further inputs.
    pub epilogue: Expr,
}

impl Resample {
    /// The maximum number of axes of one operator; further axes need another operator.
    pub const MAX_AXES: usize = 3;

    /// Tables per axis.
    fn tables(&self) -> usize {
        if self.weighted { 2 } else { 1 }
    }

    /// The number of inputs before those of the epilogue: `x` and the tables.
    pub fn fixed_inputs(&self) -> usize {
        1 + self.axes.len() * self.tables()
    }

    /// The input that holds the positions of the `i`-th axis.
    pub fn positions(&self, i: usize) -> usize {
        1 + i * self.tables()
    }

    /// Elements read for one element of the result.
    pub fn taps(&self) -> usize {
        self.axes.iter().map(|axis| axis.taps).product()
    }
}

impl Attributes for Resample {
    fn name(&self) -> &'static str {
        "resample"
    }

    fn check_shapes(&self, inputs: &[&[usize]], output: &[usize]) -> Result<(), String> {
        let &x = inputs.first().ok_or("needs an input")?;
        let known = (1..=Resample::MAX_AXES).contains(&self.axes.len())
            && self.axes.windows(2).all(|pair| pair[0].axis < pair[1].axis)
            && self.axes.iter().all(|a| a.axis < x.len() && a.taps > 0 && (self.weighted || a.taps == 1));
        if !known {
            return Err(format!("axes {:?} of {x:?}", self.axes));
        }
        let kept = |axis: usize| self.axes.iter().all(|a| a.axis != axis);
        if x.len() != output.len() || (0..x.len()).any(|axis| kept(axis) && x[axis] != output[axis]) {
            return Err(format!("output {output:?} does not follow from input {x:?}"));
        }
        let (fixed, rest) = inputs.split_at_checked(self.fixed_inputs()).ok_or("a table is missing")?;
        for (i, TappedAxis { axis, taps }) in self.axes.iter().enumerate() {
            let first = self.positions(i);
            if fixed[first..first + self.tables()].iter().any(|&table| *table != [output[*axis], *taps]) {
                return Err(format!("the tables of axis {axis} must be {}x{taps}", output[*axis]));
            }
        }
        if rest.len() + 1 < self.epilogue.inputs() || rest.iter().any(|&shape| shape != output) {
            return Err("the epilogue's further inputs must exist and have the output's shape".into());
        }
        Ok(())
    }

    fn check_constants(&self, graph: &Graph, operator: &Operator) -> Result<(), String> {
        let tables = &operator.inputs[1..self.fixed_inputs()];
        if tables.iter().any(|&t| !matches!(graph.tensor(graph.root(t)).origin, Origin::Constant(_))) {
            return Err("a table is not a constant".into());
        }
        let x = &graph.tensor(operator.inputs[0]).shape;
        for (i, TappedAxis { axis, taps }) in self.axes.iter().enumerate() {
            let Some(Constant::I32(positions)) = graph.constant(operator.inputs[self.positions(i)]) else {
                return Err("positions must be i32".into());
            };
            let inside = |(i, &at): (usize, &i32)| {
                usize::try_from(at).is_ok_and(|at| at < x[*axis]) || (at == -1 && i % taps == 0 && self.outside.is_some())
            };
            if !positions.iter().enumerate().all(inside) {
                return Err(format!("a position outside axis {axis} of {x:?}"));
            }
        }
        Ok(())
    }

    fn result_type(&self, inputs: &[DType], _: DType) -> Result<DType, String> {
        let (tables, rest) = inputs.get(1..).and_then(|i| i.split_at_checked(self.fixed_inputs() - 1)).ok_or("a table is missing")?;
        let expected: &[DType] = if self.weighted { &[DType::I32, DType::F32] } else { &[DType::I32] };
        if let Some((found, wanted)) = tables.iter().zip(expected.iter().cycle()).find(|(found, wanted)| found != wanted) {
            return Err(format!("a table of type {} instead of {}", found.name(), wanted.name()));
        }
        if self.weighted && !inputs[0].is_float() {
            return Err(format!("weights for elements of type {}", inputs[0].name()));
        }
        if let Some(outside) = self.outside.filter(|outside| outside.dtype() != inputs[0]) {
            return Err(format!("a value of type {} outside a tensor of type {}", outside.dtype().name(), inputs[0].name()));
        }
        self.epilogue.dtype(&[&inputs[..1], rest].concat())
    }

    fn flops(&self, _: &[&[usize]], output: &[usize]) -> f64 {
        let sums = if self.weighted { 2.0 * self.taps() as f64 } else { 0.0 };
        elements(output) * (sums + self.epilogue.operations() as f64)
    }
}

impl Display for Resample {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let axes: Vec<String> = self.axes.iter().map(|a| a.axis.to_string()).collect();
        write!(f, " axes [{}]", axes.join(", "))?;
        if self.weighted {
            let taps: Vec<String> = self.axes.iter().map(|a| a.taps.to_string()).collect();
            write!(f, " taps {}", taps.join("x"))?;
        }
        if let Some(outside) = self.outside {
            write!(f, " outside {outside}")?;
        }
        super::write_epilogue(f, &self.epilogue)
    }
}
