// Implementation of machine.h.

#include "machine.h"

#include <cstdarg>

thread_local std::vector<uint64_t> context_stack;

Machine &machine() {
  static Machine *one = new Machine;
  return *one;
}

Entry::Entry() : machine(::machine()) {
  if (inside_operation) { // a host function may not call the driver
    refused = CUDA_ERROR_NOT_PERMITTED;
    return;
  }
  lock = Lock(machine.mutex);
  if (!machine.initialized) refused = CUDA_ERROR_NOT_INITIALIZED;
}

void warn(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  std::fputs("hiosc-vgpu: warning: ", stderr);
  std::vfprintf(stderr, format, arguments);
  std::fputc('\n', stderr);
  va_end(arguments);
}

ContextPtr Machine::current() const { return context_stack.empty() ? nullptr : contexts.find(context_stack.back()); }

StreamPtr Machine::stream(CUstream handle) const {
  if (uint64_t(handle) > 2) return streams.find(handle); // 1 and 2: legacy and per-thread default stream, here the same
  ContextPtr context = current();
  return context ? context->legacy : nullptr;
}

StreamPtr Machine::new_stream(const Context &context, unsigned flags, int priority) {
  auto stream = std::make_shared<Stream>();
  stream->number = stream_count++;
  stream->context = context.handle;
  stream->device = context.device;
  stream->flags = flags;
  stream->priority = priority;
  streams.add(stream);
  scheduler.add(stream);
  return stream;
}

ContextPtr Machine::new_context(int device, unsigned flags, bool is_primary) {
  auto context = contexts.add(std::make_shared<Context>());
  context->device = device;
  context->primary = is_primary;
  context->flags = flags;
  context->legacy = new_stream(*context, 0, 0);
  return context;
}

void Machine::destroy_context(Lock &lock, const ContextPtr &context) {
  drain(lock); // streams of other contexts may still use its memory
  may_synchronise_context(context->handle); // invalidates the captures that it takes part in
  auto erase = [&](auto &table, auto on_erase) {
    for (auto it = table.items.begin(); it != table.items.end();) {
      if (it->second->context == context->handle) {
        on_erase(it->second);
        it = table.items.erase(it);
      } else {
        ++it;
      }
    }
  };
  erase(streams, [&](const StreamPtr &stream) { scheduler.retire(stream); });
  erase(events, [](auto &) {});
  erase(functions, [](auto &) {});
  erase(modules, [](auto &) {});
  memory.release_context(context->handle);
  for (auto &[handle, other] : contexts.items) other->peers.erase(context->handle);
  contexts.items.erase(context->handle);
}

CompletionPtr Machine::enqueue(Stream &stream, std::string what, std::function<void()> run, std::vector<CompletionPtr> after,
                               std::function<bool()> sound) {
  if (stream.capture) {
    GraphNode node;
    node.what = std::move(what);
    node.run = std::move(run);
    node.sound = std::move(sound);
    capture_node(stream, std::move(node));
    return nullptr;
  }
  auto pending = [&](const Stream &other) {
    if (other.last && !other.last->done) after.push_back(other.last);
  };
  if (!(stream.flags & CU_STREAM_NON_BLOCKING)) {
    ContextPtr context = contexts.find(stream.context);
    if (context && context->legacy.get() == &stream) {
      for (auto &[number, other] : scheduler.streams())
        if (other->context == stream.context && other.get() != &stream && !(other->flags & CU_STREAM_NON_BLOCKING)) pending(*other);
    } else if (context) {
      pending(*context->legacy);
    }
  }
  return scheduler.enqueue(stream, std::move(what), std::move(run), std::move(after));
}

// There are always operations to run until the condition holds, since each waits only for earlier
// ones.
CUresult Machine::wait_for(Lock &lock, const CompletionPtr &completion) {
  return scheduler.run_until(lock, [&] { return completion->done; }) ? CUDA_SUCCESS : CUDA_ERROR_UNKNOWN;
}

CUresult Machine::drain(Lock &lock) {
  return scheduler.run_until(lock, [] { return false; }), CUDA_SUCCESS;
}

CUresult Machine::drain(Lock &lock, uint64_t context) {
  auto done = [&] {
    for (auto &[number, stream] : scheduler.streams())
      if (stream->context == context && !idle(*stream)) return false;
    return true;
  };
  return scheduler.run_until(lock, done) ? CUDA_SUCCESS : CUDA_ERROR_UNKNOWN;
}
