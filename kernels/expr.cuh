// Scalar expressions as types: Relu<Add<In<0>, In<1>>> is max(x0 + x1, 0).
//
// An expression is the body of an elementwise kernel, or the epilogue of a heavier one (In<0> is then the finished sum). Being a type,
// it costs nothing at run time and leaves a short name in profiles. Relu, Max and Min hand on NaN.
#pragma once

#include "hiosc.cuh"

namespace hiosc {

// The i-th input.
template <int i> struct In {
  template <int n> static __device__ __forceinline__ float eval(const float (&x)[n]) {
    static_assert(i < n, "the expression reads an input that the kernel does not have");
    return x[i];
  }
};

// A number, given by its IEEE bits.
template <unsigned bits> struct Const {
  template <int n> static __device__ __forceinline__ float eval(const float (&)[n]) { return __uint_as_float(bits); }
};

#define HIOSC_UNARY(Name, formula)                                                                                                   \
  template <class A> struct Name {                                                                                                    \
    static __device__ __forceinline__ float apply(float a) { return formula; }                                                        \
    template <int n> static __device__ __forceinline__ float eval(const float (&x)[n]) { return apply(A::eval(x)); }                  \
  }

HIOSC_UNARY(Relu, a < 0.0f ? 0.0f : a);
HIOSC_UNARY(Neg, -a);
HIOSC_UNARY(Abs, fabsf(a));
HIOSC_UNARY(Exp, expf(a));
HIOSC_UNARY(Log, logf(a));
HIOSC_UNARY(Sqrt, sqrtf(a));
HIOSC_UNARY(Rsqrt, 1.0f / sqrtf(a));
HIOSC_UNARY(Recip, 1.0f / a);
HIOSC_UNARY(Sigmoid, 1.0f / (1.0f + expf(-a)));
HIOSC_UNARY(Tanh, tanhf(a));
HIOSC_UNARY(Square, a *a);
#undef HIOSC_UNARY

#define HIOSC_BINARY(Name, formula)                                                                                                  \
  template <class A, class B> struct Name {                                                                                           \
    static __device__ __forceinline__ float apply(float a, float b) { return formula; }                                               \
    template <int n> static __device__ __forceinline__ float eval(const float (&x)[n]) { return apply(A::eval(x), B::eval(x)); }      \
  }

HIOSC_BINARY(Add, a + b);
HIOSC_BINARY(Sub, a - b);
HIOSC_BINARY(Mul, a *b);
HIOSC_BINARY(Div, a / b);
HIOSC_BINARY(Max, a > b || a != a ? a : b);
HIOSC_BINARY(Min, a < b || a != a ? a : b);
#undef HIOSC_BINARY

} // namespace hiosc
