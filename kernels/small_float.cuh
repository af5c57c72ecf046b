// Floating-point numbers of 16 bits, without CUDA's headers: `half` (IEEE half precision) and
// `bfloat16` (the upper half of a float). Both are 16 bits with conversions: arithmetic is in
// single precision, rounded after each operation to nearest, ties to even.
#pragma once

#include "hiosc.cuh"

namespace hiosc {

#if !HIOSC_GPU
// Converts the bits of a double without its sign to the bits of a half.
inline unsigned short half_of_double(unsigned long long magnitude) {
  const int exponent = int(magnitude >> 52) - 1023;
  if (exponent == 1024) return (magnitude << 12) != 0 ? 0x7e00 : 0x7c00;
  if (exponent >= 16) return 0x7c00;
  if (exponent < -25) return 0;
  // keep 11 bits of a normal number, fewer below 2^-14
  const unsigned long long significand = (magnitude & ((1ull << 52) - 1)) | 1ull << 52;
  const int dropped = exponent >= -14 ? 42 : 28 - exponent;
  const unsigned long long kept = significand >> dropped, rest = significand & ((1ull << dropped) - 1), middle = 1ull << (dropped - 1);
  const unsigned rounded = unsigned(kept) + (rest > middle || (rest == middle && (kept & 1)) ? 1 : 0);
  return (unsigned short)(exponent >= -14 ? unsigned(exponent + 14) * 1024 + rounded : rounded); // a carry goes into the exponent
}
#endif

// The format of `half`. A GPU converts by instruction, a CPU by integer arithmetic.
struct Binary16 {
  static __device__ __forceinline__ unsigned short of(float a) {
#if HIOSC_GPU
    unsigned short bits;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(a));
    return bits;
#else
    return of(double(a)); // widening is exact
#endif
  }

  static __device__ __forceinline__ unsigned short of(double a) {
#if HIOSC_GPU
    unsigned short bits;
    asm("cvt.rn.f16.f64 %0, %1;" : "=h"(bits) : "d"(a));
    return bits;
#else
    unsigned long long wide;
    std::memcpy(&wide, &a, sizeof wide);
    return (unsigned short)(half_of_double(wide & ~(1ull << 63)) | (wide >> 63) << 15);
#endif
  }

  static __device__ __forceinline__ float value(unsigned short bits) {
#if HIOSC_GPU
    float a;
    asm("cvt.f32.f16 %0, %1;" : "=f"(a) : "h"(bits));
    return a;
#else
    const int exponent = bits >> 10 & 31, mantissa = bits & 1023;
    const float size = exponent == 0    ? float(mantissa) * 0x1p-24f
                       : exponent == 31 ? (mantissa == 0 ? INFINITY : NAN)
                                        : __uint_as_float(unsigned(exponent + 112) << 23 | unsigned(mantissa) << 13);
    return bits >> 15 ? -size : size;
#endif
  }

  enum : unsigned short { INFINITE = 0x7c00 };
};

// The format of `bfloat16`. Integer arithmetic on every GPU: only those since sm_80 have an
// instruction. A double is rounded to single precision first.
struct Bfloat16 {
  static __device__ __forceinline__ unsigned short of(float a) {
    const unsigned bits = __float_as_uint(a);
    if (a != a) return (unsigned short)(bits >> 16 | 0x40); // quiet: the bits that remain might all be 0
    return (unsigned short)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
  }
  static __device__ __forceinline__ unsigned short of(double a) { return of(float(a)); }
  static __device__ __forceinline__ float value(unsigned short bits) { return __uint_as_float(unsigned(bits) << 16); }

  enum : unsigned short { INFINITE = 0x7f80 };
};

template <class Format> class SmallFloat {
  unsigned short bits;

public:
  SmallFloat() = default;

  static __device__ __forceinline__ SmallFloat of_bits(unsigned short bits) {
    SmallFloat a;
    a.bits = bits;
    return a;
  }
  static __device__ __forceinline__ SmallFloat infinity() { return of_bits(Format::INFINITE); }

  explicit __device__ __forceinline__ SmallFloat(float a) : bits(Format::of(a)) {}
  explicit __device__ __forceinline__ SmallFloat(double a) : bits(Format::of(a)) {}
  // Conversions from integers to half round once: a double holds 53 bits, and integers beyond that
  // are far from a tie between halves, or infinite.
  explicit __device__ __forceinline__ SmallFloat(int a) : SmallFloat(double(a)) {}

  explicit __device__ __forceinline__ operator float() const { return Format::value(bits); }
  explicit __device__ __forceinline__ operator double() const { return double(float(*this)); }

  __device__ __forceinline__ SmallFloat operator-() const { return of_bits((unsigned short)(bits ^ 0x8000)); }
  friend __device__ __forceinline__ SmallFloat operator+(SmallFloat a, SmallFloat b) { return SmallFloat(float(a) + float(b)); }
  friend __device__ __forceinline__ SmallFloat operator-(SmallFloat a, SmallFloat b) { return SmallFloat(float(a) - float(b)); }
  friend __device__ __forceinline__ SmallFloat operator*(SmallFloat a, SmallFloat b) { return SmallFloat(float(a) * float(b)); }
  friend __device__ __forceinline__ SmallFloat operator/(SmallFloat a, SmallFloat b) { return SmallFloat(float(a) / float(b)); }
  friend __device__ __forceinline__ bool operator<(SmallFloat a, SmallFloat b) { return float(a) < float(b); }
  friend __device__ __forceinline__ bool operator>(SmallFloat a, SmallFloat b) { return float(a) > float(b); }
  friend __device__ __forceinline__ bool operator<=(SmallFloat a, SmallFloat b) { return float(a) <= float(b); }
  friend __device__ __forceinline__ bool operator==(SmallFloat a, SmallFloat b) { return float(a) == float(b); }
  friend __device__ __forceinline__ bool operator!=(SmallFloat a, SmallFloat b) { return float(a) != float(b); }
};

using half = SmallFloat<Binary16>;
using bfloat16 = SmallFloat<Bfloat16>;

} // namespace hiosc
