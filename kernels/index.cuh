// Index arithmetic over shapes known at compile time.
#pragma once

#include "types.cuh"

namespace hiosc {

// A list of numbers as a type.
template <int... values> struct Ints {};

template <int... values> constexpr int product = (values * ... * 1);

// Maps the i-th point of a box (last dimension fastest) to an offset in memory:
// IndexMap<Ints<dims...>, Ints<strides...>>::at(i). A stride of 0 broadcasts. No dimension is
// empty.
template <class Dims, class Strides> struct IndexMap;

template <> struct IndexMap<Ints<>, Ints<>> {
  static __device__ __forceinline__ int at(int) { return 0; }
};

template <int dim, int... dims, int stride, int... strides> struct IndexMap<Ints<dim, dims...>, Ints<stride, strides...>> {
  static __device__ __forceinline__ int at(int i) {
    if constexpr (sizeof...(dims) == 0) {
      return i * stride;
    } else {
      constexpr int inner = product<dims...>;
      return i / inner * stride + IndexMap<Ints<dims...>, Ints<strides...>>::at(i % inner);
    }
  }
};

// The last number of a list.
template <class List> struct Last;
template <int value> struct Last<Ints<value>> {
  enum : int { VALUE = value };
};
template <int first, int second, int... rest> struct Last<Ints<first, second, rest...>> : Last<Ints<second, rest...>> {};

} // namespace hiosc
