//! Triangles: `Trilu`, a choice by a constant mask, and running sums.

use tract_onnx::prelude::*;
use tract_onnx::tract_core::ops::array::{CumSum as TractCumSum, Trilu};

use super::lower::{Lowering, Reason};
use crate::graph::{Constant, CumSum, DType, Elementwise, Expr, OpKind, Origin, Scalar, Tensor};
use crate::ids::TensorId;

impl Lowering<'_> {
    /// Lowers `node` if it is one of this module's; tells whether it was.
    pub(super) fn triangle(&mut self, node: &TypedNode, inputs: &[TensorId], output: &Tensor) -> Result<bool, Reason> {
        if let Some(op) = node.op_as::<TractCumSum>() {
            let kind = OpKind::CumSum(CumSum { axis: op.axis, exclusive: op.exclusive, reverse: op.reverse });
            self.finish(node, kind, vec![inputs[0]], output.clone());
        } else if let (Some(op), &[x, diagonal]) = (node.op_as::<Trilu>(), inputs) {
            let Some(&Constant::I64(ref diagonal)) = self.graph.constant(diagonal) else {
                return Err("its diagonal is not constant".into());
            };
            let mask = self.mask(node, op.upper, diagonal.first().copied().unwrap_or(0), &output.shape)?;
            let expr = Expr::select(Expr::Input(0), Expr::Input(1), Expr::Const(Scalar::from_f64(output.dtype, 0.0)));
            self.finish(node, OpKind::Elementwise(Elementwise { expr }), vec![mask, x], output.clone());
        } else {
            return Ok(false);
        }
        Ok(true)
    }

    /// True in the upper (lower) triangle of the last two axes, counted from the `diagonal`-th.
    fn mask(&mut self, node: &TypedNode, upper: bool, diagonal: i64, shape: &[usize]) -> Result<TensorId, Reason> {
        let &[.., rows, columns] = shape else { return Err("a triangle needs two axes".into()) };
        let inside = |row: usize, column: usize| {
            let distance = column as i64 - row as i64;
            if upper { distance >= diagonal } else { distance <= diagonal }
        };
        let values = (0..rows * columns).map(|i| inside(i / columns, i % columns));
        let origin = Origin::Constant(Constant::Bool(values.collect()));
        let mut shape = vec![1; shape.len() - 2];
        shape.extend([rows, columns]);
        Ok(self.graph.add_tensor(Tensor { name: format!("{}.mask", self.operator_name(node)), dtype: DType::Bool, shape, origin }))
    }
}
