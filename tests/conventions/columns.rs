//! Checks that comments are at most 100 columns wide. Lines that cannot be broken are exempt: code
//! in a fence, rows of a table, and lines of one word, such as an address.

use super::texts;

const WIDTH: usize = 100;

/// The folders, the ends of their files' names, and what begins a comment.
const FOLDERS: [(&str, &[&str], &str); 17] = [
    ("src", &[".rs"], "//"),
    ("tests", &[".rs"], "//"),
    ("examples", &[".rs"], "//"),
    ("benches", &[".rs"], "//"),
    ("fuzz/fuzz_targets", &[".rs"], "//"),
    ("fuzz/src", &[".rs"], "//"),
    ("kernels", &[".cuh"], "//"),
    ("vgpu", &[".cpp", ".h"], "//"),
    ("build.rs", &[""], "//"),
    ("templates", &[".rs.hbs"], "//"),
    ("templates/Cargo.toml.hbs", &[""], "#"),
    ("benchmarks", &[".sh", ".py"], "#"),
    ("fuzz/run", &[""], "#"),
    ("fuzz/Cargo.toml", &[""], "#"),
    ("Cargo.toml", &[""], "#"),
    (".ci", &["run"], "#"),
    (".github", &[".yml"], "#"),
];

/// The numbers of the lines of `text` that are comments and too wide.
fn wide(text: &str, begins: &str) -> Vec<usize> {
    let mut fenced = false;
    let mut found = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let Some(comment) = line.trim_start().strip_prefix(begins) else {
            fenced = false;
            continue;
        };
        let comment = comment.trim_start_matches(['/', '!']).trim();
        if comment.starts_with("```") {
            fenced = !fenced;
        }
        let breakable = !fenced && !comment.starts_with('|') && comment.contains(' ');
        if breakable && line.chars().count() > WIDTH {
            found.push(number + 1);
        }
    }
    found
}

#[test]
fn comments_are_at_most_100_columns_wide() {
    let mut found = Vec::new();
    for (folder, ends, begins) in FOLDERS {
        for (path, text) in texts(folder, ends) {
            found.extend(wide(&text, begins).into_iter().map(|line| format!("{path}:{line}")));
        }
    }
    assert!(found.is_empty(), "comments wider than {WIDTH} columns:\n{}", found.join("\n"));
}

#[test]
fn wide_comments_are_found() {
    let long = "word ".repeat(25);
    assert_eq!(wide(&format!("// short\n    /// {long}\ncode();\n//! {long}"), "//"), [2, 4]);
    assert_eq!(wide(&format!("// ```\n// {long}\n// ```\n// | {long}\n// {}\nlet x = \"{long}\";", "x".repeat(120)), "//"), [0; 0]);
}
