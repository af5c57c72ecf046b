//! What the user of a model may choose at load.

use std::path::PathBuf;

/// Which physical GPUs to use, and where the weights are. `Options::default()` puts logical GPU `i` on physical GPU `i`.
#[derive(Clone, Debug, Default)]
pub struct Options {
    pub(super) gpus: Option<Vec<usize>>,
    pub(super) fold: bool,
    pub(super) weights: Option<PathBuf>,
}

impl Options {
    /// Puts logical GPU `i` on physical GPU `physical[i]`; the same one may be named more than once.
    pub fn gpus(mut self, physical: &[usize]) -> Options {
        self.gpus = Some(physical.to_vec());
        self
    }

    /// Where there are fewer GPUs than planned: shares those present instead of failing.
    pub fn fold(mut self, fold: bool) -> Options {
        self.fold = fold;
        self
    }

    /// Reads the weights from this file.
    pub fn weights(mut self, path: impl Into<PathBuf>) -> Options {
        self.weights = Some(path.into());
        self
    }

    /// The weights file that was chosen, if one was.
    pub fn weights_path(&self) -> Option<&PathBuf> {
        self.weights.as_ref()
    }
}
