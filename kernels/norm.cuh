// Normalisation: y = Epilogue((x - mean) / sqrt(variance + epsilon), more...), with the mean and
// variance of each row: LayerNorm, GroupNorm, InstanceNorm and RmsNorm.
//
// A row is COUNT elements x[Rows::at(i) + Row::at(j)]: Rows and Row are IndexMaps over the kept and
// the normalised axes. Without CENTRED the mean counts as 0. The variance is the mean of squared
// differences, computed in a second pass, so that a large mean costs no digits. Maps are IndexMaps
// from an offset in x to the further inputs of the epilogue, which broadcast.
//   norm_thread   one thread per row: short rows, or rows that are side by side in memory.
//                 Grid: (ROWS / THREADS, 1, 1)
//   norm_warp     one warp per row, which it holds in registers: COUNT <= 1024.
//                 Grid: (ROWS / (THREADS / 32), 1, 1)
//   norm_block    one block per row. Grid: (ROWS, 1, 1)
#pragma once

#include "reduce.cuh"

namespace hiosc {

// Reads the epilogue's further inputs for the element at `at`.
template <class Map, class... Maps, class T, class... Rest>
__device__ __forceinline__ void read_mapped(Vectors<1, T, Rest...> &to, int at, const T *x, const Rest *...rest) {
  to.first[0] = x[Map::at(at)];
  if constexpr (sizeof...(Rest) > 0) read_mapped<Maps...>(to.rest, at, rest...);
}

template <class Epilogue, class... Maps, class... More>
__device__ __forceinline__ auto normalised(float value, [[maybe_unused]] int at, const More *...more) {
  Vectors<1, float, More...> x;
  x.first[0] = value;
  if constexpr (sizeof...(More) > 0) read_mapped<Maps...>(x.rest, at, more...);
  return Epilogue::eval(point(x, 0));
}

template <class Rows, class Row, int ROWS, int COUNT, bool CENTRED, unsigned EPSILON, int THREADS, class Epilogue, class... Maps, class Y, class... More>
__device__ __forceinline__ void norm_thread(const float *x, Y *y, const More *...more) {
  const int row = blockIdx.x * THREADS + threadIdx.x;
  if (row >= ROWS) return;
  const int first = Rows::at(row);
  float mean = 0.0f, variance = 0.0f;
  if (CENTRED) {
    HIOSC_UNROLL_BY(unrolled(COUNT, 64, 16))
    for (int j = 0; j < COUNT; ++j) mean += x[first + Row::at(j)];
    mean /= float(COUNT);
  }
  HIOSC_UNROLL_BY(unrolled(COUNT, 64, 16))
  for (int j = 0; j < COUNT; ++j) {
    const float d = x[first + Row::at(j)] - mean;
    variance = fma(d, d, variance);
  }
  const float factor = 1.0f / sqrtf(variance / float(COUNT) + __uint_as_float(EPSILON));
  HIOSC_UNROLL_BY(unrolled(COUNT, 16, 8))
  for (int j = 0; j < COUNT; ++j) {
    const int at = first + Row::at(j);
    y[at] = normalised<Epilogue, Maps...>((x[at] - mean) * factor, at, more...);
  }
}

// The last stride of an IndexMap.
template <class Map> struct LastStride;
template <class Dims, class Strides> struct LastStride<IndexMap<Dims, Strides>> : Last<Strides> {};

// Reads the epilogue's further inputs for V neighbouring elements from `at` on.
template <class... Maps, int V> __device__ __forceinline__ void read_mapped_row(Vectors<V> &, int) {}
template <class Map, class... Maps, int V, class T, class... Rest>
__device__ __forceinline__ void read_mapped_row(Vectors<V, T, Rest...> &to, int at, const T *x, const Rest *...rest) {
  const T *from = x + Map::at(at);
  if constexpr (V == 1 || LastStride<Map>::VALUE == 1) {
    load(to.first, from);
  } else {
    HIOSC_UNROLL
    for (int v = 0; v < V; ++v) to.first[v] = *from;
  }
  read_mapped_row<Maps...>(to.rest, at, rest...);
}

// V neighbours are read and written at once. V > 1 needs a Row of neighbours, and Rows and Maps
// that keep vectors aligned.
template <class Rows, class Row, int ROWS, int COUNT, bool CENTRED, unsigned EPSILON, int THREADS, int V, class Epilogue, class... Maps, class Y, class... More>
__device__ __forceinline__ void norm_warp(const float *x, Y *y, const More *...more) {
  static_assert(COUNT % V == 0, "a row must consist of vectors");
  constexpr int items = ceil_div(COUNT, 32 * V);
  const int row = blockIdx.x * (THREADS / 32) + threadIdx.x / 32, lane = threadIdx.x % 32;
  if (row >= ROWS) return; // the whole warp
  const int first = Rows::at(row);
  Vectors<V, float, More...> held[items]; // all loads are in flight together
  HIOSC_UNROLL
  for (int i = 0; i < items; ++i) {
    HIOSC_UNROLL
    for (int v = 0; v < V; ++v) held[i].first[v] = 0.0f;
    const int j = (i * 32 + lane) * V;
    if (j >= COUNT) continue;
    const int at = first + Row::at(j);
    load(held[i].first, x + at);
    read_mapped_row<Maps...>(held[i].rest, at, more...);
  }
  float mean = 0.0f, variance = 0.0f;
  if (CENTRED) {
    HIOSC_UNROLL
    for (int i = 0; i < items; ++i) {
      HIOSC_UNROLL
      for (int v = 0; v < V; ++v) mean += held[i].first[v];
    }
    mean = combine_warp<ReduceSum>(mean) / float(COUNT);
  }
  HIOSC_UNROLL
  for (int i = 0; i < items; ++i) {
    if ((i * 32 + lane) * V >= COUNT) break;
    HIOSC_UNROLL
    for (int v = 0; v < V; ++v) {
      held[i].first[v] -= mean;
      variance = fma(held[i].first[v], held[i].first[v], variance);
    }
  }
  const float factor = 1.0f / sqrtf(combine_warp<ReduceSum>(variance) / float(COUNT) + __uint_as_float(EPSILON));
  HIOSC_UNROLL
  for (int i = 0; i < items; ++i) {
    const int j = (i * 32 + lane) * V;
    if (j >= COUNT) break;
    Y out[V];
    HIOSC_UNROLL
    for (int v = 0; v < V; ++v) {
      held[i].first[v] *= factor;
      out[v] = Epilogue::eval(point(held[i], v));
    }
    store(y + (first + Row::at(j)), out);
  }
}

template <class Rows, class Row, int ROWS, int COUNT, bool CENTRED, unsigned EPSILON, int THREADS, class Epilogue, class... Maps, class Y, class... More>
__device__ __forceinline__ void norm_block(const float *x, Y *y, const More *...more) {
  const int first = Rows::at(blockIdx.x), thread = threadIdx.x;
  float mean = 0.0f, variance = 0.0f;
  if (CENTRED) {
    HIOSC_UNROLL_BY(unrolled_strided(COUNT, THREADS))
    for (int j = thread; j < COUNT; j += THREADS) mean += x[first + Row::at(j)];
    mean = combine_block<ReduceSum, THREADS>(mean) / float(COUNT);
  }
  HIOSC_UNROLL_BY(unrolled_strided(COUNT, THREADS))
  for (int j = thread; j < COUNT; j += THREADS) {
    const float d = x[first + Row::at(j)] - mean;
    variance = fma(d, d, variance);
  }
  const float factor = 1.0f / sqrtf(combine_block<ReduceSum, THREADS>(variance) / float(COUNT) + __uint_as_float(EPSILON));
  HIOSC_UNROLL_BY(unrolled_strided(COUNT, THREADS))
  for (int j = thread; j < COUNT; j += THREADS) {
    const int at = first + Row::at(j);
    y[at] = normalised<Epilogue, Maps...>((x[at] - mean) * factor, at, more...);
  }
}

} // namespace hiosc
