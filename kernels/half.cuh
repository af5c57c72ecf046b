// IEEE half precision without CUDA's headers: 16 bits with conversions. Arithmetic is in single
// precision, rounded after each operation.
//
// A GPU converts by instruction, a CPU by integer arithmetic; both round to nearest, ties to even.
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

class half {
  unsigned short bits;

public:
  half() = default;

  static __device__ __forceinline__ half of_bits(unsigned short bits) {
    half h;
    h.bits = bits;
    return h;
  }

  explicit __device__ __forceinline__ half(float a) {
#if HIOSC_GPU
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(a));
#else
    *this = half(double(a)); // widening is exact
#endif
  }

  explicit __device__ __forceinline__ half(double a) {
#if HIOSC_GPU
    asm("cvt.rn.f16.f64 %0, %1;" : "=h"(bits) : "d"(a));
#else
    unsigned long long wide;
    std::memcpy(&wide, &a, sizeof wide);
    bits = (unsigned short)(half_of_double(wide & ~(1ull << 63)) | (wide >> 63) << 15);
#endif
  }

  // Conversions from integers round once: a double holds 53 bits, and integers beyond that are far
  // from a tie between halves, or infinite.
  explicit __device__ __forceinline__ half(int a) : half(double(a)) {}

  explicit __device__ __forceinline__ operator float() const {
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

  explicit __device__ __forceinline__ operator double() const { return double(float(*this)); }

  __device__ __forceinline__ half operator-() const { return of_bits((unsigned short)(bits ^ 0x8000)); }
  friend __device__ __forceinline__ half operator+(half a, half b) { return half(float(a) + float(b)); }
  friend __device__ __forceinline__ half operator-(half a, half b) { return half(float(a) - float(b)); }
  friend __device__ __forceinline__ half operator*(half a, half b) { return half(float(a) * float(b)); }
  friend __device__ __forceinline__ half operator/(half a, half b) { return half(float(a) / float(b)); }
  friend __device__ __forceinline__ bool operator<(half a, half b) { return float(a) < float(b); }
  friend __device__ __forceinline__ bool operator>(half a, half b) { return float(a) > float(b); }
  friend __device__ __forceinline__ bool operator<=(half a, half b) { return float(a) <= float(b); }
  friend __device__ __forceinline__ bool operator==(half a, half b) { return float(a) == float(b); }
  friend __device__ __forceinline__ bool operator!=(half a, half b) { return float(a) != float(b); }
};

} // namespace hiosc
