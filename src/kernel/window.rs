//! Windows over any number of axes as template arguments, shared by convolution and pooling.

use crate::graph::WindowAxis;

/// Elements under a window.
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
