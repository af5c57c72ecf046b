// Scatter: y is x with updates at positions given by a tensor of indices. A negative index counts
// from the end of its axis. An update whose index is outside the axis is skipped.
//
// Each element of y is computed by one thread, which applies its updates in ascending order. This
// needs no atomics, and the result does not depend on the order of execution. The price is that
// threads look at updates that are not theirs.
//
//   scatter_lines      y [OUTER.., LENGTH, INNER..] by lines along the axis: a thread copies a line
//                      and applies its COUNT updates. For many lines.
//   scatter_elements   the same with one thread per element, which looks at all COUNT updates of
//                      its line. For few lines.
//   scatter_nd         slices of INNER elements at TUPLES tuples of indices: one thread per
//                      element, which looks at all tuples. The threads of a block resolve the
//                      tuples together, THREADS at a time.
// For lines, Dims are the axes of y without the indexed one, and Strides are y's strides over them.
// UpdateDims and UpdateStrides are the same for the updates, which may be shorter than y along any
// axis. Grid: (lines or elements / THREADS, 1, 1).
#pragma once

#include "expr.cuh"
#include "index.cuh"

namespace hiosc {

struct UpdateReplace {
  template <class T> static __device__ __forceinline__ T apply(T, T update) { return update; }
};
struct UpdateAdd {
  template <class T> static __device__ __forceinline__ T apply(T old, T update) { return Add<In<0>, In<1>>::apply(old, update); }
};
struct UpdateMul {
  template <class T> static __device__ __forceinline__ T apply(T old, T update) { return Mul<In<0>, In<1>>::apply(old, update); }
};
struct UpdateMin {
  template <class T> static __device__ __forceinline__ T apply(T old, T update) { return Min<In<0>, In<1>>::apply(old, update); }
};
struct UpdateMax {
  template <class T> static __device__ __forceinline__ T apply(T old, T update) { return Max<In<0>, In<1>>::apply(old, update); }
};

// The position that `index` maps to on an axis of `length` elements; -1 if it is outside.
template <class I> __device__ __forceinline__ int inside_position(I index, int length) {
  const long long i = (long long)index, from_start = i < 0 ? i + length : i;
  return from_start < 0 || from_start >= length ? -1 : int(from_start);
}

// The offset of the i-th point of the box Dims in the box UpdateDims with strides UpdateStrides; -1
// if that box does not contain it.
template <class Dims, class UpdateDims, class UpdateStrides> struct Narrow;
template <> struct Narrow<Ints<>, Ints<>, Ints<>> {
  static __device__ __forceinline__ int at(int) { return 0; }
};
template <int dim, int... dims, int narrow, int... narrows, int stride, int... strides>
struct Narrow<Ints<dim, dims...>, Ints<narrow, narrows...>, Ints<stride, strides...>> {
  static __device__ __forceinline__ int at(int i) {
    constexpr int inner = product<dims...>;
    const int own = i / inner, rest = Narrow<Ints<dims...>, Ints<narrows...>, Ints<strides...>>::at(i % inner);
    return own >= narrow || rest < 0 ? -1 : own * stride + rest;
  }
};

template <class Update, class Shape, class Dims, class Strides, class UpdateDims, class UpdateStrides, int THREADS, class T, class I>
__device__ __forceinline__ void scatter_lines(const T *x, const I *indices, const T *updates, T *y) {
  const int line = blockIdx.x * THREADS + threadIdx.x;
  if (line >= Shape::LINES) return;
  const int first = IndexMap<Dims, Strides>::at(line), from = Narrow<Dims, UpdateDims, UpdateStrides>::at(line);
  HIOSC_UNROLL_BY(unrolled(Shape::LENGTH, 64, 16))
  for (int i = 0; i < Shape::LENGTH; ++i) y[first + i * Shape::STRIDE] = x[first + i * Shape::STRIDE];
  if (from < 0) return;
  HIOSC_UNROLL_BY(unrolled(Shape::COUNT, 32, 8))
  for (int j = 0; j < Shape::COUNT; ++j) {
    const int update = from + j * Shape::UPDATE_STRIDE, position = inside_position(indices[update], Shape::LENGTH);
    if (position < 0) continue;
    T &to = y[first + position * Shape::STRIDE];
    to = Update::apply(to, updates[update]);
  }
}

template <class Update, class Shape, class Dims, class Strides, class UpdateDims, class UpdateStrides, int THREADS, class T, class I>
__device__ __forceinline__ void scatter_elements(const T *x, const I *indices, const T *updates, T *y) {
  const int i = blockIdx.x * THREADS + threadIdx.x;
  if (i >= Shape::LINES * Shape::LENGTH) return;
  const int line = i / Shape::LENGTH, own = i % Shape::LENGTH;
  const int at = IndexMap<Dims, Strides>::at(line) + own * Shape::STRIDE, from = Narrow<Dims, UpdateDims, UpdateStrides>::at(line);
  T value = x[at];
  if (from >= 0) {
    HIOSC_UNROLL_BY(unrolled(Shape::COUNT, 32, 8))
    for (int j = 0; j < Shape::COUNT; ++j) {
      const int update = from + j * Shape::UPDATE_STRIDE;
      if (inside_position(indices[update], Shape::LENGTH) == own) value = Update::apply(value, updates[update]);
    }
  }
  y[at] = value;
}

// The slice of y that a tuple maps to; -1 if one of its indices is outside.
template <class Dims> struct Slices;
template <> struct Slices<Ints<>> {
  template <class I> static __device__ __forceinline__ int at(const I *) { return 0; }
};
template <int dim, int... dims> struct Slices<Ints<dim, dims...>> {
  template <class I> static __device__ __forceinline__ int at(const I *indices) {
    const int own = inside_position(*indices, dim), rest = Slices<Ints<dims...>>::at(indices + 1);
    return own < 0 || rest < 0 ? -1 : own * product<dims...> + rest;
  }
};

template <class Update, int ELEMENTS, int TUPLES, int TUPLE, class Dims, int INNER, int THREADS, class T, class I>
__device__ __forceinline__ void scatter_nd(const T *x, const I *indices, const T *updates, T *y) {
  __shared__ int slices[THREADS];
  const int thread = threadIdx.x, i = blockIdx.x * THREADS + thread;
  const int own = i / INNER, within = i % INNER;
  T value = x[i < ELEMENTS ? i : 0];
  HIOSC_UNROLL_BY(1)
  for (int first = 0; first < TUPLES; first += THREADS) {
    const int mine = first + thread;
    slices[thread] = mine < TUPLES ? Slices<Dims>::at(indices + mine * TUPLE) : -1;
    __syncthreads();
    HIOSC_UNROLL_BY(4)
    for (int j = 0; j < THREADS && first + j < TUPLES; ++j)
      if (slices[j] == own && i < ELEMENTS) value = Update::apply(value, updates[(first + j) * INNER + within]);
    __syncthreads();
  }
  if (i < ELEMENTS) y[i] = value;
}

} // namespace hiosc
