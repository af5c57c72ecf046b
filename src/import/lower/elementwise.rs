//! Scalar functions and what is built from them: tract's functions as expressions, selections,
//! conversions, broadcasts and repetitions.
//!
//! An operand of one constant value becomes part of the expression. A repetition of elements
//! becomes a broadcast between two views: upsampling `[H]` by 2 broadcasts `[H, 1]` to `[H, 2]`,
//! tiling it broadcasts `[1, H]` to `[2, H]`. `OneHot` becomes a comparison with the numbers of its
//! classes.

use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::DimLike;
use tract_onnx::tract_core::ops::array::{MultiBroadcastTo, OneHot, Tile};
use tract_onnx::tract_core::ops::binary::TypedBinOp;
use tract_onnx::tract_core::ops::cast::Cast;
use tract_onnx::tract_core::ops::element_wise::ElementWiseOp;
use tract_onnx::tract_core::ops::logic::Iff;
use tract_onnx::tract_core::ops::math::{IsInf, PowConst};
use tract_onnx::tract_core::ops::nn::LeakyRelu;
use tract_onnx::tract_core::ops::nn::gelu_approximate::GeluApproximate;
use tract_onnx::tract_core::ops::nn::resize::NearestUpsample;

use super::{Lowering, Reason};
use crate::graph::{Binary, Constant, DType, Elementwise, Expr, OpKind, Origin, Scalar, Tensor, Unary};
use crate::ids::TensorId;
use crate::import::onnx::limits;
use crate::import::tract::typed;

impl Lowering<'_> {
    /// Lowers `node` if it is a scalar function, or repeats elements; returns whether it was.
    pub(super) fn elementwise(&mut self, node: &TypedNode) -> Result<bool, Reason> {
        let inputs = self.inputs(node);
        let output = self.output(node)?;
        let (expr, operands) = if let Some(op) = node.op_as::<TypedBinOp>() {
            let (operands, kept) = self.operands(&inputs);
            let [a, b] = <[Expr; 2]>::try_from(operands).map_err(|_| "it must have two inputs")?;
            let of = self.graph.tensor(inputs[0]).dtype;
            let unknown = || format!("this binary function is not supported yet for {}", of.name());
            (binary(op.0.name(), a, b, of).ok_or_else(unknown)?, kept)
        } else if let Some(op) = node.op_as::<ElementWiseOp>() {
            let of = self.graph.tensor(inputs[0]).dtype;
            (unary(op, of).ok_or("this elementwise function is not supported yet")?, inputs)
        } else if node.op_is::<Iff>() {
            let (operands, kept) = self.operands(&inputs);
            let [condition, yes, no] = <[Expr; 3]>::try_from(operands).map_err(|_| "it must have three inputs")?;
            (Expr::select(condition, yes, no), kept)
        } else if let Some(op) = node.op_as::<Cast>() {
            let to = typed::dtype(op.to).ok_or_else(|| format!("a conversion to {:?} is not supported yet", op.to))?;
            if self.graph.tensor(inputs[0]).dtype == to {
                self.tensors.insert(node.id.into(), inputs[0]);
                return Ok(true);
            }
            (Expr::identity().cast(to), inputs)
        } else if node.op_is::<MultiBroadcastTo>() {
            let shape = &self.graph.tensor(inputs[0]).shape;
            let missing = output.shape.len().checked_sub(shape.len()).ok_or("a broadcast to fewer axes")?;
            let wide = [&vec![1; missing][..], shape].concat();
            (Expr::identity(), vec![self.reshaped(inputs[0], wide)])
        } else if let Some(op) = node.op_as::<OneHot>() {
            return self.one_hot(node, op, &inputs, output).map(|()| true);
        } else if let Some(op) = node.op_as::<NearestUpsample>() {
            self.tile_elements(node, inputs[0], &op.scales, &output, true);
            return Ok(true);
        } else if let Some(op) = node.op_as::<Tile>() {
            let times: Result<Vec<usize>, _> = op.multipliers.iter().map(|m| m.to_usize()).collect();
            self.tile_elements(node, inputs[0], &times.map_err(|_| "its repetitions are not static")?, &output, false);
            return Ok(true);
        } else {
            return Ok(false);
        };
        self.finish(node, OpKind::Elementwise(Elementwise { expr }), operands, output);
        Ok(true)
    }

    /// The operand of an expression for each of `inputs`, and the inputs that are still read from
    /// memory: a constant of one value becomes part of the expression.
    pub(super) fn operands(&self, inputs: &[TensorId]) -> (Vec<Expr>, Vec<TensorId>) {
        let mut kept = Vec::new();
        let operand = |&id: &TensorId| match self.graph.constant(id).and_then(Constant::only) {
            Some(value) => Expr::Const(value),
            None => {
                kept.push(id);
                Expr::Input(kept.len() - 1)
            }
        };
        let mut operands: Vec<Expr> = inputs.iter().map(operand).collect();
        // an operator must read something, if only a constant that could not be folded
        if let (true, Some(first), Some(&id)) = (kept.is_empty(), operands.first_mut(), inputs.first()) {
            *first = Expr::Input(0);
            kept.push(id);
        }
        (operands, kept)
    }

    /// Repeats axis `i` of `x` `times[i]` times: element by element if `each`, else as a whole.
    fn tile_elements(&mut self, node: &TypedNode, x: TensorId, times: &[usize], output: &Tensor, each: bool) {
        let shape = self.graph.tensor(x).shape.clone();
        let pair = |size: usize, times: usize| if each { [size, times] } else { [times, size] };
        let narrow = shape.iter().flat_map(|&size| pair(size, 1)).collect();
        let wide: Vec<usize> = shape.iter().zip(times).flat_map(|(&size, &times)| pair(size, times)).collect();
        let x = self.reshaped(x, narrow);
        let broadcast = OpKind::Elementwise(Elementwise { expr: Expr::identity() });
        self.finish(node, broadcast, vec![x], Tensor { shape: wide, ..output.clone() });
        let result = self.reshaped(self.tensors[&node.id.into()], output.shape.clone());
        self.tensors.insert(node.id.into(), result);
    }

    /// `on` where the number of the class is the index or, for a negative index, the index plus the
    /// number of classes; else `off`.
    fn one_hot(&mut self, node: &TypedNode, op: &OneHot, inputs: &[TensorId], output: Tensor) -> Result<(), Reason> {
        let value = |tensor: &tract_onnx::prelude::Tensor| {
            typed::values(tensor).ok().and_then(|v| v.only()).map(Expr::Const).ok_or("its values are not single numbers")
        };
        let (on, off) = (value(&op.on)?, value(&op.off)?);
        let (mut narrow, mut classes) = (self.graph.tensor(inputs[0]).shape.clone(), vec![1; output.shape.len()]);
        narrow.insert(op.axis, 1);
        classes[op.axis] = op.dim;
        let indices = self.reshaped(inputs[0], narrow);
        limits::table(&[op.dim], 8)?;
        let numbers: Vec<i64> = (0..op.dim as i64).collect();
        let numbers = self.graph.add_tensor(Tensor {
            name: format!("{}.classes", self.operator_name(node)),
            dtype: DType::I64,
            shape: classes,
            origin: Origin::Constant(Constant::I64(numbers.into())),
        });
        let index = if self.graph.tensor(indices).dtype == DType::I64 { Expr::Input(0) } else { Expr::Input(0).cast(DType::I64) };
        let from_end = Expr::binary(Binary::Add, index.clone(), Expr::Const((op.dim as i64).into()));
        let is = |index| Expr::binary(Binary::Equal, index, Expr::Input(1));
        let expr = Expr::select(is(index), on.clone(), Expr::select(is(from_end), on, off));
        self.finish(node, OpKind::Elementwise(Elementwise { expr }), vec![indices, numbers], output);
        Ok(())
    }
}

/// An elementwise function of `x0`, which has the type `of`.
fn unary(op: &ElementWiseOp, of: DType) -> Option<Expr> {
    let x = Expr::identity;
    let number = |value: f64| Expr::Const(Scalar::from_f64(of, value));
    if let Some(op) = op.0.downcast_ref::<PowConst>() {
        return Some(power(x(), op.exponent, of));
    }
    if let Some(op) = op.0.downcast_ref::<LeakyRelu>() {
        let below = Expr::binary(Binary::Mul, x(), number(op.alpha.into()));
        return Some(Expr::select(Expr::binary(Binary::Less, x(), number(0.0)), below, x()));
    }
    if let Some(op) = op.0.downcast_ref::<GeluApproximate>() {
        // x/2 * (1 + tanh(sqrt(2/pi) * (x + 0.044715 * x^3)))
        let square = x().then(Unary::Square);
        let odd = if op.fast_impl { square } else { Expr::binary(Binary::Mul, square, x()) };
        let inner = Expr::binary(Binary::Add, x(), Expr::binary(Binary::Mul, number(0.044715), odd));
        let tanh = Expr::binary(Binary::Mul, number((2.0 / std::f64::consts::PI).sqrt()), inner).then(Unary::Tanh);
        let factor = Expr::binary(Binary::Add, tanh, number(1.0));
        return Some(Expr::binary(Binary::Mul, Expr::binary(Binary::Mul, x(), number(0.5)), factor));
    }
    if let Some(op) = op.0.downcast_ref::<IsInf>() {
        let equals = |value: f64| Expr::binary(Binary::Equal, x(), number(value));
        return Some(match (op.detect_positive, op.detect_negative) {
            (true, true) => Expr::binary(Binary::Equal, x().then(Unary::Abs), number(f64::INFINITY)),
            (true, false) => equals(f64::INFINITY),
            (false, true) => equals(f64::NEG_INFINITY),
            (false, false) => Expr::Const(false.into()),
        });
    }
    let function = match op.0.name().as_str() {
        "Abs" => Unary::Abs,
        "Exp" => Unary::Exp,
        "Ln" => Unary::Log,
        "Sqrt" => Unary::Sqrt,
        "Rsqrt" => Unary::Rsqrt,
        "Recip" => Unary::Recip,
        "Neg" => Unary::Neg,
        "Square" => Unary::Square,
        "Sigmoid" => Unary::Sigmoid,
        "Tanh" => Unary::Tanh,
        "HardSwish" => Unary::HardSwish,
        "Silu" => Unary::Silu,
        "GeluExact" => Unary::Gelu,
        "Erf" => Unary::Erf,
        "Floor" | "Ceil" | "Round" | "RoundHalfToEven" if of.is_integer() => return Some(x()),
        "Floor" => Unary::Floor,
        "Ceil" => Unary::Ceil,
        "RoundHalfToEven" => Unary::Round,
        "Sign" => Unary::Sign,
        "Sin" => Unary::Sin,
        "Cos" => Unary::Cos,
        "Tan" => Unary::Tan,
        "Asin" => Unary::Asin,
        "Acos" => Unary::Acos,
        "Atan" => Unary::Atan,
        "Sinh" => Unary::Sinh,
        "Cosh" => Unary::Cosh,
        "Asinh" => Unary::Asinh,
        "Acosh" => Unary::Acosh,
        "Atanh" => Unary::Atanh,
        "Not" | "BitNot" => Unary::Not,
        "IsNan" => return Some(Expr::binary(Binary::Equal, x(), x()).then(Unary::Not)),
        _ => return None,
    };
    function.takes(of).then(|| x().then(function))
}

/// `x` to a constant power, by the cheapest function that is exact.
fn power(x: Expr, exponent: f32, of: DType) -> Expr {
    match exponent {
        1.0 => x,
        2.0 => x.then(Unary::Square),
        0.5 => x.then(Unary::Sqrt),
        -0.5 => x.then(Unary::Rsqrt),
        -1.0 => x.then(Unary::Recip),
        _ => Expr::binary(Binary::Pow, x, Expr::Const(Scalar::from_f64(of, exponent.into()))),
    }
}

/// A binary function of `a` and `b`, both of type `of`, by tract's name. `And` and `Or` of integers
/// test whether they are 0, as tract does.
fn binary(name: &str, a: Expr, b: Expr, of: DType) -> Option<Expr> {
    if of.is_integer() && matches!(name, "And" | "Or") {
        let both = binary(name, a.cast(DType::Bool), b.cast(DType::Bool), DType::Bool)?;
        return Some(both.cast(of));
    }
    let function = match name {
        "Add" => Binary::Add,
        "Sub" => Binary::Sub,
        "SubF" => return Some(Expr::binary(Binary::Sub, b, a)),
        "Mul" => Binary::Mul,
        "Div" => Binary::Div,
        "Rem" => Binary::Rem,
        "Max" => Binary::Max,
        "Min" => Binary::Min,
        "And" | "BitAnd" => Binary::And,
        "Or" | "BitOr" => Binary::Or,
        "Xor" | "BitXor" => Binary::Xor,
        "ShiftLeft" => Binary::ShiftLeft,
        "ShiftRight" => Binary::ShiftRight,
        "Pow" => Binary::Pow,
        "LT" => Binary::Less,
        "LTE" => Binary::LessEqual,
        "GT" => return Some(Expr::binary(Binary::Less, b, a)),
        "GTE" => return Some(Expr::binary(Binary::LessEqual, b, a)),
        "Eq" => Binary::Equal,
        "NE" => return Some(Expr::binary(Binary::Equal, a, b).then(Unary::Not)),
        _ => return None,
    };
    function.dtype(of)?;
    Some(match (function, a, b) {
        (Binary::Max, x, Expr::Const(c)) | (Binary::Max, Expr::Const(c), x) if c.number() == 0.0 => x.then(Unary::Relu),
        (Binary::Pow, x, Expr::Const(exponent)) if of == DType::F32 => power(x, exponent.number() as f32, of),
        (function, a, b) => Expr::binary(function, a, b),
    })
}
