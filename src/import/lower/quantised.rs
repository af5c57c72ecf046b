//! Quantised arithmetic: integers that represent `scale * (integer - zero point)`.
//!
//! A quantised convolution or product has nine inputs: the two operands, a bias (i32), and the zero
//! point and scale of the first operand, the second operand and the result. First, the zero points
//! are subtracted, in i32. Then the operator is computed on integers, exactly. Then, unless the
//! sums themselves are the result, each is scaled, rounded (ties to even), shifted by the result's
//! zero point and clamped to the range of its type. This is how ONNX defines it. A parameter is one
//! number, or one per element of an axis.

use tract_onnx::prelude::*;
use tract_onnx::tract_core::ops::cnn::Conv;
use tract_onnx::tract_core::ops::einsum::EinSum;
use tract_onnx::tract_core::ops::element_wise::ElementWiseOp;
use tract_onnx::tract_core::ops::quant::{DequantizeLinearF32, QuantizeLinearI8, QuantizeLinearU8};

use super::{Lowering, Reason};
use crate::graph::{Binary, DType, Elementwise, Expr, OpKind, Origin, Reduce, ReduceKind, Scalar, Tensor, Unary};
use crate::ids::TensorId;

/// A zero point or a scale, and the axis it varies along if it is more than one number.
type Parameter = (TensorId, usize);

/// The parameters that convert sums to the result; the zero point is the result's.
struct Scales {
    first: Parameter,
    second: Parameter,
    result: Parameter,
    zero: Parameter,
}

impl Lowering<'_> {
    /// Lowers `node` if it is a convolution or a product of quantised numbers, or converts to or
    /// from them; returns whether it did so.
    pub(super) fn quantised(&mut self, node: &TypedNode) -> Result<bool, Reason> {
        let (inputs, output) = (&self.inputs(node)[..], &self.output(node)?);
        if let Some(op) = node.op_as::<Conv>().filter(|op| op.q_params.is_some()) {
            self.quantised_conv(node, op, inputs, output)?;
        } else if let Some(op) = node.op_as::<EinSum>().filter(|op| op.q_params.is_some()) {
            self.quantised_einsum(node, op, inputs, output)?;
        } else if let Some(op) = node.op_as::<DequantizeLinearF32>() {
            let zero = Expr::Const(Scalar::from_f64(DType::I32, op.zero_point.into()));
            let difference = Expr::binary(Binary::Sub, Expr::identity().cast(DType::I32), zero).cast(DType::F32);
            let expr = Expr::binary(Binary::Mul, difference, Expr::number(op.scale));
            self.finish(node, OpKind::Elementwise(Elementwise { expr }), inputs.to_vec(), output.clone());
        } else if let Some((factor, zero)) = quantisation(node) {
            // tract stores the reciprocal of the scale
            let quotient = Expr::binary(Binary::Div, Expr::identity().cast(DType::F32), Expr::number(factor.recip()));
            let expr = Expr::binary(Binary::Add, quotient.then(Unary::Round), Expr::number(zero)).cast(output.dtype);
            self.finish(node, OpKind::Elementwise(Elementwise { expr }), inputs.to_vec(), output.clone());
        } else {
            return Ok(false);
        }
        Ok(true)
    }

    fn quantised_conv(&mut self, node: &TypedNode, op: &Conv, inputs: &[TensorId], output: &Tensor) -> Result<(), Reason> {
        let &[x, w, bias, x_zero, x_scale, w_zero, w_scale, y_zero, y_scale] = inputs else {
            return Err("it must have nine inputs".into());
        };
        let channels = output.shape.len() - op.pool_spec.rank() - 1;
        let x = self.without_zero(node, x, (x_zero, channels), "x")?;
        let w = self.without_zero(node, w, (w_zero, 0), "w")?;
        if output.dtype == DType::I32 {
            return self.conv_nd(node, op, vec![x, w, bias], output.clone());
        }
        let sums = Tensor { name: format!("{}.sums", output.name), dtype: DType::I32, ..output.clone() };
        self.conv_nd(node, op, vec![x, w, bias], sums)?;
        let sums = self.tensors[&node.id.into()];
        let scales =
            Scales { first: (x_scale, channels), second: (w_scale, channels), result: (y_scale, channels), zero: (y_zero, channels) };
        self.rescaled(node, sums, scales, output)
    }

    fn quantised_einsum(&mut self, node: &TypedNode, op: &EinSum, inputs: &[TensorId], output: &Tensor) -> Result<(), Reason> {
        let &[a, b, bias, a_zero, a_scale, b_zero, b_scale, y_zero, y_scale] = inputs else {
            return Err("it must have nine inputs".into());
        };
        if self.graph.constant(bias).is_none_or(|c| c.bytes().iter().any(|&byte| byte != 0)) {
            return Err("a quantised product with a bias is not supported yet".into());
        }
        // the axis of operand or result that a parameter of one axis varies along
        let axis = |slot: usize, of_input: Option<usize>| {
            let axis = op.axes.iter_all_axes().find(|axis| axis.inputs[slot].first() == Some(&0))?;
            of_input.map_or_else(|| axis.outputs[0].first(), |input| axis.inputs[input].first()).copied()
        };
        let axis_of = |slot: usize, of_input: Option<usize>| axis(slot, of_input).unwrap_or(0);
        let a = self.without_zero(node, a, (a_zero, axis_of(3, Some(0))), "a")?;
        let b = self.without_zero(node, b, (b_zero, axis_of(5, Some(1))), "b")?;
        let sums = Tensor { name: format!("{}.sums", output.name), dtype: DType::I32, ..output.clone() };
        if output.dtype == DType::I32 {
            return self.contraction(node, &op.axes, &[a, b], output);
        }
        self.contraction(node, &op.axes, &[a, b], &sums)?;
        let sums = self.tensors[&node.id.into()];
        let scales = Scales {
            first: (a_scale, axis_of(4, None)),
            second: (b_scale, axis_of(6, None)),
            result: (y_scale, axis_of(8, None)),
            zero: (y_zero, axis_of(7, None)),
        };
        self.rescaled(node, sums, scales, output)
    }

    /// `x - zero` in i32.
    fn without_zero(&mut self, node: &TypedNode, x: TensorId, zero: Parameter, what: &str) -> Result<TensorId, Reason> {
        let shape = self.graph.tensor(x).shape.clone();
        let zero = self.along(zero, &shape)?;
        let (operands, kept) = self.operands(&[x, zero]);
        let [value, zero] = <[Expr; 2]>::try_from(operands).map_err(|_| "it must have two operands")?;
        let expr = Expr::binary(Binary::Sub, value.cast(DType::I32), zero.cast(DType::I32));
        let name = format!("{}.{what}", node.name);
        let tensor = Tensor { name, dtype: DType::I32, shape, origin: Origin::Input };
        Ok(self.add_intermediate(node, OpKind::Elementwise(Elementwise { expr }), kept, tensor))
    }

    /// `round(sums * first * second / result) + zero` in `output`'s type.
    fn rescaled(&mut self, node: &TypedNode, sums: TensorId, scales: Scales, output: &Tensor) -> Result<(), Reason> {
        let mut all = vec![sums];
        for parameter in [scales.first, scales.second, scales.result, scales.zero] {
            all.push(self.along(parameter, &output.shape)?);
        }
        let (operands, kept) = self.operands(&all);
        let [sum, first, second, result, zero] = <[Expr; 5]>::try_from(operands).map_err(|_| "it must have five operands")?;
        let scale = Expr::binary(Binary::Div, Expr::binary(Binary::Mul, first, second), result);
        let scaled = Expr::binary(Binary::Mul, sum.cast(DType::F32), scale).then(Unary::Round);
        let expr = Expr::binary(Binary::Add, scaled, zero.cast(DType::F32)).cast(output.dtype);
        self.finish(node, OpKind::Elementwise(Elementwise { expr }), kept, output.clone());
        Ok(())
    }

    /// A view of a parameter that broadcasts to `shape`.
    fn along(&mut self, (id, axis): Parameter, shape: &[usize]) -> Result<TensorId, Reason> {
        let elements = self.graph.tensor(id).elements() as usize;
        let mut narrow = vec![1; shape.len()];
        if elements != 1 {
            if shape.get(axis) != Some(&elements) {
                return Err(format!("{elements} zero points or scales for {shape:?}"));
            }
            narrow[axis] = elements;
        }
        Ok(self.reshaped(id, narrow))
    }

    /// `DynamicQuantizeLinear`: scale and zero point follow from the smallest and the largest
    /// element, with 0 counted among them. It has three results.
    pub(super) fn dynamic_quantisation(&mut self, node: &TypedNode) -> Result<bool, Reason> {
        // this type is private to tract: only its name is visible
        if node.op.name() != "DynamicQuantizeLinearU8" {
            return Ok(false);
        }
        let x = self.inputs(node)[0];
        let shape = self.graph.tensor(x).shape.clone();
        let axes: Vec<usize> = (0..shape.len()).collect();
        let of = |slot: usize| OutletId::new(node.id, slot);
        let [y, scale, zero] =
            [self.describe(of(0), Origin::Input)?, self.describe(of(1), Origin::Input)?, self.describe(of(2), Origin::Input)?];
        let one = vec![1; shape.len()];
        let single =
            |what: &str, dtype: DType| Tensor { name: format!("{}.{what}", node.name), dtype, shape: one.clone(), origin: Origin::Input };
        let elementwise = |expr: Expr| OpKind::Elementwise(Elementwise { expr });
        let extreme = |kind: ReduceKind| OpKind::Reduce(Reduce { kind, axes: axes.clone() });
        let least = self.add_intermediate(node, extreme(ReduceKind::Min), vec![x], single("min", DType::F32));
        let largest = self.add_intermediate(node, extreme(ReduceKind::Max), vec![x], single("max", DType::F32));
        let least_or_0 = |input: usize| Expr::binary(Binary::Min, Expr::Input(input), Expr::number(0.0));
        let range = Expr::binary(Binary::Sub, Expr::Input(1).then(Unary::Relu), least_or_0(0));
        let width = elementwise(Expr::binary(Binary::Div, range, Expr::number(255.0)));
        let width = self.add_intermediate(node, width, vec![least, largest], Tensor { shape: one.clone(), ..scale.clone() });
        let point = Expr::binary(Binary::Div, least_or_0(0).then(Unary::Neg), Expr::Input(1)).then(Unary::Round).cast(DType::U8);
        let point = self.add_intermediate(node, elementwise(point), vec![least, width], Tensor { shape: one.clone(), ..zero.clone() });
        let quotient = Expr::binary(Binary::Div, Expr::Input(0), Expr::Input(1)).then(Unary::Round);
        let expr = Expr::binary(Binary::Add, quotient, Expr::Input(2).cast(DType::F32)).cast(DType::U8);
        let y = self.add_intermediate(node, elementwise(expr), vec![x, width, point], y);
        let (scale, zero) = (self.reshaped(width, scale.shape), self.reshaped(point, zero.shape));
        self.tensors.extend([(of(0), y), (of(1), scale), (of(2), zero)]);
        Ok(true)
    }
}

/// Reciprocal of the scale, and zero point, of an elementwise quantisation.
fn quantisation(node: &TypedNode) -> Option<(f32, f32)> {
    let op = &node.op_as::<ElementWiseOp>()?.0;
    if let Some(op) = op.downcast_ref::<QuantizeLinearU8>() {
        return Some((op.scale, op.zero_point.into()));
    }
    op.downcast_ref::<QuantizeLinearI8>().map(|op| (op.scale, op.zero_point.into()))
}
