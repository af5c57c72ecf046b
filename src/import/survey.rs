//! What a model consists of, before anything is compiled. An error in one part of a model does not
//! keep the rest from being reported.
//!
//! Multiply-adds are tract's count for each of its typed nodes: convolutions, matrix products,
//! recurrent layers with all their steps. The critical path is the chain of dependent nodes with
//! the most multiply-adds. All multiply-adds divided by those of the critical path are the average
//! parallelism.

use std::collections::BTreeMap;
use std::path::Path;

use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::tensor_shape_proto::dimension::Value as Dim;
use tract_onnx::pb::{self, type_proto};
use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::Cost;
use tract_onnx::tract_core::ops::konst::Const;
use tract_onnx::tract_core::ops::source::TypedSource;

use super::onnx::operators::{self, Row, Support};
use super::onnx::{self, ImportOptions, decode, dtype};
use super::tract;
use super::tract::typed::{self, Typed};
use crate::error::{Error, Result};
use crate::graph::Graph;

/// How often a model uses an operator.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct OperatorCount {
    /// With its domain, unless that is ONNX itself: `Conv`, `com.example.Op`.
    pub name: String,
    /// Number of nodes, including those of subgraphs, and those of functions at each call.
    pub nodes: usize,
    /// Why it is refused unless it is folded away; `None` if it is lowered.
    pub refusal: Option<String>,
}

/// What a model consists of.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Survey {
    /// Domain (empty for ONNX itself) and version.
    pub opsets: Vec<(String, i64)>,
    /// Name and type, `f32 batchx3x224x224`, of each input that is given at run time.
    pub inputs: Vec<(String, String)>,
    /// Name and type of each output, as the file declares them.
    pub outputs: Vec<(String, String)>,
    /// The operators, by name.
    pub operators: Vec<OperatorCount>,
    /// Number of floating-point numbers that the file stores.
    pub parameters: u64,
    /// Nodes that are left after typing and folding, by tract's operator; empty if the model cannot
    /// be typed.
    pub typed: BTreeMap<String, usize>,
    /// Multiply-adds of one inference.
    pub macs: u64,
    /// Multiply-adds of the critical path.
    pub critical_path_macs: u64,
}

/// Surveys the model at `path` and imports it. The second result is its graph, or why there is
/// none.
///
/// # Errors
///
/// If the file is not a sound ONNX model. A model that cannot be typed is not such an error: the
/// second result reports it.
pub fn survey(path: &Path, options: &ImportOptions) -> Result<(Survey, Result<Graph>)> {
    super::guarded(path, || survey_model(path, options))
}

fn survey_model(path: &Path, options: &ImportOptions) -> Result<(Survey, Result<Graph>)> {
    let (mut proto, _) = onnx::read(path, options)?;
    let mut survey = Survey {
        opsets: proto.opset_import.iter().map(|set| (set.domain.clone(), set.version)).collect(),
        operators: count_operators(&proto),
        ..Survey::default()
    };
    if let Some(graph) = &proto.graph {
        let mut tensors = Vec::new();
        decode::stored_tensors(graph, &mut tensors);
        let floats = tensors.into_iter().filter(|tensor| is_float(tensor.data_type));
        survey.parameters = floats.map(|tensor| tensor.dims.iter().map(|&d| d.max(0) as u64).product::<u64>()).sum();
        survey.inputs = decode::run_time_inputs(graph).into_iter().map(port).collect();
        survey.outputs = graph.output.iter().map(port).collect();
    }
    let options = ImportOptions { no_reference: true, ..options.clone() };
    let graph = match tract::typed_model(path, &mut proto, &options) {
        Ok(Typed { kept, narrow, .. }) => {
            for node in kept.nodes().iter().filter(|node| !node.op_is::<Const>() && !node.op_is::<TypedSource>()) {
                *survey.typed.entry(node.op.name().into_owned()).or_default() += 1;
            }
            (survey.macs, survey.critical_path_macs) = typed::quietly(path, "counting multiply-adds", || macs(&kept))?;
            super::lowered(path, &proto, &kept, &narrow)
        }
        Err(error @ (Error::Model { .. } | Error::Unsupported(_))) => Err(error),
        Err(error) => return Err(error),
    };
    if graph.is_ok() {
        // what the table refuses was folded away
        survey.operators.iter_mut().for_each(|operator| operator.refusal = None);
    }
    Ok((survey, graph))
}

fn count_operators(proto: &pb::ModelProto) -> Vec<OperatorCount> {
    fn visit<'a>(nodes: &'a [pb::NodeProto], counts: &mut BTreeMap<(&'a str, &'a str), usize>) {
        for node in nodes {
            *counts.entry((&node.domain, &node.op_type)).or_default() += 1;
            let subgraphs = node.attribute.iter().flat_map(|a| a.g.iter().chain(&a.graphs));
            subgraphs.for_each(|graph| visit(&graph.node, counts));
        }
    }
    let mut counts = BTreeMap::new();
    proto.graph.iter().for_each(|graph| visit(&graph.node, &mut counts));
    let entry = |((domain, name), nodes): ((&str, &str), usize)| OperatorCount {
        name: if matches!(domain, "" | "ai.onnx") { name.to_string() } else { format!("{domain}.{name}") },
        nodes,
        refusal: match operators::find(domain, name) {
            Some(row) => row.refusal().map(str::to_string),
            None => Some("hiosc does not know this operator".into()),
        },
    };
    counts.into_iter().map(entry).collect()
}

/// The name in text forms, `f32` or `i64`. A type that hiosc does not have gets its name in ONNX,
/// such as `FLOAT8E4M3FN`.
fn type_name(of: DataType) -> String {
    let known = dtype::dtype_of(of).map(|dtype| dtype.name().to_string());
    known.unwrap_or_else(|| of.as_str_name().to_string())
}

fn is_float(code: i32) -> bool {
    matches!(DataType::try_from(code), Ok(DataType::Float | DataType::Double | DataType::Float16 | DataType::Bfloat16))
}

/// `f32 batchx3x224x224`
fn port(value: &pb::ValueInfoProto) -> (String, String) {
    let text = match value.r#type.as_ref().and_then(|t| t.value.as_ref()) {
        Some(type_proto::Value::TensorType(tensor)) => {
            let dtype = DataType::try_from(tensor.elem_type).map_or_else(|_| "?".into(), type_name);
            let dim = |d: &pb::tensor_shape_proto::Dimension| match &d.value {
                Some(Dim::DimValue(n)) => n.to_string(),
                Some(Dim::DimParam(name)) if !name.is_empty() => name.clone(),
                _ => "?".into(),
            };
            let shape = tensor.shape.as_ref().map(|shape| shape.dim.iter().map(dim).collect::<Vec<_>>());
            let shape = shape.map_or("of unknown rank".into(), |dims| if dims.is_empty() { "scalar".into() } else { dims.join("x") });
            format!("{dtype} {shape}")
        }
        None => "not a tensor".into(),
    };
    (value.name.clone(), text)
}

/// Multiply-adds of all nodes, and of the heaviest chain.
fn macs(model: &TypedModel) -> TractResult<(u64, u64)> {
    let (mut all, mut longest) = (0u64, 0u64);
    let mut until: BTreeMap<usize, u64> = BTreeMap::new();
    for id in model.eval_order()? {
        let node = model.node(id);
        let (inputs, _) = model.node_facts(id)?;
        let mut own = 0u64;
        for (kind, count) in node.op.cost(&inputs)? {
            if matches!(kind, Cost::FMA(_)) {
                own = own.saturating_add(count.to_i64().unwrap_or(0).max(0) as u64);
            }
        }
        // tract counts a scaling or an addition as a multiply-add, too
        let own = if elementwise(node) { 0 } else { own };
        let before = node.inputs.iter().filter_map(|input| until.get(&input.node)).copied().max().unwrap_or(0);
        until.insert(id, before + own);
        all += own;
        longest = longest.max(before + own);
    }
    Ok((all, longest))
}

fn elementwise(node: &TypedNode) -> bool {
    use tract_onnx::tract_core::ops::{binary::TypedBinOp, element_wise::ElementWiseOp, nn::Reduce};
    node.op_is::<TypedBinOp>() || node.op_is::<ElementWiseOp>() || node.op_is::<Reduce>()
}

impl OperatorCount {
    /// The table's row, if ONNX or one of its extensions has the operator.
    fn row(&self) -> Option<&'static Row> {
        match self.name.rsplit_once('.') {
            Some((domain, name)) => operators::find(domain, name),
            None => operators::find("", &self.name),
        }
    }

    /// What it becomes, or why it is refused.
    pub fn becomes(&self) -> String {
        match (&self.refusal, self.row().map(|row| row.support)) {
            (Some(why), _) => format!("refused: {why}"),
            (None, Some(Support::Lowered { how, limits: "", .. })) => how.to_string(),
            (None, Some(Support::Lowered { how, limits, .. })) => format!("{how} ({limits})"),
            (None, Some(Support::Folded { .. } | Support::Refused { .. })) => "a weight: its value is known".into(),
            (None, None) => String::new(),
        }
    }
}
