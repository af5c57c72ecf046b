//! Sampling at computed positions.

use std::fmt::{self, Display, Formatter};

use super::{Attributes, elements};

/// How [`GridSample`] computes one number from the elements around a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interpolation {
    /// The nearest element; ties go to the even index.
    Nearest,
    /// Linear along each axis.
    Linear,
    /// Cubic convolution with coefficient -0.75 along each of two axes (Keys, IEEE TASSP 1981).
    Cubic,
}

impl Interpolation {
    /// Lower-case name.
    pub fn name(self) -> &'static str {
        match self {
            Interpolation::Nearest => "nearest",
            Interpolation::Linear => "linear",
            Interpolation::Cubic => "cubic",
        }
    }
}

/// What [`GridSample`] reads outside its input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outside {
    /// 0.
    Zeros,
    /// The nearest element inside.
    Border,
    /// The mirror image of the input, mirrored as often as needed.
    Reflection,
}

/// Samples `x [N,C,D1..Dk]` at the positions in `grid [N,O1..Ok,k]` into `[N,C,O1..Ok]`. A position
/// has one coordinate per axis, the last axis first. The range [-1, 1] spans the axis: from the
/// middle of the first element to the middle of the last with `align_corners`, else from edge to
/// edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GridSample {
    /// What is computed between elements.
    pub interpolation: Interpolation,
    /// What is read outside the input.
    pub outside: Outside,
    /// Whether -1 and 1 are the middles of the outer elements, not their edges.
    pub align_corners: bool,
}

impl GridSample {
    /// Elements read along each axis.
    pub fn taps(&self) -> f64 {
        match self.interpolation {
            Interpolation::Nearest => 1.0,
            Interpolation::Linear => 2.0,
            Interpolation::Cubic => 4.0,
        }
    }
}

impl Attributes for GridSample {
    fn name(&self) -> &'static str {
        "grid_sample"
    }

    fn check_shapes(&self, inputs: &[&[usize]], output: &[usize]) -> Result<(), String> {
        let &[x, grid] = inputs else { return Err("needs an input and a grid".into()) };
        let axes = x.len().wrapping_sub(2);
        let fits = x.len() > 2
            && grid.len() == x.len()
            && output.len() == x.len()
            && grid[0] == x[0]
            && grid[grid.len() - 1] == axes
            && output[..2] == x[..2]
            && output[2..] == grid[1..=axes];
        if fits { Ok(()) } else { Err(format!("input {x:?} at the positions {grid:?} does not give {output:?}")) }
    }

    fn flops(&self, inputs: &[&[usize]], output: &[usize]) -> f64 {
        let axes = inputs.get(1).and_then(|grid| grid.last().copied()).unwrap_or(2);
        elements(output) * 2.0 * self.taps().powi(axes as i32)
    }
}

impl Display for GridSample {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let interpolation = self.interpolation.name();
        let outside = match self.outside {
            Outside::Zeros => "zeros",
            Outside::Border => "border",
            Outside::Reflection => "reflection",
        };
        write!(f, " {interpolation}, outside {outside}{}", if self.align_corners { ", corners aligned" } else { "" })
    }
}
