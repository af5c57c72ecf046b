// Elements in another order: y[i] = x[Map::at(i)] for transpositions and slices, and a frame around x for paddings.
//
//   strided_copy   Dims is y's shape, Strides x's strides over it, neighbouring axes merged where they step as one. A stride may be negative.
//                  A thread copies V neighbours: V elements are 16 bytes if the last axis is a multiple of that, is contiguous in x, and everything is aligned; else V is 1.
//   padded_copy    y's axes, each a PadAxis, outermost first. A thread copies one element.
//   triangle       one triangle of matrices [ROWS, COLUMNS]; elsewhere 0. A thread copies one element.
// Grid: (elements / (V * THREADS), 1, 1).
#pragma once

#include "index.cuh"

namespace hiosc {

template <int ELEMENTS, class Dims, class Strides, int FIRST, int V, int THREADS, class T>
__device__ __forceinline__ void strided_copy(const T *x, T *y) {
  const int i = (blockIdx.x * THREADS + threadIdx.x) * V;
  if (i >= ELEMENTS) return;
  T values[V];
  load(values, x + (FIRST + IndexMap<Dims, Strides>::at(i)));
  store(y + i, values);
}

// How a place outside x becomes one inside; `inside` turns false where there is none.
struct PadConstant {
  static __device__ __forceinline__ int place(int i, int extent, bool &inside) {
    inside = inside && unsigned(i) < unsigned(extent);
    return i;
  }
};
struct PadReflect {
  static __device__ __forceinline__ int place(int i, int extent, bool &) { return i < 0 ? -i : i < extent ? i : 2 * (extent - 1) - i; }
};
struct PadEdge {
  static __device__ __forceinline__ int place(int i, int extent, bool &) { return i < 0 ? 0 : i < extent ? i : extent - 1; }
};

// An axis of SIZE elements in y: the EXTENT ones of x stand behind BEFORE others. STRIDE is x's.
template <int size, int before, int extent, int stride> struct PadAxis {
  enum : int { SIZE = size, BEFORE = before, EXTENT = extent, STRIDE = stride };
};

// The offset in x of the i-th element of y.
template <class Mode, class Axis, class... Axes> __device__ __forceinline__ int padded_place(int i, bool &inside) {
  constexpr int inner = (int(Axes::SIZE) * ... * 1);
  const int offset = Mode::place(i / inner - Axis::BEFORE, Axis::EXTENT, inside) * Axis::STRIDE;
  if constexpr (sizeof...(Axes) == 0) return offset;
  else return offset + padded_place<Mode, Axes...>(i % inner, inside);
}

template <int ELEMENTS, class Mode, unsigned long long VALUE, int THREADS, class... Axes, class T>
__device__ __forceinline__ void padded_copy(const T *x, T *y) {
  const int i = blockIdx.x * THREADS + threadIdx.x;
  if (i >= ELEMENTS) return;
  bool inside = true;
  const int from = padded_place<Mode, Axes...>(i, inside);
  y[i] = inside ? x[from] : of_bits<T>(VALUE);
}

template <int ELEMENTS, int ROWS, int COLUMNS, bool UPPER, int DIAGONAL, int THREADS, class T>
__device__ __forceinline__ void triangle(const T *x, T *y) {
  const int i = blockIdx.x * THREADS + threadIdx.x;
  if (i >= ELEMENTS) return;
  const int right = i % COLUMNS - i / COLUMNS % ROWS; // of the main diagonal
  y[i] = (UPPER ? right >= DIAGONAL : right <= DIAGONAL) ? x[i] : T(0);
}

} // namespace hiosc
