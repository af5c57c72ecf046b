//! A whole generated crate as text, to be read and compared: `testdata/golden/inception/` is what
//! hiosc generates from `networks::inception` for two A40s, with HIOS-LP and kernels as sources.
//!
//! Files that say nothing about the generator are left out, see [`left_out`]. `Cargo.toml` is kept
//! as `Cargo.toml.txt`, so that Cargo does not see the folder as a package.
//!
//! `HIOSC_BLESS=1 cargo test --release --test passes golden` rewrites the folder: look at the diff
//! before you commit it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use crate::cases::difference;
use crate::support::networks;
use hiosc::Compiler;
use hiosc::compiler::parts;
use hiosc::program::KernelMode;
use hiosc::schedule::Algorithm;

/// Whether a file of the crate is left out: exact copies from this repository (`src/runtime/`, the
/// headers in `kernels/`), `Cargo.lock`, which is a part of this repository's, and binary tensors.
fn left_out(path: &str) -> bool {
    let copied = path.starts_with("src/runtime/") || path.ends_with(".cuh");
    copied || path == "Cargo.lock" || path.ends_with(".safetensors")
}

/// The name under which a file of the crate is kept.
fn kept_as(path: &str) -> String {
    if path == "Cargo.toml" { "Cargo.toml.txt".into() } else { path.into() }
}

/// The files that hiosc generates now, by the names under which they are kept.
fn made() -> BTreeMap<String, String> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let model = networks::inception().save(folder.path(), "inception");
    let compiler = Compiler::new(model).device("a40").gpus(2).algorithm(Algorithm::HiosLp).check(false).kernels(KernelMode::Source);
    let compilation = compiler.compile().expect("a compilation");
    let files = parts(&compilation).2.files.clone();
    for copied in ["src/runtime/mod.rs", "kernels/hiosc.cuh", "Cargo.lock"] {
        assert!(files.contains_key(copied) && left_out(copied), "{copied} is a file that is left out");
    }
    let text = |path: &str, bytes| String::from_utf8(bytes).unwrap_or_else(|_| panic!("{path} is not text"));
    files.into_iter().filter(|(path, _)| !left_out(path)).map(|(path, bytes)| (kept_as(&path), text(&path, bytes))).collect()
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/golden/inception")
}

/// The files of a folder and below, by their names in it.
fn kept(root: &Path, folder: &Path, files: &mut BTreeMap<String, String>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries {
        let path = entry.expect("a readable folder").path();
        if path.is_dir() {
            kept(root, &path, files);
        } else {
            let name = path.strip_prefix(root).expect("a file below").to_string_lossy().replace('\\', "/");
            files.insert(name, fs::read_to_string(&path).expect("a readable file"));
        }
    }
}

/// Rewrites the folder.
fn bless(made: &BTreeMap<String, String>) {
    let folder = folder();
    if folder.is_dir() {
        fs::remove_dir_all(&folder).expect("a writable folder");
    }
    for (name, text) in made {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().expect("a folder")).and_then(|()| fs::write(path, text)).expect("a writable folder");
    }
}

#[test]
fn the_crate_matches_testdata() {
    let made = made();
    let mut expected = BTreeMap::new();
    kept(&folder(), &folder(), &mut expected);
    if made == expected {
        return;
    }
    if std::env::var_os("HIOSC_BLESS").is_some_and(|value| value == "1") {
        bless(&made);
        println!("blessed {}", folder().display());
        return;
    }
    let names: BTreeSet<&String> = made.keys().chain(expected.keys()).collect();
    let mut report = String::new();
    for name in names {
        match (expected.get(name), made.get(name)) {
            (Some(old), Some(new)) if old == new => {}
            (Some(old), Some(new)) => report += &format!("{name}\n{}\n", difference(old, new)),
            (None, _) => report += &format!("{name} is new\n\n"),
            (_, None) => report += &format!("{name} is no longer generated\n\n"),
        }
    }
    panic!(
        "the generated crate differs from testdata/golden/inception (- expected, + found). If this is meant: \
         HIOSC_BLESS=1 cargo test --release --test passes golden\n\n{report}"
    );
}
