// Convolution whose groups have few filters: depthwise, and the last convolution of a network that
// makes an image. A matrix product would pad its few rows to a whole tile.
//
// A thread computes a patch of PH x PW neighbouring pixels of KT neighbouring channels. It reads
// each element of x that the patch covers once, V neighbours at a time, and keeps the taps of one
// channel of x in registers. Neighbouring threads have neighbouring patches of a row. All loads of
// UNROLL channels of x are in flight at the same time.
// Grid: (threads / THREADS, 1, 1).
//
// Shape is that of conv.cuh. V > 1 needs rows of x that are aligned to V elements, and patches that
// are V * n elements apart in x.
#pragma once

#include "conv.cuh"

namespace hiosc {

// What a patch covers.
template <class Shape, int PH, int PW, int V> struct Patch {
  enum : int {
    DOWN = ceil_div(Shape::P, PH), // patches
    ACROSS = ceil_div(Shape::Q, PW),
    ROWS = (PH - 1) * Shape::STRIDE_H + (Shape::R - 1) * Shape::DILATION_H + 1, // of x
    COLUMNS = (PW - 1) * Shape::STRIDE_W + (Shape::S - 1) * Shape::DILATION_W + 1,
    // The first element is SHIFT elements after the beginning of a vector.
    SHIFT = (V - Shape::PAD_W % V) % V,
    VECTORS = ceil_div(SHIFT + COLUMNS, V),
    // The elements after the last one that any patch reads.
    BOTTOM = (DOWN - 1) * PH * Shape::STRIDE_H - Shape::PAD_H + ROWS,
    RIGHT = (ACROSS - 1) * PW * Shape::STRIDE_W - Shape::PAD_W - SHIFT + VECTORS * V,
  };
  enum : bool {
    // No patch reaches beyond an edge, so no load needs a check.
    INSIDE_H = Shape::PAD_H == 0 && int(BOTTOM) <= int(Shape::H),
    INSIDE_W = Shape::PAD_W == 0 && int(RIGHT) <= int(Shape::W),
  };

  // Whether a pixel of the patch uses this row, or this column.
  static __host__ __device__ constexpr bool uses(int at, int pixels, int stride, int taps, int dilation) {
    for (int pixel = 0; pixel < pixels; ++pixel) {
      const int from = at - pixel * stride;
      if (from >= 0 && from % dilation == 0 && from / dilation < taps) return true;
    }
    return false;
  }
  static __host__ __device__ constexpr bool uses_row(int row) { return uses(row, PH, Shape::STRIDE_H, Shape::R, Shape::DILATION_H); }
  static __host__ __device__ constexpr bool uses_vector(int vector) {
    for (int v = 0; v < V; ++v)
      if (uses(vector * V + v - SHIFT, PW, Shape::STRIDE_W, Shape::S, Shape::DILATION_W)) return true;
    return false;
  }
};

template <class Shape, int PH, int PW, int V, int KT, int UNROLL, int THREADS, class Epilogue, class T, class Out, class... More>
__device__ __forceinline__ void depthwise(const T *x, const T *w, const typename NonDeduced<T>::Type *bias, Out *y, const More *...more) {
  using Traits = ConvTraits<Shape>;
  using Patch = Patch<Shape, PH, PW, V>;
  static_assert(Traits::FILTERS % KT == 0, "a thread's channels must be in one group");
  static_assert(V == 1 || (Shape::W % V == 0 && PW * Shape::STRIDE_W % V == 0), "vectors must be aligned");
  enum : int { OUT = Shape::Q % PW == 0 ? PW : 1 }; // neighbours that are written at once
  const int patch = blockIdx.x * THREADS + threadIdx.x;
  if (patch >= Shape::N * (Shape::K / KT) * (Patch::DOWN * Patch::ACROSS)) return;
  const int q = patch % Patch::ACROSS * PW, p = patch / Patch::ACROSS % Patch::DOWN * PH;
  const int plane = patch / (Patch::DOWN * Patch::ACROSS), image = plane / (Shape::K / KT);
  const int filter = plane % (Shape::K / KT) * KT, group = filter / Traits::FILTERS;
  const int top = p * Shape::STRIDE_H - Shape::PAD_H, left = q * Shape::STRIDE_W - Shape::PAD_W - Patch::SHIFT;
  x += (image * Shape::C + group * Traits::CHANNELS) * Traits::PLANE + top * Shape::W + left;
  w += filter * Traits::TERMS;

  float sum[KT][PH][PW];
  HIOSC_UNROLL
  for (int k = 0; k < KT; ++k) {
    HIOSC_UNROLL
    for (int i = 0; i < PH; ++i) {
      HIOSC_UNROLL
      for (int j = 0; j < PW; ++j) sum[k][i][j] = 0.0f;
    }
  }
  HIOSC_UNROLL_BY(UNROLL)
  for (int channel = 0; channel < Traits::CHANNELS; ++channel) {
    float taps[KT][Traits::TAPS];
    HIOSC_UNROLL
    for (int k = 0; k < KT; ++k) {
      HIOSC_UNROLL
      for (int tap = 0; tap < Traits::TAPS; ++tap) taps[k][tap] = float(w[k * Traits::TERMS + channel * Traits::TAPS + tap]);
    }
    HIOSC_UNROLL_GPU
    for (int row = 0; row < Patch::ROWS; ++row) {
      if (!Patch::uses_row(row)) continue;
      const bool row_inside = Patch::INSIDE_H || unsigned(top + row) < unsigned(Shape::H);
      float held[Patch::VECTORS * V] = {};
      HIOSC_UNROLL
      for (int i = 0; i < Patch::VECTORS; ++i) {
        if (!Patch::uses_vector(i)) continue;
        float vector[V] = {};
        if (row_inside && (Patch::INSIDE_W || unsigned(left + i * V) < unsigned(Shape::W))) {
          load_floats(vector, x + (channel * Traits::PLANE + row * Shape::W + i * V));
        }
        HIOSC_UNROLL
        for (int v = 0; v < V; ++v) held[i * V + v] = vector[v];
      }
      HIOSC_UNROLL_GPU
      for (int i = 0; i < PH; ++i) {
        const int from = row - i * Shape::STRIDE_H, r = from / Shape::DILATION_H;
        if (from < 0 || from % Shape::DILATION_H != 0 || r >= Shape::R) continue;
        HIOSC_UNROLL_GPU
        for (int s = 0; s < Shape::S; ++s) {
          HIOSC_UNROLL
          for (int k = 0; k < KT; ++k) {
            HIOSC_UNROLL
            for (int j = 0; j < PW; ++j) {
              const float value = held[Patch::SHIFT + j * Shape::STRIDE_W + s * Shape::DILATION_W];
              sum[k][i][j] = fma(value, taps[k][r * Shape::S + s], sum[k][i][j]);
            }
          }
        }
      }
    }
  }

  HIOSC_UNROLL
  for (int k = 0; k < KT; ++k) {
    const float b = Shape::BIAS ? float(bias[filter + k]) : 0.0f;
    HIOSC_UNROLL
    for (int i = 0; i < PH; ++i) {
      if (Shape::P % PH != 0 && p + i >= Shape::P) break;
      HIOSC_UNROLL
      for (int j = 0; j < PW; j += OUT) {
        if (Shape::Q % PW != 0 && q + j >= Shape::Q) break;
        T v[OUT];
        HIOSC_UNROLL
        for (int e = 0; e < OUT; ++e) v[e] = T(sum[k][i][j + e] + b);
        finish<Epilogue, OUT>(v, (image * Shape::K + filter + k) * Traits::PIXELS + (p + i) * Shape::Q + q + j, y, more...);
      }
    }
  }
}

} // namespace hiosc
