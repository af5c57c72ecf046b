//! Operators that tract's ONNX reader does not know, or not in every form, expressed in those that
//! it knows.
//!
//! * `Squeeze` without axes, below opset 13, drops every axis of size 1.
//! * `Upsample`, which opset 10 renamed, is read as a `Resize` of that opset; its scales are an
//!   attribute up to opset 8.
//! * `Resize` of opset 10 has no attribute for the nearest element: it rounds down, or up if an
//!   axis shrinks, as in ONNX Runtime.
//! * `PRelu` below opset 7 has a slope for each channel, not one that broadcasts to the last axis.
//! * `BatchNormalization` in training mode is refused: it has other outputs, and takes its mean
//!   from the batch.
//! * The axis of `LayerNormalization`, `RMSNormalization` and `OneHot` is compared with the rank:
//!   tract loops up to it, which takes forever if it is negative beyond the rank.

use std::sync::OnceLock;

use tract_onnx::Onnx;
use tract_onnx::model::ParsingContext;
use tract_onnx::pb::{self, attribute_proto::AttributeType};
use tract_onnx::prelude::*;
use tract_onnx::tract_core::ops::binary::TypedBinOp;
use tract_onnx::tract_core::ops::logic::{Iff, comp_gt};
use tract_onnx::tract_core::ops::math::mul;
use tract_onnx::tract_core::ops::nn::resize::{CoordTransformer, Interpolator};
use tract_onnx::tract_hir::internal::*;
use tract_onnx_opl::resize::{AspectRatio, CoordTransform, Nearest, Resize};

use super::{affine_grid, bfloat16, checked};
use crate::import::define;

/// tract's reader of ONNX, as hiosc uses it: with definitions, with readers of our own, and with
/// checks of every node.
pub fn onnx() -> Onnx {
    let mut onnx = base().clone();
    for definition in define::DEFINITIONS.iter().flat_map(|group| group.iter()) {
        onnx.op_register.insert(definition.operator, checked::read);
    }
    onnx.op_register.0.values_mut().for_each(|reader| *reader = checked::read);
    onnx
}

/// Operators that tract knows without their domains. Those of `com.microsoft` that are supported
/// have definitions.
const OTHER_DOMAINS: [&str; 21] = [
    "ArrayFeatureExtractor",
    "BiasGelu",
    "CategoryMapper",
    "ConstantLike",
    "FastGelu",
    "GatherBlockQuantized",
    "GroupQueryAttention",
    "LinearClassifier",
    "LinearRegressor",
    "MatMulNBits",
    "MultiHeadAttention",
    "Normalizer",
    "ParametricSoftplus",
    "QuickGelu",
    "Rsqrt",
    "ScaledTanh",
    "SimplifiedLayerNormalization",
    "SkipLayerNormalization",
    "SkipSimplifiedLayerNormalization",
    "TreeEnsembleClassifier",
    "TreeEnsembleRegressor",
];

/// tract's reader with our own readers of single operators.
fn base() -> &'static Onnx {
    static BASE: OnceLock<Onnx> = OnceLock::new();
    BASE.get_or_init(own)
}

fn own() -> Onnx {
    let mut onnx = tract_onnx::onnx().with_ignore_output_shapes(true).with_ignore_output_types(true).with_ignore_value_info(true);
    onnx.op_register.0.retain(|name, _| !OTHER_DOMAINS.contains(&name.as_str()));
    onnx.op_register.insert(define::AS_READ, as_read);
    onnx.op_register.insert(crate::import::onnx::bfloat16::ROUND, bfloat16::read);
    onnx.op_register.insert("AffineGrid", affine_grid::read);
    onnx.op_register.insert("ai.onnx.ml.ArrayFeatureExtractor", |context, node| {
        as_tract("ArrayFeatureExtractor", context, context.onnx_operator_set_version, node)
    });
    onnx.op_register.insert("BatchNormalization", batch_normalisation);
    onnx.op_register.insert("LayerNormalization", |context, node| axis_in_rank(context, node, 0));
    onnx.op_register
        .insert("Loop", |_, _| bail!("the number of its steps must be known when the model is compiled, and its condition must stay true"));
    onnx.op_register.insert("OneHot", |context, node| axis_in_rank(context, node, 1));
    onnx.op_register.insert("PRelu", prelu);
    onnx.op_register.insert("RMSNormalization", |context, node| axis_in_rank(context, node, 0));
    onnx.op_register.insert("Resize", resize);
    onnx.op_register.insert("Squeeze", squeeze);
    onnx.op_register.insert("Upsample", upsample);
    onnx
}

/// What a reader makes of a node.
pub type Parsed = TractResult<(Box<dyn InferenceOp>, Vec<String>)>;

/// Reads `node` without its definition.
pub fn usual(context: &ParsingContext, node: &pb::NodeProto) -> Parsed {
    let reader = base().op_register.0.get(&node.op_type).copied();
    reader.ok_or_else(|| TractError::msg("this form of it is not supported"))?(context, node)
}

/// Reads a node of a definition as the operator and opset that it names.
fn as_read(context: &ParsingContext, node: &pb::NodeProto) -> Parsed {
    let mut node = node.clone();
    let mut taken = |name: &str| {
        let position = node.attribute.iter().position(|attribute| attribute.name == name);
        position.map(|position| node.attribute.remove(position)).unwrap_or_default()
    };
    let (operator, version) = (taken(define::OPERATOR), taken(define::VERSION).i);
    node.op_type = String::from_utf8_lossy(&operator.s).into_owned();
    usual(&ParsingContext { onnx_operator_set_version: version, ..context.clone() }, &node)
}

/// Reads `node` as tract reads an operator `name` at opset `version`.
fn as_tract(name: &str, context: &ParsingContext, version: i64, node: &pb::NodeProto) -> Parsed {
    let reader = tract_onnx::onnx().op_register.0.get(name).copied().ok_or_else(|| TractError::msg(format!("tract has no {name}")))?;
    reader(&ParsingContext { onnx_operator_set_version: version, ..context.clone() }, node)
}

/// Reads `node` as tract does, but fails if its axis is not one of its input or of `added` new
/// ones.
fn axis_in_rank(context: &ParsingContext, node: &pb::NodeProto, added: i64) -> Parsed {
    let (op, outputs) = as_tract(&node.op_type, context, context.onnx_operator_set_version, node)?;
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
    as_tract("Squeeze", context, version, node)
}

fn batch_normalisation(context: &ParsingContext, node: &pb::NodeProto) -> Parsed {
    if node.attribute.iter().any(|a| a.name == "training_mode" && a.i != 0) {
        return Err(TractError::msg("it is in training mode: export the model for inference"));
    }
    as_tract("BatchNormalization", context, context.onnx_operator_set_version, node)
}

fn resize(context: &ParsingContext, node: &pb::NodeProto) -> Parsed {
    let version = context.onnx_operator_set_version;
    if version != 10 {
        return as_tract("Resize", context, version, node);
    }
    let mut node = node.clone();
    node.attribute.push(nearest(context, node.input.get(1)));
    as_tract("Resize", context, 10, &node)
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
        return as_tract("Resize", context, 10, &node);
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

fn prelu(context: &ParsingContext, node: &pb::NodeProto) -> Parsed {
    match context.onnx_operator_set_version {
        ..7 => Ok((expand(PreluOfChannels), vec![])),
        version => as_tract("PRelu", context, version, node),
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

    /// Every operator that can be read has a row, and every row that is lowered can be read.
    #[test]
    fn the_table_and_the_reader_agree() {
        let register = onnx().op_register;
        let known = |name: &str| name.starts_with("hiosc.") || ROWS.iter().any(|row| row.full_name() == name);
        let unlisted: Vec<_> = register.0.keys().filter(|name| !known(name)).collect();
        assert!(unlisted.is_empty(), "{unlisted:?} can be read and have no row");
        let unread: Vec<_> = ROWS.iter().filter(|row| row.refusal().is_none() && !register.0.contains_key(&row.full_name())).collect();
        assert!(unread.is_empty(), "{unread:?} are lowered and cannot be read");
    }
}
