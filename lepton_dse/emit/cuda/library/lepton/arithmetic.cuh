// The arithmetic of single elements, exactly as the reference defines it.
#pragma once

#include "intrinsics.cuh"

#if !defined(__CUDACC__)
#include <math.h>
#endif

namespace lepton {

template <class T>
LEPTON_DEVICE T least_of(T a, T b) {
  return b < a ? b : a;
}
template <class T>
LEPTON_DEVICE T greatest_of(T a, T b) {
  return a < b ? b : a;
}
template <class T>
LEPTON_DEVICE T clamp(T value, T low, T high) {
  return value < low ? low : high < value ? high : value;
}

LEPTON_DEVICE float infinity() { return float_of(0x7F800000u); }

// ((product + 2^(shift - 1)) >> shift) + zero, clamped.
LEPTON_DEVICE int64_t rounded(int64_t product, int shift, int64_t zero, int64_t low, int64_t high) {
  return clamp(((product + (int64_t(1) << (shift - 1))) >> shift) + zero, low, high);
}

// Reals to integers: to nearest, halves to even, clamped before the conversion. Bounds of at most 24 bits are exact in float.
template <class T>
LEPTON_DEVICE T quantize(float value, float beta, int zero, int low, int high) {
  return static_cast<T>(static_cast<int>(clamp(rintf(value / beta) + static_cast<float>(zero), static_cast<float>(low),
                                               static_cast<float>(high))));
}
template <class T>
LEPTON_DEVICE T quantize_wide(float value, float beta, double zero, double low, double high) {
  return static_cast<T>(clamp(static_cast<double>(rintf(value / beta)) + zero, low, high));
}
// Reals to a narrower float format, inside its finite range.
template <class T>
LEPTON_DEVICE T encode(float value, float beta, float limit) {
  T result;
  from_float(clamp(value / beta, -limit, limit), result);
  return result;
}

template <class T>
LEPTON_DEVICE float dequantize(T value, int64_t zero, float beta) {
  return static_cast<float>(static_cast<int64_t>(value) - zero) * beta;
}
LEPTON_DEVICE float dequantize(half value, int64_t, float beta) { return to_float(value) * beta; }
LEPTON_DEVICE float dequantize(bfloat16 value, int64_t, float beta) { return to_float(value) * beta; }
LEPTON_DEVICE float dequantize(float value, int64_t, float beta) { return value * beta; }

LEPTON_DEVICE float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }
LEPTON_DEVICE float gelu(float x) { return 0.5f * x * (1.0f + erff(x * 0.70710678118654752f)); }
LEPTON_DEVICE float gelu_approximate(float x) {
  return 0.5f * x * (1.0f + tanhf(0.79788456080286536f * (x + 0.044715f * x * x * x)));
}

// What all lanes of a warp have, joined pair by pair.
template <class T, class Join>
LEPTON_DEVICE T join_lanes(T value, const Join& join) {
  LEPTON_UNROLL
  for (int mask = 16; mask > 0; mask /= 2) value = join(value, shuffle_xor(value, mask));
  return value;
}

}  // namespace lepton
