// The intrinsics that kernels are written with: one body for a GPU, one for a CPU (see fibres.h).
//
// Offsets into shared memory are in bytes. A load or a store that a thread must not make is made inactive, never skipped, so
// that the lanes of a warp always make the same accesses.
#pragma once

#if defined(__CUDACC_RTC__)
typedef signed char int8_t;
typedef unsigned char uint8_t;
typedef short int16_t;
typedef unsigned short uint16_t;
typedef int int32_t;
typedef unsigned int uint32_t;
typedef long long int64_t;
typedef unsigned long long uint64_t;
#else
#include <cstdint>
#include <cstring>
#endif

#if defined(__CUDACC__)

#define LEPTON_DEVICE __device__ __forceinline__
#define LEPTON_KERNEL(...) extern "C" __global__ void __launch_bounds__(__VA_ARGS__)
#define LEPTON_SHARED(name, bytes) __shared__ __align__(128) unsigned char name[bytes]
#define LEPTON_UNROLL _Pragma("unroll")

#else

#include <cmath>

#include "fibres.h"

#define LEPTON_DEVICE inline
#define LEPTON_KERNEL(...) static void
#define LEPTON_SHARED(name, bytes) unsigned char* name = lepton::Machine::instance().shared_memory(bytes)
#define LEPTON_UNROLL
#define threadIdx (lepton::Machine::instance().thread)
#define blockIdx (lepton::Machine::instance().block)
#define gridDim (lepton::Machine::instance().grid_extent)
#define blockDim (lepton::Machine::instance().block_extent)
#define __syncthreads() lepton::Machine::instance().barrier(__LINE__)

#endif

namespace lepton {

// Sixteen, eight and four bytes as one access.
struct alignas(16) Bytes16 {
  uint32_t word[4];
};
struct alignas(8) Bytes8 {
  uint32_t word[2];
};
struct half {
  uint16_t bits;
};
struct bfloat16 {
  uint16_t bits;
};

LEPTON_DEVICE uint32_t bits_of(float value) {
#if defined(__CUDACC__)
  return __float_as_uint(value);
#else
  uint32_t bits;
  std::memcpy(&bits, &value, 4);
  return bits;
#endif
}

LEPTON_DEVICE float float_of(uint32_t bits) {
#if defined(__CUDACC__)
  return __uint_as_float(bits);
#else
  float value;
  std::memcpy(&value, &bits, 4);
  return value;
#endif
}

// --- conversions: to nearest, halves to even ------------------------------------------------------------------------

LEPTON_DEVICE float to_float(float value) { return value; }
LEPTON_DEVICE float to_float(bfloat16 value) { return float_of(static_cast<uint32_t>(value.bits) << 16); }

LEPTON_DEVICE float to_float(half value) {
#if defined(__CUDACC__)
  float result;
  asm("cvt.f32.f16 %0, %1;" : "=f"(result) : "h"(value.bits));
  return result;
#else
  const uint32_t sign = (value.bits & 0x8000u) << 16, exponent = value.bits >> 10 & 31u, fraction = value.bits & 0x3FFu;
  if (exponent == 31u) return float_of(sign | 0x7F800000u | fraction << 13);
  if (exponent == 0u) return (sign ? -1.0f : 1.0f) * static_cast<float>(fraction) * 0x1p-24f;
  return float_of(sign | (exponent + 112u) << 23 | fraction << 13);
#endif
}

LEPTON_DEVICE void from_float(float value, float& result) { result = value; }

LEPTON_DEVICE void from_float(float value, bfloat16& result) {
  const uint32_t bits = bits_of(value);
  if ((bits & 0x7FFFFFFFu) > 0x7F800000u) {
    result.bits = static_cast<uint16_t>(bits >> 16 | 64u);
  } else {
    result.bits = static_cast<uint16_t>((bits + 0x7FFFu + (bits >> 16 & 1u)) >> 16);
  }
}

LEPTON_DEVICE void from_float(float value, half& result) {
#if defined(__CUDACC__)
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(result.bits) : "f"(value));
#else
  const uint32_t bits = bits_of(value), sign = bits >> 16 & 0x8000u, magnitude = bits & 0x7FFFFFFFu;
  uint32_t rounded;
  if (magnitude > 0x7F800000u) {
    rounded = 0x7E00u;
  } else if (magnitude >= 0x477FF000u) {
    rounded = 0x7C00u;  // from 65520 up
  } else if (magnitude < 0x38800000u) {
    rounded = static_cast<uint32_t>(std::nearbyint(float_of(magnitude) * 0x1p24f));  // below 2^-14: multiples of 2^-24
  } else {
    rounded = (magnitude - 0x38000000u + 0xFFFu + (magnitude >> 13 & 1u)) >> 13;
  }
  result.bits = static_cast<uint16_t>(sign | rounded);
#endif
}

// --- global memory --------------------------------------------------------------------------------------------------

#if defined(__CUDACC__)

template <class T>
LEPTON_DEVICE T load(const T* pointer, bool active, T otherwise) {
  return active ? *pointer : otherwise;
}
template <class T>
LEPTON_DEVICE void store(T* pointer, T value, bool active) {
  if (active) *pointer = value;
}

#else

template <class T>
T load(const T* pointer, bool active, T otherwise, int line = __builtin_LINE()) {
  Machine& machine = Machine::instance();
  if (machine.watch) active = machine.touch_global(pointer, sizeof(T), active, false, line);
  return active ? *pointer : otherwise;
}
template <class T>
void store(T* pointer, T value, bool active, int line = __builtin_LINE()) {
  Machine& machine = Machine::instance();
  if (machine.watch) active = machine.touch_global(pointer, sizeof(T), active, true, line);
  if (active) *pointer = value;
}

#endif

// --- shared memory --------------------------------------------------------------------------------------------------

#if defined(__CUDACC__)

template <class T>
LEPTON_DEVICE T load_shared(const unsigned char* memory, uint32_t offset) {
  return *reinterpret_cast<const T*>(memory + offset);
}
template <class T>
LEPTON_DEVICE void store_shared(unsigned char* memory, uint32_t offset, T value, bool active) {
  if (active) *reinterpret_cast<T*>(memory + offset) = value;
}

// Sixteen bytes from global to shared memory without a register between; zeros where the source may not be read, nothing where
// inactive. From capability 8.0 on.
LEPTON_DEVICE void copy_async(unsigned char* memory, uint32_t offset, const void* source, bool readable, bool active) {
  const uint32_t place = static_cast<uint32_t>(__cvta_generic_to_shared(memory + offset));
  if (active)
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(place), "l"(source), "r"(readable ? 16 : 0) : "memory");
}
LEPTON_DEVICE void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int GroupsLeft>
LEPTON_DEVICE void await_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(GroupsLeft) : "memory");
}

#else

template <class T>
T load_shared(const unsigned char* memory, uint32_t offset, int line = __builtin_LINE()) {
  Machine& machine = Machine::instance();
  if (machine.watch && !machine.touch_shared(offset, sizeof(T), true, false, line)) return T();
  return *reinterpret_cast<const T*>(memory + offset);
}
template <class T>
void store_shared(unsigned char* memory, uint32_t offset, T value, bool active, int line = __builtin_LINE()) {
  Machine& machine = Machine::instance();
  if (machine.watch) active = machine.touch_shared(offset, sizeof(T), active, true, line);
  if (active) *reinterpret_cast<T*>(memory + offset) = value;
}
inline void copy_async(
    unsigned char*, uint32_t offset, const void* source, bool readable, bool active, int line = __builtin_LINE()) {
  Machine::instance().copy_later(offset, source, readable, active, line);
}
inline void commit_copies() { Machine::instance().commit_copies(); }
template <int GroupsLeft>
void await_copies(int line = __builtin_LINE()) {
  Machine::instance().await_copies(GroupsLeft, line);
}

#endif

// --- arithmetic -----------------------------------------------------------------------------------------------------

// Sum of four products of bytes and an addend.
LEPTON_DEVICE int32_t dot4(uint32_t a, uint32_t b, int32_t c) {
#if defined(__CUDACC__)
  return __dp4a(static_cast<int>(a), static_cast<int>(b), c);
#else
  for (int byte = 0; byte < 4; ++byte)
    c += static_cast<int8_t>(a >> 8 * byte) * static_cast<int8_t>(b >> 8 * byte);
  return c;
#endif
}

// A product of tensor cores: D (16, 8) = A (16, K) B (K, 8) + D, where K elements take 32 bytes.
//
// Lane 4 g + t holds of A the words (row g, bytes 4 t), (row g + 8, 4 t), (g, 16 + 4 t), (g + 8, 16 + 4 t); of B, column g,
// the words at bytes 4 t and 16 + 4 t; of D the columns 2 t and 2 t + 1 of rows g and g + 8 (PTX ISA, mma.m16n8k16 and
// mma.m16n8k32).
struct Int8 {
  using Sum = int32_t;
};
struct Half {
  using Sum = float;
};
struct BFloat16 {
  using Sum = float;
};

#if defined(__CUDACC__)

LEPTON_DEVICE void multiply(Int8, int32_t (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
LEPTON_DEVICE void multiply(Half, float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
LEPTON_DEVICE void multiply(BFloat16, float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
// The same with every other half of A's four left out: A (16, 32) keeps two of every four neighbours of a row, B (32, 8) has 64
// bytes a column. Lane 4 g + t holds the kept of A as above, and B's words at bytes 4 t, 16 + 4 t, 32 + 4 t and 48 + 4 t of column
// g. Lanes 4 g and 4 g + 1 say which are kept, in 4 bits for each four: of the first and the second 16 elements, row g in the
// low and row g + 8 in the high half (PTX ISA, matrix fragments for sparse mma.m16n8k32 with f16 and bf16, selector 0).
LEPTON_DEVICE void multiply_sparse(Half, float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[4], uint32_t kept) {
  asm volatile(
      "mma.sp::ordered_metadata.sync.aligned.m16n8k32.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9,%10,%11}, "
      "{%0,%1,%2,%3}, %12, 0x0;"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]), "r"(b[2]), "r"(b[3]), "r"(kept));
}
LEPTON_DEVICE void multiply_sparse(BFloat16, float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[4], uint32_t kept) {
  asm volatile(
      "mma.sp::ordered_metadata.sync.aligned.m16n8k32.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9,%10,%11}, "
      "{%0,%1,%2,%3}, %12, 0x0;"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]), "r"(b[2]), "r"(b[3]), "r"(kept));
}
template <class T>
LEPTON_DEVICE T shuffle_xor(T value, int mask) {
  return __shfl_xor_sync(0xFFFFFFFFu, value, mask);
}

#else

namespace host {

template <class Element, class Wide, int Depth>
void unpack(const uint32_t (*brought)[16], Wide (&a)[16][Depth], Wide (&b)[8][Depth], Wide (*wide)(Element)) {
  constexpr int in_word = 4 / sizeof(Element);
  for (int lane = 0; lane < warp_size; ++lane) {
    const int g = lane / 4, t = lane % 4;
    for (int word = 0; word < 6; ++word) {
      Element elements[in_word];
      std::memcpy(elements, &brought[lane][word], 4);
      for (int index = 0; index < in_word; ++index) {
        const Wide value = wide(elements[index]);
        if (word < 4) {
          a[g + 8 * (word % 2)][(word / 2) * (Depth / 2) + t * in_word + index] = value;
        } else {
          b[g][(word - 4) * (Depth / 2) + t * in_word + index] = value;
        }
      }
    }
  }
}

template <class Element, class Wide, class Sum, int Depth>
void multiply(Sum (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], Wide (*wide)(Element), int line) {
  Machine& machine = Machine::instance();
  Warp& warp = machine.warp();
  const int lane = machine.lane_number();
  std::memcpy(warp.brought[lane], a, 16);
  std::memcpy(warp.brought[lane] + 4, b, 8);
  std::memcpy(warp.brought[lane] + 6, d, 16);
  machine.meet(line, [wide](Warp& all) {
    Wide rows[16][Depth], columns[8][Depth];
    unpack<Element, Wide, Depth>(all.brought, rows, columns, wide);
    Sum sums[16][8];
    for (int row = 0; row < 16; ++row)
      for (int column = 0; column < 8; ++column) {
        Sum sum = 0;
        for (int k = 0; k < Depth; ++k) sum += static_cast<Sum>(rows[row][k]) * static_cast<Sum>(columns[column][k]);
        sums[row][column] = sum;
      }
    for (int each = 0; each < warp_size; ++each)
      for (int index = 0; index < 4; ++index) {
        Sum before;
        std::memcpy(&before, &all.brought[each][6 + index], 4);
        const Sum after = before + sums[each / 4 + 8 * (index / 2)][2 * (each % 4) + index % 2];
        std::memcpy(&all.result[each][index], &after, 4);
      }
  });
  std::memcpy(d, warp.result[lane], 16);
}

// Every kept element multiplies the element of B that its position says.
template <class Element>
void multiply_sparse(
    float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[4], uint32_t kept, float (*wide)(Element), int line) {
  Machine& machine = Machine::instance();
  Warp& warp = machine.warp();
  const int lane = machine.lane_number();
  std::memcpy(warp.brought[lane], a, 16);
  std::memcpy(warp.brought[lane] + 4, b, 16);
  std::memcpy(warp.brought[lane] + 8, d, 16);
  warp.brought[lane][12] = kept;
  machine.meet(line, [wide](Warp& all) {
    const auto half_of = [&](int from, int word, int index) {
      Element element;
      element.bits = static_cast<uint16_t>(all.brought[from][word] >> 16 * index);
      return wide(element);
    };
    for (int each = 0; each < warp_size; ++each)
      for (int index = 0; index < 4; ++index) {
        const int row = each / 4 + 8 * (index / 2), column = 2 * (each % 4) + index % 2;
        float sum;
        std::memcpy(&sum, &all.brought[each][8 + index], 4);
        for (int k = 0; k < 16; ++k) {  // of the kept elements of a row
          const int holder = row % 8 * 4 + k % 8 / 2;
          const float left = half_of(holder, row / 8 + 2 * (k / 8), k % 2);
          const uint32_t positions = all.brought[row % 8 * 4 + k / 8][12] >> 16 * (row / 8);
          const int place = k / 2 * 4 + static_cast<int>(positions >> 2 * (k % 8) & 3u);
          const int beside = column * 4 + place % 8 / 2;
          sum += left * half_of(beside, 4 + place / 8, place % 2);
        }
        std::memcpy(&all.result[each][index], &sum, 4);
      }
  });
  std::memcpy(d, warp.result[lane], 16);
}

}  // namespace host

inline void multiply_sparse(
    Half, float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[4], uint32_t kept, int line = __builtin_LINE()) {
  host::multiply_sparse<half>(d, a, b, kept, +[](half value) { return to_float(value); }, line);
}
inline void multiply_sparse(
    BFloat16, float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[4], uint32_t kept, int line = __builtin_LINE()) {
  host::multiply_sparse<bfloat16>(d, a, b, kept, +[](bfloat16 value) { return to_float(value); }, line);
}

inline void multiply(Int8, int32_t (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], int line = __builtin_LINE()) {
  host::multiply<int8_t, int16_t, int32_t, 32>(d, a, b, +[](int8_t value) { return static_cast<int16_t>(value); }, line);
}
inline void multiply(Half, float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], int line = __builtin_LINE()) {
  host::multiply<half, float, float, 16>(d, a, b, +[](half value) { return to_float(value); }, line);
}
inline void multiply(BFloat16, float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], int line = __builtin_LINE()) {
  host::multiply<bfloat16, float, float, 16>(d, a, b, +[](bfloat16 value) { return to_float(value); }, line);
}

template <class T>
T shuffle_xor(T value, int mask, int line = __builtin_LINE()) {
  static_assert(sizeof(T) == 4, "one word");
  Machine& machine = Machine::instance();
  Warp& warp = machine.warp();
  const int lane = machine.lane_number();
  std::memcpy(warp.brought[lane], &value, 4);
  machine.meet(line, [mask](Warp& all) {
    for (int each = 0; each < warp_size; ++each) all.result[each][0] = all.brought[each ^ mask][0];
  });
  std::memcpy(&value, warp.result[lane], 4);
  return value;
}

#endif

}  // namespace lepton
