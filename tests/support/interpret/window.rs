//! Windows, which convolution and pooling share.

use hiosc::graph::WindowAxis;

use super::unravel;

/// A window over two axes.
pub fn plane(kernel: [usize; 2], strides: [usize; 2], dilations: [usize; 2], pads: [[usize; 2]; 2]) -> Vec<WindowAxis> {
    let axis =
        |i: usize| WindowAxis { kernel: kernel[i], stride: strides[i], dilation: dilations[i], pad_begin: pads[0][i], pad_end: pads[1][i] };
    vec![axis(0), axis(1)]
}

/// The taps of a window, in row-major order.
pub fn taps(axes: &[WindowAxis]) -> Vec<Vec<usize>> {
    let sizes: Vec<usize> = axes.iter().map(|a| a.kernel).collect();
    (0..sizes.iter().product()).map(|i| unravel(i, &sizes)).collect()
}

/// The index that a tap of the window at `at` reads, in an input of `extents`; `None` for padding.
pub fn read(axes: &[WindowAxis], at: &[usize], tap: &[usize], extents: &[usize]) -> Option<Vec<usize>> {
    let one = |i: usize| {
        let (axis, at, tap) = (&axes[i], at[i] as isize, tap[i] as isize);
        let position = at * axis.stride as isize + tap * axis.dilation as isize - axis.pad_begin as isize;
        usize::try_from(position).ok().filter(|&position| position < extents[i])
    };
    (0..axes.len()).map(one).collect()
}

/// The transpose: the index of the window whose tap `tap` reads `at`, if there is one.
pub fn read_transposed(axes: &[WindowAxis], at: &[usize], tap: &[usize], extents: &[usize]) -> Option<Vec<usize>> {
    let one = |i: usize| {
        let reads_it = |&position: &usize| position * axes[i].stride + tap[i] * axes[i].dilation == at[i] + axes[i].pad_begin;
        (0..extents[i]).find(reads_it)
    };
    (0..axes.len()).map(one).collect()
}
