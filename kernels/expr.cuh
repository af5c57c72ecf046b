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

// The nearest number in [0, 1]; NaN stays NaN.
__device__ __forceinline__ float unit(float a) { return a < 0.0f ? 0.0f : a > 1.0f ? 1.0f : a; }

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
HIOSC_UNARY(HardSwish, a *unit(a * (1.0f / 6.0f) + 0.5f));
HIOSC_UNARY(Silu, a / (1.0f + expf(-a)));
HIOSC_UNARY(Gelu, 0.5f * a * (1.0f + erff(a * 0.70710678f)));
HIOSC_UNARY(Erf, erff(a));
HIOSC_UNARY(Floor, floorf(a));
HIOSC_UNARY(Ceil, ceilf(a));
HIOSC_UNARY(Round, rintf(a));
HIOSC_UNARY(Sign, a > 0.0f ? 1.0f : a < 0.0f ? -1.0f : a);
HIOSC_UNARY(Sin, sinf(a));
HIOSC_UNARY(Cos, cosf(a));
HIOSC_UNARY(Tan, tanf(a));
HIOSC_UNARY(Asin, asinf(a));
HIOSC_UNARY(Acos, acosf(a));
HIOSC_UNARY(Atan, atanf(a));
HIOSC_UNARY(Sinh, sinhf(a));
HIOSC_UNARY(Cosh, coshf(a));
HIOSC_UNARY(Asinh, asinhf(a));
HIOSC_UNARY(Acosh, acoshf(a));
HIOSC_UNARY(Atanh, atanhf(a));
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
HIOSC_BINARY(Pow, powf(a, b));
HIOSC_BINARY(Less, a < b ? 1.0f : 0.0f);
HIOSC_BINARY(LessEqual, a <= b ? 1.0f : 0.0f);
HIOSC_BINARY(Equal, a == b ? 1.0f : 0.0f);
#undef HIOSC_BINARY

// The second value where the first is not 0, else the third.
template <class C, class A, class B> struct Select {
  template <int n> static __device__ __forceinline__ float eval(const float (&x)[n]) { return C::eval(x) != 0.0f ? A::eval(x) : B::eval(x); }
};

} // namespace hiosc
