// Reductions: y[i] = the sum, mean, maximum, minimum or product of the COUNT elements x[Kept::at(i) + Reduced::at(j)].
//
// Kept and Reduced are IndexMaps over the axes that stay and those that go, merged where they are neighbours. Three kernels differ in who
// shares the work of one output; each adds in a fixed order.
//   reduce_thread   a thread an output: many outputs, or neighbouring outputs that are neighbours in memory. Grid: (OUTPUTS / THREADS, 1, 1)
//   reduce_warp     a warp an output. Grid: (OUTPUTS / (THREADS / 32), 1, 1)
//   reduce_block    a block an output: few outputs, long sums. Grid: (OUTPUTS, 1, 1)
#pragma once

#include "expr.cuh"
#include "index.cuh"

namespace hiosc {

struct ReduceSum {
  static __device__ __forceinline__ float start() { return 0.0f; }
  static __device__ __forceinline__ float combine(float a, float b) { return a + b; }
  static __device__ __forceinline__ float finish(float sum, int) { return sum; }
};
struct ReduceMean : ReduceSum {
  static __device__ __forceinline__ float finish(float sum, int count) { return sum / float(count); }
};
struct ReduceMax {
  static __device__ __forceinline__ float start() { return -INFINITY; }
  static __device__ __forceinline__ float combine(float a, float b) { return Max<In<0>, In<1>>::apply(a, b); }
  static __device__ __forceinline__ float finish(float value, int) { return value; }
};
struct ReduceMin {
  static __device__ __forceinline__ float start() { return INFINITY; }
  static __device__ __forceinline__ float combine(float a, float b) { return Min<In<0>, In<1>>::apply(a, b); }
  static __device__ __forceinline__ float finish(float value, int) { return value; }
};
struct ReduceProduct {
  static __device__ __forceinline__ float start() { return 1.0f; }
  static __device__ __forceinline__ float combine(float a, float b) { return a * b; }
  static __device__ __forceinline__ float finish(float product, int) { return product; }
};

// The combination of all 32 lanes' values, the same bits in every lane.
template <class Kind> __device__ __forceinline__ float combine_warp(float value) {
  HIOSC_UNROLL
  for (int distance = 16; distance > 0; distance /= 2) value = Kind::combine(value, __shfl_xor_sync(0xffffffffu, value, distance));
  return value;
}

// The combination of all threads' values, in every thread. THREADS is a multiple of 32, at most 1024. Ends with a barrier, so that it may be
// called again at once.
template <class Kind, int THREADS> __device__ __forceinline__ float combine_block(float value) {
  __shared__ float partial[THREADS / 32];
  const int thread = threadIdx.x;
  value = combine_warp<Kind>(value);
  if (thread % 32 == 0) partial[thread / 32] = value;
  __syncthreads();
  value = partial[0];
  for (int i = 1; i < THREADS / 32; ++i) value = Kind::combine(value, partial[i]);
  __syncthreads();
  return value;
}

// What thread `first` of `step` combines.
template <class Kind, class Reduced, int COUNT> __device__ __forceinline__ float combine_strided(const float *x, int first, int step) {
  float value = Kind::start();
  for (int j = first; j < COUNT; j += step) value = Kind::combine(value, x[Reduced::at(j)]);
  return value;
}

template <class Kind, class Kept, class Reduced, int OUTPUTS, int COUNT, int THREADS>
__device__ __forceinline__ void reduce_thread(const float *x, float *y) {
  const int i = blockIdx.x * THREADS + threadIdx.x;
  if (i >= OUTPUTS) return;
  y[i] = Kind::finish(combine_strided<Kind, Reduced, COUNT>(x + Kept::at(i), 0, 1), COUNT);
}

template <class Kind, class Kept, class Reduced, int OUTPUTS, int COUNT, int THREADS>
__device__ __forceinline__ void reduce_warp(const float *x, float *y) {
  const int i = blockIdx.x * (THREADS / 32) + threadIdx.x / 32, lane = threadIdx.x % 32;
  if (i >= OUTPUTS) return; // the whole warp
  const float value = combine_warp<Kind>(combine_strided<Kind, Reduced, COUNT>(x + Kept::at(i), lane, 32));
  if (lane == 0) y[i] = Kind::finish(value, COUNT);
}

template <class Kind, class Kept, class Reduced, int COUNT, int THREADS>
__device__ __forceinline__ void reduce_block(const float *x, float *y) {
  const int i = blockIdx.x, thread = threadIdx.x;
  const float value = combine_block<Kind, THREADS>(combine_strided<Kind, Reduced, COUNT>(x + Kept::at(i), thread, THREADS));
  if (thread == 0) y[i] = Kind::finish(value, COUNT);
}

} // namespace hiosc
