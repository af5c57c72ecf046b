//! Whole models, end to end: compiled by `hiosc::Compiler`, their generated crates built and run
//! unmodified on two virtual GPUs, compared with onnxruntime's reference outputs. `scatter` puts
//! each operator on the next GPU, so that there are many copies and events between GPUs.
//!
//! The model in `testdata` always exists. The shared ones are used if present; a line says what was
//! skipped.

use std::path::Path;

use crate::support::onnx::{Attr, Model};
use crate::support::shared::{shared_model, shared_models};
use crate::support::{side_by_side, skipped};
use hiosc::compiler::{Passes, Planned, parts};
use hiosc::plan::{self, mutants};
use hiosc::schedule::Algorithm;
use hiosc::{Compiler, VerifyOptions, verify, vgpu};

const ALGORITHMS: [Algorithm; 2] = [Algorithm::HiosLp, Algorithm::Scatter];

fn own_model() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/squeezenet1_1.onnx")
}

/// Compiles `model`, and runs its crate on virtual GPUs in `seeds` orders of execution.
fn check(model: &Path, algorithm: Algorithm, reference: Option<&Path>, seeds: u32) {
    let scratch = tempfile::tempdir().expect("a temporary folder");
    let out = scratch.path().join("out");
    let compilation = Compiler::new(model).algorithm(algorithm).compile().unwrap_or_else(|e| panic!("{}: {e}", model.display()));
    compilation.write(&out).expect("a writable folder");
    let on_virtual = VerifyOptions::default().on_virtual(true).seeds(seeds);
    let options = reference.map_or(on_virtual.clone(), |npz| on_virtual.reference(npz));
    let report = verify(&out, &options).unwrap_or_else(|e| panic!("{} with {algorithm}: {e}", model.display()));
    println!("{} with {algorithm}:\n{report}", model.file_name().unwrap_or_default().display());
}

/// Whether crates can be run here; if not, prints a line.
fn can_run() -> bool {
    let can = vgpu::compiler_present();
    if !can {
        skipped!("SKIPPED: no C++ compiler for the virtual GPUs");
    }
    can
}

#[test]
fn the_model_in_testdata_runs_in_every_order() {
    if can_run() {
        ALGORITHMS.into_iter().for_each(|algorithm| check(&own_model(), algorithm, None, 5));
    }
}

/// In a shared target folder, cargo takes crates of one name for the same, and the one built last
/// is newer than the files of all others. The program that runs must be that of the requested
/// folder.
#[test]
fn the_crate_that_is_verified_is_the_one_that_runs() {
    if !can_run() {
        return;
    }
    let scratch = tempfile::tempdir().expect("a temporary folder");
    let folders = [Algorithm::Sequential, Algorithm::Scatter].map(|algorithm| {
        let out = scratch.path().join(algorithm.name());
        let compilation = Compiler::new(own_model()).algorithm(algorithm).compile().expect("a sound model");
        compilation.write(&out).expect("a writable folder");
        out
    });
    let ran = |folder: &Path| {
        let report = verify(folder, &VerifyOptions::default().on_virtual(true)).expect("the right numbers");
        report.notes.join("; ")
    };
    let [sequential, scatter] = [ran(&folders[0]), ran(&folders[1])];
    assert!(sequential.contains("over 1 stream") && scatter.contains("gpu0 to gpu1"), "{sequential} | {scatter}");
    assert_eq!(ran(&folders[0]), sequential);
}

/// Every model of the shared folder whose input is stored beside its outputs. `HIOSC_TEST_MODELS`
/// picks those whose names contain it.
#[test]
fn shared_models_agree_with_onnxruntime() {
    if !can_run() {
        return;
    }
    let slow = std::env::var_os("HIOSC_SLOW_TESTS").is_some_and(|value| value == "1");
    let only = std::env::var("HIOSC_TEST_MODELS").unwrap_or_default();
    let names = shared_models().into_iter().filter(|name| name.contains(&only));
    side_by_side(names, |name| {
        let Some(shared) = shared_model(&name) else { return };
        if !shared.has_inputs() {
            skipped!("SKIPPED {name}: its input is not stored");
            return;
        }
        if name.starts_with("nasnet") && !slow {
            skipped!("SKIPPED {name}: half a minute per run; set HIOSC_SLOW_TESTS=1");
            return;
        }
        let seeds = match name.as_str() {
            "squeezenet1_1" | "inception_v3" => 20,
            "silero_vad_16k_sequence" => 5,
            _ => 1,
        };
        ALGORITHMS.into_iter().for_each(|algorithm| check(&shared.model, algorithm, Some(&shared.reference), seeds));
    });
}

/// A small convolutional network: strided, depthwise and grouped convolutions, a gate, two pools, a
/// concatenation, a global average, a product, a softmax.
fn every_operator() -> Model {
    let model = Model::new().input("x", &[2, 3, 17, 15]).input("gate", &[1, 8, 1, 1]).output("y", &[2, 10]).output("mid", &[2, 8, 9, 8]);
    let model =
        model.random_weight("w1", &[8, 3, 3, 3]).random_weight("scale", &[8]).random_weight("shift", &[8]).random_weight("mean", &[8]);
    let model = model.weight("var", &[8], vec![0.5, 1.0, 2.0, 0.1, 1.5, 3.0, 0.7, 1.1]);
    let model = model.node("Conv", &["x", "w1"], "c", &[Attr::Ints("pads", &[1, 1, 1, 1]), Attr::Ints("strides", &[2, 2])]);
    let model = model.node("BatchNormalization", &["c", "scale", "shift", "mean", "var"], "n", &[]).node("Relu", &["n"], "r", &[]);
    let model = model.random_weight("w2", &[8, 1, 3, 3]).random_weight("b2", &[8]).random_weight("w3", &[8, 2, 1, 1]);
    let model = model.node(
        "Conv",
        &["r", "w2", "b2"],
        "depthwise",
        &[Attr::Ints("pads", &[2, 2, 2, 2]), Attr::Ints("dilations", &[2, 2]), Attr::Int("group", 8)],
    );
    let model = model.node("Conv", &["r", "w3"], "grouped", &[Attr::Int("group", 4)]).node("Add", &["depthwise", "grouped"], "sum", &[]);
    let model = model.node("Sigmoid", &["gate"], "s", &[]).node("Mul", &["sum", "s"], "mid", &[]);
    let window = [Attr::Ints("kernel_shape", &[3, 3]), Attr::Ints("strides", &[2, 2]), Attr::Ints("pads", &[1, 1, 1, 1])];
    let model = model.node("MaxPool", &["mid"], "max", &window).node("AveragePool", &["mid"], "average", &window);
    let model = model.node("Concat", &["max", "average", "max"], "joined", &[Attr::Int("axis", 1)]);
    let model = model.node("GlobalAveragePool", &["joined"], "g", &[]).node("Flatten", &["g"], "f", &[]);
    let model = model.random_weight("w4", &[10, 24]).random_weight("b4", &[10]);
    model.node("Gemm", &["f", "w4", "b4"], "h", &[Attr::Int("transB", 1)]).node("Softmax", &["h"], "y", &[Attr::Int("axis", 1)])
}

#[test]
fn every_operator_runs_in_a_generated_crate_on_four_gpus() {
    if !can_run() {
        return;
    }
    let scratch = tempfile::tempdir().expect("a temporary folder");
    let (model, out) = (every_operator().save(scratch.path(), "every_operator"), scratch.path().join("out"));
    let compilation = Compiler::new(model).gpus(4).algorithm(Algorithm::Scatter).compile().expect("a sound model");
    assert_eq!(parts(&compilation).0.plan.gpus.len(), 4);
    compilation.write(&out).expect("a writable folder");
    let report = verify(&out, &VerifyOptions::default().on_virtual(true).seeds(20)).expect("the right numbers");
    assert_eq!(report.outputs.len(), 2);
    assert!(report.outputs.iter().all(|o| o.difference <= 1e-5 * o.scale), "{report}");
}

/// The plan of `model`, which the compiler has verified.
fn planned(model: &Path, algorithm: Algorithm) -> Planned {
    Compiler::new(model).algorithm(algorithm).plan().unwrap_or_else(|e| panic!("{}: {e}", model.display()))
}

fn every_mutant_is_rejected(model: &Path) {
    for algorithm in ALGORITHMS {
        let planned = planned(model, algorithm);
        let schedule = &planned.chosen().schedule;
        let verify = |plan: &plan::Plan| plan::verify(&planned.graph, Some(schedule), &plan::PlanOptions::default(), plan);
        verify(&planned.plan).expect("the plan itself is right");
        let mut count = 0;
        for (step, mutant) in mutants(&planned.plan) {
            assert!(
                verify(&mutant).is_err(),
                "{} with {algorithm}: step {step} can be left out: {:?}",
                model.display(),
                planned.plan.steps[step]
            );
            count += 1;
        }
        assert!(count >= 30, "{count} mutants are too few to mean anything");
        println!("{} with {algorithm}: all {count} plans without one wait, record or copy are rejected", planned.graph.name);
    }
}

#[test]
fn no_synchronisation_and_no_copy_is_redundant() {
    every_mutant_is_rejected(&own_model());
    for name in ["inception_v3", "randwire_ws32"] {
        if let Some(shared) = shared_model(name) {
            every_mutant_is_rejected(&shared.model);
        }
    }
}

/// With the unmodified device model, HIOS-LP must not be slower than one operator after another. If
/// the branches of a model pay off, it must use both GPUs and beat the grouped plan of one GPU.
#[test]
fn hios_lp_is_never_above_sequential() {
    let models =
        ["squeezenet1_1", "inception_v3", "inception_v3_dynamo", "inception_v3_1024", "resnet50", "resnext50_32x4d", "mobilenet_v3_small"];
    for name in [&models[..], &["dpn68", "convnext_nano", "randwire_ws32", "nasnetalarge.folded"]].concat() {
        let Some(shared) = shared_model(name) else { continue };
        let planned = planned(&shared.model, Algorithm::HiosLp);
        let latency = |algorithm: &str| {
            let candidate = planned.schedules.iter().find(|c| c.schedule.algorithm == algorithm);
            candidate.unwrap_or_else(|| panic!("{algorithm} was not compared")).timeline.latency
        };
        let [sequential, grouped, hios] = ["sequential", "intra-gpu", "hios-lp"].map(latency);
        println!("{name}: sequential {sequential} ns, one GPU grouped {grouped} ns, hios-lp {hios} ns on {} GPUs", planned.plan.gpus.len());
        assert!(hios <= sequential, "{name}: hios-lp takes {hios} ns, sequential {sequential} ns");
        if ["inception_v3_1024", "nasnetalarge.folded"].contains(&name) {
            assert!(
                planned.plan.gpus.len() == 2 && hios < grouped,
                "{name}: {hios} ns on {} GPUs, grouped {grouped} ns",
                planned.plan.gpus.len()
            );
        }
    }
}

#[test]
fn compiling_twice_gives_the_same_bytes() {
    for algorithm in ALGORITHMS {
        let compile = || Compiler::new(own_model()).algorithm(algorithm).compile().expect("a sound model");
        let (first, second) = (compile(), compile());
        let (first, second) = (parts(&first).2, parts(&second).2);
        for (path, bytes) in &first.files {
            assert_eq!(Some(bytes), second.files.get(path), "{path} differs");
        }
        assert_eq!(first.files.len(), second.files.len());
        assert!(first.weights == second.weights, "the weights differ");
        let texts = first.files.iter().filter(|(path, _)| !path.ends_with(".safetensors") && !path.contains("kernels/"));
        for (path, bytes) in texts {
            let text = String::from_utf8_lossy(bytes);
            assert!(!text.contains(env!("CARGO_MANIFEST_DIR")), "{path} names this machine's folders");
        }
    }
}

#[test]
fn no_generated_function_is_long() {
    for name in ["inception_v3", "randwire_ws32", "nasnetalarge.folded"] {
        let Some(shared) = shared_model(name) else { continue };
        let compilation = Compiler::new(&shared.model).check(false).algorithm(Algorithm::Scatter).compile();
        let compilation = compilation.expect("a sound model");
        let plan = String::from_utf8(parts(&compilation).2.files["src/plan.rs"].clone()).expect("text");
        let mut start = 0;
        for (i, line) in plan.lines().enumerate() {
            if line.starts_with("fn ") || line.starts_with("pub fn ") {
                start = i;
            }
            assert!(line != "}" || i - start < 60, "{name}: a function of {} lines before line {i}", i - start + 1);
        }
    }
}
