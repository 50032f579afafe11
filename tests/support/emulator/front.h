// Declarations only: lets clang's OpenCL C++ front-end stand in for Apple's (a clang fork with the same kind of address
// spaces).
#define device __global
#define constant __constant
#define thread __private
#define threadgroup __local
typedef unsigned int uint;
typedef unsigned short ushort;
typedef unsigned char uchar;
typedef unsigned long ulong;
typedef unsigned long size_t;
typedef int int32_t;
typedef unsigned int uint32_t;
typedef long int64_t;
typedef unsigned long uint64_t;
typedef unsigned char uint8_t;
typedef signed char int8_t;
typedef short int16_t;
typedef unsigned short uint16_t;
#define V(T)                                          \
  typedef T T##2 __attribute__((ext_vector_type(2))); \
  typedef T T##3 __attribute__((ext_vector_type(3))); \
  typedef T T##4 __attribute__((ext_vector_type(4)));
V(float) V(int) V(uint) V(ushort) V(ulong) V(short) typedef half float16_t;
typedef half bfloat;
typedef half bfloat16_t;
namespace metal {
enum class mem_flags { mem_none, mem_device, mem_threadgroup };
mem_flags operator|(mem_flags, mem_flags);
void threadgroup_barrier(mem_flags) __attribute__((convergent));
void simdgroup_barrier(mem_flags) __attribute__((convergent));
#define R(N)      \
  float N(float); \
  int N(int);     \
  uint N(uint);
R(simd_sum)
R(simd_max)
R(simd_min) R(simd_prefix_inclusive_sum) R(simd_prefix_exclusive_sum) R(simd_broadcast_first)
#undef R
#undef V
#define S(N)              \
  float N(float, ushort); \
  int N(int, ushort);     \
  uint N(uint, ushort);   \
  float2 N(float2, ushort);
    S(simd_shuffle) S(simd_shuffle_xor) S(simd_shuffle_up) S(simd_shuffle_down) S(simd_broadcast)
#undef S
        bool simd_all(bool);
bool simd_any(bool);
#define M(N) float N(float);
M(exp)
M(log)
M(sqrt) M(rsqrt) M(tanh) M(floor) M(ceil) M(exp2) M(log2) M(abs) M(fabs) template <class T>
T max(T, T);
template <class T>
T min(T, T);
template <class T>
T clamp(T, T, T);
template <class T>
T select(T, T, bool);
float fma(float, float, float);
bool isinf(float);
bool isnan(float);
namespace fast {
M(exp) M(log) M(sqrt) M(rsqrt) M(tanh) M(exp2) M(log2)
}
namespace precise {
M(exp) M(log) M(sqrt) M(rsqrt) M(tanh)
}
typedef float simdgroup_float8x8 __attribute__((ext_vector_type(16)));  // opaque stand-in: per-lane elements by index
template <class T, int N>
simdgroup_float8x8 make_filled_simdgroup_matrix(T);
#define P thread simdgroup_float8x8&
#define A simdgroup_float8x8
void simdgroup_load(P, const device float*, ulong = 8, ulong2 = (ulong2)(0), bool = false);
void simdgroup_load(P, const threadgroup float*, ulong = 8, ulong2 = (ulong2)(0), bool = false);
void simdgroup_store(A, device float*, ulong = 8, ulong2 = (ulong2)(0), bool = false);
void simdgroup_store(A, threadgroup float*, ulong = 8, ulong2 = (ulong2)(0), bool = false);
void simdgroup_multiply(P, A, A);
void simdgroup_multiply_accumulate(P, A, A, A);
#undef P
#undef A
}  // namespace metal
#undef M
using namespace metal;
