//! How to place a model on a machine.

use std::path::{Path, PathBuf};

/// Where a model runs and where its weights are. The default: logical GPU i of the plan is GPU i of the machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    pub(super) gpus: Option<Vec<usize>>,
    pub(super) fold: bool,
    pub(super) weights: Option<PathBuf>,
}

impl Options {
    /// The machine's GPU for each logical GPU of the plan, in order; `&[0, 0]` puts two logical GPUs on one.
    pub fn gpus(mut self, gpus: &[usize]) -> Self {
        self.gpus = Some(gpus.to_vec());
        self
    }

    /// Whether logical GPUs may share the GPUs there are, where there are too few: one after the other, then from the first again.
    pub fn fold(mut self, fold: bool) -> Self {
        self.fold = fold;
        self
    }

    /// The weights file, if it is neither in the crate's folder nor beside the executable.
    pub fn weights(mut self, path: impl AsRef<Path>) -> Self {
        self.weights = Some(path.as_ref().to_path_buf());
        self
    }
}
