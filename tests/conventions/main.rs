//! Checks what CONTRIBUTING.md and docs/architecture.md say about this source tree: the order of
//! the passes, the words that are used, the width of comments.

mod columns;
mod layers;
mod words;

use std::path::{Path, PathBuf};
use std::{fs, io};

/// The root of the source tree.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Everything under `folder` whose name ends with one of `ends`: path below the root, and text.
fn texts(folder: &str, ends: &[&str]) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut waiting = vec![PathBuf::from(folder)];
    while let Some(at) = waiting.pop() {
        let path = root().join(&at);
        if path.is_dir() {
            let entries =
                fs::read_dir(&path).and_then(|entries| entries.map(|e| e.map(|e| at.join(e.file_name()))).collect::<io::Result<Vec<_>>>());
            waiting.extend(entries.expect("a folder of the source tree"));
        } else if ends.iter().any(|end| at.to_string_lossy().ends_with(end)) {
            found.push((at.to_string_lossy().into_owned(), fs::read_to_string(&path).expect("a text")));
        }
    }
    found.sort();
    found
}
