// Sampling at computed positions: y[n,c,o] is x[n,c,...] interpolated at the position grid[n,o,:].
//
// A thread locates its point once, as a list of taps (offset and weight), and reads CHANNELS
// channels there. Grid: (N * POINTS / THREADS, C / CHANNELS, 1). EXTENTS are the extents of x's
// axes. A position in the grid has one coordinate per axis, from -1 to 1, the last axis first.
// Nothing outside x is read: a tap without an element has the offset -1.
#pragma once

#include "types.cuh"

namespace hiosc {

// Converts a number to an index: 0 for NaN, and clamped to fit an int.
__device__ __forceinline__ int to_index(float a) { return a != a ? 0 : int(fminf(fmaxf(a, -1e9f), 1e9f)); }

__device__ __forceinline__ int inside_index(int i, int extent) { return i < 0 ? 0 : i < extent ? i : extent - 1; }

// Reflects `a` into [low, high].
__device__ __forceinline__ float reflected(float a, float low, float high) {
  const float range = high - low;
  if (range == 0.0f) return low;
  if (!(a < low) && !(a > high)) return a;
  const float beyond = a < low ? low - a : a - high;
  const int times = to_index(beyond / range);
  const float rest = beyond - float(times) * range;
  return (a < low) == (times % 2 == 0) ? low + rest : high - rest;
}

// What is read outside x: how a coordinate moves inside, and which element an index beyond the edge
// maps to (-1: none).
struct OutsideZeros {
  enum : int { CLAMPS = 0 };
  static __device__ __forceinline__ float coordinate(float a, float, float) { return a; }
  static __device__ __forceinline__ int index(int i, int extent, float, float) { return unsigned(i) < unsigned(extent) ? i : -1; }
};
struct OutsideBorder {
  enum : int { CLAMPS = 1 };
  static __device__ __forceinline__ float coordinate(float a, float low, float high) {
    return a < 0.0f ? 0.0f : a > high + low ? high + low : a; // high + low is the last index
  }
  static __device__ __forceinline__ int index(int i, int extent, float, float) { return inside_index(i, extent); }
};
struct OutsideReflection {
  enum : int { CLAMPS = 0 };
  static __device__ __forceinline__ float coordinate(float a, float low, float high) { return reflected(a, low, high); }
  static __device__ __forceinline__ int index(int i, int extent, float low, float high) {
    return inside_index(to_index(reflected(float(i), low, high)), extent);
  }
};

// How an axis is interpolated: TAPS neighbours and their weights. `taps` returns the first
// neighbour.
struct SampleNearest {
  enum : int { TAPS = 1 };
  static __device__ __forceinline__ float snapped(float a) { return rintf(a); }
  static __device__ __forceinline__ int taps(float a, float (&weight)[TAPS]) {
    weight[0] = 1.0f;
    return to_index(a);
  }
};
struct SampleLinear {
  enum : int { TAPS = 2 };
  static __device__ __forceinline__ float snapped(float a) { return a; }
  static __device__ __forceinline__ int taps(float a, float (&weight)[TAPS]) {
    const float below = floorf(a);
    weight[0] = below + 1.0f - a;
    weight[1] = a - below;
    return to_index(below);
  }
};
struct SampleCubic {
  enum : int { TAPS = 4 };
  static __device__ __forceinline__ float snapped(float a) { return a; }
  // Keys' convolution: within one element, and between one and two elements away.
  static __device__ __forceinline__ float near(float d) { return ((-0.75f + 2.0f) * d - (-0.75f + 3.0f)) * d * d + 1.0f; }
  static __device__ __forceinline__ float far(float d) { return ((-0.75f * d + 3.75f) * d - 6.0f) * d + 3.0f; }
  static __device__ __forceinline__ int taps(float a, float (&weight)[TAPS]) {
    const float below = floorf(a), d = a - below;
    weight[0] = far(d + 1.0f);
    weight[1] = near(d);
    weight[2] = near(1.0f - d);
    weight[3] = far(2.0f - d);
    return to_index(below) - 1;
  }
};

template <class Mode, class Outside, bool ALIGN_CORNERS, int N, int C, int POINTS, int CHANNELS, int THREADS, int... EXTENTS>
__device__ __forceinline__ void grid_sample(const float *x, const float *grid, float *y) {
  constexpr int axes = sizeof...(EXTENTS), extents[axes] = {EXTENTS...}, plane = (EXTENTS * ...);
  constexpr int per_axis = Mode::TAPS, taps = axes == 1 ? per_axis : axes == 2 ? per_axis * per_axis : per_axis * per_axis * per_axis;
  static_assert(axes <= 3, "three axes at most");
  const int i = blockIdx.x * THREADS + threadIdx.x;
  if (i >= N * POINTS) return;
  const int image = i / POINTS, point = i % POINTS;

  float coordinate[axes], low[axes], high[axes];
  bool outside = false;
  HIOSC_UNROLL
  for (int d = 0; d < axes; ++d) {
    const float extent = float(extents[d]), a = grid[i * axes + (axes - 1 - d)];
    coordinate[d] = Mode::snapped(ALIGN_CORNERS ? (a + 1.0f) / 2.0f * (extent - 1.0f) : ((a + 1.0f) * extent - 1.0f) / 2.0f);
    low[d] = ALIGN_CORNERS ? 0.0f : -0.5f;
    high[d] = ALIGN_CORNERS ? extent - 1.0f : extent - 0.5f;
    outside = outside || coordinate[d] < low[d] || coordinate[d] > high[d];
  }
  int first[axes];
  float weights[axes][per_axis];
  HIOSC_UNROLL
  for (int d = 0; d < axes; ++d) {
    // a cubic keeps its position, and each neighbour is clamped on its own (PyTorch, ONNX Runtime)
    if (outside && !(Mode::TAPS == 4 && Outside::CLAMPS)) coordinate[d] = Outside::coordinate(coordinate[d], low[d], high[d]);
    first[d] = Mode::taps(coordinate[d], weights[d]);
  }
  int offset[taps];
  float weight[taps];
  HIOSC_UNROLL
  for (int tap = 0; tap < taps; ++tap) {
    offset[tap] = 0;
    weight[tap] = 1.0f;
    int rest = tap;
    HIOSC_UNROLL
    for (int d = axes - 1, stride = 1; d >= 0; stride *= extents[d], --d) {
      const int k = rest % per_axis, index = Outside::index(first[d] + k, extents[d], low[d], high[d]);
      rest /= per_axis;
      weight[tap] *= weights[d][k];
      offset[tap] = offset[tap] < 0 || index < 0 ? -1 : offset[tap] + index * stride;
    }
  }
  HIOSC_UNROLL_BY(unrolled(CHANNELS, 32 / taps, 1))
  for (int c = 0; c < CHANNELS; ++c) {
    const int channel = image * C + blockIdx.y * CHANNELS + c;
    float sum = 0.0f;
    HIOSC_UNROLL
    for (int tap = 0; tap < taps; ++tap) sum = fma(weight[tap], offset[tap] < 0 ? 0.0f : x[channel * plane + offset[tap]], sum);
    y[channel * POINTS + point] = sum;
  }
}

} // namespace hiosc
