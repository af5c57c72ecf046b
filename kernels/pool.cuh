// 2-D pooling: y[N,C,P,Q] from windows of x[N,C,H,W], one output a thread. Grid: (outputs / THREADS, 1, 1).
//
// Shape is a type with the integer constants
//   PLANES (= N*C)   H W   P Q   R S   STRIDE_H STRIDE_W   DILATION_H DILATION_W   PAD_H PAD_W (top, left)   PAD_BOTTOM PAD_RIGHT
// A window of ceil mode may reach beyond the padding: that part never counts. A window that holds no element at all has the
// mean 0 and the maximum -inf (the least integer).
#pragma once

#include "expr.cuh"

namespace hiosc {

// The taps of one axis that fall below `end`: how many of the `window` positions begin, begin + dilation, ... are < end.
__device__ __forceinline__ int taps_below(int begin, int end, int window, int dilation) {
  if (begin >= end) return 0;
  const int taps = (end - begin + dilation - 1) / dilation;
  return taps < window ? taps : window;
}

// What a window becomes: the largest element, NaN if there is one. S is the type that sums are kept in, T the elements'.
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

} // namespace hiosc
