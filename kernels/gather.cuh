// Gather: reads x at positions given by a tensor of indices. A negative index counts from the end
// of its axis. An index outside the axis is clamped to the nearest element, so that nothing outside
// x is read.
//
//   gather            y[o, j, :] = x[o, indices[j], :] for x [OUTER, LENGTH, INNER] and COUNT
//                     indices. A thread copies V neighbouring elements.
//   gather_elements   y[c] = x[c with indices[c] in place of the axis]. Dims are y's axes, Strides
//                     are x's strides, with 0 for the axis itself.
//   gather_nd         y[r, :] = x[tuple r, :] for TUPLES tuples of indices, PER_BATCH of them for
//                     each batch of x. Dims are the axes of x that a tuple indexes, Strides their
//                     strides; a tuple selects INNER elements. A thread copies V neighbouring
//                     elements.
// Grid: (elements / (V * THREADS), 1, 1).
#pragma once

#include "index.cuh"
#include "types.cuh"

namespace hiosc {

// The position that `index` maps to on an axis of `length` elements.
template <class I> __device__ __forceinline__ int nearest(I index, int length) {
  const long long i = (long long)index, from_start = i < 0 ? i + length : i;
  return from_start < 0 ? 0 : from_start >= length ? length - 1 : int(from_start);
}

template <int OUTER, int LENGTH, int INNER, int COUNT, int V, int THREADS, class T, class I>
__device__ __forceinline__ void gather(const T *x, const I *indices, T *y) {
  const int i = (blockIdx.x * THREADS + threadIdx.x) * V;
  if (i >= OUTER * COUNT * INNER) return;
  const int row = i / INNER, outer = row / COUNT;
  const int position = nearest(indices[row % COUNT], LENGTH);
  T values[V];
  load(values, x + ((outer * LENGTH + position) * INNER + i % INNER));
  store(y + i, values);
}

template <int ELEMENTS, class Dims, class Strides, int LENGTH, int STRIDE, int THREADS, class T, class I>
__device__ __forceinline__ void gather_elements(const T *x, const I *indices, T *y) {
  const int i = blockIdx.x * THREADS + threadIdx.x;
  if (i >= ELEMENTS) return;
  y[i] = x[IndexMap<Dims, Strides>::at(i) + nearest(indices[i], LENGTH) * STRIDE];
}

// The offset that a tuple of indices maps to.
template <class Dims, class Strides> struct Tuple;
template <> struct Tuple<Ints<>, Ints<>> {
  template <class I> static __device__ __forceinline__ int offset(const I *) { return 0; }
};
template <int dim, int... dims, int stride, int... strides> struct Tuple<Ints<dim, dims...>, Ints<stride, strides...>> {
  template <class I> static __device__ __forceinline__ int offset(const I *indices) {
    return nearest(*indices, dim) * stride + Tuple<Ints<dims...>, Ints<strides...>>::offset(indices + 1);
  }
};

template <int TUPLES, int PER_BATCH, int BATCH_STRIDE, int TUPLE, class Dims, class Strides, int INNER, int V, int THREADS, class T, class I>
__device__ __forceinline__ void gather_nd(const T *x, const I *indices, T *y) {
  const int i = (blockIdx.x * THREADS + threadIdx.x) * V;
  if (i >= TUPLES * INNER) return;
  const int row = i / INNER;
  T values[V];
  load(values, x + (row / PER_BATCH * BATCH_STRIDE + Tuple<Dims, Strides>::offset(indices + row * TUPLE) + i % INNER));
  store(y + i, values);
}

} // namespace hiosc
