//! Nodes that ONNX does not allow, although their operands have shapes that would do: each is
//! refused with an error that says what is wrong with which node.

use hiosc::import::{ImportOptions, import};
use prost::Message;
use tract_onnx::pb::{self, attribute_proto::AttributeType};

use crate::support::onnx::{Attr, BOOL, I64, Model};

/// The error of an import, or `None`.
fn error(bytes: &[u8]) -> Option<String> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("model.onnx");
    std::fs::write(&path, bytes).expect("a writable folder");
    import(&path, &ImportOptions::default()).err().map(|error| error.to_string())
}

fn refused(bytes: &[u8], message: &str) {
    let error = error(bytes).unwrap_or_else(|| panic!("accepted, instead of {message:?}"));
    assert!(error.contains(message), "{error}, instead of {message:?}");
}

/// A model with an input `x` of shape `[2, 4]` and an output `y`.
fn model() -> Model {
    Model::new().opset(20).input("x", &[2, 4]).output("y", &[])
}

fn changed(model: Model, change: impl FnOnce(&mut pb::ModelProto)) -> Vec<u8> {
    let mut proto = pb::ModelProto::decode(&model.bytes()[..]).expect("a model");
    change(&mut proto);
    proto.encode_to_vec()
}

fn first(proto: &mut pb::ModelProto) -> &mut pb::NodeProto {
    &mut proto.graph.as_mut().expect("a graph").node[0]
}

#[test]
fn an_axis_out_of_range() {
    for operator in ["Hardmax", "LogSoftmax", "Softmax"] {
        for opset in [9, 11, 13] {
            for axis in [-3, -2, 1, 2, 5] {
                let bytes = model().opset(opset).node(operator, &["x"], "y", &[Attr::Int("axis", axis)]).bytes();
                match axis {
                    -2..=1 => assert_eq!(error(&bytes), None, "{operator} of opset {opset}, axis {axis}"),
                    _ => refused(&bytes, &format!("{operator} (node \"/y/{operator}\"): axis {axis} is not one of 2 axes")),
                }
            }
            // the default is 1 before opset 13
            let bytes = Model::new().opset(opset).input("x", &[4]).output("y", &[]).node(operator, &["x"], "y", &[]).bytes();
            match opset {
                13 => assert_eq!(error(&bytes), None, "{operator}"),
                _ => refused(&bytes, &format!("{operator} (node \"/y/{operator}\"): axis 1 is not one of 1 axes")),
            }
        }
    }
    for operator in ["ReduceSum", "Unsqueeze", "CumSum"] {
        let bytes = model().ints("axes", &[3]).node(operator, &["x", "axes"], "y", &[]).bytes();
        let axes = if operator == "Unsqueeze" { 3 } else { 2 };
        let error = error(&bytes).expect("a refusal");
        assert!(error.contains(&format!("{operator} (node \"/y/{operator}\"): its input 1 (")), "{error}");
        assert!(error.contains(&format!("has 3, which is not one of {axes} axes")), "{error}");
    }
}

#[test]
fn a_split_into_another_number_of_outputs() {
    let split = |count| model().output("z", &[]).node("Split", &["x"], "y,z", &[Attr::Int("num_outputs", count)]).bytes();
    assert_eq!(error(&split(2)), None);
    refused(&split(3), "Split (node \"/y,z/Split\"): its num_outputs is 3, but it has 2 outputs");
}

#[test]
fn what_is_given_twice() {
    let softmax = || model().node("Softmax", &["x"], "y", &[Attr::Int("axis", 1)]);
    let twice = changed(softmax(), |proto| {
        let attribute = pb::AttributeProto { i: 0, ..first(proto).attribute[0].clone() };
        first(proto).attribute.push(attribute);
    });
    refused(&twice, "Softmax (node \"/y/Softmax\"): its attribute \"axis\" is given twice");
    let opset = |domain: &str, version: i64| {
        changed(softmax(), |proto| proto.opset_import.push(pb::OperatorSetIdProto { domain: domain.into(), version }))
    };
    refused(&opset("", 20), "the opset of the domain \"ai.onnx\" is given twice (opset_import): 20 and 20");
    refused(&opset("ai.onnx", 17), "the opset of the domain \"ai.onnx\" is given twice (opset_import): 20 and 17");
    assert_eq!(error(&opset("ai.onnx", 20)), None, "the same under its other name");
    assert_eq!(error(&opset("com.example", 17)), None);
}

#[test]
fn a_reference_to_an_attribute_outside_of_functions() {
    let bytes = changed(model().node("Softmax", &["x"], "y", &[Attr::Int("axis", 1)]), |proto| {
        first(proto).attribute[0].ref_attr_name = "direction".into();
    });
    refused(&bytes, "Softmax (node \"/y/Softmax\"): its attribute \"axis\" refers to the attribute \"direction\" of a call");
}

/// An operator, its inputs, the position of the one that must consist of integers, its shape, and
/// what it is.
type Row = (&'static str, &'static [&'static str], usize, &'static [i64], &'static str);

#[test]
fn floats_in_place_of_integers() {
    let rows: [Row; 20] = [
        ("ConstantOfShape", &["f"], 0, &[2], "a shape"),
        ("CumSum", &["x", "f"], 1, &[], "an axis"),
        ("Expand", &["x", "f"], 1, &[2], "a shape"),
        ("Gather", &["x", "f"], 1, &[1], "indices"),
        ("GatherElements", &["x", "f"], 1, &[1, 1], "indices"),
        ("GatherND", &["x", "f"], 1, &[1, 1], "indices"),
        ("Pad", &["x", "f"], 1, &[4], "pads"),
        ("ReduceMax", &["x", "f"], 1, &[1], "axes"),
        ("ReduceSum", &["x", "f"], 1, &[1], "axes"),
        ("Reshape", &["x", "f"], 1, &[2], "a shape"),
        ("Resize", &["x", "", "", "f"], 3, &[2], "sizes"),
        ("ScatterElements", &["x", "f", "x"], 1, &[2, 4], "indices"),
        ("ScatterND", &["x", "f", "x"], 1, &[2, 1], "indices"),
        ("Slice", &["x", "f", "i"], 1, &[1], "starts, ends, axes and steps"),
        ("Slice", &["x", "i", "f"], 2, &[1], "starts, ends, axes and steps"),
        ("Slice", &["x", "i", "i", "f"], 3, &[1], "starts, ends, axes and steps"),
        ("Split", &["x", "f"], 1, &[1], "sizes"),
        ("Tile", &["x", "f"], 1, &[2], "numbers of repetitions"),
        ("Trilu", &["x", "f"], 1, &[], "the number of a diagonal"),
        ("Unsqueeze", &["x", "f"], 1, &[1], "axes"),
    ];
    for (operator, inputs, position, shape, what) in rows {
        let message =
            format!("{operator} (node \"/y/{operator}\"): its input {position} ({what}) has type f32, but must consist of integers");
        let count = shape.iter().product::<i64>() as usize;
        let known = model().opset(18).ints("i", &[1]).weight("f", shape, vec![1.0; count]).node(operator, inputs, "y", &[]);
        refused(&known.bytes(), &message);
        let given = model().opset(18).ints("i", &[1]).input("f", shape).node(operator, inputs, "y", &[]);
        refused(&given.bytes(), &message);
    }
    for (operator, inputs) in [("Not", &["x"][..]), ("And", &["x", "x"]), ("Where", &["x", "x", "x"]), ("Compress", &["x", "x"])] {
        refused(&model().node(operator, inputs, "y", &[]).bytes(), "has type f32, but must consist of truth values");
    }
}

/// An `If` whose condition is `c`.
fn branching(model: Model) -> Vec<u8> {
    changed(model.node("If", &["c"], "y", &[]), |proto| {
        let branch = |name: &str, operator: &str| {
            let node =
                pb::NodeProto { op_type: operator.into(), input: vec!["x".into()], output: vec![operator.into()], ..Default::default() };
            let output = vec![pb::ValueInfoProto { name: operator.into(), ..Default::default() }];
            let graph = pb::GraphProto { node: vec![node], output, ..Default::default() };
            pb::AttributeProto { name: name.into(), r#type: AttributeType::Graph as i32, g: Some(graph), ..Default::default() }
        };
        first(proto).attribute = vec![branch("then_branch", "Relu"), branch("else_branch", "Neg")];
    })
}

#[test]
fn a_condition_that_is_not_one_truth_value() {
    let boolean = |shape: &[i64]| model().input_of(BOOL, "c", shape);
    for shape in [&[][..], &[1]] {
        assert_eq!(error(&branching(boolean(shape))), None);
        let mut known = model().weight("c", shape, vec![]);
        *known.initialiser("c") =
            pb::TensorProto { name: "c".into(), dims: shape.to_vec(), data_type: BOOL, int32_data: vec![1], ..Default::default() };
        assert_eq!(error(&branching(known)), None);
    }
    let wrong_type =
        |name: &str| format!("If (node \"/y/If\"): its input 0 (a condition) has type {name}, but must consist of truth values");
    refused(&branching(model().input("c", &[])), &wrong_type("f32"));
    refused(&branching(model().input_of(I64, "c", &[])), &wrong_type("i64"));
    refused(&branching(model().weight("c", &[], vec![1.0])), &wrong_type("f32"));
    refused(&branching(model().int("c", 1)), &wrong_type("i64"));
    let wrong_shape = "If (node \"/y/If\"): its condition has the shape [2], but must be one truth value";
    refused(&branching(boolean(&[2])), wrong_shape);
    let mut known = model().weight("c", &[2], vec![]);
    *known.initialiser("c") =
        pb::TensorProto { name: "c".into(), dims: vec![2], data_type: BOOL, int32_data: vec![1, 1], ..Default::default() };
    refused(&branching(known), wrong_shape);
}

#[test]
fn a_layout_that_is_not_one_of_two() {
    for (operator, gates) in [("RNN", 1), ("GRU", 3), ("LSTM", 4)] {
        let layer = |layout: i64| {
            let model = Model::new().input("x", &[2, 2, 8]).output("y", &[]);
            let model = model.random_weight("w", &[1, 4 * gates, 8]).random_weight("r", &[1, 4 * gates, 4]);
            model.node(operator, &["x", "w", "r"], "y", &[Attr::Int("hidden_size", 4), Attr::Int("layout", layout)]).bytes()
        };
        assert_eq!(error(&layer(0)), None);
        assert_eq!(error(&layer(1)), None);
        for layout in [2, -1] {
            refused(&layer(layout), &format!("{operator} (node \"/y/{operator}\"): its layout {layout} is not 0 or 1"));
        }
    }
}
