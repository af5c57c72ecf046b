// Element types: bool, the integers from signed char to unsigned long long, half, bfloat16, float,
// double.
// What the kernels need of a type:
//
//   Limits<T>        MIN and MAX of an integer; lowest() and highest(): no value is below or above
//   Accumulate<T>    the type that sums of T are kept in: float for half and bfloat16, int for
//                    types smaller than int, else T itself
//   Wide<T>          a type in which integers wrap around instead of overflowing
//   convert<T>(a)    a value converted to T, as `Expr::Cast` defines it
//   absolute, inverse, quotient, remainder, power      operations that C++ does not define on all
//                                                      values
//   math::exp(a) ... the functions of the C library under one name for float and double
#pragma once

#include "small_float.cuh"

namespace hiosc {

template <bool condition, class A, class B> struct If {
  using Type = A;
};
template <class A, class B> struct If<false, A, B> {
  using Type = B;
};

template <class A, class B> constexpr bool same = false;
template <class A> constexpr bool same<A, A> = true;

template <class T> constexpr bool is_small_float = same<T, half> || same<T, bfloat16>;
template <class T> constexpr bool is_float = is_small_float<T> || same<T, float> || same<T, double>;
template <class T> constexpr bool is_bool = same<T, bool>;
template <class T> constexpr bool is_integer = !is_float<T> && !is_bool<T>;

// Integers of at most 32 bits wrap as unsigned, longer ones as unsigned long long.
template <class T> using Wide =
    typename If<!is_integer<T>, T, typename If<(sizeof(T) > 4), unsigned long long, unsigned>::Type>::Type;

template <class T> using Accumulate =
    typename If<is_small_float<T>, float, typename If<(is_bool<T> || (is_integer<T> && sizeof(T) < 4)), int, T>::Type>::Type;

// T where the compiler must not deduce it, for example from the bias of a kernel that has none.
template <class T> struct NonDeduced {
  using Type = T;
};

template <class T> struct Limits {
  static constexpr bool SIGNED = T(-1) < T(1);
  static constexpr T MAX = T(~0ull >> (64 - 8 * sizeof(T) + (SIGNED ? 1 : 0))), MIN = T(SIGNED ? -MAX - 1 : 0);
  static __device__ __forceinline__ T lowest() { return MIN; }
  static __device__ __forceinline__ T highest() { return MAX; }
};
template <> struct Limits<bool> {
  static __device__ __forceinline__ bool lowest() { return false; }
  static __device__ __forceinline__ bool highest() { return true; }
};
template <> struct Limits<float> {
  static __device__ __forceinline__ float lowest() { return -INFINITY; }
  static __device__ __forceinline__ float highest() { return INFINITY; }
};
template <> struct Limits<double> {
  static __device__ __forceinline__ double lowest() { return -double(INFINITY); }
  static __device__ __forceinline__ double highest() { return double(INFINITY); }
};
template <class Format> struct Limits<SmallFloat<Format>> {
  static __device__ __forceinline__ SmallFloat<Format> lowest() { return -SmallFloat<Format>::infinity(); }
  static __device__ __forceinline__ SmallFloat<Format> highest() { return SmallFloat<Format>::infinity(); }
};

// A floating-point number becomes an integer by truncation, clamped to the range; NaN becomes 0. An
// integer loses its upper bits. A number is true unless it is 0.
template <class To, class From> __device__ __forceinline__ To convert(From a) {
  if constexpr (same<To, From>) {
    return a;
  } else if constexpr (is_bool<To>) {
    return a != From(0);
  } else if constexpr (is_small_float<From>) {
    return convert<To>(float(a));
  } else if constexpr (is_float<From> && is_integer<To>) {
    // `most` is rounded up if MAX has too many bits; no value is in between
    constexpr From least = From(Limits<To>::MIN), most = From(Limits<To>::MAX);
    return a != a ? To(0) : a <= least ? Limits<To>::MIN : a >= most ? Limits<To>::MAX : To(a);
  } else if constexpr (is_small_float<To>) {
    if constexpr (is_float<From>) return To(a);
    else return To(double(a));
  } else {
    return To(a);
  }
}

// A value given by its bits.
template <class T> __device__ __forceinline__ T of_bits(unsigned long long bits) {
  if constexpr (is_small_float<T>) return T::of_bits((unsigned short)bits);
  else if constexpr (same<T, float>) return __uint_as_float(unsigned(bits));
  else if constexpr (same<T, double>) return __longlong_as_double((long long)bits);
  else return T(bits);
}

namespace math {
#define HIOSC_MATH(name)                                                                                                             \
  __device__ __forceinline__ float name(float a) { return ::name##f(a); }                                                              \
  __device__ __forceinline__ double name(double a) { return ::name(a); }
#define HIOSC_MATH2(name)                                                                                                            \
  __device__ __forceinline__ float name(float a, float b) { return ::name##f(a, b); }                                                  \
  __device__ __forceinline__ double name(double a, double b) { return ::name(a, b); }
HIOSC_MATH(fabs)
HIOSC_MATH(exp)
HIOSC_MATH(log)
HIOSC_MATH(sqrt)
HIOSC_MATH(erf)
HIOSC_MATH(floor)
HIOSC_MATH(ceil)
HIOSC_MATH(rint)
HIOSC_MATH(sin)
HIOSC_MATH(cos)
HIOSC_MATH(tan)
HIOSC_MATH(asin)
HIOSC_MATH(acos)
HIOSC_MATH(atan)
HIOSC_MATH(sinh)
HIOSC_MATH(cosh)
HIOSC_MATH(tanh)
HIOSC_MATH(asinh)
HIOSC_MATH(acosh)
HIOSC_MATH(atanh)
HIOSC_MATH2(pow)
HIOSC_MATH2(fmod)
#undef HIOSC_MATH
#undef HIOSC_MATH2
} // namespace math

// |a|; the least integer has none and is returned as it is.
template <class T> __device__ __forceinline__ T absolute(T a) {
  if constexpr (is_float<T>) return math::fabs(a);
  else return a < T(0) ? T(-Wide<T>(a)) : a;
}

// All bits inverted; for bool, the other value.
template <class T> __device__ __forceinline__ T inverse(T a) {
  if constexpr (is_bool<T>) return !a;
  else if constexpr (is_integer<T>) return T(~Wide<T>(a));
}

// a / b. Integers round towards zero; divided by 0 they give 0, and the least one divided by -1
// wraps around.
template <class T> __device__ __forceinline__ T quotient(T a, T b) {
  if constexpr (is_float<T>) return a / b;
  else return b == T(0) ? T(0) : Limits<T>::SIGNED && b == T(-1) ? T(-Wide<T>(a)) : T(a / b);
}

// The remainder of that division; it has the sign of a.
template <class T> __device__ __forceinline__ T remainder(T a, T b) {
  if constexpr (is_small_float<T>) return T(math::fmod(float(a), float(b)));
  else if constexpr (is_float<T>) return math::fmod(a, b);
  else return b == T(0) || (Limits<T>::SIGNED && b == T(-1)) ? T(0) : T(a % b);
}

// a to the power of b; for integers by squaring, with b modulo 2^32.
template <class T> __device__ __forceinline__ T power(T a, T b) {
  if constexpr (is_small_float<T>) {
    return T(math::pow(float(a), float(b)));
  } else if constexpr (is_float<T>) {
    return math::pow(a, b);
  } else {
    Wide<T> result = 1, square = Wide<T>(a);
    for (unsigned rest = unsigned(b); rest != 0; rest /= 2, square *= square)
      if (rest % 2 != 0) result *= square;
    return T(result);
  }
}

// a * b + c. Floating-point numbers are rounded once, on GPU and CPU; a CPU without the instruction
// rounds twice rather than call a slow function.
__device__ __forceinline__ float fma(float a, float b, float c) {
#if HIOSC_GPU || defined(__FMA__) || defined(__aarch64__)
  return fmaf(a, b, c);
#else
  return a * b + c;
#endif
}
__device__ __forceinline__ double fma(double a, double b, double c) {
#if HIOSC_GPU || defined(__FMA__) || defined(__aarch64__)
  return ::fma(a, b, c);
#else
  return a * b + c;
#endif
}
template <class T> __device__ __forceinline__ T fma(T a, T b, T c) { return T(Wide<T>(a) * Wide<T>(b) + Wide<T>(c)); }

// N neighbouring elements, split into vectors of at most 16 bytes for the memory system.
template <class T, int N> struct Chunk {
  enum : int { BYTES = N * int(sizeof(T)), COUNT = BYTES % 16 == 0 ? 16 / int(sizeof(T)) : N };
  static_assert((COUNT & (COUNT - 1)) == 0, "a power of two");
  struct __align__(COUNT * sizeof(T)) Type {
    T values[COUNT];
  };
};

// Move elements between memory and registers. Both ends of a vector access are aligned to its size,
// at most 16 bytes.
template <int N, class T> __device__ __forceinline__ void load(T (&to)[N], const T *from) {
  if constexpr (HIOSC_GPU && (N & (N - 1)) == 0) {
    using Part = Chunk<T, N>;
    HIOSC_UNROLL
    for (int i = 0; i < N; i += Part::COUNT) {
      const typename Part::Type part = *reinterpret_cast<const typename Part::Type *>(from + i);
      HIOSC_UNROLL
      for (int j = 0; j < Part::COUNT; ++j) to[i + j] = part.values[j];
    }
  } else {
    HIOSC_UNROLL
    for (int i = 0; i < N; ++i) to[i] = from[i];
  }
}

// The same, each converted to float.
template <int N, class T> __device__ __forceinline__ void load_floats(float (&to)[N], const T *from) {
  if constexpr (same<T, float>) {
    load(to, from);
  } else {
    T narrow[N];
    load(narrow, from);
    HIOSC_UNROLL
    for (int i = 0; i < N; ++i) to[i] = float(narrow[i]);
  }
}

template <int N, class T> __device__ __forceinline__ void store(T *to, const T (&from)[N]) {
  if constexpr (HIOSC_GPU && (N & (N - 1)) == 0) {
    using Part = Chunk<T, N>;
    HIOSC_UNROLL
    for (int i = 0; i < N; i += Part::COUNT) {
      typename Part::Type part;
      HIOSC_UNROLL
      for (int j = 0; j < Part::COUNT; ++j) part.values[j] = from[i + j];
      *reinterpret_cast<typename Part::Type *>(to + i) = part;
    }
  } else {
    HIOSC_UNROLL
    for (int i = 0; i < N; ++i) to[i] = from[i];
  }
}

} // namespace hiosc
