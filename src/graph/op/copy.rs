//! Operators that move elements unchanged: transposition, slice, padding, triangle, reshape.

use std::fmt::{self, Display, Formatter};

use super::window::padded;
use super::{Attributes, alike, check_same};
use crate::graph::{DType, Scalar};

/// Another order of axes: axis `i` of the output is axis `permutation[i]` of the one input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transpose {
    /// The input's axis for each axis of the output.
    pub permutation: Vec<usize>,
}

impl Attributes for Transpose {
    fn name(&self) -> &'static str {
        "transpose"
    }

    fn check_shapes(&self, inputs: &[&[usize]], output: &[usize]) -> Result<(), String> {
        let &[x] = inputs else { return Err("needs one input".into()) };
        let mut sorted = self.permutation.clone();
        sorted.sort_unstable();
        let fits = sorted.iter().copied().eq(0..x.len()) && self.permutation.iter().map(|&axis| x[axis]).eq(output.iter().copied());
        if fits { Ok(()) } else { Err(format!("axes {:?} of {x:?} do not give {output:?}", self.permutation)) }
    }

    fn flops(&self, _: &[&[usize]], _: &[usize]) -> f64 {
        0.0
    }
}

impl Display for Transpose {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, " {:?}", self.permutation)
    }
}

/// Evenly spaced elements of the one input: index `i` of an axis reads `begin + i * step`. Both
/// have one number per axis. The output's shape says how many elements are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slice {
    /// The first index read.
    pub begin: Vec<usize>,
    /// Distance from one index to the next; never 0, and negative to read backwards.
    pub step: Vec<isize>,
}

impl Attributes for Slice {
    fn name(&self) -> &'static str {
        "slice"
    }

    fn check_shapes(&self, inputs: &[&[usize]], output: &[usize]) -> Result<(), String> {
        let &[x] = inputs else { return Err("needs one input".into()) };
        if [x.len(), self.begin.len(), self.step.len()] != [output.len(); 3] || self.step.contains(&0) {
            return Err("needs a start and a step other than 0 for each axis".into());
        }
        let inside = |axis: usize| {
            let last = self.begin[axis] as i128 + self.step[axis] as i128 * (output[axis] as i128 - 1);
            let extent = x[axis] as i128;
            output[axis] == 0 || ((self.begin[axis] as i128) < extent && (0..extent).contains(&last))
        };
        if (0..x.len()).all(inside) { Ok(()) } else { Err(format!("reads outside {x:?} for {output:?}")) }
    }

    fn flops(&self, _: &[&[usize]], _: &[usize]) -> f64 {
        0.0
    }
}

impl Display for Slice {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, " from {:?}", self.begin)?;
        if self.step.iter().any(|&step| step != 1) {
            write!(f, " step {:?}", self.step)?;
        }
        Ok(())
    }
}

/// What padding is filled with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum PadMode {
    /// This value, of the tensor's type.
    Constant(Scalar),
    /// The elements mirrored at the first (last) one, which is not repeated. The padding is shorter
    /// than its axis.
    Reflect,
    /// The first (last) element.
    Edge,
}

/// The one input with padding around it. One number per axis.
#[derive(Clone, Debug, PartialEq)]
pub struct Pad {
    /// Elements added before.
    pub before: Vec<usize>,
    /// Elements added after.
    pub after: Vec<usize>,
    /// What is added.
    pub mode: PadMode,
}

impl Attributes for Pad {
    fn name(&self) -> &'static str {
        "pad"
    }

    fn check_shapes(&self, inputs: &[&[usize]], output: &[usize]) -> Result<(), String> {
        let &[x] = inputs else { return Err("needs one input".into()) };
        if [x.len(), self.before.len(), self.after.len()] != [output.len(); 3] {
            return Err("needs a padding before and after for each axis".into());
        }
        if (0..x.len()).any(|a| padded(x[a], self.before[a], self.after[a]) != Some(output[a])) {
            return Err(format!("output {output:?} does not follow from input {x:?}"));
        }
        let too_long = |a: usize| match self.mode {
            PadMode::Constant(_) => false,
            PadMode::Reflect => self.before[a].max(self.after[a]) >= x[a].max(1),
            PadMode::Edge => x[a] == 0,
        };
        if (0..x.len()).any(too_long) { Err(format!("{x:?} is too small for such a padding")) } else { Ok(()) }
    }

    fn result_type(&self, inputs: &[DType], output: DType) -> Result<DType, String> {
        match self.mode {
            PadMode::Constant(value) if value.dtype() != output => {
                Err(format!("padding of type {} in a tensor of type {}", value.dtype().name(), output.name()))
            }
            _ => alike(inputs).map(|()| inputs.first().copied().unwrap_or(output)),
        }
    }

    fn flops(&self, _: &[&[usize]], _: &[usize]) -> f64 {
        0.0
    }
}

impl Display for Pad {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.mode {
            PadMode::Constant(value) => write!(f, " with {value}")?,
            PadMode::Reflect => write!(f, " reflect")?,
            PadMode::Edge => write!(f, " edge")?,
        }
        write!(f, " before {:?} after {:?}", self.before, self.after)
    }
}

/// One triangle of each matrix of the last two axes, 0 in the other. An element of row `i` and
/// column `j` stays if `j >= i + diagonal` (`upper`) or `j <= i + diagonal`. One input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trilu {
    /// Which triangle.
    pub upper: bool,
    /// The diagonal that bounds it: 0 is the main one, larger ones lie to the right.
    pub diagonal: i64,
}

impl Attributes for Trilu {
    fn name(&self) -> &'static str {
        "trilu"
    }

    fn check_shapes(&self, inputs: &[&[usize]], output: &[usize]) -> Result<(), String> {
        check_same(inputs, output, 2)
    }

    fn flops(&self, _: &[&[usize]], _: &[usize]) -> f64 {
        0.0
    }
}

impl Display for Trilu {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, " {} diagonal {}", if self.upper { "upper" } else { "lower" }, self.diagonal)
    }
}

/// The same elements in the same order under another shape: reshape, squeeze, flatten. One input.
/// It has no kernel: the rule `free-views` of `fuse` removes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reshape;

impl Attributes for Reshape {
    fn name(&self) -> &'static str {
        "reshape"
    }

    fn check_shapes(&self, inputs: &[&[usize]], output: &[usize]) -> Result<(), String> {
        match inputs {
            [x] if x.iter().product::<usize>() == output.iter().product::<usize>() => Ok(()),
            _ => Err("a reshape keeps the number of elements".into()),
        }
    }

    fn flops(&self, _: &[&[usize]], _: &[usize]) -> f64 {
        0.0
    }
}

impl Display for Reshape {
    fn fmt(&self, _: &mut Formatter<'_>) -> fmt::Result {
        Ok(())
    }
}
