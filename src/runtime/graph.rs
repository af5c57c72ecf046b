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

use std::ptr;
use std::sync::Arc;

use cudarc::driver::{CudaStream, result, sys};

use super::error::Result;
use super::memory::{ErrorContext, describe};

/// A captured and instantiated inference. (cudarc's own type is made with an argument whose type
/// differs between cudarc's versions.)
pub struct ExecutableGraph {
    /// Null until it is instantiated.
    executable: sys::CUgraphExec,
    graph: sys::CUgraph,
    stream: Arc<CudaStream>,
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
        // the context of another GPU may be the current one now
        let bound = origin_stream.context().bind_to_thread();
        // SAFETY: the stream is alive and in capture.
        let ended = unsafe { result::stream::end_capture(origin_stream.cu_stream()) };
        let graph = ended.map(|graph| ExecutableGraph { executable: ptr::null_mut(), graph, stream: origin_stream.clone(), nodes: 0 });
        issued.map_err(|error| error.to_string())?;
        bound.map_err(|error| refused("bind a context", error))?;
        let mut graph = graph.map_err(|error| refused("end a capture", error))?;
        if graph.graph.is_null() {
            return Err("the CUDA driver captured nothing".into());
        }
        // SAFETY: the graph is alive; the call writes one handle.
        let made = unsafe { sys::cuGraphInstantiateWithFlags(&mut graph.executable, graph.graph, 0) }.result();
        made.map_err(|error| refused("make a graph", error))?;
        // SAFETY: the graph is alive; without an array to fill, the call writes the number of
        // nodes.
        let counted = unsafe { sys::cuGraphGetNodes(graph.graph, ptr::null_mut(), &mut graph.nodes) }.result();
        counted.map_err(|error| refused("count the nodes of a graph", error))?;
        // SAFETY: the executable graph and the stream are alive.
        let uploaded = unsafe { sys::cuGraphUpload(graph.executable, graph.stream.cu_stream()) }.result();
        uploaded.map_err(|error| refused("upload a graph", error))?;
        Ok(graph)
    }

    /// Enqueues one inference on the stream that it was captured from.
    pub fn launch(&self) -> Result<()> {
        self.stream.context().bind_to_thread().context(|| "bind a context".into())?;
        // SAFETY: the executable graph and the stream are alive.
        unsafe { sys::cuGraphLaunch(self.executable, self.stream.cu_stream()) }
            .result()
            .context(|| "launch the graph of an inference".into())
    }

    /// Number of its nodes: kernels and copies.
    pub(super) fn nodes(&self) -> usize {
        self.nodes
    }
}

impl Drop for ExecutableGraph {
    fn drop(&mut self) {
        // Failures cannot be handled here. The driver frees what remains when the process ends.
        let _ = self.stream.context().bind_to_thread();
        if !self.executable.is_null() {
            // SAFETY: made in `capture`, destroyed once; no launch of it is in flight.
            let _ = unsafe { sys::cuGraphExecDestroy(self.executable) };
        }
        if !self.graph.is_null() {
            // SAFETY: as above.
            let _ = unsafe { sys::cuGraphDestroy(self.graph) };
        }
    }
}
