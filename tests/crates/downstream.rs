//! The example of a project whose `build.rs` calls hiosc: copied, built and tested with this
//! checkout as its dependency.
//!
//! hiosc is a build dependency there. With hiosc's resolver and profile, which a user's project
//! does not have, the copy reuses the tract compiled in this checkout's target folder. hiosc itself
//! is compiled again, which takes a minute or two. So that test only runs if
//! `HIOSC_TEST_DOWNSTREAM=1` is set, and prints a line otherwise. The other test always runs: it
//! replaces the build script, and builds the same program around the module.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::support::{skipped, target_folder};
use hiosc::schedule::Algorithm;
use hiosc::{Compiler, vgpu};

/// A program that uses the example's library.
const MAIN: &str = r#"
fn main() {
    let mut classifier = downstream::Classifier::load().expect("the model loads");
    let scores = classifier.scores(&[0.5; 3 * 224 * 224]).expect("an inference");
    assert!(scores.iter().all(|score| score.is_finite()));
    println!("{} classes, the best is {}", scores.len(), classifier.classify(&[0.5; 3 * 224 * 224]).expect("an inference"));
    println!("{}", classifier.scores(&[0.5]).expect_err("too short"));
}
"#;

#[test]
fn a_program_includes_the_model_as_a_module() {
    if !vgpu::compiler_present() {
        skipped!("SKIPPED: no C++ compiler, so no virtual GPUs");
        return;
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let scratch = tempfile::tempdir().expect("a temporary folder");
    let (project, out) = (scratch.path().join("project"), scratch.path().join("out dir"));
    fs::create_dir_all(project.join("src")).expect("a folder");
    fs::create_dir_all(&out).expect("a folder");
    let compilation = Compiler::new(root.join("testdata/squeezenet1_1.onnx"))
        .algorithm(Algorithm::Scatter)
        .check(false)
        .compile()
        .expect("a sound model");
    compilation.write_module("squeezenet", &out).expect("a writable folder");
    let module = fs::read_to_string(out.join("squeezenet.rs")).expect("a module");
    let time = |file: &str| fs::metadata(out.join(file)).and_then(|m| m.modified()).expect("a time");
    let before = [time("squeezenet.rs"), time("squeezenet/src/plan.rs")];
    compilation.write_module("squeezenet", &out).expect("writable again");
    assert_eq!([time("squeezenet.rs"), time("squeezenet/src/plan.rs")], before, "nothing changed, and Cargo would build it anew");
    assert!(module.contains("pub mod squeezenet;"), "{module}");
    for name in ["", "Net", "a-b", "fn", "a b", "../x", "1a"] {
        let error = compilation.write_module(name, &out).unwrap_err().to_string();
        assert_eq!(error, format!("`{name}` cannot be the name of a module: use lower-case letters, digits and _"));
    }

    // the example's library with a literal OUT_DIR, without the build script, which would need all
    // of hiosc
    let library = fs::read_to_string(root.join("examples/downstream/src/lib.rs")).expect("the example");
    fs::write(project.join("src/lib.rs"), library.replace("env!(\"OUT_DIR\")", &format!("{out:?}"))).expect("written");
    fs::write(project.join("src/main.rs"), MAIN).expect("written");
    let manifest = fs::read_to_string(root.join("examples/downstream/Cargo.toml")).expect("the example");
    let (before, rest) = manifest.split_once("[build-dependencies]").expect("a build dependency");
    assert!(rest.contains("[workspace]"));
    fs::write(project.join("Cargo.toml"), format!("{before}\n[workspace]\n")).expect("written");
    fs::copy(out.join("squeezenet/Cargo.lock"), project.join("Cargo.lock")).expect("the same versions");
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--release", "--offline", "--quiet", "--manifest-path"]).arg(project.join("Cargo.toml"));
    cargo.arg("--target-dir").arg(target_folder());
    let built = cargo.output().expect("cargo starts");
    let said = String::from_utf8_lossy(&built.stderr);
    assert!(built.status.success() && !said.contains("warning"), "{said}");

    let kernels = vgpu::compile_crate_kernels(&out.join("squeezenet")).expect("the kernels compile");
    let mut program = Command::new(target_folder().join("release/downstream"));
    vgpu::command_env(&mut program, &kernels).expect("the virtual driver builds");
    let output = program.env("HIOSC_VGPU_COUNT", "2").output().expect("it starts");
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && said.starts_with("1000 classes, the best is "), "{said}");
    assert!(said.contains("input `input` has shape 1x3x224x224: expected 150528 elements, found 1"), "{said}");
}

#[test]
fn a_project_with_a_build_script_runs_the_model() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("HIOSC_TEST_DOWNSTREAM").is_none_or(|value| value != "1") {
        skipped!("SKIPPED: examples/downstream takes a minute or two to build; set HIOSC_TEST_DOWNSTREAM=1 to run it");
        return;
    }
    // A copy, so that Cargo writes nothing into the checkout. The same lock file, so that nothing
    // has to be fetched. hiosc's resolver and profile, so that Cargo reuses the compiled
    // dependencies.
    let copy = Path::new(env!("CARGO_TARGET_TMPDIR")).join("downstream");
    fs::create_dir_all(copy.join("src")).expect("a folder");
    fs::create_dir_all(copy.join("tests")).expect("a folder");
    for file in ["Cargo.toml", "build.rs", "src/lib.rs", "tests/virtual_gpus.rs"] {
        let text = fs::read_to_string(root.join("examples/downstream").join(file)).expect("a file of the example");
        let text = text.replace("path = \"../..\"", &format!("path = {root:?}"));
        let text = text.replace("concat!(env!(\"CARGO_MANIFEST_DIR\"), \"/../../testdata/", &format!("concat!({root:?}, \"/testdata/"));
        fs::write(copy.join(file), text.replace("[workspace]", "[workspace]\nresolver = \"1\"")).expect("a copy");
    }
    let manifest = fs::read_to_string(root.join("Cargo.toml")).expect("hiosc's manifest");
    let profile = manifest.find("\n[profile.release]").expect("hiosc's profile");
    fs::write(copy.join("profile.toml"), &manifest[profile..]).expect("a configuration for Cargo");
    fs::copy(root.join("Cargo.lock"), copy.join("Cargo.lock")).expect("the same versions");
    let cargo = |arguments: &[&str], last: &[&str]| {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(arguments).args(["--release", "--offline", "--manifest-path"]).arg(copy.join("Cargo.toml"));
        cargo.arg("--config").arg(copy.join("profile.toml"));
        cargo.arg("--target-dir").arg(target_folder()).env("RUSTDOCFLAGS", "-D warnings");
        let output = cargo.args(last).output().expect("cargo starts");
        let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{said}");
        said
    };
    let said = cargo(&["test"], &["--", "--nocapture"]);
    // Here hiosc is as others see it, without the feature `internals`. A warning would be a type
    // that they can reach but not name, or a page that links to something private.
    assert!(!said.contains("warning"), "{said}");
    cargo(&["doc", "--no-deps", "--package", "hiosc"], &[]);
    assert!(said.contains("1000 classes on two virtual GPUs") || said.contains("SKIPPED: no C++ compiler"), "{said}");
}
