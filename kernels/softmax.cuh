// Softmax along one axis of [OUTER, LENGTH, INNER]: y = exp(x - max) / sum of exp(x - max), so that nothing overflows. Half is computed in single
// precision.
//
//   softmax_thread   a thread a row: INNER > 1, where neighbouring rows are neighbours in memory. Grid: (OUTER * INNER / THREADS, 1, 1)
//   softmax_warp     a warp a row, which it holds in registers: INNER = 1, LENGTH <= 1024. Grid: (OUTER / (THREADS / 32), 1, 1)
//   softmax_block    a block a row: INNER = 1, longer rows. Grid: (OUTER, 1, 1)
#pragma once

#include "reduce.cuh"

namespace hiosc {

template <int OUTER, int LENGTH, int INNER, int THREADS, class T> __device__ __forceinline__ void softmax_thread(const T *x, T *y) {
  using S = Accumulate<T>;
  const int row = blockIdx.x * THREADS + threadIdx.x;
  if (row >= OUTER * INNER) return;
  const int first = row / INNER * (LENGTH * INNER) + row % INNER;
  x += first;
  y += first;
  S largest = S(x[0]), sum = S(0);
  for (int i = 1; i < LENGTH; ++i) largest = ReduceMax::combine(largest, S(x[i * INNER]));
  for (int i = 0; i < LENGTH; ++i) sum += math::exp(S(x[i * INNER]) - largest);
  for (int i = 0; i < LENGTH; ++i) y[i * INNER] = convert<T>(math::exp(S(x[i * INNER]) - largest) / sum);
}

template <int OUTER, int LENGTH, int THREADS, class T> __device__ __forceinline__ void softmax_warp(const T *x, T *y) {
  using S = Accumulate<T>;
  constexpr int items = ceil_div(LENGTH, 32);
  const int row = blockIdx.x * (THREADS / 32) + threadIdx.x / 32, lane = threadIdx.x % 32;
  if (row >= OUTER) return; // the whole warp
  x += row * LENGTH;
  y += row * LENGTH;
  S held[items], largest = Limits<S>::lowest(), sum = S(0);
  HIOSC_UNROLL
  for (int i = 0; i < items; ++i) {
    held[i] = i * 32 + lane < LENGTH ? S(x[i * 32 + lane]) : Limits<S>::lowest();
    largest = ReduceMax::combine(largest, held[i]);
  }
  largest = combine_warp<ReduceMax>(largest);
  HIOSC_UNROLL
  for (int i = 0; i < items; ++i) {
    held[i] = math::exp(held[i] - largest);
    if (i * 32 + lane < LENGTH) sum += held[i]; // beyond the end it is 0, or NaN where all are -inf
  }
  sum = combine_warp<ReduceSum>(sum);
  HIOSC_UNROLL
  for (int i = 0; i < items; ++i)
    if (i * 32 + lane < LENGTH) y[i * 32 + lane] = convert<T>(held[i] / sum);
}

template <int LENGTH, int THREADS, class T> __device__ __forceinline__ void softmax_block(const T *x, T *y) {
  using S = Accumulate<T>;
  const int row = blockIdx.x, thread = threadIdx.x;
  x += row * LENGTH;
  y += row * LENGTH;
  S largest = Limits<S>::lowest(), sum = S(0);
  for (int i = thread; i < LENGTH; i += THREADS) largest = ReduceMax::combine(largest, S(x[i]));
  largest = combine_block<ReduceMax, THREADS>(largest);
  for (int i = thread; i < LENGTH; i += THREADS) sum += math::exp(S(x[i]) - largest);
  sum = combine_block<ReduceSum, THREADS>(sum);
  for (int i = thread; i < LENGTH; i += THREADS) y[i] = convert<T>(math::exp(S(x[i]) - largest) / sum);
}

} // namespace hiosc
