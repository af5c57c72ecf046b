//! Brings what exporters write into one form, before the reader sees it.
//!
//! * The opset must be one that hiosc knows.
//! * Optional inputs and outputs that are given as empty names at the end are left out.
//! * Every node has a name of its own, which no input and no initialiser has. A node without one is
//!   named after its first output.
//! * Integers of 4 bits, which are packed in pairs, become integers of 8 bits. Only
//!   `DequantizeLinear` reads them.
//! * An operator of another domain than ONNX's gets its domain as a prefix, since the reader looks
//!   for operators by name alone: `com.microsoft.Attention` is not ONNX's `Attention`.

use std::collections::BTreeSet;
use std::path::Path;

use tract_onnx::pb;
use tract_onnx::pb::tensor_proto::{DataLocation, DataType};

use crate::error::{Error, Result};

/// The oldest opset that is read. Before it, operators broadcast by attributes of their own, and
/// shapes were attributes.
pub const OLDEST: i64 = 6;
/// The newest opset that is read: that of the schemas in `testdata/onnx_schemas.txt`.
pub const NEWEST: i64 = 28;

/// The domain of ONNX itself.
pub fn standard(domain: &str) -> bool {
    matches!(domain, "" | "ai.onnx")
}

/// Brings `proto` into form; its file is `path`.
pub fn tidy(path: &Path, proto: &mut pb::ModelProto) -> Result<()> {
    opset(path, proto)?;
    if let Some(graph) = &mut proto.graph {
        let inputs = graph.input.iter().map(|value| value.name.clone());
        let mut taken: BTreeSet<String> = inputs.chain(graph.initializer.iter().map(|tensor| tensor.name.clone())).collect();
        for node in &mut graph.node {
            let usable = !node.name.is_empty() && !taken.contains(&node.name);
            if !usable {
                node.name = fresh(node, &taken);
            }
            taken.insert(node.name.clone());
        }
        within(graph);
    }
    Ok(())
}

/// A name that is not taken: that of the first output, or one with a number.
fn fresh(node: &pb::NodeProto, taken: &BTreeSet<String>) -> String {
    let output = node.output.iter().find(|name| !name.is_empty()).unwrap_or(&node.op_type).clone();
    if !taken.contains(&output) {
        return output;
    }
    (2..).map(|i| format!("{output}#{i}")).find(|name| !taken.contains(name)).unwrap_or(output)
}

/// The opset of ONNX's own operators.
pub fn version(proto: &pb::ModelProto) -> Option<i64> {
    proto.opset_import.iter().find(|import| standard(&import.domain)).map(|import| import.version)
}

fn opset(path: &Path, proto: &pb::ModelProto) -> Result<()> {
    let wrong = |message: String| Err(Error::Model { path: path.to_path_buf(), message });
    let unsupported = |message: String| Err(Error::Unsupported(vec![message]));
    match version(proto) {
        Some(OLDEST..=NEWEST) => Ok(()),
        Some(old) if old < OLDEST => unsupported(format!(
            "opset {old} is older than the oldest that hiosc reads, {OLDEST}: export the model with a newer one, or convert it with onnx.version_converter"
        )),
        Some(new) => {
            unsupported(format!("opset {new} is newer than the newest that hiosc knows, {NEWEST}: export the model with an older one"))
        }
        None if proto.graph.iter().flat_map(|graph| &graph.node).any(|node| standard(&node.domain)) => wrong(
            "it does not say which opset of ONNX its operators are of (opset_import): the file is damaged, or was exported wrongly".into(),
        ),
        None => Ok(()),
    }
}

/// Brings nodes and tensors into form, those of subgraphs included.
fn within(graph: &mut pb::GraphProto) {
    graph.initializer.iter_mut().for_each(unpack);
    for node in &mut graph.node {
        for names in [&mut node.input, &mut node.output] {
            while names.last().is_some_and(String::is_empty) {
                names.pop();
            }
        }
        if !standard(&node.domain) {
            node.op_type = format!("{}.{}", node.domain, node.op_type);
            node.domain.clear();
        }
        for attribute in &mut node.attribute {
            attribute.t.iter_mut().chain(&mut attribute.tensors).for_each(unpack);
            attribute.g.iter_mut().chain(&mut attribute.graphs).for_each(within);
        }
    }
    // a node without outputs computes nothing
    graph.node.retain(|node| !node.output.is_empty());
}

/// Turns integers of 4 bits into integers of 8 bits.
fn unpack(tensor: &mut pb::TensorProto) {
    let signed = match DataType::try_from(tensor.data_type) {
        Ok(DataType::Int4) => true,
        Ok(DataType::Uint4) => false,
        _ => return,
    };
    let count = tensor.dims.iter().try_fold(1usize, |n, &d| n.checked_mul(usize::try_from(d).ok()?));
    let bytes: Vec<u8> =
        if tensor.raw_data.is_empty() { tensor.int32_data.iter().map(|&pair| pair as u8).collect() } else { tensor.raw_data.clone() };
    let external = tensor.data_location == Some(DataLocation::External as i32);
    let Some(count) = count.filter(|&count| !external && bytes.len() == count.div_ceil(2)) else { return };
    let value = |i: usize| {
        let half = bytes[i / 2] >> (4 * (i % 2)) & 15;
        if signed && half > 7 { half | 0xf0 } else { half }
    };
    tensor.raw_data = (0..count).map(value).collect();
    tensor.int32_data.clear();
    tensor.data_type = if signed { DataType::Int8 } else { DataType::Uint8 } as i32;
}
