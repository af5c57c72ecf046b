//! Every way in which a model can be wrong: one clear line, exit code 1, no partial output, never a
//! panic. The wording is pinned here, so that a change is noticed.

use crate::support::cli::Bench;
use crate::support::networks;
use crate::support::onnx::Model;
use prost::Message;
use tract_onnx::pb;

const COMPILE: [&str; 3] = ["model.onnx", "-o", "out"];

/// hiosc refuses these bytes as a model, with this message.
fn refuses(bytes: impl AsRef<[u8]>, message: &str) {
    let bench = Bench::new();
    bench.write("model.onnx", bytes);
    bench.refused(&COMPILE, 1, message);
}

#[test]
fn the_file_cannot_be_read() {
    let bench = Bench::new();
    bench.refused(&COMPILE, 1, "model.onnx: No such file or directory (os error 2)");
    bench.refused(&[".", "-o", "out"], 1, ".: Is a directory (os error 21)");
}

#[test]
fn the_file_is_no_model() {
    refuses("", "model.onnx: not an ONNX model: the file is empty");
    let decode = "failed to decode Protobuf message";
    refuses("hello, this is a text", &format!("model.onnx: not an ONNX model (21 bytes): {decode}: unexpected end group tag"));
    refuses("{\"json\": true}", &format!("model.onnx: not an ONNX model (14 bytes): {decode}: buffer underflow"));
    refuses([0; 64], &format!("model.onnx: not an ONNX model (64 bytes): {decode}: invalid tag value: 0"));
    refuses(
        "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 4976\n",
        "model.onnx: this is a Git LFS pointer, not the model: fetch the file with `git lfs pull`",
    );
}

#[test]
fn the_file_is_truncated() {
    let bytes = networks::fire().bytes();
    let half = bytes.len() / 2;
    let graph = "failed to decode Protobuf message: ModelProto.graph: buffer underflow";
    for (length, why) in
        [(half, graph), (100, graph), (3, "failed to decode Protobuf message: ModelProto.graph: invalid varint"), (2, "it holds no graph")]
    {
        let bench = Bench::new();
        bench.write("model.onnx", &bytes[..length]);
        bench.refused(&COMPILE, 1, &format!("model.onnx: a truncated or damaged ONNX model ({length} bytes): {why}"));
    }
}

#[test]
fn a_graph_without_outputs() {
    let model = Model::new().input("x", &[1, 4]).node("Relu", &["x"], "y", &[]);
    refuses(model.bytes(), "model.onnx: the graph has no outputs: the file is truncated, or was exported wrongly");
}

#[test]
fn names_that_are_not_defined() {
    let model = Model::new().input("x", &[1, 4]).output("y", &[1, 4]).node("Add", &["x", "lost"], "y", &[]);
    refuses(model.bytes(), "model.onnx: node \"/y/Add\" (Add) reads \"lost\", which is not defined");
    let model = Model::new().input("x", &[1, 4]).output("lost", &[1, 4]).node("Relu", &["x"], "y", &[]);
    let twice = Model::new().input("x", &[2]).output("y", &[2]).node("Relu", &["x"], "y", &[]).node("Neg", &["x"], "y", &[]);
    refuses(twice.bytes(), "model.onnx: node \"/y/Neg\" (Neg) defines \"y\", which is already defined");
    refuses(model.bytes(), "model.onnx: the output \"lost\" is not defined: the file is truncated, or was exported wrongly");
}

#[test]
fn names_given_twice() {
    let model = || Model::new().input("x", &[2]).output("y", &[2]).node("Add", &["x", "w"], "y", &[]).random_weight("w", &[2]);
    let message = |what: &str| format!("model.onnx: two {what}: the file is damaged, or was exported wrongly");
    refuses(model().input("x", &[2]).bytes(), &message("inputs are called \"x\""));
    refuses(model().output("y", &[2]).bytes(), &message("outputs are called \"y\""));
    refuses(model().random_weight("w", &[2]).bytes(), &message("initialisers are called \"w\""));
}

#[test]
fn a_cycle() {
    let model = Model::new().input("x", &[1, 4]).output("y", &[1, 4]).node("Add", &["x", "b"], "a", &[]);
    let model = model.node("Relu", &["a"], "b", &[]).node("Relu", &["b"], "y", &[]);
    refuses(model.bytes(), "model.onnx: typing the model: Loop detected");
}

#[test]
fn unknown_operators_are_named_all_at_once() {
    let model = Model::new()
        .input("x", &[1, 4])
        .output("y", &[1, 4])
        .node("Frobnicate", &["x"], "a", &[])
        .node("Frobnicate", &["a"], "b", &[])
        .node("Zap", &["b"], "c", &[])
        .node("Relu", &["c"], "y", &[]);
    refuses(
        model.bytes(),
        "unsupported: operator Frobnicate is not known (2 nodes: \"/a/Frobnicate\", \"/b/Frobnicate\"); operator Zap is not known (node \"/c/Zap\")",
    );
}

#[test]
fn operators_of_other_domains_are_named_with_them() {
    let model = Model::new().input("x", &[1, 4]).output("y", &[1, 4]).node("Relu", &["x"], "y", &[]);
    let mut proto = pb::ModelProto::decode(model.bytes().as_slice()).expect("a model");
    proto.graph.as_mut().expect("a graph").node[0].domain = "com.example".into();
    refuses(proto.encode_to_vec(), "unsupported: operator com.example.Relu is not known (node \"/y/Relu\")");
}

/// Random numbers: tract supports them, hiosc does not.
#[test]
fn operators_that_only_tract_knows_are_named_all_at_once() {
    let model = Model::new()
        .input("x", &[1, 4])
        .output("y", &[1, 4])
        .output("z", &[1, 4])
        .node("RandomUniformLike", &["x"], "a", &[])
        .node("RandomNormalLike", &["x"], "b", &[])
        .node("Add", &["a", "b"], "y", &[])
        .node("Multinomial", &["x"], "z", &[]);
    let bench = Bench::new();
    model.save(bench.path(), "model");
    let said = bench.failure(&COMPILE, 1);
    let why = "random numbers: a plan gives the same outputs for the same inputs";
    assert!(said.starts_with("hiosc: unsupported: Multinomial (node \"/z/Multinomial\"): "), "{said}");
    for (operator, node) in [("RandomUniformLike", "a"), ("RandomNormalLike", "b")] {
        let line = format!("; {operator} (node \"/{node}/{operator}\"): {why}");
        assert!(said.contains(&line), "{said}");
    }
}

#[test]
fn dynamic_dimensions_name_the_flag() {
    let model = || {
        let model = Model::new().input("x", &[-1, 3, 8, 8]).input("y z", &[1, 3, -1, 8]).output("sum", &[-1, 3, 8, 8]);
        model.node("Add", &["x", "y z"], "sum", &[])
    };
    refuses(
        model().bytes(),
        "model.onnx: dynamic input shapes: \"x\" is Nx3x8x8, \"y z\" is 1x3xNx8; \
         give them, for example with --dim N=1",
    );
    let bench = Bench::new();
    model().save(bench.path(), "model");
    bench.done(&["model.onnx", "-o", "out", "--shapes", "x:1x3x8x8", "--shapes", "y z:1x3x8x8"]);
    let by_shapes = bench.done(&["model.onnx", "--emit", "plan", "--shapes", "x:8x3x8x8,y z:1x3x8x8"]);
    assert_eq!(bench.done(&["model.onnx", "--emit", "plan", "--dim", "N=8", "--shapes", "y z:1x3x8x8"]), by_shapes);
    bench.refused(&["model.onnx", "--emit", "plan", "--dim", "n=8"], 2, "unknown symbolic dimension `n` (did you mean `N`?); known: N");
    assert!(bench.usage(&["model.onnx", "--emit", "plan", "--dim", "N=0"], 2).contains("\"0\" is not a positive number"));
    networks::fire().save(bench.path(), "fixed");
    let message = "--dim names \"N\", but the model's inputs have no symbolic dimensions";
    bench.refused(&["fixed.onnx", "--emit", "plan", "--dim", "N=8"], 2, message);
}

#[test]
fn given_shapes_that_cannot_be() {
    let bench = Bench::new();
    networks::fire().save(bench.path(), "model");
    let with = |shape: &'static str| ["model.onnx", "-o", "out", "--shapes", shape];
    bench.refused(&with("imag:1x3x32x32"), 2, "--shapes names \"imag\", but the model's inputs are [\"image\"]");
    let said = bench.failure(&with("image:1x4x32x32"), 1);
    assert!(said.starts_with("hiosc: model.onnx: with the given shapes image:1x4x32x32: typing the model: "), "{said}");
    for shape in ["99999x3x9999x9999", "18446744073709551615x3x32x32"] {
        let message = format!("--shapes image:{shape}: 2^31 elements or more, which hiosc cannot index");
        bench.refused(&["model.onnx", "-o", "out", "--shapes", &format!("image:{shape}")], 2, &message);
    }
}

#[test]
fn an_input_too_large_to_index() {
    let model = Model::new().input("x", &[1 << 20, 1 << 20]).output("y", &[1 << 20, 1 << 20]).node("Relu", &["x"], "y", &[]);
    refuses(model.bytes(), "model.onnx: input \"x\" is 1048576x1048576: 2^31 elements or more, which hiosc cannot index");
}

#[test]
fn weights_that_do_not_fill_their_shape() {
    let model = Model::new().input("x", &[1, 5]).output("y", &[1, 2]).weight("w", &[5, 2], vec![]).node("MatMul", &["x", "w"], "y", &[]);
    let mut proto = pb::ModelProto::decode(model.bytes().as_slice()).expect("a model");
    proto.graph.as_mut().expect("a graph").initializer[0].raw_data = vec![0; 36];
    refuses(proto.encode_to_vec(), "model.onnx: tensor \"w\" has 36 bytes, but its shape 5x2 takes 40: the model is damaged");
}

/// A product with a matrix whose 40 bytes are in another file.
fn external(location: &str) -> Model {
    Model::new().input("x", &[1, 5]).output("y", &[1, 2]).external_weight("w", &[5, 2], location).node("MatMul", &["x", "w"], "y", &[])
}

#[test]
fn external_data_is_missing() {
    refuses(
        external("weights.bin").bytes(),
        "model.onnx: external data missing: \"weights.bin\" (1 tensor); put it in the model's folder, under that name",
    );
    let model = external("weights.bin").external_weight("v", &[2], "weights.bin").external_weight("u", &[2], "more.bin");
    refuses(
        model.bytes(),
        "model.onnx: external data missing: \"more.bin\" (1 tensor), \"weights.bin\" (2 tensors); put it in the model's folder, under that name",
    );
}

#[test]
fn external_data_is_truncated() {
    let bench = Bench::new();
    external("weights.bin").save(bench.path(), "model");
    bench.write("weights.bin", [0; 39]);
    bench.refused(&COMPILE, 1, "model.onnx: tensor \"w\" ends at byte 40 of \"weights.bin\", which has 39: the file is truncated");
    bench.write("weights.bin", [0; 40]);
    bench.done(&COMPILE);
}

/// ONNX allows external data without a length, also before other data in the same file.
#[test]
fn external_data_without_a_length() {
    let bench = Bench::new();
    bench.write("weights.bin", [0; 99]);
    external("weights.bin").save(bench.path(), "model");
    let graph = bench.done(&["model.onnx", "--emit", "graph"]);
    let mut model = external("weights.bin");
    model.initialiser("w").external_data.retain(|entry| entry.key != "length");
    model.save(bench.path(), "model");
    assert_eq!(bench.done(&["model.onnx", "--emit", "graph"]), graph);
}

#[test]
fn external_data_is_a_folder() {
    let bench = Bench::new();
    external("weights.bin").save(bench.path(), "model");
    std::fs::create_dir(bench.at("weights.bin")).expect("a folder");
    bench.refused(&COMPILE, 1, "model.onnx: tensor \"w\" is at \"weights.bin\", which is not a file");
}

#[test]
fn external_data_outside_the_folder_is_refused() {
    for location in ["../weights.bin", "/etc/passwd", "a/../../weights.bin"] {
        let message = format!("model.onnx: tensor \"w\" is at {location:?}, outside the model's folder: refused");
        refuses(external(location).bytes(), &message);
    }
}

#[test]
fn external_data_that_is_described_wrongly() {
    let describe = |key: &str, value: Option<&str>| {
        let mut proto = pb::ModelProto::decode(external("weights.bin").bytes().as_slice()).expect("a model");
        let entries = &mut proto.graph.as_mut().expect("a graph").initializer[0].external_data;
        match value {
            Some(value) => entries.iter_mut().find(|e| e.key == key).expect("an entry").value = value.into(),
            None => entries.retain(|e| e.key != key),
        }
        proto.encode_to_vec()
    };
    refuses(describe("location", None), "model.onnx: tensor \"w\" is in another file, but does not say which");
    refuses(describe("offset", Some("-1")), "model.onnx: tensor \"w\" has the offset \"-1\", which is not a number");
    refuses(describe("length", Some("44")), "model.onnx: tensor \"w\" has 44 bytes, but its shape 5x2 takes 40: the model is damaged");
    let bench = Bench::new();
    bench.write("weights.bin", [0; 39]);
    bench.write("model.onnx", describe("length", None));
    bench.refused(&COMPILE, 1, "model.onnx: tensor \"w\" ends at byte 40 of \"weights.bin\", which has 39: the file is truncated");
}

/// Runs hiosc on damaged copies of a model: it must end with exit code 0 or 1 and one line, and
/// write all or nothing.
fn damaged(bench: &Bench, name: &str, bytes: &[u8]) -> bool {
    bench.write("model.onnx", bytes);
    let run = bench.run(&["model.onnx", "-o", "out", "--no-check"]);
    let wrote = bench.at("out").exists();
    assert!(run.code == Some(0) && wrote || run.code == Some(1) && !wrote && run.stderr.lines().count() == 1, "{name}: {run:?}");
    if wrote {
        std::fs::remove_dir_all(bench.at("out")).expect("removable");
    }
    assert_eq!(bench.listing(), [bench.at("model.onnx")], "{name}");
    wrote
}

#[test]
fn a_model_cut_anywhere() {
    let bench = Bench::new();
    let whole = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/squeezenet1_1.onnx")).expect("the model");
    assert!(damaged(&bench, "the whole", &whole));
    for i in 0..60 {
        let length = whole.len() * i / 60;
        assert!(!damaged(&bench, &format!("{length} bytes"), &whole[..length]), "{length} of {} bytes are taken for a model", whole.len());
    }
}

/// One bit of every fifth byte that belongs to no weight.
#[test]
fn a_model_with_flipped_bits() {
    let (total, still_sound) = flipped(|i, at| if i % 5 == 0 { vec![at * 5 % 8] } else { vec![] });
    println!("{total} flips, {still_sound} of which left a model");
    assert!(total > 200 && (1..total).contains(&still_sound), "{still_sound} of {total}");
}

#[test]
#[ignore = "minutes: every bit that is not of a weight"]
fn a_model_with_any_flipped_bit() {
    let (total, still_sound) = flipped(|_, _| (0..8).collect());
    println!("{total} flips, {still_sound} of which left a model");
}

/// Flips the bits that `bits` returns for the `i`-th structural byte, which is at `at`. Returns the
/// number of flips, and how many of them left a valid model.
fn flipped(bits: fn(usize, usize) -> Vec<usize>) -> (usize, usize) {
    let bench = Bench::new();
    let (mut total, mut still_sound) = (0, 0);
    for model in [networks::fire(), networks::residual()] {
        let whole = model.bytes();
        assert!(damaged(&bench, "the whole", &whole));
        for (i, at) in structure(&whole).into_iter().enumerate() {
            for bit in bits(i, at) {
                let mut bytes = whole.clone();
                bytes[at] ^= 1 << bit;
                still_sound += usize::from(damaged(&bench, &format!("bit {bit} of byte {at} of {}", whole.len()), &bytes));
                total += 1;
            }
        }
    }
    (total, still_sound)
}

/// The positions of a model's bytes that stay the same when all its weights change.
fn structure(bytes: &[u8]) -> Vec<usize> {
    let mut proto = pb::ModelProto::decode(bytes).expect("a model");
    for tensor in &mut proto.graph.as_mut().expect("a graph").initializer {
        tensor.float_data.iter_mut().for_each(|v| *v = f32::from_bits(!v.to_bits()));
    }
    let other = proto.encode_to_vec();
    assert_eq!(other.len(), bytes.len());
    (0..bytes.len()).filter(|&at| bytes[at] == other[at]).collect()
}

#[test]
fn unsupported_models_are_reported() {
    let huge = Model::new().input("x", &[1, 1 << 16]).input("z", &[1 << 16, 1]).output("y", &[1 << 16, 1 << 16]);
    refuses(
        huge.node("Mul", &["x", "z"], "y", &[]).bytes(),
        "unsupported: elementwise /y/Mul (%0): tensor y (65536x65536) has 2^31 elements or more",
    );
    let eight = Model::new().input("x", &[1, 2]).output("y", &[1, 2]).node("Relu", &["x"], "y", &[]);
    let mut eight = pb::ModelProto::decode(eight.bytes().as_slice()).expect("a model");
    set_type(&mut eight, 17);
    refuses(eight.encode_to_vec(), "unsupported: input (node \"x\"): element type float8e4m3fn is not supported");
}

#[test]
fn odd_but_sound_models_compile() {
    let models = [
        ("an output that is an input", Model::new().input("x", &[1, 2]).output("x", &[1, 2])),
        ("a scalar", Model::new().input("x", &[]).output("y", &[]).node("Relu", &["x"], "y", &[])),
        ("an unused input", Model::new().input("x", &[2]).input("z", &[3]).output("y", &[2]).node("Neg", &["x"], "y", &[])),
        (
            "an output that is a constant",
            Model::new().input("x", &[2]).output("y", &[2]).output("c", &[2]).weight("c", &[2], vec![1.0, 2.0]).node(
                "Neg",
                &["x"],
                "y",
                &[],
            ),
        ),
        ("two outputs of one value", Model::new().input("x", &[2]).output("y", &[2]).output("x", &[2]).node("Neg", &["x"], "y", &[])),
    ];
    for (what, model) in models {
        let bench = Bench::new();
        model.save(bench.path(), "model");
        println!("{what}");
        bench.done(&COMPILE);
    }
}

fn set_type(model: &mut pb::ModelProto, code: i32) {
    use pb::type_proto::Value;
    for value in &mut model.graph.as_mut().expect("a graph").input {
        let Some(Value::TensorType(tensor)) = value.r#type.as_mut().and_then(|t| t.value.as_mut()) else { panic!("no tensor") };
        tensor.elem_type = code;
    }
}
