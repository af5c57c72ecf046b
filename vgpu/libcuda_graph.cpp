// The driver calls for stream capture and graphs (capture.h).
#include "machine.h"

#include <algorithm>

CUAPI cuStreamBeginCapture_v2(CUstream handle, int mode) {
  HIOSC_ENTER;
  HIOSC_CHECK(mode >= CAPTURE_GLOBAL && mode <= CAPTURE_RELAXED, CUDA_ERROR_INVALID_VALUE);
  StreamPtr stream = m.stream(handle);
  HIOSC_CHECK(stream, CUDA_ERROR_INVALID_HANDLE);
  ContextPtr context = m.contexts.find(stream->context);
  HIOSC_CHECK(!context || context->legacy != stream, CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
  HIOSC_CHECK(!stream->capture, CUDA_ERROR_ILLEGAL_STATE);
  HIOSC_CHECK(!m.options.refuse.count("capture"), CUDA_ERROR_NOT_SUPPORTED);
  auto capture = std::make_shared<Capture>();
  capture->id = ++m.capture_count;
  capture->mode = CaptureMode(mode);
  capture->thread = std::this_thread::get_id();
  capture->origin = stream->number;
  capture->streams.push_back(stream);
  capture->graph = std::make_shared<Graph>();
  stream->capture = capture;
  m.captures[capture->id] = capture;
  return CUDA_SUCCESS;
}

CUAPI cuStreamEndCapture(CUstream handle, CUgraph *out) {
  HIOSC_ENTER;
  HIOSC_CHECK(out, CUDA_ERROR_INVALID_VALUE);
  *out = nullptr;
  StreamPtr stream = m.stream(handle);
  HIOSC_CHECK(stream, CUDA_ERROR_INVALID_HANDLE);
  std::shared_ptr<Capture> capture = stream->capture;
  HIOSC_CHECK(capture, CUDA_ERROR_ILLEGAL_STATE);
  HIOSC_CHECK(capture->origin == stream->number, m.invalidate(*capture, CUDA_ERROR_STREAM_CAPTURE_UNMATCHED));
  bool foreign_thread = capture->mode != CAPTURE_RELAXED && capture->thread != std::this_thread::get_id();
  HIOSC_CHECK(!foreign_thread, m.invalidate(*capture, CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD));
  CUresult refused = capture->status == CAPTURE_INVALIDATED        ? CUDA_ERROR_STREAM_CAPTURE_INVALIDATED
                     : !all_joined(*capture->graph, stream->frontier) ? CUDA_ERROR_STREAM_CAPTURE_UNJOINED
                                                                      : CUDA_SUCCESS;
  m.end_capture(*capture);
  if (refused) return refused;
  *out = as_handle<CUgraph>(m.graphs.add(capture->graph)->handle);
  return CUDA_SUCCESS;
}

CUAPI cuStreamIsCapturing(CUstream handle, int *status) {
  HIOSC_ENTER;
  HIOSC_CHECK(status, CUDA_ERROR_INVALID_VALUE);
  StreamPtr stream = m.stream(handle);
  HIOSC_CHECK(stream, CUDA_ERROR_INVALID_HANDLE);
  if (!stream->capture)
    if (CUresult refused = m.may_enqueue(*stream)) return refused;
  *status = stream->capture ? stream->capture->status : CAPTURE_NONE;
  return CUDA_SUCCESS;
}

CUAPI cuStreamGetCaptureInfo_v2(CUstream handle, int *status, uint64_t *id, CUgraph *graph, void **dependencies, size_t *count) {
  if (graph || dependencies || count) return CUDA_ERROR_NOT_SUPPORTED; // a graph in capture has no handle here
  CUresult known = cuStreamIsCapturing(handle, status);
  if (known || *status != CAPTURE_ACTIVE || !id) return known;
  HIOSC_ENTER;
  if (StreamPtr stream = m.stream(handle); stream && stream->capture) *id = stream->capture->id;
  return CUDA_SUCCESS;
}

CUAPI cuThreadExchangeStreamCaptureMode(int *mode) {
  HIOSC_CHECK(mode && *mode >= CAPTURE_GLOBAL && *mode <= CAPTURE_RELAXED, CUDA_ERROR_INVALID_VALUE);
  std::swap(*mode, thread_capture_mode);
  return CUDA_SUCCESS;
}

CUAPI cuGraphCreate(CUgraph *out, unsigned flags) {
  HIOSC_ENTER;
  HIOSC_CHECK(out && !flags, CUDA_ERROR_INVALID_VALUE);
  *out = as_handle<CUgraph>(m.graphs.add(std::make_shared<Graph>())->handle);
  return CUDA_SUCCESS;
}

// Only returns the number of nodes: they have no handles here.
CUAPI cuGraphGetNodes(CUgraph handle, void **nodes, size_t *count) {
  HIOSC_ENTER;
  GraphPtr graph = m.graphs.find(handle);
  HIOSC_CHECK(graph && count, CUDA_ERROR_INVALID_VALUE);
  HIOSC_CHECK(!nodes, CUDA_ERROR_NOT_SUPPORTED);
  *count = graph->nodes.size();
  return CUDA_SUCCESS;
}

CUAPI cuGraphDestroy(CUgraph handle) {
  HIOSC_ENTER;
  return m.graphs.items.erase(uint64_t(handle)) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

CUAPI cuGraphInstantiateWithFlags(CUgraphExec *out, CUgraph handle, unsigned long long) {
  HIOSC_ENTER;
  GraphPtr graph = m.graphs.find(handle);
  HIOSC_CHECK(out && graph, CUDA_ERROR_INVALID_VALUE);
  HIOSC_CHECK(!m.options.refuse.count("instantiate"), CUDA_ERROR_OUT_OF_MEMORY);
  GraphExecPtr exec = m.graph_execs.add(std::make_shared<GraphExec>());
  exec->graph.nodes = graph->nodes;
  exec->stream_of = assign_streams(exec->graph);
  for (size_t node = 0; node < graph->nodes.size(); node++) {
    if (exec->stream_of[node] < exec->streams.size()) continue;
    auto stream = std::make_shared<Stream>();
    stream->number = m.stream_count++;
    stream->context = graph->nodes[node].context;
    stream->device = graph->nodes[node].device;
    stream->flags = CU_STREAM_NON_BLOCKING;
    exec->streams.push_back(stream);
    m.scheduler.add(stream);
  }
  *out = as_handle<CUgraphExec>(exec->handle);
  return CUDA_SUCCESS;
}
CUAPI cuGraphInstantiateWithParams(CUgraphExec *, CUgraph, void *) { return CUDA_ERROR_NOT_SUPPORTED; }

CUAPI cuGraphExecDestroy(CUgraphExec handle) {
  HIOSC_ENTER;
  GraphExecPtr exec = m.graph_execs.find(handle);
  HIOSC_CHECK(exec, CUDA_ERROR_INVALID_VALUE);
  for (const StreamPtr &stream : exec->streams) m.scheduler.retire(stream); // a launch in flight completes normally
  m.graph_execs.items.erase(exec->handle);
  return CUDA_SUCCESS;
}

CUAPI cuGraphUpload(CUgraphExec handle, CUstream stream) {
  HIOSC_ENTER;
  HIOSC_CHECK(m.graph_execs.find(handle), CUDA_ERROR_INVALID_VALUE);
  return m.stream(stream) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
}

CUAPI cuGraphLaunch(CUgraphExec handle, CUstream stream_handle) {
  HIOSC_ENTER;
  GraphExecPtr exec = m.graph_execs.find(handle);
  HIOSC_CHECK(exec, CUDA_ERROR_INVALID_VALUE);
  StreamPtr stream = m.stream(stream_handle);
  HIOSC_CHECK(stream, CUDA_ERROR_INVALID_HANDLE);
  if (stream->capture) return m.invalidate(*stream->capture, CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
  if (CUresult refused = m.may_enqueue(*stream)) return refused;
  for (const GraphNode &node : exec->graph.nodes) {
    bool gone = !m.contexts.find(node.context) || (node.sound && !node.sound());
    if (!gone) continue;
    warn("a graph was launched after something it uses was freed: %s", node.what.c_str());
    return CUDA_ERROR_ILLEGAL_ADDRESS;
  }
  std::vector<CompletionPtr> before;
  if (exec->last && !exec->last->done) before.push_back(exec->last);
  CompletionPtr start = m.enqueue(*stream, "graph begins", nullptr, before);
  std::vector<CompletionPtr> done;
  for (size_t i = 0; i < exec->graph.nodes.size(); i++) {
    const GraphNode &node = exec->graph.nodes[i];
    std::vector<CompletionPtr> after{start};
    for (size_t before_it : node.after) after.push_back(done[before_it]);
    if (node.awaits && node.awaits->record) after.push_back(node.awaits->record);
    CompletionPtr completion = m.scheduler.enqueue(*exec->streams[exec->stream_of[i]], node.what, node.run, std::move(after));
    if (node.records) {
      node.records->record = completion;
      node.records->capture = nullptr;
    }
    done.push_back(completion);
  }
  exec->last = m.enqueue(*stream, "graph ends", nullptr, done);
  return CUDA_SUCCESS;
}
