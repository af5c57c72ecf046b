//! The file itself: is it ONNX, is it whole, does it use only operators that exist, and are its input shapes known?

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path};

use prost::Message;
use tract_onnx::pb::{self, tensor_shape_proto::dimension::Value as Dim};

use crate::error::{Error, Result};

fn broken(path: &Path, message: impl Into<String>) -> Error {
    Error::Model { path: path.to_path_buf(), message: message.into() }
}

/// Decodes `bytes` and checks what needs no types.
pub fn decode(path: &Path, bytes: &[u8]) -> Result<pb::ModelProto> {
    if bytes.starts_with(b"version https://git-lfs") {
        return Err(broken(path, "this is a Git LFS pointer, not the model: fetch the file with `git lfs pull`"));
    }
    let proto =
        pb::ModelProto::decode(bytes).map_err(|e| broken(path, format!("not an ONNX model, or truncated ({} bytes): {e}", bytes.len())))?;
    let Some(graph) = &proto.graph else {
        return Err(broken(path, format!("not an ONNX model, or truncated ({} bytes): it holds no graph", bytes.len())));
    };
    if graph.output.is_empty() {
        return Err(broken(path, "the graph has no outputs: the file is truncated, or was exported wrongly"));
    }
    check_external_data(path, graph)?;
    check_names(path, graph)?;
    check_operators(graph)?;
    Ok(proto)
}

/// Every external tensor must lie in a file beside the model, which must be long enough.
fn check_external_data(path: &Path, graph: &pb::GraphProto) -> Result<()> {
    let folder = path.parent().unwrap_or(Path::new(""));
    let mut missing: BTreeMap<String, usize> = BTreeMap::new();
    for tensor in &graph.initializer {
        let entry = |key: &str| tensor.external_data.iter().find(|e| e.key == key).map(|e| e.value.as_str());
        let Some(location) = entry("location") else { continue };
        let inside = Path::new(location).components().all(|c| matches!(c, Component::Normal(_) | Component::CurDir));
        if !inside {
            return Err(broken(path, format!("tensor {:?} lies at {location:?}, outside the model's folder: refused", tensor.name)));
        }
        let number = |key| match entry(key) {
            None => Ok(0),
            Some(text) => text.parse::<u64>().map_err(|_| broken(path, format!("tensor {:?}: bad {key} {text:?}", tensor.name))),
        };
        let end = number("offset")?.saturating_add(number("length")?);
        match std::fs::metadata(folder.join(location)) {
            Err(_) => *missing.entry(location.to_string()).or_default() += 1,
            Ok(file) if file.len() < end => {
                let have = file.len();
                return Err(broken(
                    path,
                    format!("external data {location:?} is truncated: {have} bytes, tensor {:?} ends at {end}", tensor.name),
                ));
            }
            Ok(_) => {}
        }
    }
    let missing: Vec<String> = missing.iter().map(|(file, tensors)| format!("{file:?} ({tensors} tensors)")).collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(broken(path, format!("external data missing: {}; put it beside the model, under that name", missing.join(", "))))
}

/// Every name that is read must be written somewhere.
fn check_names(path: &Path, graph: &pb::GraphProto) -> Result<()> {
    let known: BTreeSet<&str> = (graph.input.iter().map(|v| v.name.as_str()))
        .chain(graph.initializer.iter().map(|t| t.name.as_str()))
        .chain(graph.node.iter().flat_map(|n| n.output.iter().map(String::as_str)))
        .collect();
    let lost = |name: &str| !name.is_empty() && !known.contains(name);
    for node in &graph.node {
        if let Some(name) = node.input.iter().find(|name| lost(name)) {
            return Err(broken(path, format!("node {:?} ({}) reads {name:?}, which nothing provides", node.name, node.op_type)));
        }
    }
    if let Some(output) = graph.output.iter().find(|v| lost(&v.name)) {
        return Err(broken(path, format!("nothing provides the output {:?}: the file is truncated, or was exported wrongly", output.name)));
    }
    Ok(())
}

/// All operators that cannot even be parsed, in one error.
fn check_operators(graph: &pb::GraphProto) -> Result<()> {
    let register = tract_onnx::onnx().op_register;
    let mut unknown: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for node in &graph.node {
        let standard = matches!(node.domain.as_str(), "" | "ai.onnx");
        if standard && register.0.contains_key(&node.op_type) {
            continue;
        }
        let operator = if standard { node.op_type.clone() } else { format!("{}.{}", node.domain, node.op_type) };
        let name = if node.name.is_empty() { node.output.first().map_or("", String::as_str) } else { &node.name };
        unknown.entry(operator).or_default().push(name);
    }
    if unknown.is_empty() {
        return Ok(());
    }
    let lines = unknown.into_iter().map(|(operator, nodes)| format!("operator {operator} is not known ({})", some(&nodes)));
    Err(Error::Unsupported(lines.collect()))
}

/// `node "a"`, or `7 nodes: "a", "b", "c", ...`.
pub fn some(nodes: &[&str]) -> String {
    let quoted: Vec<String> = nodes.iter().take(3).map(|n| format!("{n:?}")).collect();
    match nodes.len() {
        1 => format!("node {}", quoted[0]),
        n => format!("{n} nodes: {}{}", quoted.join(", "), if n > 3 { ", ..." } else { "" }),
    }
}

/// The inputs of the model that are not initialisers, each with its static shape.
pub fn input_shapes(path: &Path, proto: &pb::ModelProto, given: &BTreeMap<String, Vec<usize>>) -> Result<Vec<(String, Vec<usize>)>> {
    let Some(graph) = &proto.graph else { return Ok(Vec::new()) };
    let initialised: BTreeSet<&str> = graph.initializer.iter().map(|t| t.name.as_str()).collect();
    let inputs: Vec<_> = graph.input.iter().filter(|v| !initialised.contains(v.name.as_str())).collect();
    if let Some(name) = given.keys().find(|name| !inputs.iter().any(|v| v.name == **name)) {
        let names: Vec<_> = inputs.iter().map(|v| v.name.as_str()).collect();
        return Err(Error::Usage(format!("--shapes names {name:?}, but the model's inputs are {names:?}")));
    }
    let mut open = Vec::new();
    let mut shapes = Vec::new();
    for input in inputs {
        if let Some(shape) = given.get(&input.name) {
            shapes.push((input.name.clone(), shape.clone()));
            continue;
        }
        let Some(pb::type_proto::Value::TensorType(tensor)) = input.r#type.as_ref().and_then(|t| t.value.as_ref()) else {
            return Err(Error::Unsupported(vec![format!("input {:?} is not a tensor", input.name)]));
        };
        let dims = tensor.shape.as_ref().map(|s| s.dim.as_slice());
        let fixed: Option<Vec<usize>> = dims.and_then(|dims| {
            let fixed = dims.iter().map(|d| match d.value {
                Some(Dim::DimValue(n)) => usize::try_from(n).ok().filter(|&n| n > 0),
                _ => None,
            });
            fixed.collect()
        });
        match fixed {
            Some(shape) => shapes.push((input.name.clone(), shape)),
            None => open.push(format!("{} has shape {}", input.name, dims.map_or("unknown".into(), shape_words))),
        }
    }
    if open.is_empty() {
        return Ok(shapes);
    }
    let example = open[0].split(' ').next().unwrap_or("input");
    Err(broken(
        path,
        format!("dynamic input shapes ({}): give them with --shapes, for example --shapes {example}:1x3x224x224", open.join("; ")),
    ))
}

/// `batch x 3 x 224 x 224`
fn shape_words(dims: &[pb::tensor_shape_proto::Dimension]) -> String {
    let words = dims.iter().map(|d| match &d.value {
        Some(Dim::DimValue(n)) if *n > 0 => n.to_string(),
        Some(Dim::DimParam(name)) if !name.is_empty() => name.clone(),
        _ => "?".into(),
    });
    words.collect::<Vec<_>>().join("x")
}
