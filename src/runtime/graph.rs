//! One CUDA graph for a whole inference.
//!
//! What a plan enqueues is captured once, at load, over all streams and GPUs, and from then on replayed by one call. The plan forks from its origin
//! stream and joins it again, as capture demands. Capture is *thread-local*: models may be loaded and run on other threads meanwhile. A graph has the
//! addresses of all memory it touches baked in, so a model's own memory stays where it is until the model is dropped.
//!
//! Where the driver refuses the capture, the plan is enqueued afresh for each inference, on plain streams, and the summary says why. It is the
//! whole plan or nothing: one graph a GPU would need the host between them.

use std::sync::Arc;

use cudarc::driver::{CudaGraph, CudaStream, sys};

use super::error::Result;
use super::memory::{Doing, describe};

/// A captured inference.
pub struct Graph {
    graph: CudaGraph,
    nodes: usize,
}

// SAFETY: a graph may be used by one thread at a time (CUDA driver API, "Graph object thread safety"), which `&mut Exec` ensures: nothing else
// holds it, and it is not `Sync`.
unsafe impl Send for Graph {}

impl Graph {
    /// Captures what `enqueue` issues; all of it must fork from `origin` and join it again. On failure, says why; no stream is left in capture.
    pub fn capture(origin: &Arc<CudaStream>, enqueue: impl FnOnce() -> Result<()>) -> std::result::Result<Graph, String> {
        let refused = |call: &str, error| format!("the CUDA driver refused to {call}: {}", describe(error));
        let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        origin.begin_capture(mode).map_err(|error| refused("begin a capture", error))?;
        let issued = enqueue();
        let ended = origin.end_capture(sys::CUgraphInstantiate_flags(0));
        issued.map_err(|error| error.to_string())?;
        let graph = ended.map_err(|error| refused("make a graph", error))?;
        let graph = graph.ok_or("the CUDA driver captured nothing")?;
        let mut nodes = 0;
        // SAFETY: the graph is alive; without an array to fill, the call writes their number.
        let counted = unsafe { sys::cuGraphGetNodes(graph.cu_graph(), std::ptr::null_mut(), &mut nodes) }.result();
        counted.map_err(|error| refused("count the nodes of a graph", error))?;
        graph.upload().map_err(|error| refused("upload a graph", error))?;
        Ok(Graph { graph, nodes })
    }

    /// Enqueues one inference on the stream that it was captured from.
    pub fn launch(&self) -> Result<()> {
        self.graph.launch().doing(|| "launch the graph of an inference".into())
    }

    /// Kernels and copies in it.
    pub(super) fn nodes(&self) -> usize {
        self.nodes
    }
}
