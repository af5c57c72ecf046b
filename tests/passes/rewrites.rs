//! Models as exporters write them that need a rewrite before tract can read them. Each is imported
//! and evaluated, and must give the results that ONNX defines; or it is refused with the reason.

use std::path::PathBuf;

use crate::support::interpret::interpret;
use crate::support::onnx::{self, Attr, Model};
use hiosc::graph::Constant;
use hiosc::import::{self, ImportOptions, Literal, import};
use prost::Message;
use tract_onnx::pb::{self, attribute_proto::AttributeType};

fn graph_of(name: &str, bytes: &[u8], options: &ImportOptions) -> hiosc::Result<import::Model> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path: PathBuf = folder.path().join(format!("{name}.onnx"));
    std::fs::write(&path, bytes).expect("a writable folder");
    import(&path, options)
}

/// The first output of a model whose inputs are `inputs`.
fn output(name: &str, bytes: &[u8], inputs: &[Vec<f32>]) -> Vec<f32> {
    let model = graph_of(name, bytes, &ImportOptions::default()).unwrap_or_else(|e| panic!("{name}: {e}"));
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
        let model = graph_of("squeeze", &proto.encode_to_vec(), &ImportOptions::default()).expect("a sound model");
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
    let model = graph_of("default", &model.bytes(), &ImportOptions::default()).expect("a sound model");
    assert_eq!(model.graph.inputs.len(), 1);
    assert_eq!(computed(&model, &[vec![5.0, 7.0]]), [10.0, 21.0]);
}

/// `y` is `10 x` if `x` has `rows` rows, else the result of an unknown operator.
fn branching(rows: i64) -> Vec<u8> {
    let model = Model::new().input("x", &[2, 3]).output("y", &[2, 3]).ints("rows", &[rows]).ints("zero", &[0]).ints("one", &[1]);
    let model = model.node("Shape", &["x"], "shape", &[]).node("Slice", &["shape", "zero", "one"], "first", &[]);
    let model = model.node("Equal", &["first", "rows"], "same", &[]).node("Squeeze", &["same"], "condition", &[]);
    let mut proto = decoded(model.weight("ten", &[1], vec![10.0]));
    let value = |name: &str| pb::ValueInfoProto { name: name.into(), ..Default::default() };
    let then =
        pb::GraphProto { node: vec![node("Mul", "", &["x", "ten"], &["inner"])], output: vec![value("inner")], ..Default::default() };
    // an unknown operator; its result has the same name as in the other branch
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
    let error = graph_of("if", &branching(3), &ImportOptions::default()).err().expect("the other branch is taken");
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
    // elu_1(-elu_2(-x)). For x = -1: elu_2(1) = 1, elu_1(-1) = 1/e - 1.
    // For x = 1: elu_2(-1) = 2 (1/e - 1), elu_1 of its opposite is itself.
    let low = (-1.0f32).exp() - 1.0;
    let got = output("functions", &proto.encode_to_vec(), &[vec![-1.0, 1.0]]);
    assert!((got[0] - low).abs() < 1e-6 && (got[1] + 2.0 * low).abs() < 1e-6, "{got:?}");

    // a function that calls itself
    proto.functions[1].node.push(pb::NodeProto { domain: "own".into(), ..node("Inner", "again", &["in"], &["w"]) });
    let error = graph_of("functions", &proto.encode_to_vec(), &ImportOptions::default()).err().expect("no end");
    assert!(error.to_string().contains("is one of its functions recursive?"), "{error}");
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
    let fixed = |shape: &[usize], values: &[i64]| ImportOptions::default().constant("shape", Literal::i64(shape, values));
    let imported = graph_of("fixed", &model(), &fixed(&[2], &[3, 2])).expect("a sound model");
    assert_eq!((imported.graph.inputs.len(), imported.graph.tensor(imported.graph.outputs[0]).shape.as_slice()), (1, &[3, 2][..]));
    let refused = |options: &ImportOptions| graph_of("fixed", &model(), options).err().expect("refused").to_string();
    assert!(refused(&ImportOptions::default()).starts_with("unsupported: "), "{}", refused(&ImportOptions::default()));
    assert_eq!(refused(&fixed(&[3], &[3, 2])), "--constant shape: 2 values do not fill the shape 3");
    assert_eq!(refused(&fixed(&[1, 2], &[3, 2])), "--constant shape: the input has 1 axes, the constant 2");
    let wrong_type = Literal::f32(&[2], &[3.0, 2.0]);
    let options = ImportOptions::default().constant("shape", wrong_type);
    assert_eq!(refused(&options), "--constant shape: the input has type Int64, the constant f32");
    let options = ImportOptions::default().constant("form", Literal::i64(&[], &[1]));
    assert_eq!(refused(&options), "--constant form: the model's inputs are [\"x\", \"shape\"]");
}

/// A model of one `op`, from shape `x` to shape `y`. `f` may change its graph.
fn one(op: &str, opset: i64, x: &[i64], y: &[i64], f: impl FnOnce(&mut pb::GraphProto)) -> Vec<u8> {
    let mut proto = decoded(Model::new().input("x", x).output("y", y).opset(opset).node(op, &["x"], "y", &[]));
    f(graph(&mut proto));
    proto.encode_to_vec()
}

fn floats(name: &str, values: &[f32]) -> pb::TensorProto {
    pb::TensorProto { name: name.into(), data_type: 1, dims: vec![values.len() as i64], float_data: values.into(), ..Default::default() }
}

#[test]
fn an_upsample_is_a_resize() {
    let scales = [1.0, 1.0, 1.0, 4.0];
    let doubled = [1.0, 1.0, 1.0, 1.0, 2.0, 2.0, 2.0, 2.0];
    let attribute = |graph: &mut pb::GraphProto| {
        let r#type = AttributeType::Floats as i32;
        let scales = pb::AttributeProto { name: "scales".into(), r#type, floats: scales.into(), ..Default::default() };
        graph.node[0].attribute.push(scales);
    };
    let input = |graph: &mut pb::GraphProto| {
        graph.node[0].input.push("scales".into());
        graph.initializer.push(floats("scales", &scales));
    };
    // positions are rounded down: round_prefer_floor would take 0.75 to the second element
    assert_eq!(output("upsample7", &one("Upsample", 7, &[1, 1, 1, 2], &[1, 1, 1, 8], attribute), &[vec![1.0, 2.0]]), doubled);
    assert_eq!(output("upsample9", &one("Upsample", 9, &[1, 1, 1, 2], &[1, 1, 1, 8], input), &[vec![1.0, 2.0]]), doubled);
    assert_eq!(output("resize10", &one("Resize", 10, &[1, 1, 1, 2], &[1, 1, 1, 8], input), &[vec![1.0, 2.0]]), doubled);
    let linear = |graph: &mut pb::GraphProto| {
        attribute(graph);
        let r#type = AttributeType::String as i32;
        graph.node[0].attribute.push(pb::AttributeProto { name: "mode".into(), r#type, s: b"linear".into(), ..Default::default() });
    };
    let between = [1.0, 1.25, 1.5, 1.75, 2.0, 2.0, 2.0, 2.0];
    assert_eq!(output("linear7", &one("Upsample", 7, &[1, 1, 1, 2], &[1, 1, 1, 8], linear), &[vec![1.0, 2.0]]), between);
    // downsampling rounds positions up: 0 and 1.67 become 0 and 2
    let shrunk = |graph: &mut pb::GraphProto| {
        graph.node[0].input.push("scales".into());
        graph.initializer.push(floats("scales", &[1.0, 1.0, 1.0, 0.6]));
    };
    assert_eq!(output("shrunk10", &one("Resize", 10, &[1, 1, 1, 4], &[1, 1, 1, 2], shrunk), &[vec![1.0, 2.0, 3.0, 4.0]]), [1.0, 3.0]);
}

#[test]
fn an_old_slope_belongs_to_channels() {
    let slope = |graph: &mut pb::GraphProto| {
        graph.node[0].input.push("slope".into());
        graph.initializer.push(floats("slope", &[0.5, 2.0]));
    };
    let x = vec![-1.0, 1.0, -2.0, -1.0, 1.0, -2.0];
    assert_eq!(output("prelu", &one("PRelu", 6, &[1, 2, 3], &[1, 2, 3], slope), &[x]), [-0.5, 1.0, -1.0, -2.0, 1.0, -4.0]);
}

#[test]
fn a_range_takes_lists_of_one_number() {
    let model = Model::new().input("x", &[4]).output("y", &[4]).ints("zero", &[0]).ints("one", &[1]).node("Shape", &["x"], "n", &[]);
    let model = model.node("Range", &["zero", "n", "one"], "r", &[]);
    let mut proto = decoded(model.node("Cast", &["r"], "f", &[]).node("Add", &["x", "f"], "y", &[]));
    let to = pb::AttributeProto { name: "to".into(), r#type: AttributeType::Int as i32, i: 1, ..Default::default() };
    graph(&mut proto).node.iter_mut().filter(|n| n.op_type == "Cast").for_each(|n| n.attribute.push(to.clone()));
    assert_eq!(output("range", &proto.encode_to_vec(), &[vec![10.0; 4]]), [10.0, 11.0, 12.0, 13.0]);
}

#[test]
fn a_grid_of_positions_is_a_product() {
    let model = |corners: i64| {
        let sizes: &[i64] = &[1, 1, 2, 2];
        let model = Model::new().input("theta", &[1, 2, 3]).output("y", &[1, 2, 2, 2]).ints("size", sizes).opset(20);
        model.node("AffineGrid", &["theta", "size"], "y", &[Attr::Int("align_corners", corners)]).bytes()
    };
    // x' = y + 10, y' = 2 x
    let theta = vec![0.0, 1.0, 10.0, 2.0, 0.0, 0.0];
    assert_eq!(output("corners", &model(1), std::slice::from_ref(&theta)), [9.0, -2.0, 9.0, 2.0, 11.0, -2.0, 11.0, 2.0]);
    assert_eq!(output("edges", &model(0), &[theta]), [9.5, -1.0, 9.5, 1.0, 10.5, -1.0, 10.5, 1.0]);
}

#[test]
fn what_is_refused_says_why() {
    let refused = |name: &str, model: Model| graph_of(name, &model.bytes(), &ImportOptions::default()).err().expect("refused").to_string();
    let model = Model::new().input("x", &[1, 2, 3]).output("y", &[1, 2, 3]).random_weight("a", &[2]).opset(15);
    let model = model.node("BatchNormalization", &["x", "a", "a", "a", "a"], "y", &[Attr::Int("training_mode", 1)]);
    assert!(refused("training", model).contains("BatchNormalization (node \"/y/BatchNormalization\"): its attribute training_mode is 1"));
    let model = Model::new().input_of(onnx::U8, "x", &[1, 1, 4]).output_of(onnx::U8, "y", &[1, 1, 8]).ints("sizes", &[1, 1, 8]);
    let error = refused("integers", model.node("Resize", &["x", "", "", "sizes"], "y", &[Attr::Text("mode", "linear")]));
    assert!(error.contains("Resize (node \"/y/Resize\"): elements of type u8 are not interpolated"), "{error}");
    let model = Model::new().input("x", &[1, 1, 4]).input("scales", &[3]).output("y", &[1, 1, 8]);
    let error = refused("scales", model.node("Resize", &["x", "", "scales"], "y", &[]));
    assert!(error.contains("Resize (node \"/y/Resize\"): its sizes or scales must be constants"), "{error}");
}
