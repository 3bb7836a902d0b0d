// One vector of floats at the level this file is compiled for, and the functions of it we need.
// Only the compiler's vector extensions, plus a few AVX-512 instructions that have no such form.
#pragma once
#include <cstdint>
#include <cstring>

#if defined(__AVX512F__)
#include <immintrin.h>
#define SSMITH_LANES 16
#elif defined(__AVX2__)
#define SSMITH_LANES 8
#else
#define SSMITH_LANES 4
#endif
#if defined(__SSE2__)
#include <xmmintrin.h>
#endif

namespace {

constexpr int64_t W = SSMITH_LANES;
typedef float vf __attribute__((vector_size(4 * SSMITH_LANES), may_alias));
typedef float vf_unaligned __attribute__((vector_size(4 * SSMITH_LANES), aligned(4), may_alias));
typedef int32_t vi __attribute__((vector_size(4 * SSMITH_LANES), may_alias));

#define SSMITH_INLINE static inline __attribute__((always_inline))
#define SSMITH_MEMBER inline __attribute__((always_inline))

// x - 0 is x for every x, so this is a bare broadcast.
SSMITH_INLINE vf splat(float value) { return value - vf{}; }
SSMITH_INLINE vf load(const float* p) { return *reinterpret_cast<const vf_unaligned*>(p); }
SSMITH_INLINE void store(float* p, vf v) { *reinterpret_cast<vf_unaligned*>(p) = v; }

// The first `count` lanes, at most all; the others are zero and are never touched.
#if defined(__AVX512F__)
SSMITH_INLINE __mmask16 first_lanes(int64_t count) {
  return static_cast<__mmask16>(0xffffu >> (W - count));
}
SSMITH_INLINE vf load_some(const float* p, int64_t count) {
  return (vf)_mm512_maskz_loadu_ps(first_lanes(count), p);
}
SSMITH_INLINE void store_some(float* p, vf v, int64_t count) {
  _mm512_mask_storeu_ps(p, first_lanes(count), (__m512)v);
}
#else
SSMITH_INLINE vf load_some(const float* p, int64_t count) {
  if (count == W) return load(p);
  vf v{};
  for (int64_t i = 0; i < count; ++i) v[i] = p[i];
  return v;
}
SSMITH_INLINE void store_some(float* p, vf v, int64_t count) {
  if (count == W) return store(p, v);
  for (int64_t i = 0; i < count; ++i) p[i] = v[i];
}
#endif

// 2^x, relative error 1e-7, 0 below 2^-126, infinity above 2^128, NaN for NaN.
SSMITH_INLINE vf exp2v(vf x) {
#if defined(__AVX512F__)
  vf r = (vf)_mm512_reduce_ps((__m512)x, 0x00);
#else
  vf inside = x < -126.f ? splat(-126.f) : (x > 127.f ? splat(127.f) : x);
  vf shifted = inside + 12582912.f;
  vf r = inside - (shifted - 12582912.f);
#endif
  vf p = 1.5353357719682047e-4f * r + 1.3398876733373465e-3f;
  p = p * r + 9.618437393191917e-3f;
  p = p * r + 5.550332464201722e-2f;
  p = p * r + 2.4022647913077688e-1f;
  p = p * r + 6.931472028591747e-1f;
  p = p * r + 1.f;
#if defined(__AVX512F__)
  return (vf)_mm512_scalef_ps((__m512)p, (__m512)(x - r));
#else
  vi power = ((vi)shifted - 0x4b400000 + 127) << 23;
  vf result = p * (vf)power;
  result = x < -126.f ? vf{} : result;
  return x >= 128.f ? splat(__builtin_inff()) : result;
#endif
}

// 2^(d·a) for 0 ≤ d ≤ kMostStep and |a| ≤ kMostRate, relative error 1e-7, exactly 1 where d·a is 0.
// On AVX-512 sixteen stored roots of two leave a cubic: the product is rounded to sixteenths by the
// magic number, whose low bits then choose the root, and only the remainder needs the polynomial.
constexpr float kMostStep = 1048576.f, kMostRate = 8796093022208.f;
#if defined(__AVX512F__)
alignas(64) constexpr float kRoots[16] = {
    1.f,         1.0442737f, 1.0905077f, 1.1387886f, 1.1892071f, 1.2418578f,
    1.2968396f,  1.3542556f, 1.4142135f, 1.4768262f, 1.5422108f, 1.6104903f,
    1.6817929f,  1.7562522f, 1.8340081f, 1.9152066f};
SSMITH_INLINE vf decay(vf d, vf a) {
  const vf magic = splat(786432.f), roots = load(kRoots);
  vf shifted = (vf)_mm512_fmadd_ps((__m512)d, (__m512)a, (__m512)magic);
  vf rounded = shifted - magic;
  vf r = (vf)_mm512_fmsub_ps((__m512)d, (__m512)a, (__m512)rounded);
  vf p = 5.5502135e-2f * r + 2.4023430e-1f;
  p = p * r + 6.9314718e-1f;
  p = p * r + 1.f;
  vf root = (vf)_mm512_permutexvar_ps((__m512i)shifted, (__m512)roots);
  return (vf)_mm512_scalef_ps((__m512)(p * root), (__m512)rounded);
}
#else
SSMITH_INLINE vf decay(vf d, vf a) { return exp2v(d * a); }
#endif

constexpr float kLog2e = 1.44269504088896341f;
constexpr float kLn2 = 0.69314718055994531f;

SSMITH_INLINE vf reciprocal(vf x) {
#if defined(__AVX512F__)
  vf r = (vf)_mm512_rcp14_ps((__m512)x);
  return r * (2.f - x * r);
#else
  return 1.f / x;
#endif
}

// log(1 + w) for w in [0, 1], relative error 1e-7 down to the smallest w.
SSMITH_INLINE vf log1pv(vf w) {
  vf s = w * reciprocal(w + 2.f);
  vf q = s * s;
  vf p = 2.817830081920473e-1f * q + 2.796061141289313e-1f;
  p = p * q + 4.0024909576069434e-1f;
  p = p * q + 6.666631470196376e-1f;
  p = p * q + 2.000000007919724f;
  return s * p;
}

SSMITH_INLINE vf absv(vf x) { return (vf)((vi)x & 0x7fffffff); }

struct Softplus {
  vf value, slope;
};
// softplus and its derivative, from one exponential.
SSMITH_INLINE Softplus softplus(vf x) {
  vf w = exp2v(-kLog2e * absv(x));
  vf sigmoid_abs = reciprocal(1.f + w);
  return {(x > 0.f ? x : vf{}) + log1pv(w), x >= 0.f ? sigmoid_abs : w * sigmoid_abs};
}

SSMITH_INLINE vf sigmoid(vf x) {
  vf w = exp2v(-kLog2e * absv(x));
  vf sigmoid_abs = reciprocal(1.f + w);
  return x >= 0.f ? sigmoid_abs : w * sigmoid_abs;
}


// Lane i of the result is the sum over the lanes of rows[i].
SSMITH_INLINE vf sum_rows(const vf* rows) {
  vf level[W];
  for (int64_t i = 0; i < W; ++i) level[i] = rows[i];
  // Pairs of lanes inside each group of four, then fours, then across the groups.
#define SSMITH_HADD(a, b) (__builtin_shufflevector(a, b, SSMITH_EVEN) + __builtin_shufflevector(a, b, SSMITH_ODD))
#if SSMITH_LANES == 4
#define SSMITH_EVEN 0, 2, 4, 6
#define SSMITH_ODD 1, 3, 5, 7
#elif SSMITH_LANES == 8
#define SSMITH_EVEN 0, 2, 8, 10, 4, 6, 12, 14
#define SSMITH_ODD 1, 3, 9, 11, 5, 7, 13, 15
#else
#define SSMITH_EVEN 0, 2, 16, 18, 4, 6, 20, 22, 8, 10, 24, 26, 12, 14, 28, 30
#define SSMITH_ODD 1, 3, 17, 19, 5, 7, 21, 23, 9, 11, 25, 27, 13, 15, 29, 31
#endif
  for (int64_t i = 0; i < W / 2; ++i) level[i] = SSMITH_HADD(level[2 * i], level[2 * i + 1]);
  for (int64_t i = 0; i < W / 4; ++i) level[i] = SSMITH_HADD(level[2 * i], level[2 * i + 1]);
#if SSMITH_LANES == 8
  level[0] = __builtin_shufflevector(level[0], level[1], 0, 1, 2, 3, 8, 9, 10, 11) +
             __builtin_shufflevector(level[0], level[1], 4, 5, 6, 7, 12, 13, 14, 15);
#elif SSMITH_LANES == 16
  // Groups of four lanes hold partial sums of rows 0-3 | 4-7 | 8-11 | 12-15.
  for (int64_t i = 0; i < 2; ++i) {
    vf a = level[2 * i], b = level[2 * i + 1];
    level[i] = __builtin_shufflevector(a, b, 0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27) +
               __builtin_shufflevector(a, b, 4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31);
  }
  level[0] = __builtin_shufflevector(level[0], level[1], 0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27) +
             __builtin_shufflevector(level[0], level[1], 4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31);
#endif
#undef SSMITH_HADD
#undef SSMITH_EVEN
#undef SSMITH_ODD
  return level[0];
}

// The sum of all lanes, by halves.
SSMITH_INLINE float sum_lanes(vf v) {
#if SSMITH_LANES == 16
  v += __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7);
  v += __builtin_shufflevector(v, v, 4, 5, 6, 7, 0, 1, 2, 3, 12, 13, 14, 15, 8, 9, 10, 11);
  v += __builtin_shufflevector(v, v, 2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13);
#elif SSMITH_LANES == 8
  v += __builtin_shufflevector(v, v, 4, 5, 6, 7, 0, 1, 2, 3);
  v += __builtin_shufflevector(v, v, 2, 3, 0, 1, 6, 7, 4, 5);
#else
  v += __builtin_shufflevector(v, v, 2, 3, 0, 1);
#endif
  return v[0] + v[1];
}

// Flush subnormals to zero while it lives: they cost a hundred times a normal operation.
class FlushSubnormals {
 public:
#if defined(__SSE2__)
  FlushSubnormals() : before_(_mm_getcsr()) { _mm_setcsr(before_ | 0x8040); }
  ~FlushSubnormals() { _mm_setcsr(before_); }

 private:
  unsigned int before_;
#elif defined(__aarch64__)
  FlushSubnormals() {
    asm volatile("mrs %0, fpcr" : "=r"(before_));
    asm volatile("msr fpcr, %0" : : "r"(before_ | (uint64_t(1) << 24)));
  }
  ~FlushSubnormals() { asm volatile("msr fpcr, %0" : : "r"(before_)); }

 private:
  uint64_t before_;
#else
  FlushSubnormals() {}
#endif
};

// Calls work(part, first, last) for each of `parts` contiguous shares of [0, tasks). Shares depend
// on `parts` alone, so that results do not depend on how many threads the system grants.
template <class Work>
void share(int64_t tasks, int64_t parts, const Work& work) {
  auto one = [&](int64_t part) {
    FlushSubnormals flush;
    work(part, tasks * part / parts, tasks * (part + 1) / parts);
  };
  if (parts <= 1) return one(0);
#if defined(_OPENMP)
#pragma omp parallel for schedule(static, 1) num_threads(static_cast<int>(parts))
#endif
  for (int64_t part = 0; part < parts; ++part) one(part);
}

}  // namespace
