//! The reference of a crate comes from a reader that is not the importer's: what the importer
//! misreads is found, and where two references disagree, nothing is called right.

use std::fs;
use std::path::Path;

use hiosc::import::ImportOptions;
use hiosc::oracle::{Oracle, onnxruntime};
use hiosc::{Algorithm, Compiler, CrateOptions, Error, VerifyOptions, verify};

use crate::support::cli::Bench;
use crate::support::onnx::{Attr, Model};
use crate::support::{networks, npz, skipped};

/// Operators, each with an attribute whose loss changes the numbers but no shape.
const READINGS: [(&str, &str); 11] = [
    ("Softmax", "axis"),
    ("LeakyRelu", "alpha"),
    ("Elu", "alpha"),
    ("HardSigmoid", "alpha"),
    ("Gemm", "transB"),
    ("CumSum", "reverse"),
    ("BatchNormalization", "epsilon"),
    ("InstanceNormalization", "epsilon"),
    ("AveragePool", "count_include_pad"),
    ("DepthToSpace", "mode"),
    ("Resize", "coordinate_transformation_mode"),
];

/// Each operator of [`READINGS`] on an input of its own: the output `Elu` of the input `x:Elu`.
fn readings() -> Model {
    let node = |model: Model, operator: &str, shapes: [&[i64]; 2], more: &[&str], attributes: &[Attr]| {
        let x = format!("x:{operator}");
        let inputs: Vec<&str> = [x.as_str()].into_iter().chain(more.iter().copied()).collect();
        model.input(&x, shapes[0]).output(operator, shapes[1]).node(operator, &inputs, operator, attributes)
    };
    let flat: [&[i64]; 2] = [&[4, 6], &[4, 6]];
    let image: [&[i64]; 2] = [&[1, 4, 6, 6], &[1, 4, 6, 6]];
    let model = Model::new().opset(20).random_weight("w", &[6, 6]).int("axis", 1).ints("sizes", &[1, 4, 9, 9]);
    let model = model.random_weight("s", &[4]).random_weight("b", &[4]).random_weight("m", &[4]);
    let model = model.weight("v", &[4], vec![0.5, 1.0, 2.0, 0.1]);
    let model = node(model, "Softmax", flat, &[], &[Attr::Int("axis", 0)]);
    let model = node(model, "LeakyRelu", flat, &[], &[Attr::Float("alpha", 0.3)]);
    let model = node(model, "Elu", flat, &[], &[Attr::Float("alpha", 0.3)]);
    let model = node(model, "HardSigmoid", flat, &[], &[Attr::Float("alpha", 0.4)]);
    let model = node(model, "Gemm", flat, &["w"], &[Attr::Int("transB", 1)]);
    let model = node(model, "CumSum", flat, &["axis"], &[Attr::Int("reverse", 1)]);
    let model = node(model, "BatchNormalization", image, &["s", "b", "m", "v"], &[Attr::Float("epsilon", 0.5)]);
    let model = node(model, "InstanceNormalization", image, &["s", "b"], &[Attr::Float("epsilon", 0.5)]);
    let window = [Attr::Ints("kernel_shape", &[3, 3]), Attr::Ints("pads", &[1, 1, 1, 1]), Attr::Int("count_include_pad", 1)];
    let model = node(model, "AveragePool", image, &[], &window);
    let order = [Attr::Int("blocksize", 2), Attr::Text("mode", "CRD")];
    let model = node(model, "DepthToSpace", [&[1, 8, 3, 3], &[1, 2, 6, 6]], &[], &order);
    let corners = [Attr::Text("mode", "linear"), Attr::Text("coordinate_transformation_mode", "align_corners")];
    node(model, "Resize", [&[1, 4, 6, 6], &[1, 4, 9, 9]], &["", "", "sizes"], &corners)
}

/// A crate of `model`, with what `change` changes of the compiler.
fn written(folder: &Path, model: &Path, change: impl Fn(Compiler) -> Compiler) -> String {
    let options = CrateOptions::default().name("oracle-test"); // one name: one build
    let compiler = Compiler::new(model).algorithm(Algorithm::Sequential).gpus(1).package(options);
    let compilation = change(compiler).compile().expect("a sound model");
    compilation.write(folder).expect("a writable folder");
    compilation.summary()
}

/// One importer forgets all of the attributes: each operator has an output of its own, and one
/// build is enough.
#[test]
fn what_the_importer_drops_is_found() {
    let scratch = tempfile::tempdir().expect("a temporary folder");
    let path = readings().save(scratch.path(), "readings");
    let out = scratch.path().join("out");
    let summary = written(&out, &path, |compiler| compiler);
    assert!(summary.contains("reference by rten") && !summary.contains("disputed"), "{summary}");
    let verified = verify(&out, &VerifyOptions::default().on_virtual(true)).expect("the right numbers");
    assert_eq!((verified.reference.as_str(), verified.outputs.len()), ("rten", READINGS.len()));

    let forgetful = |compiler: Compiler| READINGS.iter().fold(compiler, |compiler, &(operator, name)| compiler.forgetting(operator, name));
    let summary = written(&out, &path, forgetful);
    for (operator, _) in READINGS {
        assert!(summary.contains(&format!("disputed reference: {operator}: rten and tract differ")), "{operator}: {summary}");
    }
    match verify(&out, &VerifyOptions::default().on_virtual(true)) {
        Err(Error::Disputed(text)) => {
            for (operator, _) in READINGS {
                let line = format!("\n  {operator} agrees with tract; compared with rten: WRONG");
                assert!(text.contains(&line), "{operator}: {text}");
            }
        }
        other => panic!("{other:?}"),
    }
}

/// rten reads `noop_with_empty_axes` of a reduction of several terms differently.
fn disputed() -> Model {
    let model = Model::new().opset(18).input("x", &[2, 3]).output("y", &[2, 3]).output("z", &[2, 3]).ints("axes", &[]);
    let model = model.node("ReduceL2", &["x", "axes"], "y", &[Attr::Int("noop_with_empty_axes", 1)]);
    model.node("Relu", &["x"], "z", &[])
}

#[test]
fn what_two_references_dispute_is_never_right_until_someone_decides() {
    let bench = Bench::new();
    disputed().save(bench.path(), "model");
    let compiled = bench.run(&["model.onnx", "-o", "out", "--gpus", "1", "--name", "oracle-test"]);
    assert_eq!(compiled.code, Some(0), "{compiled:?}");
    assert!(compiled.stdout.contains("disputed reference: y: rten and tract differ by up to"), "{compiled:?}");
    assert!(!compiled.stdout.contains("disputed reference: z"), "{compiled:?}");
    let readme = fs::read_to_string(bench.at("out/README.md")).expect("a file");
    assert!(readme.contains("**The reference is disputed**: tract computes other outputs than rten"), "{readme}");

    let check = |args: &[&str], code: i32, expected: &str| {
        let run = bench.run(&[&["verify", "out", "--virtual"], args].concat());
        let said = format!("{}{}", run.stdout, run.stderr);
        assert!(run.code == Some(code) && said.contains(expected), "{args:?}: {run:?}");
        said
    };
    let said = check(&[], 3, "the reference is disputed: rten and tract compute different outputs");
    assert!(said.contains("y agrees with tract; compared with rten: WRONG: y: ") && said.contains("z agrees with both"), "{said}");
    check(&["--json"], 3, "\"passes\": false");
    check(&["--reference", "tract"], 0, "reference by the importer itself: attributes not checked independently");
    check(&["--reference", "rten"], 1, "1 of 2 outputs is wrong");
    npz(&bench.at("reference.npz"), &fs::read(bench.at("out/check.safetensors")).expect("a file"));
    check(&["--reference", "reference.npz"], 1, "1 of 2 outputs is wrong");

    // `hiosc --check` still recognises the crate
    let fresh = bench.run(&["--check", "out"]);
    assert_eq!(fresh.code, Some(0), "{fresh:?}");

    // decided when compiling
    let compiled = bench.run(&["model.onnx", "-o", "out", "--gpus", "1", "--name", "oracle-test", "--reference", "tract"]);
    assert!(compiled.code == Some(0) && !compiled.stdout.contains("disputed"), "{compiled:?}");
    check(&[], 0, "ok: y differs by at most");
    check(&["--reference", "rten"], 2, "out has no reference by rten, only one by tract");
    let compiled = bench.run(&["model.onnx", "-o", "out", "--gpus", "1", "--name", "oracle-test", "--reference", "reference.npz"]);
    assert!(compiled.code == Some(0) && compiled.stdout.contains("reference from a file"), "{compiled:?}");
    check(&[], 1, "1 of 2 outputs is wrong");

    // a reference that was changed
    let file = bench.at("out/check.safetensors");
    let mut bytes = fs::read(&file).expect("a file");
    *bytes.last_mut().expect("bytes") ^= 1;
    fs::write(&file, bytes).expect("written");
    check(&[], 1, "check.safetensors: it was changed: its sha256 is");
}

#[test]
fn onnxruntime_decides_where_python_has_it() {
    let bench = Bench::new();
    let path = disputed().save(bench.path(), "model");
    let probe = tempfile::tempdir().expect("a temporary folder");
    let shape: &[usize] = &[2, 3];
    let values = vec![1.0f32; 6].into();
    if let Err(why) = onnxruntime::outputs(&path, &[("x", shape, &values)], &["y"], probe.path()) {
        skipped!("SKIPPED onnxruntime: {why}");
        return;
    }
    assert_eq!(bench.run(&["model.onnx", "-o", "out", "--gpus", "1", "--name", "oracle-test"]).code, Some(0));
    let run = bench.run(&["verify", "out", "--virtual", "--onnxruntime", "--model", "model.onnx"]);
    assert!(run.code == Some(0) && run.stdout.contains("reference by onnxruntime "), "{run:?}");
}

#[test]
fn without_onnxruntime_one_line_says_what_to_install() {
    let bench = Bench::new();
    disputed().save(bench.path(), "model");
    assert_eq!(bench.run(&["model.onnx", "-o", "out", "--gpus", "1"]).code, Some(0));
    let mut command = bench.command(&["verify", "out", "--virtual", "--onnxruntime", "--model", "model.onnx"]);
    let output = command.env("HIOSC_PYTHON", bench.at("no-python")).output().expect("hiosc starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && said.contains("HIOSC_PYTHON") && said.trim_end().lines().count() <= 3, "{said}");
}

#[test]
fn the_stored_bytes_do_not_depend_on_the_number_of_threads() {
    let scratch = tempfile::tempdir().expect("a temporary folder");
    for (name, model) in [("inception", networks::inception()), ("residual", networks::residual())] {
        let path = model.save(scratch.path(), name);
        let imported = hiosc::import::import(&path, &ImportOptions::default()).expect("a sound model");
        let graph = &imported.graph;
        let inputs = hiosc::compiler::check_inputs(graph);
        let feeds: Vec<hiosc::oracle::Input> =
            graph.inputs.iter().zip(&inputs).map(|(&id, v)| (&*graph.tensor(id).name, &*graph.tensor(id).shape, v)).collect();
        let wanted: Vec<&str> = graph.outputs.iter().map(|&id| &*graph.tensor(id).name).collect();
        let by = |threads| {
            let oracle = Oracle::load(&path, &ImportOptions::default()).expect("rten reads it").threads(threads);
            oracle.run(&feeds, &wanted).expect("rten runs it")
        };
        assert_eq!(by(1), by(2), "{name}");
    }
}

#[test]
fn external_data_of_any_name_offset_and_alignment() {
    let scratch = tempfile::tempdir().expect("a temporary folder");
    let values: Vec<f32> = (0..24).map(|i| i as f32 * 0.25 - 3.0).collect();
    let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    let model = |external: bool| {
        let model = Model::new().input("x", &[2, 6]).output("y", &[2, 4]);
        let model =
            if external { model.external_weight("w", &[6, 4], "sub/weights.bin") } else { model.weight("w", &[6, 4], values.clone()) };
        model.node("MatMul", &["x", "w"], "y", &[])
    };
    fs::create_dir(scratch.path().join("sub")).expect("a folder");
    fs::write(scratch.path().join("sub/weights.bin"), &bytes).expect("written");
    let run = |path: &Path| {
        let oracle = Oracle::load(path, &ImportOptions::default()).expect("rten reads it");
        let x: Vec<f32> = (0..12).map(|i| i as f32).collect();
        oracle.run(&[("x", &[2, 6], &x.into())], &["y", "nothing"]).expect("rten runs it")
    };
    let expected = run(&model(false).save(scratch.path(), "inside"));
    assert!(expected[0].is_some() && expected[1].is_none(), "{expected:?}");
    assert_eq!(run(&model(true).save(scratch.path(), "outside")), expected);
    // the same data where no number may begin
    let shifted = [&[7u8; 3][..], &bytes].concat();
    fs::write(scratch.path().join("sub/weights.bin"), shifted).expect("written");
    let mut moved = model(true);
    moved.initialiser("w").external_data[1].value = "3".into();
    assert_eq!(run(&moved.save(scratch.path(), "shifted")), expected);
}
