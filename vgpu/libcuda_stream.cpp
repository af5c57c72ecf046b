// The driver calls for streams and events.
#include "machine.h"

static CUresult create(CUstream *out, unsigned flags, int priority) {
  HIOSC_ENTER;
  HIOSC_CHECK(out && flags <= CU_STREAM_NON_BLOCKING, CUDA_ERROR_INVALID_VALUE);
  ContextPtr context = m.current();
  HIOSC_CHECK(context, CUDA_ERROR_INVALID_CONTEXT);
  int clamped = priority > 0 ? 0 : priority < -5 ? -5 : priority;
  *out = as_handle<CUstream>(m.new_stream(*context, flags, clamped)->handle);
  return CUDA_SUCCESS;
}
CUAPI cuStreamCreate(CUstream *out, unsigned flags) { return create(out, flags, 0); }
CUAPI cuStreamCreateWithPriority(CUstream *out, unsigned flags, int priority) { return create(out, flags, priority); }

CUAPI cuStreamDestroy_v2(CUstream handle) {
  HIOSC_ENTER;
  StreamPtr stream = m.streams.find(handle); // the NULL stream cannot be destroyed
  HIOSC_CHECK(stream, CUDA_ERROR_INVALID_HANDLE);
  ContextPtr context = m.contexts.find(stream->context);
  HIOSC_CHECK(!context || context->legacy != stream, CUDA_ERROR_INVALID_HANDLE);
  if (stream->capture) m.invalidate(*stream->capture, CUDA_SUCCESS);
  m.streams.items.erase(uint64_t(handle));
  m.scheduler.retire(stream); // its remaining operations run later, as on a real driver
  return CUDA_SUCCESS;
}

CUAPI cuStreamSynchronize(CUstream handle) {
  HIOSC_ENTER;
  StreamPtr stream = m.stream(handle);
  HIOSC_CHECK(stream, CUDA_ERROR_INVALID_HANDLE);
  HIOSC_ALLOW(m.may_wait(*stream));
  return m.scheduler.run_until(entry.lock, [&] { return m.idle(*stream); }) ? CUDA_SUCCESS : CUDA_ERROR_UNKNOWN;
}

CUAPI cuStreamQuery(CUstream handle) {
  HIOSC_ENTER;
  StreamPtr stream = m.stream(handle);
  HIOSC_CHECK(stream, CUDA_ERROR_INVALID_HANDLE);
  HIOSC_ALLOW(m.may_wait(*stream));
  m.scheduler.poll(entry.lock);
  return m.idle(*stream) ? CUDA_SUCCESS : CUDA_ERROR_NOT_READY;
}

CUAPI cuStreamGetCtx(CUstream handle, CUcontext *out) {
  HIOSC_ENTER;
  HIOSC_CHECK(out, CUDA_ERROR_INVALID_VALUE);
  StreamPtr stream = m.stream(handle);
  HIOSC_CHECK(stream, CUDA_ERROR_INVALID_HANDLE);
  *out = as_handle<CUcontext>(stream->context);
  return CUDA_SUCCESS;
}

CUAPI cuStreamGetFlags(CUstream handle, unsigned *flags) {
  HIOSC_ENTER;
  HIOSC_CHECK(flags, CUDA_ERROR_INVALID_VALUE);
  StreamPtr stream = m.stream(handle);
  HIOSC_CHECK(stream, CUDA_ERROR_INVALID_HANDLE);
  *flags = stream->flags;
  return CUDA_SUCCESS;
}

CUAPI cuStreamGetPriority(CUstream handle, int *priority) {
  HIOSC_ENTER;
  HIOSC_CHECK(priority, CUDA_ERROR_INVALID_VALUE);
  StreamPtr stream = m.stream(handle);
  HIOSC_CHECK(stream, CUDA_ERROR_INVALID_HANDLE);
  *priority = stream->priority;
  return CUDA_SUCCESS;
}

CUAPI cuStreamWaitEvent(CUstream stream_handle, CUevent event_handle, unsigned flags) {
  HIOSC_ENTER;
  HIOSC_CHECK(flags <= 1, CUDA_ERROR_INVALID_VALUE);
  StreamPtr stream = m.stream(stream_handle);
  EventPtr event = m.events.find(event_handle);
  HIOSC_CHECK(stream && event, CUDA_ERROR_INVALID_HANDLE);
  HIOSC_ALLOW(m.may_enqueue(*stream));
  std::string name = "event " + std::to_string(event->number);
  bool external = flags & 1;
  if (external) {
    HIOSC_CHECK(stream->capture, CUDA_ERROR_INVALID_VALUE); // external waits exist only in a capture
    GraphNode node;
    node.what = "wait " + name;
    node.awaits = event;
    m.capture_node(*stream, std::move(node));
    return CUDA_SUCCESS;
  }
  if (event->capture) return m.wait_captured(stream, *event);
  if (stream->capture) return m.invalidate(*stream->capture, CUDA_ERROR_STREAM_CAPTURE_ISOLATION);
  if (!event->record) {
    warn("stream %llu waits for %s, which was never recorded: the wait does nothing", (unsigned long long)stream->number, name.c_str());
    return m.options.strict ? CUDA_ERROR_INVALID_VALUE : CUDA_SUCCESS;
  }
  m.enqueue(*stream, "wait " + name, nullptr, {event->record});
  return CUDA_SUCCESS;
}

CUAPI cuLaunchHostFunc(CUstream handle, void (*function)(void *), void *data) {
  HIOSC_ENTER;
  HIOSC_CHECK(function, CUDA_ERROR_INVALID_VALUE);
  StreamPtr stream = m.stream(handle);
  HIOSC_CHECK(stream, CUDA_ERROR_INVALID_HANDLE);
  HIOSC_ALLOW(m.may_enqueue(*stream));
  m.enqueue(*stream, "host function", [=] { function(data); });
  return CUDA_SUCCESS;
}

CUAPI cuEventCreate(CUevent *out, unsigned flags) {
  HIOSC_ENTER;
  HIOSC_CHECK(out && flags <= 7, CUDA_ERROR_INVALID_VALUE);
  ContextPtr context = m.current();
  HIOSC_CHECK(context, CUDA_ERROR_INVALID_CONTEXT);
  EventPtr event = m.events.add(std::make_shared<Event>());
  event->number = m.event_count++;
  event->context = context->handle;
  event->flags = flags;
  *out = as_handle<CUevent>(event->handle);
  return CUDA_SUCCESS;
}

CUAPI cuEventDestroy_v2(CUevent handle) {
  HIOSC_ENTER;
  return m.events.items.erase(uint64_t(handle)) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
}

static CUresult record(CUevent event_handle, CUstream stream_handle, bool external) {
  HIOSC_ENTER;
  StreamPtr stream = m.stream(stream_handle);
  EventPtr event = m.events.find(event_handle);
  HIOSC_CHECK(stream && event && stream->context == event->context, CUDA_ERROR_INVALID_HANDLE);
  HIOSC_ALLOW(m.may_enqueue(*stream));
  std::string what = "record event " + std::to_string(event->number);
  if (external) {
    HIOSC_CHECK(stream->capture, CUDA_ERROR_INVALID_VALUE);
    GraphNode node;
    node.what = what;
    node.records = event; // at each launch
    m.capture_node(*stream, std::move(node));
    return CUDA_SUCCESS;
  }
  event->capture = stream->capture;
  event->frontier = stream->frontier;
  event->record = stream->capture ? nullptr : m.enqueue(*stream, what, nullptr);
  return CUDA_SUCCESS;
}
CUAPI cuEventRecord(CUevent event, CUstream stream) { return record(event, stream, false); }
CUAPI cuEventRecordWithFlags(CUevent event, CUstream stream, unsigned flags) {
  return flags <= 1 ? record(event, stream, flags) : CUDA_ERROR_INVALID_VALUE;
}

// Whether the host may query the event: not if it was recorded in a capture.
static CUresult may_query(Machine &m, const Event &event) {
  return event.capture ? m.invalidate(*event.capture, CUDA_ERROR_CAPTURED_EVENT) : CUDA_SUCCESS;
}

CUAPI cuEventSynchronize(CUevent handle) {
  HIOSC_ENTER;
  EventPtr event = m.events.find(handle);
  HIOSC_CHECK(event, CUDA_ERROR_INVALID_HANDLE);
  HIOSC_ALLOW(may_query(m, *event));
  return event->record ? m.wait_for(entry.lock, event->record) : CUDA_SUCCESS;
}

CUAPI cuEventQuery(CUevent handle) {
  HIOSC_ENTER;
  EventPtr event = m.events.find(handle);
  HIOSC_CHECK(event, CUDA_ERROR_INVALID_HANDLE);
  HIOSC_ALLOW(may_query(m, *event));
  HIOSC_ALLOW(m.unsafe_call());
  if (event->record && !event->record->done) m.scheduler.poll(entry.lock);
  return !event->record || event->record->done ? CUDA_SUCCESS : CUDA_ERROR_NOT_READY;
}

static CUresult elapsed(float *milliseconds, CUevent start_handle, CUevent end_handle) {
  HIOSC_ENTER;
  HIOSC_CHECK(milliseconds, CUDA_ERROR_INVALID_VALUE);
  EventPtr start = m.events.find(start_handle), end = m.events.find(end_handle);
  HIOSC_CHECK(start && end, CUDA_ERROR_INVALID_HANDLE);
  HIOSC_ALLOW(may_query(m, *start));
  HIOSC_ALLOW(may_query(m, *end));
  HIOSC_CHECK(start->record && end->record, CUDA_ERROR_INVALID_HANDLE);
  HIOSC_CHECK(!((start->flags | end->flags) & CU_EVENT_DISABLE_TIMING), CUDA_ERROR_INVALID_HANDLE);
  HIOSC_CHECK(start->record->done && end->record->done, CUDA_ERROR_NOT_READY);
  *milliseconds = float((end->record->seconds - start->record->seconds) * 1e3);
  return CUDA_SUCCESS;
}
CUAPI cuEventElapsedTime(float *milliseconds, CUevent start, CUevent end) { return elapsed(milliseconds, start, end); }
CUAPI cuEventElapsedTime_v2(float *milliseconds, CUevent start, CUevent end) { return elapsed(milliseconds, start, end); }
