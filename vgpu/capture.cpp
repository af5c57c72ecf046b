// Implementation of capture.h.

#include "capture.h"
#include "machine.h"

#include <algorithm>

thread_local int thread_capture_mode = CAPTURE_GLOBAL;

bool all_joined(const Graph &graph, const std::vector<size_t> &frontier) {
  std::vector<bool> joined(graph.nodes.size(), false);
  for (size_t node : frontier) joined[node] = true;
  for (size_t node = graph.nodes.size(); node-- > 0;) { // a node depends on earlier ones only
    if (!joined[node]) return false;
    for (size_t before : graph.nodes[node].after) joined[before] = true;
  }
  return true;
}

void merge(std::vector<size_t> &frontier, const std::vector<size_t> &more) {
  frontier.insert(frontier.end(), more.begin(), more.end());
  std::sort(frontier.begin(), frontier.end());
  frontier.erase(std::unique(frontier.begin(), frontier.end()), frontier.end());
}

std::vector<size_t> assign_streams(const Graph &graph) {
  std::vector<size_t> streams, tails; // stream of each node; last node of each stream
  for (size_t node = 0; node < graph.nodes.size(); node++) {
    const GraphNode &self = graph.nodes[node];
    size_t stream = 0;
    auto follows = [&](size_t tail) {
      return graph.nodes[tail].context == self.context && std::binary_search(self.after.begin(), self.after.end(), tail);
    };
    while (stream < tails.size() && !follows(tails[stream])) stream++;
    if (stream == tails.size()) tails.push_back(node);
    tails[stream] = node;
    streams.push_back(stream);
  }
  return streams;
}

// --- Machine

CUresult Machine::invalidate(Capture &capture, CUresult why) {
  if (capture.status == CAPTURE_ACTIVE) capture.status = CAPTURE_INVALIDATED;
  return why;
}

void Machine::end_capture(Capture &capture) {
  capture.status = CAPTURE_NONE;
  for (const StreamPtr &stream : capture.streams) {
    stream->capture = nullptr;
    stream->frontier.clear();
  }
  capture.streams.clear();
  captures.erase(capture.id);
}

CUresult Machine::may_enqueue(const Stream &stream) {
  if (stream.capture) return stream.capture->status == CAPTURE_ACTIVE ? CUDA_SUCCESS : CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
  ContextPtr context = contexts.find(stream.context);
  if (!context || context->legacy.get() != &stream) return CUDA_SUCCESS;
  for (auto &[id, capture] : captures)
    for (const StreamPtr &other : capture->streams)
      if (other->context == stream.context && !(other->flags & CU_STREAM_NON_BLOCKING))
        return invalidate(*capture, CUDA_ERROR_STREAM_CAPTURE_IMPLICIT); // the NULL stream would wait for it
  return CUDA_SUCCESS;
}

CUresult Machine::may_wait(const Stream &stream) {
  if (stream.capture) return invalidate(*stream.capture, CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
  return may_enqueue(stream);
}

CUresult Machine::may_synchronise_context(uint64_t context) {
  CUresult refused = CUDA_SUCCESS;
  for (auto &[id, capture] : captures)
    for (const StreamPtr &stream : capture->streams)
      if (stream->context == context) refused = invalidate(*capture, CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
  return refused;
}

CUresult Machine::unsafe_call() {
  if (thread_capture_mode == CAPTURE_RELAXED) return CUDA_SUCCESS;
  CUresult refused = CUDA_SUCCESS;
  for (auto &[id, capture] : captures) {
    bool own = capture->thread == std::this_thread::get_id() && capture->mode != CAPTURE_RELAXED;
    bool global = capture->mode == CAPTURE_GLOBAL && thread_capture_mode == CAPTURE_GLOBAL;
    if (own || global) refused = invalidate(*capture, CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
  }
  return refused;
}

void Machine::capture_node(Stream &stream, GraphNode node) {
  node.after = stream.frontier;
  node.context = stream.context;
  node.device = stream.device;
  std::vector<GraphNode> &nodes = stream.capture->graph->nodes;
  nodes.push_back(std::move(node));
  stream.frontier = {nodes.size() - 1};
}

// Makes a stream wait for an event that was recorded in a capture.
CUresult Machine::wait_captured(const StreamPtr &stream, const Event &event) {
  Capture &capture = *event.capture;
  if (capture.status != CAPTURE_ACTIVE) {
    if (stream->capture) return invalidate(*stream->capture, CUDA_ERROR_CAPTURED_EVENT);
    return capture.status == CAPTURE_INVALIDATED ? CUDA_ERROR_STREAM_CAPTURE_INVALIDATED : CUDA_ERROR_CAPTURED_EVENT;
  }
  if (stream->capture && stream->capture != event.capture) {
    invalidate(*stream->capture, CUDA_ERROR_STREAM_CAPTURE_MERGE);
    return invalidate(capture, CUDA_ERROR_STREAM_CAPTURE_MERGE);
  }
  if (!stream->capture) {
    ContextPtr context = contexts.find(stream->context);
    if (context && context->legacy == stream) return invalidate(capture, CUDA_ERROR_STREAM_CAPTURE_IMPLICIT);
    bool foreign = stream->context != capture.streams.front()->context;
    if (foreign && options.refuse.count("capture-across")) return invalidate(capture, CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
    stream->capture = event.capture;
    stream->frontier.clear();
    capture.streams.push_back(stream);
  }
  merge(stream->frontier, event.frontier);
  return CUDA_SUCCESS;
}
