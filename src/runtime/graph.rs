//! One CUDA graph for a whole inference.
//!
//! At load, the runtime captures what a plan enqueues on all streams and GPUs. From then on, one
//! call replays it. The plan forks from its origin stream and joins it again, as capture requires.
//! Capture is *thread-local*: other threads may load and run models meanwhile. A graph contains the
//! addresses of all memory that it accesses, so the model's memory must not move until the model is
//! dropped.
//!
//! If the driver refuses the capture, each inference enqueues the plan on plain streams, and the
//! summary says why. The whole plan is captured or nothing: with one graph per GPU, the host would
//! have to synchronise them.

use std::sync::Arc;

use cudarc::driver::{CudaGraph, CudaStream, sys};

use super::error::Result;
use super::memory::{ErrorContext, describe};

/// A captured and instantiated inference.
pub struct ExecutableGraph {
    graph: CudaGraph,
    nodes: usize,
}

impl std::fmt::Debug for ExecutableGraph {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ExecutableGraph").field("nodes", &self.nodes).finish_non_exhaustive()
    }
}

// SAFETY: one thread at a time may use a graph (CUDA driver API, "Graph object thread safety").
// `&mut Exec` ensures that: nothing else holds the graph, and it is not `Sync`.
unsafe impl Send for ExecutableGraph {}

impl ExecutableGraph {
    /// Captures what `enqueue` issues. All of it must fork from `origin_stream` and join it again.
    /// On failure, returns the reason and leaves no stream in capture.
    pub fn capture(origin_stream: &Arc<CudaStream>, enqueue: impl FnOnce() -> Result<()>) -> std::result::Result<ExecutableGraph, String> {
        let refused = |call: &str, error| format!("the CUDA driver refused to {call}: {}", describe(error));
        let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        origin_stream.begin_capture(mode).map_err(|error| refused("begin a capture", error))?;
        let issued = enqueue();
        let ended = origin_stream.end_capture(sys::CUgraphInstantiate_flags(0));
        issued.map_err(|error| error.to_string())?;
        let graph = ended.map_err(|error| refused("make a graph", error))?;
        let graph = graph.ok_or("the CUDA driver captured nothing")?;
        let mut nodes = 0;
        // SAFETY: the graph is alive; without an array to fill, the call writes the number of
        // nodes.
        let counted = unsafe { sys::cuGraphGetNodes(graph.cu_graph(), std::ptr::null_mut(), &mut nodes) }.result();
        counted.map_err(|error| refused("count the nodes of a graph", error))?;
        graph.upload().map_err(|error| refused("upload a graph", error))?;
        Ok(ExecutableGraph { graph, nodes })
    }

    /// Enqueues one inference on the stream that it was captured from.
    pub fn launch(&self) -> Result<()> {
        self.graph.launch().context(|| "launch the graph of an inference".into())
    }

    /// Number of its nodes: kernels and copies.
    pub(super) fn nodes(&self) -> usize {
        self.nodes
    }
}
