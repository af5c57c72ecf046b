// Resampling: an element of y is a weighted sum of the elements of x at a few positions of each
// resampled axis, or a copy of the element at one position.
//
// A resampled axis has a table of positions and one of weights, each with a row of TAPS for every
// position of y. Taps of several axes combine, and their weights multiply. Elements of weight 0 are
// not read. Where a row begins with the position -1, y is OUTSIDE (given by its bits).
//
// A thread locates one point and computes it in NEIGHBOURS of the PLANES planes, which are PLANE
// elements apart in x and share the taps. The axes after the planes are a Resampled of axis types,
// outermost first. Grid: (PLANES / NEIGHBOURS * points / THREADS, 1, 1).
#pragma once

#include "tile.cuh"

namespace hiosc {

// An axis with SIZE positions in y; x's elements are STRIDE apart. TAPS elements are read per
// position; 0 taps: the axis is not resampled.
template <int size, int stride, int taps> struct ResampleAxis {
  enum : int { SIZE = size, STRIDE = stride, TAPS = taps };
};

template <class... Axes> struct Resampled;

template <> struct Resampled<> {
  enum : int { POINTS = 1, TAPS = 1 };
  template <bool WEIGHTED, int k, int COUNT>
  static __device__ __forceinline__ int locate(int, int (&)[COUNT], bool &, const int *const (&)[COUNT]) {
    return 0;
  }
  template <int PLANE, int k, int NEIGHBOURS, class Sum, class T, int COUNT>
  static __device__ __forceinline__ void add(Sum (&sums)[NEIGHBOURS], Sum weight, const T *x, const int (&)[COUNT], const int *const (&)[COUNT],
                                             const float *const (&)[COUNT]) {
    HIOSC_UNROLL
    for (int i = 0; i < NEIGHBOURS; ++i) sums[i] = fma(weight, Sum(x[i * PLANE]), sums[i]);
  }
};

template <class Axis, class... Axes> struct Resampled<Axis, Axes...> {
  using Inner = Resampled<Axes...>;
  enum : int { POINTS = Axis::SIZE * Inner::POINTS, TAPPED = Axis::TAPS > 0, TAPS = (TAPPED ? int(Axis::TAPS) : 1) * Inner::TAPS };

  // Returns the offset of a point along the axes that are not resampled and, without weights, of
  // its only tap. Sets the row of each table from the k-th on, and `outside` if the point is
  // outside.
  template <bool WEIGHTED, int k, int COUNT>
  static __device__ __forceinline__ int locate(int point, int (&rows)[COUNT], bool &outside, const int *const (&positions)[COUNT]) {
    const int at = point / Inner::POINTS;
    int offset = 0;
    if constexpr (TAPPED) {
      rows[k] = at * Axis::TAPS;
      const int position = positions[k][rows[k]];
      outside = outside || position < 0;
      if constexpr (!WEIGHTED) offset = position * Axis::STRIDE;
    } else {
      offset = at * Axis::STRIDE;
    }
    return offset + Inner::template locate<WEIGHTED, k + TAPPED>(point % Inner::POINTS, rows, outside, positions);
  }

  // Adds the elements under all taps from the k-th table on.
  template <int PLANE, int k, int NEIGHBOURS, class Sum, class T, int COUNT>
  static __device__ __forceinline__ void add(Sum (&sums)[NEIGHBOURS], Sum weight, const T *x, const int (&rows)[COUNT],
                                             const int *const (&positions)[COUNT], const float *const (&weights)[COUNT]) {
    if constexpr (TAPPED) {
      [[maybe_unused]] constexpr int work = Inner::TAPS * NEIGHBOURS; // per iteration
      HIOSC_UNROLL_BY(unrolled(Axis::TAPS, 64 / work, work <= 8 ? 4 : 1))
      for (int tap = rows[k]; tap < rows[k] + Axis::TAPS; ++tap) {
        const float own = weights[k][tap];
        if (own != 0.0f) Inner::template add<PLANE, k + 1>(sums, weight * Sum(own), x + positions[k][tap] * Axis::STRIDE, rows, positions, weights);
      }
    } else {
      Inner::template add<PLANE, k>(sums, weight, x, rows, positions, weights);
    }
  }
};

template <class Axes, bool WEIGHTED, unsigned long long OUTSIDE, int PLANES, int PLANE, int NEIGHBOURS, int THREADS, class Epilogue, class T, class Y, int COUNT,
          class... More>
__device__ __forceinline__ void resample(const T *x, const int *const (&positions)[COUNT], const float *const (&weights)[COUNT], Y *y,
                                         const More *...more) {
  static_assert(PLANES % NEIGHBOURS == 0, "a thread's planes must all exist");
  const int i = blockIdx.x * THREADS + threadIdx.x;
  if (i >= PLANES / NEIGHBOURS * Axes::POINTS) return;
  const int first = i / Axes::POINTS * NEIGHBOURS, point = i % Axes::POINTS;
  int rows[COUNT];
  bool outside = false;
  const int offset = Axes::template locate<WEIGHTED, 0>(point, rows, outside, positions);
  x += first * PLANE;

  T values[NEIGHBOURS];
  if (outside) {
    HIOSC_UNROLL
    for (int n = 0; n < NEIGHBOURS; ++n) values[n] = of_bits<T>(OUTSIDE);
  } else if constexpr (WEIGHTED) {
    using Sum = Accumulate<T>;
    Sum sums[NEIGHBOURS];
    HIOSC_UNROLL
    for (int n = 0; n < NEIGHBOURS; ++n) sums[n] = Sum(0);
    Axes::template add<PLANE, 0>(sums, Sum(1), x + offset, rows, positions, weights);
    HIOSC_UNROLL
    for (int n = 0; n < NEIGHBOURS; ++n) values[n] = convert<T>(sums[n]);
  } else {
    HIOSC_UNROLL
    for (int n = 0; n < NEIGHBOURS; ++n) values[n] = x[offset + n * PLANE];
  }
  HIOSC_UNROLL
  for (int n = 0; n < NEIGHBOURS; ++n) finish<Epilogue, 1>(values + n, (first + n) * Axes::POINTS + point, y, more...);
}

} // namespace hiosc
