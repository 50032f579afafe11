// Stands in for <metal_stdlib> and runs a Metal compute kernel's body on a CPU: what our texts use of it, and no more,
// so that a word which Apple's library may not have is refused here.
#pragma once
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef unsigned int uint;
typedef unsigned short ushort;
#define device
#define constant
#define thread
#define threadgroup

typedef _Float16 half;
typedef half float16_t;
struct bfloat {
  uint16_t bits;
  bfloat() = default;
  bfloat(float value) {
    uint32_t u;
    memcpy(&u, &value, 4);
    bits = (u & 0x7fffffff) > 0x7f800000 ? uint16_t((u >> 16) | 0x40) : uint16_t((u + 0x7fff + ((u >> 16) & 1)) >> 16);
  }
  operator float() const {
    uint32_t u = uint32_t(bits) << 16;
    float value;
    memcpy(&value, &u, 4);
    return value;
  }
};
typedef bfloat bfloat16_t;

struct uint3 {
  uint x, y, z;
  uint3() = default;
  uint3(uint a) : x(a), y(a), z(a) {}
  uint3(uint a, uint b, uint c) : x(a), y(b), z(c) {}
};

#include "runtime.h"

namespace metal {
enum class mem_flags { mem_none = 0, mem_device = 1, mem_threadgroup = 2 };
inline void threadgroup_barrier(mem_flags, int line = __builtin_LINE()) {
  emu::barrier("threadgroup_barrier", line);
}
inline void simdgroup_barrier(mem_flags, int line = __builtin_LINE()) {
  emu::simd_sync(line);
}

template <class T>
inline T simd_max(T value, int line = __builtin_LINE()) {
  emu::collect(value, "simd_max", line);
  for (uint l = 0; l < 32; ++l)
    if (emu::has(l)) value = emu::lane<T>(l) > value ? emu::lane<T>(l) : value;
  return value;
}
template <class T>
inline T simd_sum(T value, int line = __builtin_LINE()) {
  emu::collect(value, "simd_sum", line);
  T part[32];
  for (uint l = 0; l < 32; ++l) part[l] = emu::has(l) ? emu::lane<T>(l) : T(0);
  for (uint mask = 1; mask < 32; mask <<= 1)  // the butterfly that hardware is said to use
    for (uint l = 0; l < 32; l += 2 * mask) part[l] += part[l + mask];
  return part[0];
}
template <class T>
inline T simd_shuffle_xor(T value, ushort mask, int line = __builtin_LINE()) {
  emu::collect(value, "simd_shuffle_xor", line);
  uint other = emu::lane_id() ^ mask;
  return emu::has(other) ? emu::lane<T>(other) : T(NAN);  // undefined on hardware
}

inline float exp(float x) {
  return ::expf(x);
}
inline float log(float x) {
  return ::logf(x);
}
template <class T>
inline T max(T a, T b) {
  return a > b ? a : b;
}
template <class T>
inline T min(T a, T b) {
  return a < b ? a : b;
}
}  // namespace metal
