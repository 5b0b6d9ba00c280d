// The passes that a sketch makes over its rows besides their products: the compiled twins of NumPy's and PyTorch's.
//
//     standardise   z_i = (x_i - mean) / scale
//     centre        z_i <- z_i - c,   sums_b = sum of z_i over the rows i of block b
//     count         n_0 = #{i: x_i is not NaN},   n_j = #{i: x_i >= e_j} for j <= kLow,   #{i: x_i > e_j} after it
//
// in every column. Counts are exact and z has the very bits of its twin, for cells are compared with it; only the order
// of summation differs. One text serves all instruction sets. AVX-512 was tried and gains nothing: what takes time is
// division and memory.

#include <algorithm>
#include <cstdint>
#include <type_traits>

#define INLINE static inline __attribute__((always_inline))

namespace {

using Index = std::int64_t;

constexpr int kLow = 5, kEdges = 9;  // edges up to the median, and all
constexpr Index kTile = 1 << 18;     // bytes of rows that stay in the cache while their columns are counted

template <class T>
INLINE void standardise(const T* __restrict x, Index n, Index k, const double* __restrict mean,
                        const double* __restrict scale, double* __restrict z) {
  for (; n > 0; --n, x += k, z += k)
    for (Index j = 0; j < k; ++j) z[j] = (x[j] - mean[j]) / scale[j];
}

INLINE void centre(double* __restrict z, Index n, Index k, const double* __restrict c, const Index* block, double* sums) {
  for (Index i = 0; i < n; ++i, z += k) {
    double* __restrict sum = sums + block[i] * k;
    for (Index j = 0; j < k; ++j) sum[j] += z[j] -= c[j];
  }
}

// As many columns as fit in a vector, with edges and counts in registers.
template <class T, int kBytes>
INLINE void count_columns(const T* x, Index n, Index stride, const T* edges, Index* counts) {
  typedef std::conditional_t<sizeof(T) == 4, std::int32_t, std::int64_t> Integer;
  typedef T Vector __attribute__((vector_size(kBytes)));
  typedef T Unaligned __attribute__((vector_size(kBytes), aligned(sizeof(T))));
  typedef Integer Integers __attribute__((vector_size(kBytes)));
  Vector e[kEdges];
  Integers seen = {}, beyond[kEdges] = {};
#pragma GCC unroll 16
  for (int j = 0; j < kEdges; ++j) e[j] = *reinterpret_cast<const Unaligned*>(edges + j * stride);
  for (; n > 0; --n, x += stride) {
    const Vector v = *reinterpret_cast<const Unaligned*>(x);
    seen -= v == v;  // true is -1
#pragma GCC unroll 16
    for (int j = 0; j < kEdges; ++j) beyond[j] -= j < kLow ? v >= e[j] : v > e[j];
  }
  for (int lane = 0; lane < kBytes / static_cast<int>(sizeof(T)); ++lane) {
    counts[lane] += seen[lane];
    for (int j = 0; j < kEdges; ++j) counts[(j + 1) * stride + lane] += beyond[j][lane];
  }
}

template <class T, int kBytes>
INLINE void count(const T* x, Index n, Index k, const T* edges, Index* counts) {
  constexpr Index lanes = kBytes / sizeof(T);
  const Index tile = std::max<Index>(64, kTile / (k * sizeof(T)));
  for (; n > 0; n -= tile, x += tile * k) {
    const Index rows = std::min(n, tile);
    Index j = 0;
    for (; j + lanes <= k; j += lanes) count_columns<T, kBytes>(x + j, rows, k, edges + j, counts + j);
    for (; j < k; ++j) count_columns<T, sizeof(T)>(x + j, rows, k, edges + j, counts + j);
  }
}

}  // namespace

#define DRIFTLAW_PASSES(isa, target, bytes)                                                                          \
  target void standardise_float32_##isa(const float* x, Index n, Index k, const double* mean, const double* scale,   \
                                        double* z) {                                                                 \
    standardise(x, n, k, mean, scale, z);                                                                            \
  }                                                                                                                  \
  target void standardise_float64_##isa(const double* x, Index n, Index k, const double* mean, const double* scale,  \
                                        double* z) {                                                                 \
    standardise(x, n, k, mean, scale, z);                                                                            \
  }                                                                                                                  \
  target void centre_float64_##isa(double* z, Index n, Index k, const double* c, const Index* block, double* sums) { \
    centre(z, n, k, c, block, sums);                                                                                 \
  }                                                                                                                  \
  target void count_float32_##isa(const float* x, Index n, Index k, const float* edges, Index* counts) {             \
    count<float, bytes>(x, n, k, edges, counts);                                                                     \
  }                                                                                                                  \
  target void count_float64_##isa(const double* x, Index n, Index k, const double* edges, Index* counts) {           \
    count<double, bytes>(x, n, k, edges, counts);                                                                    \
  }

extern "C" {

DRIFTLAW_PASSES(portable, , 16)

#if defined(__x86_64__)
DRIFTLAW_PASSES(AVX2, __attribute__((target("avx2"))), 32)
#endif

// What the processor has. 0: portable, 1: AVX2, 2: AVX-512, for which there is no code of its own here.
int driftlaw_isa() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
    return 2;
  if (__builtin_cpu_supports("avx2")) return 1;
#endif
  return 0;
}

}  // extern "C"
