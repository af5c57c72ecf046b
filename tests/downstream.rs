//! The example of a project whose `build.rs` calls hiosc: copied, built and tested as its user would do it, with this checkout as its dependency.
//!
//! hiosc is a build dependency there, and Cargo compiles tract once more for it: minutes. So the test runs only where `HIOSC_TEST_DOWNSTREAM=1` is set, and says so elsewhere.

use std::fs;
use std::path::Path;
use std::process::Command;

#[test]
fn a_project_with_a_build_script_runs_the_model() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("HIOSC_TEST_DOWNSTREAM").is_none_or(|value| value != "1") {
        println!("SKIPPED: examples/downstream takes minutes to build; set HIOSC_TEST_DOWNSTREAM=1 to run it");
        return;
    }
    // A copy, so that Cargo writes nothing into the checkout. The same lock file, so that nothing has to be fetched.
    let copy = Path::new(env!("CARGO_TARGET_TMPDIR")).join("downstream");
    fs::create_dir_all(copy.join("src")).expect("a folder");
    fs::create_dir_all(copy.join("tests")).expect("a folder");
    for file in ["Cargo.toml", "build.rs", "src/lib.rs", "tests/virtual_gpus.rs"] {
        let text = fs::read_to_string(root.join("examples/downstream").join(file)).expect("a file of the example");
        let text = text.replace("path = \"../..\"", &format!("path = {root:?}"));
        let text = text.replace("concat!(env!(\"CARGO_MANIFEST_DIR\"), \"/../../testdata/", &format!("concat!({root:?}, \"/testdata/"));
        fs::write(copy.join(file), text).expect("a copy");
    }
    fs::copy(root.join("Cargo.lock"), copy.join("Cargo.lock")).expect("the same versions");
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["test", "--release", "--offline", "--manifest-path"]).arg(copy.join("Cargo.toml"));
    // the folder that this test was built in: most dependencies are there already
    cargo.arg("--target-dir").arg(Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("a target folder"));
    let output = cargo.args(["--", "--nocapture"]).output().expect("cargo starts");
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}");
    assert!(said.contains("1000 classes on two virtual GPUs") || said.contains("SKIPPED: no C++ compiler"), "{said}");
}
