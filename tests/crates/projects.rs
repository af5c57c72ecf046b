//! Projects that use hiosc from their build scripts: README's own, word for word, and a workspace
//! whose member has two models.
//!
//! The *light* way is tested always: the build scripts call the program of this checkout. The
//! *heavy* way compiles hiosc with tract as a build dependency. With hiosc's resolver and profile,
//! which a user's project does not have, that reuses the tract compiled in this checkout's target
//! folder; hiosc itself is compiled again, which takes a minute or two. So that test only runs if
//! `HIOSC_TEST_DOWNSTREAM=1` is set, and prints a line otherwise.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::emit::tree;
use crate::support::onnx::Model;
use crate::support::{skipped, target_folder};
use hiosc::vgpu;

/// hiosc's folder.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A folder with a project in `project/`, and hiosc in `hiosc/`. Always the same folder, as Cargo
/// builds a package anew in another one.
struct Project {
    folder: PathBuf,
    target: PathBuf,
}

impl Project {
    /// An empty one, built in a subfolder of the target folder that keeps dependencies for the next
    /// test run.
    fn new(name: &str) -> Project {
        let projects = Path::new(env!("CARGO_TARGET_TMPDIR")).join("projects");
        let project = Project { folder: projects.join(name), target: projects.join("target") };
        if project.folder.exists() {
            fs::remove_dir_all(&project.folder).expect("removable");
        }
        fs::create_dir_all(project.at("")).expect("a folder");
        #[cfg(unix)]
        std::os::unix::fs::symlink(root(), project.folder.join("hiosc")).expect("a link");
        // the same versions: nothing has to be fetched
        fs::copy(root().join("Cargo.lock"), project.at("Cargo.lock")).expect("a lock file");
        project
    }

    /// README's project: each block whose fence names a file, and the model.
    fn of_the_readme(name: &str) -> Project {
        let project = Project::new(name);
        let readme = fs::read_to_string(root().join("README.md")).expect("the README");
        let mut files = Vec::new();
        for block in readme.split("\n```").skip(1).step_by(2) {
            let (fence, text) = block.split_once('\n').expect("a block");
            if let Some((_, file)) = fence.split_once(' ').filter(|(_, file)| file.contains('.')) {
                files.push(file.to_string());
                project.write(file, text);
            }
        }
        assert_eq!(files, ["Cargo.toml", "build.rs", "src/main.rs"], "README's blocks");
        fs::copy(root().join("testdata/squeezenet1_1.onnx"), project.at("squeezenet.onnx")).expect("the model");
        project
    }

    fn at(&self, file: &str) -> PathBuf {
        self.folder.join("project").join(file)
    }

    fn write(&self, file: &str, text: impl AsRef<[u8]>) {
        let path = self.at(file);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(path, text).expect("written");
    }

    fn read(&self, file: &str) -> String {
        fs::read_to_string(self.at(file)).expect("a file of the project")
    }

    /// Runs `program`, with cargo's folder for this project, the program hiosc of this checkout,
    /// and no NVRTC. Returns whether it succeeded, and what it printed.
    fn run(&self, program: &str, arguments: &[&str], variables: &[(&str, &str)]) -> (bool, String) {
        let mut command = Command::new(program);
        command.args(arguments).current_dir(self.at("")).env("CARGO_TARGET_DIR", &self.target).env("CARGO_NET_OFFLINE", "true");
        command.env("HIOSC", env!("CARGO_BIN_EXE_hiosc")).env("HIOSC_NVRTC", self.at("no-nvrtc.so"));
        let output = command.envs(variables.iter().copied()).output().expect("it starts");
        (output.status.success(), format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)))
    }

    /// Builds the project; returns what cargo printed.
    fn build(&self, variables: &[(&str, &str)]) -> String {
        let (succeeded, said) = self.run("cargo", &["build"], variables);
        assert!(succeeded && !said.contains("warning"), "{said}");
        said
    }

    /// Runs the project's tests on virtual GPUs.
    fn test(&self) -> String {
        let (succeeded, said) = self.run(env!("CARGO_BIN_EXE_hiosc"), &["virtual", "--gpus", "2", "--", "cargo", "test"], &[]);
        assert!(succeeded, "{said}");
        said
    }
}

/// The modification times of all files of the build whose path contains `part`.
fn times(folder: &Path, part: &str) -> Vec<(PathBuf, std::time::SystemTime)> {
    let mut found = Vec::new();
    let mut pending = vec![folder.to_path_buf()];
    while let Some(folder) = pending.pop() {
        for entry in fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()) {
            if entry.is_dir() {
                pending.push(entry);
            } else if entry.to_string_lossy().contains(part) {
                found.push((entry.clone(), entry.metadata().and_then(|m| m.modified()).expect("a time")));
            }
        }
    }
    found.sort();
    found
}

/// Both tests of the light way share a target folder, and cargo's lock would only make one wait.
#[test]
fn projects_with_an_installed_hiosc() {
    if !vgpu::compiler_present() || !cfg!(unix) {
        skipped!("SKIPPED: no C++ compiler, so no virtual GPUs");
        return;
    }
    the_readmes_project_works_word_for_word();
    a_member_of_a_workspace_has_two_models();
}

fn the_readmes_project_works_word_for_word() {
    let project = Project::of_the_readme("readme");
    let script = project.read("build.rs");
    assert!(script.lines().count() <= 10, "{script}");

    let (succeeded, said) = project.run("cargo", &["build"], &[("HIOSC", "/no/such/hiosc")]);
    assert!(!succeeded && said.contains("hiosc: /no/such/hiosc does not exist: install it with `cargo install --path "), "{said}");
    project.write("old-hiosc", "#!/bin/sh\necho hiosc 0.0.9\n");
    let old = project.at("old-hiosc");
    let (_, said) = project.run("sh", &["-c", "chmod +x old-hiosc && HIOSC=$PWD/old-hiosc cargo build"], &[]);
    let expected =
        format!("{} has version 0.0.9, but this project uses hiosc {}: install it with", old.display(), env!("CARGO_PKG_VERSION"));
    assert!(said.contains(&expected), "{said}");

    // for documentation, the types are enough
    let (succeeded, said) = project.run("cargo", &["doc", "--no-deps", "--quiet"], &[("HIOSC_SKIP", "1"), ("HIOSC", "")]);
    assert!(succeeded, "{said}");

    for (old, _) in times(&project.target, "debug/squeezenet-") {
        fs::remove_file(old).expect("removable");
    }
    project.build(&[]);
    let said = project.test();
    assert!(said.contains("test result: ok. 1 passed"), "{said}");
    let (succeeded, said) = project.run(env!("CARGO_BIN_EXE_hiosc"), &["virtual", "--", "cargo", "run", "--quiet"], &[]);
    assert!(succeeded && said.starts_with("class "), "{said}");
    let (succeeded, said) = project.run("cargo", &["run", "--quiet"], &[("LD_LIBRARY_PATH", "")]);
    assert!(if succeeded { said.starts_with("class ") } else { said.contains("Error: NoDriver") }, "{said}");

    // the program and its weights, elsewhere, with nothing else
    let weights: Vec<_> = times(&project.target.join("debug"), "debug/squeezenet-").into_iter().map(|(path, _)| path).collect();
    let [weights] = &weights[..] else { panic!("{weights:?}") };
    let elsewhere = project.at("elsewhere");
    fs::create_dir(&elsewhere).expect("a folder");
    let program = elsewhere.join("program");
    fs::copy(project.target.join("debug/my-project"), &program).expect("the program");
    let start = ["virtual", "--", program.to_str().expect("UTF-8")];
    let (succeeded, said) = project.run(env!("CARGO_BIN_EXE_hiosc"), &start, &[]);
    assert!(!succeeded && said.contains("WeightsMissing"), "{said}");
    fs::copy(weights, elsewhere.join(weights.file_name().expect("a name"))).expect("the weights");
    let (succeeded, said) = project.run(env!("CARGO_BIN_EXE_hiosc"), &start, &[]);
    assert!(succeeded && said.starts_with("class "), "{said}");
    let bytes = fs::read(&program).expect("the program");
    for path in [&*project.at("squeezenet").to_string_lossy(), "weights.safetensors"] {
        let found = bytes.windows(path.len()).any(|window| window == path.as_bytes());
        assert_eq!(found, path == "weights.safetensors", "{path} in the program, which must not contain paths of its build");
    }
}

/// `y = x w`, with `w` in a file of its own.
fn model(weights: &str) -> Vec<u8> {
    Model::new()
        .input("x", &[1, 5])
        .output("y", &[1, 2])
        .external_weight("w", &[5, 2], weights)
        .node("MatMul", &["x", "w"], "y", &[])
        .bytes()
}

const TWO_MODELS: &str = r#"
#![deny(warnings, missing_docs, unsafe_code, rust_2018_idioms, unreachable_pub)]
//! Two models.

hiosc::include_model!("left");
hiosc::include_model!("right");

#[test]
fn both_are_right() {
    let options = hiosc::RuntimeOptions::default;
    left::Model::load(options()).unwrap().check().unwrap();
    right::Model::load(options().map_weights(true)).unwrap().check().unwrap();
    assert_eq!(left::Inputs::X_SHAPE, [1, 5]);
}
"#;

const TWO_BUILDS: &str = r#"
fn main() -> Result<(), hiosc::Error> {
    hiosc::Build::new("left/model.onnx").name("left").gpus(1).compile()?;
    hiosc::Build::new("right/model.onnx").name("right").costs("costs.txt").compile()
}
"#;

fn a_member_of_a_workspace_has_two_models() {
    let project = Project::new("workspace");
    project.write("Cargo.toml", "[workspace]\nmembers = [\"app\"]\nresolver = \"3\"\n");
    let dependency = "hiosc = { path = \"../../hiosc\", default-features = false }\n";
    let package = "[package]\nname = \"app\"\nversion = \"0.1.0\"\nedition = \"2024\"\n";
    project.write("app/Cargo.toml", format!("{package}\n[dependencies]\n{dependency}\n[build-dependencies]\n{dependency}"));
    project.write("app/src/lib.rs", TWO_MODELS);
    let weights = |seed: u8| (0..10).flat_map(|i| (f32::from(seed) + i as f32).to_le_bytes()).collect::<Vec<u8>>();
    for side in ["left", "right"] {
        project.write(&format!("app/{side}/model.onnx"), model("weights of w.bin"));
        project.write(&format!("app/{side}/weights of w.bin"), weights(1));
    }

    project.write("app/build.rs", TWO_BUILDS.replace(".name(\"right\")", "").replace(".name(\"left\")", ""));
    let (succeeded, said) = project.run("cargo", &["build"], &[]);
    let clash = "left/model.onnx and right/model.onnx would both become the module `model`: give one of them another name with Build::name";
    assert!(!succeeded && said.contains(clash), "{said}");

    project.write("app/build.rs", TWO_BUILDS);
    let (succeeded, said) = project.run("cargo", &["build"], &[]);
    assert!(!succeeded && said.contains("hiosc: costs.txt: No such file"), "{said}");
    let costs = |gpus: &str| {
        let (succeeded, said) = project.run(env!("CARGO_BIN_EXE_hiosc"), &["app/right/model.onnx", "--emit", "costs", "--gpus", gpus], &[]);
        assert!(succeeded, "{said}");
        said
    };
    project.write("app/costs.txt", costs("1"));
    for (old, _) in ["debug/left-", "debug/right-"].iter().flat_map(|part| times(&project.target, part)) {
        fs::remove_file(old).expect("removable");
    }
    project.build(&[]);
    let said = project.test();
    assert!(said.contains("both_are_right ... ok"), "{said}");

    let out = |project: &Project| times(&project.target.join("debug/build"), "/out/");
    let before = out(&project);
    assert!(!project.build(&[]).contains("Compiling"), "nothing changed");
    assert!(before.iter().any(|(path, _)| path.ends_with("right/src/plan.rs")));
    let rebuilt = |change: &str, variables: &[(&str, &str)]| {
        let said = project.build(variables);
        assert!(said.contains("Compiling app"), "{change}: {said}");
    };
    project.write("app/left/weights of w.bin", weights(2));
    rebuilt("external data", &[]);
    let unchanged = |name: &str| {
        let at = |all: &[(PathBuf, std::time::SystemTime)]| {
            all.iter().filter(|(path, _)| path.to_string_lossy().contains(&format!("/out/{name}/"))).cloned().collect::<Vec<_>>()
        };
        at(&before) == at(&out(&project))
    };
    assert!(unchanged("right") && !unchanged("left"), "only the module of the changed model is written");
    project.write("app/costs.txt", costs("2"));
    rebuilt("costs", &[]);
    project.write("app/right/model.onnx", Model::new().input("x", &[1, 5]).output("y", &[1, 5]).node("Relu", &["x"], "y", &[]).bytes());
    project.write("app/costs.txt", costs("1"));
    rebuilt("the model", &[]);
    let weights = times(&project.target, "debug/left-").pop().expect("weights beside the executables").0;
    fs::remove_file(&weights).expect("removable");
    rebuilt("deleted weights", &[]);
    assert!(weights.exists() && !project.build(&[]).contains("Compiling"), "the weights are there again, and nothing else happens");
    rebuilt("a variable", &[("CUDA_HOME", "/opt/cuda")]);
    assert!(!project.build(&[("CUDA_HOME", "/opt/cuda")]).contains("Compiling"), "nothing changed");
}

#[test]
fn a_project_whose_build_script_contains_the_compiler() {
    if std::env::var_os("HIOSC_TEST_DOWNSTREAM").is_none_or(|value| value != "1") {
        skipped!("SKIPPED: a project with the compiler as a build dependency takes a minute or two; set HIOSC_TEST_DOWNSTREAM=1 to run it");
        return;
    }
    let mut project = Project::of_the_readme("heavy");
    project.target = target_folder();
    let manifest = project.read("Cargo.toml");
    let (normal, build) = manifest.split_once("[build-dependencies]").expect("a build dependency");
    // `cli` is not needed: with it, Cargo reuses the dependencies of this checkout
    let heavy = build.replace("default-features = false", "default-features = false, features = [\"compiler\", \"cli\"]");
    assert_ne!(heavy, build);
    // hiosc's resolver and profile, so that Cargo reuses the compiled dependencies
    project.write("Cargo.toml", format!("{normal}[build-dependencies]{heavy}\n[workspace]\nresolver = \"1\"\n"));
    let own = fs::read_to_string(root().join("Cargo.toml")).expect("hiosc's manifest");
    let profile = own.find("\n[profile.release]").expect("hiosc's profile");
    project.write("profile.toml", &own[profile..]);
    let cargo = |arguments: &[&str]| {
        let flags = ["--release", "--config", "profile.toml"];
        let (succeeded, said) = project.run(
            env!("CARGO_BIN_EXE_hiosc"),
            &[&["virtual", "--", "cargo"], arguments, &flags].concat(),
            &[("HIOSC", "/no/such/program"), ("RUSTDOCFLAGS", "-D warnings")],
        );
        // Here hiosc is as others see it, without the feature `internals`. A warning would be a
        // type that they can reach but not name, or a page that links to something private.
        assert!(succeeded && !said.contains("warning"), "{said}");
        said
    };
    let said = cargo(&["test"]);
    assert!(said.contains("test result: ok. 1 passed"), "{said}");
    // the installed program, which is the light way, writes the same files
    let light = ["squeezenet.onnx", "--module", "squeezenet", "-o", "light", "--device", "a40"];
    let (succeeded, said) = project.run(env!("CARGO_BIN_EXE_hiosc"), &light, &[]);
    assert!(succeeded, "{said}");
    let built = times(&project.target.join("release/build"), "/out/squeezenet/src/plan.rs");
    let newest = built.iter().max_by_key(|(_, time)| *time).expect("a module");
    let heavy = newest.0.ancestors().nth(2).expect("its folder");
    assert!(tree(heavy) == tree(&project.at("light/squeezenet")), "{} differs from the program's output", heavy.display());
    cargo(&["doc", "--no-deps", "--package", "hiosc"]);
}
