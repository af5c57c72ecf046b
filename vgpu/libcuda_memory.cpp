// The driver calls for memory: allocation, copies, fills.
#include "machine.h"

#include <cstring>

static CUresult allocate(Entry &entry, CUdeviceptr *out, size_t bytes, const Context &context) {
  Machine &m = entry.machine;
  HIOSC_CHECK(out && bytes, CUDA_ERROR_INVALID_VALUE);
  uint64_t needed = rounded(bytes, ALIGNMENT);
  auto fits = [&] { return needed >= bytes && needed <= m.options.memory && m.memory.used(context.device) <= m.options.memory - needed; };
  if (!fits()) m.drain(entry.lock); // frees that are still enqueued
  HIOSC_CHECK(fits(), CUDA_ERROR_OUT_OF_MEMORY);
  Allocation *allocation = m.memory.allocate(bytes, context.device, context.handle);
  HIOSC_CHECK(allocation, CUDA_ERROR_OUT_OF_MEMORY);
  *out = allocation->base;
  return CUDA_SUCCESS;
}

CUAPI cuMemAlloc_v2(CUdeviceptr *out, size_t bytes) {
  HIOSC_ENTER;
  ContextPtr context = m.current();
  HIOSC_CHECK(context, CUDA_ERROR_INVALID_CONTEXT);
  HIOSC_ALLOW(m.unsafe_call());
  return allocate(entry, out, bytes, *context);
}

CUAPI cuMemFree_v2(CUdeviceptr address) {
  HIOSC_ENTER;
  if (!address) return CUDA_SUCCESS;
  Allocation *allocation = m.memory.starting_at(address);
  HIOSC_CHECK(allocation && allocation->device >= 0 && !allocation->freed, CUDA_ERROR_INVALID_VALUE);
  HIOSC_ALLOW(m.unsafe_call());
  allocation->freed = true;
  m.drain(entry.lock); // a real driver waits here, too
  m.memory.release(address);
  return CUDA_SUCCESS;
}

CUAPI cuMemAllocAsync(CUdeviceptr *out, size_t bytes, CUstream handle) {
  HIOSC_ENTER;
  StreamPtr stream = m.stream(handle);
  HIOSC_CHECK(stream, CUDA_ERROR_INVALID_HANDLE);
  if (stream->capture) return m.invalidate(*stream->capture, CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
  ContextPtr context = m.contexts.find(stream->context);
  HIOSC_CHECK(context, CUDA_ERROR_INVALID_CONTEXT);
  return allocate(entry, out, bytes, *context);
}
CUAPI cuMemAllocFromPoolAsync(CUdeviceptr *out, size_t bytes, CUmemoryPool, CUstream stream) { return cuMemAllocAsync(out, bytes, stream); }

CUAPI cuMemFreeAsync(CUdeviceptr address, CUstream handle) {
  HIOSC_ENTER;
  StreamPtr stream = m.stream(handle);
  HIOSC_CHECK(stream, CUDA_ERROR_INVALID_HANDLE);
  if (!address) return CUDA_SUCCESS;
  if (stream->capture) return m.invalidate(*stream->capture, CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
  HIOSC_ALLOW(m.may_enqueue(*stream));
  Allocation *allocation = m.memory.starting_at(address);
  HIOSC_CHECK(allocation && allocation->device >= 0 && !allocation->freed, CUDA_ERROR_INVALID_VALUE);
  allocation->freed = true;
  m.enqueue(*stream, "free", [&m, address] {
    Lock lock(m.mutex);
    m.memory.release(address);
  });
  return CUDA_SUCCESS;
}

CUAPI cuMemGetInfo_v2(size_t *free, size_t *total) {
  HIOSC_ENTER;
  HIOSC_CHECK(free && total, CUDA_ERROR_INVALID_VALUE);
  ContextPtr context = m.current();
  HIOSC_CHECK(context, CUDA_ERROR_INVALID_CONTEXT);
  *total = m.options.memory;
  *free = m.options.memory - m.memory.used(context->device);
  return CUDA_SUCCESS;
}

CUAPI cuMemGetAddressRange_v2(CUdeviceptr *base, size_t *bytes, CUdeviceptr address) {
  HIOSC_ENTER;
  Allocation *allocation = m.memory.find(address);
  HIOSC_CHECK(allocation && !allocation->freed, CUDA_ERROR_INVALID_VALUE);
  if (base) *base = allocation->base;
  if (bytes) *bytes = allocation->bytes;
  return CUDA_SUCCESS;
}

CUAPI cuMemAllocManaged(CUdeviceptr *, size_t, unsigned) { return CUDA_ERROR_NOT_SUPPORTED; }

static CUresult allocate_host(void **out, size_t bytes) {
  HIOSC_ENTER;
  HIOSC_CHECK(out && bytes, CUDA_ERROR_INVALID_VALUE);
  ContextPtr context = m.current();
  HIOSC_CHECK(context, CUDA_ERROR_INVALID_CONTEXT);
  HIOSC_ALLOW(m.unsafe_call());
  Allocation *allocation = m.memory.allocate(bytes, -1, context->handle);
  HIOSC_CHECK(allocation, CUDA_ERROR_OUT_OF_MEMORY);
  *out = reinterpret_cast<void *>(allocation->base);
  return CUDA_SUCCESS;
}
CUAPI cuMemAllocHost_v2(void **out, size_t bytes) { return allocate_host(out, bytes); }
CUAPI cuMemHostAlloc(void **out, size_t bytes, unsigned flags) {
  return flags <= 7 ? allocate_host(out, bytes) : CUDA_ERROR_INVALID_VALUE;
}

static CUresult free_host(void *address, bool registered) {
  HIOSC_ENTER;
  Allocation *allocation = m.memory.starting_at(uint64_t(address));
  bool known = allocation && allocation->device < 0 && !allocation->freed && allocation->registered == registered;
  HIOSC_ALLOW(m.unsafe_call());
  HIOSC_CHECK(known, registered ? CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED : CUDA_ERROR_INVALID_VALUE);
  allocation->freed = true;
  m.drain(entry.lock);
  m.memory.release(uint64_t(address));
  return CUDA_SUCCESS;
}
CUAPI cuMemFreeHost(void *address) { return free_host(address, false); }
CUAPI cuMemHostUnregister(void *address) { return free_host(address, true); }

CUAPI cuMemHostRegister_v2(void *address, size_t bytes, unsigned) {
  HIOSC_ENTER;
  HIOSC_CHECK(address && bytes && uint64_t(address) + bytes > uint64_t(address), CUDA_ERROR_INVALID_VALUE);
  ContextPtr context = m.current();
  HIOSC_CHECK(context, CUDA_ERROR_INVALID_CONTEXT);
  HIOSC_ALLOW(m.unsafe_call());
  HIOSC_CHECK(!m.memory.overlaps(uint64_t(address), bytes), CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED);
  m.memory.register_host(address, bytes, context->handle);
  return CUDA_SUCCESS;
}

CUAPI cuMemHostGetDevicePointer_v2(CUdeviceptr *out, void *address, unsigned flags) {
  HIOSC_ENTER;
  HIOSC_CHECK(out && !flags, CUDA_ERROR_INVALID_VALUE);
  Allocation *allocation = m.memory.find(uint64_t(address));
  HIOSC_CHECK(allocation && allocation->device < 0 && !allocation->freed, CUDA_ERROR_INVALID_VALUE);
  *out = uint64_t(address);
  return CUDA_SUCCESS;
}

CUAPI cuPointerGetAttribute(void *data, int attribute, CUdeviceptr address) {
  HIOSC_ENTER;
  HIOSC_CHECK(data, CUDA_ERROR_INVALID_VALUE);
  Allocation *allocation = m.memory.find(address);
  HIOSC_CHECK(allocation && !allocation->freed, CUDA_ERROR_INVALID_VALUE);
  ContextPtr context = m.contexts.find(allocation->context);
  switch (attribute) {
  case 1: *static_cast<uint64_t *>(data) = allocation->context; break;
  case 2: *static_cast<unsigned *>(data) = allocation->device < 0 ? 1 : 2; break; // host, device
  case 3: case 4: *static_cast<uint64_t *>(data) = address; break;
  case 8: *static_cast<unsigned *>(data) = 0; break; // managed
  case 9: *static_cast<int *>(data) = allocation->device >= 0 ? allocation->device : context ? context->device : 0; break;
  case 11: *static_cast<uint64_t *>(data) = allocation->base; break;
  case 12: *static_cast<size_t *>(data) = allocation->bytes; break;
  case 13: *static_cast<unsigned *>(data) = 1; break; // mapped
  default: return CUDA_ERROR_NOT_SUPPORTED;
  }
  return CUDA_SUCCESS;
}

// Memory pools: each device has one, without its own limit.
CUAPI cuDeviceGetDefaultMemPool(CUmemoryPool *pool, CUdevice device) {
  HIOSC_ENTER;
  HIOSC_CHECK(pool, CUDA_ERROR_INVALID_VALUE);
  HIOSC_CHECK(m.device_exists(device), CUDA_ERROR_INVALID_DEVICE);
  *pool = as_handle<CUmemoryPool>((uint64_t(0x56) << 40) + 16 * uint64_t(device + 1));
  return CUDA_SUCCESS;
}
CUAPI cuDeviceGetMemPool(CUmemoryPool *pool, CUdevice device) { return cuDeviceGetDefaultMemPool(pool, device); }
CUAPI cuDeviceSetMemPool(CUdevice, CUmemoryPool) { return CUDA_SUCCESS; }
CUAPI cuMemPoolSetAccess(CUmemoryPool, const void *, size_t) { return CUDA_SUCCESS; }
CUAPI cuMemPoolSetAttribute(CUmemoryPool, int, void *) { return CUDA_SUCCESS; }
CUAPI cuMemPoolGetAttribute(CUmemoryPool, int, void *) { return CUDA_ERROR_NOT_SUPPORTED; }
CUAPI cuMemPoolTrimTo(CUmemoryPool, size_t) { return CUDA_SUCCESS; }
CUAPI cuMemPoolCreate(CUmemoryPool *, const void *) { return CUDA_ERROR_NOT_SUPPORTED; }
CUAPI cuMemPoolDestroy(CUmemoryPool) { return CUDA_ERROR_NOT_SUPPORTED; }

// --- copies

namespace {

enum class Side { Any, Device, Host }; // what a call declares about a pointer

struct Range {
  bool valid = false;
  int device = -1; // -1: host
  bool pinned = false;
  uint64_t context = 0;
};

// The memory of [address, address + bytes). On the device it must be inside one allocation; a host
// range may be the program's own memory.
Range look_up(Machine &m, uint64_t address, size_t bytes, Side side) {
  Range range;
  Allocation *allocation = m.memory.find(address);
  if (!allocation) {
    range.valid = address && side != Side::Device && !m.memory.overlaps(address, bytes);
    return range;
  }
  if (allocation->freed || bytes > allocation->base + allocation->bytes - address) return range;
  if (side == Side::Host && allocation->device >= 0) return range;
  range.valid = true;
  range.device = allocation->device;
  range.pinned = allocation->device < 0;
  range.context = allocation->context;
  return range;
}

std::string size_text(size_t bytes) { return std::to_string(bytes) + " bytes"; }

// Whether a copy on a stream of `context` can access this range. Memory of another device needs
// enabled peer access.
CUresult reachable(Machine &m, const Context &context, const Range &range) {
  if (range.device < 0 || range.device == context.device) return CUDA_SUCCESS;
  for (uint64_t peer : context.peers)
    if (ContextPtr other = m.contexts.find(peer); other && other->device == range.device) return CUDA_SUCCESS;
  bool possible = m.options.peer[size_t(context.device)][size_t(range.device)];
  warn("a copy on GPU %d accesses memory of GPU %d without peer access (%s)", context.device, range.device,
       possible ? "cuCtxEnablePeerAccess was not called" : "these two have none: use cuMemcpyPeerAsync");
  return possible ? CUDA_ERROR_PEER_ACCESS_NOT_ENABLED : CUDA_ERROR_PEER_ACCESS_UNSUPPORTED;
}

struct Copy {
  uint64_t destination, source;
  size_t bytes;
  Side to = Side::Any, from = Side::Any;
  bool synchronous = false; // the host waits, except between devices
  bool peer = false;        // cuMemcpyPeer*: needs no peer access, cannot be captured
};

// All copies. Pageable source memory is read at once, because a driver stages it. Pageable
// destination memory is written before the call returns. Pinned memory is read and written when the
// operation runs.
CUresult copy(Entry &entry, const StreamPtr &stream, const Copy &c) {
  Machine &m = entry.machine;
  HIOSC_CHECK(stream, CUDA_ERROR_INVALID_HANDLE);
  ContextPtr context = m.contexts.find(stream->context);
  HIOSC_CHECK(context, CUDA_ERROR_INVALID_CONTEXT);
  HIOSC_ALLOW(m.may_enqueue(*stream));
  if (!c.bytes) return CUDA_SUCCESS;
  if (stream->capture && c.peer) return m.invalidate(*stream->capture, CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
  Range to = look_up(m, c.destination, c.bytes, c.to), from = look_up(m, c.source, c.bytes, c.from);
  HIOSC_CHECK(to.valid && from.valid, CUDA_ERROR_INVALID_VALUE);
  if (!c.peer)
    for (const Range *range : {&to, &from})
      if (CUresult refused = reachable(m, *context, *range)) return refused;

  auto name = [](const Range &r) { return r.device >= 0 ? "gpu" + std::to_string(r.device) : std::string(r.pinned ? "pinned" : "host"); };
  std::string what = "copy " + name(from) + " -> " + name(to) + ", " + size_text(c.bytes);
  bool host_to_host = to.device < 0 && from.device < 0, device_to_device = to.device >= 0 && from.device >= 0;
  bool waits = (c.synchronous && !device_to_device) || (to.device < 0 && !to.pinned) || (host_to_host && !(to.pinned && from.pinned));
  bool pageable = (to.device < 0 && !to.pinned) || (from.device < 0 && !from.pinned);
  if (stream->capture && pageable) return m.invalidate(*stream->capture, CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
  void *destination = reinterpret_cast<void *>(c.destination);
  const void *source = reinterpret_cast<const void *>(c.source);
  size_t bytes = c.bytes;
  CompletionPtr done;
  if (from.device < 0 && !from.pinned && !waits) {
    auto staged = std::make_shared<std::vector<char>>(static_cast<const char *>(source), static_cast<const char *>(source) + bytes);
    done = m.enqueue(*stream, what, [=] { memcpy(destination, staged->data(), bytes); });
  } else {
    auto sound = [&m, c] { return look_up(m, c.destination, c.bytes, c.to).valid && look_up(m, c.source, c.bytes, c.from).valid; };
    done = m.enqueue(*stream, what, [=] { memmove(destination, source, bytes); }, {}, sound);
  }
  return waits ? m.wait_for(entry.lock, done) : CUDA_SUCCESS;
}

CUresult copy_now(const Copy &c) {
  HIOSC_ENTER;
  HIOSC_CHECK(m.current(), CUDA_ERROR_INVALID_CONTEXT);
  if (StreamPtr legacy = m.stream(nullptr)) HIOSC_ALLOW(m.may_enqueue(*legacy));
  HIOSC_ALLOW(m.unsafe_call());
  Copy synchronous = c;
  synchronous.synchronous = true;
  return copy(entry, m.stream(nullptr), synchronous);
}

CUresult copy_in(CUstream stream, const Copy &c) {
  HIOSC_ENTER;
  return copy(entry, m.stream(stream), c);
}

CUresult copy_peer(Entry &entry, const StreamPtr &stream, CUdeviceptr to, CUcontext to_handle, CUdeviceptr from, CUcontext from_handle,
                   size_t bytes) {
  Machine &m = entry.machine;
  ContextPtr to_context = m.contexts.find(to_handle), from_context = m.contexts.find(from_handle);
  HIOSC_CHECK(to_context && from_context, CUDA_ERROR_INVALID_CONTEXT);
  if (bytes) {
    Range destination = look_up(m, to, bytes, Side::Device), source = look_up(m, from, bytes, Side::Device);
    HIOSC_CHECK(destination.valid && destination.device == to_context->device, CUDA_ERROR_INVALID_VALUE);
    HIOSC_CHECK(source.valid && source.device == from_context->device, CUDA_ERROR_INVALID_VALUE);
  }
  Copy c{to, from, bytes, Side::Device, Side::Device};
  c.peer = true;
  return copy(entry, stream, c);
}

} // namespace

CUAPI cuMemcpyHtoD_v2(CUdeviceptr to, const void *from, size_t bytes) { return copy_now({to, uint64_t(from), bytes, Side::Device, Side::Host}); }
CUAPI cuMemcpyDtoH_v2(void *to, CUdeviceptr from, size_t bytes) { return copy_now({uint64_t(to), from, bytes, Side::Host, Side::Device}); }
CUAPI cuMemcpyDtoD_v2(CUdeviceptr to, CUdeviceptr from, size_t bytes) { return copy_now({to, from, bytes, Side::Device, Side::Device}); }
CUAPI cuMemcpy(CUdeviceptr to, CUdeviceptr from, size_t bytes) { return copy_now({to, from, bytes}); }
CUAPI cuMemcpyHtoDAsync_v2(CUdeviceptr to, const void *from, size_t bytes, CUstream stream) {
  return copy_in(stream, {to, uint64_t(from), bytes, Side::Device, Side::Host});
}
CUAPI cuMemcpyDtoHAsync_v2(void *to, CUdeviceptr from, size_t bytes, CUstream stream) {
  return copy_in(stream, {uint64_t(to), from, bytes, Side::Host, Side::Device});
}
CUAPI cuMemcpyDtoDAsync_v2(CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream stream) {
  return copy_in(stream, {to, from, bytes, Side::Device, Side::Device});
}
CUAPI cuMemcpyAsync(CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream stream) { return copy_in(stream, {to, from, bytes}); }
CUAPI cuMemcpyPeer(CUdeviceptr to, CUcontext to_context, CUdeviceptr from, CUcontext from_context, size_t bytes) {
  HIOSC_ENTER;
  HIOSC_CHECK(m.current(), CUDA_ERROR_INVALID_CONTEXT);
  HIOSC_ALLOW(m.unsafe_call());
  return copy_peer(entry, m.stream(nullptr), to, to_context, from, from_context, bytes);
}
CUAPI cuMemcpyPeerAsync(CUdeviceptr to, CUcontext to_context, CUdeviceptr from, CUcontext from_context, size_t bytes, CUstream stream) {
  HIOSC_ENTER;
  return copy_peer(entry, m.stream(stream), to, to_context, from, from_context, bytes);
}

// --- fills: asynchronous to the host, also without a stream, as in a real driver

template <class T> static CUresult fill(CUdeviceptr to, T value, size_t count, CUstream handle) {
  HIOSC_ENTER;
  StreamPtr stream = m.stream(handle);
  HIOSC_CHECK(stream, CUDA_ERROR_INVALID_HANDLE);
  ContextPtr context = m.contexts.find(stream->context);
  HIOSC_CHECK(context, CUDA_ERROR_INVALID_CONTEXT);
  if (!count) return CUDA_SUCCESS;
  HIOSC_CHECK(count <= SIZE_MAX / sizeof(T) && to % sizeof(T) == 0, CUDA_ERROR_INVALID_VALUE);
  Range range = look_up(m, to, count * sizeof(T), Side::Device);
  HIOSC_CHECK(range.valid, CUDA_ERROR_INVALID_VALUE);
  if (CUresult refused = reachable(m, *context, range)) return refused;
  HIOSC_ALLOW(m.may_enqueue(*stream));
  m.enqueue(*stream, "fill gpu" + std::to_string(range.device) + ", " + size_text(count * sizeof(T)), [=] {
    T *words = reinterpret_cast<T *>(to);
    for (size_t i = 0; i < count; i++) words[i] = value;
  }, {}, [&m, to, count] { return look_up(m, to, count * sizeof(T), Side::Device).valid; });
  return CUDA_SUCCESS;
}

CUAPI cuMemsetD8_v2(CUdeviceptr to, unsigned char value, size_t count) { return fill<uint8_t>(to, value, count, nullptr); }
CUAPI cuMemsetD16_v2(CUdeviceptr to, unsigned short value, size_t count) { return fill<uint16_t>(to, value, count, nullptr); }
CUAPI cuMemsetD32_v2(CUdeviceptr to, unsigned value, size_t count) { return fill<uint32_t>(to, value, count, nullptr); }
CUAPI cuMemsetD8Async(CUdeviceptr to, unsigned char value, size_t count, CUstream s) { return fill<uint8_t>(to, value, count, s); }
CUAPI cuMemsetD16Async(CUdeviceptr to, unsigned short value, size_t count, CUstream s) { return fill<uint16_t>(to, value, count, s); }
CUAPI cuMemsetD32Async(CUdeviceptr to, unsigned value, size_t count, CUstream s) { return fill<uint32_t>(to, value, count, s); }
