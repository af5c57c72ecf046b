//! Convolutions of other ranks, normalisations, attention, sampling and products of any axes.

use hiosc::fuse::fuse;
use hiosc::graph::Graph;

use super::{check, kinds};
use crate::support::onnx::{self, Attr, Model};

#[test]
fn transposed_convolution_with_batch_norm_and_relu() {
    for (name, attrs, out) in [
        ("plain", vec![Attr::Ints("strides", &[2, 2])], [1, 6, 10, 12]),
        (
            "padded",
            vec![Attr::Ints("strides", &[2, 3]), Attr::Ints("pads", &[1, 0, 0, 1]), Attr::Ints("output_padding", &[1, 1])],
            [1, 6, 10, 17],
        ),
        ("dilated", vec![Attr::Ints("dilations", &[2, 2])], [1, 6, 7, 8]),
    ] {
        let model = Model::new().input("x", &[1, 4, 5, 6]).output("y", &out).random_weight("w", &[4, 6, 2, 2]);
        let model = model.random_weight("scale", &[6]).random_weight("shift", &[6]).random_weight("mean", &[6]);
        let model = model.weight("var", &[6], vec![0.5, 1.0, 2.0, 0.1, 1.5, 3.0]);
        let model = model.node("ConvTranspose", &["x", "w"], "c", &attrs);
        let model = model.node("BatchNormalization", &["c", "scale", "shift", "mean", "var"], "n", &[]).node("Relu", &["n"], "y", &[]);
        let graph = check(&format!("deconv_{name}"), model);
        assert!(kinds(&graph)[0].starts_with("conv_transpose 2x2") && kinds(&graph)[0].ends_with("bias epilogue relu(x0)"), "{graph}");
        assert_eq!(graph.operators.len(), 1, "{graph}");
    }
    let model = Model::new().input("x", &[2, 4, 7]).output("y", &[2, 4, 13]).random_weight("w", &[4, 2, 3]).random_weight("b", &[4]);
    let attrs = [Attr::Ints("strides", &[2]), Attr::Ints("pads", &[1, 1]), Attr::Int("group", 2)];
    check("deconv_groups", model.node("ConvTranspose", &["x", "w", "b"], "y", &attrs));
}

#[test]
fn windows_over_three_axes() {
    let model = Model::new()
        .input("x", &[1, 4, 6, 7, 5])
        .output("y", &[1, 6, 2, 3, 2])
        .output("a", &[1, 6, 3, 4, 3])
        .random_weight("w", &[6, 2, 3, 3, 3]);
    let attrs = [Attr::Ints("pads", &[1; 6]), Attr::Ints("strides", &[2; 3]), Attr::Int("group", 2)];
    let model = model.node("Conv", &["x", "w"], "c", &attrs).node("Relu", &["c"], "r", &[]);
    let model = model.node("MaxPool", &["r"], "y", &[Attr::Ints("kernel_shape", &[2, 2, 2])]);
    let average = [Attr::Ints("kernel_shape", &[3; 3]), Attr::Ints("pads", &[1; 6]), Attr::Int("count_include_pad", 1)];
    let graph = check("three_axes", model.node("AveragePool", &["r"], "a", &average));
    let kinds = kinds(&graph);
    assert_eq!(kinds[0], "conv_nd 3x3x3 stride 2x2x2 pads 1x1x1:1x1x1 groups 2 epilogue relu(x0)");
    assert!(kinds[1..].contains(&"pool_nd max 2x2x2".to_string()), "{kinds:?}");
}

/// The only operator's kind.
fn alone(graph: &Graph) -> String {
    assert_eq!(graph.operators.len(), 1, "{graph}");
    kinds(graph).remove(0)
}

#[test]
fn normalisations_are_one_operator() {
    let model = Model::new().input("x", &[2, 7, 12]).output("y", &[2, 7, 12]).random_weight("s", &[12]).random_weight("b", &[12]);
    let graph = check("layer_norm", model.node("LayerNormalization", &["x", "s", "b"], "y", &[Attr::Int("axis", -1)]));
    let kind = alone(&graph);
    assert!(kind.starts_with("norm mean and variance axes [2]") && kind.ends_with("epilogue add(mul(x0, x1), x2)"), "{kind}");
    assert_eq!(alone(&fuse_without(&graph, "epilogue")), kind);

    let model =
        Model::new().input("x", &[2, 3, 4, 5]).output("y", &[2, 3, 4, 5]).random_weight("s", &[3, 4, 5]).random_weight("b", &[3, 4, 5]);
    let graph = check("layer_norm_axes", model.node("LayerNormalization", &["x", "s", "b"], "y", &[Attr::Int("axis", 1)]));
    assert!(alone(&graph).starts_with("norm mean and variance axes [1, 2, 3]"), "{graph}");

    let model = Model::new().input("x", &[2, 6, 4, 5]).output("y", &[2, 6, 4, 5]).random_weight("s", &[6]).random_weight("b", &[6]);
    let graph = check("instance_norm", model.node("InstanceNormalization", &["x", "s", "b"], "y", &[]));
    assert!(alone(&graph).starts_with("norm mean and variance axes [2, 3]"), "{graph}");

    let model =
        Model::new().input("x", &[2, 6, 4, 5]).output("y", &[2, 6, 4, 5]).random_weight("s", &[6]).random_weight("b", &[6]).opset(21);
    let model = model.node("GroupNormalization", &["x", "s", "b"], "n", &[Attr::Int("num_groups", 2)]).node("Sigmoid", &["n"], "g", &[]);
    let graph = check("group_norm", model.node("Mul", &["n", "g"], "y", &[]));
    assert!(kinds(&graph)[0].starts_with("norm mean and variance axes [2, 3, 4]"), "{graph}");
}

/// `graph`, fused again without `rule`.
fn fuse_without(graph: &Graph, rule: &str) -> Graph {
    fuse(graph.clone(), &[rule.to_string()]).expect("fusing")
}

#[test]
fn spelt_out_normalisations_are_recognised() {
    // as older exporters write it: mean, difference, power, mean, root, quotient
    let axes = [Attr::Ints("axes", &[-1])];
    let model = Model::new().input("x", &[3, 8]).output("y", &[3, 8]).random_weight("s", &[8]);
    let model = model.weight("two", &[], vec![2.0]).weight("eps", &[], vec![1e-6]);
    let model = model.node("ReduceMean", &["x"], "m", &axes).node("Sub", &["x", "m"], "d", &[]).node("Pow", &["d", "two"], "q", &[]);
    let model = model.node("ReduceMean", &["q"], "v", &axes).node("Add", &["v", "eps"], "e", &[]).node("Sqrt", &["e"], "r", &[]);
    let graph = check("spelt_out", model.node("Div", &["d", "r"], "n", &[]).node("Mul", &["n", "s"], "y", &[]));
    assert!(alone(&graph).starts_with("norm mean and variance axes [1] epsilon 1e-6"), "{graph}");

    // along two axes, as a product by a reciprocal, of squares that are products
    let axes = [Attr::Ints("axes", &[1, 2])];
    let model = Model::new().input("x", &[3, 8, 2]).output("y", &[3, 8, 2]).weight("eps", &[], vec![1e-3]);
    let model = model.node("Mul", &["x", "x"], "q", &[]).node("ReduceMean", &["q"], "v", &axes).node("Add", &["v", "eps"], "e", &[]);
    let model = model.node("Sqrt", &["e"], "r", &[]).node("Reciprocal", &["r"], "f", &[]);
    let graph = check("spelt_out_rms", model.node("Mul", &["f", "x"], "y", &[]));
    assert!(alone(&graph).starts_with("norm root mean square axes [1, 2] epsilon 1e-3"), "{graph}");

    // the mean has another reader: it stays
    let axes = [Attr::Ints("axes", &[-1])];
    let model = Model::new().input("x", &[3, 8]).output("y", &[3, 8]).output("m", &[3, 1]).weight("eps", &[], vec![1e-6]);
    let model = model.node("ReduceMean", &["x"], "m", &axes).node("Sub", &["x", "m"], "d", &[]).node("Mul", &["d", "d"], "q", &[]);
    let model = model.node("ReduceMean", &["q"], "v", &axes).node("Add", &["v", "eps"], "e", &[]).node("Sqrt", &["e"], "r", &[]);
    let graph = check("mean_read_twice", model.node("Div", &["d", "r"], "y", &[]));
    assert!(kinds(&graph).iter().any(|kind| kind.starts_with("norm root mean square")), "{graph}");
}

#[test]
fn softmaxes_along_any_axes() {
    let softmax = |name: &str, op: &str, axis: i64, opset: i64| {
        let model = Model::new().input("x", &[2, 3, 4, 5]).output("y", &[2, 3, 4, 5]).opset(opset);
        check(name, model.node(op, &["x"], "y", &[Attr::Int("axis", axis)]))
    };
    assert_eq!(alone(&softmax("softmax_three_axes", "Softmax", 1, 11)), "softmax axis 1");
    assert_eq!(alone(&softmax("softmax_all_axes", "Softmax", 0, 11)), "softmax axis 1");
    assert_eq!(alone(&softmax("log_softmax", "LogSoftmax", 2, 17)), "log_softmax axis 2");
}

#[test]
fn local_response_normalisation_and_sampling() {
    let model = Model::new().input("x", &[2, 7, 3, 4]).output("y", &[2, 7, 3, 4]);
    let attrs = [Attr::Int("size", 4), Attr::Float("alpha", 0.01), Attr::Float("beta", 0.6), Attr::Float("bias", 2.0)];
    assert_eq!(alone(&check("lrn", model.node("LRN", &["x"], "y", &attrs))), "lrn size 4 alpha 1e-2 beta 0.6 bias 2.0");
    for (mode, padding, corners) in
        [("bilinear", "zeros", 0), ("nearest", "border", 1), ("bicubic", "reflection", 0), ("bicubic", "zeros", 1)]
    {
        let model = Model::new().input("x", &[2, 3, 5, 6]).input("g", &[2, 4, 3, 2]).output("y", &[2, 3, 4, 3]);
        // beyond the edges, too
        let model = model.weight("wide", &[], vec![1.7]).node("Mul", &["g", "wide"], "positions", &[]);
        let attrs = [Attr::Text("mode", mode), Attr::Text("padding_mode", padding), Attr::Int("align_corners", corners)];
        check(&format!("grid_{mode}_{padding}"), model.node("GridSample", &["x", "positions"], "y", &attrs));
    }
}

#[test]
fn einsums_of_any_axes() {
    let einsum = |name: &str, equation: &str, shapes: &[&[i64]], out: &[i64]| {
        let mut model = Model::new().output("y", out);
        let names: Vec<String> = (0..shapes.len()).map(|i| format!("x{i}")).collect();
        for (name, shape) in names.iter().zip(shapes) {
            model = model.input(name, shape);
        }
        let inputs: Vec<&str> = names.iter().map(String::as_str).collect();
        kinds(&check(name, model.node("Einsum", &inputs, "y", &[Attr::Text("equation", equation)])))
    };
    assert_eq!(einsum("product", "bij,bjk->bik", &[&[2, 3, 4], &[2, 4, 5]], &[2, 3, 5]), ["matmul 2: 3x4x5"]);
    assert_eq!(einsum("order", "abk,kn->ban", &[&[2, 3, 4], &[4, 5]], &[3, 2, 5]).len(), 2);
    assert_eq!(einsum("transpose", "ij->ji", &[&[3, 4]], &[4, 3]), ["transpose [1, 0]"]);
    assert_eq!(einsum("sum", "ij->i", &[&[3, 4]], &[3]), ["reduce sum axes [1]"]);
    assert_eq!(einsum("diagonal", "bii->bi", &[&[2, 4, 4]], &[2, 4]), ["slice from [0, 0] step [1, 5]"]);
    assert_eq!(einsum("trace", "ijij->j", &[&[3, 2, 3, 2]], &[2]).len(), 5);
    assert_eq!(einsum("outer", "i,j->ij", &[&[3], &[4]], &[3, 4]), ["elementwise mul(x0, x1)"]);
    assert_eq!(einsum("inner", "i,i->", &[&[5], &[5]], &[]), ["matmul 1: 1x5x1"]);
    assert_eq!(einsum("hadamard", "ij,ji->ij", &[&[3, 4], &[4, 3]], &[3, 4]).len(), 2);
    assert_eq!(einsum("three", "ab,bc,cd->ad", &[&[2, 3], &[3, 4], &[4, 5]], &[2, 5]), ["matmul 1: 2x3x4", "matmul 1: 2x4x5"]);
    einsum("shared", "ab,ac,ad->bcd", &[&[2, 3], &[2, 4], &[2, 5]], &[3, 4, 5]);
    einsum("two_sums", "abcd,abce->de", &[&[2, 3, 4, 5], &[2, 3, 4, 6]], &[5, 6]);
    einsum("crossed", "abcd,cade->eb", &[&[2, 3, 4, 5], &[4, 2, 5, 6]], &[6, 3]);
    einsum("private", "abc,cd->ad", &[&[2, 3, 4], &[4, 5]], &[2, 5]);
    einsum("heads", "bhmk,bhnk->bhmn", &[&[2, 3, 4, 5], &[2, 3, 6, 5]], &[2, 3, 4, 6]);
    einsum("ellipsis", "...ij,...jk->...ik", &[&[2, 3, 4], &[2, 4, 5]], &[2, 3, 5]);
}

#[test]
fn attention_is_one_operator() {
    let attention = |name: &str, q: &[i64], kv: &[i64], out: &[i64], mask: Option<&[i64]>, attrs: &[Attr]| {
        let mut model = Model::new().input("q", q).input("k", kv).input("v", kv).output("y", out).opset(23);
        let mut inputs = vec!["q", "k", "v"];
        if let Some(shape) = mask {
            model = model.input("mask", shape);
            inputs.push("mask");
        }
        kinds(&check(name, model.node("Attention", &inputs, "y", attrs)))
    };
    let heads = attention("attention", &[2, 3, 4, 8], &[2, 3, 6, 8], &[2, 3, 4, 8], None, &[]);
    assert!(heads.len() == 1 && heads[0].starts_with("attention 2 heads 3: 4x8 by 6x8"), "{heads:?}");
    attention("attention_masked", &[2, 3, 4, 8], &[2, 3, 6, 8], &[2, 3, 4, 8], Some(&[4, 6]), &[Attr::Float("scale", 0.3)]);
    let shared = attention("attention_shared", &[1, 6, 4, 8], &[1, 2, 5, 8], &[1, 6, 4, 8], Some(&[1, 6, 4, 5]), &[]);
    assert!(shared.iter().any(|kind| kind.contains("heads 6") && kind.contains("sharing 2") && kind.contains("masked")), "{shared:?}");
    attention("attention_causal", &[1, 2, 5, 8], &[1, 2, 5, 8], &[1, 2, 5, 8], None, &[Attr::Int("is_causal", 1)]);
    let attrs = [Attr::Int("q_num_heads", 3), Attr::Int("kv_num_heads", 3)];
    attention("attention_packed", &[2, 4, 24], &[2, 6, 24], &[2, 4, 24], None, &attrs);
    // too long for a block's shared memory: split into parts
    let long = attention("attention_long", &[1, 4, 3, 300], &[1, 2, 5, 300], &[1, 4, 3, 300], Some(&[3, 5]), &[]);
    assert!(long.iter().filter(|kind| kind.starts_with("matmul")).count() == 2 && long.contains(&"softmax axis 3".to_string()), "{long:?}");
}

#[test]
fn positions_of_maxima_and_triangles() {
    for (storage_order, name) in [(0, "rows"), (1, "columns")] {
        let model = Model::new().input("x", &[2, 3, 6, 5]).output("y", &[2, 3, 3, 3]).output_of(onnx::I64, "i", &[2, 3, 3, 3]);
        let attrs = [
            Attr::Ints("kernel_shape", &[3, 3]),
            Attr::Ints("strides", &[2, 2]),
            Attr::Ints("pads", &[1, 1, 0, 1]),
            Attr::Int("storage_order", storage_order),
        ];
        let graph = check(&format!("argmax_{name}"), model.node("MaxPool", &["x"], "y,i", &attrs));
        assert_eq!(graph.operators.len(), 2, "{graph}");
    }
    let model = Model::new().input("x", &[2, 4, 5]).output("y", &[2, 4, 5]).int("k", -1);
    let graph = check("triangle", model.node("Trilu", &["x", "k"], "y", &[Attr::Int("upper", 0)]));
    assert_eq!(alone(&graph), "trilu lower diagonal -1");
}

#[test]
fn gelu_by_tanh() {
    let model = Model::new().input("x", &[3, 7]).output("y", &[3, 7]).opset(20);
    let graph = check("gelu_tanh", model.node("Gelu", &["x"], "y", &[Attr::Text("approximate", "tanh")]));
    assert_eq!(graph.operators.len(), 1, "{graph}");
}

#[test]
fn quantised_operators() {
    let quantised = |model: Model, name: &str, scale: f32, zero: u8| {
        let (s, z) = (format!("{name}.scale"), format!("{name}.zero"));
        model.weight(&s, &[], vec![scale]).byte(&z, zero)
    };
    let model = Model::new().input("x", &[1, 2, 5, 6]).output_of(onnx::U8, "y", &[1, 3, 5, 6]).random_weight("w", &[3, 2, 3, 3]);
    let model = quantised(quantised(quantised(model, "x", 0.02, 120), "w", 0.01, 131), "y", 0.05, 100);
    let model =
        model.node("QuantizeLinear", &["x", "x.scale", "x.zero"], "qx", &[]).node("QuantizeLinear", &["w", "w.scale", "w.zero"], "qw", &[]);
    let inputs = ["qx", "x.scale", "x.zero", "qw", "w.scale", "w.zero", "y.scale", "y.zero"];
    let graph = check("qlinear_conv", model.node("QLinearConv", &inputs, "y", &[Attr::Ints("pads", &[1, 1, 1, 1])]));
    assert!(kinds(&graph).iter().any(|kind| kind.starts_with("conv_nd 3x3")), "{graph}");

    let model = Model::new().input("a", &[2, 3, 4]).input("b", &[2, 4, 5]).output("y", &[2, 3, 5]);
    let model = quantised(quantised(quantised(model, "a", 0.02, 120), "b", 0.01, 131), "y", 0.03, 100);
    let model =
        model.node("QuantizeLinear", &["a", "a.scale", "a.zero"], "qa", &[]).node("QuantizeLinear", &["b", "b.scale", "b.zero"], "qb", &[]);
    let inputs = ["qa", "a.scale", "a.zero", "qb", "b.scale", "b.zero", "y.scale", "y.zero"];
    let model = model.node("QLinearMatMul", &inputs, "qy", &[]).node("DequantizeLinear", &["qy", "y.scale", "y.zero"], "y", &[]);
    let graph = check("qlinear_matmul", model);
    assert!(kinds(&graph).iter().any(|kind| kind.starts_with("matmul 2: 3x4x5")), "{graph}");

    let model = Model::new().input("x", &[3, 4]).output_of(onnx::U8, "y", &[3, 4]).output("s", &[]).output_of(onnx::U8, "z", &[]);
    check("dynamic_quantisation", model.node("DynamicQuantizeLinear", &["x"], "y,s,z", &[]));

    let model = Model::new().input_of(onnx::U8, "a", &[3, 4]).input_of(onnx::U8, "b", &[4, 5]).output_of(onnx::I32, "y", &[3, 5]);
    check("matmul_integer", model.node("MatMulInteger", &["a", "b"], "y", &[]));
    let model = Model::new().input_of(onnx::U8, "x", &[1, 2, 5]).input_of(onnx::U8, "w", &[3, 2, 2]).output_of(onnx::I32, "y", &[1, 3, 4]);
    check("conv_integer", model.node("ConvInteger", &["x", "w"], "y", &[]));
}
