//! `AffineGrid`: the positions at which a spatial transformer samples, which are `theta` applied to
//! the middles of the elements of an image of known size.
//!
//! Coordinates run from -1 to 1, between the middles of the first and the last element of an axis
//! (`align_corners`) or between its edges. They are constants, so only a matrix product is left:
//! `[N, k, k + 1]` by `[points, k + 1]`, where the last coordinate of each point is 1.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb;
use tract_onnx::prelude::*;
use tract_onnx::tract_core::ops::einsum::EinSum;
use tract_onnx::tract_hir::internal::*;

use crate::import::onnx::limits;

/// Parses an `AffineGrid` node.
pub fn read(_: &ParsingContext, node: &pb::NodeProto) -> TractResult<(Box<dyn InferenceOp>, Vec<String>)> {
    let align_corners = node.attribute.iter().any(|a| a.name == "align_corners" && a.i != 0);
    Ok((expand(AffineGrid { align_corners }), vec![]))
}

#[derive(Clone, Debug)]
struct AffineGrid {
    align_corners: bool,
}

impl AffineGrid {
    /// The coordinate of element `i` of `extent`.
    fn coordinate(&self, i: usize, extent: usize) -> f32 {
        match (self.align_corners, extent) {
            (true, 0 | 1) => -1.0,
            (true, _) => 2.0 * i as f32 / (extent - 1) as f32 - 1.0,
            (false, _) => (2 * i + 1) as f32 / extent as f32 - 1.0,
        }
    }

    /// All points of an image of `extents`, the last axis fastest: the coordinates of each, last
    /// axis first, then a 1.
    fn points(&self, extents: &[usize]) -> TractResult<Tensor> {
        limits::table(&[extents, &[extents.len() + 1]].concat(), 4).map_err(TractError::msg)?;
        let count: usize = extents.iter().product();
        let mut values = Vec::with_capacity(count * (extents.len() + 1));
        for point in 0..count {
            let mut rest = point;
            for &extent in extents.iter().rev() {
                values.push(self.coordinate(rest % extent, extent));
                rest /= extent;
            }
            values.push(1.0);
        }
        Tensor::from_shape(&[count, extents.len() + 1], &values)
    }
}

/// The sizes of images: `[N, C, extents...]`.
fn sizes(tensor: &Tensor) -> TractResult<Vec<usize>> {
    let sizes = tensor.cast_to::<i64>()?;
    let sizes: Result<Vec<usize>, _> = sizes.try_as_plain_ram()?.as_slice::<i64>()?.iter().map(|&size| usize::try_from(size)).collect();
    let sizes = sizes.map_err(|_| TractError::msg("its size is negative"))?;
    if sizes.len() < 3 { Err(TractError::msg("its size must have three numbers or more")) } else { Ok(sizes) }
}

impl Expansion for AffineGrid {
    fn name(&self) -> StaticName {
        "AffineGrid".into()
    }

    fn rules<'r, 'p: 'r, 's: 'r>(&'s self, s: &mut Solver<'r>, inputs: &'p [TensorProxy], outputs: &'p [TensorProxy]) -> InferenceResult {
        check_input_arity(inputs, 2)?;
        check_output_arity(outputs, 1)?;
        s.equals(&inputs[0].datum_type, &outputs[0].datum_type)?;
        s.equals(&inputs[0].rank, 3)?;
        s.given(&inputs[1].value, move |s, size| {
            let sizes = sizes(&size)?;
            let (k, n) = (sizes.len() - 2, sizes[0]);
            s.equals(&inputs[0].shape, ShapeFactoid::from([n, k, k + 1].map(TDim::from)))?;
            let shape: Vec<TDim> = [&[n], &sizes[2..], &[k]].concat().into_iter().map(TDim::from).collect();
            s.equals(&outputs[0].shape, ShapeFactoid::from(shape))
        })
    }

    fn wire(&self, prefix: &str, model: &mut TypedModel, inputs: &[OutletId]) -> TractResult<TVec<OutletId>> {
        let size = model.outlet_fact(inputs[1])?.konst.clone().ok_or_else(|| TractError::msg("its size is not a constant"))?;
        let sizes = sizes(&size)?;
        let datum = model.outlet_fact(inputs[0])?.datum_type;
        let points = model.add_const(format!("{prefix}.points"), self.points(&sizes[2..])?.cast_to_dt(datum)?.into_owned())?;
        let product = EinSum::new("nij,pj->npi".parse()?, datum);
        let positions = model.wire_node(format!("{prefix}.positions"), product, &[inputs[0], points])?[0];
        let count: usize = sizes[2..].iter().product();
        let to: TVec<TDim> = sizes[2..].iter().map(|&size| size.to_dim()).collect();
        model.wire_node(prefix, AxisOp::Reshape(1, tvec![count.to_dim()], to), &[positions])
    }
}
