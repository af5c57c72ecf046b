//! Inlining of calls, branches and loops, before tract sees the model.
//!
//! * A node that calls a *function* of the model becomes the function's nodes. Names inside get the
//!   caller's name as a prefix. Attributes that the function refers to get the caller's values; one
//!   that the caller leaves out gets the function's default; if there is none, it is left out
//!   inside, too.
//! * An `If` whose condition is known becomes the nodes of the branch that it takes. A condition is
//!   known if what it depends on can be typed and folded on its own, once the shapes of the inputs
//!   are known. The other branch is dropped, whatever it contains.
//! * Any other `If` becomes both branches: operators have no effects but their results. For each
//!   result, the condition selects one. Both must have the same shape.
//! * A `Loop` with a known number of steps becomes its body, once for each step.
//!
//! What cannot be inlined stays, and is refused together with all other refusals. The caller passes
//! a function that evaluates a condition or a number of steps; nothing is evaluated here.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use prost::Message;
use tract_onnx::pb;
use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::tensor_proto::DataType;

use super::decode::shortened;
use super::limits::{MOST_NODE_BYTES, MOST_NODES};
use crate::error::{Error, Result};

/// The maximum depth of nested calls. A deeper one is taken to mean that a function is recursive.
const DEEPEST_CALL: usize = 100;

/// What the reader's protobuf types do not have: default values of the attributes of functions.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Defaults {
    #[prost(message, repeated, tag = "25")]
    functions: Vec<FunctionDefaults>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct FunctionDefaults {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "10")]
    domain: String,
    #[prost(message, repeated, tag = "11")]
    attributes: Vec<pb::AttributeProto>,
}

impl Defaults {
    /// The defaults in the model file `bytes`; none if it is damaged.
    pub fn of(bytes: &[u8]) -> Defaults {
        prost::Message::decode(bytes).unwrap_or_default()
    }
}

/// Inlines all calls of the model's own functions, whose attributes have these defaults.
pub fn functions(path: &Path, proto: &mut pb::ModelProto, defaults: &Defaults) -> Result<()> {
    let functions = &proto.functions;
    let repeated =
        functions.iter().enumerate().find(|(i, f)| functions[..*i].iter().any(|g| (g.domain(), g.name()) == (f.domain(), f.name())));
    if let Some((_, function)) = repeated {
        let message = format!("two functions are called {:?}: overloads are not supported", function.name());
        return Err(Error::Model { path: path.to_path_buf(), message });
    }
    let functions: BTreeMap<(String, String), pb::FunctionProto> =
        std::mem::take(&mut proto.functions).into_iter().map(|f| ((f.domain().to_string(), f.name().to_string()), f)).collect();
    let Some(graph) = &mut proto.graph else { return Ok(()) };
    if functions.is_empty() {
        return Ok(());
    }
    let mut budget = Budget::default();
    expand(&mut graph.node, &functions, defaults, &mut budget, 0).map_err(|why| Error::Unsupported(vec![why]))?;
    // a model that consists of function calls may state its opset only there
    for import in functions.values().flat_map(|f| &f.opset_import) {
        if proto.opset_import.iter().all(|known| known.domain != import.domain) {
            proto.opset_import.push(import.clone());
        }
    }
    Ok(())
}

/// What may still be inlined.
struct Budget {
    nodes: usize,
    bytes: usize,
}

impl Default for Budget {
    fn default() -> Budget {
        Budget { nodes: MOST_NODES, bytes: MOST_NODE_BYTES }
    }
}

impl Budget {
    /// Takes these nodes `times` times, before they are made. Their names get a prefix of `prefix`
    /// bytes. Returns whether all fits.
    fn take(&mut self, nodes: &[pb::NodeProto], initialisers: &[pb::TensorProto], prefix: usize, times: usize) -> bool {
        let (count, names) = counted(nodes);
        let size = nodes.iter().map(Message::encoded_len).chain(initialisers.iter().map(Message::encoded_len)).sum::<usize>();
        let bytes = size.saturating_add((names + initialisers.len()).saturating_mul(prefix)).saturating_mul(times);
        let left = (self.nodes.checked_sub((count + 1).saturating_mul(times)), self.bytes.checked_sub(bytes));
        let (Some(nodes), Some(bytes)) = left else { return false };
        (self.nodes, self.bytes) = (nodes, bytes);
        true
    }
}

/// The numbers of nodes and of their names, subgraphs included.
fn counted(nodes: &[pb::NodeProto]) -> (usize, usize) {
    let own = |node: &pb::NodeProto| 1 + node.input.len() + node.output.len();
    let inner = nodes.iter().flat_map(|node| &node.attribute).flat_map(|a| a.g.iter().chain(&a.graphs)).map(|graph| counted(&graph.node));
    let start = (nodes.len(), nodes.iter().map(own).sum());
    inner.fold(start, |(nodes, names), (more, their)| (nodes + more, names + their))
}

/// Replaces the calls among `nodes`, or says why that is refused.
fn expand(
    nodes: &mut Vec<pb::NodeProto>,
    functions: &BTreeMap<(String, String), pb::FunctionProto>,
    defaults: &Defaults,
    budget: &mut Budget,
    depth: usize,
) -> Result<(), String> {
    let mut done = Vec::new();
    for mut node in std::mem::take(nodes) {
        for graph in node.attribute.iter_mut().flat_map(|attribute| attribute.g.iter_mut().chain(&mut attribute.graphs)) {
            expand(&mut graph.node, functions, defaults, budget, depth)?;
        }
        let Some(function) = functions.get(&(node.domain.clone(), node.op_type.clone())) else {
            done.push(node);
            continue;
        };
        let call = || format!("{} (node {:?})", node.op_type.escape_debug(), shortened(label(&node)));
        if depth >= DEEPEST_CALL {
            return Err(format!("{}: its function calls nest more than {DEEPEST_CALL} deep: is one of its functions recursive?", call()));
        }
        if !budget.take(&function.node, &[], label(&node).len(), 1) {
            return Err(format!(
                "{}: with this call, the calls of functions become more than {MOST_NODES} nodes, or nodes of more than {MOST_NODE_BYTES} bytes",
                call()
            ));
        }
        let of = |f: &&FunctionDefaults| (f.domain.as_str(), f.name.as_str()) == (function.domain(), function.name());
        let given = node.attribute.iter().map(|attribute| attribute.name.clone()).collect::<BTreeSet<_>>();
        let default = defaults.functions.iter().find(of).map_or(&[][..], |f| &f.attributes);
        node.attribute.extend(default.iter().filter(|attribute| !given.contains(&attribute.name)).cloned());
        let mut body = body(function, &node);
        expand(&mut body, functions, defaults, budget, depth + 1)?;
        done.extend(body);
    }
    *nodes = done;
    Ok(())
}

/// The nodes of `function` for the call `call`.
fn body(function: &pb::FunctionProto, call: &pb::NodeProto) -> Vec<pb::NodeProto> {
    let prefix = label(call);
    let mut names: BTreeMap<&str, &str> = BTreeMap::new();
    for (formal, i) in function.input.iter().zip(0..) {
        names.insert(formal, call.input.get(i).map_or("", String::as_str)); // "" if left out
    }
    for (formal, actual) in function.output.iter().zip(&call.output).filter(|(_, actual)| !actual.is_empty()) {
        names.insert(formal, actual);
    }
    let rename = |name: &str| match names.get(name) {
        Some(actual) => actual.to_string(),
        None => format!("{prefix}/{name}"),
    };
    let mut nodes = function.node.clone();
    for node in &mut nodes {
        node.name = format!("{prefix}/{}", label(node));
        renamed(node, &rename);
        filled(node, call);
    }
    // an input that is passed through as an output has no node
    let defined: BTreeSet<&str> = function.node.iter().flat_map(|n| &n.output).map(String::as_str).collect();
    for (formal, actual) in function.output.iter().zip(&call.output) {
        if let (false, Some(position)) = (defined.contains(formal.as_str()), function.input.iter().position(|input| input == formal)) {
            nodes.push(identity(call.input.get(position).map_or("", String::as_str), actual));
        }
    }
    nodes
}

/// Replaces the attributes of `node` that refer to attributes of `call` by these.
fn filled(node: &mut pb::NodeProto, call: &pb::NodeProto) {
    let attributes = std::mem::take(&mut node.attribute).into_iter().filter_map(|mut attribute| {
        if attribute.ref_attr_name.is_empty() {
            attribute.g.iter_mut().chain(&mut attribute.graphs).for_each(|graph| graph.node.iter_mut().for_each(|node| filled(node, call)));
            return Some(attribute);
        }
        let given = call.attribute.iter().find(|given| given.name == attribute.ref_attr_name)?;
        Some(pb::AttributeProto { name: attribute.name, ..given.clone() })
    });
    node.attribute = attributes.collect();
}

/// Renames everything that `node` reads and writes, subgraphs included.
fn renamed(node: &mut pb::NodeProto, rename: &dyn Fn(&str) -> String) {
    for name in node.input.iter_mut().chain(&mut node.output).filter(|name| !name.is_empty()) {
        *name = rename(name);
    }
    for graph in node.attribute.iter_mut().flat_map(|a| a.g.iter_mut().chain(&mut a.graphs)) {
        graph.node.iter_mut().for_each(|node| renamed(node, rename));
        graph.initializer.iter_mut().for_each(|tensor| tensor.name = rename(&tensor.name));
        graph.input.iter_mut().chain(&mut graph.output).chain(&mut graph.value_info).for_each(|value| value.name = rename(&value.name));
    }
}

fn identity(from: &str, to: &str) -> pb::NodeProto {
    pb::NodeProto {
        op_type: "Identity".into(),
        name: format!("{to}/Identity"),
        input: vec![from.into()],
        output: vec![to.into()],
        ..Default::default()
    }
}

/// The node's name, or its first output's.
fn label(node: &pb::NodeProto) -> &str {
    if node.name.is_empty() { node.output.first().map_or("", String::as_str) } else { &node.name }
}

/// The maximum number of nodes that a loop may become.
const LONGEST_LOOP: usize = 10_000;

/// Inlines the bodies of conditions and loops.
///
/// * Of an `If` whose condition is known, the branch that it takes.
/// * Of another `If`, both branches, and a selection ([`SELECT`]) for each result.
/// * Of a `Loop` with a known number of steps that does not end earlier, its body, step by step.
///
/// `value` computes a condition or a number of steps. It gets a model whose only output is that
/// value, with the nodes that it depends on, and returns it, or `None` if it is known only when the
/// model runs. What cannot be inlined stays.
///
/// # Errors
///
/// [`Error::Unsupported`] if too many nodes would be inlined.
pub fn bodies(proto: &mut pb::ModelProto, value: impl Fn(pb::ModelProto) -> Option<Value>) -> Result<()> {
    let version = super::tidy::version(proto).unwrap_or(0);
    let mut given_up: BTreeSet<String> = BTreeSet::new();
    let mut budget = Budget::default();
    loop {
        let Some(graph) = &proto.graph else { return Ok(()) };
        let inlinable = |node: &pb::NodeProto| matches!(node.op_type.as_str(), "If" | "Loop") && !given_up.contains(label(node));
        let Some(position) = graph.node.iter().position(inlinable) else { return Ok(()) };
        let node = graph.node[position].clone();
        let known = |name: Option<&String>| name.filter(|name| !name.is_empty()).and_then(|name| value(extracted(proto, name)?));
        let body = match node.op_type.as_str() {
            "If" => either(&node, known(node.input.first()), &mut budget),
            _ => unrolled(&node, known(node.input.first()), known(node.input.get(1)), version, &mut budget),
        };
        let body = body.map_err(|why| {
            let operator = node.op_type.escape_debug();
            Error::Unsupported(vec![format!("{operator} (node {:?}): {why}", shortened(label(&node)))])
        })?;
        match (body, &mut proto.graph) {
            (Some((nodes, initialisers)), Some(graph)) => {
                graph.node.splice(position..=position, nodes);
                graph.initializer.extend(initialisers);
            }
            _ => drop(given_up.insert(label(&node).to_string())),
        }
    }
}

/// One value that is known when the model is compiled.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value {
    /// A number, cut to an integer.
    Number(i64),
    /// A truth value.
    Truth(bool),
}

/// Why bodies are not inlined.
const TOO_MANY: &str = "the bodies of conditions and loops become too many nodes, or too large ones";

/// Nodes and initialisers in place of a node.
type Inlined = (Vec<pb::NodeProto>, Vec<pb::TensorProto>);

/// The operator that selects one of two results of the same shape by a condition.
pub const SELECT: &str = "hiosc.select";

fn subgraph(node: &pb::NodeProto, name: &str) -> Option<pb::GraphProto> {
    node.attribute.iter().find(|attribute| attribute.name == name)?.g.clone()
}

/// The branch of the `If` `node` that is taken, or both. One whose condition is a number stays, and
/// is refused.
fn either(node: &pb::NodeProto, condition: Option<Value>, budget: &mut Budget) -> Result<Option<Inlined>, String> {
    let (Some(yes), Some(no)) = (subgraph(node, "then_branch"), subgraph(node, "else_branch")) else { return Ok(None) };
    let mut takes = |branch: &pb::GraphProto| {
        if budget.take(&branch.node, &branch.initializer, label(node).len(), 1) { Ok(()) } else { Err(TOO_MANY.to_string()) }
    };
    match condition {
        Some(Value::Number(_)) => return Ok(None),
        Some(Value::Truth(condition)) => {
            let branch = if condition { yes } else { no };
            takes(&branch)?;
            return Ok((branch.output.len() == node.output.len()).then(|| inlined(branch, node)));
        }
        None => {}
    }
    let Some(condition) = node.input.first() else { return Ok(None) };
    let (mut nodes, mut initialisers) = (Vec::new(), Vec::new());
    for (branch, word) in [(yes, "then"), (no, "else")] {
        takes(&branch)?;
        if branch.output.len() != node.output.len() {
            return Ok(None);
        }
        let name = format!("{}/{word}", label(node));
        let output = (0..node.output.len()).map(|i| format!("{name}/result-{i}")).collect();
        let (inner, constants) = inlined(branch, &pb::NodeProto { name, output, ..Default::default() });
        nodes.extend(inner);
        initialisers.extend(constants);
    }
    for (i, output) in node.output.iter().enumerate().filter(|(_, output)| !output.is_empty()) {
        let [yes, no] = ["then", "else"].map(|word| format!("{}/{word}/result-{i}", label(node)));
        nodes.push(pb::NodeProto {
            op_type: SELECT.into(),
            name: if i == 0 { label(node).into() } else { format!("{}/select-{i}", label(node)) },
            input: vec![condition.clone(), yes, no],
            output: vec![output.clone()],
            ..Default::default()
        });
    }
    Ok(Some((nodes, initialisers)))
}

/// All steps of the `Loop` `node`, if it has `steps` and its condition stays true.
fn unrolled(
    node: &pb::NodeProto,
    steps: Option<Value>,
    condition: Option<Value>,
    version: i64,
    budget: &mut Budget,
) -> Result<Option<Inlined>, String> {
    let (Some(body), Some(Value::Number(steps))) = (subgraph(node, "body"), steps) else { return Ok(None) };
    let Some(steps) = usize::try_from(steps).ok().filter(|&steps| steps > 0) else { return Ok(None) };
    let begins = node.input.get(1).is_none_or(String::is_empty) || condition == Some(Value::Truth(true));
    let states = node.input.len().saturating_sub(2);
    let Some(sequences) = body.output.len().checked_sub(1 + states) else { return Ok(None) };
    let fits = body.input.len() == 2 + states && node.output.len() <= states + sequences;
    if !begins || !fits || !stays_true(&body) {
        return Ok(None);
    }
    let size = counted(&body.node).0.max(1);
    if steps.saturating_mul(size) > LONGEST_LOOP {
        return Err(format!("its {steps} steps of {size} nodes would become more than {LONGEST_LOOP} nodes"));
    }
    if !budget.take(&body.node, &body.initializer, label(node).len(), steps) {
        return Err(TOO_MANY.into());
    }
    let (mut nodes, mut initialisers) = (Vec::new(), Vec::new());
    let mut current: Vec<String> = node.input.iter().skip(2).cloned().collect();
    let mut parts: Vec<Vec<String>> = vec![Vec::new(); sequences];
    let constant = |name: String, data_type: DataType, raw_data: Vec<u8>, dims: Vec<i64>| pb::TensorProto {
        name,
        data_type: data_type as i32,
        raw_data,
        dims,
        ..Default::default()
    };
    let axis = format!("{}/axis", label(node));
    initialisers.push(constant(axis.clone(), DataType::Int64, 0i64.to_le_bytes().to_vec(), vec![1]));
    for step in 0..steps {
        let prefix = format!("{}/step-{step}", label(node));
        let (number, goes_on) = (format!("{prefix}/number"), format!("{prefix}/goes-on"));
        initialisers.push(constant(number.clone(), DataType::Int64, (step as i64).to_le_bytes().to_vec(), vec![]));
        initialisers.push(constant(goes_on.clone(), DataType::Bool, vec![1], vec![]));
        // what the body reads is copied, so that its names stay its own
        let given = [number, goes_on].into_iter().chain(current.iter().cloned());
        let copies = given.zip(&body.input).map(|(from, to)| pb::NodeProto {
            op_type: "Identity".into(),
            name: format!("{}/copy", to.name),
            input: vec![from],
            output: vec![to.name.clone()],
            ..Default::default()
        });
        let mut one = body.clone();
        one.node = copies.chain(std::mem::take(&mut one.node)).collect();
        let output: Vec<String> = (0..body.output.len()).map(|i| format!("{prefix}/result-{i}")).collect();
        let call = pb::NodeProto { name: prefix, output: output.clone(), ..Default::default() };
        let (inner, constants) = inlined(one, &call);
        nodes.extend(inner);
        initialisers.extend(constants);
        current = output[1..1 + states].to_vec();
        for (list, value) in parts.iter_mut().zip(&output[1 + states..]) {
            let wide = format!("{value}/wide");
            let mut unsqueeze = pb::NodeProto {
                op_type: "Unsqueeze".into(),
                name: wide.clone(),
                input: vec![value.clone()],
                output: vec![wide.clone()],
                ..Default::default()
            };
            match version {
                ..13 => unsqueeze.attribute.push(pb::AttributeProto {
                    name: "axes".into(),
                    r#type: AttributeType::Ints as i32,
                    ints: vec![0],
                    ..Default::default()
                }),
                _ => unsqueeze.input.push(axis.clone()),
            }
            nodes.push(unsqueeze);
            list.push(wide);
        }
    }
    for (i, output) in node.output.iter().enumerate().filter(|(_, output)| !output.is_empty()) {
        nodes.push(match current.get(i) {
            Some(state) => identity(state, output),
            None => pb::NodeProto {
                op_type: "Concat".into(),
                name: format!("{output}/Concat"),
                input: parts[i - states].clone(),
                output: vec![output.clone()],
                attribute: vec![pb::AttributeProto { name: "axis".into(), r#type: AttributeType::Int as i32, ..Default::default() }],
                ..Default::default()
            },
        });
    }
    Ok(Some((nodes, initialisers)))
}

/// Whether the condition that the body of a loop computes is its own condition, or the constant
/// true.
fn stays_true(body: &pb::GraphProto) -> bool {
    let (Some(result), Some(condition)) = (body.output.first(), body.input.get(1)) else { return false };
    let mut name = result.name.as_str();
    while let Some(node) = body.node.iter().find(|node| node.output.iter().any(|output| output == name)) {
        let value = node.attribute.iter().find(|attribute| attribute.name == "value").and_then(|attribute| attribute.t.as_ref());
        match (node.op_type.as_str(), node.input.first(), value) {
            ("Identity" | "Cast", Some(input), _) => name = input,
            ("Constant", _, Some(tensor)) => return is_true(tensor),
            _ => return false,
        }
    }
    name == condition.name || body.initializer.iter().any(|tensor| tensor.name == name && is_true(tensor))
}

/// Whether `tensor` is one truth value, true.
fn is_true(tensor: &pb::TensorProto) -> bool {
    tensor.data_type == DataType::Bool as i32 && (tensor.raw_data == [1] || tensor.int32_data == [1])
}

/// The nodes and initialisers of the branch that `node` takes. Names defined in it get the name of
/// `node` as a prefix; other names are those of the surrounding graph.
fn inlined(branch: pb::GraphProto, node: &pb::NodeProto) -> Inlined {
    let prefix = label(node);
    let defined = branch.node.iter().flat_map(|n| &n.output).chain(branch.initializer.iter().map(|t| &t.name));
    let defined: BTreeSet<String> = defined.cloned().collect();
    let mut results: BTreeMap<&str, &str> = BTreeMap::new();
    let mut copies = Vec::new();
    for (inner, outer) in branch.output.iter().zip(&node.output) {
        let computed = branch.node.iter().any(|n| n.output.contains(&inner.name));
        if computed && !results.contains_key(inner.name.as_str()) {
            results.insert(&inner.name, outer);
        } else {
            copies.push((inner.name.as_str(), outer.as_str()));
        }
    }
    let rename = |name: &str| match results.get(name) {
        Some(outer) => outer.to_string(),
        None if defined.contains(name) => format!("{prefix}/{name}"),
        None => name.to_string(),
    };
    let mut nodes = branch.node.clone();
    for inner in &mut nodes {
        inner.name = format!("{prefix}/{}", label(inner));
        renamed(inner, &rename);
    }
    nodes.extend(copies.iter().map(|(inner, outer)| identity(&rename(inner), outer)));
    let mut initialisers = branch.initializer.clone();
    initialisers.iter_mut().for_each(|tensor| tensor.name = rename(&tensor.name));
    (nodes, initialisers)
}

/// The part of the model that computes the value called `name`, as a model of its own.
fn extracted(proto: &pb::ModelProto, name: &str) -> Option<pb::ModelProto> {
    let graph = proto.graph.as_ref()?;
    let producers: BTreeMap<&str, usize> =
        graph.node.iter().zip(0..).flat_map(|(node, i)| node.output.iter().map(move |output| (output.as_str(), i))).collect();
    let (mut needed, mut queue) = (BTreeSet::new(), vec![name]);
    while let Some(name) = queue.pop() {
        if let Some(&producer) = producers.get(name).filter(|&&producer| needed.insert(producer)) {
            queue.extend(read_by(&graph.node[producer]));
        }
    }
    let node: Vec<_> = needed.into_iter().map(|i| graph.node[i].clone()).collect();
    let read: BTreeSet<&str> = node.iter().flat_map(read_by).chain([name]).collect();
    let part = pb::GraphProto {
        initializer: graph.initializer.iter().filter(|tensor| read.contains(tensor.name.as_str())).cloned().collect(),
        input: graph.input.iter().filter(|value| read.contains(value.name.as_str())).cloned().collect(),
        output: vec![pb::ValueInfoProto { name: name.into(), ..Default::default() }],
        node,
        ..Default::default()
    };
    let opset_import = proto.opset_import.clone();
    Some(pb::ModelProto { ir_version: proto.ir_version, opset_import, graph: Some(part), ..Default::default() })
}

/// All names that a node reads, including those of its subgraphs.
fn read_by(node: &pb::NodeProto) -> Vec<&str> {
    let subgraphs = node.attribute.iter().flat_map(|a| a.g.iter().chain(&a.graphs));
    let inside = subgraphs.flat_map(|graph| graph.node.iter().flat_map(read_by).chain(graph.output.iter().map(|v| v.name.as_str())));
    node.input.iter().map(String::as_str).chain(inside).collect()
}
