//! What exporters write and the reader stumbles on: each model is imported and computed, and must give what its ONNX says.

#[macro_use]
#[allow(unused_macros)]
mod common;

use std::path::PathBuf;

use common::interpret::interpret;
use common::onnx::Model;
use hiosc::graph::Constant;
use hiosc::import::{self, Literal, Options, import};
use prost::Message;
use tract_onnx::pb::{self, attribute_proto::AttributeType};

fn graph_of(name: &str, bytes: &[u8], options: &Options) -> hiosc::Result<import::Model> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path: PathBuf = folder.path().join(format!("{name}.onnx"));
    std::fs::write(&path, bytes).expect("a writable folder");
    import(&path, options)
}

/// The first output of a model whose inputs are `inputs`.
fn output(name: &str, bytes: &[u8], inputs: &[Vec<f32>]) -> Vec<f32> {
    let model = graph_of(name, bytes, &Options::default()).unwrap_or_else(|e| panic!("{name}: {e}"));
    computed(&model, inputs)
}

fn computed(model: &import::Model, inputs: &[Vec<f32>]) -> Vec<f32> {
    let inputs: Vec<Constant> = inputs.iter().map(|values| values.clone().into()).collect();
    interpret(&model.graph, &inputs)[0].f32().expect("an f32 output").to_vec()
}

fn decoded(model: Model) -> pb::ModelProto {
    pb::ModelProto::decode(model.bytes().as_slice()).expect("a model")
}

fn graph(proto: &mut pb::ModelProto) -> &mut pb::GraphProto {
    proto.graph.as_mut().expect("a graph")
}

fn node(op: &str, name: &str, inputs: &[&str], outputs: &[&str]) -> pb::NodeProto {
    let owned = |names: &[&str]| names.iter().map(|name| name.to_string()).collect();
    pb::NodeProto { op_type: op.into(), name: name.into(), input: owned(inputs), output: owned(outputs), ..Default::default() }
}

#[test]
fn a_squeeze_without_axes_drops_every_axis_of_one_at_old_opsets() {
    for opset in [9, 11, 13, 17] {
        let model = Model::new().input("x", &[1, 3, 1]).output("y", &[3]).node("Squeeze", &["x"], "s", &[]).node("Neg", &["s"], "y", &[]);
        let mut proto = decoded(model);
        proto.opset_import[0].version = opset;
        let model = graph_of("squeeze", &proto.encode_to_vec(), &Options::default()).expect("a sound model");
        assert_eq!(model.graph.tensor(model.graph.outputs[0]).shape, [3], "opset {opset}");
    }
}

#[test]
fn nodes_may_come_in_any_order() {
    let model = Model::new().input("x", &[2]).output("y", &[2]).node("Neg", &["a"], "y", &[]).node("Exp", &["x"], "a", &[]);
    assert_eq!(output("order", &model.bytes(), &[vec![0.0, 0.0]]), [-1.0, -1.0]);
}

#[test]
fn an_initialiser_that_is_also_an_input_is_a_weight() {
    let model = Model::new().input("x", &[2]).input("w", &[2]).output("y", &[2]).weight("w", &[2], vec![2.0, 3.0]).node(
        "Mul",
        &["x", "w"],
        "y",
        &[],
    );
    let model = graph_of("default", &model.bytes(), &Options::default()).expect("a sound model");
    assert_eq!(model.graph.inputs.len(), 1);
    assert_eq!(computed(&model, &[vec![5.0, 7.0]]), [10.0, 21.0]);
}

/// `y = x` scaled by 10 where it has as many rows as `rows`, else by 1 and reshaped, which does not fit the other branch.
fn branching(rows: i64) -> Vec<u8> {
    let model = Model::new().input("x", &[2, 3]).output("y", &[2, 3]).ints("rows", &[rows]).ints("zero", &[0]).ints("one", &[1]);
    let model = model.node("Shape", &["x"], "shape", &[]).node("Slice", &["shape", "zero", "one"], "first", &[]);
    let model = model.node("Equal", &["first", "rows"], "same", &[]).node("Squeeze", &["same"], "condition", &[]);
    let mut proto = decoded(model.weight("ten", &[1], vec![10.0]));
    let value = |name: &str| pb::ValueInfoProto { name: name.into(), ..Default::default() };
    let then =
        pb::GraphProto { node: vec![node("Mul", "", &["x", "ten"], &["inner"])], output: vec![value("inner")], ..Default::default() };
    // an operator that nothing knows, and a name that the other branch has, too
    let otherwise =
        pb::GraphProto { node: vec![node("Frobnicate", "", &["x"], &["inner"])], output: vec![value("inner")], ..Default::default() };
    let branch =
        |name: &str, g| pb::AttributeProto { name: name.into(), r#type: AttributeType::Graph as i32, g: Some(g), ..Default::default() };
    let mut choice = node("If", "choice", &["condition"], &["y"]);
    choice.attribute = vec![branch("then_branch", then), branch("else_branch", otherwise)];
    graph(&mut proto).node.push(choice);
    proto.encode_to_vec()
}

#[test]
fn an_if_on_shapes_is_the_branch_it_takes() {
    assert_eq!(output("if", &branching(2), &[vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0]]), [10.0, 20.0, 30.0, 40.0, 50.0, 60.0]);
    let error = graph_of("if", &branching(3), &Options::default()).err().expect("the other branch is taken");
    assert_eq!(error.to_string(), "unsupported: operator Frobnicate is not known (node \"choice/inner\")");
}

/// `Inner(in, slope) = elu(-in)`, called twice by `Outer`, which the graph calls.
#[test]
fn functions_of_the_model_are_written_out() {
    let mut proto = decoded(Model::new().input("x", &[2]).output("y", &[2]));
    let mut elu = node("Elu", "n", &["t"], &["out"]);
    elu.attribute = vec![pb::AttributeProto {
        name: "alpha".into(),
        ref_attr_name: "slope".into(),
        r#type: AttributeType::Float as i32,
        ..Default::default()
    }];
    let inner = pb::FunctionProto {
        name: Some("Inner".into()),
        domain: Some("own".into()),
        input: vec!["in".into()],
        output: vec!["out".into()],
        attribute: vec!["slope".into()],
        node: vec![node("Neg", "", &["in"], &["t"]), elu],
        ..Default::default()
    };
    let slope = |f: f32| pb::AttributeProto { name: "slope".into(), r#type: AttributeType::Float as i32, f, ..Default::default() };
    let call = |name: &str, from: &str, to: &str, f: f32| {
        let call = node("Inner", name, &[from], &[to]);
        pb::NodeProto { domain: "own".into(), attribute: vec![slope(f)], ..call }
    };
    let outer = pb::FunctionProto {
        name: Some("Outer".into()),
        domain: Some("own".into()),
        input: vec!["t".into()],
        output: vec!["u".into()],
        node: vec![call("", "t", "v", 2.0), call("", "v", "u", 1.0)],
        ..Default::default()
    };
    proto.functions = vec![outer, inner];
    graph(&mut proto).node.push(pb::NodeProto { domain: "own".into(), ..node("Outer", "call", &["x"], &["y"]) });
    // elu_1(-elu_2(-x)): for x = -1: elu_2(1) = 1, elu_1(-1) = 1/e - 1; for x = 1: elu_2(-1) = 2 (1/e - 1), elu_1 of its opposite is itself
    let low = (-1.0f32).exp() - 1.0;
    let got = output("functions", &proto.encode_to_vec(), &[vec![-1.0, 1.0]]);
    assert!((got[0] - low).abs() < 1e-6 && (got[1] + 2.0 * low).abs() < 1e-6, "{got:?}");

    // a function that calls itself
    proto.functions[1].node.push(pb::NodeProto { domain: "own".into(), ..node("Inner", "again", &["in"], &["w"]) });
    let error = graph_of("functions", &proto.encode_to_vec(), &Options::default()).err().expect("no end");
    assert!(error.to_string().contains("does one call itself?"), "{error}");
}

#[test]
fn an_input_can_be_fixed() {
    let model = || {
        let model = Model::new().input("x", &[2, 3]).input("shape", &[2]).output("y", &[3, 2]);
        let mut proto = decoded(model.node("Reshape", &["x", "shape"], "r", &[]).node("Neg", &["r"], "y", &[]));
        if let Some(pb::type_proto::Value::TensorType(t)) = graph(&mut proto).input[1].r#type.as_mut().and_then(|t| t.value.as_mut()) {
            t.elem_type = 7;
        }
        proto.encode_to_vec()
    };
    let fixed = |shape: Vec<usize>, values: &[i64]| Options {
        constants: [("shape".to_string(), Literal { shape, values: Constant::I64(values.into()) })].into(),
        ..Options::default()
    };
    let imported = graph_of("fixed", &model(), &fixed(vec![2], &[3, 2])).expect("a sound model");
    assert_eq!((imported.graph.inputs.len(), imported.graph.tensor(imported.graph.outputs[0]).shape.as_slice()), (1, &[3, 2][..]));
    let refused = |options: &Options| graph_of("fixed", &model(), options).err().expect("refused").to_string();
    assert!(refused(&Options::default()).starts_with("unsupported: "), "{}", refused(&Options::default()));
    assert_eq!(refused(&fixed(vec![3], &[3, 2])), "--constant shape: 2 values do not fill the shape 3");
    assert_eq!(refused(&fixed(vec![1, 2], &[3, 2])), "--constant shape: the input has 1 axes, the constant 2");
    let wrong_type = Literal { shape: vec![2], values: vec![3.0f32, 2.0].into() };
    let options = Options { constants: [("shape".to_string(), wrong_type)].into(), ..Options::default() };
    assert_eq!(refused(&options), "--constant shape: the input has type Int64, the constant f32");
    let options = Options {
        constants: [("form".to_string(), Literal { shape: vec![], values: Constant::I64([1].into()) })].into(),
        ..Options::default()
    };
    assert_eq!(refused(&options), "--constant form: the model's inputs are [\"x\", \"shape\"]");
}
