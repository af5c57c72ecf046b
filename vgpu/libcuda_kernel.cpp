// The driver calls for modules, functions and launches.
#include "machine.h"

#include <algorithm>
#include <cstdio>
#include <cstring>

// --- modules: only the kind and architecture of an image are checked; kernels are found by name

// The architecture of a cubin, as major * 10 + minor. Undocumented by NVIDIA; as read by LLVM
// (BinaryFormat/ELF.h, EF_CUDA_SM): from ABI version 8 on it is in bits 8 to 15 of e_flags, before
// that in bits 0 to 7. (NVRTC 12.9: version 7 up to sm_90a, 8 from sm_100.)
static unsigned cubin_architecture(const unsigned char *elf) {
  uint32_t flags;
  memcpy(&flags, elf + 48, 4); // e_flags of a 64-bit header
  return elf[8] >= 8 ? (flags >> 8) & 0xff : flags & 0xff;
}

// The device of a context; 0 if the context is destroyed.
static size_t device_of(Machine &m, uint64_t context) {
  ContextPtr found = m.contexts.find(context);
  return found ? size_t(found->device) : 0;
}

static CUresult check_image(const Capability &device, const void *image) {
  const auto *bytes = static_cast<const unsigned char *>(image);
  if (!memcmp(bytes, "\177ELF", 4)) {
    uint16_t machine;
    memcpy(&machine, bytes + 18, 2);
    if (bytes[4] != 2 || machine != 190) return CUDA_ERROR_INVALID_IMAGE; // 64-bit, NVIDIA CUDA
    unsigned arch = cubin_architecture(bytes), major = unsigned(device.major), minor = unsigned(device.minor);
    if (arch / 10 == major && arch % 10 <= minor) return CUDA_SUCCESS;
    std::fprintf(stderr, "hiosc-vgpu: error: a cubin for sm_%u does not run on a device of compute capability %u.%u\n", arch, major, minor);
    return CUDA_ERROR_NO_BINARY_FOR_GPU;
  }
  // PTX: text that starts with a comment, or has .version near the start.
  const char *text = static_cast<const char *>(image);
  if (text[0] == '/' && text[1] == '/') return CUDA_SUCCESS;
  std::string head(text, strnlen(text, 4096));
  return head.find(".version") != std::string::npos ? CUDA_SUCCESS : CUDA_ERROR_INVALID_IMAGE;
}

// The folder of sources in an image of the stand-in for NVRTC (libnvrtc.cpp); empty in others.
static std::string sources_of(const void *image) {
  static const char head[] = "// hiosc virtual image\n// sources ";
  const char *text = static_cast<const char *>(image);
  if (strncmp(text, head, sizeof head - 1)) return "";
  text += sizeof head - 1;
  return std::string(text, strcspn(text, "\n"));
}

static CUresult load(CUmodule *out, const void *image) {
  HIOSC_ENTER;
  HIOSC_CHECK(out && image, CUDA_ERROR_INVALID_VALUE);
  ContextPtr context = m.current();
  HIOSC_CHECK(context, CUDA_ERROR_INVALID_CONTEXT);
  HIOSC_ALLOW(m.unsafe_call());
  if (CUresult refused = check_image(m.options.capability[size_t(context->device)], image)) return refused;
  ModulePtr module = m.modules.add(std::make_shared<Module>());
  module->context = context->handle;
  module->sources = sources_of(image);
  *out = as_handle<CUmodule>(module->handle);
  return CUDA_SUCCESS;
}
CUAPI cuModuleLoadData(CUmodule *out, const void *image) { return load(out, image); }
CUAPI cuModuleLoadDataEx(CUmodule *out, const void *image, unsigned, int *, void **) { return load(out, image); }

CUAPI cuModuleLoad(CUmodule *out, const char *path) {
  HIOSC_CHECK(out && path, CUDA_ERROR_INVALID_VALUE);
  std::FILE *file = std::fopen(path, "rb");
  HIOSC_CHECK(file, CUDA_ERROR_FILE_NOT_FOUND);
  std::vector<char> head(8192, 0); // only this much is checked
  size_t read = std::fread(head.data(), 1, head.size() - 1, file);
  std::fclose(file);
  return read ? load(out, head.data()) : CUDA_ERROR_INVALID_IMAGE;
}

CUAPI cuModuleUnload(CUmodule handle) {
  HIOSC_ENTER;
  ModulePtr module = m.modules.find(handle);
  HIOSC_CHECK(module, CUDA_ERROR_INVALID_HANDLE);
  HIOSC_ALLOW(m.unsafe_call());
  for (auto &[name, function] : module->functions) m.functions.items.erase(function);
  m.modules.items.erase(module->handle);
  return CUDA_SUCCESS;
}

CUAPI cuModuleGetFunction(CUfunction *out, CUmodule handle, const char *name) {
  HIOSC_ENTER;
  HIOSC_CHECK(out && name, CUDA_ERROR_INVALID_VALUE);
  ModulePtr module = m.modules.find(handle);
  HIOSC_CHECK(module, CUDA_ERROR_INVALID_HANDLE);
  uint64_t &known = module->functions[name];
  if (!known) {
    const hiosc_kernel_entry *kernel = m.kernels.find(name, module->sources);
    if (!kernel) {
      module->functions.erase(name);
      return CUDA_ERROR_NOT_FOUND;
    }
    FunctionPtr function = m.functions.add(std::make_shared<Function>());
    function->module = module->handle;
    function->context = module->context;
    function->kernel = kernel;
    function->dynamic_shared = m.limits[device_of(m, module->context)].shared_default;
    known = function->handle;
  }
  *out = as_handle<CUfunction>(known);
  return CUDA_SUCCESS;
}

CUAPI cuModuleGetGlobal_v2(CUdeviceptr *, size_t *, CUmodule, const char *) { return CUDA_ERROR_NOT_FOUND; }
CUAPI cuModuleGetLoadingMode(int *mode) {
  HIOSC_CHECK(mode, CUDA_ERROR_INVALID_VALUE);
  *mode = 2; // lazy
  return CUDA_SUCCESS;
}

// --- functions

CUAPI cuFuncGetModule(CUmodule *out, CUfunction handle) {
  HIOSC_ENTER;
  HIOSC_CHECK(out, CUDA_ERROR_INVALID_VALUE);
  FunctionPtr function = m.functions.find(handle);
  HIOSC_CHECK(function, CUDA_ERROR_INVALID_HANDLE);
  *out = as_handle<CUmodule>(function->module);
  return CUDA_SUCCESS;
}

// Attributes that only a GPU compiler knows (registers, static shared memory) are 0.
CUAPI cuFuncGetAttribute(int *value, int attribute, CUfunction handle) {
  HIOSC_ENTER;
  HIOSC_CHECK(value && attribute >= 0 && attribute < 16, CUDA_ERROR_INVALID_VALUE);
  FunctionPtr function = m.functions.find(handle);
  HIOSC_CHECK(function, CUDA_ERROR_INVALID_HANDLE);
  switch (attribute) {
  case 0: *value = 1024; break;                                                // threads per block
  case 5: case 6: {                                                            // PTX version, binary version
    const Capability &capability = m.options.capability[device_of(m, function->context)];
    *value = capability.major * 10 + capability.minor;
    break;
  }
  case 8: *value = function->dynamic_shared; break;                            // dynamic shared memory
  case 9: *value = -1; break;                                                  // preferred carveout: default
  default: *value = 0;
  }
  return CUDA_SUCCESS;
}

CUAPI cuFuncSetAttribute(CUfunction handle, int attribute, int value) {
  HIOSC_ENTER;
  FunctionPtr function = m.functions.find(handle);
  HIOSC_CHECK(function, CUDA_ERROR_INVALID_HANDLE);
  if (attribute == 9) return value >= -1 && value <= 100 ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
  HIOSC_CHECK(attribute == 8 && value >= 0 && value <= m.limits[device_of(m, function->context)].shared_opt_in, CUDA_ERROR_INVALID_VALUE);
  function->dynamic_shared = value;
  return CUDA_SUCCESS;
}

CUAPI cuFuncSetCacheConfig(CUfunction handle, int) {
  HIOSC_ENTER;
  return m.functions.find(handle) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
}

// --- occupancy: by threads, blocks and dynamic shared memory; registers and static shared memory
// are not known here

static int blocks_per_multiprocessor(const Limits &limits, int threads, size_t shared) {
  int warps = (threads + 31) / 32;
  int by_threads = limits.threads_multiprocessor / 32 / warps;
  uint64_t by_shared = uint64_t(limits.shared_multiprocessor) / (shared + 1024); // 1 KiB per block is reserved
  return int(std::min<uint64_t>({uint64_t(by_threads), uint64_t(limits.blocks_multiprocessor), by_shared}));
}

CUAPI cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int *blocks, CUfunction handle, int threads, size_t shared, unsigned) {
  HIOSC_ENTER;
  FunctionPtr function = m.functions.find(handle);
  HIOSC_CHECK(function, CUDA_ERROR_INVALID_HANDLE);
  HIOSC_CHECK(blocks && threads > 0 && threads <= 1024, CUDA_ERROR_INVALID_VALUE);
  *blocks = shared > size_t(function->dynamic_shared) ? 0 : blocks_per_multiprocessor(m.limits[device_of(m, function->context)], threads, shared);
  return CUDA_SUCCESS;
}
CUAPI cuOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, CUfunction function, int threads, size_t shared) {
  return cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(blocks, function, threads, shared, 0);
}

CUAPI cuOccupancyAvailableDynamicSMemPerBlock(size_t *bytes, CUfunction handle, int blocks, int threads) {
  HIOSC_ENTER;
  FunctionPtr function = m.functions.find(handle);
  HIOSC_CHECK(function, CUDA_ERROR_INVALID_HANDLE);
  HIOSC_CHECK(bytes && blocks > 0 && threads > 0 && threads <= 1024, CUDA_ERROR_INVALID_VALUE);
  const Limits &limits = m.limits[device_of(m, function->context)];
  int each = limits.shared_multiprocessor / blocks - 1024;
  *bytes = size_t(std::clamp(each, 0, limits.shared_opt_in));
  return CUDA_SUCCESS;
}

CUAPI cuOccupancyMaxPotentialBlockSize(int *grid, int *threads, CUfunction handle, size_t (*shared_of)(int), size_t shared, int limit) {
  HIOSC_ENTER;
  HIOSC_CHECK(grid && threads && limit >= 0, CUDA_ERROR_INVALID_VALUE);
  FunctionPtr function = m.functions.find(handle);
  HIOSC_CHECK(function, CUDA_ERROR_INVALID_HANDLE);
  const Limits &limits = m.limits[device_of(m, function->context)];
  int best = 0, resident = -1;
  for (int t = std::min(limit ? limit : 1024, 1024) / 32 * 32; t >= 32; t -= 32) {
    int now = t * blocks_per_multiprocessor(limits, t, shared_of ? shared_of(t) : shared);
    if (now > resident) best = t, resident = now;
  }
  HIOSC_CHECK(best, CUDA_ERROR_INVALID_VALUE);
  *threads = best;
  *grid = limits.multiprocessors * (resident / best);
  return CUDA_SUCCESS;
}
CUAPI cuOccupancyMaxPotentialBlockSizeWithFlags(int *grid, int *threads, CUfunction function, size_t (*shared_of)(int), size_t shared,
                                                int limit, unsigned) {
  return cuOccupancyMaxPotentialBlockSize(grid, threads, function, shared_of, shared, limit);
}

// --- launches

namespace {

// A launch owns a copy of its arguments: the caller may change them once the call has returned.
struct Launch {
  const hiosc_kernel_entry *kernel;
  hiosc_dim3 grid, block;
  uint32_t shared;
  std::vector<std::max_align_t> storage;
  std::vector<void *> arguments;

  Launch(const hiosc_kernel_entry *k, hiosc_dim3 g, hiosc_dim3 b, uint32_t s, void **parameters) : kernel(k), grid(g), block(b), shared(s) {
    constexpr size_t unit = sizeof(std::max_align_t);
    size_t units = 0;
    for (uint32_t i = 0; i < k->param_count; i++) units += (k->param_sizes[i] + unit - 1) / unit;
    storage.resize(units);
    size_t at = 0;
    for (uint32_t i = 0; i < k->param_count; i++) {
      arguments.push_back(&storage[at]);
      memcpy(&storage[at], parameters[i], k->param_sizes[i]);
      at += (k->param_sizes[i] + unit - 1) / unit;
    }
  }

  uint64_t blocks() const { return uint64_t(grid.x) * grid.y * grid.z; }

  void run(BlockPool &pool) const {
    pool.run(blocks(), [this](uint64_t first, uint64_t end) { kernel->run(grid, block, shared, arguments.data(), first, end); });
  }
};

bool within(hiosc_dim3 size, uint32_t x, uint32_t y, uint32_t z) {
  return size.x && size.y && size.z && size.x <= x && size.y <= y && size.z <= z;
}

std::string text(hiosc_dim3 d) { return std::to_string(d.x) + "x" + std::to_string(d.y) + "x" + std::to_string(d.z); }

CUresult launch(CUfunction function_handle, hiosc_dim3 grid, hiosc_dim3 block, unsigned shared, CUstream stream_handle, void **parameters,
                void **extra) {
  HIOSC_ENTER;
  FunctionPtr function = m.functions.find(function_handle);
  StreamPtr stream = m.stream(stream_handle);
  HIOSC_CHECK(function && stream && function->context == stream->context, CUDA_ERROR_INVALID_HANDLE);
  HIOSC_CHECK(within(grid, 2147483647, 65535, 65535) && within(block, 1024, 1024, 64), CUDA_ERROR_INVALID_VALUE);
  HIOSC_CHECK(uint64_t(block.x) * block.y * block.z <= 1024, CUDA_ERROR_INVALID_VALUE);
  HIOSC_CHECK(shared <= unsigned(function->dynamic_shared), CUDA_ERROR_INVALID_VALUE);
  HIOSC_CHECK(!extra, CUDA_ERROR_NOT_SUPPORTED);
  const hiosc_kernel_entry *kernel = function->kernel;
  HIOSC_CHECK(parameters || !kernel->param_count, CUDA_ERROR_INVALID_VALUE);
  for (uint32_t i = 0; i < kernel->param_count; i++) HIOSC_CHECK(parameters[i], CUDA_ERROR_INVALID_VALUE);
  HIOSC_ALLOW(m.may_enqueue(*stream));
  if (stream->capture && !function->launched && m.options.refuse.count("capture-cold"))
    return m.invalidate(*stream->capture, CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
  function->launched = true;
  auto launch = std::make_shared<Launch>(kernel, grid, block, shared, parameters);
  m.enqueue(*stream, std::string("kernel ") + kernel->name + " grid " + text(grid) + " block " + text(block),
            [&m, launch] { launch->run(*m.pool); }, {}, [&m, handle = function->handle] { return m.functions.find(handle) != nullptr; });
  return CUDA_SUCCESS;
}

} // namespace

CUAPI cuLaunchKernel(CUfunction function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned shared,
                     CUstream stream, void **parameters, void **extra) {
  return launch(function, {gx, gy, gz}, {bx, by, bz}, shared, stream, parameters, extra);
}

CUAPI cuLaunchKernelEx(const CUlaunchConfig *c, CUfunction function, void **parameters, void **extra) {
  HIOSC_CHECK(c, CUDA_ERROR_INVALID_VALUE);
  HIOSC_CHECK(!c->numAttrs, CUDA_ERROR_NOT_SUPPORTED);
  return launch(function, {c->gridDimX, c->gridDimY, c->gridDimZ}, {c->blockDimX, c->blockDimY, c->blockDimZ}, c->sharedMemBytes, c->hStream,
                parameters, extra);
}

// Not supported: the blocks of a launch do not run at the same time, so they cannot wait for one
// another.
CUAPI cuLaunchCooperativeKernel(CUfunction, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, CUstream, void **) {
  return CUDA_ERROR_NOT_SUPPORTED;
}
