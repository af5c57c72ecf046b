// Writing where a tensor of indices says: y is x with updates. An index counts from the start of its axis, from the end where it is negative; an
// update whose index is outside the axis is left out.
//
// Every element of y is computed by one thread, which applies its updates in ascending order: without atomics, and with the same result whatever
// runs first. The price is that threads look at updates that are not theirs.
//
//   scatter_lines      y [OUTER.., LENGTH, INNER..] by lines along the axis: a thread copies a line and applies the COUNT updates of it. Many lines.
//   scatter_elements   the same, a thread an element, which looks at all COUNT updates of its line: few lines
//   scatter_nd         slices of INNER elements at TUPLES tuples of indices: a thread an element, which looks at all tuples. The threads of a block
//                      resolve the tuples together, THREADS at a time.
// Lines: Dims are the axes of y without the one that indices count along, Strides are y's strides over them, and UpdateDims and UpdateStrides the same of the
// updates, which may be shorter than y along any axis. Grid: (lines or elements / THREADS, 1, 1).
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

// Where `index` leads on an axis of `length` elements; -1 outside.
template <class I> __device__ __forceinline__ int place_inside(I index, int length) {
  const long long i = (long long)index, from_start = i < 0 ? i + length : i;
  return from_start < 0 || from_start >= length ? -1 : int(from_start);
}

// The offset of the i-th point of the box Dims in a box UpdateDims, strides UpdateStrides; -1 if that box does not have it.
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
    const int update = from + j * Shape::UPDATE_STRIDE, place = place_inside(indices[update], Shape::LENGTH);
    if (place < 0) continue;
    T &to = y[first + place * Shape::STRIDE];
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
      if (place_inside(indices[update], Shape::LENGTH) == own) value = Update::apply(value, updates[update]);
    }
  }
  y[at] = value;
}

// The slice of y that a tuple leads to; -1 if one of its indices is outside.
template <class Dims> struct Slices;
template <> struct Slices<Ints<>> {
  template <class I> static __device__ __forceinline__ int at(const I *) { return 0; }
};
template <int dim, int... dims> struct Slices<Ints<dim, dims...>> {
  template <class I> static __device__ __forceinline__ int at(const I *indices) {
    const int own = place_inside(*indices, dim), rest = Slices<Ints<dims...>>::at(indices + 1);
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
