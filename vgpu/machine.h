// The virtual machine: N devices in one process, behind the CUDA driver's binary interface.
//
// A program built for the CUDA driver loads this library instead, unchanged (LD_LIBRARY_PATH).
// Device memory is memory of the process. Kernels are the program's own kernels compiled for the
// CPU, found by name (kernels.h). Operations run when the program synchronises, in an order drawn
// by a seeded generator (scheduler.h).
//
// Some checks are stricter than a real driver's. Handles are never reused, so a stale one is
// rejected. The ranges of copies are checked. Copies between devices require that the program has
// enabled peer access, except cuMemcpyPeer and cuMemcpyPeerAsync.
//
// Calls on managed memory exist and return CUDA_ERROR_NOT_SUPPORTED.
//
// One mutex guards everything. It is released while an operation runs.
#pragma once
#include <map>
#include <memory>
#include <set>
#include <string>

#include "capture.h"
#include "cuda_abi.h"
#include "kernels.h"
#include "memory.h"
#include "options.h"
#include "scheduler.h"

struct Context {
  uint64_t handle = 0;
  int device = 0;
  bool primary = false;
  int references = 0;
  unsigned flags = 0;
  std::set<uint64_t> peers; // contexts whose memory it may access
  StreamPtr legacy;         // the NULL stream
};
using ContextPtr = std::shared_ptr<Context>;

struct Event {
  uint64_t handle = 0;
  uint64_t number = 0;
  uint64_t context = 0;
  unsigned flags = 0;
  CompletionPtr record;             // the latest; null: never recorded, or recorded in a capture
  std::shared_ptr<Capture> capture; // the capture it was last recorded in
  std::vector<size_t> frontier;     // the frontier it recorded there
};
using EventPtr = std::shared_ptr<Event>;

struct Module {
  uint64_t handle = 0;
  uint64_t context = 0;
  std::string sources; // folder of its kernels' sources, for HIOSC_VGPU_COMPILER
  std::map<std::string, uint64_t> functions;
};
using ModulePtr = std::shared_ptr<Module>;

struct Function {
  uint64_t handle = 0;
  uint64_t module = 0;
  uint64_t context = 0;
  const hiosc_kernel_entry *kernel = nullptr;
  int dynamic_shared = 0; // the most bytes that a launch may use
  bool launched = false;
};
using FunctionPtr = std::shared_ptr<Function>;

// Objects by handle. Handles count up and are never reused.
template <class T> class Table {
public:
  explicit Table(uint64_t kind) : next_(kind << 40) {}
  std::shared_ptr<T> add(std::shared_ptr<T> item) {
    item->handle = next_ += 16;
    items[item->handle] = item;
    return item;
  }
  template <class H> std::shared_ptr<T> find(H handle) const {
    auto found = items.find(uint64_t(handle));
    return found == items.end() ? nullptr : found->second;
  }
  std::map<uint64_t, std::shared_ptr<T>> items;

private:
  uint64_t next_;
};

struct Limits { // of a device; they depend on its architecture
  int shared_default, shared_opt_in, shared_multiprocessor, threads_multiprocessor, blocks_multiprocessor, multiprocessors;
};

struct Machine {
  std::mutex mutex;
  bool initialized = false;
  Options options;
  std::vector<Limits> limits; // of each device
  Memory memory;
  Scheduler scheduler;
  KernelLibrary kernels;
  std::unique_ptr<BlockPool> pool;
  Table<Context> contexts{0x51};
  Table<Stream> streams{0x52};
  Table<Event> events{0x53};
  Table<Module> modules{0x54};
  Table<Function> functions{0x55};
  Table<Graph> graphs{0x57};
  Table<GraphExec> graph_execs{0x58};
  std::map<uint64_t, std::shared_ptr<Capture>> captures; // those in progress
  std::vector<uint64_t> primary; // context of each device, or 0
  uint64_t stream_count = 0, event_count = 0, capture_count = 0;

  bool device_exists(CUdevice device) const { return device >= 0 && device < options.count; }
  ContextPtr current() const;              // of the calling thread
  StreamPtr stream(CUstream handle) const; // the NULL stream is the current context's
  StreamPtr new_stream(const Context &context, unsigned flags, int priority);
  ContextPtr new_context(int device, unsigned flags, bool primary);
  void destroy_context(Lock &lock, const ContextPtr &context);

  // Appends an operation, with the implicit order between the NULL stream and the blocking streams
  // of its context. In a capture it becomes a node instead, and there is no completion; each launch
  // then calls `sound`. Callers must check `may_enqueue` first.
  CompletionPtr enqueue(Stream &stream, std::string what, std::function<void()> run, std::vector<CompletionPtr> after = {},
                        std::function<bool()> sound = nullptr);
  CUresult wait_for(Lock &lock, const CompletionPtr &completion);
  CUresult drain(Lock &lock);                   // waits for all streams of all devices
  CUresult drain(Lock &lock, uint64_t context); // waits for all streams of a context

  // For captures (capture.h). Each returns CUDA_SUCCESS, or why the call is refused. A refusal may
  // invalidate captures.
  CUresult may_enqueue(const Stream &stream);
  CUresult may_wait(const Stream &stream); // before the host waits for the stream
  CUresult may_synchronise_context(uint64_t context);
  CUresult unsafe_call(); // before a call that may synchronise
  CUresult wait_captured(const StreamPtr &stream, const Event &event);
  void capture_node(Stream &stream, GraphNode node);
  CUresult invalidate(Capture &capture, CUresult why);
  void end_capture(Capture &capture);

  bool idle(const Stream &stream) const { return stream.operations.empty(); }
};

// The machine of this process. Never destroyed: other threads may still use it when the process
// ends.
Machine &machine();
// The contexts of the calling thread; the last is current.
extern thread_local std::vector<uint64_t> context_stack;

// Every API call starts by constructing one. It takes the lock and checks that the call is allowed.
struct Entry {
  Machine &machine;
  Lock lock;
  CUresult refused = CUDA_SUCCESS;
  Entry();
};

#define HIOSC_ENTER                                                                                                                        \
  Entry entry;                                                                                                                             \
  if (entry.refused) return entry.refused;                                                                                                 \
  Machine &m = entry.machine;                                                                                                              \
  (void)m
#define HIOSC_CHECK(condition, result)                                                                                                     \
  do {                                                                                                                                     \
    if (!(condition)) return result;                                                                                                       \
  } while (0)

#define HIOSC_ALLOW(call)                                                                                                                  \
  do {                                                                                                                                     \
    if (CUresult why_not = (call)) return why_not;                                                                                         \
  } while (0)

template <class H> H as_handle(uint64_t value) { return reinterpret_cast<H>(value); }

// Prints a line on stderr.
void warn(const char *format, ...) __attribute__((format(printf, 1, 2)));
