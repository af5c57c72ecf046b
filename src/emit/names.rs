//! ONNX names as Rust identifiers: readable, valid, unique.

use std::collections::BTreeSet;

/// Longest identifier made from a name. Longer names keep their end, which is the specific part of
/// a path.
const LONGEST: usize = 64;

/// Hands out identifiers, each once.
#[derive(Default)]
pub struct Identifiers {
    taken: BTreeSet<String>,
}

impl Identifiers {
    /// `/features/3/Conv_output_0` as `FEATURES_3_CONV_OUTPUT_0`; a second one of the same spelling
    /// gets `_2`.
    pub fn constant(&mut self, name: &str) -> String {
        self.unique(words(name).to_uppercase(), "T_")
    }

    /// The same in lower case, for fields.
    pub fn field(&mut self, name: &str) -> String {
        self.unique(words(name).to_lowercase(), "t_")
    }

    /// `name`, or what makes it valid: `letter` before a digit.
    fn unique(&mut self, mut name: String, letter: &str) -> String {
        if name.starts_with(|c: char| c.is_ascii_digit()) || name.is_empty() {
            name = format!("{letter}{name}");
        }
        if syn::parse_str::<syn::Ident>(&name).is_err() {
            name.push('_'); // a keyword
        }
        let mut unique = name.clone();
        for i in 2.. {
            if self.taken.insert(unique.clone()) {
                break;
            }
            unique = format!("{name}_{i}");
        }
        unique
    }
}

/// Letters and digits, with everything between them as one underscore.
fn words(name: &str) -> String {
    let mut text = String::new();
    for c in name.chars() {
        if c.is_ascii_alphanumeric() {
            text.push(c);
        } else if !text.is_empty() && !text.ends_with('_') {
            text.push('_');
        }
    }
    let text = text.trim_end_matches('_');
    let start = text.len().saturating_sub(LONGEST);
    text[start..].trim_start_matches('_').to_string()
}

/// A name for a comment of one line. A line break would end the comment, and a change of the
/// writing direction would hide what follows (rustc rejects it).
pub fn line(name: &str) -> String {
    let odd = |c: char| c.is_control() || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    name.chars().map(|c| if odd(c) { ' ' } else { c }).collect()
}

/// A name as Markdown that shows it: nothing in it is taken for markup or HTML.
pub fn markdown(name: &str) -> String {
    let special = |c: char| matches!(c, '\\' | '`' | '*' | '[' | ']' | '<' | '>' | '|' | '&');
    name.chars().flat_map(|c| special(c).then_some('\\').into_iter().chain([c])).collect()
}

/// A package name: lower case, starting with a letter, and not one that cargo or the crate itself
/// needs.
pub fn package(model: &str) -> String {
    let name = words(model).to_lowercase();
    if taken(&name) || !name.starts_with(|c: char| c.is_ascii_alphabetic()) { format!("model_{name}") } else { name }
}

/// Whether a package cannot have this name: a keyword, or a name that cargo or the crate itself
/// needs.
pub fn taken(name: &str) -> bool {
    const RESERVED: [&str; 14] = [
        "core",
        "std",
        "alloc",
        "test",
        "proc_macro",
        "cudarc",
        "hiosc",
        "libloading",
        "memmap2",
        "safetensors",
        "sha2",
        "build",
        "deps",
        "incremental",
    ];
    let library = name.replace('-', "_");
    RESERVED.contains(&library.as_str()) || syn::parse_str::<syn::Ident>(&library).is_err()
}

/// Whether a module can have this name.
pub fn is_module(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let begins = name.starts_with(|c: char| c.is_ascii_lowercase());
    // the module itself refers to these
    let free = !matches!(name, "hiosc" | "std" | "core" | "alloc");
    begins && name.chars().all(plain) && free && syn::parse_str::<syn::Ident>(name).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_are_valid_and_unique() {
        let mut names = Identifiers::default();
        let made: Vec<String> = ["/a/b.c_0", "a b c 0", "7up", "", "日本"].iter().map(|n| names.constant(n)).collect();
        assert_eq!(made, ["A_B_C_0", "A_B_C_0_2", "T_7UP", "T_", "T__2"]);
        assert_eq!(Identifiers::default().field("type"), "type_");
        let mut fields = Identifiers::default();
        assert_eq!(["495", "日本", "7Up", "图"].map(|name| fields.field(name)), ["t_495", "t_", "t_7up", "t__2"]);
        assert_eq!(markdown("\"a|b<i>`*\""), "\"a\\|b\\<i\\>\\`\\*\"");
        assert_eq!(package("type"), "model_type");
        assert_eq!(package("3d-net v2"), "model_3d_net_v2");
    }
}
