//! Writing elements at positions that other tensors name.
//!
//! An index may have any integer type, and may be computed. It counts from the start of its axis,
//! or from the end where it is negative. An index outside its axis writes nothing.
//!
//! Duplicates do not race: updates of one element are applied in row-major order, so the last of
//! several replacements stays.

use std::fmt::{self, Display, Formatter};

use super::gather::{check_index_type, misfit, no_longer};
use super::{Attributes, elements};
use crate::graph::DType;

/// How indices name positions. Inputs: `x`, `indices`, `updates`. Output: `x`'s shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scatter {
    /// `x` with `updates[c]` at `c with indices[c] at axis`. All inputs have the same rank.
    Elements {
        /// The axis that indices count along.
        axis: usize,
        /// How an update is combined with the element.
        update: Update,
    },
    /// `x` with slices of updates at tuples of indices. Inputs `x [dims.., rest..]`,
    /// `indices [n.., tuple]`, `updates [n.., rest..]`.
    Nd {
        /// How an update is combined with the element.
        update: Update,
    },
}

/// How an update is combined with the element.
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

impl Attributes for Scatter {
    fn name(&self) -> &'static str {
        match self {
            Scatter::Elements { .. } => "scatter_elements",
            Scatter::Nd { .. } => "scatter_nd",
        }
    }

    fn check_shapes(&self, inputs: &[&[usize]], output: &[usize]) -> Result<(), String> {
        let &[x, indices, updates] = inputs else { return Err(misfit(inputs, output)) };
        let fits = match *self {
            Scatter::Elements { axis, .. } => no_longer(axis, indices, x) && indices == updates && x == output,
            Scatter::Nd { .. } => {
                let slices = indices.split_last().and_then(|(&tuple, tuples)| Some([tuples, x.get(tuple..)?].concat()));
                slices.as_deref() == Some(updates) && x == output
            }
        };
        if fits { Ok(()) } else { Err(misfit(inputs, output)) }
    }

    fn result_type(&self, inputs: &[DType], _: DType) -> Result<DType, String> {
        let &[x, indices, updates] = inputs else { return Err("needs an input, indices and updates".into()) };
        check_index_type(indices)?;
        if updates == x { Ok(x) } else { Err(format!("updates of type {} for a tensor of type {}", updates.name(), x.name())) }
    }

    fn flops(&self, inputs: &[&[usize]], _: &[usize]) -> f64 {
        // number of comparisons of indices: see `scatter.cuh`
        let &[x, indices, _] = inputs else { return 0.0 };
        let compared = match *self {
            Scatter::Elements { axis, .. } => indices.get(axis).map_or(1.0, |&d| d as f64),
            Scatter::Nd { .. } => elements(&indices[..indices.len().saturating_sub(1)]),
        };
        elements(x) * compared
    }
}

impl Display for Scatter {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Scatter::Elements { axis, update } => write!(f, " {} axis {axis}", update.name()),
            Scatter::Nd { update } => write!(f, " {}", update.name()),
        }
    }
}
