//! Operators that tract's ONNX reader does not know, or not in every form, expressed in those that
//! it knows.
//!
//! * `Squeeze` without axes, below opset 13, drops every axis of size 1.
//! * `Upsample`, which opset 10 renamed, is read as a `Resize` of that opset; its scales are an
//!   attribute up to opset 8.
//! * `Resize` of opset 10 has no attribute for the nearest element: it rounds down, or up if an
//!   axis shrinks, as in ONNX Runtime.
//! * `Range` accepts lists of one number, which some exporters write when they take shapes apart.
//! * `PRelu` below opset 7 has a slope for each channel, not one that broadcasts to the last axis.
//! * `BatchNormalization` in training mode is refused: it has other outputs, and takes its mean
//!   from the batch.
//! * The axis of `LayerNormalization`, `RMSNormalization` and `OneHot` is compared with the rank:
//!   tract loops up to it, which takes forever if it is negative beyond the rank.

use tract_onnx::Onnx;
use tract_onnx::model::ParsingContext;
use tract_onnx::pb::{self, attribute_proto::AttributeType};
use tract_onnx::prelude::*;
use tract_onnx::tract_core::ops::binary::TypedBinOp;
use tract_onnx::tract_core::ops::logic::{Iff, comp_gt};
use tract_onnx::tract_core::ops::math::mul;
use tract_onnx::tract_core::ops::nn::resize::{CoordTransformer, Interpolator};
use tract_onnx::tract_hir::internal::*;
use tract_onnx::tract_hir::ops::array::Range;
use tract_onnx_opl::resize::{AspectRatio, CoordTransform, Nearest, Resize};

use super::affine_grid;

/// tract's reader of ONNX, as hiosc uses it.
pub fn onnx() -> Onnx {
    let mut onnx = tract_onnx::onnx().with_ignore_output_shapes(true).with_ignore_output_types(true);
    onnx.op_register.insert("AffineGrid", affine_grid::read);
    onnx.op_register.insert("BatchNormalization", batch_normalisation);
    onnx.op_register.insert("LayerNormalization", |context, node| axis_in_rank(context, node, 0));
    onnx.op_register.insert("OneHot", |context, node| axis_in_rank(context, node, 1));
    onnx.op_register.insert("PRelu", prelu);
    onnx.op_register.insert("RMSNormalization", |context, node| axis_in_rank(context, node, 0));
    onnx.op_register.insert("Range", |_, _| Ok((expand(RangeOfNumbers), vec![])));
    onnx.op_register.insert("Resize", resize);
    onnx.op_register.insert("Squeeze", squeeze);
    onnx.op_register.insert("Upsample", upsample);
    onnx
}

type Parsed = TractResult<(Box<dyn InferenceOp>, Vec<String>)>;

/// Reads `node` as tract reads an operator `name` at opset `version`.
fn usual(name: &str, context: &ParsingContext, version: i64, node: &pb::NodeProto) -> Parsed {
    let reader = tract_onnx::onnx().op_register.0.get(name).copied().ok_or_else(|| TractError::msg(format!("tract has no {name}")))?;
    reader(&ParsingContext { onnx_operator_set_version: version, ..context.clone() }, node)
}

/// Reads `node` as tract does, but fails if its axis is not one of its input or of `added` new
/// ones.
fn axis_in_rank(context: &ParsingContext, node: &pb::NodeProto, added: i64) -> Parsed {
    let (op, outputs) = usual(&node.op_type, context, context.onnx_operator_set_version, node)?;
    let axis = node.attribute.iter().find(|a| a.name == "axis").map_or(-1, |a| a.i);
    let inner = op.as_op().downcast_ref::<Box<dyn Expansion>>().ok_or_else(|| TractError::msg("tract reads it in another way"))?;
    Ok((expand(AxisInRank { inner: inner.clone(), axis, added }), outputs))
}

/// An operator whose axis is checked before its shapes are inferred.
#[derive(Clone, Debug)]
struct AxisInRank {
    inner: Box<dyn Expansion>,
    axis: i64,
    added: i64,
}

impl Expansion for AxisInRank {
    fn name(&self) -> StaticName {
        self.inner.as_ref().name()
    }

    fn nboutputs(&self) -> TractResult<usize> {
        self.inner.as_ref().nboutputs()
    }

    fn rules<'r, 'p: 'r, 's: 'r>(&'s self, s: &mut Solver<'r>, inputs: &'p [TensorProxy], outputs: &'p [TensorProxy]) -> InferenceResult {
        if let Some(input) = inputs.first() {
            s.given(&input.rank, move |_, rank| {
                let axes = rank + self.added;
                if (-axes..axes).contains(&self.axis) { Ok(()) } else { bail!("axis {} is not one of {axes} axes", self.axis) }
            })?;
        }
        self.inner.as_ref().rules(s, inputs, outputs)
    }

    fn wire(&self, prefix: &str, model: &mut TypedModel, inputs: &[OutletId]) -> TractResult<TVec<OutletId>> {
        self.inner.as_ref().wire(prefix, model, inputs)
    }
}

fn squeeze(context: &ParsingContext, node: &pb::NodeProto) -> Parsed {
    let without_axes = node.attribute.iter().all(|a| a.name != "axes");
    let version = if without_axes { context.onnx_operator_set_version.max(13) } else { context.onnx_operator_set_version };
    usual("Squeeze", context, version, node)
}

fn batch_normalisation(context: &ParsingContext, node: &pb::NodeProto) -> Parsed {
    if node.attribute.iter().any(|a| a.name == "training_mode" && a.i != 0) {
        return Err(TractError::msg("it is in training mode: export the model for inference"));
    }
    usual("BatchNormalization", context, context.onnx_operator_set_version, node)
}

fn resize(context: &ParsingContext, node: &pb::NodeProto) -> Parsed {
    let version = context.onnx_operator_set_version;
    if version != 10 {
        return usual("Resize", context, version, node);
    }
    let mut node = node.clone();
    node.attribute.push(nearest(context, node.input.get(1)));
    usual("Resize", context, 10, &node)
}

/// The attribute `nearest_mode` for a `Resize` without one.
fn nearest(context: &ParsingContext, scales: Option<&String>) -> pb::AttributeProto {
    let initialisers = context.model.graph.iter().flat_map(|graph| &graph.initializer);
    let given = initialisers.into_iter().find(|tensor| Some(&tensor.name) == scales);
    let values = |tensor: &pb::TensorProto| {
        let raw = tensor.raw_data.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
        tensor.float_data.iter().copied().chain(raw).collect::<Vec<f32>>()
    };
    let shrinks = given.is_some_and(|tensor| values(tensor).iter().any(|&scale| scale < 1.0));
    let mode: &[u8] = if shrinks { b"ceil" } else { b"floor" };
    pb::AttributeProto { name: "nearest_mode".into(), r#type: AttributeType::String as i32, s: mode.into(), ..Default::default() }
}

fn upsample(context: &ParsingContext, node: &pb::NodeProto) -> Parsed {
    let Some(scales) = node.attribute.iter().find(|a| a.name == "scales").map(|a| a.floats.clone()) else {
        let mut node = node.clone();
        node.attribute.push(nearest(context, node.input.get(1)));
        return usual("Resize", context, 10, &node);
    };
    let mode = node.attribute.iter().find(|a| a.name == "mode").map_or(&b"nearest"[..], |a| &a.s);
    let op = Resize {
        axes: None,
        coord_transformer: CoordTransform::Plain(CoordTransformer::Asymmetric),
        interpolator: if mode == b"nearest" { Interpolator::Nearest } else { Interpolator::Linear },
        nearest: if scales.iter().any(|&scale| scale < 1.0) { Nearest::Ceil } else { Nearest::Floor },
        antialias: false,
        cubic_coeff_a_bits: (-0.75f32).to_bits(),
        exclude_outside: false,
        extrapolation_value_bits: 0,
        keep_aspect_ratio_policy: AspectRatio::Stretch,
        optional_roi_input: None,
        optional_scales_input: Some(1),
        optional_sizes_input: None,
    };
    Ok((expand(Upsample { op, scales }), vec![]))
}

/// An `Upsample` whose scales are an attribute.
#[derive(Clone, Debug)]
struct Upsample {
    op: Resize,
    scales: Vec<f32>,
}

impl Expansion for Upsample {
    fn name(&self) -> StaticName {
        "Upsample".into()
    }

    fn rules<'r, 'p: 'r, 's: 'r>(&'s self, s: &mut Solver<'r>, inputs: &'p [TensorProxy], outputs: &'p [TensorProxy]) -> InferenceResult {
        check_input_arity(inputs, 1)?;
        check_output_arity(outputs, 1)?;
        s.equals(&inputs[0].datum_type, &outputs[0].datum_type)?;
        s.equals(&inputs[0].rank, self.scales.len() as i64)?;
        s.given(&inputs[0].shape, move |s, shape| {
            let shape = self.op.compute_output_shape(&shape, Some(&tensor1(&self.scales)), None)?;
            s.equals(&outputs[0].shape, ShapeFactoid::from(shape))
        })
    }

    fn wire(&self, prefix: &str, model: &mut TypedModel, inputs: &[OutletId]) -> TractResult<TVec<OutletId>> {
        let scales = model.add_const(format!("{prefix}.scales"), tensor1(&self.scales))?;
        model.wire_node(prefix, self.op.clone(), &[inputs[0], scales])
    }
}

/// A `Range` whose inputs are numbers or lists of one.
#[derive(Clone, Debug)]
struct RangeOfNumbers;

impl Expansion for RangeOfNumbers {
    fn name(&self) -> StaticName {
        "Range".into()
    }

    fn rules<'r, 'p: 'r, 's: 'r>(&'s self, s: &mut Solver<'r>, inputs: &'p [TensorProxy], outputs: &'p [TensorProxy]) -> InferenceResult {
        check_input_arity(inputs, 3)?;
        check_output_arity(outputs, 1)?;
        s.equals(&outputs[0].rank, 1)?;
        s.given_3(&inputs[0].rank, &inputs[1].rank, &inputs[2].rank, move |s, a, b, c| {
            if [a, b, c] == [0; 3] {
                return Range.rules(s, inputs, outputs);
            }
            s.given_3(&inputs[0].datum_type, &inputs[1].datum_type, &inputs[2].datum_type, move |s, a, b, c| {
                let datum = DatumType::super_type_for([a, b, c]).ok_or_else(|| TractError::msg("its inputs differ in type"))?;
                s.equals(&outputs[0].datum_type, if datum.is_tdim() { i64::datum_type() } else { datum })
            })
        })
    }

    fn wire(&self, prefix: &str, model: &mut TypedModel, inputs: &[OutletId]) -> TractResult<TVec<OutletId>> {
        let mut numbers = TVec::new();
        for (i, &input) in inputs.iter().enumerate() {
            let mut number = input;
            for axis in 0..model.outlet_fact(input)?.rank() {
                number = model.wire_node(format!("{prefix}.number-{i}-{axis}"), AxisOp::Rm(0), &[number])?[0];
            }
            numbers.push(number);
        }
        Range.wire(prefix, model, &numbers)
    }
}

fn prelu(context: &ParsingContext, node: &pb::NodeProto) -> Parsed {
    match context.onnx_operator_set_version {
        ..7 => Ok((expand(PreluOfChannels), vec![])),
        version => usual("PRelu", context, version, node),
    }
}

/// A `PRelu` with a slope for each element of axis 1, or one for all.
#[derive(Clone, Debug)]
struct PreluOfChannels;

impl Expansion for PreluOfChannels {
    fn name(&self) -> StaticName {
        "PRelu".into()
    }

    fn rules<'r, 'p: 'r, 's: 'r>(&'s self, s: &mut Solver<'r>, inputs: &'p [TensorProxy], outputs: &'p [TensorProxy]) -> InferenceResult {
        check_input_arity(inputs, 2)?;
        check_output_arity(outputs, 1)?;
        s.equals(&inputs[0].datum_type, &outputs[0].datum_type)?;
        s.equals(&inputs[0].shape, &outputs[0].shape)
    }

    fn wire(&self, prefix: &str, model: &mut TypedModel, inputs: &[OutletId]) -> TractResult<TVec<OutletId>> {
        let &[x, mut slope] = inputs else { return Err(TractError::msg("a PRelu has two inputs")) };
        let (rank, datum) = (model.outlet_fact(x)?.rank(), model.outlet_fact(x)?.datum_type);
        for axis in model.outlet_fact(slope)?.rank()..rank {
            // the batch axis goes before the channels; all other missing axes go after them
            let at = if axis + 1 == rank { 0 } else { axis };
            slope = model.wire_node(format!("{prefix}.slope-{axis}"), AxisOp::Add(at), &[slope])?[0];
        }
        let zero = tensor0(0.0f32).cast_to_dt(datum)?.into_owned().broadcast_into_rank(rank)?;
        let zero = model.add_const(format!("{prefix}.zero"), zero)?;
        let product = model.wire_node(format!("{prefix}.product"), mul(), &[x, slope])?[0];
        let negative = model.wire_node(format!("{prefix}.negative"), TypedBinOp(comp_gt(), None), &[zero, x])?[0];
        model.wire_node(prefix, Iff, &[negative, product, x])
    }
}

#[cfg(test)]
mod tests {
    use super::onnx;
    use crate::import::onnx::operators::ROWS;

    /// Every operator that tract can read has a row, and every row that is lowered can be read. The
    /// names without a row are of domains that are not read.
    #[test]
    fn the_table_and_the_reader_agree() {
        let register = onnx().op_register;
        let others = "Attention BiasGelu ConstantLike FastGelu GatherBlockQuantized GroupQueryAttention MatMulNBits MultiHeadAttention ParametricSoftplus \
                      QuickGelu RotaryEmbedding Rsqrt ScaledTanh SimplifiedLayerNormalization SkipLayerNormalization SkipSimplifiedLayerNormalization Swish";
        let known = |name: &str| ROWS.iter().any(|row| row.name == name) || others.split_whitespace().any(|other| other == name);
        let unlisted: Vec<_> = register.0.keys().filter(|name| !known(name)).collect();
        assert!(unlisted.is_empty(), "{unlisted:?} can be read and have no row");
        let unread: Vec<_> = ROWS.iter().filter(|row| row.refusal().is_none() && !register.0.contains_key(row.name)).collect();
        assert!(unread.is_empty(), "{unread:?} are lowered and cannot be read");
    }
}
