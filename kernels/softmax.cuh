// Softmax along one axis of [OUTER, LENGTH, INNER]: y = exp(x - max) / sum of exp(x - max), so that
// nothing overflows. Or its logarithm, y = (x - max) - log(sum of exp(x - max)), which does not use
// the softmax itself, since that could be 0. Half is computed in single precision.
//
//   softmax_thread   one thread per row: INNER > 1, where neighbouring rows are neighbours in
//                    memory. Grid: (OUTER * INNER / THREADS, 1, 1)
//   softmax_warp     one warp per row, which it holds in registers: INNER = 1, LENGTH <= 1024.
//                    Grid: (OUTER / (THREADS / 32), 1, 1)
//   softmax_block    one block per row: INNER = 1, longer rows. Grid: (OUTER, 1, 1)
#pragma once

#include "reduce.cuh"

namespace hiosc {

// For a difference d = x - max: the value kept for it, its exponential, the value kept for the sum,
// and the result.
struct PlainSoftmax {
  template <class S> static __device__ __forceinline__ S kept(S d) { return math::exp(d); }
  template <class S> static __device__ __forceinline__ S exponential(S kept) { return kept; }
  template <class S> static __device__ __forceinline__ S total(S sum) { return sum; }
  template <class S> static __device__ __forceinline__ S finish(S kept, S total) { return kept / total; }
};
struct LogSoftmax {
  template <class S> static __device__ __forceinline__ S kept(S d) { return d; }
  template <class S> static __device__ __forceinline__ S exponential(S kept) { return math::exp(kept); }
  template <class S> static __device__ __forceinline__ S total(S sum) { return math::log(sum); }
  template <class S> static __device__ __forceinline__ S finish(S kept, S total) { return kept - total; }
};

template <int OUTER, int LENGTH, int INNER, int THREADS, class Kind = PlainSoftmax, class T>
__device__ __forceinline__ void softmax_thread(const T *x, T *y) {
  using S = Accumulate<T>;
  const int row = blockIdx.x * THREADS + threadIdx.x;
  if (row >= OUTER * INNER) return;
  const int first = row / INNER * (LENGTH * INNER) + row % INNER;
  x += first;
  y += first;
  S largest = S(x[0]), sum = S(0);
  HIOSC_UNROLL_BY(unrolled(LENGTH, 64, 16))
  for (int i = 1; i < LENGTH; ++i) largest = ReduceMax::combine(largest, S(x[i * INNER]));
  HIOSC_UNROLL_BY(unrolled(LENGTH, 16, 8))
  for (int i = 0; i < LENGTH; ++i) sum += math::exp(S(x[i * INNER]) - largest);
  sum = Kind::total(sum);
  HIOSC_UNROLL_BY(unrolled(LENGTH, 16, 8))
  for (int i = 0; i < LENGTH; ++i) y[i * INNER] = convert<T>(Kind::finish(Kind::kept(S(x[i * INNER]) - largest), sum));
}

// V neighbours are read and written at once; LENGTH is a multiple of V.
template <int OUTER, int LENGTH, int V, int THREADS, class Kind = PlainSoftmax, class T>
__device__ __forceinline__ void softmax_warp(const T *x, T *y) {
  using S = Accumulate<T>;
  static_assert(LENGTH % V == 0, "a row must consist of vectors");
  constexpr int items = ceil_div(LENGTH, 32 * V);
  const int row = blockIdx.x * (THREADS / 32) + threadIdx.x / 32, lane = threadIdx.x % 32;
  if (row >= OUTER) return; // the whole warp
  x += row * LENGTH;
  y += row * LENGTH;
  T held[items][V];
  HIOSC_UNROLL
  for (int i = 0; i < items; ++i) {
    HIOSC_UNROLL
    for (int v = 0; v < V; ++v) held[i][v] = Limits<T>::lowest();
    if ((i * 32 + lane) * V < LENGTH) load(held[i], x + (i * 32 + lane) * V);
  }
  S largest = Limits<S>::lowest(), sum = S(0), kept[items][V];
  HIOSC_UNROLL
  for (int i = 0; i < items; ++i) {
    HIOSC_UNROLL
    for (int v = 0; v < V; ++v) largest = ReduceMax::combine(largest, S(held[i][v]));
  }
  largest = combine_warp<ReduceMax>(largest);
  HIOSC_UNROLL
  for (int i = 0; i < items; ++i) {
    if ((i * 32 + lane) * V >= LENGTH) break; // beyond the end it is 0, or NaN where all are -inf
    HIOSC_UNROLL
    for (int v = 0; v < V; ++v) {
      kept[i][v] = Kind::kept(S(held[i][v]) - largest);
      sum += Kind::exponential(kept[i][v]);
    }
  }
  sum = Kind::total(combine_warp<ReduceSum>(sum));
  HIOSC_UNROLL
  for (int i = 0; i < items; ++i) {
    if ((i * 32 + lane) * V >= LENGTH) break;
    HIOSC_UNROLL
    for (int v = 0; v < V; ++v) held[i][v] = convert<T>(Kind::finish(kept[i][v], sum));
    store(y + (i * 32 + lane) * V, held[i]);
  }
}

template <int LENGTH, int THREADS, class Kind = PlainSoftmax, class T> __device__ __forceinline__ void softmax_block(const T *x, T *y) {
  using S = Accumulate<T>;
  const int row = blockIdx.x, thread = threadIdx.x;
  x += row * LENGTH;
  y += row * LENGTH;
  S largest = Limits<S>::lowest(), sum = S(0);
  HIOSC_UNROLL_BY(unrolled_strided(LENGTH, THREADS))
  for (int i = thread; i < LENGTH; i += THREADS) largest = ReduceMax::combine(largest, S(x[i]));
  largest = combine_block<ReduceMax, THREADS>(largest);
  HIOSC_UNROLL_BY(4)
  for (int i = thread; i < LENGTH; i += THREADS) sum += math::exp(S(x[i]) - largest);
  sum = Kind::total(combine_block<ReduceSum, THREADS>(sum));
  HIOSC_UNROLL_BY(4)
  for (int i = thread; i < LENGTH; i += THREADS) y[i] = convert<T>(Kind::finish(Kind::kept(S(x[i]) - largest), sum));
}

} // namespace hiosc
