//! `weights.safetensors`: the constants of the model, beside the code rather than in it, and checked by hash.

use std::path::{Path, PathBuf};

use safetensors::SafeTensors;
use sha2::{Digest, Sha256};

use super::{Error, Options};

/// Reads the first of these files that exists: the one in `options`, `$HIOSC_WEIGHTS`, the one in `folder` (the crate's own), the one beside the
/// program. Its SHA-256 must be `sha256` (hex).
pub fn file_weights(options: &Options, folder: &str, sha256: &str) -> Result<Vec<u8>, Error> {
    let name = "weights.safetensors";
    let chosen = options.weights_path().cloned().or_else(|| std::env::var_os("HIOSC_WEIGHTS").map(PathBuf::from));
    let beside = std::env::current_exe().ok().and_then(|p| Some(p.parent()?.join(name)));
    let path = chosen.unwrap_or_else(|| {
        let own = Path::new(folder).join(name);
        if own.is_file() { own } else { beside.filter(|p| p.is_file()).unwrap_or(own) }
    });
    let fail = |message: String| Error::Weights { path: path.clone(), message };
    let bytes = std::fs::read(&path).map_err(|e| fail(format!("{e}; name the file with Options::weights or HIOSC_WEIGHTS")))?;
    let found: String = Sha256::digest(&bytes).iter().map(|b| format!("{b:02x}")).collect();
    if found != sha256 {
        return Err(fail(format!("SHA-256 is {found}, expected {sha256}: this is not the file that the model was compiled with")));
    }
    Ok(bytes)
}

/// The tensors of a weights file that was read.
pub fn parse_weights(bytes: &[u8]) -> Result<SafeTensors<'_>, Error> {
    SafeTensors::deserialize(bytes).map_err(|e| Error::Weights { path: "weights.safetensors".into(), message: e.to_string() })
}
