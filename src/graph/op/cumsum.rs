//! Running sums.

use std::fmt::{self, Display, Formatter};

use super::{Attributes, elements};

/// Running sums along an axis. One input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CumSum {
    /// The axis along which elements are added.
    pub axis: usize,
    /// Whether each sum leaves out its own element.
    pub exclusive: bool,
    /// Whether sums begin at the end of the axis.
    pub reverse: bool,
}

impl Attributes for CumSum {
    fn name(&self) -> &'static str {
        "cumsum"
    }

    fn check_shapes(&self, inputs: &[&[usize]], output: &[usize]) -> Result<(), String> {
        match inputs {
            [x] if *x == output && self.axis < x.len() => Ok(()),
            _ => Err("a running sum keeps its one input's shape".into()),
        }
    }

    fn flops(&self, _: &[&[usize]], output: &[usize]) -> f64 {
        elements(output)
    }
}

impl Display for CumSum {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (exclusive, reverse) = (if self.exclusive { " exclusive" } else { "" }, if self.reverse { " reverse" } else { "" });
        write!(f, " axis {}{exclusive}{reverse}", self.axis)
    }
}
