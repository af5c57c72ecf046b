//! Checks that no word is used that CONTRIBUTING.md's table of words replaces, in anything that a
//! user or a contributor reads: the README, the docs, `--help`, errors, comments and identifiers.
//!
//! A row `| words | instead | where |` names a *word* anywhere, or, in backticks, an *identifier*
//! of Rust code. `where` is `everywhere`, or a list of folders and files.

use std::collections::BTreeSet;
use std::str::FromStr;

use proc_macro2::{TokenStream, TokenTree};

use super::{root, texts};

/// Everything that is checked: files and folders, with the ends of file names.
const EVERYWHERE: [(&str, &[&str]); 23] = [
    ("README.md", &[""]),
    ("CHANGELOG.md", &[""]),
    ("docs", &[".md"]),
    ("src", &[".rs"]),
    ("tests", &[".rs"]),
    ("examples", &[".rs", ".md"]),
    ("benches", &[".rs"]),
    ("fuzz/fuzz_targets", &[".rs"]),
    ("fuzz/src", &[".rs"]),
    ("fuzz/README.md", &[""]),
    ("kernels", &[".cuh"]),
    ("vgpu", &[".cpp", ".h"]),
    ("templates", &[".hbs"]),
    ("benchmarks", &[".sh", ".py"]),
    ("fuzz/run", &[""]),
    ("fuzz/Cargo.toml", &[""]),
    ("deny.toml", &[""]),
    ("testdata/README.md", &[""]),
    ("src/device", &[".txt"]),
    ("build.rs", &[""]),
    ("Cargo.toml", &[""]),
    (".ci", &["run"]),
    (".github", &[".yml"]),
];

/// One word that is not used.
struct Row {
    word: String,
    /// Whether only identifiers count.
    identifier: bool,
    instead: String,
    /// Beginnings of paths; empty means everywhere.
    paths: Vec<String>,
}

/// The rows of the page's table.
fn rows(page: &str) -> Vec<Row> {
    let table = page.lines().skip_while(|line| !line.starts_with("| not |")).skip(2).take_while(|line| line.starts_with('|'));
    let mut rows = Vec::new();
    for line in table {
        let [words, instead, column] = line.trim_matches('|').split('|').map(str::trim).collect::<Vec<_>>()[..] else {
            panic!("a row of three columns: {line}")
        };
        let paths: Vec<String> = match column {
            "everywhere" => Vec::new(),
            _ => column.split(',').map(|path| path.trim().trim_matches('`').to_string()).collect(),
        };
        for word in words.split(',').map(str::trim) {
            let identifier = word.starts_with('`');
            rows.push(Row { word: word.trim_matches('`').into(), identifier, instead: instead.into(), paths: paths.clone() });
        }
    }
    rows
}

/// The words of a text in lower case, and those that make up its names: `GpuOf` and `gpu_of` have
/// `gpu` and `of`.
fn words(line: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut word = String::new();
    let mut last_lower = false;
    for c in line.chars().chain([' ']) {
        if (!c.is_alphabetic() || (c.is_uppercase() && last_lower)) && !word.is_empty() {
            found.insert(std::mem::take(&mut word));
        }
        if c.is_alphabetic() {
            word.extend(c.to_lowercase());
        }
        last_lower = c.is_lowercase();
    }
    found
}

/// The identifiers of Rust code; none if it does not parse.
fn identifiers(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut waiting: Vec<TokenStream> = TokenStream::from_str(text).into_iter().collect();
    while let Some(stream) = waiting.pop() {
        for token in stream {
            match token {
                TokenTree::Group(group) => waiting.push(group.stream()),
                TokenTree::Ident(ident) => drop(found.insert(ident.to_string())),
                _ => {}
            }
        }
    }
    found
}

/// Where `text` at `path` uses a word of `rows`.
fn used(path: &str, text: &str, rows: &[Row]) -> Vec<String> {
    let here = |row: &&Row| row.paths.is_empty() || row.paths.iter().any(|begin| path.starts_with(begin.as_str()));
    let mut found = Vec::new();
    let names = if path.ends_with(".rs") { identifiers(text) } else { BTreeSet::new() };
    for row in rows.iter().filter(here) {
        if row.identifier {
            if names.contains(&row.word) {
                found.push(format!("{path}: the name `{}`; write {}", row.word, row.instead));
            }
            continue;
        }
        for (number, line) in text.lines().enumerate().filter(|(_, line)| words(line).contains(&row.word)) {
            found.push(format!("{path}:{}: \"{}\"; write {}: {}", number + 1, row.word, row.instead, line.trim()));
        }
    }
    found
}

#[test]
fn words_of_the_field_are_used() {
    let page = std::fs::read_to_string(root().join("CONTRIBUTING.md")).expect("CONTRIBUTING.md");
    let rows = rows(&page);
    assert!(rows.len() > 15, "the table of words is not where it was");
    let mut found = Vec::new();
    for (folder, ends) in EVERYWHERE.into_iter().filter(|(folder, _)| root().join(folder).exists()) {
        for (path, text) in texts(folder, ends).into_iter().filter(|(path, _)| path != "tests/conventions/words.rs") {
            found.extend(used(&path, &text, &rows));
        }
    }
    assert!(found.is_empty(), "words that CONTRIBUTING.md replaces:\n{}", found.join("\n"));
}

#[test]
fn replaced_words_are_found() {
    let table = "| not | but | where |\n|---|---|---|\n| attic, loft | cellar | everywhere |\n| `shelf` | rack | `src/store` |\n";
    let rows = rows(table);
    let found = |path: &str, text: &str| used(path, text, &rows).len();
    assert_eq!(found("docs/a.md", "an attic"), 1);
    assert_eq!(found("src/a.rs", "fn attic_of() {} // in the Loft"), 2);
    assert_eq!(found("src/a.rs", "struct MyAttic;"), 1);
    assert_eq!(found("src/a.rs", "fn rattic() {}"), 0);
    assert_eq!(found("src/store/a.rs", "let shelf = 1; // a shelf"), 1);
    assert_eq!(found("src/store/a.rs", "// a shelf"), 0);
    assert_eq!(found("src/a.rs", "let shelf = 1;"), 0);
}
