// Stream capture and CUDA graphs of the virtual driver.
//
// Between cuStreamBeginCapture and cuStreamEndCapture, what a program enqueues on a stream becomes
// the nodes of a graph instead of running. A stream in capture has a *frontier*: the nodes that its
// next node depends on. An event recorded there stores the current frontier. A stream that waits
// for the event joins the capture (fork) or adds to its own frontier (join), across contexts and
// devices. The capture ends on the stream where it began. Every node must then be an ancestor of
// that stream's frontier.
//
// What a real driver refuses is refused here, with the same result codes. Most refusals invalidate
// the capture: nothing more can be captured, and cuStreamEndCapture reports it.
// * The NULL stream cannot be captured, nor used while a blocking stream of its context is being
//   captured.
// * The host cannot wait for, or query, a stream or an event in capture.
// * A stream in capture cannot wait for an event recorded outside the capture or in another one,
//   and a stream outside it cannot wait for an event recorded in it.
// * Copies from or to pageable host memory, cuMemcpyPeerAsync, stream-ordered allocation and the
//   launch of another graph cannot be captured (a real driver has nodes for the last two; no
//   program of hiosc needs them).
// * Calls that may synchronise ("potentially unsafe") are refused on a capturing thread, unless in
//   relaxed mode, and on all threads while one captures in global mode: allocation and freeing of
//   memory, loading of modules, synchronous copies, cuEventQuery.
//
// A driver that loads a kernel at its first launch ("lazy loading") may have to synchronise to do
// so. NVIDIA does not document what happens if a stream is in capture then. `capture-cold` of
// HIOSC_VGPU_REFUSE is the worst case: the first launch of a kernel must not be captured.
//
// A launch of an instantiated graph distributes its nodes over hidden streams: if one of the nodes
// that a node depends on is the last of a hidden stream, the node goes to that stream. It waits for
// the others. So the order of execution is drawn as for streams (scheduler.h), from all orders that
// the dependencies allow. Launches of one graph run one after the other.
#pragma once
#include <thread>

#include "cuda_abi.h"
#include "scheduler.h"

struct Event;

struct GraphNode {
  std::string what;
  std::function<void()> run;   // empty: an external event record or wait
  std::function<bool()> sound; // empty: always; else called at launch: does all memory that it uses still exist?
  std::vector<size_t> after;   // earlier nodes, ascending
  uint64_t context = 0;
  int device = 0;
  std::shared_ptr<Event> records, awaits; // an external record or wait
};

struct Graph {
  uint64_t handle = 0;
  std::vector<GraphNode> nodes;
};
using GraphPtr = std::shared_ptr<Graph>;

struct GraphExec {
  uint64_t handle = 0;
  Graph graph; // as it was when it was instantiated
  std::vector<size_t> stream_of; // hidden stream of each node
  std::vector<StreamPtr> streams;
  CompletionPtr last;           // the end of the latest launch
};
using GraphExecPtr = std::shared_ptr<GraphExec>;

enum CaptureMode : int { CAPTURE_GLOBAL = 0, CAPTURE_THREAD_LOCAL = 1, CAPTURE_RELAXED = 2 };
enum CaptureStatus : int { CAPTURE_NONE = 0, CAPTURE_ACTIVE = 1, CAPTURE_INVALIDATED = 2 };

struct Capture {
  uint64_t id = 0;
  CaptureStatus status = CAPTURE_ACTIVE; // CAPTURE_NONE: it has ended
  CaptureMode mode = CAPTURE_GLOBAL;
  std::thread::id thread;
  uint64_t origin = 0; // number of the stream where it began
  std::vector<StreamPtr> streams;
  GraphPtr graph;
};

// Whether every node is in `frontier` or an ancestor of it.
bool all_joined(const Graph &graph, const std::vector<size_t> &frontier);
// Adds the missing nodes of `more` to a frontier.
void merge(std::vector<size_t> &frontier, const std::vector<size_t> &more);
// Assigns the nodes to hidden streams: for each node the number of its stream, from 0.
std::vector<size_t> assign_streams(const Graph &graph);

// How this thread treats potentially unsafe calls: cuThreadExchangeStreamCaptureMode.
extern thread_local int thread_capture_mode;
