//! Where hiosc keeps what is expensive to rebuild: compiled kernels and virtual-GPU libraries.
//!
//! Files in it are named by a hash of everything they depend on. So they never go stale, and may be
//! deleted at any time.

use std::path::PathBuf;

/// The cache folder: `$HIOSC_CACHE`, else `$XDG_CACHE_HOME/hiosc`, else `$HOME/.cache/hiosc`, else
/// a folder below the system's temporary one. It may not exist yet.
pub fn dir() -> PathBuf {
    let var = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    var("HIOSC_CACHE")
        .or_else(|| var("XDG_CACHE_HOME").map(|p| p.join("hiosc")))
        .or_else(|| var("HOME").map(|p| p.join(".cache").join("hiosc")))
        .unwrap_or_else(|| std::env::temp_dir().join("hiosc-cache"))
}
