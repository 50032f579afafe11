// CUDA versions of the functions of Metal's standard library that the kernels use. A warp is a SIMD-group.
typedef unsigned int uint;
typedef unsigned short ushort;
namespace metal {
enum class mem_flags { mem_none, mem_threadgroup };
__device__ inline void threadgroup_barrier(mem_flags) { __syncthreads(); }
template <class T>
__device__ inline T max(T a, T b) {
  return a > b ? a : b;
}
template <class T>
__device__ inline T min(T a, T b) {
  return a < b ? a : b;
}
template <class T>
__device__ inline T simd_shuffle_xor(T value, ushort mask) {
  return __shfl_xor_sync(0xffffffffu, value, mask);
}
template <class T>
__device__ inline T simd_sum(T value) {
  for (int mask = 1; mask < 32; mask <<= 1) {
    value += __shfl_xor_sync(0xffffffffu, value, mask);
  }
  return value;
}
template <class T>
__device__ inline T simd_max(T value) {
  for (int mask = 1; mask < 32; mask <<= 1) {
    value = max(value, __shfl_xor_sync(0xffffffffu, value, mask));
  }
  return value;
}
__device__ inline float exp(float x) { return expf(x); }
__device__ inline float log(float x) { return logf(x); }
}  // namespace metal
