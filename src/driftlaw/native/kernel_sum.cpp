// Weighted sums of Gaussian kernels over N centres, in one pass: the compiled twin of kernel_sum.py.
//
// For each query (x, a, v), with l_k = log w_k - |x - a c_k|^2 / 2v and r_k = e^{l_k} / sum_j e^{l_j}:
//
//     log_sum = log sum_k e^{l_k},   mean = sum_k r_k c_k,   square = sum_k r_k |c_k|^2.
//
// How it is done:
//   1. Centres are put in k-d order and cut into leaves. A leaf keeps e_k = c_k - m (m: its mean) as a structure of
//      float32 arrays, so float32 loses precision by the size of a leaf, not of the data. With y = x - a m, in base 2,
//          l_k log2(e) = [-|y|^2/2v + (a/v) y.e_k - (a^2/2v) |e_k|^2] log2(e) + log2 w_k;
//      queries for which even that loses too much (see kIllConditioned) use -|y/sqrt(2v) - a e_k/sqrt(2v)|^2 instead.
//   2. `reference` <= log2 of the whole sum is known before the first kernel is evaluated (Jensen, leaf by leaf), and
//      grows on the way: exponents relative to it never overflow. A leaf is left out by its radius, if every kernel in
//      it is below 2^-kDropped of the reference, or once its exponents are known, if every term is below 2^-kDropped/N:
//      at most 2 x 2^-kDropped of a sum is left out, far below float32's rounding.
//   3. Four queries by V vectors of centres stay in registers. Sums over a leaf are float32, one per lane; sums of
//      leaves are float64. The order of summation depends on nothing but the centres: neither on threads nor on the
//      other queries.
//
// kernel_lanes.hpp holds the inner loops and is included once per instruction set; the best one that the processor has
// is chosen at run time.
// Never compile it with -ffast-math: 2^y below relies on (y + 1.5 * 2^23) - 1.5 * 2^23 rounding y.

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <memory>
#include <new>
#include <numeric>
#include <thread>
#include <utility>
#include <vector>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace {

using Index = std::int64_t;

constexpr double kLog2E = 1.4426950408889634, kLn2 = 0.6931471805599453;
constexpr int kTile = 4;                // queries per register tile
constexpr int kPad = 16;                // leaves are padded to this many centres
constexpr Index kLeaf = 1024;           // most centres in a leaf
constexpr Index kChunk = 64;            // queries that share one pass over the leaves
constexpr double kDropped = 33;         // at most 2 x 2^-33 of a sum is left out
constexpr float kSlack = 4;             // exponents may exceed the reference by this much
constexpr double kIllConditioned = 48;  // largest exponent that may cancel in the expanded square, nats

struct Free {
  void operator()(float* p) const { std::free(p); }
};

float* aligned(std::size_t floats) {
  void* p = std::aligned_alloc(64, (floats * sizeof(float) + 127) / 64 * 64);
  if (!p) throw std::bad_alloc();
  return static_cast<float*>(p);
}

struct Leaf {
  Index at, count, stride;  // first float, centres, floats between columns (e_1 .. e_d, |e|^2, [log2 w])
  double radius, square, log_mean;  // max |e|, mean |e|^2, mean log2 w
};

// Cuts rows order[first .. last) at medians of their widest axes into leaves of at most `size` rows, and leaves again
// at gaps between clusters (wide ones if a cluster has less than kPad rows): narrow leaves lose less precision.
void divide(const double* rows, int d, Index* order, Index first, Index last, Index size, std::vector<Index>& ends) {
  const Index n = last - first;
  Index cut = first;
  if (n > size || n >= kPad) {
    std::vector<double> sum(d), square(d);
    const double* origin = rows + order[first] * d;
    const Index step = std::max<Index>(1, n / 4096);  // a sample is enough to find a wide axis
    for (Index i = first; i < last; i += step)
      for (int j = 0; j < d; ++j) {
        const double z = rows[order[i] * d + j] - origin[j];
        sum[j] += z;
        square[j] += z * z;
      }
    const double count = static_cast<double>((n + step - 1) / step);
    int axis = 0;
    for (int j = 1; j < d; ++j)
      if (square[j] - sum[j] * sum[j] / count > square[axis] - sum[axis] * sum[axis] / count) axis = j;
    std::vector<std::pair<double, Index>> keys(n);
    for (Index i = 0; i < n; ++i) keys[i] = {rows[order[first + i] * d + axis], order[first + i]};
    if (n > size) {
      cut = first + (n / 2 + kPad - 1) / kPad * kPad;
      std::nth_element(keys.begin(), keys.begin() + (cut - first), keys.end());
    } else {
      std::sort(keys.begin(), keys.end());
      const double range = keys.back().first - keys.front().first, usual = 2 * std::log(static_cast<double>(n)) / n;
      double widest = 0;
      for (Index i = 1; i < n; ++i) {
        const double gap = keys[i].first - keys[i - 1].first;
        const bool few = std::min(i, n - i) < kPad;
        if (gap > widest && gap > (few ? 0.25 : usual) * range) widest = gap, cut = first + i;
      }
    }
    for (Index i = 0; i < n; ++i) order[first + i] = keys[i].second;
  }
  if (cut > first) {
    divide(rows, d, order, first, cut, size, ends);
    divide(rows, d, order, cut, last, size, ends);
    return;
  }
  ends.push_back(last);
}

struct Pack {
  int d = 0;
  Index n = 0;
  bool weighted = false;
  std::vector<Leaf> leaves;
  std::vector<double> means;  // [d][leaves]
  std::unique_ptr<float, Free> columns;

  Pack(const double* centres, const double* weights, Index rows, int dim) : d(dim), weighted(weights != nullptr) {
    std::vector<Index> order;
    for (Index i = 0; i < rows; ++i)
      if (!weights || weights[i] > 0) order.push_back(i);
    n = static_cast<Index>(order.size());
    // about 256 KiB, to stay in the cache; fewer centres where few axes make small leaves narrow
    const Index size = std::min(std::clamp<Index>(65536 / (d + 2) / kPad * kPad, 256, kLeaf), Index{64} << std::min(d, 4));
    std::vector<Index> ends;
    divide(centres, d, order.data(), 0, n, size, ends);
    const Index count = static_cast<Index>(ends.size()), width = d + 1 + weighted;
    Index floats = 0;
    for (Index b = 0, first = 0; b < count; first = ends[b++]) {
      Leaf leaf{floats, ends[b] - first, (ends[b] - first + kPad - 1) / kPad * kPad, 0, 0, 0};
      floats += leaf.stride * width;
      leaves.push_back(leaf);
    }
    columns.reset(aligned(floats));
    means.assign(d * count, 0);
    std::vector<double> mean(d);
    for (Index b = 0, first = 0; b < count; first = ends[b++]) {
      Leaf& leaf = leaves[b];
      std::fill(mean.begin(), mean.end(), 0);
      for (Index i = 0; i < leaf.count; ++i)
        for (int j = 0; j < d; ++j) mean[j] += centres[order[first + i] * d + j] / leaf.count;
      for (int j = 0; j < d; ++j) means[j * count + b] = mean[j];
      float* column = columns.get() + leaf.at;
      for (Index i = 0; i < leaf.stride; ++i) {  // the padding repeats the last centre and is masked
        const Index row = order[first + std::min(i, leaf.count - 1)];
        double square = 0;
        for (int j = 0; j < d; ++j) {
          const float e = static_cast<float>(centres[row * d + j] - mean[j]);
          column[j * leaf.stride + i] = e;
          square += static_cast<double>(e) * e;
        }
        column[d * leaf.stride + i] = static_cast<float>(square);
        const double weight = weights ? weights[row] : 1.0 / n;
        if (weights) column[(d + 1) * leaf.stride + i] = static_cast<float>(std::log2(weight));
        if (i >= leaf.count) continue;
        leaf.radius = std::max(leaf.radius, std::sqrt(square));
        leaf.square += square / leaf.count;
        leaf.log_mean += std::log2(weight) / leaf.count;
      }
      leaf.radius *= 1 + 1e-6;
    }
  }
};

// One call: queries x [m, d], a [m], v [m]; results log_sum [m], mean [m, d], square [m], lost [m], all float64.
struct Call {
  const double *x, *a, *v;
  Index m;
  double *log_sum, *mean, *square, *lost;
  const Index* order;       // queries in the order in which they share tiles
  const double* reference;  // a lower bound of log2 of the sum, per query
};

// |x - a m_b|^2 for all leaves b.
void distances(const Pack& pack, const double* x, double a, double* out) {
  const Index count = static_cast<Index>(pack.leaves.size());
  std::fill(out, out + count, 0.0);
  for (int j = 0; j < pack.d; ++j) {
    const double* m = pack.means.data() + j * count;
    for (Index b = 0; b < count; ++b) out[b] += (x[j] - a * m[b]) * (x[j] - a * m[b]);
  }
}

// An upper bound of log2 e^{l_k} / w_k in a leaf, from the distance of its mean.
double upper(const Leaf& leaf, double distance2, double a, double v) {
  const double gap = std::max(0.0, std::sqrt(distance2) - a * leaf.radius);
  return -gap * gap * kLog2E / (2 * v);
}

// The reference of a query, and the largest exponents, in nats, that may cancel in the two ways of computing them.
struct Start {
  double reference, expanded, direct;
};

Start start(const Pack& pack, const double* x, double a, double v, double* scratch) {
  distances(pack, x, a, scratch);
  Start s{-std::numeric_limits<double>::infinity(), 0, 0};
  for (std::size_t b = 0; b < pack.leaves.size(); ++b) {
    const Leaf& leaf = pack.leaves[b];
    // Jensen: the mean over the leaf of log2(count w_k e^..)
    const double level = -(scratch[b] + a * a * leaf.square) * kLog2E / (2 * v) + leaf.log_mean +
                         std::log2(static_cast<double>(leaf.count));
    s.reference = std::max(s.reference, level);
  }
  double nearest = std::numeric_limits<double>::infinity();
  for (std::size_t b = 0; b < pack.leaves.size(); ++b) {
    const Leaf& leaf = pack.leaves[b];
    if (upper(leaf, scratch[b], a, v) < s.reference - kDropped) continue;
    const double distance = std::sqrt(scratch[b]), reach = a * leaf.radius;
    s.expanded = std::max(s.expanded, reach * std::max(distance, reach) / v);
    nearest = std::min(nearest, std::max(0.0, distance - reach));
  }
  s.direct = std::sqrt(s.expanded) + nearest * nearest / (2 * v);
  return s;
}

}  // namespace

#define DRIFTLAW_LANES 8
#define DRIFTLAW_ISA portable
#include "kernel_lanes.hpp"
#undef DRIFTLAW_LANES
#undef DRIFTLAW_ISA

#if defined(__x86_64__)
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma")
#endif
#define DRIFTLAW_LANES 8
#define DRIFTLAW_ISA avx2
#include "kernel_lanes.hpp"
#undef DRIFTLAW_LANES
#undef DRIFTLAW_ISA
#if defined(__clang__)
#pragma clang attribute pop
#pragma clang attribute push(__attribute__((target("avx512f,avx512dq,avx512vl,avx2,fma"))), apply_to = function)
#else
#pragma GCC pop_options
#pragma GCC push_options
#pragma GCC target("avx512f,avx512dq,avx512vl,avx2,fma,prefer-vector-width=512")
#endif
#define DRIFTLAW_LANES 16
#define DRIFTLAW_ISA avx512
#include "kernel_lanes.hpp"
#undef DRIFTLAW_LANES
#undef DRIFTLAW_ISA
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif

namespace {

// 0: portable, 1: AVX2 and FMA, 2: AVX-512.
int best_isa() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
    return 2;
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return 1;
#endif
  return 0;
}

// f(first, last) on dynamically scheduled pieces of [0, n); exceptions in workers end as `false`.
template <class F>
bool parallel(Index n, Index piece, int threads, F f) {
  std::atomic<Index> next{0};
  std::atomic<bool> good{true};
  const auto work = [&] {
#if defined(__x86_64__)
    const unsigned mode = _mm_getcsr();
    _mm_setcsr(mode | 0x8040);  // denormal numbers are zero: they change nothing and cost hundreds of cycles
#endif
    try {
      for (Index i; (i = next.fetch_add(piece)) < n;) f(i, std::min(i + piece, n));
    } catch (...) {
      good = false;
    }
#if defined(__x86_64__)
    _mm_setcsr(mode);
#endif
  };
  std::vector<std::thread> helpers;
  try {
    for (int k = 1; k < threads && k * piece < n; ++k) helpers.emplace_back(work);
  } catch (...) {  // fewer threads than wished for
  }
  work();
  for (auto& helper : helpers) helper.join();
  return good;
}

}  // namespace

extern "C" {

int driftlaw_isa() { return best_isa(); }

// Packed centres [n, d] with weights [n] (or null for 1/n each; they must sum to 1); null if memory is short.
void* driftlaw_pack(const double* centres, const double* weights, std::int64_t n, std::int64_t d) {
  try {
    return new Pack(centres, weights, n, static_cast<int>(d));
  } catch (...) {
    return nullptr;
  }
}

void driftlaw_free(void* pack) { delete static_cast<Pack*>(pack); }

// Sums of m queries; `square` may be null. `lost`: the largest exponent, in nats, whose rounding a result suffers from; a
// query that is not finite, or too far away for float64, has results and `lost` NaN. 0 if all went well.
int driftlaw_sums(const void* handle, const double* x, const double* a, const double* v, std::int64_t m, int threads,
                  int isa, double* log_sum, double* mean, double* square, double* lost) {
  try {
    const Pack& pack = *static_cast<const Pack*>(handle);
    const std::size_t leaves = pack.leaves.size();
    std::vector<Index> order(m), ends;
    std::iota(order.begin(), order.end(), 0);
    const bool finite = std::all_of(x, x + m * pack.d, [](double z) { return std::isfinite(z); });
    if (leaves > 1 && m > kChunk && finite) divide(x, pack.d, order.data(), 0, m, kChunk, ends);
    std::vector<double> reference(m);
    std::vector<char> direct(m);
    bool good = parallel(m, kChunk, threads, [&](Index first, Index last) {
      std::vector<double> scratch(leaves);
      for (Index i = first; i < last; ++i) {
        const Start s = start(pack, x + i * pack.d, a[i], v[i], scratch.data());
        reference[i] = s.reference;
        direct[i] = s.expanded > kIllConditioned && s.direct < s.expanded;
        const bool usable = std::isfinite(scratch[0]) && std::isfinite(s.reference);
        lost[i] = usable ? (direct[i] ? s.direct : s.expanded) : std::numeric_limits<double>::quiet_NaN();
      }
    });
    if (!good) return 1;
    const Index expanded = std::stable_partition(order.begin(), order.end(), [&](Index i) { return !direct[i]; }) -
                           order.begin();
    const Call call{x, a, v, m, log_sum, mean, square, lost, order.data(), reference.data()};
    const Index piece = std::clamp<Index>((m / std::max(1, threads) + kTile - 1) / kTile * kTile, kTile, kChunk);
    for (const bool way : {false, true}) {
      auto run = way ? portable::chunk<true> : portable::chunk<false>;
#if defined(__x86_64__)
      if (std::min(isa, best_isa()) == 1) run = way ? avx2::chunk<true> : avx2::chunk<false>;
      if (std::min(isa, best_isa()) == 2) run = way ? avx512::chunk<true> : avx512::chunk<false>;
#endif
      const Index begin = way ? expanded : 0, end = way ? m : expanded;
      good = parallel(end - begin, piece, threads, [&](Index first, Index last) {
               first += begin, last += begin;
               run(pack, call, first, last);
             }) && good;
    }
    return good ? 0 : 1;
  } catch (...) {
    return 1;
  }
}

}  // extern "C"
