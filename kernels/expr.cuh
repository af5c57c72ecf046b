// Scalar expressions as types: Relu<Add<In<0>, In<1>>> is max(x0 + x1, 0).
//
// An expression is the body of an elementwise kernel, or the epilogue of a heavier one, where In<0>
// is the finished sum. As a type, it costs nothing at run time and has a short name in profiles.
// Its element types follow from its operands: In<i> has the type of the i-th input, Const and Cast
// name theirs, comparisons give bool, and every other function gives its operand's type. Both
// operands of a function have the same type; hiosc has checked that.
//
// Relu, Max and Min propagate NaN. Integers wrap around, and an integer divided by 0 is 0.
// Functions of half and bfloat16 are computed in single precision and rounded once.
#pragma once

#include "types.cuh"

namespace hiosc {

// V neighbouring elements of each of several inputs, of types T.
template <int V, class... T> struct Vectors {};
template <int V, class T, class... Rest> struct Vectors<V, T, Rest...> {
  T first[V];
  Vectors<V, Rest...> rest;
};

// The arguments of an expression: the v-th element of each input.
template <class L> struct Point {
  const L &lanes;
  const int v;
  template <int i> __device__ __forceinline__ auto get() const { return of<i>(lanes); }

private:
  template <int i, int V, class T, class... Rest> __device__ __forceinline__ auto of(const Vectors<V, T, Rest...> &from) const {
    static_assert(i <= int(sizeof...(Rest)), "the expression reads an input that the kernel does not have");
    if constexpr (i == 0) return from.first[v];
    else return of<i - 1>(from.rest);
  }
};
template <class L> __device__ __forceinline__ Point<L> point(const L &lanes, int v) { return Point<L>{lanes, v}; }

// The i-th input.
template <int i> struct In {
  template <class X> static __device__ __forceinline__ auto eval(const X &x) { return x.template get<i>(); }
};

// A value, given by its bits.
template <class T, unsigned long long bits> struct Const {
  template <class X> static __device__ __forceinline__ T eval(const X &) { return of_bits<T>(bits); }
};

// A value converted to another type.
template <class T, class A> struct Cast {
  template <class X> static __device__ __forceinline__ T eval(const X &x) { return convert<T>(A::eval(x)); }
};

// Clamps to [0, 1]; NaN stays NaN.
template <class T> __device__ __forceinline__ T unit(T a) { return a < T(0) ? T(0) : a > T(1) ? T(1) : a; }

// A function of one value. In `formula`, `a` has type T, or float if T is half or bfloat16.
#define HIOSC_UNARY(Name, formula)                                                                                                   \
  template <class A> struct Name {                                                                                                    \
    template <class T> static __device__ __forceinline__ T apply(T a) {                                                               \
      if constexpr (is_small_float<T>) return T(apply(float(a)));                                                                     \
      else return formula;                                                                                                            \
    }                                                                                                                                 \
    template <class X> static __device__ __forceinline__ auto eval(const X &x) { return apply(A::eval(x)); }                          \
  }

HIOSC_UNARY(Relu, a < T(0) ? T(0) : a);
HIOSC_UNARY(Neg, T(-Wide<T>(a)));
HIOSC_UNARY(Abs, absolute(a));
HIOSC_UNARY(Exp, math::exp(a));
HIOSC_UNARY(Log, math::log(a));
HIOSC_UNARY(Sqrt, math::sqrt(a));
HIOSC_UNARY(Rsqrt, T(1) / math::sqrt(a));
HIOSC_UNARY(Recip, T(1) / a);
HIOSC_UNARY(Sigmoid, T(1) / (T(1) + math::exp(-a)));
HIOSC_UNARY(Tanh, math::tanh(a));
HIOSC_UNARY(Square, T(Wide<T>(a) * Wide<T>(a)));
HIOSC_UNARY(HardSwish, a *unit(a *T(1.0 / 6.0) + T(0.5)));
HIOSC_UNARY(Silu, a / (T(1) + math::exp(-a)));
HIOSC_UNARY(Gelu, T(0.5) * a * (T(1) + math::erf(a *T(0.70710678118654752))));
HIOSC_UNARY(Erf, math::erf(a));
HIOSC_UNARY(Floor, math::floor(a));
HIOSC_UNARY(Ceil, math::ceil(a));
HIOSC_UNARY(Round, math::rint(a));
HIOSC_UNARY(Sign, a > T(0) ? T(1) : a < T(0) ? T(-1) : a);
HIOSC_UNARY(Sin, math::sin(a));
HIOSC_UNARY(Cos, math::cos(a));
HIOSC_UNARY(Tan, math::tan(a));
HIOSC_UNARY(Asin, math::asin(a));
HIOSC_UNARY(Acos, math::acos(a));
HIOSC_UNARY(Atan, math::atan(a));
HIOSC_UNARY(Sinh, math::sinh(a));
HIOSC_UNARY(Cosh, math::cosh(a));
HIOSC_UNARY(Asinh, math::asinh(a));
HIOSC_UNARY(Acosh, math::acosh(a));
HIOSC_UNARY(Atanh, math::atanh(a));
HIOSC_UNARY(Not, inverse(a));
#undef HIOSC_UNARY

// A function of two values of the same type. In `formula`, `a` and `b` have type T.
#define HIOSC_BINARY(Name, Result, formula)                                                                                          \
  template <class A, class B> struct Name {                                                                                           \
    template <class T> static __device__ __forceinline__ Result apply(T a, T b) { return formula; }                                   \
    template <class X> static __device__ __forceinline__ auto eval(const X &x) { return apply(A::eval(x), B::eval(x)); }              \
  }

HIOSC_BINARY(Add, T, T(Wide<T>(a) + Wide<T>(b)));
HIOSC_BINARY(Sub, T, T(Wide<T>(a) - Wide<T>(b)));
HIOSC_BINARY(Mul, T, T(Wide<T>(a) * Wide<T>(b)));
HIOSC_BINARY(Div, T, quotient(a, b));
HIOSC_BINARY(Rem, T, remainder(a, b));
HIOSC_BINARY(Max, T, a > b || a != a ? a : b);
HIOSC_BINARY(Min, T, a < b || a != a ? a : b);
HIOSC_BINARY(Pow, T, power(a, b));
HIOSC_BINARY(Less, bool, a < b);
HIOSC_BINARY(LessEqual, bool, a <= b);
HIOSC_BINARY(Equal, bool, a == b);
HIOSC_BINARY(And, T, T(a & b));
HIOSC_BINARY(Or, T, T(a | b));
HIOSC_BINARY(Xor, T, T(a ^ b));
HIOSC_BINARY(ShiftLeft, T, T(Wide<T>(a) << (unsigned(b) % (8 * sizeof(T)))));
HIOSC_BINARY(ShiftRight, T, T(a >> (unsigned(b) % (8 * sizeof(T)))));
#undef HIOSC_BINARY

// The second value where the first is true, else the third.
template <class C, class A, class B> struct Select {
  template <class X> static __device__ __forceinline__ auto eval(const X &x) { return C::eval(x) ? A::eval(x) : B::eval(x); }
};

} // namespace hiosc
