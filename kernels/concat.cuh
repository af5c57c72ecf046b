// Concatenation in one launch: y[o, :] is x0[o, :], then x1[o, :], and so on. A row of an input
// covers the concatenated axis and all axes after it.
//
// LENGTHS are the row lengths of the inputs, OUTER is the number of rows. A thread copies V
// neighbouring elements: 16 bytes if every row length is a multiple of that, else V is 1.
// Grid: (elements / (V * THREADS), 1, 1).
#pragma once

#include "index.cuh"

namespace hiosc {

// Finds the input that holds column `column` of y's rows, and reads the column from it.
template <int V, int BEGIN, int LENGTH, int... LENGTHS, class T, class... Inputs>
__device__ __forceinline__ void read_concatenated(T (&to)[V], int row, int column, const T *x, const Inputs *...inputs) {
  if constexpr (sizeof...(LENGTHS) == 0) {
    load(to, x + row * LENGTH + (column - BEGIN));
  } else {
    if (column < BEGIN + LENGTH) load(to, x + row * LENGTH + (column - BEGIN));
    else read_concatenated<V, BEGIN + LENGTH, LENGTHS...>(to, row, column, inputs...);
  }
}

template <int OUTER, int V, int THREADS, int... LENGTHS, class T, class... Inputs>
__device__ __forceinline__ void concat(T *y, const Inputs *...inputs) {
  static_assert(sizeof...(LENGTHS) == sizeof...(Inputs), "one row length per input");
  constexpr int row_length = (LENGTHS + ...);
  const int i = (blockIdx.x * THREADS + threadIdx.x) * V;
  if (i >= OUTER * row_length) return;
  T values[V];
  read_concatenated<V, 0, LENGTHS...>(values, i / row_length, i % row_length, inputs...);
  store(y + i, values);
}

} // namespace hiosc
