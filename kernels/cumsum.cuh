// Running sums along one axis of [OUTER, LENGTH, INNER]: y[i] = x[0] + ... + x[i], without x[i] if
// EXCLUSIVE, from the end if REVERSE. Sums are kept in Accumulate<T>; integers wrap around.
//
//   cumsum_thread   one thread per row: many rows, or rows that are side by side in memory.
//                   Grid: (OUTER * INNER / THREADS, 1, 1)
//   cumsum_warp     one warp per row, 32 elements at a time.
//                   Grid: (OUTER * INNER / (THREADS / 32), 1, 1)
#pragma once

#include "expr.cuh"

namespace hiosc {

template <class S> __device__ __forceinline__ S added(S a, S b) { return Add<In<0>, In<1>>::apply(a, b); }

// The offset within a row of the i-th element to be added.
template <int LENGTH, int INNER, bool REVERSE> __device__ __forceinline__ int offset_in_row(int i) {
  return (REVERSE ? LENGTH - 1 - i : i) * INNER;
}

template <int OUTER, int LENGTH, int INNER, bool EXCLUSIVE, bool REVERSE, int THREADS, class T>
__device__ __forceinline__ void cumsum_thread(const T *x, T *y) {
  const int row = blockIdx.x * THREADS + threadIdx.x;
  if (row >= OUTER * INNER) return;
  const int first = row / INNER * (LENGTH * INNER) + row % INNER;
  Accumulate<T> sum(0);
  HIOSC_UNROLL_BY(unrolled(LENGTH, 64, 16))
  for (int i = 0; i < LENGTH; ++i) {
    const int at = first + offset_in_row<LENGTH, INNER, REVERSE>(i);
    const Accumulate<T> next = added(sum, Accumulate<T>(x[at]));
    y[at] = convert<T>(EXCLUSIVE ? sum : next);
    sum = next;
  }
}

template <int OUTER, int LENGTH, int INNER, bool EXCLUSIVE, bool REVERSE, int THREADS, class T>
__device__ __forceinline__ void cumsum_warp(const T *x, T *y) {
  const int row = blockIdx.x * (THREADS / 32) + threadIdx.x / 32, lane = threadIdx.x % 32;
  if (row >= OUTER * INNER) return; // the whole warp
  const int first = row / INNER * (LENGTH * INNER) + row % INNER;
  using S = Accumulate<T>;
  S before(0); // sum of the earlier rounds
  HIOSC_UNROLL_BY(unrolled(ceil_div(LENGTH, 32), 8, 2))
  for (int round = 0; round < LENGTH; round += 32) {
    const int i = round + lane, at = first + offset_in_row<LENGTH, INNER, REVERSE>(i);
    S sum = i < LENGTH ? S(x[at]) : S(0);
    HIOSC_UNROLL
    for (int distance = 1; distance < 32; distance *= 2) {
      const S other = __shfl_up_sync(0xffffffffu, sum, distance);
      if (lane >= distance) sum = added(other, sum);
    }
    const S left = __shfl_up_sync(0xffffffffu, sum, 1);
    if (i < LENGTH) y[at] = convert<T>(EXCLUSIVE ? (lane == 0 ? before : added(before, left)) : added(before, sum));
    before = added(before, __shfl_sync(0xffffffffu, sum, 31));
  }
}

} // namespace hiosc
