//! Decodes an ONNX file and checks what needs no types: the file is complete, its external data is
//! there, its names are defined, and its input shapes are known.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::path::{Component, Path, PathBuf};

use prost::Message;
use tract_onnx::pb::tensor_proto::{DataLocation, DataType};
use tract_onnx::pb::{self, tensor_shape_proto::dimension::Value as Dim};

use super::locate;
use crate::error::{Error, Result};
use crate::graph::shape_text;

fn broken(path: &Path, message: impl Into<String>) -> Error {
    Error::Model { path: path.to_path_buf(), message: message.into() }
}

/// Decodes `bytes` and checks what needs no types. The data of large initialisers stays in the file
/// `path` if that is `seekable`.
pub fn decode(path: &Path, bytes: &[u8], seekable: bool) -> Result<pb::ModelProto> {
    if bytes.is_empty() {
        return Err(broken(path, "not an ONNX model: the file is empty"));
    }
    if bytes.starts_with(b"version https://git-lfs") {
        return Err(broken(path, "this is a Git LFS pointer, not the model: fetch the file with `git lfs pull`"));
    }
    // nearly every ONNX file begins with the tag of `ir_version`
    let kind = if bytes[0] == 0x08 { "a truncated or damaged ONNX model" } else { "not an ONNX model" };
    let size = bytes.len();
    let name = path.file_name().and_then(OsStr::to_str).filter(|_| seekable);
    let smaller = name.and_then(|name| locate::located(bytes, name));
    // errors are those of the whole file
    let proto = match smaller.and_then(|bytes| pb::ModelProto::decode(&bytes[..]).ok()) {
        Some(proto) => proto,
        None => pb::ModelProto::decode(bytes).map_err(|e| broken(path, format!("{kind} ({size} bytes): {e}")))?,
    };
    let Some(graph) = &proto.graph else {
        return Err(broken(path, format!("{kind} ({size} bytes): it holds no graph")));
    };
    if graph.output.is_empty() {
        return Err(broken(path, "the graph has no outputs: the file is truncated, or was exported wrongly"));
    }
    check_tensors(path, graph)?;
    check_names(path, graph)?;
    Ok(proto)
}

/// All tensors that the file stores: initialisers and tensors in attributes, subgraphs included.
pub fn stored_tensors<'a>(graph: &'a pb::GraphProto, all: &mut Vec<&'a pb::TensorProto>) {
    all.extend(&graph.initializer);
    for attribute in graph.node.iter().flat_map(|node| &node.attribute) {
        all.extend(attribute.t.iter().chain(&attribute.tensors));
        attribute.g.iter().chain(&attribute.graphs).for_each(|graph| stored_tensors(graph, all));
    }
}

/// The files with the tensors that the model file `path` does not hold itself, sorted.
pub fn external_files(path: &Path, graph: &pb::GraphProto) -> BTreeSet<PathBuf> {
    let folder = path.parent().unwrap_or(Path::new(""));
    let mut tensors = Vec::new();
    stored_tensors(graph, &mut tensors);
    let external = tensors.iter().filter(|tensor| tensor.data_location == Some(DataLocation::External as i32));
    let locations = external.flat_map(|tensor| &tensor.external_data).filter(|entry| entry.key == "location");
    locations.map(|entry| folder.join(&entry.value)).filter(|file| file != path).collect()
}

/// Bytes that the elements of `tensor` take, if its type has a fixed size.
pub fn bytes_needed(tensor: &pb::TensorProto) -> Option<u64> {
    let element = match DataType::try_from(tensor.data_type).ok()? {
        DataType::Bool | DataType::Int8 | DataType::Uint8 => 1,
        DataType::Float16 | DataType::Bfloat16 | DataType::Int16 | DataType::Uint16 => 2,
        DataType::Float | DataType::Int32 | DataType::Uint32 => 4,
        DataType::Double | DataType::Int64 | DataType::Uint64 => 8,
        _ => return None,
    };
    tensor.dims.iter().try_fold(element, |bytes: u64, &d| bytes.checked_mul(u64::try_from(d).ok()?))
}

/// Every stored tensor must have as many bytes as its shape requires. Those of an external tensor
/// must be in a file beside the model.
fn check_tensors(path: &Path, graph: &pb::GraphProto) -> Result<()> {
    let folder = path.parent().unwrap_or(Path::new(""));
    let mut missing: BTreeMap<&str, usize> = BTreeMap::new();
    let mut tensors = Vec::new();
    stored_tensors(graph, &mut tensors);
    for tensor in tensors {
        let wrong = |what: String| broken(path, format!("tensor {:?} {what}", tensor.name));
        let needed = bytes_needed(tensor);
        let check = |bytes: u64| match needed {
            Some(needed) if needed != bytes => {
                let shape = tensor.dims.iter().map(i64::to_string).collect::<Vec<_>>().join("x");
                Err(wrong(format!("has {bytes} bytes, but its shape {shape} takes {needed}: the model is damaged")))
            }
            _ => Ok(()),
        };
        if tensor.data_location != Some(DataLocation::External as i32) {
            if !tensor.raw_data.is_empty() {
                check(tensor.raw_data.len() as u64)?; // else the elements are in the field for their type
            }
            continue;
        }
        let entry = |key: &str| tensor.external_data.iter().find(|e| e.key == key).map(|e| e.value.as_str());
        let Some(location) = entry("location") else { return Err(wrong("is in another file, but does not say which".into())) };
        if !Path::new(location).components().all(|c| matches!(c, Component::Normal(_) | Component::CurDir)) {
            return Err(wrong(format!("is at {location:?}, outside the model's folder: refused")));
        }
        let number = |key| match entry(key).map(|text| (text, text.parse::<u64>())) {
            None => Ok(None),
            Some((_, Ok(number))) => Ok(Some(number)),
            Some((text, Err(_))) => Err(wrong(format!("has the {key} {text:?}, which is not a number"))),
        };
        let (offset, length) = (number("offset")?.unwrap_or(0), number("length")?);
        length.map_or(Ok(()), check)?;
        let end = offset.saturating_add(length.or(needed).unwrap_or(0));
        match std::fs::metadata(folder.join(location)) {
            Err(_) => *missing.entry(location).or_default() += 1,
            Ok(file) if !file.is_file() => return Err(wrong(format!("is at {location:?}, which is not a file"))),
            Ok(file) if file.len() < end => {
                return Err(wrong(format!("ends at byte {end} of {location:?}, which has {}: the file is truncated", file.len())));
            }
            Ok(_) => {}
        }
    }
    let tensors = |n: usize| if n == 1 { "1 tensor".to_string() } else { format!("{n} tensors") };
    let missing: Vec<String> = missing.iter().map(|(file, &n)| format!("{file:?} ({})", tensors(n))).collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(broken(path, format!("external data missing: {}; put it in the model's folder, under that name", missing.join(", "))))
}

/// Every name that is read must be defined, and no name may be defined twice.
fn check_names(path: &Path, graph: &pb::GraphProto) -> Result<()> {
    fn repeated<'a>(names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
        let mut seen = BTreeSet::new();
        names.into_iter().find(|name| !seen.insert(*name))
    }
    let inputs = repeated(graph.input.iter().map(|v| v.name.as_str())).map(|name| ("inputs", name));
    let outputs = repeated(graph.output.iter().map(|v| v.name.as_str())).map(|name| ("outputs", name));
    let initialisers = repeated(graph.initializer.iter().map(|t| t.name.as_str())).map(|name| ("initialisers", name));
    if let Some((what, name)) = inputs.or(outputs).or(initialisers) {
        return Err(broken(path, format!("two {what} are called {name:?}: the file is damaged, or was exported wrongly")));
    }
    // an input may have an initialiser: its default value
    let mut known: BTreeSet<&str> =
        graph.input.iter().map(|v| v.name.as_str()).chain(graph.initializer.iter().map(|t| t.name.as_str())).collect();
    for node in &graph.node {
        if let Some(name) = node.output.iter().find(|name| !name.is_empty() && !known.insert(name)) {
            let op = node.op_type.escape_debug();
            return Err(broken(path, format!("node {:?} ({op}) defines {name:?}, which is already defined", node.name)));
        }
    }
    let lost = |name: &str| !name.is_empty() && !known.contains(name);
    for node in &graph.node {
        if let Some(name) = node.input.iter().find(|name| lost(name)) {
            return Err(broken(
                path,
                format!("node {:?} ({}) reads {name:?}, which is not defined", node.name, node.op_type.escape_debug()),
            ));
        }
    }
    if let Some(output) = graph.output.iter().find(|v| lost(&v.name)) {
        return Err(broken(path, format!("the output {:?} is not defined: the file is truncated, or was exported wrongly", output.name)));
    }
    Ok(())
}

/// `node "a"`, or `7 nodes: "a", "b", "c", ...`.
pub fn some(nodes: &[&str]) -> String {
    let quoted: Vec<String> = nodes.iter().take(3).map(|n| format!("{n:?}")).collect();
    match nodes.len() {
        1 => format!("node {}", quoted[0]),
        n => format!("{n} nodes: {}{}", quoted.join(", "), if n > 3 { ", ..." } else { "" }),
    }
}

/// The inputs that have no initialiser.
pub fn run_time_inputs(graph: &pb::GraphProto) -> Vec<&pb::ValueInfoProto> {
    let initialised: BTreeSet<&str> = graph.initializer.iter().map(|t| t.name.as_str()).collect();
    graph.input.iter().filter(|v| !initialised.contains(v.name.as_str())).collect()
}

/// The names of the inputs of the model that are not initialisers.
pub fn input_names(proto: &pb::ModelProto) -> impl Iterator<Item = &str> {
    proto.graph.iter().flat_map(run_time_inputs).map(|v| v.name.as_str())
}

/// The inputs of the model that are not initialisers, each with its static shape.
pub fn input_shapes(path: &Path, proto: &pb::ModelProto, given: &BTreeMap<String, Vec<usize>>) -> Result<Vec<(String, Vec<usize>)>> {
    let Some(graph) = &proto.graph else { return Ok(Vec::new()) };
    let inputs = run_time_inputs(graph);
    if let Some(name) = given.keys().find(|name| !inputs.iter().any(|v| v.name == **name)) {
        let names: Vec<_> = inputs.iter().map(|v| v.name.as_str()).collect();
        return Err(Error::Usage(format!("--shapes names {name:?}, but the model's inputs are {names:?}")));
    }
    let (mut open, mut flags) = (Vec::new(), String::new());
    let mut shapes = Vec::new();
    for input in inputs {
        if let Some(shape) = given.get(&input.name) {
            if too_large(shape) {
                let shape = shape_text(shape);
                return Err(Error::Usage(format!("--shapes {}:{shape}: 2^31 elements or more, which hiosc cannot index", input.name)));
            }
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
            Some(shape) if too_large(&shape) => {
                let shape = shape_text(&shape);
                return Err(broken(path, format!("input {:?} is {shape}: 2^31 elements or more, which hiosc cannot index", input.name)));
            }
            Some(shape) => shapes.push((input.name.clone(), shape)),
            None => {
                open.push(format!(
                    "{:?} is {}",
                    input.name,
                    dims.map_or("of unknown rank".into(), |dims| shape_words(dims, |name| if name.is_empty() { "?" } else { name }))
                ));
                let example = dims.map_or("1x3x224x224".into(), |dims| shape_words(dims, |_| "1"));
                let value = format!("{}:{example}", input.name);
                let plain = value.chars().all(|c| c.is_ascii_alphanumeric() || "_.:/-".contains(c));
                flags += &if plain { format!(" --shapes {value}") } else { format!(" --shapes {value:?}") };
            }
        }
    }
    if open.is_empty() {
        return Ok(shapes);
    }
    Err(broken(path, format!("dynamic input shapes: {}; give them, for example with{flags}", open.join(", "))))
}

/// Whether a tensor has 2^31 elements or more: hiosc's kernels index with 32 bits.
pub fn too_large(shape: &[usize]) -> bool {
    !shape.contains(&0) && shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d)).is_none_or(|n| n >= 1 << 31)
}

/// `batchx3x224x224`; `name_of` gives the text for a dimension without a value.
fn shape_words(dims: &[pb::tensor_shape_proto::Dimension], name_of: fn(&str) -> &str) -> String {
    let words = dims.iter().map(|d| match &d.value {
        Some(Dim::DimValue(n)) if *n > 0 => n.to_string(),
        Some(Dim::DimParam(name)) => name_of(name).to_string(),
        _ => name_of("").to_string(),
    });
    words.collect::<Vec<_>>().join("x")
}
