//! Pooling over windows.

use std::fmt::{self, Display, Formatter};

use super::window::{check_window, padded, reach, taps, write_window, write_window_2d};
use super::{Attributes, WindowAxis, elements};
use crate::graph::DType;

/// How a pooling window becomes one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PoolKind {
    /// The largest element.
    Max,
    /// The mean.
    Average {
        /// Whether padding counts in the divisor. The part of a window in ceil mode that reaches
        /// beyond the padding never counts.
        count_include_pad: bool,
    },
    /// The sum.
    Sum,
}

impl Display for PoolKind {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PoolKind::Max => "max",
            PoolKind::Average { count_include_pad: true } => "average including pads",
            PoolKind::Average { count_include_pad: false } => "average",
            PoolKind::Sum => "sum",
        })
    }
}

/// Pooling over two axes; pairs are (height, width). Input `x [N,C,H,W]`, output `[N,C,P,Q]`. Ceil
/// mode is resolved: the output's shape says how many windows there are.
#[derive(Clone, Debug, PartialEq)]
pub struct Pool {
    /// How a window becomes one number.
    pub kind: PoolKind,
    /// Window.
    pub kernel: [usize; 2],
    /// Distance between neighbouring windows.
    pub strides: [usize; 2],
    /// Distance between neighbouring taps.
    pub dilations: [usize; 2],
    /// Padding before the first element (top, left).
    pub pads_begin: [usize; 2],
    /// Padding after the last element (bottom, right).
    pub pads_end: [usize; 2],
}

impl Attributes for Pool {
    fn name(&self) -> &'static str {
        "pool"
    }

    fn check_shapes(&self, inputs: &[&[usize]], output: &[usize]) -> Result<(), String> {
        let (&[&[n, c, h, w]], &[on, oc, p, q]) = (inputs, output) else { return Err("input and output must have rank 4".into()) };
        let fits = |i: usize, size: usize, windows: usize| {
            let padded = padded(size, self.pads_begin[i], self.pads_end[i])?;
            let last = padded.saturating_sub(reach(self.kernel[i], self.dilations[i])?);
            let before_last = windows.checked_sub(1)?;
            let floor = last.checked_div(self.strides[i])?;
            Some(before_last == floor || before_last == last.div_ceil(self.strides[i]))
        };
        if [on, oc] != [n, c] || fits(0, h, p) != Some(true) || fits(1, w, q) != Some(true) {
            return Err(format!("output {output:?} does not follow from input {:?}", inputs[0]));
        }
        Ok(())
    }

    fn flops(&self, _: &[&[usize]], output: &[usize]) -> f64 {
        elements(output) * (self.kernel[0] * self.kernel[1]) as f64
    }
}

impl Display for Pool {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, " {}", self.kind)?;
        write_window_2d(f, self.kernel, self.strides, self.dilations, [self.pads_begin, self.pads_end])
    }
}

/// Pooling over any number of axes. Input `x [N,C,...]`, output of the same rank. Ceil mode is
/// resolved: the output's shape says how many windows there are.
#[derive(Clone, Debug, PartialEq)]
pub struct PoolNd {
    /// How a window becomes one number.
    pub kind: PoolKind,
    /// The window.
    pub axes: Vec<WindowAxis>,
}

impl Attributes for PoolNd {
    fn name(&self) -> &'static str {
        "pool_nd"
    }

    fn check_shapes(&self, inputs: &[&[usize]], output: &[usize]) -> Result<(), String> {
        check_nd(&self.axes, inputs, output)
    }

    fn flops(&self, _: &[&[usize]], output: &[usize]) -> f64 {
        elements(output) * taps(&self.axes)
    }
}

impl Display for PoolNd {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, " {}", self.kind)?;
        write_window(f, &self.axes)
    }
}

/// The positions of the maxima of a [`PoolNd`], as i64: for each window, the position of its first
/// largest element among all elements of `x`. Input and output have the same shapes.
#[derive(Clone, Debug, PartialEq)]
pub struct PoolIndices {
    /// The window.
    pub axes: Vec<WindowAxis>,
    /// Whether positions within a plane count the first axis fastest, instead of the last.
    pub column_major: bool,
}

impl Attributes for PoolIndices {
    fn name(&self) -> &'static str {
        "pool_indices"
    }

    fn check_shapes(&self, inputs: &[&[usize]], output: &[usize]) -> Result<(), String> {
        check_nd(&self.axes, inputs, output)
    }

    fn result_type(&self, _: &[DType], _: DType) -> Result<DType, String> {
        Ok(DType::I64)
    }

    fn flops(&self, _: &[&[usize]], output: &[usize]) -> f64 {
        elements(output) * taps(&self.axes)
    }
}

impl Display for PoolIndices {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write_window(f, &self.axes)?;
        if self.column_major { write!(f, " column major") } else { Ok(()) }
    }
}

fn check_nd(axes: &[WindowAxis], inputs: &[&[usize]], output: &[usize]) -> Result<(), String> {
    let &[x] = inputs else { return Err("needs one input".into()) };
    check_window(axes, x.len())?;
    if x.len() != output.len() || x[..2] != output[..2] {
        return Err(format!("output {output:?} does not follow from input {x:?}"));
    }
    // the last window may reach over the end, but must begin before it
    let begins = |(axis, (&size, &windows)): (&WindowAxis, (&usize, &usize))| {
        let end = padded(size, axis.pad_begin, axis.pad_end);
        windows == 0 || (windows - 1).checked_mul(axis.stride).zip(end).is_some_and(|(begin, end)| begin < end)
    };
    if axes.iter().zip(x[2..].iter().zip(&output[2..])).all(begins) {
        Ok(())
    } else {
        Err(format!("a window of {output:?} begins beyond the end of {x:?}"))
    }
}
