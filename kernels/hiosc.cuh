// The prelude of every kernel header: one way to write a kernel for NVRTC, nvcc and (through
// cpu_cuda.h) g++.
//
//   HIOSC_KERNEL(name, threads, (params...)) { body }          a kernel with `threads` threads per
//                                                              block
//   HIOSC_KERNEL_NO_SYNC(name, threads, (params...)) { body }  the same, for a body without
//                                                              barriers and warp collectives
//   HIOSC_KERNEL_RESIDENT(name, threads, blocks, (params...))
//   HIOSC_KERNEL_NO_SYNC_RESIDENT(name, threads, blocks, (params...))
//                                                              the same, with all registers that
//                                                              `blocks` blocks on a multiprocessor
//                                                              leave: else the compiler delays
//                                                              loads to save registers, and each
//                                                              delay costs a memory latency
//   HIOSC_DYNAMIC_SHARED(type, name);                          `type *name` points to the launch's
//                                                              dynamic shared memory
//   HIOSC_UNROLL                                               before a loop that must be unrolled
//                                                              everywhere
//   HIOSC_UNROLL_GPU                                           before a loop that is worth
//                                                              unrolling on a GPU only
//   HIOSC_UNROLL_BY(n)                                         before a loop that a GPU unrolls by
//                                                              n; 1: not at all
//
// A loop that may stay a loop has HIOSC_UNROLL_BY, so that no compiler chooses the factor:
// src/kernel/loops.rs counts the iterations of the compiled loops by the same rules.
#pragma once

#if defined(__CUDACC__) || defined(__CUDACC_RTC__)
#define HIOSC_GPU 1
#else
#define HIOSC_GPU 0
#endif

#if HIOSC_GPU

#define HIOSC_KERNEL(name, threads, params) extern "C" __global__ void __launch_bounds__(threads) name params
#define HIOSC_KERNEL_RESIDENT(name, threads, blocks, params) extern "C" __global__ void __launch_bounds__(threads, blocks) name params
#define HIOSC_KERNEL_NO_SYNC(name, threads, params) HIOSC_KERNEL(name, threads, params)
#define HIOSC_KERNEL_NO_SYNC_RESIDENT(name, threads, blocks, params) HIOSC_KERNEL_RESIDENT(name, threads, blocks, params)
#define HIOSC_DYNAMIC_SHARED(type, name)                                                                                            \
  extern __shared__ __align__(16) unsigned char hiosc_dynamic_shared[];                                                                \
  type *const name = reinterpret_cast<type *>(hiosc_dynamic_shared)
#define HIOSC_UNROLL _Pragma("unroll")
#define HIOSC_UNROLL_GPU _Pragma("unroll")
#define HIOSC_PRAGMA(...) _Pragma(#__VA_ARGS__)
#define HIOSC_UNROLL_BY(...) HIOSC_PRAGMA(unroll(__VA_ARGS__))

#if defined(__CUDACC_RTC__) && !defined(INFINITY)
#define INFINITY __int_as_float(0x7f800000)
#define NAN __int_as_float(0x7fffffff)
#endif

#else

#include "cpu_cuda.h"

#define HIOSC_KERNEL(name, threads, params) HIOSC_CPU_KERNEL(name, params, run)
#define HIOSC_KERNEL_RESIDENT(name, threads, blocks, params) HIOSC_CPU_KERNEL(name, params, run)
#define HIOSC_KERNEL_NO_SYNC(name, threads, params) HIOSC_CPU_KERNEL(name, params, run_as_loop)
#define HIOSC_KERNEL_NO_SYNC_RESIDENT(name, threads, blocks, params) HIOSC_KERNEL_NO_SYNC(name, threads, params)
#define HIOSC_DYNAMIC_SHARED(type, name) type *const name = static_cast<type *>(cpu_cuda::dynamic_shared)
#ifdef __clang__
#define HIOSC_UNROLL _Pragma("unroll")
#else
#define HIOSC_UNROLL _Pragma("GCC unroll 64")
#endif
#define HIOSC_UNROLL_GPU
#define HIOSC_UNROLL_BY(...)

#endif

namespace hiosc {

// Indices are `int` throughout: hiosc compiles no tensor of 2^31 elements or more.

__host__ __device__ constexpr int ceil_div(int a, int b) { return (a + b - 1) / b; }

// The unroll factor of a loop of `count` iterations: `count` if that is at most `all`, else `part`.
__host__ __device__ constexpr int unrolled(int count, int all, int part) { return count <= all ? count : part; }

// The same for a loop over `count` elements in which a thread takes every `step`-th: completely
// unrolled only if all threads take the same number.
__host__ __device__ constexpr int unrolled_strided(int count, int step) {
  const int most = ceil_div(count, step);
  if (count % step == 0) return most < 16 ? most : 16;
  return most < 16 ? 4 : most < 64 ? 8 : 16;
}

} // namespace hiosc
