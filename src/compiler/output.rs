//! A finished compilation, and how it is written to disk.

use std::path::Path;
use std::time::Duration;

use super::{Planned, summary};
use crate::emit::{self, Crate, Written};
use crate::error::{Error, Result};
use crate::program::Shipped;

/// A finished compilation.
#[derive(Debug)]
pub struct Compilation {
    /// Everything up to the plan.
    pub(crate) planned: Planned,
    /// The kernels, compiled or not.
    pub(super) shipped: Shipped,
    /// The generated crate, in memory.
    pub(super) output: Crate,
}

/// What a compilation consists of: everything up to the plan, the kernels, and the generated crate.
/// Internal: for tests.
pub fn parts(compilation: &Compilation) -> (&Planned, &Shipped, &Crate) {
    (&compilation.planned, &compilation.shipped, &compilation.output)
}

impl Compilation {
    /// Writes the crate to `out`, whole or not at all. Replaces an earlier output of hiosc, and
    /// refuses to replace anything else.
    pub fn write(&self, out: &Path) -> Result<Written> {
        emit::write(&self.output, out)
    }

    /// Writes the crate to `folder/NAME`, and a file `folder/NAME.rs` that makes it a module `NAME`
    /// of the program that includes it. A `build.rs` does this with its `OUT_DIR`, since Cargo
    /// resolves dependencies before it runs build scripts. The program then says
    /// `include!(concat!(env!("OUT_DIR"), "/NAME.rs"));` and depends on what the crate depends on.
    /// `examples/downstream` is a complete example.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] if `name` is not a plain lower-case identifier.
    pub fn write_module(&self, name: &str, folder: &Path) -> Result<()> {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        if !name.starts_with(|c: char| c.is_ascii_lowercase()) || !name.chars().all(plain) || syn::parse_str::<syn::Ident>(name).is_err() {
            return Err(Error::Usage(format!("`{name}` cannot be the name of a module: use lower-case letters, digits and _")));
        }
        let folder = std::path::absolute(folder).map_err(Error::io(folder))?;
        emit::write(&self.output, &folder.join(name))?;
        let source = folder.join(name).join("src").join("lib.rs");
        // absolute: in an included file, a relative path would start from the including file
        let text = format!(
            "// {}\n#[path = {source:?}]\n#[allow(dead_code, unexpected_cfgs)] // a program uses a part, and has features of its own\npub mod {name};\n",
            emit::MARK
        );
        let file = folder.join(format!("{name}.rs"));
        if std::fs::read(&file).is_ok_and(|old| old == text.as_bytes()) {
            return Ok(());
        }
        std::fs::write(&file, text).map_err(Error::io(&file))
    }

    /// The predicted latency of one inference.
    pub fn latency(&self) -> Duration {
        Duration::from_nanos(self.planned.chosen().timeline.latency)
    }

    /// The time spent in each pass, in order.
    pub fn timings(&self) -> &[(&'static str, Duration)] {
        &self.planned.timings
    }

    /// What the compilation did, in a screenful.
    pub fn summary(&self) -> String {
        summary::compilation(self)
    }
}
