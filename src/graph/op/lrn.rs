//! Local response normalisation.

use std::fmt::{self, Display, Formatter};

use super::{Attributes, check_same, elements};

/// `y[c] = x[c] / (bias + alpha / size * sum of x[i]^2)^beta` over the `size` channels (axis 1)
/// around `c`, `(size - 1) / 2` of them before it. One input.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Lrn {
    /// Channels in the sum.
    pub size: usize,
    /// Weight of their mean square.
    pub alpha: f32,
    /// Exponent.
    pub beta: f32,
    /// Added to the sum.
    pub bias: f32,
}

impl Attributes for Lrn {
    fn name(&self) -> &'static str {
        "lrn"
    }

    fn check_shapes(&self, inputs: &[&[usize]], output: &[usize]) -> Result<(), String> {
        check_same(inputs, output, 2)
    }

    fn flops(&self, _: &[&[usize]], output: &[usize]) -> f64 {
        elements(output) * (2.0 * self.size as f64 + 4.0)
    }
}

impl Display for Lrn {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, " size {} alpha {:e} beta {:?} bias {:?}", self.size, self.alpha, self.beta, self.bias)
    }
}
