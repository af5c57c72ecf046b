//! Softmax and its logarithm.

use std::fmt::{self, Display, Formatter};

use super::{Attributes, elements};

/// Softmax along `axis`, or its logarithm. One input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Softmax {
    /// The axis along which the shares add up to one.
    pub axis: usize,
    /// Whether the result is the logarithm of the softmax.
    pub log: bool,
}

impl Attributes for Softmax {
    fn name(&self) -> &'static str {
        if self.log { "log_softmax" } else { "softmax" }
    }

    fn check_shapes(&self, inputs: &[&[usize]], output: &[usize]) -> Result<(), String> {
        match inputs {
            [x] if *x == output && self.axis < x.len() => Ok(()),
            _ => Err("softmax keeps its one input's shape".into()),
        }
    }

    fn flops(&self, _: &[&[usize]], output: &[usize]) -> f64 {
        // maximum, difference, exponential, sum, quotient
        elements(output) * 5.0
    }
}

impl Display for Softmax {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, " axis {}", self.axis)
    }
}
