// The scheduler as the shim and the harness see it.
#pragma once
#include <stddef.h>
#include <stdint.h>
namespace emu {
struct Ctx {
  uint3 thread_position_in_grid, thread_position_in_threadgroup, threadgroup_position_in_grid;
  uint thread_index_in_threadgroup, thread_index_in_simdgroup, simdgroup_index_in_threadgroup;
};
struct Payload {
  uint64_t a, b;
};
extern int order_mode;  // 0 forward, 1 reverse, >=2 pseudo-random
uint lane_id();
void barrier(const char* op, int line);
void simd_sync(int line);
void collect_raw(Payload p, const char* op, int line);
Payload lane_raw(uint l);
bool has(uint l);
void* tg_alloc_raw(size_t bytes, int line);
int launch_raw(uint3 grid, uint3 tg, void (*fn)(void*, const Ctx&), void* arg);
const char* error_text();
template <class T>
inline void collect(const T& v, const char* op, int line) {
  static_assert(sizeof(T) <= 16, "payload");
  Payload p = {0, 0};
  __builtin_memcpy(&p, &v, sizeof(T));
  collect_raw(p, op, line);
}
template <class T>
inline T lane(uint l) {
  Payload p = lane_raw(l);
  T v;
  __builtin_memcpy(&v, &p, sizeof(T));
  return v;
}
template <class T>
inline T& tg_alloc(int line) {
  return *static_cast<T*>(tg_alloc_raw(sizeof(T), line));
}
template <class F>
inline int launch(uint3 grid, uint3 tg, F body) {
  return launch_raw(
      grid, tg, [](void* a, const Ctx& c) { (*static_cast<F*>(a))(c); }, &body);
}
}  // namespace emu
