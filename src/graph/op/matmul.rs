//! Strided, batched matrix product.

use std::fmt::{self, Display, Formatter};

use super::{Attributes, check_tail, checked_product, elements, in_bounds, product, product_type, write_epilogue};
use crate::graph::{DType, Expr};

/// `c[b,i,j] = epilogue(sum_k a[b,i,k] * b[b,k,j] + bias[j])`. Every operand is addressed by
/// element strides, so that transposed operands need no copy. Inputs: `a`, `b`, then `bias [N]` if
/// `bias`, then the epilogue's further inputs, which are laid out as the output is.
#[derive(Clone, Debug, PartialEq)]
pub struct MatMul {
    /// Number of independent products.
    pub batch: usize,
    /// Rows of the result.
    pub m: usize,
    /// Columns of the result.
    pub n: usize,
    /// Length of each sum.
    pub k: usize,
    /// Strides of `a` along (batch, m, k), in elements.
    pub a_strides: [usize; 3],
    /// Strides of `b` along (batch, k, n), in elements.
    pub b_strides: [usize; 3],
    /// Strides of the result along (batch, m, n), in elements.
    pub c_strides: [usize; 3],
    /// Whether the third input is a bias `[N]`.
    pub bias: bool,
    /// Applied to each finished sum: `x0` is the sum with bias, `x1..` the further inputs.
    pub epilogue: Expr,
}

impl Attributes for MatMul {
    fn name(&self) -> &'static str {
        "matmul"
    }

    fn check_shapes(&self, inputs: &[&[usize]], output: &[usize]) -> Result<(), String> {
        let [a, b, rest @ ..] = inputs else { return Err("needs two operands".into()) };
        if !in_bounds(a, [self.batch, self.m, self.k], self.a_strides)
            || !in_bounds(b, [self.batch, self.k, self.n], self.b_strides)
            || !in_bounds(output, [self.batch, self.m, self.n], self.c_strides)
        {
            return Err("strides reach outside an operand".into());
        }
        if checked_product(&[self.batch, self.m, self.n]) != Some(output.iter().product()) {
            return Err(format!("{}x{}x{} does not fill the output {output:?}", self.batch, self.m, self.n));
        }
        check_tail(rest, self.bias, self.n, &self.epilogue, output)
    }

    fn result_type(&self, inputs: &[DType], _: DType) -> Result<DType, String> {
        product_type(inputs, self.bias, &self.epilogue)
    }

    fn macs(&self, _: &[&[usize]], _: &[usize]) -> u64 {
        product(&[self.batch, self.m, self.n, self.k])
    }

    fn flops(&self, _: &[&[usize]], output: &[usize]) -> f64 {
        elements(output) * (2.0 * self.k as f64 + (self.epilogue.operations() + usize::from(self.bias)) as f64)
    }
}

impl Display for MatMul {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, " {}: {}x{}x{}", self.batch, self.m, self.k, self.n)?;
        if self.bias {
            write!(f, " bias")?;
        }
        write_epilogue(f, &self.epilogue)
    }
}
