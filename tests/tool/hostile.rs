//! Small files that ask for a lot: sizes, steps and calls that no machine holds, and names that no
//! screen does. Each is refused with one line that names the operator and the node, quickly and in
//! little memory.

use std::process::Command;
use std::time::{Duration, Instant};

use crate::support::cli::Bench;
use crate::support::onnx::{Attr, BOOL, I64, Model};
use prost::Message;
use tract_onnx::pb::{self, attribute_proto::AttributeType};

/// The address space that hiosc may take, in KiB; a Linux shell sets it.
const ADDRESS_SPACE: &str = "1500000";

/// Much longer than any refusal takes on a busy machine.
const TIME: Duration = Duration::from_secs(30);

/// The exit code of hiosc on this model, what it prints, and its errors.
fn run(bytes: impl AsRef<[u8]>) -> (Option<i32>, String, String) {
    let bench = Bench::new();
    bench.write("model.onnx", bytes);
    let call = format!("ulimit -v {ADDRESS_SPACE} 2>/dev/null; exec \"$0\" model.onnx -o out --device a40 --gpus 2");
    let mut command = Command::new("sh");
    command.args(["-c", &call, env!("CARGO_BIN_EXE_hiosc")]).current_dir(bench.path()).env_remove("RUST_BACKTRACE");
    let output = command.output().expect("a shell");
    let [out, err] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    (output.status.code(), out, err)
}

/// hiosc refuses this model with a line that has all these parts.
fn refuses(bytes: impl AsRef<[u8]>, parts: &[&str]) {
    let start = Instant::now();
    let (code, _, text) = run(bytes);
    let brief: String = text.chars().take(500).collect();
    assert_eq!(code, Some(1), "{parts:?}: {brief}");
    assert_eq!(text.trim_end().lines().count(), 1, "{parts:?}: {brief}");
    assert!(parts.iter().all(|part| text.contains(part)) && !text.contains("bug"), "{parts:?}: {brief}");
    assert!(text.len() < 1000, "{parts:?}: {} bytes", text.len());
    assert!(start.elapsed() < TIME, "{parts:?}: {:?}", start.elapsed());
}

/// A model with an input `x` of shape `[2, 4]` and an output `y`.
fn model() -> Model {
    Model::new().opset(20).input("x", &[2, 4]).output("y", &[])
}

/// Adds `b`, summed up, to `x`.
fn added(model: Model) -> Vec<u8> {
    model.node("ReduceSum", &["b"], "sum", &[Attr::Int("keepdims", 0)]).node("Add", &["x", "sum"], "y", &[]).bytes()
}

/// The sizes that are tried: some wrap around in 31, 32 or 64 bits.
const SIZES: [i64; 5] = [700_000_000, 1 << 31, (1 << 32) + 4, 1 << 40, 1 << 62];

#[test]
fn constants_that_nodes_would_compute() {
    for size in SIZES {
        let of = |size: &[i64]| model().ints("size", size);
        let one = || of(&[size]).weight("one", &[1], vec![1.0]);
        refuses(added(of(&[size]).node("ConstantOfShape", &["size"], "b", &[])), &["ConstantOfShape (node \"/b/ConstantOfShape\"): "]);
        refuses(added(of(&[size, size]).node("ConstantOfShape", &["size"], "b", &[])), &["ConstantOfShape (node \"/b/"]);
        refuses(added(one().node("Expand", &["one", "size"], "b", &[])), &["Expand (node \"/b/Expand\"): "]);
        refuses(added(one().node("Tile", &["one", "size"], "b", &[])), &["Tile (node \"/b/Tile\"): "]);
        refuses(added(of(&[0, size]).weight("one", &[1], vec![1.0]).node("Pad", &["one", "size"], "b", &[])), &["Pad (node \"/b/Pad\"): "]);
        let range = model().int("start", 0).int("limit", size).int("delta", 1).node("Range", &["start", "limit", "delta"], "r", &[]);
        refuses(added(range.node("Cast", &["r"], "b", &[Attr::Int("to", 1)])), &["Range (node \"/r/Range\"): "]);
        refuses(added(model().int("size", size).node("HannWindow", &["size"], "b", &[])), &["HannWindow (node \"/b/HannWindow\"): "]);
    }
    // of the size that is allowed, times an axis
    let rows = model().weight("one", &[1, 1], vec![1.0]).ints("rows", &[1 << 20, 1]).ints("columns", &[1, 1 << 11]);
    let product = rows.node("Expand", &["one", "rows"], "a", &[]).node("Tile", &["a", "columns"], "b", &[]);
    refuses(added(product), &["Tile (node \"/b/Tile\"): ", "2^31 elements or more"]);
}

#[test]
fn tables_that_the_compiler_would_compute() {
    for size in SIZES {
        let image = || Model::new().opset(20).input("x", &[1, 1, 4, 4]).output("y", &[]);
        let classes =
            Model::new().opset(20).input_of(I64, "x", &[4]).output("y", &[]).int("depth", size).weight("values", &[2], vec![0.0, 1.0]);
        refuses(classes.node("OneHot", &["x", "depth", "values"], "y", &[]).bytes(), &["OneHot (node \"/y/OneHot\"): "]);
        let grid = Model::new().opset(20).input("x", &[1, 2, 3]).output("y", &[]).ints("size", &[1, 1, size, 4]);
        refuses(grid.node("AffineGrid", &["x", "size"], "y", &[]).bytes(), &["AffineGrid (node \"/y/AffineGrid\"): "]);
        for mode in ["nearest", "linear", "cubic"] {
            let resize = image().ints("sizes", &[1, 1, size, 4]).node("Resize", &["x", "", "", "sizes"], "y", &[Attr::Text("mode", mode)]);
            refuses(resize.bytes(), &["Resize (node \"/y/Resize\"): "]);
        }
        let scales = image().opset(9).weight("scales", &[4], vec![1.0, 1.0, size as f32, 1.0]);
        refuses(scales.node("Upsample", &["x", "scales"], "y", &[]).bytes(), &["Upsample (node \"/y/Upsample\"): "]);
        let pads = model().ints("pads", &[0, 0, 0, size]).node("Pad", &["x", "pads"], "y", &[Attr::Text("mode", "wrap")]);
        refuses(pads.bytes(), &["Pad (node \"/y/Pad\"): "]);
    }
    let tokens = Model::new().opset(23).input("x", &[1, 1, 1 << 20, 8]).output("y", &[]);
    let attention = tokens.node("Attention", &["x", "x", "x"], "y", &[Attr::Int("is_causal", 1)]);
    refuses(attention.bytes(), &["Attention (node \"/y/Attention\"): it needs a table of 1048576x1048576 elements"]);
}

#[test]
fn sizes_that_do_not_fit_32_bits() {
    for size in [1i64 << 31, (1 << 32) + 2, 1 << 40, 1 << 62] {
        let of = |operator: &str, size: &[i64]| model().ints("size", size).node(operator, &["x", "size"], "y", &[]).bytes();
        refuses(of("Reshape", &[size, -1]), &["Reshape (node \"/y/Reshape\"): its input 1 (a shape) has "]);
        refuses(of("Pad", &[0, 0, 0, size]), &["Pad (node \"/y/Pad\"): its input 1 (pads) has "]);
        let largest = model().ints("size", &[size]).node("TopK", &["x", "size"], "y,z", &[]);
        refuses(largest.bytes(), &["TopK (node \"/y,z/TopK\"): its input 1 (a number of elements) has "]);
        let image = Model::new().input("x", &[1, 4, 4, 4]).output("y", &[]);
        let blocks = image.node("DepthToSpace", &["x"], "y", &[Attr::Int("blocksize", size)]);
        refuses(blocks.bytes(), &["DepthToSpace (node \"/y/DepthToSpace\"): its attribute blocksize has "]);
    }
    // results double until no address reaches them
    let doubled = (0..60).fold(Model::new().input("c0", &[4]).output("c60", &[]), |model, i| {
        let c = format!("c{i}");
        model.node("Concat", &[&c, &c], &format!("c{}", i + 1), &[Attr::Int("axis", 0)])
    });
    refuses(doubled.bytes(), &["Concat (node \"/c", "more than 2^48 bytes"]);
    let axes: Vec<i64> = (0..3000).collect();
    let wide = model().ints("axes", &axes).node("Unsqueeze", &["x", "axes"], "y", &[]);
    refuses(wide.bytes(), &["Unsqueeze (node \"/y/Unsqueeze\"): its result has 3002 axes"]);
}

fn node(operator: &str, name: &str, input: &[&str], output: &str) -> pb::NodeProto {
    pb::NodeProto {
        name: name.into(),
        op_type: operator.into(),
        input: input.iter().map(|name| name.to_string()).collect(),
        output: vec![output.into()],
        ..Default::default()
    }
}

/// A model whose node `call` calls the last of these functions of one input, whose result is `b`.
fn calling(functions: Vec<Vec<pb::NodeProto>>) -> Vec<u8> {
    let mut proto = pb::ModelProto::decode(&model().bytes()[..]).expect("a model");
    let own = |mut node: pb::NodeProto| {
        if node.op_type.starts_with('f') {
            node.domain = "own".into();
        }
        node
    };
    let last = format!("f{}", functions.len() - 1);
    let functions = functions.into_iter().enumerate().map(|(i, nodes)| pb::FunctionProto {
        name: Some(format!("f{i}")),
        domain: Some("own".into()),
        input: vec!["a".into()],
        output: vec!["b".into()],
        node: nodes.into_iter().map(own).collect(),
        ..Default::default()
    });
    proto.functions = functions.collect();
    proto.graph.as_mut().expect("a graph").node.push(own(node(&last, "call", &["x"], "y")));
    proto.encode_to_vec()
}

#[test]
fn calls_that_become_too_many_nodes() {
    // each function calls the one before it twice
    let relu = || vec![node("Relu", "", &["a"], "b")];
    let twice = |i: usize| vec![node(&format!("f{i}"), "", &["a"], "m"), node(&format!("f{i}"), "", &["m"], "b")];
    let doubling = [relu()].into_iter().chain((0..40).map(twice)).collect();
    refuses(calling(doubling), &["(node \"call/m/", "the calls of functions become more than 50000 nodes"]);
    // each call makes names longer
    let long = "n".repeat(9000);
    let once = |i: usize| vec![node(&format!("f{i}"), &long, &["a"], "b")];
    let many = |i: usize| (0..2000).map(|j| node(&format!("f{i}"), "", &["a"], if j > 0 { "" } else { "b" })).collect();
    let mut deep: Vec<_> = [relu()].into_iter().chain((0..70).map(once)).collect();
    deep.push(many(70));
    refuses(calling(deep), &["(node \"call/", "nodes of more than 536870912 bytes"]);
    // the same constant in each call
    let constant = Model::new().constant("c", &[250_000], vec![1; 1_000_000]).bytes();
    let constant = pb::ModelProto::decode(&constant[..]).expect("a model").graph.expect("a graph").node;
    let calls = (0..5000).map(|i| node("f0", "", &["a"], if i > 0 { "" } else { "b" })).collect();
    let copied = calling(vec![[constant, relu()].concat(), calls]);
    refuses(copied, &["f0 (node \"call/", "nodes of more than 536870912 bytes"]);
    // a function calls itself
    refuses(calling(vec![vec![node("f0", "", &["a"], "b")]]), &["f0 (node \"call/b/", "is one of its functions recursive?"]);
}

/// A loop of `steps` steps, in each of which there are `inner` loops of as many, one in another.
fn looping(steps: i64, inner: usize) -> Vec<u8> {
    fn looped(steps: &str, from: &str, to: &str, inner: usize) -> pb::NodeProto {
        let (state, next) = (format!("s{inner}"), format!("t{inner}"));
        let step = match inner {
            0 => node("Relu", "", &[&state], &next),
            _ => looped(steps, &state, &next, inner - 1),
        };
        let goes_on = node("Identity", "", &["goes-on"], "goes-on-then");
        let value = |name: &str, elem_type: i32| {
            let tensor = pb::type_proto::Tensor { elem_type, ..Default::default() };
            let r#type = pb::TypeProto { value: Some(pb::type_proto::Value::TensorType(tensor)), ..Default::default() };
            pb::ValueInfoProto { name: name.into(), r#type: Some(r#type), ..Default::default() }
        };
        let body = pb::GraphProto {
            node: vec![step, goes_on],
            input: vec![value("number", I64), value("goes-on", BOOL), value(&state, 1)],
            output: vec![value("goes-on-then", BOOL), value(&next, 1)],
            ..Default::default()
        };
        let body = pb::AttributeProto { name: "body".into(), r#type: AttributeType::Graph as i32, g: Some(body), ..Default::default() };
        pb::NodeProto { attribute: vec![body], ..node("Loop", &format!("loop-{inner}"), &[steps, "", from], to) }
    }
    let mut proto = pb::ModelProto::decode(&model().int("steps", steps).bytes()[..]).expect("a model");
    proto.graph.as_mut().expect("a graph").node.push(looped("steps", "x", "y", inner));
    proto.encode_to_vec()
}

#[test]
fn loops_of_too_many_steps() {
    for steps in SIZES {
        refuses(looping(steps, 0), &["Loop (node \"loop-0\"): its ", "would become more than 10000 nodes"]);
    }
    refuses(looping(1000, 1), &["Loop (node \"loop-1/step-", "become too many nodes"]);
}

#[test]
fn names_that_are_too_long_and_nodes_with_too_many() {
    let long = "n".repeat(10_000_000);
    let changed = |change: &dyn Fn(&mut pb::GraphProto)| {
        let mut proto = pb::ModelProto::decode(&model().node("Relu", &["x"], "y", &[]).bytes()[..]).expect("a model");
        change(proto.graph.as_mut().expect("a graph"));
        proto.encode_to_vec()
    };
    let bytes = "has 10000000 bytes: at most 10000";
    refuses(changed(&|graph| graph.node[0].name = long.clone()), &["Relu (node \"nnn", bytes]);
    refuses(changed(&|graph| graph.node[0].op_type = long.clone()), &["(node \"/y/Relu\"): the name \"nnn", bytes]);
    refuses(changed(&|graph| graph.node[0].domain = long.clone()), &["Relu (node \"/y/Relu\"): the name \"nnn", bytes]);
    refuses(changed(&|graph| graph.node[0].input[0] = long.clone()), &["Relu (node \"/y/Relu\"): the name \"nnn", bytes]);
    refuses(changed(&|graph| graph.input[0].name = long.clone()), &["the name \"nnn", "of a tensor", bytes]);
    let many = |graph: &mut pb::GraphProto| {
        graph.node[0].op_type = "Concat".into();
        graph.node[0].input = vec!["x".into(); 200_000];
    };
    refuses(changed(&many), &["Concat (node \"/y/Relu\"): it has 200000 inputs: at most 10000"]);
}

/// A sound model whose result is larger than the address space: only its reference is left out.
#[test]
fn a_reference_that_does_not_fit_is_left_out() {
    let (code, out, err) = run(model().ints("pads", &[0, 0, 0, 1 << 28]).node("Pad", &["x", "pads"], "y", &[]).bytes());
    assert_eq!(code, Some(0), "{out}{err}");
    let warning = "the crate has no reference output to verify: an operator reads and writes ";
    assert!(out.contains(warning) || err.contains(warning), "{out}{err}");
}
