//! How to place a model on a machine, and how to run it.

use std::path::{Path, PathBuf};

/// Where a model runs, how, and where its weights are. The default: logical GPU i of the plan is GPU i of the machine, and an inference is the replay
/// of one CUDA graph.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    pub(super) gpus: Option<Vec<usize>>,
    pub(super) fold: bool,
    pub(super) weights: Option<PathBuf>,
    pub(super) streams: bool,
    pub(super) cold: bool,
    pub(super) separate_contexts: bool,
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

    /// Whether the plan is captured into one CUDA graph at load, and replayed (on by default), or enqueued afresh for each inference, on plain streams.
    pub fn graph(mut self, graph: bool) -> Self {
        self.streams = !graph;
        self
    }

    /// Whether the model runs at load, on zeros (on by default): on plain streams, so that the driver has loaded all kernels before the plan is captured, and as a
    /// graph, so that the first inference is as fast as the others.
    pub fn warm_up(mut self, warm_up: bool) -> Self {
        self.cold = !warm_up;
        self
    }

    /// Whether logical GPUs that share one device get a context each, as if they were two. For tests of copies, events and graphs across contexts where
    /// there is one GPU only; it is slow.
    pub fn separate_contexts(mut self, separate: bool) -> Self {
        self.separate_contexts = separate;
        self
    }
}
