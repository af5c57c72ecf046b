//! Finds the ONNX nodes that tract cannot parse, and why.
//!
//! tract stops at the first node that it cannot parse, and reports an unknown operator as one that
//! cannot be typed. Here each node, including those of subgraphs, is first parsed on its own, so
//! that one error lists them all.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::{self, type_proto};
use tract_onnx::prelude::*;

use super::messages::plain;
use super::readers::onnx;
use super::typed;
use crate::error::{Error, Result};
use crate::import::onnx::decode::some;
use crate::import::onnx::limits::MOST_AXES;
use crate::import::onnx::operators::{self, Row, Support};
use crate::import::onnx::{attributes, tidy};
use crate::panics::{one_line, silently};

/// Reports all nodes and inputs that cannot be parsed, in one error.
pub fn check(path: &Path, proto: &pb::ModelProto) -> Result<()> {
    let Some(graph) = &proto.graph else { return Ok(()) };
    let onnx = onnx();
    let folder = path.parent().map(|p| p.to_string_lossy().into_owned());
    let version = tidy::version(proto).unwrap_or(0);
    let context = ParsingContext {
        onnx_operator_set_version: version,
        framework: &onnx,
        model: proto,
        parent_graphs: Vec::new(),
        model_dir: folder.as_deref(),
        template: InferenceModel::default(),
    };
    let mut problems = ParseErrors::default();
    problems.types(graph);
    problems.nodes(&context, graph);
    if problems.0.is_empty() {
        return Ok(());
    }
    let lines = problems.0.iter().map(|(problem, nodes)| problem.replacen(NODES, &some(nodes), 1));
    Err(Error::Unsupported(lines.collect()))
}

/// Placeholder for the nodes in the text of a problem.
const NODES: &str = "\0";

/// Each problem, with the nodes that have it.
#[derive(Default)]
struct ParseErrors<'a>(BTreeMap<String, Vec<&'a str>>);

impl<'a> ParseErrors<'a> {
    /// Inputs, outputs and initialisers that are not tensors of numbers.
    fn types(&mut self, graph: &'a pb::GraphProto) {
        for tensor in &graph.initializer {
            if let Some(reason) = element_type(tensor.data_type) {
                self.0.entry(format!("initialiser ({NODES}): {reason}")).or_default().push(&tensor.name);
            }
        }
        let inputs = graph.input.iter().map(|value| ("input", value));
        for (kind, value) in inputs.chain(graph.output.iter().map(|value| ("output", value))) {
            let problem = match value.r#type.as_ref().and_then(|t| t.value.as_ref()) {
                // an output's type may be left out
                None if kind == "output" && value.r#type.is_none() => continue,
                None => format!("{kind} {:?} is not a tensor: sequences, optional values and maps are not supported", value.name),
                Some(type_proto::Value::TensorType(tensor)) => match element_type(tensor.elem_type) {
                    Some(reason) => format!("{kind} ({NODES}): {reason}"),
                    None => continue,
                },
            };
            self.0.entry(problem).or_default().push(&value.name);
        }
    }

    /// The nodes of a graph and of its subgraphs.
    fn nodes(&mut self, context: &ParsingContext, graph: &'a pb::GraphProto) {
        for node in &graph.node {
            let name = if node.name.is_empty() { node.output.first().map_or("", String::as_str) } else { &node.name };
            let before = self.0.len();
            for subgraph in node.attribute.iter().flat_map(|a| a.g.iter().chain(&a.graphs)) {
                self.nodes(context, subgraph);
            }
            // not reported if its subgraph cannot be parsed
            if let Some(problem) = problem(context, node).filter(|_| self.0.len() == before) {
                self.0.entry(problem).or_default().push(name);
            }
        }
    }
}

/// Why `node` cannot be parsed.
fn problem(context: &ParsingContext, node: &pb::NodeProto) -> Option<String> {
    let operator = node.op_type.escape_debug();
    let row = operators::find("", &node.op_type);
    let Some(builder) = context.framework.op_register.0.get(&node.op_type) else {
        return Some(match row.and_then(Row::refusal) {
            Some(why) => format!("{operator} ({NODES}): {why}"),
            None if operator.to_string().starts_with("com.microsoft.") => {
                format!("{operator} ({NODES}): this operator of ONNX Runtime is not supported: export or optimise the model without it")
            }
            None => format!("operator {operator} is not known ({NODES})"),
        });
    };
    if node.op_type == "Scan" && context.onnx_operator_set_version < 9 {
        return Some(format!("{operator} ({NODES}): before opset 9, it was another operator: export the model with a newer opset"));
    }
    if let Some(why) = attributes::refusal(node) {
        return Some(format!("{operator} ({NODES}): {why}"));
    }
    let split =
        node.attribute.iter().find(|a| a.name == "num_outputs" && node.op_type == "Split").filter(|a| a.i != node.output.len() as i64);
    if let Some(split) = split {
        return Some(format!("{operator} ({NODES}): its num_outputs is {}, but it has {} outputs", split.i, node.output.len()));
    }
    // an unknown stored element type is reported more clearly here
    let stored = node.attribute.iter().flat_map(|a| a.t.iter().chain(&a.tensors)).find_map(|tensor| element_type(tensor.data_type));
    let cast = node.attribute.iter().filter(|a| a.name == "to" && node.op_type == "Cast").find_map(|a| element_type(a.i as i32));
    // tract does not terminate on an order that names an axis twice
    let order = node.attribute.iter().filter(|a| a.name == "perm" && node.op_type == "Transpose").find_map(|a| axis_order(&a.ints));
    let scan = if node.op_type == "Scan" { scan_body(node) } else { None };
    let axis = node.attribute.iter().filter(|a| matches!(a.name.as_str(), "axis" | "axes")).find_map(axis_range);
    let wide = node.attribute.iter().filter(|a| !ANY_NUMBER.contains(&a.name.as_str())).find_map(wide);
    let reason = stored.or(cast).or(order).or(scan).or(axis).or(wide).or_else(|| {
        match silently(|| catch_unwind(AssertUnwindSafe(|| builder(context, node)))) {
            Ok(Ok(_)) => None,
            Ok(Err(error)) => Some(match row.map(|row| row.support) {
                Some(Support::Refused { why }) => why.to_string(),
                // tract often names the operator itself
                _ => plain(one_line(&format!("{error:#}")).trim_start_matches(&format!("{operator}: "))),
            }),
            Err(panic) => Some(typed::panicked(&*panic)),
        }
    });
    reason.map(|reason| format!("{operator} ({NODES}): {reason}"))
}

/// Why an axis, or a list of them, is refused. tract loops up to some axis numbers, however large.
fn axis_range(attribute: &pb::AttributeProto) -> Option<String> {
    let beyond = attribute.ints.iter().chain([&attribute.i]).find(|axis| axis.unsigned_abs() > MOST_AXES)?;
    Some(format!("{} {beyond} is beyond the axes of any tensor", attribute.name))
}

/// Attributes whose integers may be of any size: bounds, which are cut to an axis, values, limits.
const ANY_NUMBER: [&str; 10] =
    ["end", "ends", "k", "left_window_size", "local_window_size", "right_window_size", "start", "starts", "value_int", "value_ints"];

/// Why an attribute with a number that does not fit 32 bits is refused. tract cuts some to 32 bits.
fn wide(attribute: &pb::AttributeProto) -> Option<String> {
    let beyond = attribute.ints.iter().chain([&attribute.i]).find(|number| number.unsigned_abs() >= 1 << 31)?;
    Some(format!("its attribute {} has {beyond}, which does not fit 32 bits", attribute.name))
}

/// Why the body of a Scan is refused: the number of its sequences, up to which tract loops, however
/// large; or an input without a type.
fn scan_body(node: &pb::NodeProto) -> Option<String> {
    let body = node.attribute.iter().find(|a| a.name == "body")?.g.as_ref()?;
    let sequences = node.attribute.iter().find(|a| a.name == "num_scan_inputs")?.i;
    let states = usize::try_from(sequences).ok().and_then(|n| body.input.len().checked_sub(n));
    if states.is_some_and(|states| states <= body.output.len()) {
        let untyped = body.input.iter().find(|input| input.r#type.is_none())?;
        return Some(format!("the input {:?} of its body has no type: export the model with one", untyped.name));
    }
    Some(format!("{sequences} sequences do not fit a body of {} inputs and {} outputs", body.input.len(), body.output.len()))
}

/// Why an order of axes is refused.
fn axis_order(axes: &[i64]) -> Option<String> {
    let mut sorted = axes.to_vec();
    sorted.sort_unstable();
    if sorted.iter().copied().eq(0..axes.len() as i64) { None } else { Some(format!("perm {axes:?} does not name each axis once")) }
}

/// Why an element type is refused.
fn element_type(code: i32) -> Option<String> {
    use DataType as T;
    match T::try_from(code) {
        Ok(T::Bfloat16 | T::Float8e4m3fn | T::Float8e4m3fnuz | T::Float8e5m2 | T::Float8e5m2fnuz | T::Uint4 | T::Int4 | T::Float4e2m1) => {
            let name = T::try_from(code).map_or_else(|_| code.to_string(), |t| format!("{t:?}"));
            Some(format!("element type {} is not supported", name.to_lowercase()))
        }
        Ok(T::String) => Some("strings are not supported".into()),
        Ok(T::Complex64 | T::Complex128) => Some("complex numbers are not supported".into()),
        Ok(_) => None,
        // types that are newer than the reader's protobuf
        Err(_) => Some(match code {
            24 => "element type float8e8m0 is not supported".into(),
            25 => "element type uint2 is not supported".into(),
            26 => "element type int2 is not supported".into(),
            _ => format!("element type {code} is not known"),
        }),
    }
}
