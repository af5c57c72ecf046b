//! Generated crates in other people's hands: cargo's own tools have nothing to say about them, they
//! may be in any workspace, and their weights may be anywhere.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::emit::{BUILD, build, cargo, krate_with, text, tree, weights_file};
use crate::support::small::{self, Compiled, compiled};
use crate::support::{skipped, target_folder};
use hiosc::emit::{self, CrateOptions};
use hiosc::schedule::Algorithm;
use hiosc::{VerifyOptions, verify, vgpu};

/// The crate of `c`, with its own kernels.
fn crate_of(c: &Compiled, options: &CrateOptions) -> emit::Crate {
    krate_with(c, &c.shipped, options)
}

#[test]
fn cargos_tools_have_nothing_to_say() {
    let options = CrateOptions::default();
    let published = options.clone().name("published-net").version("1.2.3-rc.1").license("MIT OR Apache-2.0").publish(true);
    let crates = [
        ("small_net", crate_of(&compiled(Algorithm::Scatter, 2), &options)),
        ("typed", crate_of(&small::plan_of(small::typed(), Algorithm::Scatter, 2), &options.clone().embed_weights(true).standalone(true))),
        ("published-net", crate_of(&small::plan_of(small::fan(90), Algorithm::Sequential, 1), &published)),
    ];
    let [_, embedded, published] = &crates;
    assert!(!embedded.1.files.contains_key("build.rs"), "nothing has to be put beside the executables");
    for line in ["name = \"published-net\"", "version = \"1.2.3-rc.1\"", "license = \"MIT OR Apache-2.0\""] {
        assert!(text(&published.1, "Cargo.toml").lines().any(|found| found == line), "no {line}");
    }
    assert!(!text(&published.1, "Cargo.toml").contains("publish = ") && text(&embedded.1, "Cargo.toml").contains("\npublish = false\n"));

    let _guard = BUILD.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let scratch = tempfile::tempdir().expect("a temporary folder");
    for (package, krate) in &crates {
        let out = scratch.path().join(package);
        emit::write(krate, &out).expect("written");
        let manifest = out.join("Cargo.toml");
        let run = |arguments: &[&str]| {
            let output = cargo(&manifest, arguments);
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success() && said.is_empty(), "{package}: cargo {arguments:?}:\n{said}");
        };
        let plain = |arguments: &[&str]| {
            let mut command = Command::new(env!("CARGO"));
            command.args(arguments).arg("--manifest-path").arg(&manifest).env("CARGO_TARGET_DIR", target_folder());
            command.output().expect("cargo starts")
        };
        let format = plain(&["fmt", "--check"]);
        if String::from_utf8_lossy(&format.stderr).contains("not installed") {
            skipped!("SKIPPED: rustfmt is not installed");
        } else {
            assert!(format.status.success(), "{package}: {}", String::from_utf8_lossy(&format.stdout));
        }
        for mark in ["Cargo.toml", "src/lib.rs", "src/runtime/mod.rs"] {
            assert!(text(krate, mark).lines().next().is_some_and(|line| line.contains("@generated")), "{package}: {mark}");
        }
        run(&["clippy", "--all-targets", "--locked"]);
        run(&["doc", "--no-deps", "--locked"]);
        // packs the crate, and builds what it packed
        let output = plain(&["package", "--allow-dirty", "--offline"]);
        assert!(output.status.success(), "{package}: {}", String::from_utf8_lossy(&output.stderr));
        let version = if *package == "published-net" { "1.2.3-rc.1" } else { "0.1.0" };
        let packed = target_folder().join("package").join(format!("{package}-{version}"));
        assert_eq!(packed.join("weights.safetensors").exists(), *package == "typed", "{package}: the weights");
        assert!(packed.join("src/plan.rs").exists(), "{package} is not in {}", packed.display());
    }
}

/// A program that gets its weights as its argument says.
const PROGRAM: &str = r#"
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use small_net::{Error, Inputs, Model, Outputs, RuntimeOptions};

/// Counts allocations.
struct Counting;
static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);
// SAFETY: the system's allocator does all the work.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        unsafe { System.dealloc(memory, layout) }
    }
}
#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn main() -> Result<(), Error> {
    let arguments: Vec<String> = std::env::args().collect();
    let options = RuntimeOptions::default();
    let mut model = match arguments.get(1).map(String::as_str) {
        None => Model::load(options)?,
        Some("bytes") => Model::load_from_bytes(&std::fs::read(&arguments[2]).unwrap(), options)?,
        Some("file") => Model::load(options.weights(&arguments[2]))?,
        Some("map") => Model::load(options.weights(&arguments[2]).map_weights(true))?,
        other => panic!("{other:?}"),
    };
    model.check()?;
    assert_eq!(Inputs::DATA_0_SHAPE, [1, 3, 16, 16]);
    assert_eq!(Outputs::OUT_1_OUTPUT_0_SHAPE.len(), 4);
    let (data_0, type_) = (vec![0.5; 3 * 16 * 16], vec![1.0; 24 * 8 * 8]);
    let (inputs, mut outputs) = (Inputs { data_0: &data_0, type_: &type_ }, Outputs::default());
    let expected = model.run(&inputs)?;
    model.run_into(&inputs, &mut outputs)?;
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    model.run_into(&inputs, &mut outputs)?;
    println!("{} allocations, equal: {}", ALLOCATIONS.load(Ordering::Relaxed) - before, outputs == expected);
    assert!(format!("{model:?}").contains("summary"));
    Ok(())
}
"#;

#[test]
fn weights_come_from_anywhere() {
    if !vgpu::compiler_present() {
        skipped!("SKIPPED: no C++ compiler, so no virtual GPUs");
        return;
    }
    // the crate is a member of its user's workspace
    let c = compiled(Algorithm::Scatter, 2);
    let krate = crate_of(&c, &CrateOptions::default());
    let Some((built, guard)) = build(&krate, "small_net") else { return };
    let workspace = built.folder.path().join("workspace");
    emit::write(&krate, &workspace.join("models/net")).expect("written");
    fs::create_dir_all(workspace.join("app/src")).expect("a folder");
    fs::write(workspace.join("Cargo.toml"), "[workspace]\nmembers = [\"app\", \"models/*\"]\nresolver = \"3\"\n").expect("written");
    let manifest = "[package]\nname = \"weights_user\"\nversion = \"0.1.0\"\nedition = \"2024\"\n[dependencies]\nsmall_net = { path = \"../models/net\" }\n";
    fs::write(workspace.join("app/Cargo.toml"), manifest).expect("written");
    fs::write(workspace.join("app/src/main.rs"), PROGRAM).expect("written");
    fs::copy(built.out().join("Cargo.lock"), workspace.join("Cargo.lock")).expect("the same versions");
    let compiled = cargo(&workspace.join("Cargo.toml"), &["build", "--workspace"]);
    let said = String::from_utf8_lossy(&compiled.stderr);
    assert!(compiled.status.success() && !said.contains("warning"), "{said}");
    let weights = weights_file(&krate);
    let beside: Vec<PathBuf> = fs::read_dir(target_folder().join("release"))
        .expect("a folder")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| fs::read(path).is_ok_and(|bytes| bytes == weights))
        .collect();
    let [beside] = &beside[..] else { panic!("the weights are beside the executables {} times", beside.len()) };
    let elsewhere = built.folder.path().join("else where");
    fs::create_dir(&elsewhere).expect("a folder");
    let program = elsewhere.join("program");
    fs::copy(target_folder().join("release/weights_user"), &program).expect("a program");
    fs::remove_dir_all(&workspace).expect("removable");
    drop(guard);

    let passes = |arguments: &[&str]| {
        let (passed, said) = built.run(&program, arguments, &[]);
        assert!(passed && said.contains("0 allocations, equal: true"), "{arguments:?}: {said}");
    };
    let fails = |arguments: &[&str], expected: &str| {
        let (passed, said) = built.run(&program, arguments, &[]);
        assert!(!passed && said.contains(expected), "{arguments:?}: {said}");
    };
    let weights = built.weights().to_string_lossy().into_owned();
    for from in ["bytes", "file", "map"] {
        passes(&[from, &weights]);
        fails(&[from, &program.to_string_lossy()], "WeightsMismatch");
    }
    fails(&[], "WeightsMissing");
    fs::copy(beside, elsewhere.join(beside.file_name().expect("a name"))).expect("the weights");
    passes(&[]);
    let bytes = fs::read(&program).expect("the program");
    let folder = workspace.to_string_lossy().into_owned();
    assert!(!bytes.windows(folder.len()).any(|window| window == folder.as_bytes()), "the program contains its folder");
}

#[test]
fn weights_are_where_the_crate_was_told() {
    let c = compiled(Algorithm::Scatter, 2);
    let embedded = crate_of(&c, &CrateOptions::default().embed_weights(true));
    let Some((built, guard)) = build(&embedded, "small_net") else { return };
    drop(guard);
    fs::remove_file(built.weights()).expect("removable");
    let (passed, said) = built.check(&[], &[]);
    assert!(passed, "{said}");

    let path = built.folder.path().join("place/of the weights");
    let placed = crate_of(&c, &CrateOptions::default().weights_path(&path.to_string_lossy()));
    let Some((built, guard)) = build(&placed, "small_net") else { return };
    drop(guard);
    fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
    fs::rename(built.weights(), &path).expect("moved");
    let (passed, said) = built.check(&[], &[]);
    assert!(passed, "{said}");
}

#[test]
fn a_crate_is_verified_below_a_workspace_that_does_not_list_it() {
    if !vgpu::compiler_present() {
        skipped!("SKIPPED: no C++ compiler, so no virtual GPUs");
        return;
    }
    let scratch = tempfile::tempdir().expect("a temporary folder");
    fs::write(scratch.path().join("Cargo.toml"), "[workspace]\nmembers = []\n").expect("written");
    let c = compiled(Algorithm::Scatter, 2);
    let verified = |options: &CrateOptions| -> PathBuf {
        let out = scratch.path().join("below/net");
        emit::write(&crate_of(&c, options), &out).expect("written");
        let before = tree(&out);
        verify(&out, &VerifyOptions::default().on_virtual(true)).unwrap_or_else(|e| panic!("{options:?}: {e}"));
        assert!(tree(&out) == before, "verifying changed the crate's folder");
        out
    };
    let options = CrateOptions::default();
    let builds = |out: &Path| {
        let _guard = BUILD.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let output = cargo(&out.join("Cargo.toml"), &["check", "--locked"]);
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let out = verified(&options);
    let (succeeded, said) = builds(&out);
    assert!(!succeeded && said.contains("current package believes it's in a workspace when it's not"), "{said}");
    let out = verified(&options.clone().standalone(true));
    let (succeeded, said) = builds(&out);
    assert!(succeeded, "{said}");
    verified(&options.clone().embed_weights(true).name("another-name"));
}

#[test]
fn names_versions_and_licences_that_cargo_refuses_are_refused() {
    let compile =
        |options: CrateOptions| hiosc::Compiler::new("no-such-model.onnx").package(options).compile().expect_err("refused").to_string();
    let options = CrateOptions::default();
    for name in ["", "1net", "Net", "a b", "fn", "sha2", "a/b", "test", "nét"] {
        let expected = "use lower-case letters, digits, - and _, beginning with a letter, and not the name of a keyword or of a dependency";
        assert_eq!(compile(options.clone().name(name)), format!("a package cannot be called `{name}`: {expected}"));
    }
    assert!(compile(options.clone().version("1.0")).starts_with("`1.0` is not a version such as 0.1.0: "));
    for license in ["", " ", "MIT/Apache", "\"MIT\""] {
        let expected = format!("`{license}` is not an SPDX expression such as MIT OR Apache-2.0");
        assert_eq!(compile(options.clone().license(license)), expected);
    }
    let module = |name| hiosc::Compiler::new("no-such-model.onnx").module(name).compile().expect_err("refused").to_string();
    for name in ["", "Net", "a-b", "fn", "hiosc", "a b", "../x", "1a"] {
        let expected = "use lower-case letters, digits and _; not a keyword, std or hiosc";
        assert_eq!(module(name), format!("`{name}` cannot be the name of a module: {expected}"));
    }
}
