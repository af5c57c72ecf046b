// Pooling: one thread per output. Grid: (outputs / THREADS, 1, 1).
//
//   pool          y[N,C,P,Q] from windows of x[N,C,H,W]
//   pool_nd       the same over any number of axes, given as a Window
//   pool_indices  the positions of the maxima
//
// Shape is a type with the integer constants
//   PLANES (= N*C)   H W   P Q   R S   STRIDE_H STRIDE_W   DILATION_H DILATION_W
//   PAD_H PAD_W (top, left)   PAD_BOTTOM PAD_RIGHT
// In ceil mode a window may reach beyond the padding; that part never counts. A window without any
// element has the mean 0 and the maximum -inf (for integers, the least one).
#pragma once

#include "expr.cuh"
#include "window.cuh"

namespace hiosc {

// The number of taps of one axis below `end`: how many of the `window` positions begin, begin +
// dilation, ... are < end.
__device__ __forceinline__ int taps_below(int begin, int end, int window, int dilation) {
  if (begin >= end) return 0;
  const int taps = (end - begin + dilation - 1) / dilation;
  return taps < window ? taps : window;
}

// How a window is reduced: the largest element, or NaN if there is one. S is the type of the sums,
// T that of the elements.
struct PoolMax {
  template <class T, class S> static __device__ __forceinline__ S start() { return S(Limits<T>::lowest()); }
  template <class S> static __device__ __forceinline__ S add(S sum, S x) { return Max<In<0>, In<1>>::apply(sum, x); }
  template <class Shape, class S> static __device__ __forceinline__ S finish(S sum, int, int, int) { return sum; }
};

// The mean of the elements.
struct PoolAverage {
  template <class T, class S> static __device__ __forceinline__ S start() { return S(0); }
  template <class S> static __device__ __forceinline__ S add(S sum, S x) { return Add<In<0>, In<1>>::apply(sum, x); }
  template <class Shape, class S> static __device__ __forceinline__ S finish(S sum, int elements, int, int) {
    return elements == 0 ? S(0) : sum / S(elements);
  }
};

// The sum of the elements.
struct PoolSum : PoolAverage {
  template <class Shape, class S> static __device__ __forceinline__ S finish(S sum, int, int, int) { return sum; }
};

// The mean of elements and padding.
struct PoolAveragePadded : PoolAverage {
  template <class Shape, class S> static __device__ __forceinline__ S finish(S sum, int, int top, int left) {
    const int count = taps_below(top, Shape::H + Shape::PAD_BOTTOM, Shape::R, Shape::DILATION_H) *
                      taps_below(left, Shape::W + Shape::PAD_RIGHT, Shape::S, Shape::DILATION_W);
    return count == 0 ? S(0) : sum / S(count);
  }
};

template <class Shape, class Kind, int THREADS, class T> __device__ __forceinline__ void pool(const T *x, T *y) {
  using S = Accumulate<T>;
  const int i = blockIdx.x * THREADS + threadIdx.x;
  if (i >= Shape::PLANES * Shape::P * Shape::Q) return;
  const int top = i / Shape::Q % Shape::P * Shape::STRIDE_H - Shape::PAD_H, left = i % Shape::Q * Shape::STRIDE_W - Shape::PAD_W;
  x += i / (Shape::P * Shape::Q) * (Shape::H * Shape::W);
  S sum = Kind::template start<T, S>();
  int elements = 0;
  HIOSC_UNROLL_BY(unrolled(Shape::R, 64 / Shape::S, ceil_div(32, Shape::S)))
  for (int r = 0; r < Shape::R; ++r) {
    const int h = top + r * Shape::DILATION_H;
    if (unsigned(h) >= unsigned(Shape::H)) continue;
    HIOSC_UNROLL_GPU
    for (int s = 0; s < Shape::S; ++s) {
      const int w = left + s * Shape::DILATION_W;
      if (unsigned(w) >= unsigned(Shape::W)) continue;
      sum = Kind::add(sum, S(x[h * Shape::W + w]));
      ++elements;
    }
  }
  y[i] = convert<T>(Kind::template finish<Shape>(sum, elements, top, left));
}

// How a window is reduced. Sums are kept in S, which is Accumulate of the element type T. A window
// without any element has the lowest value as its maximum and the mean 0.
struct WindowMax {
  template <class T, class S> static __device__ __forceinline__ S start() { return S(Limits<T>::lowest()); }
  template <class S> static __device__ __forceinline__ S add(S largest, S x) { return Max<In<0>, In<1>>::apply(largest, x); }
  template <class S> static __device__ __forceinline__ S finish(S largest, int, int) { return largest; }
};
struct WindowSum {
  template <class T, class S> static __device__ __forceinline__ S start() { return S(0); }
  template <class S> static __device__ __forceinline__ S add(S sum, S x) { return Add<In<0>, In<1>>::apply(sum, x); }
  template <class S> static __device__ __forceinline__ S finish(S sum, int, int) { return sum; }
};
struct WindowAverage : WindowSum {
  template <class S> static __device__ __forceinline__ S finish(S sum, int elements, int) { return elements == 0 ? S(0) : sum / S(elements); }
};
struct WindowAveragePadded : WindowSum {
  template <class S> static __device__ __forceinline__ S finish(S sum, int, int padded) { return padded == 0 ? S(0) : sum / S(padded); }
};

template <class Window, class Kind, int PLANES, int THREADS, class T> __device__ __forceinline__ void pool_nd(const T *x, T *y) {
  using S = Accumulate<T>;
  const int i = blockIdx.x * THREADS + threadIdx.x;
  if (i >= PLANES * Window::OUT) return;
  const int point = i % Window::OUT;
  x += i / Window::OUT * Window::IN;
  S value = Kind::template start<T, S>();
  int elements = 0, padded = 0;
  HIOSC_UNROLL_BY(unrolled(Window::TAPS, 64, 16))
  for (int tap = 0; tap < Window::TAPS; ++tap) {
    int offset = 0;
    padded += Window::padded(point, tap);
    if (!Window::locate(point, tap, offset)) continue;
    value = Kind::add(value, S(x[offset]));
    ++elements;
  }
  y[i] = convert<T>(Kind::finish(value, elements, padded));
}

template <class Window, bool COLUMN_MAJOR, int PLANES, int THREADS, class T>
__device__ __forceinline__ void pool_indices(const T *x, long long *y) {
  const int i = blockIdx.x * THREADS + threadIdx.x;
  if (i >= PLANES * Window::OUT) return;
  const int point = i % Window::OUT, plane = i / Window::OUT * Window::IN;
  x += plane;
  int position = 0;
  bool found = false;
  HIOSC_UNROLL_BY(unrolled(Window::TAPS, 64, 16))
  for (int tap = 0; tap < Window::TAPS; ++tap) {
    int offset = 0;
    if (!Window::locate(point, tap, offset)) continue;
    // the first of equal maxima; NaN counts as larger than any number
    if (found && !(x[offset] > x[position]) && !(x[offset] != x[offset] && x[position] == x[position])) continue;
    position = offset;
    found = true;
  }
  y[i] = plane + (COLUMN_MAJOR ? Window::column_major(position) : position);
}

} // namespace hiosc
