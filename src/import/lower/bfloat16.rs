//! Values that are bfloat16 in memory, and f32 for the nodes that read them.

use tract_onnx::prelude::*;
use tract_onnx::tract_core::ops::element_wise::ElementWiseOp;

use super::{Lowering, Reason};
use crate::graph::{DType, Elementwise, Expr, OpKind, Tensor};
use crate::ids::TensorId;
use crate::import::tract::bfloat16::RoundToBfloat16;

impl Lowering<'_> {
    /// Lowers `node` if it rounds to bfloat16.
    pub(super) fn bfloat16(&mut self, node: &TypedNode) -> Result<bool, Reason> {
        if !node.op_as::<ElementWiseOp>().is_some_and(|op| op.0.is::<RoundToBfloat16>()) {
            return Ok(false);
        }
        let output = self.output(node)?;
        let name = self.operator_name(node);
        let narrow = self.converted(&name, self.inputs(node)[0], Tensor { dtype: DType::BF16, ..output.clone() });
        let wide = self.widened(&name, narrow, output);
        self.tensors.insert(node.id.into(), wide);
        Ok(true)
    }

    /// The bfloat16 tensor `narrow` as f32, for what is called `name`. `wide` is its description.
    pub(super) fn widened(&mut self, name: &str, narrow: TensorId, wide: Tensor) -> TensorId {
        let wide = Tensor { name: format!("{}.f32", wide.name), ..wide };
        self.converted(&format!("{name}.f32"), narrow, wide)
    }

    /// The f32 tensor `wide`, whose values bfloat16 can hold, as bfloat16, for what is called
    /// `name`.
    pub(super) fn narrowed(&mut self, name: &str, wide: TensorId) -> TensorId {
        if let Some(operator) = self.graph.producer(wide).map(|op| self.graph.operator(op))
            && let OpKind::Elementwise(Elementwise { expr: Expr::Cast(DType::F32, _) }) = operator.kind
            && self.graph.tensor(operator.inputs[0]).dtype == DType::BF16
        {
            return operator.inputs[0];
        }
        let narrow = Tensor { name: name.into(), dtype: DType::BF16, ..self.graph.tensor(wide).clone() };
        self.converted(name, wide, narrow)
    }

    fn converted(&mut self, name: &str, from: TensorId, to: Tensor) -> TensorId {
        let kind = OpKind::Elementwise(Elementwise { expr: Expr::identity().cast(to.dtype) });
        self.add(name.into(), kind, vec![from], to)
    }
}
