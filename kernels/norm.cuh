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

template <class Rows, class Row, int ROWS, int COUNT, bool CENTRED, unsigned EPSILON, int THREADS, class Epilogue, class... Maps, class Y, class... More>
__device__ __forceinline__ void norm_warp(const float *x, Y *y, const More *...more) {
  constexpr int items = ceil_div(COUNT, 32);
  const int row = blockIdx.x * (THREADS / 32) + threadIdx.x / 32, lane = threadIdx.x % 32;
  if (row >= ROWS) return; // the whole warp
  const int first = Rows::at(row);
  float held[items], mean = 0.0f, variance = 0.0f;
  HIOSC_UNROLL
  for (int i = 0; i < items; ++i) {
    held[i] = i * 32 + lane < COUNT ? x[first + Row::at(i * 32 + lane)] : 0.0f;
    mean += held[i];
  }
  mean = CENTRED ? combine_warp<ReduceSum>(mean) / float(COUNT) : 0.0f;
  HIOSC_UNROLL
  for (int i = 0; i < items; ++i) {
    held[i] -= mean;
    if (i * 32 + lane < COUNT) variance = fma(held[i], held[i], variance);
  }
  const float factor = 1.0f / sqrtf(combine_warp<ReduceSum>(variance) / float(COUNT) + __uint_as_float(EPSILON));
  HIOSC_UNROLL
  for (int i = 0; i < items; ++i) {
    if (i * 32 + lane >= COUNT) break;
    const int at = first + Row::at(i * 32 + lane);
    y[at] = normalised<Epilogue, Maps...>(held[i] * factor, at, more...);
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
