//! Finds the weights file, reads it, and checks its hash before anything of it is used.

use std::fmt::Write as _;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use safetensors::SafeTensors;
use sha2::{Digest, Sha256};

use super::error::{Error, Result};
use super::options::RuntimeOptions;

/// Reads the weights file that `options` names, otherwise the first of these that has the right
/// hash: `weights.safetensors` in `folder` (the crate's), `<package>.safetensors` and
/// `weights.safetensors` beside the executable.
pub fn read(options: &RuntimeOptions, folder: &str, package: &str, sha256: &str) -> Result<Vec<u8>> {
    let mut looked = Vec::new();
    let mut mismatch = None;
    for path in search_paths(options, folder, package) {
        match std::fs::read(&path) {
            Ok(bytes) => match hex(&bytes) {
                found if found == sha256 => return Ok(bytes),
                found => {
                    let message = format!("its sha256 is {found}, expected {sha256}");
                    mismatch.get_or_insert(Error::WeightsMismatch { path, message });
                }
            },
            Err(error) if error.kind() == ErrorKind::NotFound => looked.push(path),
            Err(error) => {
                mismatch.get_or_insert(Error::WeightsMismatch { path, message: format!("it cannot be read: {error}") });
            }
        }
    }
    Err(mismatch.unwrap_or(Error::WeightsMissing { looked }))
}

fn search_paths(options: &RuntimeOptions, folder: &str, package: &str) -> Vec<PathBuf> {
    if let Some(path) = &options.weights {
        return vec![path.clone()];
    }
    let mut paths = vec![Path::new(folder).join("weights.safetensors")];
    if let Some(beside) = std::env::current_exe().ok().as_deref().and_then(Path::parent) {
        paths.extend([beside.join(format!("{package}.safetensors")), beside.join("weights.safetensors")]);
    }
    paths
}

/// The bytes of the tensors `names` in a weights file.
pub fn find<'a>(file: &'a [u8], names: &[&str]) -> Result<Vec<&'a [u8]>> {
    let broken = |message: String| Error::WeightsMismatch { path: "weights.safetensors".into(), message };
    let tensors = SafeTensors::deserialize(file).map_err(|error| broken(error.to_string()))?;
    let data = |name: &&str| tensors.tensor(name).map(|view| view.data()).map_err(|_| broken(format!("it has no tensor `{name}`")));
    names.iter().map(data).collect()
}

/// SHA-256 in hexadecimal.
fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
