// The inner loops of kernel_sum.cpp, which includes this file once per instruction set with
//   DRIFTLAW_LANES  floats in a vector,
//   DRIFTLAW_ISA    the namespace that receives `chunk<Direct>`.
// Vectors are the compilers' own vector type, so that one text serves all of them.

namespace {
namespace DRIFTLAW_ISA {

constexpr int kLanes = DRIFTLAW_LANES;
typedef float Vector __attribute__((vector_size(4 * DRIFTLAW_LANES)));
typedef std::int32_t Integers __attribute__((vector_size(4 * DRIFTLAW_LANES)));
typedef float Half __attribute__((vector_size(2 * DRIFTLAW_LANES)));
typedef float Quarter __attribute__((vector_size(DRIFTLAW_LANES)));

constexpr int kVectors = kLanes == 16 ? 4 : 2;  // vectors of centres per register tile (32 or 16 registers)
constexpr int kGroup = kLanes == 16 ? 6 : 3;    // columns of values per register tile

static inline Vector load(const float* p) { return *reinterpret_cast<const Vector*>(p); }
static inline void store(float* p, Vector x) { *reinterpret_cast<Vector*>(p) = x; }
static inline Vector larger(Vector x, Vector y) { return x > y ? x : y; }

static inline float sum(Vector x) {
  Half h[2];
  std::memcpy(h, &x, sizeof x);
  const Half s = h[0] + h[1];
  Quarter q[2];
  std::memcpy(q, &s, sizeof s);
  const Quarter t = q[0] + q[1];
  if (kLanes == 8) return t[0] + t[1];
  return (t[0] + t[2 % (kLanes / 4)]) + (t[1] + t[3 % (kLanes / 4)]);
}

static inline float largest(Vector x) {
  Half h[2];
  std::memcpy(h, &x, sizeof x);
  const Half s = h[0] > h[1] ? h[0] : h[1];
  float m = s[0];
  for (int i = 1; i < kLanes / 2; ++i) m = m > s[i] ? m : s[i];
  return m;
}

// 2^y for y <= 127, relative error 2.2e-7; minimax polynomial of degree 5 on [-1/2, 1/2].
static inline Vector power_of_two(Vector y) {
#if DRIFTLAW_LANES == 16
  const Vector n = (Vector)_mm512_roundscale_ps((__m512)y, 0), f = y - n;
#else
  const Vector low = Vector{} - 126.0f;
  y = larger(y, low);
  const Vector t = y + 12582912.0f, f = y - (t - 12582912.0f);  // t holds round(y) in its last bits
#endif
  Vector p = f * 0x1.5c08e6p-10f + 0x1.3d0c52p-7f;
  p = p * f + 0x1.c6b6e4p-5f;
  p = p * f + 0x1.ebf918p-3f;
  p = p * f + 0x1.62e428p-1f;
  p = p * f + 1.0f;
#if DRIFTLAW_LANES == 16
  return (Vector)_mm512_scalef_ps((__m512)p, (__m512)n);
#else
  return (Vector)((Integers)p + ((Integers)t << 23));
#endif
}

// Exponents of kTile queries by V vectors of centres into `out` (kTile rows of `stride`), and their maxima.
// query: [d + 1][kTile] coefficients of the columns, or [d][kTile] y/sqrt(2v) and then [kTile] a/sqrt(2v) if Direct.
template <int V, bool Direct>
static inline void exponents(const float* column, Index stride, int d, bool weighted, const float* query,
                             const float* base, float* out, Vector& top) {
  Vector s[kTile][V];
  for (int q = 0; q < kTile; ++q)
    for (int k = 0; k < V; ++k) s[q][k] = Vector{} + base[q];
  const float* scale = query + d * kTile;
  for (int j = 0; j < d + !Direct; ++j) {
    Vector e[V];
    for (int k = 0; k < V; ++k) e[k] = load(column + j * stride + k * kLanes);
    for (int q = 0; q < kTile; ++q)
      for (int k = 0; k < V; ++k) {
        if (Direct) {
          const Vector z = query[j * kTile + q] - scale[q] * e[k];
          s[q][k] -= z * z;
        } else {
          s[q][k] += query[j * kTile + q] * e[k];
        }
      }
  }
  if (weighted)
    for (int k = 0; k < V; ++k) {
      const Vector w = load(column + (d + 1) * stride + k * kLanes);
      for (int q = 0; q < kTile; ++q) s[q][k] += w;
    }
  for (int q = 0; q < kTile; ++q)
    for (int k = 0; k < V; ++k) {
      top = larger(top, s[q][k]);
      store(out + q * stride + k * kLanes, s[q][k]);
    }
}

// sums[q] += sum_k p_qk column_k, for G columns and kTile queries.
template <int G>
static inline void moments(const float* column, Index stride, const float* p, double* sums, Index width) {
  Vector s[G][kTile] = {};
  for (Index k = 0; k < stride; k += kLanes) {
    Vector e[G];
    for (int g = 0; g < G; ++g) e[g] = load(column + g * stride + k);
    for (int q = 0; q < kTile; ++q) {
      const Vector w = load(p + q * stride + k);
      for (int g = 0; g < G; ++g) s[g][q] += w * e[g];
    }
  }
  for (int q = 0; q < kTile; ++q)
    for (int g = 0; g < G; ++g) sums[q * width + g] = sum(s[g][q]);
}

// The same for all columns, in groups of nearly equal size.
template <int G>
static inline void moments_of(int count, const float* column, Index stride, const float* p, double* sums, Index width) {
  if (count == G)
    moments<G>(column, stride, p, sums, width);
  else
    moments_of<G - 1>(count, column, stride, p, sums, width);
}

template <>
inline void moments_of<0>(int, const float*, Index, const float*, double*, Index) {}

struct State {
  double reference, total, scale2;  // log2 units; sum relative to it; log2(e) / 2v
};

template <bool Direct>
static void chunk(const Pack& pack, const Call& call, Index first, Index last) {
  const int d = pack.d, columns = d + (call.square != nullptr);
  const Index leaves = static_cast<Index>(pack.leaves.size()), tiles = (last - first + kTile - 1) / kTile;
  const double log_cut = kDropped + std::log2(static_cast<double>(pack.n));
  const double uniform = pack.weighted ? 0 : -std::log2(static_cast<double>(pack.n));
  Index longest = 0;
  for (const Leaf& leaf : pack.leaves) longest = std::max(longest, leaf.stride);
  const std::unique_ptr<float, Free> buffer(aligned(kTile * longest)), coefficients(aligned((d + 1) * kTile));
  float *p = buffer.get(), *query = coefficients.get();
  std::vector<double> gap(tiles * kTile * leaves), moment(tiles * kTile * (d + 1)), part(kTile * (d + 1));
  std::vector<State> state(tiles * kTile);
  std::vector<Index> row(tiles * kTile);  // the last tile repeats its last query
  for (Index i = 0; i < tiles * kTile; ++i) {
    row[i] = call.order[std::min(first + i, last - 1)];
    distances(pack, call.x + row[i] * d, call.a[row[i]], gap.data() + i * leaves);
    state[i] = {call.reference[row[i]], 0, kLog2E / (2 * call.v[row[i]])};
  }
  for (Index b = 0; b < leaves; ++b) {
    const Leaf& leaf = pack.leaves[b];
    const float* column = pack.columns.get() + leaf.at;
    const Index stride = leaf.stride;
    for (Index tile = 0; tile < tiles; ++tile) {
      State* const s = state.data() + tile * kTile;
      const Index* const rows = row.data() + tile * kTile;
      const double* const distance2 = gap.data() + tile * kTile * leaves + b;
      bool needed = false;
      for (int q = 0; q < kTile && !needed; ++q)
        needed = upper(leaf, distance2[q * leaves], call.a[rows[q]], call.v[rows[q]]) >= s[q].reference - kDropped;
      if (!needed) continue;

      alignas(64) float base[kTile];
      for (int q = 0; q < kTile; ++q) {
        const double a = call.a[rows[q]], scale = Direct ? std::sqrt(s[q].scale2) : 2 * a * s[q].scale2;
        for (int j = 0; j < d; ++j)
          query[j * kTile + q] =
              static_cast<float>(scale * (call.x[rows[q] * d + j] - a * pack.means[j * leaves + b]));
        query[d * kTile + q] = static_cast<float>(Direct ? scale * a : -a * a * s[q].scale2);
      }
      float peak;
      Index k;
      for (int round = 0;; ++round) {
        for (int q = 0; q < kTile; ++q)
          base[q] = static_cast<float>(
              std::max(uniform - s[q].reference - (Direct ? 0 : distance2[q * leaves] * s[q].scale2), -1e30));
        Vector top = Vector{} - std::numeric_limits<float>::infinity();
        for (k = 0; k + kVectors * kLanes <= stride; k += kVectors * kLanes)
          exponents<kVectors, Direct>(column + k, stride, d, pack.weighted, query, base, p + k, top);
        for (; k < stride; k += kLanes)
          exponents<1, Direct>(column + k, stride, d, pack.weighted, query, base, p + k, top);
        peak = largest(top);
        if (!(peak > kSlack) || round == 3) break;  // a huge reference may not move: then much was `lost`
        for (int q = 0; q < kTile; ++q) {  // raise the references and start again: no precision is lost
          Vector high = load(p + q * stride);
          for (k = kLanes; k < stride; k += kLanes) high = larger(high, load(p + q * stride + k));
          const float rise = largest(high);
          if (!(rise > kSlack)) continue;
          const double shrink = std::exp2(-static_cast<double>(rise));
          s[q].reference += rise;
          s[q].total *= shrink;
          double* m = moment.data() + (tile * kTile + q) * (d + 1);
          for (int j = 0; j < columns; ++j) m[j] *= shrink;
        }
      }
      if (peak < -log_cut) continue;

      double mass[kTile];
      for (int q = 0; q < kTile; ++q) {
        Vector m = {};
        float* const w = p + q * stride;
        for (k = 0; k + kLanes <= leaf.count; k += kLanes) {
          const Vector e = power_of_two(load(w + k));
          store(w + k, e);
          m += e;
        }
        for (; k < stride; k += kLanes) {  // the rest holds padding
          alignas(64) float lane[kLanes];
          store(lane, power_of_two(load(w + k)));
          for (int i = 0; i < kLanes; ++i) lane[i] = k + i < leaf.count ? lane[i] : 0;
          store(w + k, load(lane));
          m += load(lane);
        }
        mass[q] = sum(m);
      }
      const int groups = (columns + kGroup - 1) / kGroup;
      for (int g = 0; g < groups; ++g) {
        const int j = g * columns / groups, count = (g + 1) * columns / groups - j;
        moments_of<kGroup>(count, column + j * stride, stride, p, part.data() + j, d + 1);
      }

      // sums of c and |c|^2 from those of e = c - m
      for (int q = 0; q < kTile; ++q) {
        double* const m = moment.data() + (tile * kTile + q) * (d + 1);
        const double* const e = part.data() + q * (d + 1);
        s[q].total += mass[q];
        double shift = columns > d ? e[d] : 0;
        for (int j = 0; j < d; ++j) {
          const double mean = pack.means[j * leaves + b];
          m[j] += e[j] + mass[q] * mean;
          shift += mean * (2 * e[j] + mass[q] * mean);
        }
        m[d] += shift;
      }
    }
  }
  for (Index i = 0; i < last - first; ++i) {
    const double* const m = moment.data() + i * (d + 1);
    const double total = std::isnan(call.lost[row[i]]) ? call.lost[row[i]] : state[i].total;
    call.log_sum[row[i]] = (state[i].reference + std::log2(total)) * kLn2;
    for (int j = 0; j < d; ++j) call.mean[row[i] * d + j] = m[j] / total;
    if (call.square) call.square[row[i]] = m[d] / total;
  }
}

}  // namespace DRIFTLAW_ISA
}  // namespace
