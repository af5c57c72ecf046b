// Windows over any number of axes, as types: which element each tap of each output reads.
// Convolution and pooling share them. Every kernel gathers: each output reads its taps, and nothing
// is scattered.
//
// The axes after the channels are a Window of axis types. For each of its OUT positions and TAPS
// taps, an axis gives which of its IN elements is read.
#pragma once

#include "types.cuh"

namespace hiosc {

// Tap `t` of output `o` reads element o * stride + t * dilation - pad; pad_end elements of padding
// follow the last element.
template <int in, int out, int taps, int stride, int dilation, int pad, int pad_end> struct WindowAxis {
  enum : int { IN = in, OUT = out, TAPS = taps };
  static __device__ __forceinline__ int position(int at, int tap) { return at * stride + tap * dilation - pad; }
  static __device__ __forceinline__ bool padded(int position) { return position < in + pad_end; }
};

// The transpose: tap `t` of output `o` reads the element i with i * stride + t * dilation - pad =
// o.
template <int in, int out, int taps, int stride, int dilation, int pad> struct TransposedAxis {
  enum : int { IN = in, OUT = out, TAPS = taps };
  static __device__ __forceinline__ int position(int at, int tap) {
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

  // Adds the offset of the element that a tap reads; returns false if there is none.
  static __device__ __forceinline__ bool locate(int at, int tap, int &offset) {
    const int position = Axis::position(at / Inner::OUT, tap / Inner::TAPS);
    offset += position * Inner::IN;
    if (unsigned(position) >= unsigned(Axis::IN)) return false;
    if constexpr (sizeof...(Axes) > 0) return Inner::locate(at % Inner::OUT, tap % Inner::TAPS, offset);
    else return true;
  }

  // The position of an element, counted with the first axis fastest; `stride` is the number of
  // elements in the axes before.
  static __device__ __forceinline__ int column_major(int offset, int stride = 1) {
    const int position = offset / Inner::IN * stride;
    if constexpr (sizeof...(Axes) > 0) return position + Inner::column_major(offset % Inner::IN, stride * int(Axis::IN));
    else return position;
  }

  // Whether the tap is on an element or on padding.
  static __device__ __forceinline__ bool padded(int at, int tap) {
    if (!Axis::padded(Axis::position(at / Inner::OUT, tap / Inner::TAPS))) return false;
    if constexpr (sizeof...(Axes) > 0) return Inner::padded(at % Inner::OUT, tap % Inner::TAPS);
    else return true;
  }
};

} // namespace hiosc
