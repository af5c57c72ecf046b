//! The text form of a graph (`--emit graph`): inputs, then operators in topological order, then
//! outputs. One line each, names at the end.
//!
//! ```text
//! graph squeezenet1_1: 30 operators, 1235496 weights
//! input  t0 f32 1x3x224x224  "input"
//! %0     conv 3x3 stride 2x2 bias epilogue relu(x0) (t0, w1, w2) -> t3 f32 1x64x111x111  "/features/features.0/Conv"
//! output t93 f32 1x1000 = view of t92  "output"
//! ```
//!
//! A constant is `w`, any other tensor `t`; the number is its index in the tensor table. `t5 + t9`
//! are adjacent tensors that are read as one; `t5[64..128]` is a slice.

use std::fmt::{self, Display, Formatter};

use super::{Graph, Origin, shape_text};
use crate::ids::{OpId, TensorId};

impl Graph {
    /// The attributes of an operator in words: `conv 3x3 stride 2x2 epilogue relu(x0)`.
    pub fn describe(&self, op: OpId) -> String {
        self.operator(op).kind.to_string()
    }

    /// The ONNX names of operators.
    pub fn names(&self, operators: &[OpId]) -> Vec<&str> {
        operators.iter().map(|&op| self.operator(op).name.as_str()).collect()
    }

    /// Elements of all constants that operators read, views counted once.
    pub fn weight_elements(&self) -> u64 {
        let mut roots: Vec<TensorId> =
            self.operators.iter().flat_map(|op| &op.inputs).filter(|&&t| self.constant(t).is_some()).map(|&t| self.root(t)).collect();
        roots.sort();
        roots.dedup();
        roots.into_iter().map(|t| self.tensor(t).elements()).sum()
    }

    /// The text of an operand: the parts of a joined tensor, the source and range of a slice, the
    /// number of any other tensor.
    fn operand(&self, id: TensorId) -> String {
        let root = self.root(id);
        match &self.tensor(root).origin {
            Origin::Joined(parts) => parts.iter().map(|&t| self.reference(t)).collect::<Vec<_>>().join(" + "),
            _ if self.tensor(id).elements() < self.tensor(root).elements() => {
                let begin = self.begin(id);
                format!("{}[{begin}..{}]", self.reference(root), begin + self.tensor(id).elements())
            }
            _ => self.reference(id),
        }
    }

    fn reference(&self, id: TensorId) -> String {
        let letter = if self.constant(id).is_some() { 'w' } else { 't' };
        format!("{letter}{}", id.0)
    }

    /// `t5 f32 1x3x4x4`, with `= view of t3` if it is a view.
    fn definition(&self, id: TensorId) -> String {
        let tensor = self.tensor(id);
        let view = match tensor.origin {
            Origin::View(of) => format!(" = view of {}", self.reference(of)),
            _ => String::new(),
        };
        format!("{} {} {}{view}", self.reference(id), tensor.dtype.name(), tensor.shape_text())
    }
}

impl Display for Graph {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "graph {}: {} operators, {} weights", self.name, self.operators.len(), self.weight_elements())?;
        for &t in &self.inputs {
            writeln!(f, "input  {}  {:?}", self.definition(t), self.tensor(t).name)?;
        }
        let order = self.topological_order().unwrap_or_else(|| self.op_ids().collect());
        for op in order {
            let operator = self.operator(op);
            let inputs: Vec<_> = operator.inputs.iter().map(|&t| self.operand(t)).collect();
            let outputs: Vec<_> = operator.outputs.iter().map(|&t| self.definition(t)).collect();
            let op = op.to_string();
            writeln!(f, "{op:6} {} ({}) -> {}  {:?}", operator.kind, inputs.join(", "), outputs.join(", "), operator.name)?;
        }
        for &t in &self.outputs {
            writeln!(f, "output {}  {:?}", self.definition(t), self.tensor(t).name)?;
        }
        Ok(())
    }
}

/// For error texts: `1x3x224x224 "input"`.
impl Display for super::Tensor {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}", shape_text(&self.shape), self.name)
    }
}
