//! The rounding to bfloat16 that stands behind each node with such a result (see
//! `onnx/bfloat16.rs`).

use tract_onnx::model::ParsingContext;
use tract_onnx::pb;
use tract_onnx::prelude::*;
use tract_onnx::tract_core::ops::element_wise::{ElementWiseMiniOp, ElementWiseOp};
use tract_onnx::tract_core::ops::identity::Identity;
use tract_onnx::tract_hir::internal::*;

use super::readers::Parsed;
use crate::runtime::{bf16_to_f32, f32_to_bf16};

/// Rounds each number to the nearest bfloat16, which stays an f32.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoundToBfloat16;

impl ElementWiseMiniOp for RoundToBfloat16 {
    fn name(&self) -> String {
        "RoundToBfloat16".into()
    }

    fn eval_in_place(&self, tensor: &mut Tensor, _: Option<DatumType>) -> TractResult<()> {
        let mut tensor = tensor.try_as_plain_ram_mut()?;
        tensor.as_slice_mut::<f32>()?.iter_mut().for_each(|value| *value = bf16_to_f32(f32_to_bf16(*value)));
        Ok(())
    }
}

/// Reads a rounding.
pub fn read(_: &ParsingContext, _: &pb::NodeProto) -> Parsed {
    Ok((expand(Rounding), vec![]))
}

/// Rounds f32; other types pass.
#[derive(Clone, Debug)]
struct Rounding;

impl Expansion for Rounding {
    fn name(&self) -> StaticName {
        "Rounding".into()
    }

    fn rules<'r, 'p: 'r, 's: 'r>(&'s self, s: &mut Solver<'r>, inputs: &'p [TensorProxy], outputs: &'p [TensorProxy]) -> InferenceResult {
        check_input_arity(inputs, 1)?;
        check_output_arity(outputs, 1)?;
        s.equals(&inputs[0].datum_type, &outputs[0].datum_type)?;
        s.equals(&inputs[0].shape, &outputs[0].shape)
    }

    fn wire(&self, prefix: &str, model: &mut TypedModel, inputs: &[OutletId]) -> TractResult<TVec<OutletId>> {
        match model.outlet_fact(inputs[0])?.datum_type {
            DatumType::F32 => model.wire_node(prefix, ElementWiseOp(Box::new(RoundToBfloat16), None), inputs),
            _ => model.wire_node(prefix, Identity, inputs),
        }
    }
}
