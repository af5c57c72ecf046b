//! One scalar expression for every element.

use std::fmt::{self, Display, Formatter};

use super::{Attributes, broadcasts, elements};
use crate::graph::{DType, Expr};

/// One scalar expression applied to every element. Inputs broadcast to the output's shape, by
/// numpy's rules and with equal ranks.
#[derive(Clone, Debug, PartialEq)]
pub struct Elementwise {
    /// Result of one element; `x0..` are the operator's inputs.
    pub expr: Expr,
}

impl Attributes for Elementwise {
    fn name(&self) -> &'static str {
        "elementwise"
    }

    fn check_shapes(&self, inputs: &[&[usize]], output: &[usize]) -> Result<(), String> {
        if !inputs.iter().all(|shape| broadcasts(shape, output)) {
            return Err(format!("inputs {inputs:?} do not broadcast to {output:?}"));
        }
        Ok(())
    }

    fn result_type(&self, inputs: &[DType], _: DType) -> Result<DType, String> {
        self.expr.dtype(inputs)
    }

    fn flops(&self, _: &[&[usize]], output: &[usize]) -> f64 {
        elements(output) * self.expr.operations() as f64
    }
}

impl Display for Elementwise {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, " {}", self.expr)
    }
}
