// The interface between a shared object of CPU-compiled kernels and the virtual libcuda. Plain C.
#pragma once
#include <stddef.h>
#include <stdint.h>

extern "C" {

struct hiosc_dim3 {
  uint32_t x, y, z;
};

// Runs blocks [first, end) of a grid, x fastest. The blocks of a launch may be distributed over
// several threads. `params[i]` points to the i-th argument, which stays valid and unchanged during
// the call.
typedef void (*hiosc_run_blocks)(hiosc_dim3 grid, hiosc_dim3 block, uint32_t dynamic_shared_bytes, void *const *params,
                                 uint64_t first, uint64_t end);

struct hiosc_kernel_entry {
  const char *name;            // the extern "C" name, unique over all objects
  uint32_t param_count;        // number of parameters
  const uint32_t *param_sizes; // size of each, in bytes
  hiosc_run_blocks run;
};

// Exported by every such object: its table of kernels.
const hiosc_kernel_entry *hiosc_vgpu_kernels(size_t *count);

}
