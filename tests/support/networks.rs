//! Small ONNX models with the shapes of real architectures, for tests that need no particular one.

use super::onnx::{Attr, Model};

/// A convolution with `same` padding, a bias, and a relu; gives the name of its result.
fn conv(model: Model, name: &str, from: &str, channels: [i64; 2], kernel: i64) -> Model {
    let [weight, bias, sum] = ["weight", "bias", "sum"].map(|part| format!("{name}.{part}"));
    let pads = [kernel / 2; 4];
    model
        .random_weight(&weight, &[channels[1], channels[0], kernel, kernel])
        .random_weight(&bias, &[channels[1]])
        .node("Conv", &[from, &weight, &bias], &sum, &[Attr::Ints("kernel_shape", &[kernel; 2]), Attr::Ints("pads", &pads)])
        .node("Relu", &[&sum], name, &[])
}

/// ```text
/// image ─ stem ─ squeeze ┬─ expand1 ─┬─ fire ─ mean ─ flat ─ logits ─ label
///                        └─ expand3 ─┘
/// ```
/// A fire module of SqueezeNet, between a stem and a classifier.
pub fn fire() -> Model {
    let model = Model::new().input("image", &[1, 3, 32, 32]).output("label", &[1, 10]);
    let model = conv(model, "stem", "image", [3, 16], 3);
    let model = conv(model, "squeeze", "stem", [16, 8], 1);
    let model = conv(model, "expand1", "squeeze", [8, 16], 1);
    let model = conv(model, "expand3", "squeeze", [8, 16], 3);
    model
        .node("Concat", &["expand1", "expand3"], "fire", &[Attr::Int("axis", 1)])
        .node("GlobalAveragePool", &["fire"], "mean", &[])
        .node("Flatten", &["mean"], "flat", &[])
        .random_weight("classes", &[10, 32])
        .random_weight("offsets", &[10])
        .node("Gemm", &["flat", "classes", "offsets"], "logits", &[Attr::Int("transB", 1)])
        .node("Softmax", &["logits"], "label", &[Attr::Int("axis", 1)])
}

/// ```text
/// x ─ head ┬─ left ──────── left2 ┬─ both ─ out
///          ├─ right ─ right2 ─────┤   └─ small
///          └─ pool ─ reduced ─────┘
/// ```
/// A block of Inception, wide enough that two GPUs are faster than one, with two outputs.
pub fn inception() -> Model {
    let model = Model::new().input("x", &[1, 64, 56, 56]).output("out", &[1, 192, 56, 56]).output("small", &[1, 192, 28, 28]);
    let model = conv(model, "head", "x", [64, 64], 1);
    let model = conv(model, "left", "head", [64, 96], 3);
    let model = conv(model, "left2", "left", [96, 64], 3);
    let model = conv(model, "right", "head", [64, 96], 5);
    let model = conv(model, "right2", "right", [96, 64], 3);
    let around = [Attr::Ints("kernel_shape", &[3, 3]), Attr::Ints("pads", &[1, 1, 1, 1])];
    let model = model.node("MaxPool", &["head"], "pool", &around);
    conv(model, "reduced", "pool", [64, 64], 1)
        .node("Concat", &["left2", "right2", "reduced"], "both", &[Attr::Int("axis", 1)])
        .node("Sigmoid", &["both"], "out", &[])
        .node("MaxPool", &["both"], "small", &[Attr::Ints("kernel_shape", &[2, 2]), Attr::Ints("strides", &[2, 2])])
}

/// ```text
/// a ─ one ┬─ two ─ norm ─ sum ─ y
///         └────────────────┘
/// b ───────────────────── ─┘
/// ```
/// A residual block with a BatchNorm, and a second input that joins late.
pub fn residual() -> Model {
    let model = Model::new().input("a", &[1, 16, 28, 28]).input("b", &[1, 16, 28, 28]).output("y", &[1, 16, 28, 28]);
    let model = conv(model, "one", "a", [16, 16], 3);
    model
        .random_weight("two.weight", &[16, 16, 3, 3])
        .node("Conv", &["one", "two.weight"], "two", &[Attr::Ints("kernel_shape", &[3, 3]), Attr::Ints("pads", &[1, 1, 1, 1])])
        .random_weight("norm.scale", &[16])
        .random_weight("norm.shift", &[16])
        .random_weight("norm.mean", &[16])
        .weight("norm.variance", &[16], vec![0.25; 16])
        .node("BatchNormalization", &["two", "norm.scale", "norm.shift", "norm.mean", "norm.variance"], "norm", &[])
        .node("Add", &["norm", "one"], "sum", &[])
        .node("Add", &["sum", "b"], "joined", &[])
        .node("Relu", &["joined"], "y", &[])
}
