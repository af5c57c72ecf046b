// Kernels that only move elements: y[i] = x[Map::at(i)] for transposition and slicing, padding
// around x, and triangles of matrices.
//
//   strided_copy   Dims is y's shape, Strides are x's strides over it. Neighbouring axes are
//                  coalesced where they step as one axis. A stride may be negative. A thread copies
//                  V neighbouring elements: 16 bytes if the last axis is a multiple of that and
//                  contiguous in x, and everything is aligned; else V is 1.
//   padded_copy    y's axes, each a PadAxis, outermost first. A thread copies one element.
//   triangle       one triangle of [ROWS, COLUMNS] matrices, 0 elsewhere. A thread copies one
//                  element.
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

// Maps a position outside x to one inside. Sets `inside` to false if there is none.
struct PadConstant {
  static __device__ __forceinline__ int position(int i, int extent, bool &inside) {
    inside = inside && unsigned(i) < unsigned(extent);
    return i;
  }
};
struct PadReflect {
  static __device__ __forceinline__ int position(int i, int extent, bool &) { return i < 0 ? -i : i < extent ? i : 2 * (extent - 1) - i; }
};
struct PadEdge {
  static __device__ __forceinline__ int position(int i, int extent, bool &) { return i < 0 ? 0 : i < extent ? i : extent - 1; }
};

// An axis with SIZE elements in y: BEFORE elements of padding, then the EXTENT elements of x, then
// padding. STRIDE is x's.
template <int size, int before, int extent, int stride> struct PadAxis {
  enum : int { SIZE = size, BEFORE = before, EXTENT = extent, STRIDE = stride };
};

// The offset in x of the i-th element of y.
template <class Mode, class Axis, class... Axes> __device__ __forceinline__ int padded_offset(int i, bool &inside) {
  constexpr int inner = (int(Axes::SIZE) * ... * 1);
  const int offset = Mode::position(i / inner - Axis::BEFORE, Axis::EXTENT, inside) * Axis::STRIDE;
  if constexpr (sizeof...(Axes) == 0) return offset;
  else return offset + padded_offset<Mode, Axes...>(i % inner, inside);
}

template <int ELEMENTS, class Mode, unsigned long long VALUE, int THREADS, class... Axes, class T>
__device__ __forceinline__ void padded_copy(const T *x, T *y) {
  const int i = blockIdx.x * THREADS + threadIdx.x;
  if (i >= ELEMENTS) return;
  bool inside = true;
  const int from = padded_offset<Mode, Axes...>(i, inside);
  y[i] = inside ? x[from] : of_bits<T>(VALUE);
}

template <int ELEMENTS, int ROWS, int COLUMNS, bool UPPER, int DIAGONAL, int THREADS, class T>
__device__ __forceinline__ void triangle(const T *x, T *y) {
  const int i = blockIdx.x * THREADS + threadIdx.x;
  if (i >= ELEMENTS) return;
  const int right = i % COLUMNS - i / COLUMNS % ROWS; // distance right of the main diagonal
  y[i] = (UPPER ? right >= DIAGONAL : right <= DIAGONAL) ? x[i] : T(0);
}

} // namespace hiosc
