//! Attributes of the denser operators: windows over any number of axes, normalisations, attention, sampling.
//!
//! Windows over one or two axes are [`Conv`](super::Conv) and [`Pool`](super::Pool), which have faster kernels; here are those over more axes, and the
//! transposed ones. Strides of operands are in elements.

use std::fmt::{self, Display, Formatter};

use super::{Expr, PoolKind};

/// A window along one axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowAxis {
    /// Taps.
    pub kernel: usize,
    /// Steps of the window.
    pub stride: usize,
    /// Distance between taps.
    pub dilation: usize,
    /// Padding before.
    pub pad_begin: usize,
    /// Padding after.
    pub pad_end: usize,
}

impl WindowAxis {
    /// Distance between the first and the last tap, both included.
    pub fn reach(&self) -> usize {
        self.dilation * (self.kernel - 1) + 1
    }
}

/// Convolution over any number of axes, or its transpose. Inputs: `x [N,C,...]`, `w [K,C/groups,taps...]`, `bias [K]` if `bias`, then the epilogue's further
/// inputs, each of the output's shape `[N,K,...]`.
///
/// Along each axis, tap `t` of output `o` reads input `o * stride + t * dilation - pad_begin`. Transposed, it reads the input `i` for which
/// `i * stride + t * dilation - pad_begin = o`, if there is one: what a scatter of each input over the window would add up there. Then padding takes away
/// from the output, and the output's shape says where it ends (ONNX's `output_padding` included).
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

/// Pooling over any number of axes. Input `x [N,C,...]`, output of the same rank. Ceil mode is resolved: the output's shape says how many windows there are.
#[derive(Clone, Debug, PartialEq)]
pub struct PoolNd {
    /// How a window becomes one number.
    pub kind: PoolKind,
    /// The window.
    pub axes: Vec<WindowAxis>,
}

/// Where the maxima of a [`PoolNd`] are: for each the place of the first largest element among all elements of `x`, as i64. Input and output as there.
#[derive(Clone, Debug, PartialEq)]
pub struct PoolIndices {
    /// The window.
    pub axes: Vec<WindowAxis>,
    /// Whether places within a plane are counted with the first axis fastest, instead of the last.
    pub column_major: bool,
}

/// One triangle of each matrix of the last two axes, 0 in the other: an element of row `i` and column `j` stays if `j >= i + diagonal` (`upper`) or
/// `j <= i + diagonal`. One input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trilu {
    /// Which triangle.
    pub upper: bool,
    /// The diagonal that bounds it: 0 is the main one, larger ones lie to the right.
    pub diagonal: i64,
}

/// `y = epilogue(normalised(x), ...)`. `normalised(x)` is `(x - mean) / sqrt(mean((x - mean)^2) + epsilon)`, both means over `axes`; with `centred` off
/// the mean of `x` counts as 0 (a root mean square). Inputs: `x`, then the epilogue's further inputs, which broadcast to `x`'s shape (scale, bias).
#[derive(Clone, Debug, PartialEq)]
pub struct Norm {
    /// Whether the mean is subtracted.
    pub centred: bool,
    /// Normalised axes, ascending.
    pub axes: Vec<usize>,
    /// Added to the variance.
    pub epsilon: f32,
    /// Applied to each normalised number `x0`; `x1..` are the further inputs.
    pub epilogue: Expr,
}

/// Local response normalisation: `y[c] = x[c] / (bias + alpha / size * sum of x[i]^2)^beta` over the `size` channels (axis 1) around `c`, `(size - 1) / 2` of them
/// before it. One input.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Lrn {
    /// Channels in the sum.
    pub size: usize,
    /// Weight of their mean square.
    pub alpha: f32,
    /// Exponent.
    pub beta: f32,
    /// Added to the sum.
    pub bias: f32,
}

/// How [`GridSample`] makes one number of the elements around a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interpolation {
    /// The nearest; of two equally near ones that with the even index.
    Nearest,
    /// Linear along each axis.
    Linear,
    /// Cubic convolution with coefficient -0.75 along each of two axes (Keys, IEEE TASSP 1981).
    Cubic,
}

/// What [`GridSample`] finds outside its input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outside {
    /// 0.
    Zeros,
    /// The nearest element inside.
    Border,
    /// The mirror image, as often as needed.
    Reflection,
}

/// Samples `x [N,C,D1..Dk]` at the places in `grid [N,O1..Ok,k]` into `[N,C,O1..Ok]`. A place is a coordinate for each axis, the last axis's first, in [-1, 1] over
/// the extent of the axis: from the middle of the first element to the middle of the last with `align_corners`, else from edge to edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GridSample {
    /// Between elements.
    pub interpolation: Interpolation,
    /// Beyond them.
    pub outside: Outside,
    /// What -1 and 1 mean.
    pub align_corners: bool,
}

/// Scaled dot product attention: `y = softmax(scale * q k^T + mask) v` for each head of each batch. Inputs: `q`, `k`, `v`, then `mask` if `mask_strides`, which
/// is added to the scores. `heads / kv_heads` neighbouring heads of `q` share one head of `k` and `v`.
#[derive(Clone, Debug, PartialEq)]
pub struct Attention {
    /// Independent inputs.
    pub batch: usize,
    /// Heads of `q` and of the result.
    pub heads: usize,
    /// Heads of `k` and `v`; divides `heads`.
    pub kv_heads: usize,
    /// Rows of `q` and of the result.
    pub rows: usize,
    /// Rows of `k` and `v`: columns of the scores.
    pub columns: usize,
    /// Length of a row of `q` and `k`; at most [`Attention::MAX_DEPTH`].
    pub depth: usize,
    /// Length of a row of `v` and of the result; at most [`Attention::MAX_DEPTH`].
    pub value_depth: usize,
    /// Factor of the scores.
    pub scale: f32,
    /// Whether row `i` sees only columns up to `i + columns - rows`.
    pub causal: bool,
    /// Strides of `q` along (batch, head, row, depth).
    pub q_strides: [usize; 4],
    /// Strides of `k` along (batch, head, column, depth).
    pub k_strides: [usize; 4],
    /// Strides of `v` along (batch, head, column, depth).
    pub v_strides: [usize; 4],
    /// Strides of the mask along (batch, head, row, column), 0 where it is the same for all.
    pub mask_strides: Option<[usize; 4]>,
    /// Strides of the result along (batch, head, row, depth).
    pub y_strides: [usize; 4],
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

impl Attention {
    /// The longest row: a block keeps a few of them in shared memory.
    pub const MAX_DEPTH: usize = 256;
}

/// `3x3x3`.
fn each(axes: &[WindowAxis], value: impl Fn(&WindowAxis) -> usize) -> String {
    axes.iter().map(|axis| value(axis).to_string()).collect::<Vec<_>>().join("x")
}

/// `3x3x3 stride 2x2x2 pads 1x1x1:0x0x0`: what differs from a plain window.
fn window(f: &mut Formatter<'_>, axes: &[WindowAxis]) -> fmt::Result {
    write!(f, " {}", each(axes, |a| a.kernel))?;
    if axes.iter().any(|a| a.stride != 1) {
        write!(f, " stride {}", each(axes, |a| a.stride))?;
    }
    if axes.iter().any(|a| a.dilation != 1) {
        write!(f, " dilation {}", each(axes, |a| a.dilation))?;
    }
    if axes.iter().any(|a| a.pad_begin + a.pad_end != 0) {
        write!(f, " pads {}:{}", each(axes, |a| a.pad_begin), each(axes, |a| a.pad_end))?;
    }
    Ok(())
}

impl Display for ConvNd {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        window(f, &self.axes)?;
        if self.groups != 1 {
            write!(f, " groups {}", self.groups)?;
        }
        if self.bias {
            write!(f, " bias")?;
        }
        epilogue(f, &self.epilogue)
    }
}

fn epilogue(f: &mut Formatter<'_>, expr: &Expr) -> fmt::Result {
    if expr.is_identity() { Ok(()) } else { write!(f, " epilogue {expr}") }
}

impl Display for PoolNd {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, " {}", self.kind)?;
        window(f, &self.axes)
    }
}

impl Display for PoolIndices {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        window(f, &self.axes)?;
        if self.column_major { write!(f, " column major") } else { Ok(()) }
    }
}

impl Display for Trilu {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, " {} diagonal {}", if self.upper { "upper" } else { "lower" }, self.diagonal)
    }
}

impl Display for Norm {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let kind = if self.centred { "mean and variance" } else { "root mean square" };
        write!(f, " {kind} axes {:?} epsilon {:e}", self.axes, self.epsilon)?;
        epilogue(f, &self.epilogue)
    }
}

impl Display for Lrn {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, " size {} alpha {:e} beta {:?} bias {:?}", self.size, self.alpha, self.beta, self.bias)
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

impl Display for Attention {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, " {} heads {}: {}x{} by {}x{}", self.batch, self.heads, self.rows, self.depth, self.columns, self.value_depth)?;
        if self.kv_heads != self.heads {
            write!(f, " sharing {}", self.kv_heads)?;
        }
        write!(f, " scale {:?}", self.scale)?;
        if self.causal {
            write!(f, " causal")?;
        }
        if self.mask_strides.is_some() {
            write!(f, " masked")?;
        }
        Ok(())
    }
}
