//! Fuzzes import with arbitrary bytes as a model file.

use std::path::PathBuf;
use std::sync::OnceLock;

use hiosc::import;

use crate::accepted;
use crate::pipeline::{self, CompileOptions};

/// The file that holds the bytes, since import takes a path. It is in memory if the system has such
/// a folder. Each process writes one file.
fn file() -> &'static PathBuf {
    static FILE: OnceLock<PathBuf> = OnceLock::new();
    FILE.get_or_init(|| {
        let memory = PathBuf::from("/dev/shm");
        let folder = if memory.is_dir() { memory } else { std::env::temp_dir() };
        let folder = folder.join(format!("hiosc-fuzz-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder for the model");
        folder.join("model.onnx")
    })
}

/// Imports the bytes. A model that is accepted is fused; one that is small is planned as well.
pub fn import(data: &[u8]) {
    let path = file();
    std::fs::write(path, data).expect("a writable folder");
    let options = import::ImportOptions::default();
    let _ = accepted(import::survey(path, &options));
    let Some(model) = accepted(import::import(path, &options)) else { return };
    let _ = model.graph.to_string();
    pipeline::run(model.graph, &CompileOptions::default());
}
