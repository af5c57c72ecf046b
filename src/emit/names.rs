//! From ONNX names, which may be anything, to Rust names and texts.

use std::collections::{BTreeMap, BTreeSet};

use crate::graph::Graph;
use crate::ids::TensorId;
use crate::plan::Plan;

/// Longest constant; the rest of a longer name is cut off.
const LONGEST: usize = 64;

/// Words that cannot be a field, or would be a poor one.
const KEYWORDS: &str = " abstract as async await become box break const continue crate do dyn else enum extern false final fn for gen if impl in let loop macro match mod move mut override priv pub ref return self static struct super trait true try type typeof union unsafe unsized use virtual where while yield ";

/// Names of packages that the generated crate depends on, and of crates that every Rust program knows.
const TAKEN_PACKAGES: &str = " alloc core cudarc libloading proc_macro safetensors self sha2 std super test crate ";

/// Hands out each name once: `name`, `name_2`, `name_3`.
#[derive(Default)]
pub(super) struct Unique(BTreeSet<String>);

impl Unique {
    pub(super) fn pick(&mut self, wanted: &str) -> String {
        let numbered = (2..).map(|n| format!("{wanted}_{n}"));
        let name = std::iter::once(wanted.to_owned()).chain(numbered).find(|name| !self.0.contains(name));
        let name = name.unwrap_or_else(|| wanted.to_owned());
        self.0.insert(name.clone());
        name
    }
}

/// Words of a name: runs of ASCII letters and digits.
fn words(name: &str) -> String {
    let name = name.strip_suffix("_output_0").unwrap_or(name);
    let parts: Vec<&str> = name.split(|c: char| !c.is_ascii_alphanumeric()).filter(|part| !part.is_empty()).collect();
    let mut joined = parts.join("_");
    if joined.is_empty() || joined.starts_with(|c: char| c.is_ascii_digit()) {
        joined.insert_str(0, "t");
    }
    joined.truncate(LONGEST);
    joined.trim_end_matches('_').to_owned()
}

/// `/fire2/concat_output_0` becomes `FIRE2_CONCAT`.
pub(super) fn constant(name: &str) -> String {
    words(name).to_ascii_uppercase()
}

/// `Input.1` becomes `input_1`.
pub(super) fn field(name: &str) -> String {
    let name = words(name).to_ascii_lowercase();
    if KEYWORDS.contains(&format!(" {name} ")) { name + "_" } else { name }
}

/// `SqueezeNet 1.1` becomes `squeezenet_1_1`.
pub(super) fn package(name: &str) -> String {
    let parts: Vec<&str> = name.split(|c: char| !c.is_ascii_alphanumeric() && c != '-').filter(|part| !part.is_empty()).collect();
    let mut name = parts.join("_").trim_matches('-').to_ascii_lowercase();
    name.truncate(LONGEST);
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
        name.insert_str(0, "model_");
    }
    let plain = format!(" {} ", name.replace('-', "_"));
    if KEYWORDS.contains(&plain) || TAKEN_PACKAGES.contains(&plain) { name + "_model" } else { name }
}

/// A name on one line of a comment: no control characters, at most 100 characters.
pub(super) fn line(text: &str) -> String {
    let mut clean: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(101).collect();
    if clean.chars().count() > 100 {
        clean.pop();
        clean.push('…');
    }
    clean
}

/// A name between backquotes, for comments and documentation.
pub(super) fn quoted(text: &str) -> String {
    format!("`{}`", line(text).replace('`', "'"))
}

/// The constant of each tensor that has a buffer or lies among the weights; the same on every GPU.
pub(super) fn tensors(graph: &Graph, plan: &Plan) -> BTreeMap<TensorId, String> {
    let weights = plan.gpus.iter().flat_map(|gpu| gpu.weights.iter().map(|&(tensor, _)| tensor));
    let used: BTreeSet<TensorId> = plan.buffers.iter().map(|b| b.tensor).chain(weights).collect();
    let mut unique = Unique::default();
    used.into_iter().map(|t| (t, unique.pick(&constant(&graph.tensor(t).name)))).collect()
}

/// `774 KB`: bytes for people.
pub(super) fn bytes(count: u64) -> String {
    match count {
        0..1_000 => format!("{count} B"),
        1_000..1_000_000 => format!("{:.1} KB", count as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", count as f64 / 1e6),
        _ => format!("{:.1} GB", count as f64 / 1e9),
    }
}

/// `12.3 µs`.
pub(super) fn micros(nanos: u64) -> String {
    format!("{:.1} µs", nanos as f64 / 1e3)
}

/// `1 stream`, `2 streams`.
pub(super) fn count(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_rust() {
        assert_eq!(constant("/fire2/concat_output_0"), "FIRE2_CONCAT");
        assert_eq!(constant("::"), "T");
        assert_eq!(constant("1x"), "T1X");
        assert_eq!(constant("наименование"), "T");
        assert_eq!(field("Type"), "type_");
        assert_eq!(field("data:0"), "data_0");
        assert_eq!(package("SqueezeNet 1.1"), "squeezenet_1_1");
        assert_eq!(package("std"), "std_model");
        assert_eq!(package("3d-net"), "model_3d-net");
        assert_eq!(package("///"), "model_");
        assert_eq!(quoted("a`b\nc"), "`a'b c`");
        let mut unique = Unique::default();
        assert_eq!(["a", "a", "a_2", "a"].map(|n| unique.pick(n)), ["a", "a_2", "a_2_2", "a_3"]);
    }
}
