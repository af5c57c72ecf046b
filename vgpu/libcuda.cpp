// The driver calls for initialisation, devices, contexts and peer access.
#include "machine.h"

#include <cstdio>
#include <cstring>

static Limits limits_of(int major, int minor) {
  // shared memory: default, opt-in, per multiprocessor; threads, blocks; multiprocessors
  int arch = major * 10 + minor;
  if (arch < 70) return {49152, 49152, 98304, 2048, 32, 20};
  if (arch < 75) return {49152, 98304, 98304, 2048, 32, 80};
  if (arch < 80) return {49152, 65536, 65536, 1024, 16, 40};
  if (arch == 80 || arch == 87) return {49152, 166912, 167936, arch == 80 ? 2048 : 1536, arch == 80 ? 32 : 16, 108};
  if (arch == 86) return {49152, 101376, 102400, 1536, 16, 84};
  if (arch < 90) return {49152, 101376, 102400, 1536, 24, 128};
  if (arch < 120) return {49152, 232448, 233472, 2048, 32, 132};
  return {49152, 101376, 102400, 1536, 24, 170};
}

CUAPI cuInit(unsigned flags) {
  if (flags) return CUDA_ERROR_INVALID_VALUE;
  Machine &m = machine();
  Lock lock(m.mutex);
  if (m.initialized) return CUDA_SUCCESS;
  Options options;
  std::string mistake = options.read();
  if (!mistake.empty()) {
    std::fprintf(stderr, "hiosc-vgpu: error: %s\n", mistake.c_str());
    return CUDA_ERROR_INVALID_VALUE;
  }
  if (!options.count) return CUDA_ERROR_NO_DEVICE;
  m.options = options;
  for (const Capability &of : options.capability) m.limits.push_back(limits_of(of.major, of.minor));
  m.scheduler.configure(options.seed, options.trace, options.progress);
  m.pool.reset(new BlockPool(options.threads, options.seed));
  m.primary.assign(size_t(options.count), 0);
  m.initialized = true;
  return CUDA_SUCCESS;
}

CUAPI cuDriverGetVersion(int *version) {
  HIOSC_CHECK(version, CUDA_ERROR_INVALID_VALUE);
  *version = 12080;
  return CUDA_SUCCESS;
}

CUAPI cuGetErrorName(CUresult error, const char **text) {
  HIOSC_CHECK(text, CUDA_ERROR_INVALID_VALUE);
  switch (error) {
#define HIOSC_NAME(code, name, meaning)                                                                                                    \
  case code: *text = #name; return CUDA_SUCCESS;
    HIOSC_CUDA_RESULTS(HIOSC_NAME)
#undef HIOSC_NAME
  }
  *text = nullptr;
  return CUDA_ERROR_INVALID_VALUE;
}

CUAPI cuGetErrorString(CUresult error, const char **text) {
  HIOSC_CHECK(text, CUDA_ERROR_INVALID_VALUE);
  switch (error) {
#define HIOSC_TEXT(code, name, meaning)                                                                                                    \
  case code: *text = meaning " (virtual GPU)"; return CUDA_SUCCESS;
    HIOSC_CUDA_RESULTS(HIOSC_TEXT)
#undef HIOSC_TEXT
  }
  *text = nullptr;
  return CUDA_ERROR_INVALID_VALUE;
}

CUAPI cuDeviceGetCount(int *count) {
  HIOSC_ENTER;
  HIOSC_CHECK(count, CUDA_ERROR_INVALID_VALUE);
  *count = m.options.count;
  return CUDA_SUCCESS;
}

CUAPI cuDeviceGet(CUdevice *device, int ordinal) {
  HIOSC_ENTER;
  HIOSC_CHECK(device, CUDA_ERROR_INVALID_VALUE);
  HIOSC_CHECK(m.device_exists(ordinal), CUDA_ERROR_INVALID_DEVICE);
  *device = ordinal;
  return CUDA_SUCCESS;
}

CUAPI cuDeviceGetName(char *name, int length, CUdevice device) {
  HIOSC_ENTER;
  HIOSC_CHECK(name && length > 0, CUDA_ERROR_INVALID_VALUE);
  HIOSC_CHECK(m.device_exists(device), CUDA_ERROR_INVALID_DEVICE);
  std::snprintf(name, size_t(length), "hiosc virtual GPU %d", device);
  return CUDA_SUCCESS;
}

static CUresult uuid(CUuuid *uuid, CUdevice device) {
  HIOSC_ENTER;
  HIOSC_CHECK(uuid, CUDA_ERROR_INVALID_VALUE);
  HIOSC_CHECK(m.device_exists(device), CUDA_ERROR_INVALID_DEVICE);
  memcpy(uuid->bytes, "hiosc-vgpu-00000", 16);
  uuid->bytes[14] = char('0' + device / 10);
  uuid->bytes[15] = char('0' + device % 10);
  return CUDA_SUCCESS;
}
CUAPI cuDeviceGetUuid(CUuuid *out, CUdevice device) { return uuid(out, device); }
CUAPI cuDeviceGetUuid_v2(CUuuid *out, CUdevice device) { return uuid(out, device); }

CUAPI cuDeviceTotalMem_v2(size_t *bytes, CUdevice device) {
  HIOSC_ENTER;
  HIOSC_CHECK(bytes, CUDA_ERROR_INVALID_VALUE);
  HIOSC_CHECK(m.device_exists(device), CUDA_ERROR_INVALID_DEVICE);
  *bytes = m.options.memory;
  return CUDA_SUCCESS;
}

CUAPI cuDeviceGetPCIBusId(char *id, int length, CUdevice device) {
  HIOSC_ENTER;
  HIOSC_CHECK(id && length > 0, CUDA_ERROR_INVALID_VALUE);
  HIOSC_CHECK(m.device_exists(device), CUDA_ERROR_INVALID_DEVICE);
  std::snprintf(id, size_t(length), "0000:%02x:00.0", device + 1);
  return CUDA_SUCCESS;
}

// The numbers are those of CUdevice_attribute. Attributes that no kernel of hiosc needs, such as
// texture sizes, are 0.
CUAPI cuDeviceGetAttribute(int *value, int attribute, CUdevice device) {
  HIOSC_ENTER;
  HIOSC_CHECK(value && attribute > 0, CUDA_ERROR_INVALID_VALUE);
  HIOSC_CHECK(m.device_exists(device), CUDA_ERROR_INVALID_DEVICE);
  const Limits &limits = m.limits[size_t(device)];
  const Capability &capability = m.options.capability[size_t(device)];
  switch (attribute) {
  case 1: *value = 1024; break;                        // threads per block
  case 2: case 3: *value = 1024; break;                // block x, y
  case 4: *value = 64; break;                          // block z
  case 5: *value = 2147483647; break;                  // grid x
  case 6: case 7: *value = 65535; break;               // grid y, z
  case 8: *value = limits.shared_default; break;     // shared memory per block
  case 9: *value = 65536; break;                       // constant memory
  case 10: *value = 32; break;                         // warp
  case 11: *value = 2147483647; break;                 // pitch
  case 12: case 82: *value = 65536; break;             // registers per block, per multiprocessor
  case 13: *value = 1740000; break;                    // clock, kHz
  case 14: case 51: *value = 512; break;               // texture alignment
  case 15: case 19: case 31: case 40: case 41: case 78: *value = 1; break; // overlap, mapped host memory, concurrent kernels, copy engines, unified addressing, priorities
  case 16: *value = limits.multiprocessors; break;
  case 33: *value = device + 1; break;                 // PCI bus
  case 36: *value = 7250000; break;                    // memory clock, kHz
  case 37: *value = 384; break;                        // memory bus, bits
  case 38: *value = 6291456; break;                    // L2
  case 39: *value = limits.threads_multiprocessor; break;
  case 75: *value = capability.major; break;
  case 76: *value = capability.minor; break;
  case 79: case 80: case 91: case 99: case 115: *value = 1; break; // L1 caches, registered host pointers, host register, memory pools
  case 81: *value = limits.shared_multiprocessor; break;
  case 87: *value = 32; break;                         // single to double performance
  case 97: *value = limits.shared_opt_in; break;
  case 106: *value = limits.blocks_multiprocessor; break;
  case 111: *value = 1024; break;                      // shared memory reserved per block
  default: *value = 0;
  }
  return CUDA_SUCCESS;
}

CUAPI cuDevicePrimaryCtxRetain(CUcontext *out, CUdevice device) {
  HIOSC_ENTER;
  HIOSC_CHECK(out, CUDA_ERROR_INVALID_VALUE);
  HIOSC_CHECK(m.device_exists(device), CUDA_ERROR_INVALID_DEVICE);
  uint64_t &primary = m.primary[size_t(device)];
  if (!primary) primary = m.new_context(device, 0, true)->handle;
  m.contexts.find(primary)->references++;
  *out = as_handle<CUcontext>(primary);
  return CUDA_SUCCESS;
}

CUAPI cuDevicePrimaryCtxRelease_v2(CUdevice device) {
  HIOSC_ENTER;
  HIOSC_CHECK(m.device_exists(device), CUDA_ERROR_INVALID_DEVICE);
  ContextPtr context = m.contexts.find(m.primary[size_t(device)]);
  HIOSC_CHECK(context, CUDA_ERROR_INVALID_CONTEXT);
  if (--context->references == 0) {
    m.primary[size_t(device)] = 0;
    m.destroy_context(entry.lock, context);
  }
  return CUDA_SUCCESS;
}

CUAPI cuDevicePrimaryCtxSetFlags_v2(CUdevice device, unsigned) {
  HIOSC_ENTER;
  HIOSC_CHECK(m.device_exists(device), CUDA_ERROR_INVALID_DEVICE);
  return CUDA_SUCCESS;
}

CUAPI cuDevicePrimaryCtxGetState(CUdevice device, unsigned *flags, int *active) {
  HIOSC_ENTER;
  HIOSC_CHECK(flags && active, CUDA_ERROR_INVALID_VALUE);
  HIOSC_CHECK(m.device_exists(device), CUDA_ERROR_INVALID_DEVICE);
  ContextPtr context = m.contexts.find(m.primary[size_t(device)]);
  *active = context != nullptr;
  *flags = context ? context->flags : 0;
  return CUDA_SUCCESS;
}

static CUresult create(CUcontext *out, unsigned flags, CUdevice device) {
  HIOSC_ENTER;
  HIOSC_CHECK(out, CUDA_ERROR_INVALID_VALUE);
  HIOSC_CHECK(m.device_exists(device), CUDA_ERROR_INVALID_DEVICE);
  uint64_t handle = m.new_context(device, flags, false)->handle;
  context_stack.push_back(handle);
  *out = as_handle<CUcontext>(handle);
  return CUDA_SUCCESS;
}
CUAPI cuCtxCreate_v2(CUcontext *out, unsigned flags, CUdevice device) { return create(out, flags, device); }
CUAPI cuCtxCreate_v3(CUcontext *out, void *, int, unsigned flags, CUdevice device) { return create(out, flags, device); }
CUAPI cuCtxCreate_v4(CUcontext *out, void *, unsigned flags, CUdevice device) { return create(out, flags, device); }

CUAPI cuCtxDestroy_v2(CUcontext handle) {
  HIOSC_ENTER;
  ContextPtr context = m.contexts.find(handle);
  HIOSC_CHECK(context && !context->primary, CUDA_ERROR_INVALID_CONTEXT);
  m.destroy_context(entry.lock, context);
  if (!context_stack.empty() && context_stack.back() == uint64_t(handle)) context_stack.pop_back();
  return CUDA_SUCCESS;
}

CUAPI cuCtxGetCurrent(CUcontext *out) {
  HIOSC_ENTER;
  HIOSC_CHECK(out, CUDA_ERROR_INVALID_VALUE);
  *out = context_stack.empty() ? nullptr : as_handle<CUcontext>(context_stack.back());
  return CUDA_SUCCESS;
}

CUAPI cuCtxSetCurrent(CUcontext handle) {
  HIOSC_ENTER;
  if (!context_stack.empty()) context_stack.pop_back();
  if (!handle) return CUDA_SUCCESS;
  HIOSC_CHECK(m.contexts.find(handle), CUDA_ERROR_INVALID_CONTEXT);
  context_stack.push_back(uint64_t(handle));
  return CUDA_SUCCESS;
}

CUAPI cuCtxPushCurrent_v2(CUcontext handle) {
  HIOSC_ENTER;
  HIOSC_CHECK(m.contexts.find(handle), CUDA_ERROR_INVALID_CONTEXT);
  context_stack.push_back(uint64_t(handle));
  return CUDA_SUCCESS;
}

CUAPI cuCtxPopCurrent_v2(CUcontext *out) {
  HIOSC_ENTER;
  HIOSC_CHECK(!context_stack.empty(), CUDA_ERROR_INVALID_CONTEXT);
  if (out) *out = as_handle<CUcontext>(context_stack.back());
  context_stack.pop_back();
  return CUDA_SUCCESS;
}

CUAPI cuCtxGetDevice(CUdevice *device) {
  HIOSC_ENTER;
  HIOSC_CHECK(device, CUDA_ERROR_INVALID_VALUE);
  ContextPtr context = m.current();
  HIOSC_CHECK(context, CUDA_ERROR_INVALID_CONTEXT);
  *device = context->device;
  return CUDA_SUCCESS;
}

CUAPI cuCtxGetFlags(unsigned *flags) {
  HIOSC_ENTER;
  HIOSC_CHECK(flags, CUDA_ERROR_INVALID_VALUE);
  ContextPtr context = m.current();
  HIOSC_CHECK(context, CUDA_ERROR_INVALID_CONTEXT);
  *flags = context->flags;
  return CUDA_SUCCESS;
}

CUAPI cuCtxSetFlags(unsigned flags) {
  HIOSC_ENTER;
  ContextPtr context = m.current();
  HIOSC_CHECK(context, CUDA_ERROR_INVALID_CONTEXT);
  context->flags = flags;
  return CUDA_SUCCESS;
}

CUAPI cuCtxGetApiVersion(CUcontext, unsigned *version) {
  HIOSC_CHECK(version, CUDA_ERROR_INVALID_VALUE);
  *version = 12080;
  return CUDA_SUCCESS;
}

CUAPI cuCtxGetStreamPriorityRange(int *least, int *greatest) {
  HIOSC_ENTER;
  HIOSC_CHECK(m.current(), CUDA_ERROR_INVALID_CONTEXT);
  if (least) *least = 0;
  if (greatest) *greatest = -5;
  return CUDA_SUCCESS;
}

CUAPI cuCtxGetCacheConfig(int *config) {
  HIOSC_CHECK(config, CUDA_ERROR_INVALID_VALUE);
  *config = 0;
  return CUDA_SUCCESS;
}
CUAPI cuCtxSetCacheConfig(int) { return CUDA_SUCCESS; }
CUAPI cuCtxGetLimit(size_t *value, int) {
  HIOSC_CHECK(value, CUDA_ERROR_INVALID_VALUE);
  *value = 0;
  return CUDA_ERROR_UNSUPPORTED_LIMIT;
}
CUAPI cuCtxSetLimit(int, size_t) { return CUDA_ERROR_UNSUPPORTED_LIMIT; }

CUAPI cuCtxSynchronize() {
  HIOSC_ENTER;
  ContextPtr context = m.current();
  HIOSC_CHECK(context, CUDA_ERROR_INVALID_CONTEXT);
  HIOSC_ALLOW(m.may_synchronise_context(context->handle));
  return m.drain(entry.lock, context->handle);
}

CUAPI cuDeviceCanAccessPeer(int *can, CUdevice device, CUdevice peer) {
  HIOSC_ENTER;
  HIOSC_CHECK(can, CUDA_ERROR_INVALID_VALUE);
  HIOSC_CHECK(m.device_exists(device) && m.device_exists(peer), CUDA_ERROR_INVALID_DEVICE);
  *can = m.options.peer[size_t(device)][size_t(peer)];
  return CUDA_SUCCESS;
}

CUAPI cuDeviceGetP2PAttribute(int *value, int attribute, CUdevice source, CUdevice destination) {
  HIOSC_ENTER;
  HIOSC_CHECK(value && attribute >= 1 && attribute <= 4, CUDA_ERROR_INVALID_VALUE);
  HIOSC_CHECK(m.device_exists(source) && m.device_exists(destination) && source != destination, CUDA_ERROR_INVALID_DEVICE);
  *value = attribute == 2 && m.options.peer[size_t(source)][size_t(destination)]; // 2: access supported
  return CUDA_SUCCESS;
}

CUAPI cuCtxEnablePeerAccess(CUcontext peer_handle, unsigned flags) {
  HIOSC_ENTER;
  HIOSC_CHECK(!flags, CUDA_ERROR_INVALID_VALUE);
  ContextPtr context = m.current(), peer = m.contexts.find(peer_handle);
  HIOSC_CHECK(context && peer && context != peer, CUDA_ERROR_INVALID_CONTEXT);
  HIOSC_CHECK(m.options.peer[size_t(context->device)][size_t(peer->device)], CUDA_ERROR_PEER_ACCESS_UNSUPPORTED);
  return context->peers.insert(peer->handle).second ? CUDA_SUCCESS : CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED;
}

CUAPI cuCtxDisablePeerAccess(CUcontext peer) {
  HIOSC_ENTER;
  ContextPtr context = m.current();
  HIOSC_CHECK(context && m.contexts.find(peer), CUDA_ERROR_INVALID_CONTEXT);
  return context->peers.erase(uint64_t(peer)) ? CUDA_SUCCESS : CUDA_ERROR_PEER_ACCESS_NOT_ENABLED;
}

// These do nothing, but client bindings look them up.
CUAPI cuProfilerStart() { return CUDA_SUCCESS; }
CUAPI cuProfilerStop() { return CUDA_SUCCESS; }
CUAPI cuMemAdvise_v2() { return CUDA_ERROR_NOT_SUPPORTED; }
CUAPI cuMemPrefetchAsync_v2() { return CUDA_ERROR_NOT_SUPPORTED; }
CUAPI cuStreamAttachMemAsync() { return CUDA_ERROR_NOT_SUPPORTED; }
CUAPI cuImportExternalMemory() { return CUDA_ERROR_NOT_SUPPORTED; }
CUAPI cuExternalMemoryGetMappedBuffer() { return CUDA_ERROR_NOT_SUPPORTED; }
CUAPI cuDestroyExternalMemory() { return CUDA_ERROR_NOT_SUPPORTED; }
CUAPI cuOccupancyMaxActiveClusters() { return CUDA_ERROR_NOT_SUPPORTED; }
CUAPI cuOccupancyMaxPotentialClusterSize() { return CUDA_ERROR_NOT_SUPPORTED; }
