//! Files that `build.rs` embeds in the library: kernels, templates, the virtual GPUs and the
//! runtime of generated crates.

include!(concat!(env!("OUT_DIR"), "/embedded.rs"));

/// The text of the embedded file `path` (relative to the repository: `kernels/conv.cuh`), if there
/// is one.
pub fn file(path: &str) -> Option<&'static str> {
    FILES.binary_search_by(|(name, _)| (*name).cmp(path)).ok().map(|i| FILES[i].1)
}

/// All embedded files below `folder`, sorted: (path relative to the folder, text).
pub fn folder(folder: &str) -> impl Iterator<Item = (&'static str, &'static str)> + use<'_> {
    FILES.iter().filter_map(move |(name, text)| Some((name.strip_prefix(folder)?.strip_prefix('/')?, *text)))
}
