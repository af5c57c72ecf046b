// Reading where a tensor of indices says. An index counts from the start of its axis, from the end where it is negative; outside the axis the
// nearest element is taken, so that no index leads outside x.
//
//   gather            y[o, j, :] = x[o, indices[j], :] for x [OUTER, LENGTH, INNER] and COUNT indices. A thread copies V neighbours.
//   gather_elements   y[c] = x[c with indices[c] in the place of the axis]; Dims are y's axes and Strides x's, with 0 for the axis itself
//   gather_nd         y[r, :] = x[tuple r, :] for TUPLES tuples of indices, of which PER_BATCH stand for each batch of x. Dims are the axes of x that a
//                     tuple counts along, Strides their strides; what a tuple leads to has INNER elements. A thread copies V neighbours.
// Grid: (elements / (V * THREADS), 1, 1).
#pragma once

#include "index.cuh"
#include "types.cuh"

namespace hiosc {

// Where `index` leads on an axis of `length` elements.
template <class I> __device__ __forceinline__ int nearest(I index, int length) {
  const long long i = (long long)index, from_start = i < 0 ? i + length : i;
  return from_start < 0 ? 0 : from_start >= length ? length - 1 : int(from_start);
}

template <int OUTER, int LENGTH, int INNER, int COUNT, int V, int THREADS, class T, class I>
__device__ __forceinline__ void gather(const T *x, const I *indices, T *y) {
  const int i = (blockIdx.x * THREADS + threadIdx.x) * V;
  if (i >= OUTER * COUNT * INNER) return;
  const int row = i / INNER, outer = row / COUNT;
  const int place = nearest(indices[row % COUNT], LENGTH);
  T values[V];
  load(values, x + ((outer * LENGTH + place) * INNER + i % INNER));
  store(y + i, values);
}

template <int ELEMENTS, class Dims, class Strides, int LENGTH, int STRIDE, int THREADS, class T, class I>
__device__ __forceinline__ void gather_elements(const T *x, const I *indices, T *y) {
  const int i = blockIdx.x * THREADS + threadIdx.x;
  if (i >= ELEMENTS) return;
  y[i] = x[IndexMap<Dims, Strides>::at(i) + nearest(indices[i], LENGTH) * STRIDE];
}

// The offset that a tuple of indices leads to.
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
