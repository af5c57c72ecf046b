//! From tract's core operators to ours.
//!
//! Each node is translated alone; what cannot be is collected, and all of it is reported in one [`Error::Unsupported`]. Names: a tensor has
//! its ONNX name where tract kept it, else the name of its node.
//!
//! What arrives, and what it becomes:
//!
//! | tract | ours |
//! |---|---|
//! | `Conv` (1-D and 2-D, NCHW, OIHW) | `Conv`; one axis is added to a 1-D one by views |
//! | `MaxPool`, `SumPool {normalize}` | `Pool` |
//! | `Conv`, `Deconv`, `MaxPool`, `SumPool` over other numbers of axes | `ConvNd`, `PoolNd` (see `window.rs`) |
//! | `EinSum` | `MatMul`, its axes sorted into batch, m, n, k; reductions, transpositions and products beside it (see `einsum.rs`) |
//! | `RmsNorm`, `Lrn`, `GridSample`, `SDPA`, `Softmax` | one operator each (see `dense.rs`, `attention.rs`) |
//! | quantised `Conv` and `EinSum`, conversions | the same on integers, between `Elementwise` (see `quantised.rs`) |
//! | `Reduce<Sum, Max, Min, Prod, MeanOfSquares>` | `Reduce`, the last behind a square |
//! | `Resize` | `Resample` over the axes that change (see `resize.rs`) |
//! | binary and elementwise ones, `Iff`, `Cast` | `Elementwise` (see `scalar.rs`); an operand with one constant value moves into the expression |
//! | `TypedConcat` | `Concat` |
//! | `AxisOp` that keeps the order of elements, `IntoShape` | `Reshape` |
//! | `Scan`, `GruSeq` | their steps, one after the other (see `scan.rs`) |
//! | `Fft`, `STFT` | a `MatMul` with a constant matrix (see `fourier.rs`) |
//! | `Gather`, `Scatter`, `Topk`, `OneHot` and their kin | `Index`, or simpler (see `index.rs`) |
//! | `CumSum`, `Trilu` | `CumSum`, `Trilu` |
//! | `LstmEpilogue`, `GruEpilogue` | `Cell` (see `cell.rs`) |
//! | what moves or repeats elements | `Transpose`, `Slice`, `Pad`, or a broadcast (see `movement.rs`) |
//!
//! Element types are tract's; its symbolic dimensions, where values of them remain, are i64. A constant of a type that has no form here is an error only for
//! who reads it. What has no elements is not computed (see `empty.rs`).

mod attention;
mod cell;
mod cumsum;
mod dense;
mod einsum;
mod empty;
mod fourier;
mod index;
mod movement;
mod quantised;
mod resize;
mod scalar;
mod scan;
mod window;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tract_onnx::pb;
use tract_onnx::prelude::*;
use tract_onnx::tract_core::ops::array::TypedConcat;
use tract_onnx::tract_core::ops::binary::TypedBinOp;
use tract_onnx::tract_core::ops::cast::Cast;
use tract_onnx::tract_core::ops::cnn::{Conv as TractConv, KernelFormat, MaxPool, PaddingSpec, PoolSpec, SumPool};
use tract_onnx::tract_core::ops::element_wise::ElementWiseOp;
use tract_onnx::tract_core::ops::identity::Identity;
use tract_onnx::tract_core::ops::konst::Const;
use tract_onnx::tract_core::ops::logic::Iff;
use tract_onnx::tract_core::ops::nn::{DataFormat, Reduce as TractReduce, Reducer};
use tract_onnx::tract_core::ops::scan::Scan;
use tract_onnx::tract_core::ops::source::TypedSource;

use empty::Remains;

use crate::error::{Error, Result};
use crate::graph::{
    Constant, Conv, DType, Elementwise, Expr, Graph, OpKind, Operator, Origin, Pool, PoolKind, Reduce, ReduceKind, Scalar, Tensor, Unary,
};
use crate::ids::TensorId;
use crate::import::onnx::decode::{input_names, some};
use crate::import::onnx::operators;
use crate::import::tract::typed;

/// Nothing here lowers the operator.
const NOT_SUPPORTED: &str = "this operator is not supported yet";

/// Nor one like it.
const MORE_OUTPUTS: &str = "more than one output is not supported yet";

/// Whether a reason says nothing that the table of operators could not say better.
fn generic(reason: &str) -> bool {
    [NOT_SUPPORTED, MORE_OUTPUTS].contains(&reason)
}

/// Why one node cannot be lowered.
type Reason = String;

/// The names that the ONNX file uses. tract keeps a node's name, or appends to it (`Gemm_0` becomes `Gemm_0.ab`).
struct Names<'a> {
    /// The first output of each node, by the node's name (of an unnamed node tract uses the output's name).
    nodes: BTreeMap<&'a str, &'a str>,
    /// The operator of each node, by the node's name.
    operators: BTreeMap<&'a str, (&'a str, &'a str)>,
    /// Initialisers; tract appends to their names, too (`weight` becomes `weight.0` where several nodes read it).
    initialisers: BTreeSet<&'a str>,
}

impl<'a> Names<'a> {
    fn new(proto: &'a pb::ModelProto) -> Names<'a> {
        let nodes = proto.graph.iter().flat_map(|g| &g.node);
        let named = nodes.filter_map(|n| {
            let output = n.output.first()?.as_str();
            Some((if n.name.is_empty() { output } else { n.name.as_str() }, output, (n.domain.as_str(), n.op_type.as_str())))
        });
        let named: Vec<_> = named.collect();
        let initialisers = proto.graph.iter().flat_map(|g| &g.initializer).map(|t| t.name.as_str());
        Names {
            nodes: named.iter().map(|&(name, output, _)| (name, output)).collect(),
            operators: named.iter().map(|&(name, _, operator)| (name, operator)).collect(),
            initialisers: initialisers.collect(),
        }
    }

    /// The ONNX node that tract's node `name` came from: the longest ONNX name that `name` begins with, up to a dot; else `name`.
    fn node<'n>(&self, name: &'n str) -> &'n str {
        let mut prefix = name;
        loop {
            if self.nodes.contains_key(prefix) {
                return prefix;
            }
            match prefix.rfind('.') {
                Some(dot) => prefix = &prefix[..dot],
                None => return name,
            }
        }
    }

    /// Whom to blame for a node of tract's that is refused: the ONNX operator it came from, with the table's reason where that is refused as a whole.
    fn blame(&self, node: &TypedNode, reason: Reason) -> (String, Reason) {
        match self.operators.get(self.node(&node.name)) {
            Some(&(domain, name)) => {
                let why = match operators::find(domain, name).map(|row| row.support) {
                    Some(operators::Support::Refused { why }) => Some(why),
                    Some(operators::Support::Folded { why }) if generic(&reason) => Some(why),
                    Some(operators::Support::Lowered { limits, .. }) if generic(&reason) && !limits.is_empty() => Some(limits),
                    _ => None,
                };
                let reason =
                    if generic(&reason) { format!("what the reader makes of it, {}, is not supported", node.op.name()) } else { reason };
                (name.to_string(), why.map_or(reason, str::to_string))
            }
            None => (node.op.name().into_owned(), reason),
        }
    }

    /// The ONNX operator of a node of tract's that is refused wherever it stands, and why.
    fn hopeless(&self, node: &TypedNode) -> Option<(String, Reason)> {
        let &(domain, name) = self.operators.get(self.node(&node.name))?;
        match operators::find(domain, name)?.support {
            operators::Support::Refused { why } => Some((name.to_string(), why.to_string())),
            _ => None,
        }
    }

    /// The ONNX name of the tensor at `outlet` where tract kept it or it is the result of an ONNX node; else tract's node name.
    fn tensor(&self, model: &TypedModel, outlet: OutletId) -> String {
        if let Some(label) = model.outlet_label(outlet) {
            return label.to_string();
        }
        let name = &model.node(outlet.node).name;
        if let Some((onnx, _)) =
            name.rsplit_once('.').filter(|(onnx, _)| !self.initialisers.contains(name.as_str()) && self.initialisers.contains(onnx))
        {
            return onnx.to_string();
        }
        match self.nodes.get(name.as_str()) {
            Some(output) if outlet.slot == 0 => output.to_string(),
            _ if outlet.slot == 0 => name.clone(),
            _ => format!("{name}.{}", outlet.slot),
        }
    }
}

/// Where names come from inside a loop's body.
struct Scope {
    /// Stands before every name: `LSTM_0.step-3`.
    prefix: String,
    /// What tract puts before the names of the body, and the prefix says already.
    known: String,
}

/// The graph so far.
struct Lowering<'a> {
    model: &'a TypedModel,
    names: Names<'a>,
    graph: Graph,
    tensors: BTreeMap<OutletId, TensorId>,
    /// Constants that have no form here, and why; an error for who reads them.
    unusable: BTreeMap<OutletId, Reason>,
    /// The loop's body that `model` is, if it is one.
    scope: Option<Scope>,
}

/// Operator and reason, and the nodes concerned.
type Refused<'a> = BTreeMap<(String, Reason), Vec<&'a str>>;

/// Several of tract's nodes may come from one ONNX node: it is named once.
fn push<'a>(refused: &mut Refused<'a>, operator: String, reason: Reason, node: &'a str) {
    let nodes = refused.entry((operator, reason)).or_default();
    if !nodes.contains(&node) {
        nodes.push(node);
    }
}

/// The graph of the typed model `model`; input and output names come from `proto`.
pub fn lower(name: String, proto: &pb::ModelProto, model: &TypedModel) -> Result<Graph> {
    let mut lowering = Lowering {
        model,
        names: Names::new(proto),
        graph: Graph { name, ..Graph::default() },
        tensors: BTreeMap::new(),
        unusable: BTreeMap::new(),
        scope: None,
    };
    let order = model.eval_order().map_err(|e| Error::internal("import", format!("{e:#}")))?;
    let mut refused = Refused::new();
    // tract renames an input that is handed on as another tensor
    for (&input, name) in model.inputs.iter().zip(input_names(proto)) {
        if let Err(reason) = lowering.define_input(input, name) {
            refused.entry(("input".into(), reason)).or_default().push(name);
        }
    }
    for id in order {
        let node = model.node(id);
        let ready = node.inputs.iter().all(|i| lowering.tensors.contains_key(i) || lowering.unusable.contains_key(i));
        if node.op_is::<TypedSource>() {
            continue;
        }
        if !ready {
            // a node behind a refused one is not at fault, unless it would be refused in any case
            if let Some((operator, reason)) = lowering.names.hopeless(node) {
                push(&mut refused, operator, reason, lowering.names.node(&node.name));
            }
            continue;
        }
        if let Err(reason) = lowering.node(node) {
            let (operator, reason) = lowering.names.blame(node, reason);
            push(&mut refused, operator, reason, lowering.names.node(&node.name));
        }
    }
    for outlet in &model.outputs {
        let reason = match model.outlet_fact(*outlet).map(|fact| fact.datum_type) {
            Ok(_) => lowering.unusable.get(outlet).cloned(),
            Err(e) => Some(format!("{e:#}")),
        };
        if let Some(reason) = reason {
            refused.entry(("output".into(), reason)).or_default().push(&model.node(outlet.node).name);
        }
    }
    if !refused.is_empty() {
        let lines = refused.into_iter().map(|((op, reason), nodes)| format!("{op} ({}): {reason}", some(&nodes)));
        return Err(Error::Unsupported(lines.collect()));
    }
    let names = proto.graph.iter().flat_map(|g| &g.output).map(|v| v.name.as_str());
    for (&outlet, name) in model.outputs.iter().zip(names) {
        lowering.define_output(outlet, name);
    }
    Ok(lowering.graph)
}

impl<'a> Lowering<'a> {
    fn define_input(&mut self, outlet: OutletId, name: &str) -> Result<(), Reason> {
        let tensor = Tensor { name: name.into(), ..self.describe(outlet, Origin::Input)? };
        let id = self.graph.add_tensor(tensor);
        self.graph.inputs.push(id);
        self.tensors.insert(outlet, id);
        Ok(())
    }

    /// The output named `name`: the tensor itself, or a view of it where it already has a name to keep (an input, an earlier output). A constant is
    /// copied by an operator of that name: what is downloaded must have been computed, or uploaded as an input.
    fn define_output(&mut self, outlet: OutletId, name: &str) {
        let mut id = self.tensors[&outlet];
        if self.graph.constant(id).is_some() && self.graph.tensor(id).elements() > 0 {
            let copy = self.graph.add_tensor(self.graph.tensor(id).clone());
            let kind = OpKind::Elementwise(Elementwise { expr: Expr::identity() });
            self.graph.add_operator(Operator { name: name.to_string(), kind, inputs: vec![id], outputs: vec![copy] });
            id = copy;
        }
        let taken = !matches!(self.graph.tensor(id).origin, Origin::Operator(_)) || self.graph.outputs.contains(&id);
        let output = if taken { self.graph.add_tensor(Tensor { origin: Origin::View(id), ..self.graph.tensor(id).clone() }) } else { id };
        self.graph.tensors[output.index()].name = name.to_string();
        self.graph.outputs.push(output);
    }

    /// The name for what `node` computes: that of its ONNX node, or its own in a loop's step.
    fn operator_name(&self, node: &TypedNode) -> String {
        match &self.scope {
            None => self.names.node(&node.name).to_string(),
            Some(Scope { prefix, known }) => format!("{prefix}.{}", node.name.strip_prefix(known).unwrap_or(&node.name)),
        }
    }

    /// Name, type and shape of what `outlet` carries.
    fn describe(&self, outlet: OutletId, origin: Origin) -> Result<Tensor, Reason> {
        let fact = self.model.outlet_fact(outlet).map_err(|e| format!("{e:#}"))?;
        let dtype = typed::dtype(fact.datum_type).ok_or_else(|| format!("element type {:?} is not supported yet", fact.datum_type))?;
        let shape = fact.shape.as_concrete().ok_or_else(|| self.open_shape(outlet))?.to_vec();
        let name = match &self.scope {
            None => self.names.tensor(self.model, outlet),
            Some(_) if outlet.slot == 0 => self.operator_name(self.model.node(outlet.node)),
            Some(_) => format!("{}.{}", self.operator_name(self.model.node(outlet.node)), outlet.slot),
        };
        Ok(Tensor { name, dtype, shape, origin })
    }

    /// Why the shape of what `outlet` carries is not known.
    fn open_shape(&self, outlet: OutletId) -> Reason {
        let node = self.model.node(outlet.node);
        let shape = &node.outputs[outlet.slot].fact.shape;
        let known = |input: &OutletId| self.model.outlet_fact(*input).is_ok_and(|fact| fact.shape.as_concrete().is_some());
        if !node.inputs.is_empty() && node.inputs.iter().all(known) {
            return format!("the shape of its result, {shape:?}, depends on values that are known only when the model runs");
        }
        format!("its shape {shape:?} is not static: give --shapes")
    }

    /// tract's type of what `outlet` carries.
    fn datum(&self, outlet: OutletId) -> Result<DatumType, Reason> {
        Ok(self.model.outlet_fact(outlet).map_err(|e| format!("{e:#}"))?.datum_type)
    }

    fn node(&mut self, node: &'a TypedNode) -> Result<(), Reason> {
        if let Some(constant) = node.op_as::<Const>() {
            if let Err(reason) = self.constant(node, constant.val()) {
                self.unusable.insert(node.id.into(), reason);
            }
            return Ok(());
        }
        if self.resize(node)? {
            return Ok(());
        }
        if let Some(op) = node.op_as::<Scan>() {
            return self.scan(node, op);
        }
        if let Some(reason) = node.inputs.iter().find_map(|i| self.unusable.get(i)) {
            return Err(format!("it reads a constant whose {reason}"));
        }
        if node.op_is::<Identity>() || node.op.name() == "OnnxMaxPoolIndices" {
            self.tensors.insert(node.id.into(), self.tensors[&node.inputs[0]]);
            return Ok(());
        }
        if self.cell(node)? {
            return Ok(());
        }
        // tract keeps this type to itself: it has a name only
        if node.op.name() == "DynamicQuantizeLinearU8" {
            return self.dynamic_quantisation(node, self.tensors[&node.inputs[0]]);
        }
        if let Some(op) = node.op_as::<MaxPool>().filter(|op| op.with_index_outputs.is_some()) {
            return self.max_pool_with_indices(node, op, self.tensors[&node.inputs[0]]);
        }
        let inputs: Vec<TensorId> = node.inputs.iter().map(|i| self.tensors[i]).collect();
        if self.index(node, &inputs)? {
            return Ok(());
        }
        if node.outputs.len() != 1 {
            return Err(MORE_OUTPUTS.into());
        }
        let output = self.describe(node.id.into(), Origin::Input)?;
        if output.elements() == 0 {
            let nothing = self.filled(&output, Scalar::from_f64(output.dtype, 0.0));
            self.tensors.insert(node.id.into(), nothing);
            return Ok(());
        }
        let lowered = self.movement(node, &inputs, &output)?
            || self.quantised(node, &inputs, &output)?
            || self.dense(node, &inputs, &output)?
            || self.fourier(node, &inputs, &output)?
            || self.cumsum(node, &inputs, &output)?;
        if lowered {
            return Ok(());
        }
        let kind = if let Some(conv) = node.op_as::<TractConv>() {
            return self.conv(node, conv, inputs, output);
        } else if let Some(op) = node.op_as::<MaxPool>() {
            return self.pool(node, &op.pool_spec, PoolKind::Max, inputs, output);
        } else if let Some(op) = node.op_as::<SumPool>() {
            let kind = if op.normalize { PoolKind::Average { count_include_pad: op.count_include_pad } } else { PoolKind::Sum };
            return self.pool(node, &op.pool_spec, kind, inputs, output);
        } else if let Some(op) = node.op_as::<TractReduce>() {
            let mut axes = op.axes.to_vec();
            axes.sort_unstable();
            let kind = match op.reducer {
                Reducer::Sum => ReduceKind::Sum,
                Reducer::Max => ReduceKind::Max,
                Reducer::Min => ReduceKind::Min,
                Reducer::Prod => ReduceKind::Product,
                Reducer::All => ReduceKind::Min,
                Reducer::Any => ReduceKind::Max,
                Reducer::MeanOfSquares => {
                    self.mean_of_squares(node, inputs[0], axes, output);
                    return Ok(());
                }
                Reducer::ArgMax(last) => ReduceKind::ArgMax { last },
                Reducer::ArgMin(last) => ReduceKind::ArgMin { last },
            };
            OpKind::Reduce(Reduce { kind, axes })
        } else if let Some(op) = node.op_as::<TypedBinOp>() {
            return self.binary(node, op, inputs, output);
        } else if let Some(op) = node.op_as::<ElementWiseOp>() {
            let expr = scalar::unary(op, self.graph.tensor(inputs[0]).dtype).ok_or("this elementwise function is not supported yet")?;
            OpKind::Elementwise(Elementwise { expr })
        } else if node.op_is::<Iff>() {
            let (operands, kept) = self.operands(&inputs)?;
            let [condition, yes, no] = <[Expr; 3]>::try_from(operands).map_err(|_| "it must have three inputs")?;
            return self.elementwise(node, Expr::select(condition, yes, no), kept, output);
        } else if let Some(op) = node.op_as::<Cast>() {
            let to = typed::dtype(op.to).ok_or_else(|| format!("a conversion to {:?} is not supported yet", op.to))?;
            if self.graph.tensor(inputs[0]).dtype == to {
                self.tensors.insert(node.id.into(), inputs[0]);
                return Ok(());
            }
            OpKind::Elementwise(Elementwise { expr: Expr::identity().cast(to) })
        } else if let Some(op) = node.op_as::<TypedConcat>() {
            OpKind::Concat { axis: op.axis }
        } else {
            return Err(NOT_SUPPORTED.into());
        };
        self.finish(node, kind, inputs, output);
        Ok(())
    }

    /// Adds the operator and its output, which is what `node` provides.
    fn finish(&mut self, node: &TypedNode, kind: OpKind, inputs: Vec<TensorId>, output: Tensor) {
        let result = self.step(node, kind, inputs, output);
        self.tensors.insert(node.id.into(), result);
    }

    /// Adds an operator and its output: a step on the way to what `node` provides. Where there is nothing to compute, gives the tensor that holds the result.
    fn step(&mut self, node: &TypedNode, kind: OpKind, inputs: Vec<TensorId>, output: Tensor) -> TensorId {
        self.add(self.operator_name(node), kind, inputs, output)
    }

    /// The same under the name `name`.
    fn add(&mut self, name: String, kind: OpKind, inputs: Vec<TensorId>, output: Tensor) -> TensorId {
        match self.without_empty(kind, inputs, &output) {
            Remains::Tensor(result) => result,
            Remains::Operator(kind, inputs) => {
                let output = self.graph.add_tensor(output);
                self.graph.add_operator(Operator { name, kind: *kind, inputs, outputs: vec![output] });
                output
            }
        }
    }

    /// Makes `id` the output `slot` of `node`, under the name and shape that tract knows it by.
    fn provide(&mut self, node: &TypedNode, slot: usize, id: TensorId) -> Result<(), Reason> {
        let outlet = OutletId::new(node.id, slot);
        let view = self.describe(outlet, Origin::View(id))?;
        let view = self.graph.add_tensor(view);
        self.tensors.insert(outlet, view);
        Ok(())
    }

    fn constant(&mut self, node: &TypedNode, value: &Arc<tract_onnx::prelude::Tensor>) -> Result<(), Reason> {
        let constant = typed::values(value).map_err(|e| format!("{e:#}"))?;
        let tensor = Tensor { shape: value.shape().to_vec(), ..self.describe(node.id.into(), Origin::Constant(constant))? };
        let id = self.graph.add_tensor(tensor);
        self.tensors.insert(node.id.into(), id);
        Ok(())
    }

    /// A view of `id` under `shape`, or `id` itself.
    fn reshaped(&mut self, id: TensorId, shape: Vec<usize>) -> TensorId {
        if self.graph.tensor(id).shape == shape {
            return id;
        }
        let view = Tensor { shape, origin: Origin::View(id), ..self.graph.tensor(id).clone() };
        self.graph.add_tensor(view)
    }

    /// A windowed operator over rank 4: 1-D input and output are seen through views with an axis of size 1, and so are those without a batch axis.
    fn windowed(
        &mut self,
        node: &TypedNode,
        kind: OpKind,
        mut inputs: Vec<TensorId>,
        output: Tensor,
        spec: &PoolSpec,
    ) -> Result<(), Reason> {
        let wide = |shape: &[usize]| -> Vec<usize> {
            let mut shape = shape.to_vec();
            if matches!(spec.data_format, DataFormat::CHW) {
                shape.insert(0, 1);
            }
            if spec.rank() == 1 {
                shape.insert(2, 1);
            }
            shape
        };
        let input = self.graph.tensor(inputs[0]).shape.clone();
        inputs[0] = self.reshaped(inputs[0], wide(&input));
        let shape = output.shape.clone();
        let result = self.step(node, kind, inputs, Tensor { shape: wide(&shape), ..output });
        let seen = self.reshaped(result, shape);
        self.tensors.insert(node.id.into(), seen);
        Ok(())
    }

    fn conv(&mut self, node: &TypedNode, conv: &TractConv, mut inputs: Vec<TensorId>, output: Tensor) -> Result<(), Reason> {
        if conv.kernel_fmt != KernelFormat::OIHW {
            return Err(format!("weights in layout {:?} are not supported yet", conv.kernel_fmt));
        }
        if conv.pool_spec.rank() > 2 || output.dtype != DType::F32 {
            return self.conv_nd(node, conv, inputs, output);
        }
        let window = Window::new(&conv.pool_spec, &self.graph.tensor(inputs[0]).shape)?;
        let weights = self.graph.tensor(inputs[1]).shape.clone();
        if weights.len() == 3 {
            inputs[1] = self.reshaped(inputs[1], vec![weights[0], weights[1], 1, weights[2]]);
        }
        self.bias(node, &mut inputs, conv.output_channels())?;
        let kind = OpKind::Conv(Conv {
            kernel: window.kernel,
            strides: window.strides,
            dilations: window.dilations,
            pads_begin: window.pads_begin,
            pads_end: window.pads_end,
            groups: conv.group,
            bias: inputs.len() == 3,
            epilogue: Expr::identity(),
        });
        self.windowed(node, kind, inputs, output, &conv.pool_spec)
    }

    fn pool(&mut self, node: &TypedNode, spec: &PoolSpec, kind: PoolKind, inputs: Vec<TensorId>, output: Tensor) -> Result<(), Reason> {
        if spec.rank() > 2 || output.dtype != DType::F32 {
            return self.pool_nd(node, spec, kind, inputs[0], output);
        }
        let Window { kernel, strides, dilations, pads_begin, pads_end } = Window::new(spec, &self.graph.tensor(inputs[0]).shape)?;
        let kind = OpKind::Pool(Pool { kind, kernel, strides, dilations, pads_begin, pads_end });
        self.windowed(node, kind, inputs, output, spec)
    }

    fn binary(&mut self, node: &TypedNode, op: &TypedBinOp, inputs: Vec<TensorId>, output: Tensor) -> Result<(), Reason> {
        let (operands, kept) = self.operands(&inputs)?;
        let [a, b] = <[Expr; 2]>::try_from(operands).map_err(|_| "it must have two inputs")?;
        let of = self.graph.tensor(inputs[0]).dtype;
        let expr =
            scalar::binary(op.0.name(), a, b, of).ok_or_else(|| format!("this binary function is not supported yet for {}", of.name()))?;
        self.elementwise(node, expr, kept, output)
    }

    fn elementwise(&mut self, node: &TypedNode, expr: Expr, inputs: Vec<TensorId>, output: Tensor) -> Result<(), Reason> {
        self.finish(node, OpKind::Elementwise(Elementwise { expr }), inputs, output);
        Ok(())
    }

    /// What an expression reads for each of `inputs`, and those that it reads from memory: one constant value is part of the expression.
    fn operands(&self, inputs: &[TensorId]) -> Result<(Vec<Expr>, Vec<TensorId>), Reason> {
        let mut kept = Vec::new();
        let operand = |&id: &TensorId| match self.graph.constant(id).and_then(Constant::only) {
            Some(value) => Expr::Const(value),
            None => {
                kept.push(id);
                Expr::Input(kept.len() - 1)
            }
        };
        Ok((inputs.iter().map(operand).collect(), kept))
    }

    /// The mean of the squares of `x` along `axes`, into `output`.
    fn mean_of_squares(&mut self, node: &TypedNode, x: TensorId, axes: Vec<usize>, output: Tensor) {
        let squares = Tensor { name: format!("{}.squares", output.name), shape: self.graph.tensor(x).shape.clone(), ..output.clone() };
        self.finish(node, OpKind::Elementwise(Elementwise { expr: Expr::identity().then(Unary::Square) }), vec![x], squares);
        let squares = self.tensors[&node.id.into()];
        self.finish(node, OpKind::Reduce(Reduce { kind: ReduceKind::Mean, axes }), vec![squares], output);
    }
}

/// The geometry of a 1-D or 2-D window, widened to 2-D, padding resolved.
struct Window {
    kernel: [usize; 2],
    strides: [usize; 2],
    dilations: [usize; 2],
    pads_begin: [usize; 2],
    pads_end: [usize; 2],
}

impl Window {
    fn new(spec: &PoolSpec, input: &[usize]) -> Result<Window, Reason> {
        if !matches!(spec.data_format, DataFormat::NCHW | DataFormat::CHW) {
            return Err(format!("layout {:?} is not supported", spec.data_format));
        }
        let channel_axis = usize::from(matches!(spec.data_format, DataFormat::NCHW));
        let extents = &input[channel_axis + 1..];
        let (before, after): (Vec<usize>, Vec<usize>) = match &spec.padding {
            PaddingSpec::ExplicitOnnxPool(before, after, _ceil) => (before.to_vec(), after.to_vec()),
            _ => spec.computed_padding(extents).iter().map(|d| (d.pad_before, d.pad_after)).unzip(),
        };
        let wide = |values: &[usize], neutral: usize| match *values {
            [w] => Ok([neutral, w]),
            [h, w] => Ok([h, w]),
            _ => Err(format!("windows over {} axes are not supported yet", values.len())),
        };
        Ok(Window {
            kernel: wide(&spec.kernel_shape, 1)?,
            strides: wide(&spec.strides(), 1)?,
            dilations: wide(&spec.dilations(), 1)?,
            pads_begin: wide(&before, 0)?,
            pads_end: wide(&after, 0)?,
        })
    }
}
