//! Text cases: what a small model becomes, pass by pass, as `--emit` prints it.
//!
//! Each file in `testdata/cases/` is one case. It begins with comments that say what it is for, and
//! with its settings. Then come a line `---` and the text that hiosc must print:
//!
//! ```text
//! # A fire module of SqueezeNet: too small to gain from a second GPU.
//! model: fire
//! gpus: 2 x a40
//! link: nvlink
//! algorithms: sequential, hios-lp
//! ---
//! ```
//!
//! The graph is printed once, schedule and plan once for each algorithm. A file added to the folder
//! is a new case. Models are in `support/networks.rs`.
//! `HIOSC_BLESS=1 cargo test --release --test passes cases` writes what hiosc prints now into every
//! file: look at the diff before you commit it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::support::networks;
use crate::support::onnx::Model;
use crate::support::shared::shared_model;
use hiosc::Compiler;
use hiosc::compiler::{Passes, parts};
use hiosc::schedule::{self, Algorithm};

/// Separates the settings from the expected text.
const RULE: &str = "---\n";

fn model(name: &str) -> Option<Model> {
    Some(match name {
        "fire" => networks::fire(),
        "inception" => networks::inception(),
        "residual" => networks::residual(),
        _ => return None,
    })
}

/// The settings of a case, by name.
struct Settings<'t>(BTreeMap<&'t str, &'t str>);

impl<'t> Settings<'t> {
    fn parse(text: &'t str) -> Settings<'t> {
        let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        Settings(lines.map(|line| line.split_once(": ").unwrap_or_else(|| panic!("{line:?} is not `setting: value`"))).collect())
    }

    fn get(&self, name: &str) -> &'t str {
        self.0.get(name).unwrap_or_else(|| panic!("the setting `{name}` is missing"))
    }
}

/// What hiosc prints for these settings.
fn print(settings: &Settings) -> String {
    let name = settings.get("model");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = model(name).unwrap_or_else(|| panic!("there is no model {name:?} in tests/support/networks.rs")).save(folder.path(), name);
    let (count, device) = settings.get("gpus").split_once(" x ").expect("gpus: COUNT x DEVICE");
    let compiler =
        Compiler::new(path).device(device).gpus(count.parse().expect("a number of GPUs")).link(settings.get("link")).check(false);

    let mut text = String::new();
    for algorithm in settings.get("algorithms").split(", ") {
        let algorithm: Algorithm = algorithm.parse().unwrap_or_else(|e| panic!("{e}"));
        let planned = compiler.clone().algorithm(algorithm).plan().unwrap_or_else(|e| panic!("{algorithm}: {e}"));
        let chosen = planned.chosen();
        if text.is_empty() {
            text += &planned.graph.to_string();
        }
        text += &format!("\n== {algorithm}\n\n{}", schedule::to_text(Some(&planned.graph), &chosen.schedule, &chosen.timeline));
        text += &format!("\n{}", planned.plan.text(&planned.graph));
    }
    text
}

fn cases() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/cases");
    let files = fs::read_dir(folder).expect("testdata/cases").map(|entry| entry.expect("a readable folder").path());
    let mut files: Vec<PathBuf> = files.filter(|path| path.extension().is_some_and(|e| e == "txt")).collect();
    files.sort();
    files
}

#[test]
fn cases_print_what_their_files_say() {
    let bless = std::env::var_os("HIOSC_BLESS").is_some_and(|value| value == "1");
    let mut failures = Vec::new();
    let files = cases();
    assert!(!files.is_empty(), "testdata/cases is empty");
    for file in &files {
        let text = fs::read_to_string(file).expect("a readable case");
        let (head, expected) = text.split_once(RULE).unwrap_or_else(|| panic!("{} has no line `---`", file.display()));
        let found = print(&Settings::parse(head));
        if found == expected {
            continue;
        }
        if bless {
            fs::write(file, format!("{head}{RULE}{found}")).expect("a writable case");
            println!("blessed {}", file.display());
        } else {
            failures.push(format!("{}\n{}", file.display(), difference(expected, &found)));
        }
    }
    assert!(
        failures.is_empty(),
        "{} of {} cases differ (- expected, + found). If this is meant: HIOSC_BLESS=1 cargo test --release --test passes cases\n\n{}",
        failures.len(),
        files.len(),
        failures.join("\n")
    );
}

/// `docs/plan.md` shows pieces of generated crates. Each is in a code block after a line
/// `<!-- excerpt FILE: NAME, NAME -->`. From `plan.rs` it has the functions that launch the ONNX
/// nodes of these names, from `buffers.rs` the lines that end in these names. The crate is that of
/// the model in `testdata`, or of the shared model whose name precedes FILE. Without the shared
/// models, its pieces stay as they are.
#[test]
fn the_documented_plan_is_what_hiosc_writes() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let compile = |model: &Path| {
        let compiler = Compiler::new(model).device("a40").gpus(2).algorithm(Algorithm::HiosLp);
        let compilation = compiler.check(false).kernels(hiosc::program::KernelMode::Source).compile().expect("a compilation");
        parts(&compilation).2.clone()
    };
    let own = compile(&root.join("testdata/squeezenet1_1.onnx"));
    let file = root.join("docs/plan.md");
    let text = fs::read_to_string(&file).expect("docs/plan.md");

    let (mut updated, mut rest) = (String::new(), text.as_str());
    let mut excerpts = 0;
    while let Some((before, after)) = rest.split_once("<!-- excerpt ") {
        let (mark, after) = after.split_once(" -->\n```rust\n").expect("a code block behind the mark");
        let (stands, after) = after.split_once("```\n").expect("the end of a code block");
        let (path, names) = mark.split_once(": ").expect("FILE: NAME");
        let names: Vec<&str> = names.split(", ").collect();
        let piece_of = |output: &hiosc::emit::Crate, path: &str| {
            let source = std::str::from_utf8(&output.files[path]).expect("UTF-8");
            if path == "src/plan.rs" { functions(source, &names) } else { lines(source, &names) }
        };
        let piece = match path.split_once(' ') {
            None => piece_of(&own, path),
            Some((name, path)) => shared_model(name).map_or(stands.to_string(), |shared| piece_of(&compile(&shared.model), path)),
        };
        updated += &format!("{before}<!-- excerpt {mark} -->\n```rust\n{piece}```\n");
        rest = after;
        excerpts += 1;
    }
    updated += rest;
    assert!(excerpts > 2, "docs/plan.md has lost its excerpts");
    if std::env::var_os("HIOSC_BLESS").is_some_and(|value| value == "1") {
        fs::write(&file, &updated).expect("a writable docs/plan.md");
    } else if updated != text {
        let difference = difference(&text, &updated);
        panic!(
            "docs/plan.md differs from what hiosc writes. If this is meant: HIOSC_BLESS=1 cargo test --release --test passes cases, and read the \
             text around the excerpts again\n\n{difference}"
        );
    }
}

/// The functions that launch the ONNX nodes of these names.
fn functions(source: &str, names: &[&str]) -> String {
    let function = |name: &&str| {
        let all = source.split_inclusive("\n}\n").map(str::trim_start);
        let found: Vec<&str> = all.filter(|f| f.contains(&format!("\n/// `{name}`: "))).collect();
        assert_eq!(found.len(), 1, "{name} is in {} functions", found.len());
        found[0]
    };
    names.iter().map(function).collect::<Vec<_>>().join("\n")
}

/// The lines that end in these names, in their modules.
fn lines(source: &str, names: &[&str]) -> String {
    let (mut text, mut inside, mut shown) = (String::new(), "", "");
    for line in source.lines() {
        if line.starts_with("pub mod ") {
            inside = line;
        } else if names.iter().any(|name| line.ends_with(&format!("`{name}`"))) {
            if shown != inside {
                text += &format!("{}{inside}\n", if shown.is_empty() { "" } else { "    ...\n}\n" });
                shown = inside;
            }
            text += &format!("{line}\n");
        }
    }
    text + "    ...\n}\n"
}

/// The lines that only `old` (`-`) or only `new` (`+`) has, with some context. Computed from a
/// longest common subsequence.
pub fn difference(old: &str, new: &str) -> String {
    let (old, new): (Vec<&str>, Vec<&str>) = (old.lines().collect(), new.lines().collect());
    // length[i][j]: the most lines that old[i..] and new[j..] have in common
    let mut length = vec![vec![0usize; new.len() + 1]; old.len() + 1];
    for i in (0..old.len()).rev() {
        for j in (0..new.len()).rev() {
            length[i][j] = if old[i] == new[j] { length[i + 1][j + 1] + 1 } else { length[i + 1][j].max(length[i][j + 1]) };
        }
    }
    let (mut i, mut j) = (0, 0);
    let mut lines = Vec::new();
    while i < old.len() || j < new.len() {
        if i < old.len() && j < new.len() && old[i] == new[j] {
            lines.push((' ', old[i]));
            (i, j) = (i + 1, j + 1);
        } else if j == new.len() || i < old.len() && length[i + 1][j] >= length[i][j + 1] {
            lines.push(('-', old[i]));
            i += 1;
        } else {
            lines.push(('+', new[j]));
            j += 1;
        }
    }
    let near = |at: usize| (at.saturating_sub(2)..lines.len().min(at + 3)).any(|k| lines[k].0 != ' ');
    let mut text = String::new();
    let mut gap = false;
    for (at, (sign, line)) in lines.iter().enumerate() {
        if near(at) {
            text += &format!("{}{sign} {line}\n", if gap { "  ...\n" } else { "" });
        }
        gap = !near(at);
    }
    text
}

#[test]
fn a_difference_is_readable() {
    let old = "one\ntwo\nthree\nfour\nfive\nsix\nseven\neight\nnine\nten\n";
    let new = "one\ntwo\nthree\nfour\nFIVE\nsix\nseven\neight\nnine\nten\neleven\n";
    assert_eq!(difference(old, new), "  ...\n  three\n  four\n- five\n+ FIVE\n  six\n  seven\n  ...\n  nine\n  ten\n+ eleven\n");
    assert_eq!(difference(old, old), "");
}
