//! Windows over any number of axes: what convolution and pooling share.

use std::fmt::{self, Formatter};

use crate::graph::BYTE_LIMIT;

/// A window along one axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowAxis {
    /// Taps.
    pub kernel: usize,
    /// Distance between neighbouring windows.
    pub stride: usize,
    /// Distance between neighbouring taps.
    pub dilation: usize,
    /// Padding before the first element.
    pub pad_begin: usize,
    /// Padding after the last element.
    pub pad_end: usize,
}

/// An extent with its padding; `None` if it is out of bounds.
pub(super) fn padded(extent: usize, before: usize, after: usize) -> Option<usize> {
    extent.checked_add(before)?.checked_add(after).filter(|&extent| extent < BYTE_LIMIT)
}

/// Elements from the first tap of a window to its last, both included; `None` for a window without
/// taps or without a step between them.
pub(super) fn reach(kernel: usize, dilation: usize) -> Option<usize> {
    if dilation == 0 { None } else { dilation.checked_mul(kernel.checked_sub(1)?)?.checked_add(1) }
}

/// An error unless there is a window of at least one tap for each axis after the second.
pub(super) fn check_window(axes: &[WindowAxis], rank: usize) -> Result<(), String> {
    let sound = |a: &WindowAxis| a.stride > 0 && reach(a.kernel, a.dilation).is_some() && padded(0, a.pad_begin, a.pad_end).is_some();
    if axes.len() + 2 != rank || !axes.iter().all(sound) {
        return Err("needs a window with taps, stride and dilation for each axis after the second, within bounds".into());
    }
    Ok(())
}

/// Taps of a window.
pub(super) fn taps(axes: &[WindowAxis]) -> f64 {
    axes.iter().map(|axis| axis.kernel as f64).product()
}

/// `3x3x3 stride 2x2x2 pads 1x1x1:0x0x0`: what differs from a plain window.
pub(super) fn write_window(f: &mut Formatter<'_>, axes: &[WindowAxis]) -> fmt::Result {
    let each = |value: fn(&WindowAxis) -> usize| axes.iter().map(|axis| value(axis).to_string()).collect::<Vec<_>>().join("x");
    write!(f, " {}", each(|a| a.kernel))?;
    if axes.iter().any(|a| a.stride != 1) {
        write!(f, " stride {}", each(|a| a.stride))?;
    }
    if axes.iter().any(|a| a.dilation != 1) {
        write!(f, " dilation {}", each(|a| a.dilation))?;
    }
    if axes.iter().any(|a| a.pad_begin != 0 || a.pad_end != 0) {
        write!(f, " pads {}:{}", each(|a| a.pad_begin), each(|a| a.pad_end))?;
    }
    Ok(())
}

/// `3x3 stride 2x2 dilation 2x2 pads 1,1:0,0`: the same for a window over two axes.
pub(super) fn write_window_2d(
    f: &mut Formatter<'_>,
    kernel: [usize; 2],
    strides: [usize; 2],
    dilations: [usize; 2],
    [before, after]: [[usize; 2]; 2],
) -> fmt::Result {
    write!(f, " {}x{}", kernel[0], kernel[1])?;
    for (word, [a, b]) in [("stride", strides), ("dilation", dilations)] {
        if [a, b] != [1; 2] {
            write!(f, " {word} {a}x{b}")?;
        }
    }
    if before != [0; 2] || after != [0; 2] {
        write!(f, " pads {},{}:{},{}", before[0], before[1], after[0], after[1])?;
    }
    Ok(())
}
