//! Resampling: each element of the result is read from a few places of the input, which tables name.
//!
//! Whatever the mode (nearest, linear, cubic, with or without a filter against aliasing) and the way coordinates are mapped, resizing an axis means: output `j` is
//! the sum of a few elements of that axis, each times a weight, and both are known once the sizes are. So an axis is a table of places and one of
//! weights, a row for each `j`, and the kernel knows no modes. Several axes are resampled at once: the taps are all combinations, their weights products.

use std::fmt::{self, Display, Formatter};

use super::{DType, Expr, Graph, Operator, Origin, Scalar};
use crate::ids::TensorId;

/// An axis that is resampled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TappedAxis {
    /// Which one.
    pub axis: usize,
    /// Elements in each sum: the length of a row of the tables.
    pub taps: usize,
}

/// Resampling along some axes. Inputs: `x`; for each axis its places `[extent in y, taps]` as i32 and, if `weighted`, its weights `[extent in y, taps]` as f32, all of
/// them constants; then the epilogue's further inputs, each of the output's shape.
///
/// A tap of weight 0 is not read, so an infinite or NaN neighbour that does not count does no harm. Half precision is summed in single precision.
#[derive(Clone, Debug, PartialEq)]
pub struct Resample {
    /// The axes, ascending: 1 to [`Resample::MAX_AXES`].
    pub axes: Vec<TappedAxis>,
    /// Whether taps have weights. If not, each axis has one tap, and elements of any type are copied.
    pub weighted: bool,
    /// What stands where the first place of a row is -1, before the epilogue; all places are inside if this is `None`.
    pub outside: Option<Scalar>,
    /// Applied to each finished sum: `x0` is the sum, `x1..` the further inputs.
    pub epilogue: Expr,
}

impl Resample {
    /// The most axes of one operator; more of them take another one.
    pub const MAX_AXES: usize = 3;

    /// The inputs before those of the epilogue: `x` and the tables.
    pub fn fixed_inputs(&self) -> usize {
        1 + self.axes.len() * if self.weighted { 2 } else { 1 }
    }

    /// The input that holds the places of the `i`-th axis.
    pub fn places(&self, i: usize) -> usize {
        1 + i * if self.weighted { 2 } else { 1 }
    }

    /// Elements that are read for one of the result.
    pub fn taps(&self) -> usize {
        self.axes.iter().map(|axis| axis.taps).product()
    }

    /// The type of the result, if these are the inputs' types.
    pub(super) fn dtype(&self, inputs: &[DType]) -> Result<DType, String> {
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

    /// Whether the operator's inputs fit together, and no table leads outside `x`.
    pub(super) fn check(&self, graph: &Graph, operator: &Operator, output: &[usize]) -> Result<(), String> {
        let shape = |t: TensorId| graph.tensor(t).shape.as_slice();
        let x = operator.inputs.first().map(|&t| shape(t)).ok_or("needs an input")?;
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
        let (fixed, rest) = operator.inputs.split_at_checked(self.fixed_inputs()).ok_or("a table is missing")?;
        if fixed[1..].iter().any(|&t| !matches!(graph.tensor(graph.root(t)).origin, Origin::Constant(_))) {
            return Err("a table is not a constant".into());
        }
        for (i, TappedAxis { axis, taps }) in self.axes.iter().enumerate() {
            let first = self.places(i);
            let tables = &fixed[first..first + if self.weighted { 2 } else { 1 }];
            if tables.iter().any(|&t| *shape(t) != [output[*axis], *taps]) {
                return Err(format!("the tables of axis {axis} must be {}x{taps}", output[*axis]));
            }
            let Some(super::Constant::I32(places)) = graph.constant(tables[0]) else { return Err("places must be i32".into()) };
            let inside = |(i, &place): (usize, &i32)| {
                usize::try_from(place).is_ok_and(|place| place < x[*axis]) || (place == -1 && i % taps == 0 && self.outside.is_some())
            };
            if !places.iter().enumerate().all(inside) {
                return Err(format!("a place outside axis {axis} of {x:?}"));
            }
        }
        if rest.len() + 1 < self.epilogue.inputs() || rest.iter().any(|&t| shape(t) != output) {
            return Err("the epilogue's further inputs must be there, in the output's shape".into());
        }
        Ok(())
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
        if self.epilogue.is_identity() { Ok(()) } else { write!(f, " epilogue {}", self.epilogue) }
    }
}
