//! Convolution and its transpose, from their definitions.

use hiosc::graph::{Conv, ConvNd};

use super::window::{plane, read, read_transposed, taps};
use super::{Operands, one, ravel, sum};
use crate::support::number::Number;

pub fn conv(c: &Conv, of: &Operands) -> Vec<Number> {
    let axes = plane(c.kernel, c.strides, c.dilations, [c.pads_begin, c.pads_end]);
    conv_nd(&ConvNd { transposed: false, axes, groups: c.groups, bias: c.bias, epilogue: c.epilogue.clone() }, of)
}

pub fn conv_nd(c: &ConvNd, of: &Operands) -> Vec<Number> {
    let (x, w) = (of.shapes[0], of.shapes[1]);
    let (channels, filters, per_group) = (x[1], w[0], w[1]);
    let elements: usize = x[2..].iter().product();
    let taps = taps(&c.axes);
    let read = if c.transposed { read_transposed } else { read };
    of.each(|i, index| {
        let (n, k) = (index[0], index[1]);
        let group = k / (filters / c.groups);
        let mut terms = Vec::new();
        if c.bias {
            terms.push((of.args[2][k], one(of.dtype)));
        }
        for (t, tap) in taps.iter().enumerate() {
            let Some(position) = read(&c.axes, &index[2..], tap, &x[2..]) else { continue };
            for ic in 0..per_group {
                let channel = group * per_group + ic;
                let a = of.args[0][(n * channels + channel) * elements + ravel(&position, &x[2..])];
                terms.push((a, of.args[1][(k * per_group + ic) * taps.len() + t]));
            }
        }
        of.finish(&c.epilogue, sum(of.dtype, terms.into_iter()), 2 + usize::from(c.bias), i)
    })
}
