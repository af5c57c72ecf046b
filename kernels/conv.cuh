// Convolution, NCHW activations and OIHW weights:
// y[N,K,P,Q] = epilogue(x[N,C,H,W] * w[K,C/GROUPS,R,S] + bias[K]).
//
//   conv_tiled   implicit GEMM: the matrix product weights [K/G x C/G*R*S] times windows
//                [C/G*R*S x N*P*Q]. The windows are read straight from x and never stored.
//                Grid: (column tiles, row tiles, groups).
//   conv_direct  one thread computes KT neighbouring channels of one pixel: for depthwise
//                convolutions and groups of very few channels, where a tile would be mostly empty,
//                and for integers and double. Grid: (pixels, K/KT, 1).
//   conv_nd      convolution over any number of axes, or its transpose: one thread computes KT
//                neighbouring channels of one point. Grid: (points / THREADS, K / KT, 1).
//
// Shape is a type with the integer constants
//   N C H W   K P Q   R S   STRIDE_H STRIDE_W   DILATION_H DILATION_W   PAD_H PAD_W (top, left)
//   GROUPS   BIAS (0 or 1)
// P and Q count the windows, so padding at the bottom and right needs no constants. The Shape of
// conv_nd has only N C K GROUPS BIAS; the rest is in its Window.
#pragma once

#include "expr.cuh"
#include "tile.cuh"
#include "window.cuh"

namespace hiosc {

// Constants derived from a convolution's shape.
template <class Shape> struct ConvTraits {
  enum : int {
    CHANNELS = Shape::C / Shape::GROUPS, // of x, in one group
    FILTERS = Shape::K / Shape::GROUPS,  // of y, in one group
    TAPS = Shape::R * Shape::S,
    TERMS = CHANNELS * TAPS, // per sum
    PLANE = Shape::H * Shape::W,
    PIXELS = Shape::P * Shape::Q,
  };
  // INSIDE: no window reaches beyond an edge, so no load needs a check.
  enum : bool {
    INSIDE = Shape::PAD_H == 0 && Shape::PAD_W == 0 &&
             (Shape::P - 1) * Shape::STRIDE_H + (Shape::R - 1) * Shape::DILATION_H < Shape::H &&
             (Shape::Q - 1) * Shape::STRIDE_W + (Shape::S - 1) * Shape::DILATION_W < Shape::W,
    // POINTWISE: the windows of one channel are the plane itself.
    POINTWISE = TAPS == 1 && Shape::STRIDE_H == 1 && Shape::STRIDE_W == 1 && INSIDE && int(PIXELS) == int(PLANE),
  };
};

// Loads BK terms of BN windows. A thread keeps its column(s), so it locates each window once.
template <class T, class Shape, class Tile> class WindowLoader {
  using Traits = ConvTraits<Shape>;
  enum : int {
    V = Traits::POINTWISE && Traits::PIXELS % 4 == 0 && Tile::THREADS % (Tile::BN / 4) == 0 ? 4 : 1,
    ACROSS = Tile::BN / V,
    ROWS = Tile::THREADS / ACROSS, // rows of the tile that all threads fetch at once
    PER_THREAD = Tile::BK / ROWS,
  };
  static_assert(ROWS * ACROSS == Tile::THREADS && PER_THREAD * ROWS == Tile::BK, "threads must cover the tile");

  const T *image;     // the first channel of this group in this column's image
  int column, row;    // of this thread in the tile
  int top, left;      // of the window
  bool inside;        // whether the column exists
  float held[PER_THREAD][V];

public:
  __device__ __forceinline__ WindowLoader(const T *x, int first_column, int thread) {
    column = thread % ACROSS * V;
    row = thread / ACROSS;
    const int pixel = first_column + column; // counted over all images
    inside = pixel < Shape::N * Traits::PIXELS;
    image = x + pixel / Traits::PIXELS * (Shape::C * Traits::PLANE);
    top = pixel % Traits::PIXELS / Shape::Q * Shape::STRIDE_H - Shape::PAD_H;
    left = pixel % Shape::Q * Shape::STRIDE_W - Shape::PAD_W;
  }

  __device__ __forceinline__ void fetch(int k0) {
    HIOSC_UNROLL
    for (int i = 0; i < PER_THREAD; ++i) {
      const int k = k0 + row + i * ROWS;
      const int channel = k / Traits::TAPS, tap = k % Traits::TAPS;
      const int h = top + tap / Shape::S * Shape::DILATION_H, w = left + tap % Shape::S * Shape::DILATION_W;
      const bool ok = inside && (Traits::TERMS % Tile::BK == 0 || k < Traits::TERMS) &&
                      (Traits::INSIDE || (unsigned(h) < unsigned(Shape::H) && unsigned(w) < unsigned(Shape::W)));
      if (ok) {
        load_floats(held[i], image + (channel * Traits::PLANE + h * Shape::W + w));
      } else {
        HIOSC_UNROLL
        for (int v = 0; v < V; ++v) held[i][v] = 0.0f;
      }
    }
  }

  __device__ __forceinline__ void commit(TileRow<Tile::BN> *tile) const {
    HIOSC_UNROLL
    for (int i = 0; i < PER_THREAD; ++i) store(&tile[row + i * ROWS][column], held[i]);
  }
};

// Implicit GEMM. `more` are the epilogue's further inputs, each of y's shape.
template <class Shape, class Tile, class Epilogue, class T, class Out, class... More>
__device__ __forceinline__ void conv_tiled(const T *x, const T *w, const typename NonDeduced<T>::Type *bias, Out *y, const More *...more) {
  using Traits = ConvTraits<Shape>;
  enum : int { V = Traits::PIXELS % 4 == 0 ? 4 : 1, COLUMNS = Shape::N * Traits::PIXELS };
  const int thread = threadIdx.x, group = blockIdx.z;
  const int first_row = blockIdx.y * Tile::BM, first_column = blockIdx.x * Tile::BN;

  float sum[Tile::TM][Tile::TN];
  HIOSC_UNROLL
  for (int i = 0; i < Tile::TM; ++i) {
    HIOSC_UNROLL
    for (int j = 0; j < Tile::TN; ++j) sum[i][j] = 0.0f;
  }
  StridedLoader<T, Tile, Tile::BM, Traits::FILTERS, Traits::TERMS, Traits::TERMS, 1, Traits::TERMS % 4 == 0> weights(
      w + group * (Traits::FILTERS * Traits::TERMS), first_row, thread);
  WindowLoader<T, Shape, Tile> windows(x + group * (Traits::CHANNELS * Traits::PLANE), first_column, thread);
  multiply_all<Tile>(sum, ceil_div(Traits::TERMS, Tile::BK), weights, windows, thread);

  HIOSC_UNROLL
  for (int i = 0; i < Tile::TM; ++i) {
    const int row = first_row + Tile::row(thread) + i, filter = group * Traits::FILTERS + row;
    if (row >= Traits::FILTERS) break;
    const float b = Shape::BIAS ? float(bias[filter]) : 0.0f;
    HIOSC_UNROLL
    for (int j = 0; j < Tile::TN; j += V) {
      const int column = first_column + Tile::column(thread, j / Tile::SEGMENT) + j % Tile::SEGMENT;
      if (column >= COLUMNS) continue; // V neighbours are inside together
      T v[V];
      HIOSC_UNROLL
      for (int e = 0; e < V; ++e) v[e] = T(sum[i][j + e] + b);
      const int image = column / Traits::PIXELS, pixel = column % Traits::PIXELS;
      finish<Epilogue, V>(v, (image * Shape::K + filter) * Traits::PIXELS + pixel, y, more...);
    }
  }
}

// One thread computes KT channels of one pixel. KT divides the number of filters per group.
template <class Shape, int KT, int THREADS, class Epilogue, class T, class Out, class... More>
__device__ __forceinline__ void conv_direct(const T *x, const T *w, const typename NonDeduced<T>::Type *bias, Out *y, const More *...more) {
  using S = Accumulate<T>;
  using Traits = ConvTraits<Shape>;
  static_assert(Traits::FILTERS % KT == 0, "a thread's channels must be in one group");
  const int column = blockIdx.x * THREADS + threadIdx.x; // a pixel, counted over all images
  if (column >= Shape::N * Traits::PIXELS) return;
  const int image = column / Traits::PIXELS, pixel = column % Traits::PIXELS;
  const int filter = blockIdx.y * KT, group = filter / Traits::FILTERS;
  const int top = pixel / Shape::Q * Shape::STRIDE_H - Shape::PAD_H, left = pixel % Shape::Q * Shape::STRIDE_W - Shape::PAD_W;
  x += (image * Shape::C + group * Traits::CHANNELS) * Traits::PLANE;
  w += filter * Traits::TERMS;

  S sum[KT];
  HIOSC_UNROLL
  for (int i = 0; i < KT; ++i) sum[i] = S(0);
  HIOSC_UNROLL_BY(Traits::TAPS == 1 ? unrolled(Traits::CHANNELS, 128, 4) : unrolled(Traits::CHANNELS, 72 / (Traits::TAPS * KT), 1))
  for (int channel = 0; channel < Traits::CHANNELS; ++channel) {
    HIOSC_UNROLL_GPU
    for (int r = 0; r < Shape::R; ++r) {
      const int h = top + r * Shape::DILATION_H;
      if (!Traits::INSIDE && unsigned(h) >= unsigned(Shape::H)) continue;
      HIOSC_UNROLL_GPU
      for (int s = 0; s < Shape::S; ++s) {
        const int v = left + s * Shape::DILATION_W;
        if (!Traits::INSIDE && unsigned(v) >= unsigned(Shape::W)) continue;
        const S value = S(x[channel * Traits::PLANE + h * Shape::W + v]);
        HIOSC_UNROLL
        for (int i = 0; i < KT; ++i) sum[i] = fma(value, S(w[i * Traits::TERMS + channel * Traits::TAPS + r * Shape::S + s]), sum[i]);
      }
    }
  }
  HIOSC_UNROLL
  for (int i = 0; i < KT; ++i) {
    if (Shape::BIAS) sum[i] = Add<In<0>, In<1>>::apply(sum[i], S(bias[filter + i]));
    const T v = convert<T>(sum[i]);
    finish<Epilogue, 1>(&v, (image * Shape::K + filter + i) * Traits::PIXELS + pixel, y, more...);
  }
}

template <class Shape, class Window, int KT, int THREADS, class Epilogue, class T, class Bias, class Y, class... More>
__device__ __forceinline__ void conv_nd(const T *x, const T *w, Bias bias, Y *y, const More *...more) {
  using Sum = Accumulate<T>;
  enum : int { CHANNELS = Shape::C / Shape::GROUPS, FILTERS = Shape::K / Shape::GROUPS, TERMS = CHANNELS * Window::TAPS };
  static_assert(FILTERS % KT == 0, "a thread's channels must be in one group");
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

} // namespace hiosc
