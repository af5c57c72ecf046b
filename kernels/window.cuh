// Windows over any number of axes: convolution, transposed convolution and pooling as gathers. Each output reads its taps; nothing is scattered.
//
//   conv_window   one thread computes KT neighbouring channels of one point. Grid: (points / THREADS, K / KT, 1)
//   pool_window   one output a thread. Grid: (outputs / THREADS, 1, 1)
//   pool_indices  where the maxima are, one output a thread. Grid: (outputs / THREADS, 1, 1)
//
// The axes behind the channels are a Window of axis types. An axis says for each of its OUT places and TAPS taps which of its IN elements is read.
// Shape of conv_window is a type with the integer constants
//   N (images)   C K (channels of x and y)   GROUPS   BIAS (0 or 1)
#pragma once

#include "expr.cuh"
#include "tile.cuh"

namespace hiosc {

// Tap `t` of output `o` reads element o * stride + t * dilation - pad; behind the last element lie pad_end paddings.
template <int in, int out, int taps, int stride, int dilation, int pad, int pad_end> struct WindowAxis {
  enum : int { IN = in, OUT = out, TAPS = taps };
  static __device__ __forceinline__ int place(int at, int tap) { return at * stride + tap * dilation - pad; }
  static __device__ __forceinline__ bool padded(int place) { return place < in + pad_end; }
};

// The transpose: tap `t` of output `o` reads the element i with i * stride + t * dilation - pad = o.
template <int in, int out, int taps, int stride, int dilation, int pad> struct TransposedAxis {
  enum : int { IN = in, OUT = out, TAPS = taps };
  static __device__ __forceinline__ int place(int at, int tap) {
    const int from = at + pad - tap * dilation;
    return from % stride == 0 ? from / stride : -1;
  }
};

template <class... Axes> struct Window;

template <> struct Window<> {
  enum : int { IN = 1, OUT = 1, TAPS = 1 };
};

template <class Axis, class... Axes> struct Window<Axis, Axes...> {
  using Inner = Window<Axes...>;
  enum : int { IN = Axis::IN * Inner::IN, OUT = Axis::OUT * Inner::OUT, TAPS = Axis::TAPS * Inner::TAPS };

  // Adds the offset of the element that a tap reads; false if there is none.
  static __device__ __forceinline__ bool locate(int at, int tap, int &offset) {
    const int place = Axis::place(at / Inner::OUT, tap / Inner::TAPS);
    offset += place * Inner::IN;
    if (unsigned(place) >= unsigned(Axis::IN)) return false;
    if constexpr (sizeof...(Axes) > 0) return Inner::locate(at % Inner::OUT, tap % Inner::TAPS, offset);
    else return true;
  }

  // The place of an element counted with the first axis fastest; `stride` is how many elements lie in the axes before.
  static __device__ __forceinline__ int column_major(int offset, int stride = 1) {
    const int place = offset / Inner::IN * stride;
    if constexpr (sizeof...(Axes) > 0) return place + Inner::column_major(offset % Inner::IN, stride * int(Axis::IN));
    else return place;
  }

  // Whether the tap lies on an element or on padding.
  static __device__ __forceinline__ bool padded(int at, int tap) {
    if (!Axis::padded(Axis::place(at / Inner::OUT, tap / Inner::TAPS))) return false;
    if constexpr (sizeof...(Axes) > 0) return Inner::padded(at % Inner::OUT, tap % Inner::TAPS);
    else return true;
  }
};

template <class Shape, class Window, int KT, int THREADS, class Epilogue, class T, class Bias, class Y, class... More>
__device__ __forceinline__ void conv_window(const T *x, const T *w, Bias bias, Y *y, const More *...more) {
  using Sum = Accumulate<T>;
  enum : int { CHANNELS = Shape::C / Shape::GROUPS, FILTERS = Shape::K / Shape::GROUPS, TERMS = CHANNELS * Window::TAPS };
  static_assert(FILTERS % KT == 0, "a thread's channels must be of one group");
  const int column = blockIdx.x * THREADS + threadIdx.x; // a point, counted over all images
  if (column >= Shape::N * Window::OUT) return;
  const int image = column / Window::OUT, point = column % Window::OUT;
  const int filter = blockIdx.y * KT, group = filter / FILTERS;
  x += (image * Shape::C + group * CHANNELS) * Window::IN;
  w += filter * TERMS;

  Sum sum[KT];
  HIOSC_UNROLL
  for (int i = 0; i < KT; ++i) sum[i] = Sum(0);
  HIOSC_UNROLL_BY(unrolled(Window::TAPS, 72 / (CHANNELS * KT), 1))
  for (int tap = 0; tap < Window::TAPS; ++tap) {
    int offset = 0;
    if (!Window::locate(point, tap, offset)) continue;
    HIOSC_UNROLL_BY(KT < 8 ? unrolled(CHANNELS, 32, 8) : unrolled(CHANNELS, 8, 4))
    for (int channel = 0; channel < CHANNELS; ++channel) {
      const Sum value = Sum(x[channel * Window::IN + offset]);
      HIOSC_UNROLL
      for (int i = 0; i < KT; ++i) sum[i] = fma(value, Sum(w[i * TERMS + channel * Window::TAPS + tap]), sum[i]);
    }
  }
  HIOSC_UNROLL
  for (int i = 0; i < KT; ++i) {
    if constexpr (Shape::BIAS) sum[i] = Add<In<0>, In<1>>::apply(sum[i], Sum(bias[filter + i]));
    const T v = convert<T>(sum[i]);
    finish<Epilogue, 1>(&v, (image * Shape::K + filter + i) * Window::OUT + point, y, more...);
  }
}

// What a window becomes; sums are kept in S, Accumulate of the elements' type T. A window that holds no element has the least maximum and the mean 0.
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

template <class Window, class Kind, int PLANES, int THREADS, class T> __device__ __forceinline__ void pool_window(const T *x, T *y) {
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
  int place = 0;
  bool found = false;
  HIOSC_UNROLL_BY(unrolled(Window::TAPS, 64, 16))
  for (int tap = 0; tap < Window::TAPS; ++tap) {
    int offset = 0;
    if (!Window::locate(point, tap, offset)) continue;
    // the first largest; NaN counts as larger than any number
    if (found && !(x[offset] > x[place]) && !(x[offset] != x[offset] && x[place] == x[place])) continue;
    place = offset;
    found = true;
  }
  y[i] = plane + (COLUMN_MAJOR ? Window::column_major(place) : place);
}

} // namespace hiosc
