//! Convolution, and its transpose.

use std::fmt::{self, Display, Formatter};

use super::window::{check_window, padded, reach, write_window, write_window_2d};
use super::{Attributes, WindowAxis, check_tail, elements, product, product_type, write_epilogue};
use crate::graph::{DType, Expr};

/// Convolution over two axes; pairs are (height, width). Inputs: `x [N,C,H,W]`,
/// `w [K,C/groups,R,S]`, `bias [K]` if `bias`, then the epilogue's further inputs, each of the
/// output's shape `[N,K,P,Q]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Conv {
    /// Window, R by S.
    pub kernel: [usize; 2],
    /// Distance between neighbouring windows.
    pub strides: [usize; 2],
    /// Distance between neighbouring taps.
    pub dilations: [usize; 2],
    /// Zeros before the first element (top, left).
    pub pads_begin: [usize; 2],
    /// Zeros after the last element (bottom, right).
    pub pads_end: [usize; 2],
    /// Groups; input and output channels are multiples of it.
    pub groups: usize,
    /// Whether the third input is a bias `[K]`.
    pub bias: bool,
    /// Applied to each finished sum: `x0` is the sum with bias, `x1..` the further inputs.
    pub epilogue: Expr,
}

impl Attributes for Conv {
    fn name(&self) -> &'static str {
        "conv"
    }

    fn check_shapes(&self, inputs: &[&[usize]], output: &[usize]) -> Result<(), String> {
        let [x, weights, rest @ ..] = inputs else { return Err("needs an input and weights".into()) };
        let (&[n, c, h, w], &[k, cg, r, s]) = (*x, *weights) else { return Err("input and weights must have rank 4".into()) };
        if self.groups == 0 || cg.checked_mul(self.groups) != Some(c) || k % self.groups != 0 || [r, s] != self.kernel {
            return Err(format!("weights {k}x{cg}x{r}x{s} do not fit {c} channels in {} groups", self.groups));
        }
        let extent = |i: usize, size: usize| {
            let padded = padded(size, self.pads_begin[i], self.pads_end[i])?;
            let last = padded.checked_sub(reach(self.kernel[i], self.dilations[i])?)?;
            last.checked_div(self.strides[i])?.checked_add(1)
        };
        if Some(output) != extent(0, h).zip(extent(1, w)).map(|(p, q)| [n, k, p, q]).as_ref().map(|s| &s[..]) {
            return Err(format!("output {output:?} does not follow from input {:?}", [n, c, h, w]));
        }
        check_tail(rest, self.bias, k, &self.epilogue, output)
    }

    fn result_type(&self, inputs: &[DType], _: DType) -> Result<DType, String> {
        product_type(inputs, self.bias, &self.epilogue)
    }

    fn macs(&self, inputs: &[&[usize]], output: &[usize]) -> u64 {
        product(output) * terms(inputs)
    }

    fn flops(&self, inputs: &[&[usize]], output: &[usize]) -> f64 {
        elements(output) * (2.0 * terms(inputs) as f64 + after_sum(&self.epilogue, self.bias))
    }
}

impl Display for Conv {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write_window_2d(f, self.kernel, self.strides, self.dilations, [self.pads_begin, self.pads_end])?;
        write_rest(f, self.groups, self.bias, &self.epilogue)
    }
}

/// Convolution over any number of axes, or its transpose. Over two axes, [`Conv`] has faster
/// kernels. Inputs: `x [N,C,...]`, `w [K,C/groups,taps...]`, `bias [K]` if `bias`, then the
/// epilogue's further inputs, each of the output's shape `[N,K,...]`.
///
/// Along each axis, tap `t` of output `o` reads input `o * stride + t * dilation - pad_begin`.
///
/// Transposed, it reads the input `i` for which `i * stride + t * dilation - pad_begin = o`, if
/// there is one. That is what a scatter of each input over the window would add up at `o`. Padding
/// then shortens the output, and the output's shape says where it ends (ONNX's `output_padding`
/// included).
#[derive(Clone, Debug, PartialEq)]
pub struct ConvNd {
    /// Whether it is the transpose.
    pub transposed: bool,
    /// The window.
    pub axes: Vec<WindowAxis>,
    /// Groups; input and output channels are multiples of it.
    pub groups: usize,
    /// Whether the third input is a bias `[K]`.
    pub bias: bool,
    /// Applied to each finished sum: `x0` is the sum with bias, `x1..` the further inputs.
    pub epilogue: Expr,
}

impl Attributes for ConvNd {
    fn name(&self) -> &'static str {
        if self.transposed { "conv_transpose" } else { "conv_nd" }
    }

    fn check_shapes(&self, inputs: &[&[usize]], output: &[usize]) -> Result<(), String> {
        let [x, weights, rest @ ..] = inputs else { return Err("needs an input and weights".into()) };
        check_window(&self.axes, x.len())?;
        let taps: Vec<usize> = self.axes.iter().map(|a| a.kernel).collect();
        let fits = weights.len() == x.len()
            && output.len() == x.len()
            && self.groups > 0
            && weights[0] % self.groups == 0
            && weights[1].checked_mul(self.groups) == Some(x[1])
            && weights[2..] == taps;
        if !fits {
            return Err(format!("weights {weights:?} do not fit input {x:?} in {} groups", self.groups));
        }
        let extent = |(axis, &size): (&WindowAxis, &usize)| {
            let padded = padded(size, axis.pad_begin, axis.pad_end)?;
            let last = padded.checked_sub(reach(axis.kernel, axis.dilation)?)?;
            last.checked_div(axis.stride)?.checked_add(1)
        };
        let follows = self.transposed || self.axes.iter().zip(&x[2..]).map(extent).eq(output[2..].iter().map(|&d| Some(d)));
        if !follows || [x[0], weights[0]] != output[..2] {
            return Err(format!("output {output:?} does not follow from input {x:?}"));
        }
        check_tail(rest, self.bias, weights[0], &self.epilogue, output)
    }

    fn result_type(&self, inputs: &[DType], _: DType) -> Result<DType, String> {
        product_type(inputs, self.bias, &self.epilogue)
    }

    fn macs(&self, inputs: &[&[usize]], output: &[usize]) -> u64 {
        if !self.transposed {
            return product(output) * terms(inputs);
        }
        // defined as a scatter: each element of x meets every tap of every filter of its group
        let [x, weights, ..] = inputs else { return 0 };
        let filters = weights.first().map_or(0, |&k| (k / self.groups.max(1)) as u64);
        product(x) * filters * product(weights.get(2..).unwrap_or_default())
    }

    fn flops(&self, inputs: &[&[usize]], output: &[usize]) -> f64 {
        // in a transposed convolution, one tap in `idle` meets an element
        let idle: usize = if self.transposed { self.axes.iter().map(|a| a.stride).product() } else { 1 };
        elements(output) * (2.0 * terms(inputs) as f64 / idle as f64 + after_sum(&self.epilogue, self.bias))
    }
}

impl Display for ConvNd {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write_window(f, &self.axes)?;
        write_rest(f, self.groups, self.bias, &self.epilogue)
    }
}

/// Terms of one output's sum: the product of all extents of the weights `[K,C/groups,taps...]` but
/// K.
fn terms(inputs: &[&[usize]]) -> u64 {
    product(inputs.get(1).and_then(|weights| weights.get(1..)).unwrap_or_default())
}

/// Operations on each finished sum.
fn after_sum(epilogue: &Expr, bias: bool) -> f64 {
    (epilogue.operations() + usize::from(bias)) as f64
}

fn write_rest(f: &mut Formatter<'_>, groups: usize, bias: bool, epilogue: &Expr) -> fmt::Result {
    if groups != 1 {
        write!(f, " groups {groups}")?;
    }
    if bias {
        write!(f, " bias")?;
    }
    write_epilogue(f, epilogue)
}
