// Local response normalisation: y[n,c,i] = x[n,c,i] / (bias + alpha / SIZE * sum of
// x[n,k,i]^2)^beta over the SIZE channels k around c.
//
// x is [N, C, INNER]; ELEMENTS = N * C * INNER. ALPHA, BETA and BIAS are given by their IEEE bits.
// One thread per output, so that neighbouring threads read neighbouring elements; a window's
// channels come from the cache. Grid: (ELEMENTS / THREADS, 1, 1).
#pragma once

#include "types.cuh"

namespace hiosc {

template <int ELEMENTS, int C, int INNER, int SIZE, unsigned ALPHA, unsigned BETA, unsigned BIAS, int THREADS>
__device__ __forceinline__ void lrn(const float *x, float *y) {
  const int i = blockIdx.x * THREADS + threadIdx.x;
  if (i >= ELEMENTS) return;
  const int channel = i / INNER % C;
  float sum = 0.0f;
  HIOSC_UNROLL_BY(unrolled(SIZE, 64, 16))
  for (int k = 0; k < SIZE; ++k) {
    const int other = channel + k - (SIZE - 1) / 2;
    if (unsigned(other) >= unsigned(C)) continue;
    const float value = x[i + (other - channel) * INNER];
    sum = fma(value, value, sum);
  }
  y[i] = x[i] / powf(__uint_as_float(BIAS) + __uint_as_float(ALPHA) / float(SIZE) * sum, __uint_as_float(BETA));
}

} // namespace hiosc
