//! Checks the order of the folders in `src/`: each uses only those before it in the table of
//! docs/architecture.md, and no two neighbours in a folder use each other.
//!
//! It reads all paths in code that begin with `crate`, `super` or `self`. Comments and doc links do
//! not count. Code under `#[cfg(test)]` must keep the order, but
//! neighbours may use each other there. A folder's `mod.rs` may use and re-export what is in the
//! folder.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// Source text by path below `src/`: `plan/verify/order.rs`.
type Sources = BTreeMap<String, String>;

/// A path in code, made absolute: `["plan", "Step"]`; and whether it is under `#[cfg(test)]`.
type Use = (Vec<String>, bool);

/// What the library's root re-exports, and where it is from.
const ROOT: [(&str, &str); 26] = [
    ("OutputReport", "acceptance"),
    ("VerifyOptions", "acceptance"),
    ("VerifyReport", "acceptance"),
    ("WorstElement", "acceptance"),
    ("verify", "acceptance"),
    ("Build", "build_script"),
    ("compile", "build_script"),
    ("Compilation", "compiler"),
    ("Compiler", "compiler"),
    ("Inspection", "compiler"),
    ("inspect", "compiler"),
    ("CrateOptions", "emit"),
    ("Written", "emit"),
    ("Error", "error"),
    ("Result", "error"),
    ("ImportOptions", "import"),
    ("Literal", "import"),
    ("OperatorCount", "import"),
    ("Survey", "import"),
    ("BenchOptions", "measure"),
    ("PlanOptions", "plan"),
    ("KernelMode", "program"),
    ("RuntimeOptions", "runtime"),
    ("Algorithm", "schedule"),
    ("Effort", "schedule"),
    ("ScheduleOptions", "schedule"),
];

#[test]
fn folders_depend_on_earlier_ones_only() {
    let root = super::root();
    let mut sources = Sources::new();
    read(&root.join("src"), "", &mut sources);
    let page = fs::read_to_string(root.join("docs/architecture.md")).expect("the page about the architecture");
    let order = documented(&page);
    assert!(order.len() > 15, "the table of docs/architecture.md is not where it was: {order:?}");
    let mut wrong = upward(&sources, &order);
    wrong.extend(cycles(&sources));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A project that depends on hiosc sees `vgpu`, what `src/lib.rs` re-exports, the program's entry
/// point, and the runtime, which generated modules use. No other feature turns on `internals`,
/// which opens the rest.
#[test]
fn other_modules_are_private_without_the_feature_internals() {
    let root = super::root();
    let library = fs::read_to_string(root.join("src/lib.rs")).expect("the library");
    let lines: Vec<&str> = library.lines().collect();
    let public: Vec<(usize, &str)> = (0..).zip(&lines).filter_map(|(i, line)| Some((i, line.strip_prefix("pub mod ")?))).collect();
    let opened = |i: usize| lines[i - 2] == "#[cfg(feature = \"internals\")]" && lines[i - 1] == "#[doc(hidden)]";
    let always: Vec<&str> = public.iter().filter(|(i, _)| !opened(*i)).map(|(_, name)| *name).collect();
    assert_eq!(always, ["cli;", "runtime;", "vgpu;"]);
    assert!(public.len() > 15, "the modules of src/lib.rs are not where they were: {public:?}");
    let manifest = fs::read_to_string(root.join("Cargo.toml")).expect("the manifest");
    let features = manifest.split("\n[features]\n").nth(1).and_then(|rest| rest.split("\n[").next()).expect("the features");
    let turn_on: Vec<&str> = features.lines().filter(|line| line.contains("\"internals\"")).collect();
    assert!(features.contains("\ninternals = [\"compiler\"]\n") && turn_on.is_empty(), "{features}");
}

#[test]
fn what_points_up_is_found() {
    let sources = |files: &[(&str, &str)]| files.iter().map(|(path, text)| (path.to_string(), text.to_string())).collect::<Sources>();
    let order: Vec<String> = ["error", "graph", "kernel", "plan"].map(String::from).into();
    let sound = sources(&[
        ("error.rs", "//! [`crate::plan`]\n/// [`plan`](crate::plan)\npub enum Error {}"),
        ("graph/mod.rs", "mod op; use crate::error::Error; fn f() { /* crate::plan::X */ }"),
        ("graph/op.rs", "use super::Graph; mod tests { use super::*; use crate::{Error, Result}; }"),
        ("plan/verify/order.rs", "use super::super::Step; use crate::{graph::{Graph, Op}, kernel::Kernel};"),
    ]);
    assert_eq!(upward(&sound, &order), [""; 0]);
    for (path, text, found) in [
        ("graph/op.rs", "use crate::plan::Step;", "graph/op.rs uses plan"),
        ("graph/mod.rs", "fn f(x: &crate::kernel::Kernel) {}", "graph/mod.rs uses kernel"),
        ("graph/op.rs", "use super::super::plan::{Step, Plan};", "graph/op.rs uses plan"),
        ("graph/op.rs", "use crate::{error::Error, kernel};", "graph/op.rs uses kernel"),
        ("graph/op.rs", "#[cfg(test)] mod tests { use super::super::super::plan; }", "graph/op.rs uses plan"),
        ("graph/op.rs", "use crate::attic::Old;", "graph/op.rs uses attic, which is not in the table"),
        ("attic/mod.rs", "", "attic/mod.rs is in no folder of the table"),
    ] {
        let found_now = upward(&sources(&[(path, text)]), &order);
        assert!(found_now.iter().any(|line| line.starts_with(found)), "{text}: {found_now:?}");
    }
    let circle = [
        ("plan/mod.rs", "pub mod a; pub mod b; pub use a::x; pub use b::y;"),
        ("plan/a/mod.rs", "use super::b::y;"),
        ("plan/b/mod.rs", "fn f() { crate::plan::a::x() }"),
    ];
    assert_eq!(cycles(&sources(&circle)), ["plan/a and plan/b use each other"]);
    assert_eq!(cycles(&sources(&circle[..2])), [""; 0]);
    let plain = [("plan/step.rs", "use super::a::x;"), ("plan/a/mod.rs", "use super::step::Step;")];
    assert_eq!(cycles(&sources(&plain)), ["plan/* and plan/a use each other"]);
}

fn read(folder: &Path, at: &str, sources: &mut Sources) {
    for entry in fs::read_dir(folder).expect("a folder of src") {
        let path = entry.expect("an entry").path();
        let name = format!("{at}{}", path.file_name().unwrap_or_default().to_string_lossy());
        if path.is_dir() {
            read(&path, &format!("{name}/"), sources);
        } else if name.ends_with(".rs") {
            sources.insert(name, fs::read_to_string(&path).expect("a text"));
        }
    }
}

/// The folders, in the order of the page's table: the link in the first column of each row.
fn documented(page: &str) -> Vec<String> {
    let rows = page.lines().filter_map(|line| line.strip_prefix("| [`"));
    rows.filter_map(|row| row.split_once("`](../src/")).map(|(name, _)| name.to_string()).collect()
}

/// All uses of a folder that comes after that of the file.
fn upward(sources: &Sources, order: &[String]) -> Vec<String> {
    let position = |name: &str| order.iter().position(|folder| folder == name);
    let mut wrong = BTreeSet::new();
    for (path, text) in sources.iter().filter(|(path, _)| !matches!(path.as_str(), "lib.rs" | "main.rs")) {
        let own = folder(path);
        let Some(mine) = position(own) else {
            wrong.insert(format!("{path} is in no folder of the table"));
            continue;
        };
        for (used, _) in uses(path, text) {
            let Some(first) = used.first() else { continue };
            let first = ROOT.iter().find(|(item, _)| item == first).map_or(first.as_str(), |(_, folder)| *folder);
            match position(first) {
                None => drop(wrong.insert(format!("{path} uses {first}, which is not in the table"))),
                Some(theirs) if theirs > mine => drop(wrong.insert(format!("{path} uses {first}, which comes after {own}"))),
                Some(_) => {}
            }
        }
    }
    wrong.into_iter().collect()
}

/// `plan/verify/order.rs` is in `plan`, `error.rs` in `error`.
fn folder(path: &str) -> &str {
    path.split('/').next().unwrap_or(path).trim_end_matches(".rs")
}

/// All pairs of neighbours in one folder that use each other: two folders, or a folder and the
/// plain files beside it except `mod.rs`. Tests do not count.
fn cycles(sources: &Sources) -> Vec<String> {
    let mut arrows: BTreeSet<(String, String)> = BTreeSet::new();
    for (path, text) in sources.iter().filter(|(path, _)| path.contains('/')) {
        let own = module_of(path);
        for (used, _) in uses(path, text).into_iter().filter(|(_, test)| !test) {
            // The neighbours are where the two paths diverge.
            let shared = own.iter().zip(&used).take_while(|(a, b)| a == b).count();
            if let (Some(from), Some(to)) = (neighbour(sources, &own, shared, path), neighbour(sources, &used, shared, ""))
                && shared > 0
                && from != to
            {
                arrows.insert((from, to));
            }
        }
    }
    let both = |(from, to): &&(String, String)| from < to && arrows.contains(&(to.clone(), from.clone()));
    arrows.iter().filter(both).map(|(from, to)| format!("{from} and {to} use each other")).collect()
}

/// Which neighbour a path leads into, below its first `shared` names: `plan/verify`, or `plan/*`
/// for a plain file; `None` for the folder's own `mod.rs`.
fn neighbour(sources: &Sources, path: &[String], shared: usize, file: &str) -> Option<String> {
    let above = path[..shared].join("/");
    if file.ends_with("/mod.rs") && path.len() == shared {
        return None;
    }
    let name = format!("{above}/{}", path.get(shared)?);
    if sources.keys().any(|source| source.starts_with(&format!("{name}/"))) {
        Some(name)
    } else if sources.contains_key(&format!("{name}.rs")) {
        Some(format!("{above}/*"))
    } else {
        None
    }
}

/// `plan/verify/order.rs` is the module `plan::verify::order`, `plan/mod.rs` is `plan`.
fn module_of(path: &str) -> Vec<String> {
    let path = path.trim_end_matches(".rs");
    path.strip_suffix("/mod").unwrap_or(path).split('/').map(str::to_string).collect()
}

/// All paths in `text`, a file of `src/`.
fn uses(path: &str, text: &str) -> Vec<Use> {
    let tokens: TokenStream = text.parse().unwrap_or_else(|error| panic!("{path}: {error}"));
    let mut found = Vec::new();
    walk(&tokens.into_iter().collect::<Vec<_>>(), &module_of(path), false, &mut found);
    found
}

fn walk(tokens: &[TokenTree], module: &[String], test: bool, found: &mut Vec<Use>) {
    let word = |i: usize| if let Some(TokenTree::Ident(word)) = tokens.get(i) { Some(word.to_string()) } else { None };
    let mut tested = false;
    let mut i = 0;
    while i < tokens.len() {
        match &tokens[i] {
            TokenTree::Ident(ident) => {
                let ident = ident.to_string();
                let start = match ident.as_str() {
                    _ if !colons(tokens, i + 1) => None,
                    "crate" => Some(Vec::new()),
                    "super" => Some(module[..module.len().saturating_sub(1)].to_vec()),
                    "self" => Some(module.to_vec()),
                    _ => None,
                };
                // not the middle of a path
                if let (Some(start), false) = (start, i >= 2 && colons(tokens, i - 2)) {
                    follow(tokens, i + 3, start, test, found);
                } else if ident == "mod"
                    && let (Some(name), Some(TokenTree::Group(group))) = (word(i + 1), tokens.get(i + 2))
                {
                    let inner: Vec<_> = group.stream().into_iter().collect();
                    let module: Vec<String> = module.iter().cloned().chain([name]).collect();
                    walk(&inner, &module, test || tested, found);
                    tested = false;
                    i += 2;
                }
                tested &= matches!(ident.as_str(), "pub" | "mod" | "use" | "fn" | "impl");
            }
            TokenTree::Group(group) => {
                let inner: Vec<_> = group.stream().into_iter().collect();
                let attribute = i > 0 && matches!(&tokens[i - 1], TokenTree::Punct(p) if p.as_char() == '#');
                if attribute && group.delimiter() == Delimiter::Bracket {
                    tested |= group.stream().to_string().replace(' ', "") == "cfg(test)";
                } else {
                    walk(&inner, module, test, found);
                }
            }
            TokenTree::Punct(_) | TokenTree::Literal(_) => {}
        }
        i += 1;
    }
}

/// Whether `::` is at `i`.
fn colons(tokens: &[TokenTree], i: usize) -> bool {
    let colon = |i: usize| matches!(tokens.get(i), Some(TokenTree::Punct(p)) if p.as_char() == ':');
    colon(i) && colon(i + 1)
}

/// Adds to `found` the path that begins with `path` and continues at `i`: several paths if it
/// branches in braces.
fn follow(tokens: &[TokenTree], mut i: usize, mut path: Vec<String>, test: bool, found: &mut Vec<Use>) {
    loop {
        match tokens.get(i) {
            Some(TokenTree::Ident(word)) if word == "super" => drop(path.pop()),
            Some(TokenTree::Ident(word)) if word == "self" => {}
            Some(TokenTree::Ident(word)) => path.push(word.to_string()),
            Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => {
                let inner: Vec<_> = group.stream().into_iter().collect();
                let comma = |token: &TokenTree| matches!(token, TokenTree::Punct(p) if p.as_char() == ',');
                inner.split(comma).filter(|branch| !branch.is_empty()).for_each(|branch| follow(branch, 0, path.clone(), test, found));
                return;
            }
            _ => break,
        }
        if !colons(tokens, i + 1) {
            break;
        }
        i += 3;
    }
    found.push((path, test));
}
