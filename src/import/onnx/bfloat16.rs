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

/// Operators of which some results are statistics, of the type that stash_type names: their
/// positions.
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

/// Replaces bfloat16 in `proto`. Returns the names of the values of its graph that were of that
/// type.
pub fn widen(proto: &mut pb::ModelProto) -> BTreeSet<String> {
    let Some(graph) = &mut proto.graph else { return BTreeSet::new() };
    let mut narrow = narrow_in(graph, &BTreeSet::new(), &[]);
    // some exporters do not order the nodes of the main graph
    loop {
        let before = narrow.len();
        add_results(graph, &mut narrow);
        if narrow.len() == before {
            break;
        }
    }
    let mut taken = BTreeSet::new();
    add_names(graph, &mut taken);
    rewrite(graph, &narrow, &mut taken);
    narrow
}

/// The names of the values that are bfloat16 inside `graph`: its own, and those of `outer`, the
/// graphs around it. `given` are its inputs that are so without a type of their own.
fn narrow_in(graph: &pb::GraphProto, outer: &BTreeSet<String>, given: &[String]) -> BTreeSet<String> {
    let mut narrow = outer.clone();
    // another graph may use the same names
    let defined = graph.input.iter().map(|value| &value.name).chain(graph.initializer.iter().map(|tensor| &tensor.name));
    for name in defined.chain(graph.node.iter().flat_map(|node| &node.output)) {
        narrow.remove(name);
    }
    narrow.extend(given.iter().cloned());
    narrow.extend(graph.input.iter().filter(|value| is_narrow(value)).map(|value| value.name.clone()));
    narrow.extend(graph.initializer.iter().filter(|tensor| tensor.data_type == CODE).map(|tensor| tensor.name.clone()));
    add_results(graph, &mut narrow);
    narrow
}

/// Adds the results of the nodes of `graph` that are bfloat16, in the order of the nodes.
fn add_results(graph: &pb::GraphProto, narrow: &mut BTreeSet<String>) {
    for node in &graph.node {
        let results = results(node, narrow);
        let names = node.output.iter().zip(results).filter(|(name, result)| *result && !name.is_empty());
        narrow.extend(names.map(|(name, _)| name.clone()));
    }
}

/// Which results of `node` are bfloat16, if they are floating-point numbers.
fn results(node: &pb::NodeProto, narrow: &BTreeSet<String>) -> Vec<bool> {
    // the first result of a body that is one of the node: that of a loop begins with its condition
    let first = match node.op_type.as_str() {
        "If" | "Scan" => 0,
        "Loop" => 1,
        _ => return (0..node.output.len()).map(|position| gives(node, position, narrow)).collect(),
    };
    let mut results = vec![false; node.output.len()];
    for body in bodies(node) {
        let inside = narrow_in(body, narrow, &given(node, body, narrow));
        for (result, inner) in results.iter_mut().zip(body.output.iter().skip(first)) {
            *result |= inside.contains(&inner.name);
        }
    }
    results
}

fn bodies(node: &pb::NodeProto) -> impl Iterator<Item = &pb::GraphProto> {
    node.attribute.iter().flat_map(|attribute| attribute.g.iter().chain(&attribute.graphs))
}

/// The inputs of `body` that are bfloat16 because the node gives it such values.
fn given(node: &pb::NodeProto, body: &pb::GraphProto, narrow: &BTreeSet<String>) -> Vec<String> {
    // the number of a step and its condition are not of the types of the node
    let first = if node.op_type == "Loop" { 2 } else { 0 };
    let pairs = body.input.iter().zip(&node.input).skip(first);
    pairs.filter(|(_, outer)| narrow.contains(*outer)).map(|(inner, _)| inner.name.clone()).collect()
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
        return node.attribute.iter().any(|attribute| attribute.name == "stash_type" && attribute.i == i64::from(CODE));
    }
    let typed_by = TYPED_BY.iter().find(|(operator, _)| *operator == node.op_type).map_or(0, |&(_, input)| input);
    node.input.get(typed_by).is_some_and(|input| narrow.contains(input))
}

/// Replaces the types in `graph`, and rounds the results that are in `narrow`. New names are none
/// of `taken`.
fn rewrite(graph: &mut pb::GraphProto, narrow: &BTreeSet<String>, taken: &mut BTreeSet<String>) {
    graph.input.iter_mut().chain(&mut graph.output).chain(&mut graph.value_info).for_each(widen_type);
    graph.initializer.iter_mut().for_each(widen_tensor);
    for mut node in std::mem::take(&mut graph.node) {
        let mut inside: Vec<BTreeSet<String>> = bodies(&node).map(|body| narrow_in(body, narrow, &given(&node, body, narrow))).collect();
        let inner = node.attribute.iter_mut().flat_map(|attribute| attribute.g.iter_mut().chain(&mut attribute.graphs));
        inner.zip(&mut inside).for_each(|(body, narrow)| rewrite(body, narrow, taken));
        for attribute in &mut node.attribute {
            let is_type = |names: &[&str]| names.contains(&attribute.name.as_str());
            if attribute.i == i64::from(CODE) && (is_type(&RESULT_TYPES) || is_type(&INNER_TYPES)) {
                attribute.i = i64::from(WIDE);
            }
            attribute.t.iter_mut().chain(&mut attribute.tensors).for_each(widen_tensor);
        }
        // the results of a body are rounded inside it
        let rounded = matches!(node.op_type.as_str(), "If" | "Loop" | "Scan") || MOVES.contains(&node.op_type.as_str());
        let mut roundings = Vec::new();
        for (position, output) in node.output.iter_mut().enumerate().filter(|(_, output)| !rounded && narrow.contains(*output)) {
            let wide = fresh(format!("{output}/f32"), taken);
            roundings.push(pb::NodeProto {
                op_type: ROUND.into(),
                name: fresh(format!("{}.bf16-{position}", if node.name.is_empty() { &*output } else { &node.name }), taken),
                input: vec![wide.clone()],
                output: vec![std::mem::replace(output, wide)],
                ..Default::default()
            });
        }
        graph.node.push(node);
        graph.node.extend(roundings);
    }
}

/// Adds all names in `graph` and its bodies.
fn add_names(graph: &pb::GraphProto, taken: &mut BTreeSet<String>) {
    taken.extend(graph.input.iter().map(|value| value.name.clone()));
    taken.extend(graph.initializer.iter().map(|tensor| tensor.name.clone()));
    for node in &graph.node {
        taken.extend(node.input.iter().chain(&node.output).chain([&node.name]).cloned());
        bodies(node).for_each(|body| add_names(body, taken));
    }
}

/// `name`, or the same with a mark if it is taken.
fn fresh(mut name: String, taken: &mut BTreeSet<String>) -> String {
    while !taken.insert(name.clone()) {
        name.push('#');
    }
    name
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
