// 2-D convolution, NCHW activations and OIHW weights: y[N,K,P,Q] = epilogue(x[N,C,H,W] * w[K,C/GROUPS,R,S] + bias[K]).
//
//   conv_tiled   implicit GEMM: the matrix product weights [K/G x C/G*R*S] times windows [C/G*R*S x N*P*Q], whose right-hand side is read
//                straight from x and never stored. Grid: (column tiles, row tiles, groups).
//   conv_direct  one thread computes KT neighbouring channels of one pixel: for depthwise and for groups of very few channels, where a tile would be
//                mostly empty, and for element types other than float. Grid: (pixels, K/KT, 1).
//
// Shape is a type with the integer constants
//   N C H W   K P Q   R S   STRIDE_H STRIDE_W   DILATION_H DILATION_W   PAD_H PAD_W (top, left)   GROUPS   BIAS (0 or 1)
// P and Q say how many windows there are, so padding at the bottom and right needs no constants.
#pragma once

#include "expr.cuh"
#include "tile.cuh"

namespace hiosc {

// What follows from a convolution's shape.
template <class Shape> struct ConvTraits {
  enum : int {
    CHANNELS = Shape::C / Shape::GROUPS, // of x, in one group
    FILTERS = Shape::K / Shape::GROUPS,  // of y, in one group
    TAPS = Shape::R * Shape::S,
    TERMS = CHANNELS * TAPS, // of each sum
    PLANE = Shape::H * Shape::W,
    PIXELS = Shape::P * Shape::Q,
  };
  // No window reaches over an edge: then no load needs a check.
  enum : bool {
    INSIDE = Shape::PAD_H == 0 && Shape::PAD_W == 0 &&
             (Shape::P - 1) * Shape::STRIDE_H + (Shape::R - 1) * Shape::DILATION_H < Shape::H &&
             (Shape::Q - 1) * Shape::STRIDE_W + (Shape::S - 1) * Shape::DILATION_W < Shape::W,
    // The windows of one channel are the plane itself.
    POINTWISE = TAPS == 1 && Shape::STRIDE_H == 1 && Shape::STRIDE_W == 1 && INSIDE && int(PIXELS) == int(PLANE),
  };
};

// Loads BK terms of BN windows. A thread keeps to its column(s), so a window is located once.
template <class Shape, class Tile> class WindowLoader {
  using Traits = ConvTraits<Shape>;
  enum : int {
    V = Traits::POINTWISE && Traits::PIXELS % 4 == 0 && Tile::THREADS % (Tile::BN / 4) == 0 ? 4 : 1,
    ACROSS = Tile::BN / V,
    ROWS = Tile::THREADS / ACROSS, // rows of the tile that all threads fetch at once
    PER_THREAD = Tile::BK / ROWS,
  };
  static_assert(ROWS * ACROSS == Tile::THREADS && PER_THREAD * ROWS == Tile::BK, "threads must cover the tile");

  const float *image; // the first channel of this group in this column's image
  int column, row;    // of this thread in the tile
  int top, left;      // of the window
  bool inside;        // whether the column exists
  float held[PER_THREAD][V];

public:
  __device__ __forceinline__ WindowLoader(const float *x, int first_column, int thread) {
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
        load(held[i], image + (channel * Traits::PLANE + h * Shape::W + w));
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
template <class Shape, class Tile, class Epilogue, class Out, class... More>
__device__ __forceinline__ void conv_tiled(const float *x, const float *w, const float *bias, Out *y, const More *...more) {
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
  StridedLoader<Tile, Tile::BM, Traits::FILTERS, Traits::TERMS, Traits::TERMS, 1, Traits::TERMS % 4 == 0> weights(
      w + group * (Traits::FILTERS * Traits::TERMS), first_row, thread);
  WindowLoader<Shape, Tile> windows(x + group * (Traits::CHANNELS * Traits::PLANE), first_column, thread);
  multiply_all<Tile>(sum, ceil_div(Traits::TERMS, Tile::BK), weights, windows, thread);

  HIOSC_UNROLL
  for (int i = 0; i < Tile::TM; ++i) {
    const int row = first_row + Tile::row(thread) + i, filter = group * Traits::FILTERS + row;
    if (row >= Traits::FILTERS) break;
    const float b = Shape::BIAS ? bias[filter] : 0.0f;
    HIOSC_UNROLL
    for (int j = 0; j < Tile::TN; j += V) {
      const int column = first_column + Tile::column(thread, j / Tile::SEGMENT) + j % Tile::SEGMENT;
      if (column >= COLUMNS) continue; // V neighbours are inside together
      float v[V];
      HIOSC_UNROLL
      for (int e = 0; e < V; ++e) v[e] = sum[i][j + e] + b;
      const int image = column / Traits::PIXELS, pixel = column % Traits::PIXELS;
      finish<Epilogue, V>(v, (image * Shape::K + filter) * Traits::PIXELS + pixel, y, more...);
    }
  }
}

// One thread, KT channels of one pixel. KT divides the filters of a group.
template <class Shape, int KT, int THREADS, class Epilogue, class T, class Out, class... More>
__device__ __forceinline__ void conv_direct(const T *x, const T *w, const typename Given<T>::Type *bias, Out *y, const More *...more) {
  using S = Accumulate<T>;
  using Traits = ConvTraits<Shape>;
  static_assert(Traits::FILTERS % KT == 0, "a thread's channels must be of one group");
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

} // namespace hiosc
