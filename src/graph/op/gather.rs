//! Reading elements at positions that other tensors name.
//!
//! An index may have any integer type, and may be computed. It counts from the start of its axis,
//! or from the end where it is negative. ONNX calls an index outside its axis an error, which a
//! running plan cannot report. Here it is defined: it reads the nearest element of the axis.

use std::fmt::{self, Display, Formatter};

use super::Attributes;
use crate::graph::DType;

/// How indices name positions. Inputs: `x`, `indices`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gather {
    /// Whole slices along `axis`. Output: `x`'s shape with the indices' shape in place of `axis`.
    Slices {
        /// The axis that indices count along.
        axis: usize,
    },
    /// `y[c] = x[c with indices[c] at axis]`. `x` and the indices have the same rank. Output: the
    /// indices' shape.
    Elements {
        /// The axis that indices count along.
        axis: usize,
    },
    /// Slices at tuples of indices. Inputs `x [batch.., dims.., rest..]`,
    /// `indices [batch.., n.., tuple]`. Output `[batch.., n.., rest..]`.
    Nd {
        /// Leading axes that `x` and the indices share.
        batch_dims: usize,
    },
}

impl Attributes for Gather {
    fn name(&self) -> &'static str {
        match self {
            Gather::Slices { .. } => "gather",
            Gather::Elements { .. } => "gather_elements",
            Gather::Nd { .. } => "gather_nd",
        }
    }

    fn check_shapes(&self, inputs: &[&[usize]], output: &[usize]) -> Result<(), String> {
        let &[x, indices] = inputs else { return Err(misfit(inputs, output)) };
        if self.fits(x, indices, output).unwrap_or(false) { Ok(()) } else { Err(misfit(inputs, output)) }
    }

    fn result_type(&self, inputs: &[DType], _: DType) -> Result<DType, String> {
        let &[x, indices] = inputs else { return Err("needs an input and indices".into()) };
        check_index_type(indices).map(|()| x)
    }

    fn flops(&self, _: &[&[usize]], _: &[usize]) -> f64 {
        0.0
    }
}

impl Gather {
    /// `None` where an axis does not exist.
    fn fits(self, x: &[usize], indices: &[usize], output: &[usize]) -> Option<bool> {
        // nothing can be read from a tensor without elements
        let readable = |dims: &[usize]| !dims.contains(&0) || output.contains(&0);
        Some(match self {
            Gather::Slices { axis } => {
                let size = x.get(axis..=axis)?;
                [&x[..axis], indices, &x[axis + 1..]].concat() == output && readable(size)
            }
            Gather::Elements { axis } => no_longer(axis, indices, x) && indices == output && readable(x),
            Gather::Nd { batch_dims } => {
                let (&tuple, tuples) = indices.split_last()?;
                let dims = x.get(batch_dims..batch_dims.checked_add(tuple)?)?;
                let rest = &x[batch_dims + tuple..];
                x.get(..batch_dims) == tuples.get(..batch_dims) && [tuples, rest].concat() == output && readable(dims)
            }
        })
    }
}

impl Display for Gather {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Gather::Slices { axis } | Gather::Elements { axis } => write!(f, " axis {axis}"),
            Gather::Nd { batch_dims: 0 } => Ok(()),
            Gather::Nd { batch_dims } => write!(f, " batch axes {batch_dims}"),
        }
    }
}

/// The error for operands that do not fit together.
pub(super) fn misfit(inputs: &[&[usize]], output: &[usize]) -> String {
    format!("inputs {inputs:?} and output {output:?} do not fit together")
}

/// An error unless indices may have this type.
pub(super) fn check_index_type(dtype: DType) -> Result<(), String> {
    if dtype.is_integer() { Ok(()) } else { Err(format!("indices of type {}", dtype.name())) }
}

/// Whether `a` has the rank of `b` and is longer than `b` along no axis but `axis`.
pub(super) fn no_longer(axis: usize, a: &[usize], b: &[usize]) -> bool {
    a.len() == b.len() && axis < a.len() && (0..a.len()).all(|i| i == axis || a[i] <= b[i])
}
