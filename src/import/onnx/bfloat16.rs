//! bfloat16, which the reader does not have, as single precision that is rounded.
//!
//! Every value of type bfloat16 becomes one of type f32 that bfloat16 can hold. A node with such a
//! result gets a node [`ROUND`] behind it: the node computes in single precision, and its result is
//! rounded once. Nodes that only move values need none. Lowering makes the rounded values bfloat16
//! in memory again.
//!
//! Which results are bfloat16 follows from ONNX's type constraints: nearly all operators give the
//! type of their first input. [`TYPED_BY`] lists the others.

use std::collections::BTreeSet;

use tract_onnx::pb;
use tract_onnx::pb::tensor_proto::{DataLocation, DataType};
use tract_onnx::pb::type_proto;

use super::inline::SELECT;

/// The operator that rounds to the nearest bfloat16, and leaves other types as they are.
pub const ROUND: &str = "hiosc.bfloat16";

/// Operators whose results have the type of another input than the first: its position.
const TYPED_BY: [(&str, usize); 7] = [
    ("CastLike", 1),                           // the type to convert to
    ("DequantizeLinear", 1),                   // the scale
    ("OneHot", 2),                             // the values
    ("Where", 1),                              // the values
    ("com.microsoft.DequantizeLinear", 1),     // the scale
    ("com.microsoft.GatherBlockQuantized", 2), // the scales
    (SELECT, 1),                               // the values
];

/// Operators of which some results are statistics in single precision: their positions.
const STATISTICS: [(&str, [usize; 2]); 4] = [
    ("LayerNormalization", [1, 2]),
    ("SimplifiedLayerNormalization", [1, 2]),
    ("com.microsoft.SkipLayerNormalization", [1, 2]),
    ("com.microsoft.SkipSimplifiedLayerNormalization", [1, 2]),
];

/// Operators that only move values, which need not be rounded again. The reader folds many of them
/// into others, unless a rounding stands between.
const MOVES: [&str; 10] =
    ["Concat", "DepthToSpace", "Flatten", "Identity", "Reshape", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze"];

/// Attributes that name the type of the results.
const RESULT_TYPES: [&str; 4] = ["to", "dtype", "output_dtype", "output_datatype"];

/// Attributes that name the type in which a node computes.
const INNER_TYPES: [&str; 3] = ["stash_type", "softmax_precision", "precision"];

const CODE: i32 = DataType::Bfloat16 as i32;
const WIDE: i32 = DataType::Float as i32;

/// Replaces bfloat16 in `proto`. Returns the names of the values that were of that type.
pub fn widen(proto: &mut pb::ModelProto) -> BTreeSet<String> {
    let mut narrow = BTreeSet::new();
    let Some(graph) = &mut proto.graph else { return narrow };
    // until nothing is added, since nodes may be in any order
    loop {
        let before = narrow.len();
        mark(graph, &mut narrow);
        if narrow.len() == before {
            break;
        }
    }
    if !narrow.is_empty() {
        rewrite(graph, &narrow);
    }
    narrow
}

/// Adds the names of the values of `graph`, and of its subgraphs, that are bfloat16.
fn mark(graph: &pb::GraphProto, narrow: &mut BTreeSet<String>) {
    narrow.extend(graph.input.iter().filter(|value| is_narrow(value)).map(|value| value.name.clone()));
    narrow.extend(graph.initializer.iter().filter(|tensor| tensor.data_type == CODE).map(|tensor| tensor.name.clone()));
    for node in &graph.node {
        let bodies: Vec<&pb::GraphProto> =
            node.attribute.iter().flat_map(|attribute| attribute.g.iter().chain(&attribute.graphs)).collect();
        for body in &bodies {
            // the number of a step and its condition are not tensors of the node's own types
            let first = if node.op_type == "Loop" { 2 } else { 0 };
            for (inner, outer) in body.input.iter().zip(&node.input).skip(first) {
                if narrow.contains(outer) {
                    narrow.insert(inner.name.clone());
                }
            }
            mark(body, narrow);
        }
        for (position, output) in node.output.iter().enumerate().filter(|(_, output)| !output.is_empty()) {
            let of = |body: &pb::GraphProto, position: usize| body.output.get(position).is_some_and(|inner| narrow.contains(&inner.name));
            let result = match node.op_type.as_str() {
                "Loop" => bodies.iter().any(|body| of(body, position + 1)),
                "If" | "Scan" => bodies.iter().any(|body| of(body, position)),
                _ => gives(node, position, narrow),
            };
            if result {
                narrow.insert(output.clone());
            }
        }
    }
}

/// Whether the result `position` of `node`, if it is a floating-point number, is bfloat16.
fn gives(node: &pb::NodeProto, position: usize, narrow: &BTreeSet<String>) -> bool {
    if let Some(attribute) = node.attribute.iter().find(|attribute| RESULT_TYPES.contains(&attribute.name.as_str()) && attribute.i != 0) {
        return attribute.i == i64::from(CODE);
    }
    if let Some(tensor) = node.attribute.iter().filter(|attribute| attribute.name == "value").find_map(|attribute| attribute.t.as_ref()) {
        return tensor.data_type == CODE;
    }
    if STATISTICS.iter().any(|(operator, positions)| *operator == node.op_type && positions.contains(&position)) {
        return false;
    }
    let typed_by = TYPED_BY.iter().find(|(operator, _)| *operator == node.op_type).map_or(0, |&(_, input)| input);
    node.input.get(typed_by).is_some_and(|input| narrow.contains(input))
}

/// Replaces the types in `graph`, and rounds the results that are in `narrow`.
fn rewrite(graph: &mut pb::GraphProto, narrow: &BTreeSet<String>) {
    graph.input.iter_mut().chain(&mut graph.output).chain(&mut graph.value_info).for_each(widen_type);
    graph.initializer.iter_mut().for_each(widen_tensor);
    for mut node in std::mem::take(&mut graph.node) {
        for attribute in &mut node.attribute {
            let is_type = |names: &[&str]| names.contains(&attribute.name.as_str());
            if attribute.i == i64::from(CODE) && (is_type(&RESULT_TYPES) || is_type(&INNER_TYPES)) {
                attribute.i = i64::from(WIDE);
            }
            attribute.t.iter_mut().chain(&mut attribute.tensors).for_each(widen_tensor);
            attribute.g.iter_mut().chain(&mut attribute.graphs).for_each(|body| rewrite(body, narrow));
        }
        // the results of a body are rounded inside it
        let rounded = matches!(node.op_type.as_str(), "If" | "Loop" | "Scan") || MOVES.contains(&node.op_type.as_str());
        let mut roundings = Vec::new();
        for (position, output) in node.output.iter_mut().enumerate().filter(|(_, output)| !rounded && narrow.contains(*output)) {
            let wide = format!("{output}/f32");
            roundings.push(pb::NodeProto {
                op_type: ROUND.into(),
                name: format!("{}.bf16-{position}", node.name),
                input: vec![wide.clone()],
                output: vec![std::mem::replace(output, wide)],
                ..Default::default()
            });
        }
        graph.node.push(node);
        graph.node.extend(roundings);
    }
}

/// Whether a value is declared to be bfloat16.
fn is_narrow(value: &pb::ValueInfoProto) -> bool {
    matches!(value.r#type.as_ref().and_then(|t| t.value.as_ref()), Some(type_proto::Value::TensorType(tensor)) if tensor.elem_type == CODE)
}

fn widen_type(value: &mut pb::ValueInfoProto) {
    if let Some(type_proto::Value::TensorType(tensor)) = value.r#type.as_mut().and_then(|t| t.value.as_mut())
        && tensor.elem_type == CODE
    {
        tensor.elem_type = WIDE;
    }
}

/// Makes a tensor of bfloat16 one of f32. One whose data is in another file stays: whoever reads
/// that file does it.
pub fn widen_tensor(tensor: &mut pb::TensorProto) {
    if tensor.data_type != CODE || tensor.data_location == Some(DataLocation::External as i32) {
        return;
    }
    let bits = std::mem::take(&mut tensor.int32_data);
    let raw = std::mem::take(&mut tensor.raw_data);
    // either holds the values: in numbers of 32 bits, or of 16
    tensor.raw_data = bits.iter().flat_map(|&bits| wide(bits as u16)).chain(wide_bytes(&raw)).collect();
    tensor.data_type = WIDE;
}

/// The bytes of f32 numbers that equal the bfloat16 numbers in `bytes`.
pub fn wide_bytes(bytes: &[u8]) -> impl Iterator<Item = u8> {
    let (pairs, _) = bytes.as_chunks::<2>();
    pairs.iter().flat_map(|&pair| wide(u16::from_le_bytes(pair)))
}

/// The bytes of the f32 number whose upper half is `bits`.
fn wide(bits: u16) -> [u8; 4] {
    (u32::from(bits) << 16).to_le_bytes()
}
