//! Operators that read or write where other tensors say, and those that order elements.
//!
//! An index may be of any integer type, and computed. It counts from the start of its axis, from the end where it is negative. An index outside its axis is an error
//! in ONNX, which nothing can report from within a running plan; here it is defined: *reading* takes the nearest element of the axis, *writing* writes
//! nothing.
//!
//! Duplicates are no race: updates of one element are applied in their row-major order, so the last of several plain ones stays.

use super::DType;

/// What is done; the first input is the tensor that is read or updated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Index {
    /// Whole slices along `axis`. Inputs `x`, `indices`. Output: `x`'s shape with the indices' shape in the place of `axis`.
    Gather {
        /// The axis that indices count along.
        axis: usize,
    },
    /// `y[c] = x[c with indices[c] at axis]`. Inputs `x`, `indices` of the same rank. Output: the indices' shape.
    GatherElements {
        /// The axis that indices count along.
        axis: usize,
    },
    /// Slices at tuples of indices. Inputs `x [batch.., dims.., rest..]`, `indices [batch.., n.., tuple]`. Output `[batch.., n.., rest..]`.
    GatherNd {
        /// Leading axes that `x` and the indices share.
        batch_dims: usize,
    },
    /// `x` with `updates[c]` at `c with indices[c] at axis`. Inputs `x`, `indices`, `updates` of the same rank. Output: `x`'s shape.
    ScatterElements {
        /// The axis that indices count along.
        axis: usize,
        /// How an update and what is there become one.
        update: Update,
    },
    /// `x` with slices of updates at tuples of indices. Inputs `x [dims.., rest..]`, `indices [n.., tuple]`, `updates [n.., rest..]`. Output: `x`'s
    /// shape.
    ScatterNd {
        /// How an update and what is there become one.
        update: Update,
    },
    /// The first elements along `axis` in descending (ascending) order, as many as the output has; equal ones by ascending index, NaN as if
    /// above all numbers. One input.
    TopK {
        /// The axis that is ordered.
        axis: usize,
        /// Whether the largest elements come first.
        largest: bool,
        /// Whether the result is their places, as i64, instead of themselves.
        places: bool,
    },
}

/// How an update and what is there become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Update {
    Replace,
    Add,
    Mul,
    Min,
    Max,
}

impl Update {
    /// As in text forms and kernel names.
    pub fn name(self) -> &'static str {
        match self {
            Update::Replace => "replace",
            Update::Add => "add",
            Update::Mul => "mul",
            Update::Min => "min",
            Update::Max => "max",
        }
    }
}

impl Index {
    /// As in text forms and kernel names.
    pub fn name(self) -> &'static str {
        match self {
            Index::Gather { .. } => "gather",
            Index::GatherElements { .. } => "gather_elements",
            Index::GatherNd { .. } => "gather_nd",
            Index::ScatterElements { .. } => "scatter_elements",
            Index::ScatterNd { .. } => "scatter_nd",
            Index::TopK { .. } => "top_k",
        }
    }

    /// The number of inputs.
    pub fn inputs(self) -> usize {
        match self {
            Index::TopK { .. } => 1,
            Index::Gather { .. } | Index::GatherElements { .. } | Index::GatherNd { .. } => 2,
            Index::ScatterElements { .. } | Index::ScatterNd { .. } => 3,
        }
    }

    /// The type of the result, if these are the inputs' types.
    pub(super) fn dtype(self, inputs: &[DType]) -> Result<DType, String> {
        let integer = |dtype: DType| !dtype.is_float() && dtype != DType::Bool;
        match *inputs {
            [_] if matches!(self, Index::TopK { places: true, .. }) => Ok(DType::I64),
            [x] => Ok(x),
            [_, indices, ..] if !integer(indices) => Err(format!("indices of type {}", indices.name())),
            [x, _, updates] if updates != x => Err(format!("updates of type {} for a tensor of type {}", updates.name(), x.name())),
            [x, ..] => Ok(x),
            [] => Err("an input is missing".into()),
        }
    }

    /// Whether inputs and output of these shapes fit together.
    pub(super) fn check(self, inputs: &[&[usize]], output: &[usize]) -> Result<(), String> {
        let fits = inputs.len() == self.inputs() && self.fits(inputs, output).unwrap_or(false);
        if fits { Ok(()) } else { Err(format!("inputs {inputs:?} and output {output:?} do not fit together")) }
    }

    /// `None` where an axis does not exist.
    fn fits(self, inputs: &[&[usize]], output: &[usize]) -> Option<bool> {
        let x = inputs[0];
        let except = |axis: usize, a: &[usize], b: &[usize], fit: fn(usize, usize) -> bool| {
            a.len() == b.len() && axis < a.len() && (0..a.len()).all(|i| i == axis || fit(a[i], b[i]))
        };
        // a tensor of nothing can only be read by nobody
        let readable = |dims: &[usize]| !dims.contains(&0) || output.contains(&0);
        Some(match self {
            Index::Gather { axis } => {
                let size = x.get(axis..=axis)?;
                [&x[..axis], inputs[1], &x[axis + 1..]].concat() == output && readable(size)
            }
            Index::GatherElements { axis } => except(axis, inputs[1], x, |index, x| index <= x) && inputs[1] == output && readable(x),
            Index::GatherNd { batch_dims } => {
                let (&tuple, tuples) = inputs[1].split_last()?;
                let dims = x.get(batch_dims..batch_dims + tuple)?;
                let rest = &x[batch_dims + tuple..];
                x.get(..batch_dims) == tuples.get(..batch_dims) && [tuples, rest].concat() == output && readable(dims)
            }
            Index::ScatterElements { axis, .. } => {
                except(axis, inputs[1], x, |index, x| index <= x) && inputs[1] == inputs[2] && x == output
            }
            Index::ScatterNd { .. } => {
                let (&tuple, tuples) = inputs[1].split_last()?;
                [tuples, x.get(tuple..)?].concat() == inputs[2] && x == output
            }
            Index::TopK { axis, .. } => except(axis, x, output, |a, b| a == b) && output.get(axis)? <= x.get(axis)?,
        })
    }
}

/// Attributes in words: `gather_elements axis 1`.
impl std::fmt::Display for Index {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.name())?;
        match self {
            Index::Gather { axis } | Index::GatherElements { axis } => write!(f, " axis {axis}"),
            Index::GatherNd { batch_dims: 0 } => Ok(()),
            Index::GatherNd { batch_dims } => write!(f, " batch axes {batch_dims}"),
            Index::ScatterElements { axis, update } => write!(f, " {} axis {axis}", update.name()),
            Index::ScatterNd { update } => write!(f, " {}", update.name()),
            Index::TopK { axis, largest, places } => {
                let (which, what) = (if *largest { "largest" } else { "smallest" }, if *places { " places" } else { "" });
                write!(f, " {which} axis {axis}{what}")
            }
        }
    }
}
