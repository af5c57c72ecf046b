//! The operators of the compiled graph: what a kernel must compute, and nothing about where or
//! when.
//!
//! The set is small on purpose: an ONNX operator is lowered to a few of these, or folded away.
//! Shapes are static and belong to the tensors; an operator has attributes only. Activations are
//! NCHW and convolution weights OIHW. Operands and result have one element type unless an operator
//! says otherwise; the expression of an elementwise operator or an epilogue may change the type.
//!
//! Operators that share kernels form a *family*. A family has one name, and one file of that name
//! in every pass: its attributes here, `import/lower/`, `kernel/`, `kernels/FAMILY.cuh`,
//! `tests/kernels/`, and `tests/support/interpret/`, the oracle. What a pass asks of every operator
//! is in [`Attributes`].

mod attention;
mod cell;
mod concat;
mod conv;
mod copy;
mod cumsum;
mod elementwise;
mod gather;
mod grid_sample;
mod lrn;
mod matmul;
mod norm;
mod pool;
mod reduce;
mod resample;
mod scatter;
mod softmax;
mod topk;
mod window;

use std::fmt::{self, Display, Formatter};

use super::{DType, Expr, Graph, Operator};

pub use attention::Attention;
pub use cell::Cell;
pub use concat::Concat;
pub use conv::{Conv, ConvNd};
pub use copy::{Pad, PadMode, Reshape, Slice, Transpose, Trilu};
pub use cumsum::CumSum;
pub use elementwise::Elementwise;
pub use gather::Gather;
pub use grid_sample::{GridSample, Interpolation, Outside};
pub use lrn::Lrn;
pub use matmul::MatMul;
pub use norm::Norm;
pub use pool::{Pool, PoolIndices, PoolKind, PoolNd};
pub use reduce::{Reduce, ReduceKind};
pub use resample::{Resample, TappedAxis};
pub use scatter::{Scatter, Update};
pub use softmax::Softmax;
pub use topk::TopK;
pub use window::WindowAxis;

/// Makes [`OpKind`] from the table of operators.
macro_rules! operators {
    ($($family:ident: $($name:ident),*;)*) => {
        /// What an [`Operator`] computes. The attributes of each kind document its inputs.
        #[derive(Clone, Debug, PartialEq)]
        #[allow(missing_docs)]
        pub enum OpKind {
            $($($name($name),)*)*
        }

        impl OpKind {
            /// The names of all families, as files have them.
            pub const FAMILIES: &[&str] = &[$(stringify!($family)),*];

            /// The family that it belongs to.
            pub fn family(&self) -> &'static str {
                match self {
                    $($(OpKind::$name(_) => stringify!($family),)*)*
                }
            }

            fn attributes(&self) -> &dyn Attributes {
                match self {
                    $($(OpKind::$name(attributes) => attributes,)*)*
                }
            }
        }
    };
}

// A row per family: its file, and its operators.
operators! {
    attention: Attention;
    cell: Cell;
    concat: Concat;
    conv: Conv, ConvNd;
    copy: Transpose, Slice, Pad, Trilu, Reshape;
    cumsum: CumSum;
    elementwise: Elementwise;
    gather: Gather;
    grid_sample: GridSample;
    lrn: Lrn;
    matmul: MatMul;
    norm: Norm;
    pool: Pool, PoolNd, PoolIndices;
    reduce: Reduce;
    resample: Resample;
    scatter: Scatter;
    softmax: Softmax;
    topk: TopK;
}

/// What an operator defines besides its attributes. `Display` writes the attributes in words, as
/// they follow the name in the text form: ` 3x3 stride 2x2`.
pub(super) trait Attributes: Display {
    /// Lower-case name: `conv`, `pool`, ...
    fn name(&self) -> &'static str;

    /// Whether the result's shape follows from the inputs' shapes; if not, why. Written from the
    /// definition of the operator, not from the code that lowers it.
    fn check_shapes(&self, inputs: &[&[usize]], output: &[usize]) -> Result<(), String>;

    /// What must hold of the values of constant inputs. `check_shapes` has passed.
    fn check_constants(&self, _graph: &Graph, _operator: &Operator) -> Result<(), String> {
        Ok(())
    }

    /// The element type of the result for inputs of these types, or why they do not fit together.
    /// `output` is the type of the tensor that receives it.
    fn result_type(&self, inputs: &[DType], output: DType) -> Result<DType, String> {
        alike(inputs)?;
        Ok(inputs.first().copied().unwrap_or(output))
    }

    /// Multiply-adds of products of two tensors, by definition. Taps on padding count; epilogues,
    /// normalisations and interpolation by fixed weights do not.
    fn macs(&self, _inputs: &[&[usize]], _output: &[usize]) -> u64 {
        0
    }

    /// All arithmetic, for estimates of time; a multiply-add is two operations.
    fn flops(&self, inputs: &[&[usize]], output: &[usize]) -> f64;
}

impl OpKind {
    /// Lower-case name: `conv`, `pool`, ...
    pub fn name(&self) -> &'static str {
        self.attributes().name()
    }
}

impl Operator {
    /// Rules 6 and 7 of a graph.
    pub(super) fn check(&self, graph: &Graph) -> Result<(), String> {
        let [output] = self.outputs[..] else { return Err("must have one output".into()) };
        let output = graph.tensor(output);
        let attributes = self.kind.attributes();
        let types: Vec<DType> = self.inputs.iter().map(|&t| graph.tensor(t).dtype).collect();
        let result = attributes.result_type(&types, output.dtype)?;
        if result != output.dtype {
            return Err(format!("a result of type {} in a tensor of type {}", result.name(), output.dtype.name()));
        }
        attributes.check_shapes(&self.input_shapes(graph), &output.shape)?;
        attributes.check_constants(graph, self)
    }

    /// Multiply-adds of products of two tensors, by definition. Taps on padding count; tiles that
    /// reach over an edge do not. Normalisations, interpolation by fixed weights and epilogues are
    /// not products of two tensors, and count 0.
    pub fn macs(&self, graph: &Graph) -> u64 {
        self.kind.attributes().macs(&self.input_shapes(graph), self.output_shape(graph))
    }

    /// All arithmetic, for estimates of time; a multiply-add is two operations.
    pub fn flops(&self, graph: &Graph) -> f64 {
        self.kind.attributes().flops(&self.input_shapes(graph), self.output_shape(graph))
    }

    fn input_shapes<'g>(&self, graph: &'g Graph) -> Vec<&'g [usize]> {
        self.inputs.iter().map(|&t| graph.tensor(t).shape.as_slice()).collect()
    }

    fn output_shape<'g>(&self, graph: &'g Graph) -> &'g [usize] {
        self.outputs.first().map_or(&[], |&t| &graph.tensor(t).shape)
    }
}

impl Display for OpKind {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.name(), self.attributes())
    }
}

/// An error unless all of `types` are the same.
fn alike(types: &[DType]) -> Result<(), String> {
    match types.windows(2).find(|pair| pair[0] != pair[1]) {
        Some(pair) => Err(format!("operands of types {} and {}", pair[0].name(), pair[1].name())),
        None => Ok(()),
    }
}

/// The result type of an operator of two operands, a bias if `bias`, and an epilogue, which sees
/// their sum and then the further inputs.
fn product_type(inputs: &[DType], bias: bool, epilogue: &Expr) -> Result<DType, String> {
    let (fixed, rest) = inputs.split_at_checked(2 + usize::from(bias)).ok_or("an operand or the bias is missing")?;
    alike(fixed)?;
    epilogue.dtype(&[&fixed[..1], rest].concat())
}

/// Checks the inputs after the fixed ones: a bias of `channels` if `bias`, then the epilogue's
/// further inputs, each of the output's shape.
fn check_tail(rest: &[&[usize]], bias: bool, channels: usize, epilogue: &Expr, output: &[usize]) -> Result<(), String> {
    let rest = match (bias, rest) {
        (false, rest) => rest,
        (true, [b, rest @ ..]) if b.iter().product::<usize>() == channels => rest,
        (true, _) => return Err(format!("needs a bias of {channels}")),
    };
    if rest.len() + 1 < epilogue.inputs() || rest.iter().any(|s| *s != output) {
        return Err("the epilogue's further inputs must exist and have the output's shape".into());
    }
    Ok(())
}

/// Checks an operator that keeps the shape of its one input, which has `rank` axes or more.
fn check_same(inputs: &[&[usize]], output: &[usize], rank: usize) -> Result<(), String> {
    match inputs {
        [x] if *x == output && x.len() >= rank => Ok(()),
        _ => Err(format!("must keep the shape of its one input, which needs {rank} axes or more")),
    }
}

/// Whether a tensor of shape `from` broadcasts to `to`, by numpy's rules and with equal ranks.
fn broadcasts(from: &[usize], to: &[usize]) -> bool {
    from.len() == to.len() && from.iter().zip(to).all(|(&a, &b)| a == b || a == 1)
}

/// One more than the index of the last element that these extents and strides reach; 0 if they
/// reach none, `None` if the number is too large.
fn elements_reached<const N: usize>(extents: [usize; N], strides: [usize; N]) -> Option<usize> {
    if extents.contains(&0) {
        return Some(0);
    }
    extents.iter().zip(strides).try_fold(1usize, |reached, (extent, stride)| reached.checked_add((extent - 1).checked_mul(stride)?))
}

/// Whether all that these extents and strides reach is inside a tensor of `shape`.
fn in_bounds<const N: usize>(shape: &[usize], extents: [usize; N], strides: [usize; N]) -> bool {
    elements_reached(extents, strides).is_some_and(|n| n <= shape.iter().product())
}

/// Product of extents, if it fits.
fn checked_product(extents: &[usize]) -> Option<usize> {
    extents.iter().try_fold(1usize, |n, &extent| n.checked_mul(extent))
}

/// Number of elements.
fn elements(shape: &[usize]) -> f64 {
    shape.iter().map(|&d| d as f64).product()
}

/// Product of extents that may exceed 32 bits.
fn product(extents: &[usize]) -> u64 {
    extents.iter().map(|&extent| extent as u64).product()
}

/// ` epilogue relu(x0)`, unless it is the identity.
fn write_epilogue(f: &mut Formatter<'_>, epilogue: &Expr) -> fmt::Result {
    if epilogue.is_identity() { Ok(()) } else { write!(f, " epilogue {epilogue}") }
}
