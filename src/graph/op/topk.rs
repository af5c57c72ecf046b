//! The largest or smallest elements along an axis.

use std::fmt::{self, Display, Formatter};

use super::gather::misfit;
use super::{Attributes, elements};
use crate::graph::DType;

/// The first elements along `axis` in descending (ascending) order, as many as the output has.
/// Equal elements are in ascending order of their positions. NaN counts as larger than all numbers.
/// One input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopK {
    /// The axis that is ordered.
    pub axis: usize,
    /// Whether the largest elements come first.
    pub largest: bool,
    /// Whether the result is the positions of the elements, as i64, instead of the elements.
    pub positions: bool,
}

impl Attributes for TopK {
    fn name(&self) -> &'static str {
        "top_k"
    }

    fn check_shapes(&self, inputs: &[&[usize]], output: &[usize]) -> Result<(), String> {
        let &[x] = inputs else { return Err(misfit(inputs, output)) };
        let axis = self.axis;
        let fits = x.len() == output.len() && axis < x.len() && (0..x.len()).all(|i| i == axis || x[i] == output[i]);
        if fits && output[axis] <= x[axis] { Ok(()) } else { Err(misfit(inputs, output)) }
    }

    fn result_type(&self, inputs: &[DType], _: DType) -> Result<DType, String> {
        let &[x] = inputs else { return Err("needs one input".into()) };
        Ok(if self.positions { DType::I64 } else { x })
    }

    fn flops(&self, inputs: &[&[usize]], _: &[usize]) -> f64 {
        // number of comparisons: see `topk.cuh`
        let x = inputs.first().copied().unwrap_or_default();
        elements(x) * x.get(self.axis).map_or(1.0, |&d| d as f64)
    }
}

impl Display for TopK {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (which, what) = (if self.largest { "largest" } else { "smallest" }, if self.positions { " positions" } else { "" });
        write!(f, " {which} axis {}{what}", self.axis)
    }
}
