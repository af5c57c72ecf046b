// One scalar expression over inputs that broadcast: y[i] = Expr(x0[map0(i)], x1[map1(i)], ...).
//
// Dims is y's shape, with neighbouring axes coalesced wherever all inputs allow it. The k-th of
// Strides lists the k-th input's strides over those axes, 0 where it broadcasts. Each input and y
// have their own element types. A thread computes V neighbouring elements; V is 4 only if the last
// axis is a multiple of 4 and every input's last stride is 0 or 1.
// Grid: (elements / (V * THREADS), 1, 1).
#pragma once

#include "expr.cuh"
#include "index.cuh"

namespace hiosc {

// V neighbouring elements of each input.
template <class Dims, class Strides, class... More, int V, class T, class... Rest>
__device__ __forceinline__ void read_broadcast(Vectors<V, T, Rest...> &to, int i, const T *x, const Rest *...rest) {
  const T *from = x + IndexMap<Dims, Strides>::at(i);
  if constexpr (V == 1 || Last<Strides>::VALUE == 1) {
    load(to.first, from);
  } else {
    HIOSC_UNROLL
    for (int v = 0; v < V; ++v) to.first[v] = *from;
  }
  if constexpr (sizeof...(Rest) > 0) read_broadcast<Dims, More...>(to.rest, i, rest...);
}

template <class Expr, int ELEMENTS, class Dims, int V, int THREADS, class... Strides, class T, class... Inputs>
__device__ __forceinline__ void elementwise(T *y, const Inputs *...inputs) {
  static_assert(sizeof...(Strides) == sizeof...(Inputs), "one list of strides per input");
  const int i = (blockIdx.x * THREADS + threadIdx.x) * V;
  if (i >= ELEMENTS) return;
  Vectors<V, Inputs...> x;
  T out[V];
  if constexpr (sizeof...(Inputs) > 0) read_broadcast<Dims, Strides...>(x, i, inputs...);
  HIOSC_UNROLL
  for (int v = 0; v < V; ++v) out[v] = Expr::eval(point(x, v));
  store(y + i, out);
}

} // namespace hiosc
