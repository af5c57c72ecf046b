//! Reductions.

use std::fmt::{self, Display, Formatter};

use super::{Attributes, alike, elements};
use crate::graph::DType;

/// What a reduction computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReduceKind {
    /// Sum of the elements.
    Sum,
    /// Sum divided by the count.
    Mean,
    /// The largest element.
    Max,
    /// The smallest element.
    Min,
    /// The product of the elements.
    Product,
    /// The position of the largest element, counted along the reduced axes in row-major order, as
    /// i64. NaN counts as larger than all numbers.
    ArgMax {
        /// Whether the last of several equal elements counts, instead of the first.
        last: bool,
    },
    /// The position of the smallest element. NaN counts as smaller than all numbers.
    ArgMin {
        /// Whether the last of several equal elements counts, instead of the first.
        last: bool,
    },
}

/// A reduction over some axes, which remain with size 1. One input.
#[derive(Clone, Debug, PartialEq)]
pub struct Reduce {
    /// What is computed.
    pub kind: ReduceKind,
    /// Reduced axes, ascending.
    pub axes: Vec<usize>,
}

impl Attributes for Reduce {
    fn name(&self) -> &'static str {
        "reduce"
    }

    fn check_shapes(&self, inputs: &[&[usize]], output: &[usize]) -> Result<(), String> {
        let [x] = inputs else { return Err("needs one input".into()) };
        let expected: Vec<usize> = x.iter().enumerate().map(|(axis, &d)| if self.axes.contains(&axis) { 1 } else { d }).collect();
        if expected != output || self.axes.windows(2).any(|w| w[0] >= w[1]) || self.axes.iter().any(|&a| a >= x.len()) {
            return Err(format!("axes {:?} of {x:?} do not give {output:?}", self.axes));
        }
        Ok(())
    }

    fn result_type(&self, inputs: &[DType], output: DType) -> Result<DType, String> {
        if let ReduceKind::ArgMax { .. } | ReduceKind::ArgMin { .. } = self.kind {
            return Ok(DType::I64);
        }
        alike(inputs)?;
        Ok(inputs.first().copied().unwrap_or(output))
    }

    fn flops(&self, inputs: &[&[usize]], _: &[usize]) -> f64 {
        inputs.iter().map(|x| elements(x)).sum()
    }
}

impl Display for Reduce {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            ReduceKind::Sum => "sum",
            ReduceKind::Mean => "mean",
            ReduceKind::Max => "max",
            ReduceKind::Min => "min",
            ReduceKind::Product => "product",
            ReduceKind::ArgMax { last: false } => "argmax",
            ReduceKind::ArgMax { last: true } => "argmax last",
            ReduceKind::ArgMin { last: false } => "argmin",
            ReduceKind::ArgMin { last: true } => "argmin last",
        };
        write!(f, " {kind} axes {:?}", self.axes)
    }
}
