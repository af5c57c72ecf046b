//! Reductions: tract's `Reduce` becomes ours. A mean of squares becomes two operators.

use tract_onnx::prelude::*;
use tract_onnx::tract_core::ops::nn::{Reduce as TractReduce, Reducer};

use super::{Lowering, Reason};
use crate::graph::{Elementwise, Expr, OpKind, Reduce, ReduceKind, Tensor, Unary};
use crate::ids::TensorId;

impl Lowering<'_> {
    /// Lowers `node` if it is a reduction; returns whether it was.
    pub(super) fn reduce(&mut self, node: &TypedNode) -> Result<bool, Reason> {
        let Some(op) = node.op_as::<TractReduce>() else { return Ok(false) };
        let (x, output) = (self.inputs(node)[0], self.output(node)?);
        let mut axes = op.axes.to_vec();
        axes.sort_unstable();
        let kind = match op.reducer {
            Reducer::Sum => ReduceKind::Sum,
            Reducer::Max | Reducer::Any => ReduceKind::Max,
            Reducer::Min | Reducer::All => ReduceKind::Min,
            Reducer::Prod => ReduceKind::Product,
            Reducer::MeanOfSquares => {
                self.mean_of_squares(node, x, axes, output);
                return Ok(true);
            }
            Reducer::ArgMax(last) => ReduceKind::ArgMax { last },
            Reducer::ArgMin(last) => ReduceKind::ArgMin { last },
        };
        self.finish(node, OpKind::Reduce(Reduce { kind, axes }), vec![x], output);
        Ok(true)
    }

    /// The mean of the squares of `x` along `axes`, into `output`.
    fn mean_of_squares(&mut self, node: &TypedNode, x: TensorId, axes: Vec<usize>, output: Tensor) {
        let squares = Tensor { name: format!("{}.squares", output.name), shape: self.graph.tensor(x).shape.clone(), ..output.clone() };
        self.finish(node, OpKind::Elementwise(Elementwise { expr: Expr::identity().then(Unary::Square) }), vec![x], squares);
        let squares = self.tensors[&node.id.into()];
        self.finish(node, OpKind::Reduce(Reduce { kind: ReduceKind::Mean, axes }), vec![squares], output);
    }
}
