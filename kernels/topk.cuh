// Elements in order, along the middle axis of x [OUTER, LENGTH, INNER]. Equal elements keep the
// order of their positions; NaN is above all numbers.
//
//   top_k   the first K. One thread per element counts the elements of its row that come before it.
//           That count is its position in y, if it is below K. There is no sorting and no exchange,
//           at the cost of LENGTH comparisons per element.
//           Grid: (OUTER * LENGTH * INNER / THREADS, 1, 1)
#pragma once

#include "types.cuh"

namespace hiosc {

template <class T> __device__ __forceinline__ bool is_nan(T a) {
  if constexpr (is_float<T>) return a != a;
  else return false;
}

// Whether element `a` comes before `b`, if they are not equal.
template <bool LARGEST, class T> __device__ __forceinline__ bool before(T a, T b) {
  const bool above = is_nan(a) ? !is_nan(b) : a > b, below = is_nan(b) ? !is_nan(a) : a < b;
  return LARGEST ? above : below;
}

template <int OUTER, int LENGTH, int INNER, int K, bool LARGEST, bool POSITIONS, int THREADS, class T, class R>
__device__ __forceinline__ void top_k(const T *x, R *y) {
  const int i = blockIdx.x * THREADS + threadIdx.x;
  if (i >= OUTER * LENGTH * INNER) return;
  const int outer = i / (LENGTH * INNER), own = i / INNER % LENGTH, inner = i % INNER;
  x += outer * (LENGTH * INNER) + inner;
  const T value = x[own * INNER];
  int rank = 0;
  HIOSC_UNROLL_BY(4)
  for (int j = 0; j < own; ++j) rank += !before<LARGEST>(value, x[j * INNER]); // equal elements at earlier positions come first
  HIOSC_UNROLL_BY(4)
  for (int j = own + 1; j < LENGTH; ++j) rank += before<LARGEST>(x[j * INNER], value);
  if (rank >= K) return;
  R &to = y[(outer * K + rank) * INNER + inner];
  if constexpr (POSITIONS) to = R(own);
  else to = value;
}

} // namespace hiosc
