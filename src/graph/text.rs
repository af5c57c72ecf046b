//! The text form of a graph (`--emit graph`): inputs, then operators in topological order, then outputs. One line each, names at the end.
//!
//! ```text
//! graph squeezenet1_1: 30 operators, 1235496 weights
//! input  t0 f32 1x3x224x224  "input"
//! %0     conv 3x3 stride 2x2 bias epilogue relu(x0) (t0, w1, w2) -> t3 f32 1x64x111x111  "/features/features.0/Conv"
//! output t93 f32 1x1000 = view of t92  "output"
//! ```
//!
//! Constants are `w`, other tensors `t`; both number the tensor table. `t5 + t9` are tensors that lie side by side and are read as one, `t5[64..128]`
//! are elements of one.

use std::fmt::{self, Display, Formatter};

use super::{Graph, OpKind, Origin, PadMode, ReduceKind, shape_text};
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

    /// How an operator names what it reads: a tensor that is computed elsewhere by its number, a joined one, which nothing computes, by its parts, and a slice by its
    /// source and its elements there.
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

    /// `t5 f32 1x3x4x4`, with `= view of t3` where it is one.
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

/// ` word AxB` unless both are `neutral`.
fn pair(f: &mut Formatter<'_>, word: &str, value: [usize; 2], neutral: usize) -> fmt::Result {
    if value != [neutral; 2] { write!(f, " {word} {}x{}", value[0], value[1]) } else { Ok(()) }
}

/// ` pads top,left:bottom,right` unless all are zero.
fn pads(f: &mut Formatter<'_>, begin: [usize; 2], end: [usize; 2]) -> fmt::Result {
    if begin == [0; 2] && end == [0; 2] {
        return Ok(());
    }
    write!(f, " pads {},{}:{},{}", begin[0], begin[1], end[0], end[1])
}

impl Display for OpKind {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if let OpKind::Index(index) = self {
            return write!(f, "{index}");
        }
        write!(f, "{}", self.name())?;
        match self {
            OpKind::Conv(c) => {
                write!(f, " {}x{}", c.kernel[0], c.kernel[1])?;
                pair(f, "stride", c.strides, 1)?;
                pair(f, "dilation", c.dilations, 1)?;
                pads(f, c.pads_begin, c.pads_end)?;
                if c.groups != 1 {
                    write!(f, " groups {}", c.groups)?;
                }
                if c.bias {
                    write!(f, " bias")?;
                }
                if !c.epilogue.is_identity() {
                    write!(f, " epilogue {}", c.epilogue)?;
                }
            }
            OpKind::Pool(p) => {
                write!(f, " {} {}x{}", p.kind, p.kernel[0], p.kernel[1])?;
                pair(f, "stride", p.strides, 1)?;
                pair(f, "dilation", p.dilations, 1)?;
                pads(f, p.pads_begin, p.pads_end)?;
            }
            OpKind::MatMul(m) => {
                write!(f, " {}: {}x{}x{}", m.batch, m.m, m.k, m.n)?;
                if m.bias {
                    write!(f, " bias")?;
                }
                if !m.epilogue.is_identity() {
                    write!(f, " epilogue {}", m.epilogue)?;
                }
            }
            OpKind::Reduce(r) => {
                let kind = match r.kind {
                    ReduceKind::Sum => "sum",
                    ReduceKind::Mean => "mean",
                    ReduceKind::Max => "max",
                    ReduceKind::Min => "min",
                    ReduceKind::Product => "product",
                    ReduceKind::ArgMax { last: false } => "argmax",
                    ReduceKind::ArgMax { last: true } => "argmax last",
                    ReduceKind::ArgMin { last: false } => "argmin",
                    ReduceKind::ArgMin { last: true } => "argmin last",
                };
                write!(f, " {kind} axes {:?}", r.axes)?;
            }
            OpKind::Elementwise(e) => write!(f, " {}", e.expr)?,
            OpKind::Softmax { axis } | OpKind::LogSoftmax { axis } | OpKind::Concat { axis } => write!(f, " axis {axis}")?,
            OpKind::ConvNd(c) => write!(f, "{c}")?,
            OpKind::PoolNd(p) => write!(f, "{p}")?,
            OpKind::PoolIndices(p) => write!(f, "{p}")?,
            OpKind::Trilu(t) => write!(f, "{t}")?,
            OpKind::Norm(n) => write!(f, "{n}")?,
            OpKind::Lrn(l) => write!(f, "{l}")?,
            OpKind::GridSample(g) => write!(f, "{g}")?,
            OpKind::Resample(r) => write!(f, "{r}")?,
            OpKind::Attention(a) => write!(f, "{a}")?,
            OpKind::Transpose { permutation } => write!(f, " {permutation:?}")?,
            OpKind::Slice(s) => {
                write!(f, " from {:?}", s.begin)?;
                if s.step.iter().any(|&step| step != 1) {
                    write!(f, " step {:?}", s.step)?;
                }
            }
            OpKind::Pad(p) => {
                match p.mode {
                    PadMode::Constant(value) => write!(f, " with {value}")?,
                    PadMode::Reflect => write!(f, " reflect")?,
                    PadMode::Edge => write!(f, " edge")?,
                }
                write!(f, " before {:?} after {:?}", p.before, p.after)?;
            }
            OpKind::CumSum(s) => {
                let (exclusive, reverse) = (if s.exclusive { " exclusive" } else { "" }, if s.reverse { " reverse" } else { "" });
                write!(f, " axis {}{exclusive}{reverse}", s.axis)?;
            }
            OpKind::Cell(cell) => write!(f, " {}", cell.name())?,
            OpKind::Index(_) | OpKind::Reshape => {}
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
