// Runs one group after the other, each thread a fibre that gives way at barriers and SIMD-group operations only.
// Built without race checks of its own, so that only the kernel's accesses count.
#include "metal_shim.h"
#include <sys/mman.h>
#include <algorithm>
#include <string>
#include <vector>
#ifdef EMU_ASAN
#include <sanitizer/common_interface_defs.h>
#include <sanitizer/asan_interface.h>
#endif
#ifdef EMU_TSAN
extern "C" {
void* __tsan_get_current_fiber(void);
void* __tsan_create_fiber(unsigned);
void __tsan_destroy_fiber(void*);
void __tsan_switch_to_fiber(void*, unsigned);
void __tsan_acquire(void*);
void __tsan_release(void*);
void __tsan_set_fiber_name(void*, const char*);
}
#endif
#if defined(__x86_64__)
extern "C" void emu_switch_asm(void** save_sp, void* load_sp);
__asm__(
    ".text\n.globl emu_switch_asm\n.type emu_switch_asm,@function\nemu_switch_asm:\n"
    " pushq %rbp\n pushq %rbx\n pushq %r12\n pushq %r13\n pushq %r14\n pushq %r15\n"
    " movq %rsp,(%rdi)\n movq %rsi,%rsp\n"
    " popq %r15\n popq %r14\n popq %r13\n popq %r12\n popq %rbx\n popq %rbp\n ret\n"
    ".size emu_switch_asm,.-emu_switch_asm\n");
#define EMU_ASM 1
#else
#include <ucontext.h>
#endif
namespace emu {
enum State { RUN, WAIT_TG, WAIT_SIMD, DONE };
struct Fiber {
  Ctx ctx;
  State st;
  const char* op;
  int line;
  void* sp;
  char* stack;
  void* tsan;
  void* fake;
#ifndef EMU_ASM
  ucontext_t uc;
#endif
};
struct Simd {
  Payload slot[32], snap[32];
  bool present[32];
};
struct TgAlloc {
  int line;
  size_t off, size;
};
int order_mode = 0;
static std::vector<Fiber> fibers;
static std::vector<Simd> simds;
static std::vector<TgAlloc> tg_list;
static Fiber* cur;
static Fiber mainf;
static unsigned char* arena;
static size_t tg_used;
static std::string error;
static bool failed;
static void (*g_fn)(void*, const Ctx&);
static void* g_arg;
static char* main_stack;
static size_t main_size;
constexpr size_t STACK = 1 << 17, TG_LIMIT = 32768;
const char* error_text() {
  return error.c_str();
}
static void switch_to(Fiber* from, Fiber* to, bool dying = false) {
#ifdef EMU_TSAN
  __tsan_switch_to_fiber(to->tsan, 1);  // 1 = this switch creates no happens-before edge
#endif
#ifdef EMU_ASAN
  if (to == &mainf)
    __sanitizer_start_switch_fiber(dying ? nullptr : &from->fake, main_stack, main_size);
  else
    __sanitizer_start_switch_fiber(&from->fake, to->stack, STACK);
#endif
#ifdef EMU_ASM
  emu_switch_asm(&from->sp, to->sp);
#else
  swapcontext(&from->uc, &to->uc);
#endif
#ifdef EMU_ASAN
  const void* ob;
  size_t os;
  __sanitizer_finish_switch_fiber(from->fake, &ob, &os);
#endif
}
static void yield(State s, const char* op, int line) {
  Fiber* f = cur;
  f->st = s;
  f->op = op;
  f->line = line;
  switch_to(f, &mainf);
}
static void fiber_main() {
#ifdef EMU_ASAN
  {
    const void* ob;
    size_t os;
    __sanitizer_finish_switch_fiber(nullptr, &ob, &os);
    if (!main_stack) {
      main_stack = (char*)ob;
      main_size = os;
    }
  }
#endif
  Fiber* f = cur;
  g_fn(g_arg, f->ctx);
#ifdef EMU_TSAN
  __tsan_release(&g_fn);
#endif
  f->st = DONE;
  f->op = "return";
  f->line = 0;
  switch_to(f, &mainf, true);
  abort();
}
static void describe(const char* what) {
  error = what;
  error += ": ";
  std::vector<std::string> seen;
  std::vector<std::vector<uint>> who;
  for (auto& f : fibers) {
    std::string k = std::string(f.op) + "@line" + std::to_string(f.line);
    size_t i = 0;
    for (; i < seen.size(); ++i)
      if (seen[i] == k) break;
    if (i == seen.size()) {
      seen.push_back(k);
      who.emplace_back();
    }
    who[i].push_back(f.ctx.thread_index_in_threadgroup);
  }
  for (size_t i = 0; i < seen.size(); ++i)
    error += seen[i] + " x" + std::to_string(who[i].size()) + " (first thread " + std::to_string(who[i][0]) + "); ";
  failed = true;
}
uint lane_id() {
  return cur->ctx.thread_index_in_simdgroup;
}
static Simd& my() {
  return simds[cur->ctx.simdgroup_index_in_threadgroup];
}
void* tg_alloc_raw(size_t bytes, int line) {
  for (auto& a : tg_list)
    if (a.line == line && a.size == bytes) return arena + a.off;
  size_t off = (tg_used + 15) / 16 * 16;
  if (off + bytes > TG_LIMIT) {
    fprintf(stderr, "emu: threadgroup memory %zu bytes exceeds %zu (line %d)\n", off + bytes, TG_LIMIT, line);
    exit(3);
  }
  tg_list.push_back({line, off, bytes});
  tg_used = off + bytes;
#ifdef EMU_ASAN
  ASAN_POISON_MEMORY_REGION(arena + off + bytes, 64);
  tg_used += 64;
#endif
  return arena + off;
}
void barrier(const char* op, int line) {
#ifdef EMU_TSAN
  __tsan_release(&fibers);
#endif
  yield(WAIT_TG, op, line);
#ifdef EMU_TSAN
  __tsan_acquire(&fibers);
#endif
}
void simd_sync(int line) {
#ifdef EMU_TSAN
  __tsan_release(&my());
#endif
  yield(WAIT_SIMD, "simdgroup_barrier", line);
#ifdef EMU_TSAN
  __tsan_acquire(&my());
#endif
}
void collect_raw(Payload p, const char* op, int line) {
  my().slot[lane_id()] = p;
  yield(WAIT_SIMD, op, line);
}
Payload lane_raw(uint l) {
  return my().snap[l];
}
bool has(uint l) {
  return l < 32 && my().present[l];
}
static void run_group() {
  size_t n = fibers.size();
  uint64_t rng = 88172645463325252ull + order_mode * 7919ull;
  std::vector<uint> idx(n);
  for (;;) {
    for (size_t i = 0; i < n; ++i) idx[i] = order_mode == 1 ? n - 1 - i : i;
    if (order_mode >= 2)
      for (size_t i = n; i > 1; --i) {
        rng ^= rng << 13;
        rng ^= rng >> 7;
        rng ^= rng << 17;
        std::swap(idx[i - 1], idx[rng % i]);
      }
    for (uint i : idx)
      if (fibers[i].st == RUN) {
        cur = &fibers[i];
        switch_to(&mainf, &fibers[i]);
      }
    bool released = false;
    for (size_t g = 0; g < simds.size(); ++g) {
      Simd& s = simds[g];
      size_t a = g * 32, b = std::min(n, a + 32);
      const char* op = nullptr;
      int line = 0, waiting = 0, live = 0;
      bool same = true;
      for (size_t i = a; i < b; ++i) {
        Fiber& f = fibers[i];
        if (f.st == DONE) continue;
        live++;
        if (f.st == WAIT_SIMD) {
          waiting++;
          if (!op) {
            op = f.op;
            line = f.line;
          } else if (strcmp(op, f.op) || line != f.line)
            same = false;
        }
      }
      if (waiting && waiting == live) {
        if (!same) {
          describe("SIMD-group divergence");
          return;
        }
        for (int i = 0; i < 32; ++i) {
          s.snap[i] = s.slot[i];
          s.present[i] = false;
        }
        for (size_t i = a; i < b; ++i)
          if (fibers[i].st == WAIT_SIMD) {
            s.present[i - a] = true;
            fibers[i].st = RUN;
          }
        released = true;
      }
    }
    if (released) continue;
    size_t wait = 0, done = 0;
    int line = 0;
    bool same = true, first = true;
    for (auto& f : fibers) {
      if (f.st == DONE)
        done++;
      else if (f.st == WAIT_TG) {
        wait++;
        if (first) {
          line = f.line;
          first = false;
        } else if (line != f.line)
          same = false;
      }
    }
    if (done == n) return;
    if (wait == n && same) {
      for (auto& f : fibers) f.st = RUN;
      continue;
    }
    describe(wait + done == n || wait ? "barrier divergence" : "SIMD-group divergence");
    return;
  }
}
static void begin_memory() {
#ifdef EMU_TSAN
  // fresh for each group: groups share nothing
  arena = (unsigned char*)mmap(nullptr, TG_LIMIT + 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
#else
  if (!arena) arena = (unsigned char*)aligned_alloc(64, TG_LIMIT + 4096);
#endif
#ifdef EMU_ASAN
  ASAN_UNPOISON_MEMORY_REGION(arena, TG_LIMIT + 4096);
#endif
  for (volatile size_t i = 0; i < TG_LIMIT; i = i + 8) *(uint64_t*)(arena + i) = ~0ull;  // NaN pattern
  tg_list.clear();
  tg_used = 0;
}
static void begin_fiber(Fiber& f) {
  f.st = RUN;
  f.op = "start";
  f.line = 0;
  f.fake = nullptr;
#ifdef EMU_TSAN
  const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
  f.stack = (char*)mmap(  // fresh: groups share no stacks
      nullptr, STACK, PROT_READ | PROT_WRITE, flags, -1, 0);
  f.tsan = __tsan_create_fiber(0);
#else
  if (!f.stack) f.stack = (char*)aligned_alloc(64, STACK);
#endif
#ifdef EMU_ASAN
  ASAN_UNPOISON_MEMORY_REGION(f.stack, STACK);
#endif
#ifdef EMU_ASM
  void** sp = (void**)((uintptr_t)(f.stack + STACK) & ~uintptr_t(15));
  *--sp = nullptr;
  *--sp = (void*)fiber_main;
  for (int k = 0; k < 6; ++k) *--sp = nullptr;
  f.sp = sp;
#else
  getcontext(&f.uc);
  f.uc.uc_stack.ss_sp = f.stack;
  f.uc.uc_stack.ss_size = STACK;
  f.uc.uc_link = nullptr;
  makecontext(&f.uc, fiber_main, 0);
#endif
}
static void begin_group(uint3 group, uint3 tg) {
  for (size_t i = 0; i < fibers.size(); ++i) {
    Ctx& c = fibers[i].ctx;
    c.thread_position_in_threadgroup = uint3(i, 0, 0);
    c.threadgroup_position_in_grid = group;
    c.thread_position_in_grid = uint3(group.x * tg.x + i, group.y, group.z);
    c.thread_index_in_threadgroup = i;
    c.thread_index_in_simdgroup = i % 32;
    c.simdgroup_index_in_threadgroup = i / 32;
    begin_fiber(fibers[i]);
  }
}
int launch_raw(uint3 grid, uint3 tg, void (*fn)(void*, const Ctx&), void* arg) {
  g_fn = fn;
  g_arg = arg;
  if (tg.x > 1024 || tg.y != 1 || tg.z != 1 || grid.x % tg.x) {
    error = "a group is one row of at most 1024 threads, and there are whole groups only";
    return 2;
  }
#ifdef EMU_TSAN
  mainf.tsan = __tsan_get_current_fiber();
#endif
  fibers.resize(tg.x, Fiber());
  for (uint z = 0; z < grid.z; ++z)
    for (uint y = 0; y < grid.y; ++y)
      for (uint x = 0; x < grid.x / tg.x; ++x) {
        simds.assign((tg.x + 31) / 32, Simd());
        begin_memory();
        begin_group(uint3(x, y, z), tg);
        run_group();
#ifdef EMU_TSAN
        for (auto& f : fibers) __tsan_destroy_fiber(f.tsan);
#endif
        if (failed) return 1;
      }
#ifdef EMU_TSAN
  __tsan_acquire(&g_fn);  // the host may read the buffers now
#endif
  return 0;
}
}  // namespace emu
