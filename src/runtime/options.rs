//! The options of a loaded model: on which GPUs it runs, and how.

use std::path::{Path, PathBuf};

/// Where a model runs, how, and where its weights are. The default: logical GPU i of the plan is
/// GPU i of the machine, and each inference replays one CUDA graph.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RuntimeOptions {
    pub(super) on: Option<Vec<usize>>,
    pub(super) fold: bool,
    pub(super) weights: Option<PathBuf>,
    pub(super) plain_streams: bool,
    pub(super) no_warm_up: bool,
    pub(super) separate_contexts: bool,
    pub(super) map_weights: bool,
}

impl RuntimeOptions {
    /// The machine's GPU for each logical GPU of the plan, in order. `&[0, 0]` maps two logical
    /// GPUs to one.
    pub fn on(mut self, gpus: &[usize]) -> Self {
        self.on = Some(gpus.to_vec());
        self
    }

    /// Whether logical GPUs may share GPUs if the machine has too few. They are assigned
    /// round-robin.
    pub fn fold(mut self, fold: bool) -> Self {
        self.fold = fold;
        self
    }

    /// The weights file. The default: the executable's own weights if it contains any, else the
    /// file beside the executable.
    pub fn weights(mut self, path: impl AsRef<Path>) -> Self {
        self.weights = Some(path.as_ref().to_path_buf());
        self
    }

    /// Whether the weights file is mapped into memory and not read: loading then needs less memory.
    /// Nobody may change the file meanwhile.
    pub fn map_weights(mut self, map: bool) -> Self {
        self.map_weights = map;
        self
    }

    /// Whether the plan is captured into one CUDA graph at load and then replayed (the default), or
    /// enqueued on plain streams for each inference.
    pub fn graph(mut self, graph: bool) -> Self {
        self.plain_streams = !graph;
        self
    }

    /// Whether the model runs at load, on zeros (the default). It runs on plain streams first, so
    /// that the driver has loaded all kernels before the capture, and then as a graph, so that the
    /// first inference is as fast as the others.
    pub fn warm_up(mut self, warm_up: bool) -> Self {
        self.no_warm_up = !warm_up;
        self
    }

    /// Whether logical GPUs on one device get separate contexts, as if they were several devices.
    /// For tests of copies, events and graphs across contexts on a machine with one GPU. It is
    /// slow.
    pub fn separate_contexts(mut self, separate: bool) -> Self {
        self.separate_contexts = separate;
        self
    }
}
