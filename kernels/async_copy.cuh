// Asynchronous copies from global to shared memory: cp.async of the PTX ISA, for compute
// capability 8.0 and above. A thread issues copies, commits them as a group, and later waits for
// its groups, oldest first. Other threads see the copies after a barrier that follows the wait.
//
//   copy_async<BYTES>(to, from, inside)   copies 4 or 16 bytes, both addresses aligned to that;
//                                         writes zeros instead if `inside` is false, and then does
//                                         not read `from`
//   commit_copies()                       ends a group, which may be empty
//   wait_copies<PENDING>()                waits until at most PENDING groups are under way
//
// A compiler cannot move such a copy behind the arithmetic that is meant to hide its latency, as it
// does with loads into registers. On the CPU a copy is carried out when its thread waits for it;
// until then, its destination holds NaN.
#pragma once

#include "hiosc.cuh"

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
#error "asynchronous copies need a GPU of compute capability 8.0 or above: compile the model for this GPU"
#endif

namespace hiosc {

#if HIOSC_GPU

template <int BYTES> __device__ __forceinline__ void copy_async(float *to, const float *from, bool inside = true) {
  static_assert(BYTES == 4 || BYTES == 16, "a copy of one float or of four");
  const unsigned address = unsigned(__cvta_generic_to_shared(to));
  // Only copies of 16 bytes may pass by the L1 cache. The source's size is 0 for zeros.
  if (BYTES == 16) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(address), "l"(from), "r"(inside ? 16 : 0) : "memory");
  } else {
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(address), "l"(from), "r"(inside ? 4 : 0) : "memory");
  }
}

__device__ __forceinline__ void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }

template <int PENDING> __device__ __forceinline__ void wait_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory");
}

#else

template <int BYTES> inline void copy_async(float *to, const float *from, bool inside = true) {
  cpu_cuda::copy_async(to, from, BYTES, inside);
}
inline void commit_copies() { cpu_cuda::commit_copies(); }
template <int PENDING> inline void wait_copies() { cpu_cuda::wait_copies(PENDING); }

#endif

} // namespace hiosc
