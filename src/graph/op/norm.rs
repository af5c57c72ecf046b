//! Normalisation by mean and variance, or by the root mean square: LayerNorm, GroupNorm,
//! InstanceNorm, RmsNorm.

use std::fmt::{self, Display, Formatter};

use super::{Attributes, broadcasts, elements, write_epilogue};
use crate::graph::{DType, Expr};

/// `y = epilogue(normalised(x), ...)`, where `normalised(x)` is
/// `(x - mean) / sqrt(mean((x - mean)^2) + epsilon)`, both means over `axes`. Inputs: `x`, then the
/// epilogue's further inputs, which broadcast to `x`'s shape (scale, bias).
#[derive(Clone, Debug, PartialEq)]
pub struct Norm {
    /// Whether the mean is subtracted. If not, it counts as 0: a root mean square.
    pub centred: bool,
    /// Normalised axes, ascending.
    pub axes: Vec<usize>,
    /// Added to the variance.
    pub epsilon: f32,
    /// Applied to each normalised number `x0`; `x1..` are the further inputs.
    pub epilogue: Expr,
}

impl Attributes for Norm {
    fn name(&self) -> &'static str {
        "norm"
    }

    fn check_shapes(&self, inputs: &[&[usize]], output: &[usize]) -> Result<(), String> {
        let [x, rest @ ..] = inputs else { return Err("needs an input".into()) };
        if *x != output || self.axes.is_empty() || self.axes.windows(2).any(|w| w[0] >= w[1]) || self.axes.iter().any(|&a| a >= x.len()) {
            return Err(format!("axes {:?} of {x:?} do not give {output:?}", self.axes));
        }
        if rest.len() + 1 < self.epilogue.inputs() || !rest.iter().all(|s| broadcasts(s, output)) {
            return Err(format!("the epilogue's further inputs {rest:?} must exist and broadcast to {output:?}"));
        }
        Ok(())
    }

    fn result_type(&self, inputs: &[DType], _: DType) -> Result<DType, String> {
        self.epilogue.dtype(inputs)
    }

    fn flops(&self, _: &[&[usize]], output: &[usize]) -> f64 {
        // two sums, a difference and a product
        elements(output) * (5.0 + self.epilogue.operations() as f64)
    }
}

impl Display for Norm {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let kind = if self.centred { "mean and variance" } else { "root mean square" };
        write!(f, " {kind} axes {:?} epsilon {:e}", self.axes, self.epsilon)?;
        write_epilogue(f, &self.epilogue)
    }
}
