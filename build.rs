//! Embeds `kernels/`, `templates/`, `vgpu/` and the runtime source into the library, so that an
//! installed hiosc needs no source tree.
//!
//! Writes `$OUT_DIR/embedded.rs`: a sorted table of (path, text) and a hash of them all, which is
//! part of cache keys. Runs no compiler and uses no network.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

use sha2::{Digest, Sha256};

/// The folders that are embedded as a whole.
const EMBEDDED: [&str; 4] = ["kernels", "templates", "vgpu", "src/runtime"];

fn main() -> io::Result<()> {
    // the light way has nothing to compile with these files
    if env::var_os("CARGO_FEATURE_COMPILER").is_none() {
        return Ok(());
    }
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for entry in EMBEDDED {
        println!("cargo::rerun-if-changed={entry}");
        collect(&root.join(entry), &mut files)?;
    }
    let name = |file: &Path| file.strip_prefix(&root).expect("collected below the root").to_string_lossy().replace('\\', "/");
    files.sort_by_key(|file| name(file));

    let mut hash = Sha256::new();
    let mut table = String::from("pub(super) static FILES: &[(&str, &str)] = &[\n");
    for file in &files {
        let name = name(file);
        let text = fs::read(file)?;
        hash.update((name.len() as u64).to_le_bytes());
        hash.update(&name);
        hash.update((text.len() as u64).to_le_bytes());
        hash.update(&text);
        writeln!(table, "    ({name:?}, include_str!({:?})),", file.display().to_string()).expect("writing to a String");
    }
    let hex: String = hash.finalize().iter().map(|b| format!("{b:02x}")).collect();
    writeln!(table, "];\n/// SHA-256 of everything embedded.\npub static CONTENT_HASH: &str = \"{hex}\";").expect("writing to a String");
    fs::write(Path::new(&env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join("embedded.rs"), table)
}

fn collect(path: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    if path.is_dir() {
        for entry in fs::read_dir(path)? {
            collect(&entry?.path(), files)?;
        }
    } else if path.is_file() && !path.file_name().is_some_and(|n| n.to_string_lossy().starts_with('.')) {
        files.push(path.to_path_buf());
    }
    Ok(())
}
