// Recurrent cells: what a step of an LSTM or a GRU computes after its matrix products, one thread
// per unit.
//
// Gates are [rows, gates * HIDDEN], one gate after the other, before activation; states are
// [rows, HIDDEN]. ELEMENTS is rows * HIDDEN. Grid: (ELEMENTS / THREADS, 1, 1).
#pragma once

#include "expr.cuh"

namespace hiosc {

__device__ __forceinline__ float sigmoid(float x) { return Sigmoid<In<0>>::apply(x); }

// Gate `gate` of GATES, for unit `unit` of row `row`.
template <int GATES, int HIDDEN> __device__ __forceinline__ float gate_of(const float *gates, int row, int unit, int gate) {
  return gates[(row * GATES + gate) * HIDDEN + unit];
}

struct LstmState { // gates i, o, f, c
  template <int HIDDEN> static __device__ __forceinline__ float at(int row, int unit, const float *gates, const float *state) {
    const float i = sigmoid(gate_of<4, HIDDEN>(gates, row, unit, 0)), f = sigmoid(gate_of<4, HIDDEN>(gates, row, unit, 2));
    return f * state[row * HIDDEN + unit] + i * tanhf(gate_of<4, HIDDEN>(gates, row, unit, 3));
  }
};

struct LstmOutput { // `state` is the new state
  template <int HIDDEN> static __device__ __forceinline__ float at(int row, int unit, const float *gates, const float *state) {
    return sigmoid(gate_of<4, HIDDEN>(gates, row, unit, 1)) * tanhf(state[row * HIDDEN + unit]);
  }
};

struct Gru { // gates z, r, h of the input and of the state
  template <int HIDDEN>
  static __device__ __forceinline__ float at(int row, int unit, const float *of_input, const float *of_state, const float *state) {
    const auto both = [&](int gate) {
      return sigmoid(gate_of<3, HIDDEN>(of_input, row, unit, gate) + gate_of<3, HIDDEN>(of_state, row, unit, gate));
    };
    const float next = tanhf(gate_of<3, HIDDEN>(of_input, row, unit, 2) + both(1) * gate_of<3, HIDDEN>(of_state, row, unit, 2));
    return next + both(0) * (state[row * HIDDEN + unit] - next);
  }
};

template <class Cell, int ELEMENTS, int HIDDEN, int THREADS, class... Inputs>
__device__ __forceinline__ void cell(float *y, const Inputs *...inputs) {
  const int i = blockIdx.x * THREADS + threadIdx.x;
  if (i >= ELEMENTS) return;
  y[i] = Cell::template at<HIDDEN>(i / HIDDEN, i % HIDDEN, inputs...);
}

} // namespace hiosc
