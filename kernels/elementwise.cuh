// One scalar expression over inputs that broadcast: y[i] = Expr(x0[map0(i)], x1[map1(i)], ...).
//
// Dims is y's shape after neighbouring axes are merged wherever all inputs allow it; the k-th of Strides is a list of the k-th input's
// strides over those axes, 0 where it broadcasts. A thread computes V neighbours: V is 4 only if the last axis is a multiple of 4
// and every input's last stride is 0 or 1. Grid: (elements / (V * THREADS), 1, 1).
#pragma once

#include "expr.cuh"
#include "index.cuh"

namespace hiosc {

// V neighbouring elements of one input.
template <class Dims, class Strides, int V> __device__ __forceinline__ void read_broadcast(float (&to)[V], const float *x, int i) {
  const float *from = x + IndexMap<Dims, Strides>::at(i);
  if constexpr (V == 1 || Last<Strides>::VALUE == 1) {
    load(to, from);
  } else {
    HIOSC_UNROLL
    for (int v = 0; v < V; ++v) to[v] = *from;
  }
}

template <class Expr, int ELEMENTS, class Dims, int V, int THREADS, class... Strides, class... Inputs>
__device__ __forceinline__ void elementwise(float *y, const Inputs *...inputs) {
  static_assert(sizeof...(Strides) == sizeof...(Inputs), "a list of strides for each input");
  constexpr int count = sizeof...(Inputs) > 0 ? sizeof...(Inputs) : 1;
  const int i = (blockIdx.x * THREADS + threadIdx.x) * V;
  if (i >= ELEMENTS) return;
  float x[count][V], out[V];
  int input = 0;
  (read_broadcast<Dims, Strides, V>(x[input++], inputs, i), ...);
  HIOSC_UNROLL
  for (int v = 0; v < V; ++v) {
    float point[count];
    HIOSC_UNROLL
    for (int k = 0; k < count; ++k) point[k] = x[k][v];
    out[v] = Expr::eval(point);
  }
  store(y + i, out);
}

} // namespace hiosc
