//! Lowers tract's core operators to ours: from a typed model to a [`Graph`].
//!
//! Each node is lowered on its own. All nodes that cannot be lowered are reported in one
//! [`Error::Unsupported`]. A tensor has its ONNX name if tract kept it, else the name of its node.
//!
//! [`rules`] gives the order in which a node is offered to the families. A file here has the name
//! of the family whose operators it adds (see `graph/op/`). Nodes that become operators of several
//! families have files of their own: `empty.rs`, `fourier.rs`, `quantised.rs`, `scan.rs`.
//!
//! Values that the file declares to be bfloat16 are so in memory: what is computed as f32 is
//! converted, and converted back for the nodes that read it. Rules of `fuse/` make one type of it
//! where they can.
//!
//! Element types are tract's; values of symbolic dimensions, where any remain, are i64. A constant
//! of an unsupported type is an error only for the nodes that read it. A tensor without elements is
//! not computed (see `empty.rs`).

mod attention;
mod bfloat16;
mod cell;
mod concat;
mod conv;
mod copy;
mod cumsum;
mod elementwise;
mod empty;
mod fourier;
mod gather;
mod grid_sample;
mod lrn;
mod matmul;
mod norm;
mod pool;
mod quantised;
mod reduce;
mod resample;
mod scan;
mod scatter;
mod softmax;
mod topk;
mod window;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tract_onnx::pb;
use tract_onnx::prelude::*;
use tract_onnx::tract_core::ops::identity::Identity;
use tract_onnx::tract_core::ops::konst::Const;
use tract_onnx::tract_core::ops::source::TypedSource;

use empty::Remains;

use crate::error::{Error, Result};
use crate::graph::{DType, Elementwise, Expr, Graph, OnnxValue, OpKind, Operator, Origin, Scalar, Tensor};
use crate::ids::TensorId;
use crate::import::onnx::bfloat16::ROUND;
use crate::import::onnx::decode::{input_names, some};
use crate::import::onnx::operators;
use crate::import::tract::typed;

/// The reason if no rule lowers the operator.
const NOT_SUPPORTED: &str = "this operator is not supported yet";

/// The reason if no rule lowers an operator of several results.
const MORE_OUTPUTS: &str = "more than one output is not supported yet";

/// Whether the reason is a generic one, which one from the table of operators replaces.
fn generic(reason: &str) -> bool {
    [NOT_SUPPORTED, MORE_OUTPUTS].contains(&reason)
}

/// Why one node cannot be lowered.
type Reason = String;

/// The names that the ONNX file uses. tract keeps a node's name, or appends to it (`Gemm_0` becomes
/// `Gemm_0.ab`).
struct Names<'a> {
    /// The first output of each node, by the node's name (tract names an unnamed node after its
    /// output).
    nodes: BTreeMap<&'a str, &'a str>,
    /// The operator of each node, by the node's name.
    operators: BTreeMap<&'a str, (&'a str, &'a str)>,
    /// Initialisers; tract appends to their names, too (`weight` becomes `weight.0` where several
    /// nodes read it).
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

    /// The ONNX node that tract's node `name` came from: the longest ONNX name that `name` begins
    /// with, up to a dot; else `name`. A rounding belongs to the node before it.
    fn node<'n>(&self, name: &'n str) -> &'n str {
        let mut prefix = name;
        loop {
            if self.operators.get(prefix).is_some_and(|&(_, operator)| operator != ROUND) {
                return prefix;
            }
            match prefix.rfind('.') {
                Some(dot) => prefix = &prefix[..dot],
                None => return name,
            }
        }
    }

    /// The operator and the reason to report for a refused node of tract's: the ONNX operator it
    /// came from, and the table's reason if that operator is refused as a whole.
    fn refusal(&self, node: &TypedNode, reason: Reason) -> (String, Reason) {
        match self.operators.get(self.node(&node.name)) {
            Some(&(domain, name)) => {
                let why = match operators::find(domain, name).map(|row| row.support) {
                    Some(operators::Support::Refused { why }) => Some(why),
                    Some(operators::Support::Folded { why }) if generic(&reason) => Some(why),
                    Some(operators::Support::Lowered { limits, .. }) if generic(&reason) && !limits.is_empty() => Some(limits),
                    _ => None,
                };
                let reason =
                    if generic(&reason) { format!("tract reads it as {}, which is not supported", node.op.name()) } else { reason };
                (name.to_string(), why.map_or(reason, str::to_string))
            }
            None => (node.op.name().into_owned(), reason),
        }
    }

    /// The ONNX operator of a node of tract's, and why it is refused, if it is refused everywhere.
    fn always_refused(&self, node: &TypedNode) -> Option<(String, Reason)> {
        let &(domain, name) = self.operators.get(self.node(&node.name))?;
        match operators::find(domain, name)?.support {
            operators::Support::Refused { why } => Some((name.to_string(), why.to_string())),
            _ => None,
        }
    }

    /// The ONNX name of the tensor at `outlet` if tract kept it or the tensor is the result of an
    /// ONNX node; else the name of tract's node.
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

/// Lowers some kinds of nodes. Returns whether it lowered the node, and fails if the node is of
/// such a kind but cannot be lowered.
type LoweringRule<'a> = fn(&mut Lowering<'a>, &'a TypedNode) -> Result<bool, Reason>;

/// All rules, in the order in which a node is offered to them: the first that knows the node lowers
/// it. A row says which nodes the rule lowers, by tract's names, and why it is at this position.
fn rules<'a>() -> Vec<(LoweringRule<'a>, &'static str)> {
    vec![
        (Lowering::constants, "Const. First: all others read constants"),
        (Lowering::resample, "Resize. Before `readable`: it reads scales and sizes of unsupported types"),
        (Lowering::scan, "Scan. Before `readable`: its body refuses what it cannot read, by name"),
        (Lowering::readable, "From here on, all inputs are tensors"),
        (Lowering::identity, "Identity. Computes nothing"),
        (Lowering::cell, "LstmEpilogue, GruEpilogue, GruSeq. Several results: before `empty`, which refuses them"),
        (Lowering::dynamic_quantisation, "DynamicQuantizeLinearU8. Several results"),
        (Lowering::pool_with_indices, "MaxPool with indices. Several results"),
        (Lowering::topk, "Topk. Several results"),
        (Lowering::empty, "From here on, there is one result, and it has elements"),
        (Lowering::quantised, "Conv, EinSum and conversions of integers with a scale. Before those of plain numbers"),
        (Lowering::bfloat16, "RoundToBfloat16. Before `elementwise`, which refuses functions that it does not know"),
        // No two of these know the same node: any order will do.
        (Lowering::attention, "Sdpa"),
        (Lowering::concat, "TypedConcat"),
        (Lowering::conv, "Conv, Deconv"),
        (Lowering::copy, "AxisOp, IntoShape, Slice, Downsample, Pad, Trilu"),
        (Lowering::cumsum, "CumSum"),
        (Lowering::elementwise, "TypedBinOp, ElementWiseOp, Iff, Cast, MultiBroadcastTo, OneHot, NearestUpsample, Tile"),
        (Lowering::fourier, "Fft, Stft"),
        (Lowering::gather, "Gather, GatherElements, GatherNd"),
        (Lowering::grid_sample, "GridSample"),
        (Lowering::lrn, "Lrn"),
        (Lowering::matmul, "EinSum"),
        (Lowering::norm, "RmsNorm"),
        (Lowering::pool, "MaxPool, SumPool"),
        (Lowering::reduce, "Reduce"),
        (Lowering::scatter, "ScatterElements, ScatterNd"),
        (Lowering::softmax, "Softmax"),
    ]
}

/// How names are formed inside the body of a loop.
struct Scope {
    /// The prefix of every name: `LSTM_0.step-3`.
    prefix: String,
    /// tract's prefix of the names in the body, which `prefix` replaces.
    tract_prefix: String,
}

/// The graph lowered so far.
struct Lowering<'a> {
    model: &'a TypedModel,
    names: Names<'a>,
    graph: Graph,
    tensors: BTreeMap<OutletId, TensorId>,
    /// Constants of unsupported types, and why they are unsupported. Reading one is an error.
    unusable: BTreeMap<OutletId, Reason>,
    /// Set while `model` is the body of a loop.
    scope: Option<Scope>,
    /// Names of the values of the model that are bfloat16.
    narrow: &'a BTreeSet<String>,
}

/// Operator and reason, and the nodes concerned.
type Refused<'a> = BTreeMap<(String, Reason), Vec<&'a str>>;

/// The extent of an axis, which tract may not have compared with the rank.
fn extent(shape: &[usize], axis: usize) -> Result<usize, Reason> {
    shape.get(axis).copied().ok_or_else(|| format!("axis {axis} is not one of {} axes", shape.len()))
}

/// Adds a refusal. Several of tract's nodes may come from one ONNX node, which is named once.
fn push<'a>(refused: &mut Refused<'a>, operator: String, reason: Reason, node: &'a str) {
    let nodes = refused.entry((operator, reason)).or_default();
    if !nodes.contains(&node) {
        nodes.push(node);
    }
}

/// The graph of the typed model `model`; input and output names come from `proto`. Inputs and
/// outputs whose names are in `narrow` are bfloat16.
pub fn lower(name: String, proto: &pb::ModelProto, model: &TypedModel, narrow: &BTreeSet<String>) -> Result<Graph> {
    let mut lowering = Lowering {
        model,
        names: Names::new(proto),
        graph: Graph { name, ..Graph::default() },
        tensors: BTreeMap::new(),
        unusable: BTreeMap::new(),
        scope: None,
        narrow,
    };
    let order = model.eval_order().map_err(|e| Error::internal("import", format!("{e:#}")))?;
    let mut refused = Refused::new();
    // tract renames an input that is passed on as another tensor
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
            // a node that depends on a refused one is reported only if it is refused everywhere
            if let Some((operator, reason)) = lowering.names.always_refused(node) {
                push(&mut refused, operator, reason, lowering.names.node(&node.name));
            }
            continue;
        }
        let (tensors, operators) = (lowering.graph.tensors.len(), lowering.graph.operators.len());
        if let Err(reason) = lowering.node(node).and_then(|()| lowering.check_added(tensors, operators)) {
            let (operator, reason) = lowering.names.refusal(node, reason);
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
    lowering.define_values();
    Ok(lowering.graph)
}

impl<'a> Lowering<'a> {
    /// Checks what was added after the first `tensors` and `operators`: tract types some operators
    /// without checking that their operands fit.
    fn check_added(&self, tensors: usize, operators: usize) -> Result<(), Reason> {
        self.graph.check_added(tensors, operators).map_err(|fault| format!("its operands do not fit together: {fault}"))
    }

    fn define_input(&mut self, outlet: OutletId, name: &str) -> Result<(), Reason> {
        let mut tensor = Tensor { name: name.into(), ..self.describe(outlet, Origin::Input)? };
        let wide = tensor.clone();
        if self.narrow.contains(name) {
            tensor.dtype = DType::BF16;
        }
        let mut id = self.graph.add_tensor(tensor);
        self.graph.inputs.push(id);
        if self.narrow.contains(name) {
            id = self.widened(name, id, wide);
        }
        self.tensors.insert(outlet, id);
        Ok(())
    }

    /// Defines the output named `name`: the tensor itself, or a view of it if the tensor must keep
    /// another name (an input, an earlier output). A constant is copied by an operator of that
    /// name: what is downloaded must have been computed, or uploaded as an input.
    fn define_output(&mut self, outlet: OutletId, name: &str) {
        let mut id = self.tensors[&outlet];
        // indices and truth values of a node that reads bfloat16 are among these names, too
        if self.narrow.contains(name) && self.graph.tensor(id).dtype == DType::F32 {
            id = self.narrowed(name, id);
        }
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

    /// Lists the ONNX values that tensors hold. Only tract's labels of outlets are trusted: tract
    /// moves a label with its value, and gives a node's name to other nodes. Values inside the
    /// bodies of loops have none.
    fn define_values(&mut self) {
        let graph = &mut self.graph;
        let mut values: BTreeMap<&str, Option<TensorId>> = BTreeMap::new();
        for (&outlet, &id) in &self.tensors {
            let Some(label) = self.model.outlet_label(outlet) else { continue };
            let fact = self.model.outlet_fact(outlet).ok().and_then(|fact| fact.shape.as_concrete());
            if fact == Some(&graph.tensor(id).shape[..]) {
                // two values of one name: neither is known
                values.entry(label).and_modify(|known| *known = None).or_insert(Some(id));
            }
        }
        let ports: Vec<(String, TensorId)> =
            graph.inputs.iter().chain(&graph.outputs).map(|&id| (graph.tensor(id).name.clone(), id)).collect();
        values.extend(ports.iter().map(|(name, id)| (name.as_str(), Some(*id))));
        let known = values.into_iter().filter_map(|(name, id)| Some((name, id?)));
        let value = |(name, tensor): (&str, TensorId)| OnnxValue {
            name: name.into(),
            shape: graph.tensor(tensor).shape.clone(),
            tensor,
            absorbed: false,
        };
        graph.values = known.map(value).collect();
    }

    /// The name of the operator for `node`: that of its ONNX node, or inside a loop its own, with
    /// the step.
    fn operator_name(&self, node: &TypedNode) -> String {
        match &self.scope {
            None => self.names.node(&node.name).to_string(),
            Some(Scope { prefix, tract_prefix }) => format!("{prefix}.{}", node.name.strip_prefix(tract_prefix).unwrap_or(&node.name)),
        }
    }

    /// Name, type and shape of the tensor at `outlet`.
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

    /// Why the shape of the tensor at `outlet` is not known.
    fn open_shape(&self, outlet: OutletId) -> Reason {
        let node = self.model.node(outlet.node);
        let shape = &node.outputs[outlet.slot].fact.shape;
        let known = |input: &OutletId| self.model.outlet_fact(*input).is_ok_and(|fact| fact.shape.as_concrete().is_some());
        if !node.inputs.is_empty() && node.inputs.iter().all(known) {
            if format!("{shape:?}").contains("broadcast(") {
                return "the shapes of its operands do not broadcast to one shape".into();
            }
            return format!("the shape of its result, {shape:?}, depends on values that are known only when the model runs");
        }
        format!("its shape {shape:?} is not static: give --shapes")
    }

    /// tract's type of the tensor at `outlet`.
    fn datum(&self, outlet: OutletId) -> Result<DatumType, Reason> {
        Ok(self.model.outlet_fact(outlet).map_err(|e| format!("{e:#}"))?.datum_type)
    }

    /// Offers `node` to each of [`rules`] in turn.
    fn node(&mut self, node: &'a TypedNode) -> Result<(), Reason> {
        for (lower, _) in rules() {
            if lower(self, node)? {
                return Ok(());
            }
        }
        Err(NOT_SUPPORTED.into())
    }

    /// Lowers `node` if it is a constant. One of an unsupported type is an error for the nodes that
    /// read it.
    fn constants(&mut self, node: &'a TypedNode) -> Result<bool, Reason> {
        let Some(constant) = node.op_as::<Const>() else { return Ok(false) };
        if let Err(reason) = self.constant(node, constant.val()) {
            self.unusable.insert(node.id.into(), reason);
        }
        Ok(true)
    }

    /// Refuses a node that reads a constant of an unsupported type.
    fn readable(&mut self, node: &'a TypedNode) -> Result<bool, Reason> {
        match node.inputs.iter().find_map(|i| self.unusable.get(i)) {
            Some(reason) => Err(format!("it reads a constant whose {reason}")),
            None => Ok(false),
        }
    }

    /// Lowers `node` if it passes its input on.
    fn identity(&mut self, node: &'a TypedNode) -> Result<bool, Reason> {
        let passes_on = node.op_is::<Identity>() || node.op.name() == "OnnxMaxPoolIndices";
        if passes_on {
            self.tensors.insert(node.id.into(), self.tensors[&node.inputs[0]]);
        }
        Ok(passes_on)
    }

    /// Lowers `node` if its one result has no elements; refuses one with more than one result.
    fn empty(&mut self, node: &'a TypedNode) -> Result<bool, Reason> {
        if node.outputs.len() != 1 {
            return Err(MORE_OUTPUTS.into());
        }
        let output = self.output(node)?;
        let empty = output.elements() == 0;
        if empty {
            let nothing = self.filled(&output, Scalar::from_f64(output.dtype, 0.0));
            self.tensors.insert(node.id.into(), nothing);
        }
        Ok(empty)
    }

    /// The tensors that `node` reads. To be called after `readable` only.
    fn inputs(&self, node: &TypedNode) -> Vec<TensorId> {
        node.inputs.iter().map(|i| self.tensors[i]).collect()
    }

    /// Name, type and shape of the first result of `node`.
    fn output(&self, node: &TypedNode) -> Result<Tensor, Reason> {
        self.describe(node.id.into(), Origin::Input)
    }

    /// Adds an operator whose kernels support f32 only.
    fn single_precision(&mut self, node: &TypedNode, kind: OpKind) -> Result<bool, Reason> {
        let inputs = self.inputs(node);
        if inputs.iter().any(|&t| self.graph.tensor(t).dtype != DType::F32) {
            return Err("operands other than f32 are not supported yet".into());
        }
        let output = self.output(node)?;
        self.finish(node, kind, inputs, output);
        Ok(true)
    }

    /// Adds an operator and its output, which is the result of `node`.
    fn finish(&mut self, node: &TypedNode, kind: OpKind, inputs: Vec<TensorId>, output: Tensor) {
        let result = self.add_intermediate(node, kind, inputs, output);
        self.tensors.insert(node.id.into(), result);
    }

    /// Adds an operator and its output, an intermediate result of `node`. If there is nothing to
    /// compute, returns the tensor that holds the result.
    fn add_intermediate(&mut self, node: &TypedNode, kind: OpKind, inputs: Vec<TensorId>, output: Tensor) -> TensorId {
        self.add(self.operator_name(node), kind, inputs, output)
    }

    /// The same, with the operator named `name`.
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

    /// Makes `id` the output `slot` of `node`, with the name and shape that tract gives it.
    fn provide(&mut self, node: &TypedNode, slot: usize, id: TensorId) -> Result<(), Reason> {
        let outlet = OutletId::new(node.id, slot);
        let view = self.describe(outlet, Origin::View(id))?;
        let view = self.graph.add_tensor(view);
        self.tensors.insert(outlet, view);
        Ok(())
    }

    fn constant(&mut self, node: &TypedNode, value: &Arc<tract_onnx::prelude::Tensor>) -> Result<(), Reason> {
        let constant = typed::shared_values(value).map_err(|e| format!("{e:#}"))?;
        let tensor = Tensor { shape: value.shape().to_vec(), ..self.describe(node.id.into(), Origin::Constant(constant))? };
        let id = self.graph.add_tensor(tensor);
        self.tensors.insert(node.id.into(), id);
        Ok(())
    }

    /// A view of `id` under `shape`, or `id` itself if it has that shape.
    fn reshaped(&mut self, id: TensorId, shape: Vec<usize>) -> TensorId {
        if self.graph.tensor(id).shape == shape {
            return id;
        }
        let view = Tensor { shape, origin: Origin::View(id), ..self.graph.tensor(id).clone() };
        self.graph.add_tensor(view)
    }
}
