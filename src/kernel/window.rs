//! Windows over any number of axes as template arguments, shared by convolution and pooling.

use super::{MAX_ELEMENTS, OpContext};
use crate::Result;
use crate::graph::WindowAxis;

/// Refuses windows over a tensor of these `extents` whose positions, steps or padding exceed the
/// 32-bit indices of the kernels.
pub(super) fn check_indices(ctx: &OpContext, axes: &[WindowAxis], extents: &[usize]) -> Result<()> {
    let limit = MAX_ELEMENTS as usize;
    let fits = |a: &WindowAxis, extent: usize| {
        let reach = a.kernel.saturating_sub(1).saturating_mul(a.dilation);
        let last = [a.pad_begin, a.pad_end, reach].iter().fold(extent, |sum, &more| sum.saturating_add(more));
        a.stride <= limit && a.dilation <= limit && last <= limit
    };
    match axes.iter().zip(extents).find(|&(a, &extent)| !fits(a, extent)) {
        None => Ok(()),
        Some((WindowAxis { kernel, stride, dilation, pad_begin, pad_end }, _)) => Err(ctx.unsupported(&format!(
            "a window of {kernel} taps, stride {stride}, dilation {dilation} and padding {pad_begin} and {pad_end} exceeds 32-bit indices"
        ))),
    }
}

/// The two axes of a window in a plane, from its attributes per axis.
pub(super) fn planar(kernel: [usize; 2], strides: [usize; 2], dilations: [usize; 2], pads: [[usize; 2]; 2]) -> [WindowAxis; 2] {
    [0, 1].map(|i| WindowAxis { kernel: kernel[i], stride: strides[i], dilation: dilations[i], pad_begin: pads[0][i], pad_end: pads[1][i] })
}

/// Taps of a window.
pub(super) fn taps_of(axes: &[WindowAxis]) -> usize {
    axes.iter().map(|axis| axis.kernel).product()
}

/// `using Axes = Window<...>;`
pub(super) fn axes_type(axes: &[WindowAxis], from: &[usize], to: &[usize], transposed: bool) -> String {
    let axis = |(a, (from, to)): (&WindowAxis, (&usize, &usize))| {
        let WindowAxis { kernel, stride, dilation, pad_begin, pad_end } = a;
        if transposed {
            format!("TransposedAxis<{from}, {to}, {kernel}, {stride}, {dilation}, {pad_begin}>")
        } else {
            format!("WindowAxis<{from}, {to}, {kernel}, {stride}, {dilation}, {pad_begin}, {pad_end}>")
        }
    };
    let list: Vec<String> = axes.iter().zip(from.iter().zip(to)).map(axis).collect();
    format!("using Axes = Window<{}>;", list.join(", "))
}

/// `8to6r3s1d1p0x0_...`, one part per axis.
pub(super) fn name(axes: &[WindowAxis], from: &[usize], to: &[usize]) -> String {
    let axis = |(a, (from, to)): (&WindowAxis, (&usize, &usize))| {
        format!("{from}to{to}r{}s{}d{}p{}x{}", a.kernel, a.stride, a.dilation, a.pad_begin, a.pad_end)
    };
    axes.iter().zip(from.iter().zip(to)).map(axis).collect::<Vec<_>>().join("_")
}
