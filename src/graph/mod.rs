//! The computation graph: operators, the tensors between them, and nothing about GPUs.
//!
//! **In**: what `import` lowers and `fuse` rewrites. **Out**: a DAG with static shapes that keeps
//! the ONNX names, for every later pass. Two tables, indexed by id, own everything:
//! [`Graph::operators`] and [`Graph::tensors`]. [`Graph::dag`] gives the same graph to petgraph's
//! algorithms.
//!
//! A tensor is an input, a constant, the result of an operator, or a *view*: the same bytes as
//! another tensor under another shape. Views cost nothing: they have no operator, and
//! [`Graph::root`] gives the tensor that owns the bytes. A *slice* is a view of some of the bytes.
//! A tensor may also be *joined*: the bytes of several results, one after the other. Plans lay out
//! these results side by side wherever the whole is read; [`Graph::parts`] gives them.
//!
//! `verify.rs` lists the rules that [`Graph::verify`] checks; `text.rs` has the text form.

mod expr;
mod op;
mod order;
mod text;
mod value;
mod verify;

use petgraph::graph::DiGraph;

pub use expr::{Binary, Expr, Unary};
pub use op::*;
pub use value::{Constant, Scalar, Values};

use crate::ids::{OpId, TensorId};
pub use crate::runtime::DType;
use verify::BYTE_LIMIT;

/// Where a tensor's values come from.
#[derive(Clone, Debug, PartialEq)]
pub enum Origin {
    /// An input of the model.
    Input,
    /// Known at compile time (weights).
    Constant(Constant),
    /// An output of this operator.
    Operator(OpId),
    /// The same bytes as another tensor, under this tensor's shape.
    View(TensorId),
    /// Consecutive elements of another tensor, under this tensor's shape.
    Slice {
        /// The other tensor: an input, or the result of an operator, or a view or slice of one.
        of: TensorId,
        /// Index of the first element in the other tensor, at a multiple of [`PART_ALIGNMENT`]
        /// bytes.
        begin: u64,
    },
    /// The bytes of these tensors, one after the other. They are two or more results of operators,
    /// each a part of at most one joined tensor. All but the first begin at a multiple of
    /// [`PART_ALIGNMENT`] bytes.
    Joined(Vec<TensorId>),
}

/// Alignment of a slice and of the parts of a joined tensor, in bytes: kernels move 16 bytes at
/// once.
pub const PART_ALIGNMENT: u64 = 16;

/// A tensor with a static shape.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// The ONNX name, which every pass keeps.
    pub name: String,
    /// Element type.
    pub dtype: DType,
    /// Extent of each axis, outermost first; empty for a scalar.
    pub shape: Vec<usize>,
    /// Where the values come from.
    pub origin: Origin,
}

impl Tensor {
    /// Number of elements.
    pub fn elements(&self) -> u64 {
        self.shape.iter().map(|&d| d as u64).product()
    }

    /// Size in bytes.
    pub fn bytes(&self) -> u64 {
        self.elements() * self.dtype.bytes()
    }

    /// `1x64x55x55`, or `scalar`.
    pub fn shape_text(&self) -> String {
        shape_text(&self.shape)
    }
}

/// `1x64x55x55`, or `scalar` for rank 0.
pub fn shape_text(shape: &[usize]) -> String {
    if shape.is_empty() {
        return "scalar".into();
    }
    shape.iter().map(|d| d.to_string()).collect::<Vec<_>>().join("x")
}

/// A value of the ONNX model, and the tensor that holds it: what a tensor can be compared with. A
/// tensor without one has only a name, which says where it comes from, but not what it holds.
#[derive(Clone, Debug, PartialEq)]
pub struct OnnxValue {
    /// Its name in the model.
    pub name: String,
    /// Its shape in the model. The tensor may have another one, for the same bytes.
    pub shape: Vec<usize>,
    /// The tensor that holds it; if it is `absorbed`, the one that its operator now computes.
    pub tensor: TensorId,
    /// Whether it exists nowhere: a fused operator computes it on the way to its result.
    pub absorbed: bool,
}

/// One computation: what it computes, from which tensors, and into which.
#[derive(Clone, Debug, PartialEq)]
pub struct Operator {
    /// Name of the ONNX node it came from (the first one, if several were fused).
    pub name: String,
    /// What it computes.
    pub kind: OpKind,
    /// Tensors read, in the order `kind` documents.
    pub inputs: Vec<TensorId>,
    /// Tensors written.
    pub outputs: Vec<TensorId>,
}

/// A model as hiosc compiles it. The table of operators may be in any order;
/// [`Graph::topological_order`] fixes one.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Graph {
    /// The model's name (the file stem).
    pub name: String,
    /// All tensors.
    pub tensors: Vec<Tensor>,
    /// All operators.
    pub operators: Vec<Operator>,
    /// The model's inputs, in ONNX order.
    pub inputs: Vec<TensorId>,
    /// The model's outputs, in ONNX order.
    pub outputs: Vec<TensorId>,
    /// The values of the model that are known to be in a tensor, or to be absorbed, by name.
    pub values: Vec<OnnxValue>,
}

impl Graph {
    /// The tensor `id`.
    pub fn tensor(&self, id: TensorId) -> &Tensor {
        &self.tensors[id.index()]
    }

    /// The operator `id`.
    pub fn operator(&self, id: OpId) -> &Operator {
        &self.operators[id.index()]
    }

    /// All operator ids, ascending.
    pub fn op_ids(&self) -> impl DoubleEndedIterator<Item = OpId> + ExactSizeIterator + use<> {
        (0..self.operators.len()).map(OpId::new)
    }

    /// All tensor ids, ascending.
    pub fn tensor_ids(&self) -> impl DoubleEndedIterator<Item = TensorId> + ExactSizeIterator + use<> {
        (0..self.tensors.len()).map(TensorId::new)
    }

    /// Adds a tensor.
    pub fn add_tensor(&mut self, tensor: Tensor) -> TensorId {
        self.tensors.push(tensor);
        TensorId::new(self.tensors.len() - 1)
    }

    /// Adds an operator and makes it the origin of its outputs.
    pub fn add_operator(&mut self, operator: Operator) -> OpId {
        let id = OpId::new(self.operators.len());
        for &t in &operator.outputs {
            self.tensors[t.index()].origin = Origin::Operator(id);
        }
        self.operators.push(operator);
        id
    }

    /// The tensor that owns the bytes of `id`, or the joined tensor whose parts own them. Follows
    /// views and slices.
    pub fn root(&self, mut id: TensorId) -> TensorId {
        while let Origin::View(of) | Origin::Slice { of, .. } = self.tensor(id).origin {
            id = of;
        }
        id
    }

    /// The index in its root of the first element of `id`: 0, unless `id` is a slice or a view of
    /// one.
    pub fn begin(&self, mut id: TensorId) -> u64 {
        let mut elements = 0;
        loop {
            match self.tensor(id).origin {
                Origin::View(of) => id = of,
                Origin::Slice { of, begin } => (id, elements) = (of, elements + begin),
                _ => return elements,
            }
        }
    }

    /// The tensors that own the bytes of `id`, in order: its root, or the parts of a joined one.
    pub fn parts(&self, id: TensorId) -> Vec<TensorId> {
        let root = self.root(id);
        match &self.tensor(root).origin {
            Origin::Joined(parts) => parts.clone(),
            _ => vec![root],
        }
    }

    /// The operators that compute `id` or its parts, views followed; none for inputs and constants.
    pub fn producers(&self, id: TensorId) -> impl Iterator<Item = OpId> {
        self.parts(id).into_iter().filter_map(|part| self.producer(part))
    }

    /// The operator that computes `id`, views followed; `None` for inputs and constants, and for
    /// joined tensors.
    pub fn producer(&self, id: TensorId) -> Option<OpId> {
        match self.tensor(self.root(id)).origin {
            Origin::Operator(op) => Some(op),
            _ => None,
        }
    }

    /// The values of `id`, if they are known at compile time (views followed).
    pub fn constant(&self, id: TensorId) -> Option<&Constant> {
        match &self.tensor(self.root(id)).origin {
            Origin::Constant(c) => Some(c),
            _ => None,
        }
    }

    /// The f32 values of `id`, if they are known at compile time.
    pub fn constant_f32(&self, id: TensorId) -> Option<&Values<f32>> {
        self.constant(id)?.f32()
    }

    /// For each tensor that owns bytes, the operators that read it, a view of it, or a tensor of
    /// which it is a part, ascending and without repeats. Indexed by tensor.
    pub fn consumers(&self) -> Vec<Vec<OpId>> {
        let mut consumers = vec![Vec::new(); self.tensors.len()];
        for op in self.op_ids() {
            for part in self.operator(op).inputs.iter().flat_map(|&t| self.parts(t)) {
                let list: &mut Vec<OpId> = &mut consumers[part.index()];
                if list.last() != Some(&op) {
                    list.push(op);
                }
            }
        }
        consumers
    }

    /// Operators and the tensors between them for petgraph's algorithms: node index = operator
    /// index, edge weight = the tensor that owns the bytes.
    pub fn dag(&self) -> DiGraph<OpId, TensorId> {
        let mut dag = DiGraph::with_capacity(self.operators.len(), self.tensors.len());
        let nodes: Vec<_> = self.op_ids().map(|op| dag.add_node(op)).collect();
        for op in self.op_ids() {
            for part in self.operator(op).inputs.iter().flat_map(|&t| self.parts(t)) {
                if let Some(from) = self.producer(part) {
                    dag.add_edge(nodes[from.index()], nodes[op.index()], part);
                }
            }
        }
        dag
    }
}
