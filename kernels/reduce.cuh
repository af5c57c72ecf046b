// Reductions: y[i] = the sum, mean, maximum, minimum or product of the COUNT elements x[Kept::at(i)
// + Reduced::at(j)].
//
// Sums are kept in Accumulate<T>: float for half and bfloat16, int for smaller integers and for
// bool, whose maximum is `any` and whose minimum is `all`. Kept and Reduced are IndexMaps over the
// kept and the reduced axes, neighbours coalesced. Three kernels differ in which threads share the
// work of one output; each adds in a fixed order.
//   reduce_thread   one thread per output: many outputs, or neighbouring outputs that are
//                   neighbours in memory. Grid: (OUTPUTS / THREADS, 1, 1)
//   reduce_warp     one warp per output. Grid: (OUTPUTS / (THREADS / 32), 1, 1)
//   reduce_block    one block per output: few outputs, long sums. Grid: (OUTPUTS, 1, 1)
#pragma once

#include "expr.cuh"
#include "index.cuh"

namespace hiosc {

// How a reduction starts, combines and finishes. S is the type of the sums, T that of the elements.
struct ReduceSum {
  template <class T, class S> static __device__ __forceinline__ S start() { return S(0); }
  template <class S> static __device__ __forceinline__ S combine(S a, S b) { return Add<In<0>, In<1>>::apply(a, b); }
  template <class S> static __device__ __forceinline__ S finish(S sum, int) { return sum; }
};
struct ReduceMean : ReduceSum {
  template <class S> static __device__ __forceinline__ S finish(S sum, int count) { return sum / S(count); }
};
struct ReduceMax {
  template <class T, class S> static __device__ __forceinline__ S start() { return S(Limits<T>::lowest()); }
  template <class S> static __device__ __forceinline__ S combine(S a, S b) { return Max<In<0>, In<1>>::apply(a, b); }
  template <class S> static __device__ __forceinline__ S finish(S value, int) { return value; }
};
struct ReduceMin {
  template <class T, class S> static __device__ __forceinline__ S start() { return S(Limits<T>::highest()); }
  template <class S> static __device__ __forceinline__ S combine(S a, S b) { return Min<In<0>, In<1>>::apply(a, b); }
  template <class S> static __device__ __forceinline__ S finish(S value, int) { return value; }
};
struct ReduceProduct {
  template <class T, class S> static __device__ __forceinline__ S start() { return S(1); }
  template <class S> static __device__ __forceinline__ S combine(S a, S b) { return Mul<In<0>, In<1>>::apply(a, b); }
  template <class S> static __device__ __forceinline__ S finish(S product, int) { return product; }
};

// Combines the values of all 32 lanes; every lane gets the same bits.
template <class Kind, class S> __device__ __forceinline__ S combine_warp(S value) {
  HIOSC_UNROLL
  for (int distance = 16; distance > 0; distance /= 2) value = Kind::combine(value, __shfl_xor_sync(0xffffffffu, value, distance));
  return value;
}

// Combines the values of all threads; every thread gets the result. THREADS is a multiple of 32 and
// at most 1024. Ends with a barrier, so that it may be called again at once.
template <class Kind, int THREADS, class S> __device__ __forceinline__ S combine_block(S value) {
  __shared__ S partial[THREADS / 32];
  const int thread = threadIdx.x;
  value = combine_warp<Kind>(value);
  if (thread % 32 == 0) partial[thread / 32] = value;
  __syncthreads();
  value = partial[0];
  HIOSC_UNROLL_GPU
  for (int i = 1; i < THREADS / 32; ++i) value = Kind::combine(value, partial[i]);
  __syncthreads();
  return value;
}

// Combines the elements of thread `first` of STEP.
template <class Kind, class Reduced, int COUNT, int STEP, class T>
__device__ __forceinline__ Accumulate<T> combine_strided(const T *x, int first) {
  using S = Accumulate<T>;
  S value = Kind::template start<T, S>();
  HIOSC_UNROLL_BY(STEP == 1 ? unrolled(COUNT, 256, 64) : unrolled_strided(COUNT, STEP))
  for (int j = first; j < COUNT; j += STEP) value = Kind::combine(value, S(x[Reduced::at(j)]));
  return value;
}

template <class Kind, class Kept, class Reduced, int OUTPUTS, int COUNT, int THREADS, class T>
__device__ __forceinline__ void reduce_thread(const T *x, T *y) {
  const int i = blockIdx.x * THREADS + threadIdx.x;
  if (i >= OUTPUTS) return;
  y[i] = convert<T>(Kind::finish(combine_strided<Kind, Reduced, COUNT, 1>(x + Kept::at(i), 0), COUNT));
}

template <class Kind, class Kept, class Reduced, int OUTPUTS, int COUNT, int THREADS, class T>
__device__ __forceinline__ void reduce_warp(const T *x, T *y) {
  const int i = blockIdx.x * (THREADS / 32) + threadIdx.x / 32, lane = threadIdx.x % 32;
  if (i >= OUTPUTS) return; // the whole warp
  const Accumulate<T> value = combine_warp<Kind>(combine_strided<Kind, Reduced, COUNT, 32>(x + Kept::at(i), lane));
  if (lane == 0) y[i] = convert<T>(Kind::finish(value, COUNT));
}

template <class Kind, class Kept, class Reduced, int COUNT, int THREADS, class T>
__device__ __forceinline__ void reduce_block(const T *x, T *y) {
  const int i = blockIdx.x, thread = threadIdx.x;
  const Accumulate<T> value = combine_block<Kind, THREADS>(combine_strided<Kind, Reduced, COUNT, THREADS>(x + Kept::at(i), thread));
  if (thread == 0) y[i] = convert<T>(Kind::finish(value, COUNT));
}

// Positions of largest or smallest elements: y[i] is the position j among the COUNT elements, the
// last of equal elements if LAST, else the first. NaN counts as beyond all numbers. Grids as above.
template <class T> struct Position {
  T value;
  int at; // -1: none yet
};

template <bool LAST> struct ArgMax {
  template <class T> static __device__ __forceinline__ bool beyond(T a, T b) { return a > b; }
  enum : bool { TAKES_LAST = LAST };
};
template <bool LAST> struct ArgMin {
  template <class T> static __device__ __forceinline__ bool beyond(T a, T b) { return a < b; }
  enum : bool { TAKES_LAST = LAST };
};

// Chooses one of two positions, regardless of their order.
template <class Kind, class T> __device__ __forceinline__ Position<T> choose(const Position<T> &a, const Position<T> &b) {
  if (a.at < 0 || b.at < 0) return a.at < 0 ? b : a;
  const bool a_nan = a.value != a.value, b_nan = b.value != b.value;
  if (a_nan != b_nan) return a_nan ? a : b;
  if (Kind::beyond(a.value, b.value)) return a;
  if (Kind::beyond(b.value, a.value)) return b;
  return (a.at > b.at) == bool(Kind::TAKES_LAST) ? a : b;
}

// Searches the elements of thread `first` of STEP.
template <class Kind, class Reduced, int COUNT, int STEP, class T>
__device__ __forceinline__ Position<T> find_strided(const T *x, int first) {
  Position<T> best{T(0), -1};
  HIOSC_UNROLL_BY(STEP == 1 ? unrolled(COUNT, 32, 4) : 4)
  for (int j = first; j < COUNT; j += STEP) best = choose<Kind>(best, Position<T>{x[Reduced::at(j)], j});
  return best;
}

template <class Kind, class Kept, class Reduced, int OUTPUTS, int COUNT, int THREADS, class T>
__device__ __forceinline__ void find_thread(const T *x, long long *y) {
  const int i = blockIdx.x * THREADS + threadIdx.x;
  if (i >= OUTPUTS) return;
  y[i] = find_strided<Kind, Reduced, COUNT, 1>(x + Kept::at(i), 0).at;
}

template <class Kind, class Kept, class Reduced, int COUNT, int THREADS, class T>
__device__ __forceinline__ void find_block(const T *x, long long *y) {
  __shared__ Position<T> positions[THREADS];
  const int i = blockIdx.x, thread = threadIdx.x;
  positions[thread] = find_strided<Kind, Reduced, COUNT, THREADS>(x + Kept::at(i), thread);
  __syncthreads();
  HIOSC_UNROLL_GPU
  for (int width = THREADS / 2; width > 0; width /= 2) {
    if (thread < width) positions[thread] = choose<Kind>(positions[thread], positions[thread + width]);
    __syncthreads();
  }
  if (thread == 0) y[i] = positions[0].at;
}

} // namespace hiosc
