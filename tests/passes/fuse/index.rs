//! Operators that read or write by index, order elements, or run along an axis: they compute what
//! tract computes.
//!
//! Integer inputs are between -3 and 3: valid indices of axes of four or more.

use super::{check, kinds};
use crate::support::onnx::{Attr, Model};

const I64: i32 = 7;
const I32: i32 = 6;

#[test]
fn reading_by_computed_index() {
    let model = Model::new().input("x", &[2, 5, 3]).input_of(I64, "i", &[2, 2]).output("y", &[2, 2, 2, 3]);
    assert_eq!(kinds(&check("gather", model.node("Gather", &["x", "i"], "y", &[Attr::Int("axis", 1)]))), ["gather axis 1"]);
    let model = Model::new().input("x", &[2, 5]).input_of(I32, "i", &[2, 3]).output("y", &[2, 3]);
    let graph = check("gather_elements", model.node("GatherElements", &["x", "i"], "y", &[Attr::Int("axis", -1)]));
    assert_eq!(kinds(&graph).last().map(String::as_str), Some("gather_elements axis 1"));
}

#[test]
fn one_constant_index_is_a_slice() {
    let model = Model::new().input("x", &[2, 5, 3]).output("y", &[2, 1, 3]).ints("i", &[-2]);
    assert_eq!(kinds(&check("slice", model.node("Gather", &["x", "i"], "y", &[Attr::Int("axis", 1)]))), ["slice from [0, 3, 0]"]);
}

#[test]
fn writing_by_computed_index() {
    for reduction in ["none", "add", "mul", "min", "max"] {
        let model = Model::new().input("x", &[3, 5]).input_of(I64, "i", &[2, 4]).input("u", &[2, 4]).output("y", &[3, 5]);
        let attrs = [Attr::Int("axis", 1), Attr::Text("reduction", reduction)];
        check(reduction, model.node("ScatterElements", &["x", "i", "u"], "y", &attrs));
        let model = Model::new().input("x", &[3, 5, 2]).ints("i", &[2, 1]).input("u", &[2]).output("y", &[3, 5, 2]);
        check(reduction, model.node("ScatterND", &["x", "i", "u"], "y", &[Attr::Text("reduction", reduction)]));
    }
}

#[test]
fn one_hot_is_a_comparison() {
    let model = Model::new().input_of(I64, "i", &[6]).ints("depth", &[5]).weight("values", &[2], vec![-1.0, 2.0]).output("y", &[6, 5]);
    let graph = check("one_hot", model.node("OneHot", &["i", "depth", "values"], "y", &[]));
    assert!(graph.operators.len() == 1 && kinds(&graph)[0].starts_with("elementwise"), "{graph}");
}

#[test]
fn order_and_extremes() {
    let model = Model::new().input("x", &[3, 7, 2]).ints("k", &[4]).output("v", &[3, 4, 2]).output_of(I64, "i", &[3, 4, 2]);
    let graph = check("top_k", model.node("TopK", &["x", "k"], "v,i", &[Attr::Int("axis", 1), Attr::Int("largest", 0)]));
    assert_eq!(kinds(&graph), ["top_k smallest axis 1", "top_k smallest axis 1 positions"]);
    for op in ["ArgMax", "ArgMin"] {
        let model = Model::new().input("x", &[3, 7]).output_of(I64, "y", &[3, 1]);
        check(op, model.node(op, &["x"], "y", &[Attr::Int("axis", 1)]));
    }
    let model = Model::new().input("x", &[3, 7]).output("y", &[3, 7]);
    check("hardmax", model.node("Hardmax", &["x"], "y", &[Attr::Int("axis", 0)]));
}

#[test]
fn triangles_and_transforms() {
    let model = Model::new().input("x", &[2, 4, 5]).output("y", &[2, 4, 5]);
    check("triu", model.node("Trilu", &["x"], "y", &[Attr::Int("upper", 1)]));
    for (axis, inverse) in [(1, 0), (1, 1), (2, 0)] {
        let model = Model::new().input("x", &[2, 6, 5, 2]).output("y", &[2, 6, 5, 2]);
        check("dft", model.node("DFT", &["x"], "y", &[Attr::Int("axis", axis), Attr::Int("inverse", inverse)]));
    }
}
