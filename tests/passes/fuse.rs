//! Import and fuse: the lowered graph computes what tract computes, and so does the fused one, with
//! all rules and with each rule left out.

mod index;
mod loops;
mod operators;

use std::collections::BTreeMap;

use crate::support::interpret::interpret;
use crate::support::onnx::{self, Attr, Model};
use crate::support::{number, random, relative_error};
use hiosc::fuse::{RULES, fuse};
use hiosc::graph::{Constant, Graph, OpKind};
use hiosc::ids::TensorId;
use hiosc::import::{self, import};

/// Imports `model`, and compares tract, the lowered graph, and the fused graph with each rule left
/// out. Gives the fully fused graph.
fn check(name: &str, model: Model) -> Graph {
    check_at(name, model, &[])
}

/// The same, with the shapes of some inputs given.
fn check_at(name: &str, model: Model, shapes: &[(&str, &[usize])]) -> Graph {
    let options = shapes.iter().fold(import::ImportOptions::default(), |options, (input, shape)| options.shape(input, shape));
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = model.save(folder.path(), name);
    let model = import(&path, &options).unwrap_or_else(|e| panic!("{name}: {e}"));
    // floating-point numbers in [-1, 1), integers truncated from [-4, 4), in the input's type
    let input = |(i, &t): (usize, &TensorId)| {
        let tensor = model.graph.tensor(t);
        let values = random(i as u64, tensor.elements() as usize);
        let scale = if tensor.dtype.is_float() { 1.0 } else { 4.0 };
        let cast = |v: f32| number::Number::float((scale * v).into()).cast(tensor.dtype, number::Rounding::Rounded);
        number::constant(tensor.dtype, &values.into_iter().map(cast).collect::<Vec<_>>())
    };
    let inputs: Vec<Constant> = model.graph.inputs.iter().enumerate().map(input).collect();
    let expected = model.reference(&inputs).expect("a reference");
    let agrees = |graph: &Graph, what: &str| {
        for (found, expected) in interpret(graph, &inputs).iter().zip(&expected) {
            let error = relative_error(found, expected);
            assert!(error < 1e-5, "{name}, {what}: {error}\n{graph}");
        }
    };
    let known = held(&model.graph, &inputs);
    let agrees = |graph: &Graph, what: &str| {
        agrees(graph, what);
        for (value, found) in held(graph, &inputs) {
            let error = if found.dtype() == known[&value].dtype() { relative_error(&found, &known[&value]) } else { 0.0 };
            assert!(error < 1e-5, "{name}, {what}: no longer the ONNX value {value}: {error}\n{graph}");
        }
    };
    agrees(&model.graph, "lowered");
    for rule in RULES.iter().filter(|r| r.name != "free-views") {
        let graph = fuse(model.graph.clone(), &[rule.name.to_string()]).expect("fusing");
        agrees(&graph, &format!("without {}", rule.name));
    }
    let graph = fuse(model.graph.clone(), &[]).expect("fusing");
    agrees(&graph, "fused");
    graph
}

/// The ONNX values that tensors of the graph hold, by name. (The interpreter keeps only the first
/// result of an operator.)
fn held(graph: &Graph, inputs: &[Constant]) -> BTreeMap<String, Constant> {
    let kept = |id: TensorId| graph.producer(id).is_none_or(|op| graph.root(id) == graph.operator(op).outputs[0]);
    let values: Vec<_> = graph.values.iter().filter(|value| !value.absorbed && kept(value.tensor)).collect();
    let probe = Graph { outputs: values.iter().map(|value| value.tensor).collect(), ..graph.clone() };
    values.iter().map(|value| value.name.clone()).zip(interpret(&probe, inputs)).collect()
}

/// The kinds of all operators, in topological order.
fn kinds(graph: &Graph) -> Vec<String> {
    graph.topological_order().expect("no cycle").into_iter().map(|op| graph.describe(op)).collect()
}

fn conv(model: Model, x: &str, y: &str, weights: &[i64], attrs: &[Attr]) -> Model {
    let w = format!("{y}.weight");
    model.random_weight(&w, weights).node("Conv", &[x, &w], y, attrs)
}

#[test]
fn batch_norm_and_relu_vanish_into_the_convolution() {
    let model = Model::new().input("x", &[1, 3, 9, 9]).output("y", &[1, 8, 5, 5]);
    let model = conv(model, "x", "c", &[8, 3, 3, 3], &[Attr::Ints("pads", &[1, 1, 1, 1]), Attr::Ints("strides", &[2, 2])]);
    let model = model.random_weight("scale", &[8]).random_weight("shift", &[8]).random_weight("mean", &[8]);
    let model = model.weight("var", &[8], vec![0.5, 1.0, 2.0, 0.1, 1.5, 3.0, 0.7, 1.1]);
    let model = model.node("BatchNormalization", &["c", "scale", "shift", "mean", "var"], "n", &[]).node("Relu", &["n"], "y", &[]);
    let graph = check("batch_norm", model);
    assert_eq!(kinds(&graph), ["conv 3x3 stride 2x2 pads 1,1:1,1 bias epilogue relu(x0)"]);
    assert_eq!(graph.operators[0].name, "/c/Conv");
    assert_eq!(graph.tensor(graph.outputs[0]).name, "y");
}

/// Found by random models: the reader moves a slice with steps before a softmax, even along the
/// axis that the softmax sums over.
#[test]
fn a_slice_with_steps_stays_behind_a_softmax() {
    let model = Model::new().input("x", &[8]).output("y", &[4]).node("LogSoftmax", &["x"], "s", &[Attr::Int("axis", 0)]);
    let model = model.ints("from", &[1]).ints("to", &[8]).ints("axis", &[0]).ints("step", &[2]);
    let graph = check("slice_behind_softmax", model.node("Slice", &["s", "from", "to", "axis", "step"], "y", &[]));
    assert_eq!(kinds(&graph), ["log_softmax axis 0", "slice from [1] step [2]"]);
}

#[test]
fn residual_add_and_relu_become_the_epilogue_of_one_convolution() {
    let model = Model::new().input("x", &[1, 4, 6, 6]).output("y", &[1, 4, 6, 6]);
    let model = conv(model, "x", "a", &[4, 4, 1, 1], &[]);
    let model = conv(model, "a", "b", &[4, 2, 3, 3], &[Attr::Ints("pads", &[1, 1, 1, 1]), Attr::Int("group", 2)]);
    let model = model.node("Add", &["a", "b"], "s", &[]).node("Relu", &["s"], "y", &[]);
    let graph = check("residual", model);
    assert_eq!(kinds(&graph), ["conv 1x1", "conv 3x3 pads 1,1:1,1 groups 2 epilogue relu(add(x1, x0))"]);
}

#[test]
fn a_value_with_two_readers_is_not_absorbed() {
    let model = Model::new().input("x", &[1, 4, 6, 6]).output("y", &[1, 4, 6, 6]).output("c", &[1, 4, 6, 6]);
    let model = conv(model, "x", "c", &[4, 4, 1, 1], &[]).node("Relu", &["c"], "y", &[]);
    assert_eq!(kinds(&check("two_readers", model)), ["conv 1x1", "elementwise relu(x0)"]);
}

/// Found by fuzzing: the epilogue ends in another type, and its result is read under another shape
/// than that of the sums.
#[test]
fn an_epilogue_of_another_type_and_shape() {
    let model = Model::new().input("x", &[1, 4, 6, 6]).output_of(onnx::F16, "y", &[1, 144]);
    let model =
        conv(model, "x", "c", &[4, 4, 1, 1], &[]).node("Flatten", &["c"], "f", &[]).node("Cast", &["f"], "y", &[Attr::Int("to", 10)]);
    assert_eq!(kinds(&check("cast_behind_flatten", model)), ["conv 1x1 epilogue f16(x0)"]);
}

#[test]
fn branches_pools_concat_gemm_softmax() {
    let model = Model::new().input("x", &[2, 3, 11, 11]).output("y", &[2, 10]);
    let model = conv(model, "x", "a", &[4, 3, 3, 3], &[Attr::Ints("dilations", &[2, 2])]);
    let model = model.node(
        "MaxPool",
        &["a"],
        "p",
        &[Attr::Ints("kernel_shape", &[3, 3]), Attr::Ints("strides", &[2, 2]), Attr::Int("ceil_mode", 1)],
    );
    let avg = [Attr::Ints("kernel_shape", &[3, 3]), Attr::Ints("pads", &[1, 1, 1, 1])];
    let model = model.node("AveragePool", &["p"], "q", &avg);
    let avg = [Attr::Ints("kernel_shape", &[3, 3]), Attr::Ints("pads", &[1, 1, 1, 1]), Attr::Int("count_include_pad", 1)];
    let model = model.node("AveragePool", &["p"], "r", &avg).node("Concat", &["q", "r"], "s", &[Attr::Int("axis", 1)]);
    let model = model.node("GlobalAveragePool", &["s"], "g", &[]).node("Flatten", &["g"], "f", &[]);
    let model = model.random_weight("w", &[10, 8]).random_weight("b", &[10]);
    let model = model.node("Gemm", &["f", "w", "b"], "h", &[Attr::Int("transB", 1)]).node("Softmax", &["h"], "y", &[Attr::Int("axis", 1)]);
    let graph = check("branches", model);
    let kinds = kinds(&graph);
    assert!(kinds.contains(&"reduce mean axes [2, 3]".to_string()), "{kinds:?}");
    assert!(kinds.contains(&"matmul 1: 2x8x10 bias".to_string()), "{kinds:?}");
    assert_eq!(kinds.len(), 8, "{kinds:?}");
}

/// With one image, concatenated channels are computed side by side, whether the whole, a part, or
/// the whole under another shape is read.
#[test]
fn concatenations_are_computed_in_place() {
    let two = |model: Model| {
        let model = model.input("x", &[1, 4, 6, 6]).node("Sigmoid", &["x"], "a", &[]).node("Tanh", &["x"], "b", &[]);
        model.node("Concat", &["b", "a"], "joined", &[Attr::Int("axis", 1)])
    };
    let kinds = |graph: &Graph| graph.operators.iter().filter(|op| op.kind.name() == "concat").count();
    let pool = [Attr::Ints("kernel_shape", &[3, 3])];
    let model = two(Model::new()).output("y", &[1, 8, 4, 4]).output("z", &[2, 4, 4, 4]).output("a", &[1, 4, 6, 6]);
    let model = model.node("MaxPool", &["joined"], "y", &pool).ints("shape", &[2, 4, 6, 6]);
    let model = model.node("Reshape", &["joined", "shape"], "other", &[]).node("MaxPool", &["other"], "z", &pool);
    let graph = check("joined", model);
    assert_eq!((kinds(&graph), graph.operators.len()), (0, 4), "{graph}");
    assert!(graph.to_string().contains(" + "), "{graph}");

    // These are copied: a part of two wholes, a whole that is an output, a part used twice, an
    // input of the model.
    let model = two(Model::new()).output("y", &[1, 8, 4, 4]).output("z", &[1, 8, 4, 4]);
    let model = model.node("Concat", &["a", "b"], "again", &[Attr::Int("axis", 1)]);
    let graph = check("part_of_two", model.node("MaxPool", &["joined"], "y", &pool).node("MaxPool", &["again"], "z", &pool));
    assert_eq!(kinds(&graph), 1, "{graph}");
    let graph = check("joined_output", two(Model::new()).output("joined", &[1, 8, 6, 6]));
    assert_eq!(kinds(&graph), 1, "{graph}");
    for (name, parts) in [("twice", ["a", "a"]), ("input", ["a", "x"])] {
        let model = two(Model::new()).output("y", &[1, 8, 4, 4]).node("Concat", &parts, "other", &[Attr::Int("axis", 1)]);
        let graph = check(name, model.node("MaxPool", &["other"], "y", &pool));
        assert_eq!(kinds(&graph), 1, "{graph}");
    }
    // So are alternating rows, and a part that would begin at an odd position.
    for (name, shape, axis) in [("rows", [2, 4, 6, 6], 1), ("inner", [1, 4, 6, 6], 2), ("odd", [1, 1, 3, 3], 1)] {
        let mut out = shape;
        out[axis] *= 2;
        let model = Model::new().input("x", &shape).output("y", &out).node("Sigmoid", &["x"], "a", &[]).node("Tanh", &["x"], "b", &[]);
        let model = model.node("Concat", &["b", "a"], "joined", &[Attr::Int("axis", axis as i64)]);
        let graph = check(name, model.node("Softmax", &["joined"], "y", &[Attr::Int("axis", 3)]));
        assert_eq!(kinds(&graph), 1, "{graph}");
    }
}

/// A contiguous slice, such as channels of one image or steps of a sequence, is read without a
/// copy, also under another shape. Any other slice is copied.
#[test]
fn slices_in_one_piece_are_views() {
    let cut = |model: Model, from: i64, to: i64, axis: i64, y: &str| {
        let names = ["starts", "ends", "axes"].map(|what| format!("{y}_{what}"));
        let model = model.ints(&names[0], &[from]).ints(&names[1], &[to]).ints(&names[2], &[axis]);
        model.node("Slice", &["a", &names[0], &names[1], &names[2]], y, &[])
    };
    let base = |shape: &[i64]| Model::new().input("x", shape).node("Sigmoid", &["x"], "a", &[]);
    let slices = |graph: &Graph| graph.operators.iter().filter(|op| op.kind.name() == "slice").count();
    let model = cut(cut(base(&[1, 8, 4, 5]), 2, 5, 1, "middle"), 6, 8, 1, "end");
    let model = model.ints("flat", &[1, 40]).node("Reshape", &["end", "flat"], "long", &[]);
    let model = model.node("Softmax", &["middle"], "y", &[Attr::Int("axis", 3)]).node("Softmax", &["long"], "z", &[Attr::Int("axis", 1)]);
    let graph = check("pieces", model.output("y", &[1, 3, 4, 5]).output("z", &[1, 40]));
    assert_eq!((slices(&graph), graph.operators.len()), (0, 3), "{graph}");
    assert!(graph.to_string().contains("[40..100]") && graph.to_string().contains("[120..160]"), "{graph}");
    // One of several images, and one of its channels.
    let model = cut(base(&[3, 8, 4, 4]), 1, 2, 0, "one").node("Softmax", &["one"], "y", &[Attr::Int("axis", 3)]);
    assert_eq!(slices(&check("image", model.output("y", &[1, 8, 4, 4]))), 0);
    // These are copied: parts of rows, channels of several images, an odd beginning, and, further
    // below, an output of the model and a part of a concatenation.
    let softmax = [Attr::Int("axis", 3)];
    for (name, shape, axis, out) in
        [("rows", [1, 8, 4, 5], 3, [1, 8, 4, 2]), ("batch", [2, 8, 4, 5], 1, [2, 2, 4, 5]), ("odd", [1, 8, 3, 3], 1, [1, 2, 3, 3])]
    {
        let model = cut(base(&shape), 1, 3, axis, "part").node("Softmax", &["part"], "y", &softmax).output("y", &out);
        let graph = check(name, model);
        assert_eq!(slices(&graph), 1, "{graph}");
    }
    // A slice of concatenated channels, within one part and across both.
    for (name, from, slices_left) in [("one_part", 5, 0), ("two_parts", 2, 1)] {
        let model = base(&[1, 4, 4, 5]).node("Tanh", &["x"], "b", &[]).node("Concat", &["b", "a"], "both", &[Attr::Int("axis", 1)]);
        let model = model.ints("starts", &[from]).ints("ends", &[from + 3]).ints("axes", &[1]);
        let model = model.node("Slice", &["both", "starts", "ends", "axes"], "cut", &[]).node("Softmax", &["cut"], "y", &softmax);
        let model = model.node("Softmax", &["both"], "z", &softmax).output("y", &[1, 3, 4, 5]).output("z", &[1, 8, 4, 5]);
        let graph = check(name, model);
        assert_eq!(slices(&graph), slices_left, "{graph}");
    }
    let model = cut(base(&[1, 8, 4, 5]), 0, 2, 3, "part").node("Softmax", &["part"], "y", &softmax).output("y", &[1, 8, 4, 2]);
    assert_eq!(slices(&check("rows_from_their_beginning", model)), 1);
    let graph = check("result", cut(base(&[1, 8, 4, 5]), 1, 3, 1, "part").output("part", &[1, 2, 4, 5]));
    assert_eq!(slices(&graph), 1, "{graph}");
    let model = cut(base(&[1, 8, 4, 5]), 0, 4, 1, "part").node("Tanh", &["x"], "b", &[]);
    let model = model.node("Concat", &["part", "b"], "both", &[Attr::Int("axis", 1)]).node("Softmax", &["both"], "y", &softmax);
    let graph = check("part", model.output("y", &[1, 12, 4, 5]));
    assert_eq!(slices(&graph), 1, "{graph}");
}

#[test]
fn elementwise_chains_with_broadcasts_become_one_operator() {
    let model = Model::new().input("x", &[1, 4, 5, 5]).input("g", &[1, 4, 1, 1]).output("y", &[1, 4, 5, 5]);
    let model = model.node("Sigmoid", &["g"], "s", &[]).node("Mul", &["x", "s"], "m", &[]);
    let model = model.weight("half", &[1], vec![0.5]).node("Sub", &["half", "m"], "d", &[]).node("Exp", &["d"], "e", &[]);
    let model = model.node("Mul", &["e", "e"], "q", &[]).node("Max", &["q", "x"], "y", &[]);
    let graph = check("chain", model);
    // the sigmoid is broadcast: computing it again for every element would be a loss, so it stays
    // alone
    assert_eq!(graph.operators.len(), 2, "{graph}");
    assert!(graph.operators.iter().all(|op| matches!(op.kind, OpKind::Elementwise(_))));
}

#[test]
fn one_dimensional_windows_are_two_dimensional_ones_through_views() {
    let model = Model::new().input("x", &[1, 3, 20]).output("y", &[1, 6, 9]);
    let model = conv(model, "x", "c", &[6, 3, 3], &[]).node("Relu", &["c"], "r", &[]);
    let model = model.node("MaxPool", &["r"], "y", &[Attr::Ints("kernel_shape", &[2]), Attr::Ints("strides", &[2])]);
    assert_eq!(check("one_dimensional", model).operators.len(), 2);
}

#[test]
fn odd_outputs_are_views_under_their_own_names() {
    let model = Model::new().input("x", &[1, 4]).output("same", &[1, 4]).output("y", &[1, 4]);
    let graph = check("passthrough", model.node("Identity", &["x"], "same", &[]).node("Relu", &["x"], "y", &[]));
    assert_eq!(graph.tensor(graph.outputs[0]).name, "same");
    assert_eq!(graph.root(graph.outputs[0]), graph.inputs[0]);
}

/// A chain of elementwise operators, `MODEL` of `x [2, 3, 5]` to `y`.
fn scalar_chain(name: &str, nodes: &[(&str, &[&str], &[Attr])]) -> Graph {
    let mut model = Model::new().input("x", &[2, 3, 5]).output("y", &[2, 3, 5]).random_weight("w", &[1, 3, 1]);
    model =
        model.weight("half", &[], vec![0.5]).weight("three", &[], vec![3.0]).weight("zero", &[1], vec![0.0]).weight("low", &[], vec![0.0]);
    for (i, (op, inputs, attrs)) in nodes.iter().enumerate() {
        let output = if i + 1 == nodes.len() { "y".to_string() } else { format!("v{i}") };
        let previous = format!("v{}", i.wrapping_sub(1));
        let inputs: Vec<&str> = inputs.iter().map(|&name| if name == "." { previous.as_str() } else { name }).collect();
        model = model.node(op, &inputs, &output, attrs);
    }
    check(name, model)
}

#[test]
fn scalar_functions() {
    let none: &[Attr] = &[];
    let one = |name: &str, op: &'static str, attrs: &[Attr]| kinds(&scalar_chain(name, &[(op, &["x"], attrs)]));
    assert_eq!(one("hard_swish", "HardSwish", none), ["elementwise hard_swish(x0)"]);
    assert_eq!(one("gelu", "Erf", none), ["elementwise erf(x0)"]);
    assert_eq!(one("floor", "Floor", none), ["elementwise floor(x0)"]);
    assert_eq!(one("leaky", "LeakyRelu", &[Attr::Float("alpha", 0.1)]), ["elementwise select(less(x0, 0.0), mul(x0, 0.1), x0)"]);
    one("hard_sigmoid", "HardSigmoid", &[Attr::Float("alpha", 0.3)]);
    one("elu", "Elu", none);
    one("softplus", "Softplus", none);
    one("round", "Round", none);
    one("sign", "Sign", none);
    one("cos", "Cos", none);
    let clip = scalar_chain("clip", &[("Clip", &["x", "low", "half"], none)]);
    assert_eq!(kinds(&clip), ["elementwise min(relu(x0), 0.5)"]);
    scalar_chain("pow", &[("Abs", &["x"], none), ("Pow", &[".", "half"], none), ("Pow", &[".", "three"], none)]);
    scalar_chain("prelu", &[("PRelu", &["x", "w"], none)]);
    let silu = scalar_chain("silu", &[("Sigmoid", &["x"], none), ("Mul", &["x", "."], none)]);
    assert_eq!(silu.operators.len(), 1, "{silu}");
}

#[test]
fn comparisons_choose() {
    for (i, op) in ["Less", "LessOrEqual", "Greater", "GreaterOrEqual", "Equal"].into_iter().enumerate() {
        let graph = scalar_chain(
            &format!("where_{i}"),
            &[("Round", &["x"], &[]), (op, &[".", "zero"], &[]), ("Not", &["."], &[]), ("Where", &[".", "x", "w"], &[])],
        );
        assert_eq!(graph.operators.len(), 1, "{graph}");
    }
    let model = Model::new().input("x", &[4, 4]).input("z", &[4, 4]).output("y", &[4, 4]).weight("zero", &[1], vec![0.0]);
    let model = model.node("Less", &["x", "zero"], "a", &[]).node("Greater", &["z", "x"], "b", &[]);
    let model = model.node("And", &["a", "b"], "c", &[]).node("Or", &["c", "a"], "d", &[]).node("Xor", &["d", "b"], "e", &[]);
    check("logic", model.node("Cast", &["e"], "y", &[Attr::Int("to", 1)]));
}

#[test]
fn an_expression_does_not_grow_without_end() {
    let mut model = Model::new().input("x", &[8]).output("y", &[8]);
    for i in 0..12 {
        let (from, to) = (if i == 0 { "x".into() } else { format!("v{i}") }, if i == 11 { "y".into() } else { format!("v{}", i + 1) });
        model = model.node("Sigmoid", &[&from], &format!("s{i}"), &[]).node("Add", &[&from, &format!("s{i}")], &to, &[]);
    }
    let graph = check("doubling", model);
    let operations = |kind: &OpKind| if let OpKind::Elementwise(e) = kind { e.expr.operations() } else { 0 };
    assert!(graph.operators.iter().all(|op| operations(&op.kind) <= 48), "{graph}");
}

#[test]
fn transpositions_move_data_or_nothing() {
    let model = Model::new().input("x", &[2, 3, 1, 5]).output("y", &[5, 2, 3, 1]).output("z", &[2, 1, 3, 5]);
    let model = model.node("Relu", &["x"], "r", &[]).node("Transpose", &["r"], "t", &[Attr::Ints("perm", &[3, 0, 1, 2])]);
    let model = model.node("Exp", &["t"], "y", &[]).node("Transpose", &["r"], "z", &[Attr::Ints("perm", &[0, 2, 1, 3])]);
    let graph = check("transpose", model);
    assert_eq!(kinds(&graph).iter().filter(|k| k.starts_with("transpose")).count(), 1, "{graph}");
    assert_eq!(graph.operators.len(), 3, "{graph}");
}

#[test]
fn slices_with_any_step() {
    let model = Model::new().input("x", &[3, 8, 9]).output("y", &[3, 3, 3]).output("b", &[3, 8, 9]).output("p", &[3, 5, 9]);
    let model = model.ints("from", &[1, 2]).ints("to", &[7, 9]).ints("axes", &[1, 2]).ints("steps", &[2, 3]);
    let model = model.node("Slice", &["x", "from", "to", "axes", "steps"], "y", &[]);
    let model = model.ints("last", &[-1]).ints("before", &[-100]).ints("axis", &[2]).ints("back", &[-1]);
    let model = model.node("Slice", &["x", "last", "before", "axis", "back"], "b", &[]);
    let model = model.ints("sizes", &[3, 5]).node("Split", &["x", "sizes"], "o,p", &[Attr::Int("axis", 1)]);
    let graph = check("slices", model.node("Relu", &["o"], "unread", &[]));
    assert!(kinds(&graph).contains(&"slice from [0, 1, 2] step [1, 2, 3]".to_string()), "{graph}");
    assert!(kinds(&graph).contains(&"slice from [0, 0, 8] step [1, 1, -1]".to_string()), "{graph}");
}

#[test]
fn pads_of_every_kind() {
    for (i, mode) in ["constant", "reflect", "edge"].into_iter().enumerate() {
        let model = Model::new().input("x", &[2, 5, 6]).output("y", &[2, 10, 7]).ints("pads", &[0, 2, 1, 0, 3, 0]);
        let model = model.weight("value", &[], vec![1.5]);
        let inputs: &[&str] = if i == 0 { &["x", "pads", "value"] } else { &["x", "pads"] };
        let graph = check(&format!("pad_{mode}"), model.node("Pad", inputs, "y", &[Attr::Text("mode", mode)]));
        assert_eq!(graph.operators.len(), 1, "{graph}");
    }
}

#[test]
fn negative_pads_take_away() {
    let model = Model::new().input("x", &[2, 5, 6]).output("y", &[2, 4, 7]).ints("pads", &[0, -2, 2, 0, 1, -1]);
    let graph = check("pad_negative", model.node("Pad", &["x", "pads"], "y", &[]));
    assert_eq!(kinds(&graph), ["slice from [0, 2, 0]", "pad with 0.0 before [0, 0, 2] after [0, 1, 0]"]);
}

#[test]
fn a_pad_becomes_the_padding_of_windows() {
    let window: &[Attr] = &[Attr::Ints("kernel_shape", &[3, 3]), Attr::Ints("strides", &[2, 2])];
    let model = Model::new().input("x", &[1, 4, 8, 9]).output("c", &[1, 6, 4, 6]).output("m", &[1, 4, 4, 4]).output("a", &[1, 4, 4, 5]);
    let model = model.ints("pads", &[0, 0, 1, 1, 0, 0, 0, 2]).weight("low", &[], vec![f32::NEG_INFINITY]);
    let model = model.node("Pad", &["x", "pads"], "f", &[]).node("Pad", &["x", "pads", "low"], "g", &[]);
    let model = conv(model, "f", "c", &[6, 4, 3, 3], &[Attr::Ints("strides", &[2, 2]), Attr::Ints("pads", &[0, 0, 1, 1])]);
    let graph = check("pad", model.node("MaxPool", &["g"], "m", window).node("AveragePool", &["f"], "a", window));
    let mut kinds = kinds(&graph);
    kinds.sort();
    assert_eq!(
        kinds,
        [
            "conv 3x3 stride 2x2 pads 1,1:1,3",
            "pool average including pads 3x3 stride 2x2 pads 1,1:0,2",
            "pool max 3x3 stride 2x2 pads 1,1:0,2"
        ]
    );
    // a maximum would take the zeros into account
    let model = Model::new().input("x", &[1, 4, 8, 9]).output("m", &[1, 4, 4, 4]).ints("pads", &[0, 0, 1, 1, 0, 0, 0, 0]);
    let graph = check("pad_of_zeros", model.node("Pad", &["x", "pads"], "f", &[]).node("MaxPool", &["f"], "m", window));
    assert_eq!(graph.operators.len(), 2, "{graph}");
}

#[test]
fn repeated_elements_are_broadcasts() {
    let model = Model::new().input("x", &[1, 2, 3, 4]).output("y", &[1, 2, 6, 12]).output("z", &[2, 2, 9, 4]);
    let model = model.weight("scales", &[4], vec![1.0, 1.0, 2.0, 3.0]);
    let attrs =
        [Attr::Text("mode", "nearest"), Attr::Text("coordinate_transformation_mode", "asymmetric"), Attr::Text("nearest_mode", "floor")];
    let model = model.node("Resize", &["x", "", "scales"], "y", &attrs);
    let graph = check("repeated", model.ints("times", &[2, 1, 3, 1]).node("Tile", &["x", "times"], "z", &[]));
    assert_eq!(graph.operators.len(), 2, "{graph}");
}

#[test]
fn resizing_reads_a_few_elements() {
    let resize = |name: &str, sizes: &[i64; 4], attrs: &[Attr]| {
        let model = Model::new().input("x", &[1, 3, 5, 7]).output("y", sizes).ints("sizes", sizes).opset(19);
        kinds(&check(name, model.node("Resize", &["x", "", "", "sizes"], "y", attrs))).join(", ")
    };
    let mode = |mode, transform| [Attr::Text("mode", mode), Attr::Text("coordinate_transformation_mode", transform)];
    assert_eq!(resize("linear", &[1, 3, 9, 11], &mode("linear", "half_pixel")), "resample axes [2, 3] taps 2x2");
    assert_eq!(resize("aligned", &[1, 3, 5, 12], &mode("linear", "align_corners")), "resample axes [3] taps 2");
    assert_eq!(resize("cubic", &[1, 3, 13, 4], &mode("cubic", "pytorch_half_pixel")), "resample axes [2, 3] taps 4x4");
    // output positions coincide with input elements: no weights
    assert_eq!(resize("corners", &[1, 3, 3, 4], &mode("linear", "align_corners")), "resample axes [2, 3]");
    for rounding in ["floor", "ceil", "round_prefer_floor", "round_prefer_ceil"] {
        let attrs = [&mode("nearest", "half_pixel")[..], &[Attr::Text("nearest_mode", rounding)]].concat();
        assert_eq!(resize(rounding, &[1, 3, 8, 4], &attrs), "resample axes [2, 3]");
    }
    // an antialiasing filter reads too many elements for one kernel: one kernel per axis
    let attrs = [&mode("cubic", "half_pixel")[..], &[Attr::Int("antialias", 1)]].concat();
    assert_eq!(resize("antialias", &[1, 3, 2, 3], &attrs), "resample axes [2] taps 10, resample axes [3] taps 9");
    assert_eq!(resize("same", &[1, 3, 5, 7], &mode("linear", "half_pixel")), "");
}

#[test]
fn a_resampling_takes_in_what_follows() {
    let model = Model::new().input("x", &[1, 3, 5, 7]).input("z", &[1, 3, 8, 9]).output("y", &[1, 3, 8, 9]).ints("sizes", &[1, 3, 8, 9]);
    let model = model.node("Resize", &["x", "", "", "sizes"], "r", &[Attr::Text("mode", "linear")]);
    let graph = check("resize_add", model.node("Add", &["z", "r"], "s", &[]).node("Relu", &["s"], "y", &[]));
    assert_eq!(kinds(&graph), ["resample axes [2, 3] taps 2x2 epilogue relu(add(x1, x0))"], "{graph}");
}

#[test]
fn log_softmax_and_products() {
    let model = Model::new().input("x", &[3, 4, 5]).output("y", &[3, 4, 5]).output("p", &[3, 1, 5]).ints("axes", &[1]);
    let model = model.weight("large", &[1], vec![30.0]).node("Mul", &["x", "large"], "v", &[]);
    let model = model.node("LogSoftmax", &["v"], "y", &[Attr::Int("axis", 1)]).node("ReduceProd", &["x"], "p", &[Attr::Ints("axes", &[1])]);
    let graph = check("log_softmax", model);
    assert!(kinds(&graph).contains(&"reduce product axes [1]".to_string()), "{graph}");
}

#[test]
fn what_has_no_form_here_is_refused_with_its_reason() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let refused = |name: &str, model: Model| {
        import(&model.save(folder.path(), name), &import::ImportOptions::default()).err().expect("not supported").to_string()
    };
    let model = Model::new().input("x", &[4]).output_of(8, "y", &[4]).node("Cast", &["x"], "y", &[Attr::Int("to", 8)]);
    let error = refused("text", model);
    assert!(error.contains("strings are not supported") && error.contains("/y/Cast"), "{error}");
}

#[test]
fn values_of_many_types() {
    let to = |dtype: i32| [Attr::Int("to", dtype.into())];
    let model = Model::new().input("x", &[4]).output_of(onnx::BOOL, "y", &[4]).weight("zero", &[1], vec![0.0]);
    check("truth", model.node("Less", &["x", "zero"], "y", &[]));
    let model = Model::new().input("x", &[4, 9]).output("y", &[4, 9]).weight("four", &[], vec![4.5]).node("Mul", &["x", "four"], "v", &[]);
    let graph = check("truncated", model.node("Cast", &["v"], "i", &to(onnx::I32)).node("Cast", &["i"], "y", &to(1)));
    assert_eq!(kinds(&graph), ["elementwise f32(i32(mul(x0, 4.5)))"], "{graph}");
    let model = Model::new().input_of(onnx::I64, "x", &[3, 4]).input_of(onnx::I64, "z", &[3, 1]).ints("two", &[2]).ints("axes", &[1]);
    let model = model.output_of(onnx::I64, "y", &[3, 1]).output_of(onnx::I64, "q", &[3, 4]).output_of(onnx::I64, "m", &[3, 4]);
    let model = model.node("Mul", &["x", "two"], "d", &[]).node("Add", &["d", "z"], "s", &[]).node("Div", &["s", "two"], "q", &[]);
    check("integers", model.node("ReduceSum", &["s", "axes"], "y", &[]).node("Mod", &["s", "two"], "m", &[]));
    let model = Model::new().input_of(onnx::BOOL, "a", &[5]).input_of(onnx::BOOL, "b", &[5]).input("x", &[5]).output("y", &[5]);
    let model = model.node("Xor", &["a", "b"], "c", &[]).node("And", &["a", "c"], "d", &[]).node("Not", &["d"], "e", &[]);
    let graph = check("logic", model.node("Where", &["e", "a_number", "x"], "y", &[]).weight("a_number", &[1], vec![2.0]));
    assert_eq!(graph.operators.len(), 1, "{graph}");
    let model = Model::new().input_of(onnx::F16, "x", &[2, 6]).output_of(onnx::F16, "y", &[6, 2]).output("z", &[2, 6]);
    let model = model.node("Abs", &["x"], "a", &[]).node("Sqrt", &["a"], "s", &[]).node("Cast", &["s"], "z", &to(1));
    let positions = Model::new().input("x", &[3, 7]).output_of(onnx::I64, "y", &[3, 1]).output_of(onnx::I64, "z", &[7]);
    let positions = positions.node("ArgMax", &["x"], "y", &[Attr::Int("axis", 1)]);
    check(
        "positions",
        positions.node("ArgMin", &["x"], "z", &[Attr::Int("axis", 0), Attr::Int("keepdims", 0), Attr::Int("select_last_index", 1)]),
    );
    check("half", model.node("Transpose", &["s"], "y", &[Attr::Ints("perm", &[1, 0])]));
}

/// Each operator computes in f32 and rounds once; no value is in memory as f32.
#[test]
fn bfloat16_stays_bfloat16_in_memory() {
    let model =
        Model::new().input_of(onnx::BF16, "x", &[2, 4, 8]).output_of(onnx::BF16, "y", &[8, 6]).output_of(onnx::BF16, "s", &[2, 4, 6]);
    let model = model.random_bf16("w", &[8, 6]).random_bf16("b", &[6]).ints("flat", &[8, 6]);
    let model = model.node("MatMul", &["x", "w"], "p", &[]).node("Add", &["p", "b"], "a", &[]).node("Relu", &["a"], "r", &[]);
    let model = model.node("Softmax", &["r"], "s", &[Attr::Int("axis", -1)]).node("Reshape", &["s", "flat"], "y", &[]);
    let graph = check("bfloat16", model);
    let sum = "bf16(relu(f32(bf16(add(f32(x0), f32(x1))))))";
    assert_eq!(kinds(&graph), ["matmul 1: 8x8x6", &format!("elementwise {sum}"), "softmax axis 2"], "{graph}");
    let wide: Vec<_> = graph.tensors.iter().filter(|tensor| tensor.dtype != hiosc::graph::DType::BF16).map(|tensor| &tensor.name).collect();
    assert!(wide.is_empty(), "{wide:?} are not bf16: {graph}");
    let names: Vec<&str> = graph.operators.iter().map(|operator| operator.name.as_str()).collect();
    assert_eq!(names, ["/p/MatMul", "/a/Add", "/s/Softmax"]);
    // a conversion that the model itself asks for stays
    let model = Model::new().input("x", &[4, 8]).output("y", &[4, 8]).random_bf16("w", &[8]);
    let model = model.node("Cast", &["x"], "n", &[Attr::Int("to", onnx::BF16.into())]).node("Mul", &["n", "w"], "p", &[]);
    let graph = check("rounded", model.node("Cast", &["p"], "y", &[Attr::Int("to", 1)]));
    assert_eq!(kinds(&graph), ["elementwise f32(bf16(mul(f32(bf16(x1)), f32(x0))))"], "{graph}");
}

#[test]
fn nothing_is_computed_on_nothing() {
    let model =
        Model::new().input("x", &[2, 0, 3]).input("z", &[2, 4, 3]).output("y", &[2, 4, 3]).output("s", &[2, 1, 3]).output("e", &[2, 0, 3]);
    let model = model.ints("axes", &[1]).output("p", &[2, 4, 4]).output("l", &[2, 1, 3]).input("q", &[2, 0, 4]).input("w", &[2, 4, 0]);
    let model = model.node("Concat", &["x", "z", "x"], "y", &[Attr::Int("axis", 1)]).node("ReduceSum", &["x", "axes"], "s", &[]);
    let model = model.node("Relu", &["x"], "e", &[]).node("MatMul", &["w", "q"], "p", &[]).node(
        "ReduceProd",
        &["e"],
        "l",
        &[Attr::Ints("axes", &[1])],
    );
    let graph = check_at("nothing", model, &[("x", &[2, 0, 3]), ("q", &[2, 0, 4]), ("w", &[2, 4, 0])]);
    assert_eq!(kinds(&graph), ["elementwise x0", "elementwise x0", "elementwise x0"], "{graph}");
}

#[test]
fn outputs_may_be_inputs_constants_or_the_same() {
    let model = Model::new().input("x", &[2, 3]).output("a", &[2, 3]).output("b", &[2, 3]).output("c", &[3]).output("d", &[2, 3]);
    let model = model.weight("c", &[3], vec![1.0, 2.0, 3.0]).node("Identity", &["x"], "a", &[]).node("Relu", &["x"], "b", &[]);
    let graph = check("passed_on", model.node("Identity", &["b"], "d", &[]));
    assert_eq!(graph.operators.len(), 2, "{graph}");
}

#[test]
fn an_unknown_rule_is_a_usage_error() {
    let error = fuse(Graph::default(), &["fold-everything".into()]).expect_err("no such rule").to_string();
    assert!(error.contains("fold-everything") && error.contains("free-views"), "{error}");
}
