//! Concatenation.

use std::fmt::{self, Display, Formatter};

use super::Attributes;

/// Concatenation of all inputs along `axis`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Concat {
    /// The axis along which the inputs follow one another.
    pub axis: usize,
}

impl Attributes for Concat {
    fn name(&self) -> &'static str {
        "concat"
    }

    fn check_shapes(&self, inputs: &[&[usize]], output: &[usize]) -> Result<(), String> {
        let axis = self.axis;
        let fits = |s: &&[usize]| s.len() == output.len() && (0..s.len()).all(|a| a == axis || s[a] == output[a]);
        if axis >= output.len() || !inputs.iter().all(fits) || inputs.iter().map(|s| s[axis]).sum::<usize>() != output[axis] {
            return Err(format!("inputs {inputs:?} do not concatenate to {output:?}"));
        }
        Ok(())
    }

    fn flops(&self, _: &[&[usize]], _: &[usize]) -> f64 {
        0.0
    }
}

impl Display for Concat {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, " axis {}", self.axis)
    }
}
