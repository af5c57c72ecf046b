//! Import and fuse: the lowered graph computes what tract computes, and so does the fused one, for every rule alone and all together.

mod common;

use common::interpret::interpret;
use common::onnx::{Attr, Model};
use common::{random, relative_error};
use hiosc::fuse::{RULES, fuse};
use hiosc::graph::{Graph, OpKind};
use hiosc::import::{self, import};

/// Imports `model`, and compares tract, the lowered graph, and the fused graph with each rule left out. Gives the fully fused graph.
fn check(name: &str, model: Model) -> Graph {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = model.save(folder.path(), name);
    let model = import(&path, &import::Options::default()).unwrap_or_else(|e| panic!("{name}: {e}"));
    let inputs: Vec<Vec<f32>> =
        model.graph.inputs.iter().enumerate().map(|(i, &t)| random(i as u64, model.graph.tensor(t).elements() as usize)).collect();
    let expected = model.reference(&inputs).expect("a reference");
    let agrees = |graph: &Graph, what: &str| {
        for (found, expected) in interpret(graph, &inputs).iter().zip(&expected) {
            let error = relative_error(found, expected);
            assert!(error < 1e-5, "{name}, {what}: {error}\n{graph}");
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

#[test]
fn elementwise_chains_with_broadcasts_become_one_operator() {
    let model = Model::new().input("x", &[1, 4, 5, 5]).input("g", &[1, 4, 1, 1]).output("y", &[1, 4, 5, 5]);
    let model = model.node("Sigmoid", &["g"], "s", &[]).node("Mul", &["x", "s"], "m", &[]);
    let model = model.weight("half", &[1], vec![0.5]).node("Sub", &["half", "m"], "d", &[]).node("Exp", &["d"], "e", &[]);
    let model = model.node("Mul", &["e", "e"], "q", &[]).node("Max", &["q", "x"], "y", &[]);
    let graph = check("chain", model);
    // the sigmoid is broadcast: computing it again for every element would be a loss, so it stays alone
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

#[test]
fn an_unknown_rule_is_a_usage_error() {
    let error = fuse(Graph::default(), &["fold-everything".into()]).expect_err("no such rule").to_string();
    assert!(error.contains("fold-everything") && error.contains("free-views"), "{error}");
}
