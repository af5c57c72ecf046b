//! A finished compilation, and how it is written to disk.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Planned, summary};
use crate::emit::{self, Crate, Written};
use crate::error::Result;
use crate::oracle::Source;
use crate::program::Shipped;

/// A finished compilation.
#[derive(Debug)]
pub struct Compilation {
    /// Everything up to the plan.
    pub(crate) planned: Planned,
    /// The kernels, compiled or not.
    pub(super) shipped: Shipped,
    /// Where its reference output comes from.
    pub(super) reference: Reference,
    /// The generated crate or module, in memory.
    pub(super) output: Crate,
    /// Name of the module, if it is one.
    pub(super) module: Option<String>,
    /// The files that were read.
    pub(super) inputs: Vec<PathBuf>,
}

/// Where the reference output of a crate comes from.
#[derive(Debug, Default)]
pub(super) struct Reference {
    /// Who computed it; `None` if there is none.
    pub source: Option<Source>,
    /// Why rten could not.
    pub refused: String,
    /// The outputs about which rten and tract disagree, a line for each.
    pub disputes: Vec<String>,
    /// Why there is none, although one was wanted.
    pub missing: Option<String>,
}

/// What a compilation consists of: everything up to the plan, the kernels, and the generated crate.
/// Internal: for tests.
pub fn parts(compilation: &Compilation) -> (&Planned, &Shipped, &Crate) {
    (&compilation.planned, &compilation.shipped, &compilation.output)
}

impl Compilation {
    /// Writes the crate to `out`, whole or not at all. Replaces an earlier output of hiosc, and
    /// refuses to replace anything else.
    ///
    /// A [module](super::Compiler::module) becomes the folder `out/NAME` and the file
    /// `out/NAME.rs`.
    pub fn write(&self, out: &Path) -> Result<Written> {
        match &self.module {
            None => emit::write(&self.output, out),
            Some(name) => emit::write_module(&self.output, name, out),
        }
    }

    /// The files that this compilation has read: the model, its external data, costs, the topology.
    /// If one of them changes, the result may be different.
    pub fn inputs(&self) -> &[PathBuf] {
        &self.inputs
    }

    /// The files in `folder` that writing the crate there would change, each with a word about it.
    /// Weights may be absent, and reference data are not compared.
    pub(crate) fn differences(&self, folder: &Path) -> Result<Vec<(String, &'static str)>> {
        emit::differences(&self.output, folder)
    }

    /// Whether the crate contains compiled kernels.
    pub(crate) fn has_images(&self) -> bool {
        !self.shipped.images.is_empty()
    }

    /// The compilation for programs, in JSON. Keys are stable.
    pub(crate) fn json(&self) -> serde_json::Value {
        summary::json(self)
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
