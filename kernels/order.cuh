// Elements in order, along the middle axis of x [OUTER, LENGTH, INNER]. Equal elements stand in the order of their places, NaN above all numbers.
//
//   top_k          the first K. A thread an element counts those of its row that come before it: that is its place in y, if it is below K. No
//                  sorting and no exchange, at the cost of LENGTH comparisons an element. Grid: (OUTER * LENGTH * INNER / THREADS, 1, 1)
//   arg_max_thread the place of the first of all, a thread a row. Grid: (OUTER * INNER / THREADS, 1, 1)
//   arg_max_warp   the same, a warp a row: INNER = 1. Grid: (OUTER / (THREADS / 32), 1, 1)
#pragma once

#include "types.cuh"

namespace hiosc {

template <class T> __device__ __forceinline__ bool is_nan(T a) {
  if constexpr (is_float<T>) return a != a;
  else return false;
}

// Whether element `a` comes before `b`, where they are not equal.
template <bool LARGEST, class T> __device__ __forceinline__ bool before(T a, T b) {
  const bool above = is_nan(a) ? !is_nan(b) : a > b, below = is_nan(b) ? !is_nan(a) : a < b;
  return LARGEST ? above : below;
}

// An element and its place. The place is an int: an axis is shorter than 2^31.
template <class T> struct Placed {
  T value;
  int place;
};

// Whether `a` comes before `b`; of equal elements the one at the lower place, or at the higher if LAST.
template <bool LARGEST, bool LAST, class T> __device__ __forceinline__ bool before(Placed<T> a, Placed<T> b) {
  if (before<LARGEST>(a.value, b.value)) return true;
  if (before<LARGEST>(b.value, a.value)) return false;
  return LAST ? a.place > b.place : a.place < b.place;
}

template <int OUTER, int LENGTH, int INNER, int K, bool LARGEST, bool PLACES, int THREADS, class T, class R>
__device__ __forceinline__ void top_k(const T *x, R *y) {
  const int i = blockIdx.x * THREADS + threadIdx.x;
  if (i >= OUTER * LENGTH * INNER) return;
  const int outer = i / (LENGTH * INNER), own = i / INNER % LENGTH, inner = i % INNER;
  x += outer * (LENGTH * INNER) + inner;
  const T value = x[own * INNER];
  int rank = 0;
  for (int j = 0; j < own; ++j) rank += !before<LARGEST>(value, x[j * INNER]); // equal ones before it come first
  for (int j = own + 1; j < LENGTH; ++j) rank += before<LARGEST>(x[j * INNER], value);
  if (rank >= K) return;
  R &to = y[(outer * K + rank) * INNER + inner];
  if constexpr (PLACES) to = R(own);
  else to = value;
}

template <int OUTER, int LENGTH, int INNER, bool LARGEST, bool LAST, int THREADS, class T>
__device__ __forceinline__ void arg_max_thread(const T *x, long long *y) {
  const int row = blockIdx.x * THREADS + threadIdx.x;
  if (row >= OUTER * INNER) return;
  x += row / INNER * (LENGTH * INNER) + row % INNER;
  Placed<T> best{x[0], 0};
  for (int i = 1; i < LENGTH; ++i) {
    const Placed<T> next{x[i * INNER], i};
    if (before<LARGEST, LAST>(next, best)) best = next;
  }
  y[row] = best.place;
}

template <int OUTER, int LENGTH, bool LARGEST, bool LAST, int THREADS, class T>
__device__ __forceinline__ void arg_max_warp(const T *x, long long *y) {
  const int row = blockIdx.x * (THREADS / 32) + threadIdx.x / 32, lane = threadIdx.x % 32;
  if (row >= OUTER) return; // the whole warp
  x += row * LENGTH;
  int best = lane < LENGTH ? lane : 0;
  for (int i = best + 32; i < LENGTH; i += 32)
    if (before<LARGEST, LAST>(Placed<T>{x[i], i}, Placed<T>{x[best], best})) best = i;
  HIOSC_UNROLL
  for (int distance = 16; distance > 0; distance /= 2) {
    const int other = __shfl_xor_sync(0xffffffffu, best, distance);
    if (before<LARGEST, LAST>(Placed<T>{x[other], other}, Placed<T>{x[best], best})) best = other;
  }
  if (lane == 0) y[row] = best;
}

} // namespace hiosc
