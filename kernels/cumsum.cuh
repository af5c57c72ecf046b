// Running sums along one axis of [OUTER, LENGTH, INNER]: y[i] = x[0] + ... + x[i], without x[i] if exclusive, from the end if reverse.
//
//   cumsum_thread   a thread a row: many rows, or rows side by side in memory. Grid: (OUTER * INNER / THREADS, 1, 1)
//   cumsum_warp     a warp a row, 32 elements at a time. Grid: (OUTER * INNER / (THREADS / 32), 1, 1)
#pragma once

#include "hiosc.cuh"

namespace hiosc {

// Where the i-th element to be added of a row lies.
template <int LENGTH, int INNER, bool REVERSE> __device__ __forceinline__ int place_in_row(int i) {
  return (REVERSE ? LENGTH - 1 - i : i) * INNER;
}

template <int OUTER, int LENGTH, int INNER, bool EXCLUSIVE, bool REVERSE, int THREADS, class T>
__device__ __forceinline__ void cumsum_thread(const T *x, T *y) {
  const int row = blockIdx.x * THREADS + threadIdx.x;
  if (row >= OUTER * INNER) return;
  const int first = row / INNER * (LENGTH * INNER) + row % INNER;
  T sum = 0;
  for (int i = 0; i < LENGTH; ++i) {
    const int at = first + place_in_row<LENGTH, INNER, REVERSE>(i);
    const T next = sum + x[at];
    y[at] = EXCLUSIVE ? sum : next;
    sum = next;
  }
}

template <int OUTER, int LENGTH, int INNER, bool EXCLUSIVE, bool REVERSE, int THREADS, class T>
__device__ __forceinline__ void cumsum_warp(const T *x, T *y) {
  const int row = blockIdx.x * (THREADS / 32) + threadIdx.x / 32, lane = threadIdx.x % 32;
  if (row >= OUTER * INNER) return; // the whole warp
  const int first = row / INNER * (LENGTH * INNER) + row % INNER;
  T before = 0; // of the elements of earlier rounds
  for (int round = 0; round < LENGTH; round += 32) {
    const int i = round + lane, at = first + place_in_row<LENGTH, INNER, REVERSE>(i);
    T sum = i < LENGTH ? x[at] : T(0);
    HIOSC_UNROLL
    for (int distance = 1; distance < 32; distance *= 2) {
      const T other = __shfl_up_sync(0xffffffffu, sum, distance);
      if (lane >= distance) sum += other;
    }
    const T left = __shfl_up_sync(0xffffffffu, sum, 1);
    if (i < LENGTH) y[at] = EXCLUSIVE ? (lane == 0 ? before : before + left) : before + sum;
    before += __shfl_sync(0xffffffffu, sum, 31);
  }
}

} // namespace hiosc
