//! Decodes an ONNX file and checks what needs no types: the file is complete, its external data is
//! there, its names are defined, and its input shapes are known.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::path::{Component, Path, PathBuf};

use prost::Message;
use tract_onnx::pb;
use tract_onnx::pb::tensor_proto::{DataLocation, DataType};
use tract_onnx::pb::tensor_shape_proto::{Dimension, dimension::Value as Dim};

use super::limits::{LONGEST_NAME, MOST_NAMES};
use super::{ImportOptions, locate, tidy};
use crate::error::{Error, Result, shell_words};
use crate::graph::shape_text;

fn broken(path: &Path, message: impl Into<String>) -> Error {
    Error::Model { path: path.to_path_buf(), message: message.into() }
}

/// Files that are taken for ONNX models: where their mark is, the mark, and what to do.
const OTHER_FORMATS: [(usize, &[u8], &str); 7] = [
    (0, b"PK", "a zip file, such as PyTorch saves: export the model with torch.onnx.export"),
    (0, b"\x80", "a Python pickle, such as PyTorch saved: export the model with torch.onnx.export"),
    (0, b"\x89HDF", "an HDF5 file, such as Keras saves: convert it with tf2onnx"),
    (0, b"\x1f\x8b", "a file compressed with gzip: unpack it"),
    (0, b"<!DOCTYPE", "a web page: the download failed"),
    (4, b"ORTM", "a model in ONNX Runtime's own format: use the .onnx file that it was made from"),
    (4, b"TFL3", "a TensorFlow Lite model: convert it with tf2onnx"),
];

/// Decodes `bytes` and checks what needs no types. The data of large initialisers stays in the file
/// `path` if that is `seekable`.
pub fn decode(path: &Path, bytes: &[u8], seekable: bool) -> Result<pb::ModelProto> {
    if bytes.is_empty() {
        return Err(broken(path, "not an ONNX model: the file is empty"));
    }
    if bytes.starts_with(b"version https://git-lfs") {
        return Err(broken(path, "this is a Git LFS pointer, not the model: fetch the file with `git lfs pull`"));
    }
    if let Some((_, _, what)) =
        OTHER_FORMATS.iter().find(|(start, magic, _)| bytes.get(*start..).is_some_and(|rest| rest.starts_with(magic)))
    {
        return Err(broken(path, format!("not an ONNX model, but {what}")));
    }
    // nearly every ONNX file begins with the tag of `ir_version`
    let kind = if bytes[0] == 0x08 { "a truncated or damaged ONNX model" } else { "not an ONNX model" };
    let size = bytes.len();
    let name = path.file_name().and_then(OsStr::to_str).filter(|_| seekable);
    let smaller = name.and_then(|name| locate::located(bytes, name));
    // errors are those of the whole file
    let mut proto = match smaller.and_then(|bytes| pb::ModelProto::decode(&bytes[..]).ok()) {
        Some(proto) => proto,
        None => pb::ModelProto::decode(bytes).map_err(|e| broken(path, format!("{kind} ({size} bytes): {e}")))?,
    };
    let Some(graph) = &proto.graph else {
        return Err(broken(path, format!("{kind} ({size} bytes): it holds no graph")));
    };
    if graph.output.is_empty() {
        return Err(broken(path, "the graph has no outputs: the file is truncated, or was exported wrongly"));
    }
    check_opsets(path, &proto)?;
    check_lengths(path, graph)?;
    proto.functions.iter().flat_map(|function| &function.node).try_for_each(|node| check_node(path, node))?;
    check_tensors(path, graph)?;
    check_names(path, graph)?;
    check_attributes(path, &graph.node, false)?;
    proto.functions.iter().try_for_each(|function| check_attributes(path, &function.node, true))?;
    proto.graph.iter_mut().for_each(complete_lengths);
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

/// Writes down how long the data of external tensors are, where the file does not say so: for the
/// ONNX standard they are as long as the shape requires, for tract they end with the file.
fn complete_lengths(graph: &mut pb::GraphProto) {
    let complete = |tensor: &mut pb::TensorProto| {
        let known = tensor.data_location != Some(DataLocation::External as i32) || tensor.external_data.iter().any(|e| e.key == "length");
        if let (false, Some(bytes)) = (known, bytes_needed(tensor)) {
            tensor.external_data.push(pb::StringStringEntryProto { key: "length".into(), value: bytes.to_string() });
        }
    };
    graph.initializer.iter_mut().for_each(complete);
    for attribute in graph.node.iter_mut().flat_map(|node| &mut node.attribute) {
        attribute.t.iter_mut().chain(&mut attribute.tensors).for_each(complete);
        attribute.g.iter_mut().chain(&mut attribute.graphs).for_each(complete_lengths);
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

/// No opset may be given twice.
fn check_opsets(path: &Path, proto: &pb::ModelProto) -> Result<()> {
    let mut versions: BTreeMap<&str, &pb::OperatorSetIdProto> = BTreeMap::new();
    for import in &proto.opset_import {
        let domain = if tidy::standard(&import.domain) { "ai.onnx" } else { &import.domain };
        let Some(other) = versions.insert(domain, import) else { continue };
        // a domain of two names may be given by both
        if other.domain == import.domain || other.version != import.version {
            let [first, second] = [other, import].map(|import| import.version);
            return Err(broken(path, format!("the opset of the domain {domain:?} is given twice (opset_import): {first} and {second}")));
        }
    }
    Ok(())
}

/// No name may be so long that errors and tables do not hold it, and no node may have too many.
fn check_lengths(path: &Path, graph: &pb::GraphProto) -> Result<()> {
    let values = graph.input.iter().chain(&graph.output).map(|value| &value.name);
    if let Some(name) = values.chain(graph.initializer.iter().map(|tensor| &tensor.name)).find(|name| name.len() > LONGEST_NAME) {
        return Err(broken(path, format!("the name {:?} of a tensor has {} bytes: at most {LONGEST_NAME}", shortened(name), name.len())));
    }
    graph.node.iter().try_for_each(|node| check_node(path, node))
}

/// The same for one node and its subgraphs.
fn check_node(path: &Path, node: &pb::NodeProto) -> Result<()> {
    let wrong = |what: String| {
        let name = node.output.first().filter(|_| node.name.is_empty()).unwrap_or(&node.name);
        let operator = node.op_type.escape_debug().to_string();
        Err(broken(path, format!("{} (node {:?}): {what}", shortened(&operator), shortened(name))))
    };
    let own = [&node.name, &node.op_type, &node.domain];
    let names = own.into_iter().chain(&node.input).chain(&node.output).chain(node.attribute.iter().map(|attribute| &attribute.name));
    if let Some(name) = names.into_iter().find(|name| name.len() > LONGEST_NAME) {
        return wrong(format!("the name {:?} has {} bytes: at most {LONGEST_NAME}", shortened(name), name.len()));
    }
    for (what, count) in [("inputs", node.input.len()), ("outputs", node.output.len()), ("attributes", node.attribute.len())] {
        if count > MOST_NAMES {
            return wrong(format!("it has {count} {what}: at most {MOST_NAMES}"));
        }
    }
    let subgraphs = node.attribute.iter().flat_map(|attribute| attribute.g.iter().chain(&attribute.graphs));
    subgraphs.into_iter().try_for_each(|graph| check_lengths(path, graph))
}

/// The beginning of a name that is too long to print.
pub fn shortened(name: &str) -> String {
    const PRINTED: usize = 100;
    match name.char_indices().nth(PRINTED) {
        Some((end, _)) => format!("{}...", &name[..end]),
        None => name.to_string(),
    }
}

/// No attribute of these nodes may be given twice. Only those `in_function` may refer to attributes
/// of a call.
fn check_attributes(path: &Path, nodes: &[pb::NodeProto], in_function: bool) -> Result<()> {
    for node in nodes {
        let wrong = |what: String| {
            let name = node.output.first().filter(|_| node.name.is_empty()).unwrap_or(&node.name);
            Err(broken(path, format!("{} (node {name:?}): {what}", node.op_type.escape_debug())))
        };
        let mut names = BTreeSet::new();
        for attribute in &node.attribute {
            let name = &attribute.name;
            if !names.insert(name) {
                return wrong(format!("its attribute {name:?} is given twice"));
            }
            if !in_function && !attribute.ref_attr_name.is_empty() {
                let other = &attribute.ref_attr_name;
                return wrong(format!(
                    "its attribute {name:?} refers to the attribute {other:?} of a call, but the node is in no function"
                ));
            }
            attribute.g.iter().chain(&attribute.graphs).try_for_each(|graph| check_attributes(path, &graph.node, in_function))?;
        }
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

/// The inputs of the model that are not initialisers, each with its static shape: that of
/// [`ImportOptions::shapes`], or else the model's, with values for its symbolic dimensions from
/// [`ImportOptions::dimensions`].
pub fn input_shapes(path: &Path, proto: &pb::ModelProto, options: &ImportOptions) -> Result<Vec<(String, Vec<usize>)>> {
    let Some(graph) = &proto.graph else { return Ok(Vec::new()) };
    let inputs = run_time_inputs(graph);
    check_options(&inputs, options)?;
    let mut open = OpenShapes::default();
    let mut shapes = Vec::new();
    for input in inputs {
        if let Some(shape) = options.shapes.get(&input.name) {
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
        let value = |d: &Dimension| match &d.value {
            Some(Dim::DimValue(n)) => usize::try_from(*n).ok().filter(|&n| n > 0),
            Some(Dim::DimParam(name)) => options.dimensions.get(name).copied(),
            None => None,
        };
        match dims.and_then(|dims| dims.iter().map(value).collect::<Option<Vec<usize>>>()) {
            Some(shape) if too_large(&shape) => {
                let shape = shape_text(&shape);
                return Err(broken(path, format!("input {:?} is {shape}: 2^31 elements or more, which hiosc cannot index", input.name)));
            }
            Some(shape) => shapes.push((input.name.clone(), shape)),
            None => open.add(&input.name, dims, options),
        }
    }
    match open.inputs.is_empty() {
        true => Ok(shapes),
        false => Err(broken(path, open.message())),
    }
}

/// The options name only inputs and symbolic dimensions that the model has.
fn check_options(inputs: &[&pb::ValueInfoProto], options: &ImportOptions) -> Result<()> {
    if let Some(name) = options.shapes.keys().find(|name| !inputs.iter().any(|v| v.name == **name)) {
        let names: Vec<_> = inputs.iter().map(|v| v.name.as_str()).collect();
        return Err(Error::Usage(format!("--shapes names {name:?}, but the model's inputs are {names:?}")));
    }
    let symbols = symbols(inputs);
    match options.dimensions.keys().find(|name| !symbols.contains(name.as_str())) {
        Some(name) if symbols.is_empty() => {
            Err(Error::Usage(format!("--dim names {name:?}, but the model's inputs have no symbolic dimensions")))
        }
        Some(name) => Err(Error::unknown("symbolic dimension", name, symbols)),
        None => Ok(()),
    }
}

/// The names of the symbolic dimensions of these inputs.
fn symbols<'a>(inputs: &[&'a pb::ValueInfoProto]) -> BTreeSet<&'a str> {
    let tensors = inputs.iter().filter_map(|input| match input.r#type.as_ref()?.value.as_ref()? {
        pb::type_proto::Value::TensorType(tensor) => tensor.shape.as_ref(),
    });
    tensors.flat_map(|shape| &shape.dim).filter_map(symbol).collect()
}

/// The name of a symbolic dimension.
fn symbol(dimension: &Dimension) -> Option<&str> {
    match &dimension.value {
        Some(Dim::DimParam(name)) if !name.is_empty() => Some(name),
        _ => None,
    }
}

/// Inputs whose shapes are not known, and flags that would give them.
#[derive(Default)]
struct OpenShapes {
    /// `"x" is batchx3x224x224`
    inputs: Vec<String>,
    /// Symbolic dimensions without a value.
    symbols: BTreeSet<String>,
    /// `x:1x3x224x224` for each input with a dimension that has no name.
    shapes: Vec<String>,
}

impl OpenShapes {
    /// Adds an input with these dimensions (`None`: of unknown rank).
    fn add(&mut self, name: &str, dims: Option<&[Dimension]>, options: &ImportOptions) {
        let words = |open: fn(&str) -> &str| {
            dims.map(|dims| {
                let words = dims.iter().map(|d| match (&d.value, symbol(d)) {
                    (Some(Dim::DimValue(n)), _) if *n > 0 => n.to_string(),
                    (_, Some(name)) => options.dimensions.get(name).map_or_else(|| open(name).to_string(), usize::to_string),
                    _ => open("?").to_string(),
                });
                words.collect::<Vec<_>>().join("x")
            })
        };
        self.inputs.push(format!("{name:?} is {}", words(|name| name).unwrap_or_else(|| "of unknown rank".into())));
        let unnamed = |d: &Dimension| symbol(d).is_none() && !matches!(d.value, Some(Dim::DimValue(n)) if n > 0);
        if dims.is_none_or(|dims| dims.iter().any(unnamed)) {
            self.shapes.push(format!("{name}:{}", words(|_| "1").unwrap_or_else(|| "1x3x224x224".into())));
        } else {
            let open = dims.unwrap_or_default().iter().filter_map(symbol).filter(|name| !options.dimensions.contains_key(*name));
            self.symbols.extend(open.map(str::to_string));
        }
    }

    fn message(&self) -> String {
        let quoted = |value: &str| shell_words([value]);
        let dims = self.symbols.iter().map(|name| format!(" --dim {}", quoted(&format!("{name}=1"))));
        let shapes = self.shapes.iter().map(|shape| format!(" --shapes {}", quoted(shape)));
        let flags: String = dims.chain(shapes).collect();
        format!("dynamic input shapes: {}; give them, for example with{flags}", self.inputs.join(", "))
    }
}

/// Whether a tensor has 2^31 elements or more: hiosc's kernels index with 32 bits.
pub fn too_large(shape: &[usize]) -> bool {
    !shape.contains(&0) && shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d)).is_none_or(|n| n >= 1 << 31)
}
