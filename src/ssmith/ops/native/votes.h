// How many rows count a unit among their smallest: an exact selection per row, in one pass over it.
#pragma once
#include <algorithm>

#include "workspace.h"

namespace {

// Unsigned numbers in the order of the floats; NaN comes last, and both zeros are the same.
SSMITH_INLINE uint32_t ordered(float value) {
  int32_t bits;
  value += 0.f;
  std::memcpy(&bits, &value, sizeof bits);
  const uint32_t key = static_cast<uint32_t>(bits) ^ (static_cast<uint32_t>(bits >> 31) | 0x80000000u);
  return value != value ? 0xffffffffu : key;
}

// The limit of a row is the largest key that is chosen. Rows that follow each other have limits
// close to each other: what lies below a window around the last one is chosen without another look,
// and what lies in the window, the candidates, is looked at again. A limit outside of it is found in
// a wider window, so the window is a matter of time alone.
class Selection {
 public:
  explicit Selection(const VotesArgs& args)
      : s_(args.s), width_(args.width), scale_(args.scale), counts_(array(s_)),
        candidates_(array(s_ + kSpare)), keys_(array(s_ + kSpare)), sorted_(array(s_)) {
    std::memset(counts_, 0, s_ * sizeof(uint32_t));
  }
  ~Selection() {
    for (uint32_t* piece : {counts_, candidates_, keys_, sorted_}) std::free(piece);
  }
  Selection(const Selection&) = delete;
  Selection& operator=(const Selection&) = delete;

  // Count the `count` smallest of one row, at least one; of equals, the later ones.
  void add_row(const float* metric, int64_t count) {
    if (!half_) guess(metric, count);
    bool done = add_below<false>(metric, 0, count);
    while (!done) {
      const uint32_t counted = first_;
      widen(count);
      done = add_below<true>(metric, counted, count);
    }
    const uint32_t limit = limit_of(count - below_);
    add_candidates(limit, count - below_);
    if (found_ > kMost) half_ = std::max(half_ / 2, 1u);
    if (found_ < kFewest) half_ = std::min(half_ * 2, kWidest);
    around(limit);
  }

  void add_to(int64_t* counts) const {
    for (int64_t i = 0; i < s_; ++i) counts[i] += counts_[i];
  }

 private:
  static constexpr int64_t kSpare = 16;    // a vector of candidates is stored whole
  // Candidates beyond which a window is made narrower, or wider: fewer cost less, but miss more limits.
  static constexpr int64_t kFewest = 512, kMost = 2048;
  static constexpr uint32_t kWidest = 1u << 30;
  static constexpr int64_t kSample = 16;   // one unit of so many shapes the first window
  static constexpr int kBits = 8;          // a window is searched by 2^kBits parts of it

  static uint32_t* array(int64_t size) {
    return static_cast<uint32_t*>(std::malloc(size * sizeof(uint32_t)));
  }

  uint32_t key(const float* metric, int64_t i) const {
    return ordered(scale_ ? metric[i] * scale_[i] : metric[i]);
  }

  void around(uint32_t limit) {
    first_ = limit - std::min(limit, half_);
    last_ = limit + std::min(~limit, half_);
  }

  // A first window, from some of the units.
  void guess(const float* metric, int64_t count) {
    int64_t taken = 0;
    for (int64_t i = 0; i < s_; i += kSample) sorted_[taken++] = key(metric, i);
    uint32_t* place = sorted_ + std::min(count / kSample, taken - 1);
    std::nth_element(sorted_, place, sorted_ + taken);
    half_ = 1u << 20;
    around(*place);
  }

  // A wider window, around the edge of the last one on whose side the limit is.
  void widen(int64_t count) {
    half_ = 4 * std::min(half_, kWidest / 4);
    around(below_ >= count ? first_ : last_);
  }

  // The `place`-th smallest of the candidates: by the part of the window it lies in, then in there.
  uint32_t limit_of(int64_t place) {
    const uint32_t span = last_ - first_;
    const int bits = span ? 32 - __builtin_clz(span) : 0, shift = std::max(bits - kBits, 0);
    uint32_t parts[1 << kBits] = {};
    for (int64_t c = 0; c < found_; ++c) ++parts[(keys_[c] - first_) >> shift];
    uint32_t part = 0;
    while (place > parts[part]) place -= parts[part++];
    int64_t inside = 0;
    for (int64_t c = 0; c < found_; ++c) {
      sorted_[inside] = keys_[c], inside += (keys_[c] - first_) >> shift == part;
    }
    std::nth_element(sorted_, sorted_ + place - 1, sorted_ + inside);
    return sorted_[place - 1];
  }

  // Count what lies below the window and find the candidates; again: what is below `counted` has been
  // counted before. Returns whether the limit is among the candidates.
  template <bool kAgain>
  bool add_below(const float* metric, uint32_t counted, int64_t count) {
    // Members would be read again after every store.
    const float* scale = scale_;
    uint32_t *counts = counts_, *candidates = candidates_, *keys = keys_;
    const uint32_t first = first_, last = last_;
    int64_t i = 0, below = 0, found = 0;
#if defined(__AVX512F__)
    const __m512i firsts = _mm512_set1_epi32(static_cast<int>(first));
    const __m512i lasts = _mm512_set1_epi32(static_cast<int>(last));
    const __m512i before = _mm512_set1_epi32(static_cast<int>(counted));
    const __m512i one = _mm512_set1_epi32(1), sign = _mm512_set1_epi32(INT32_MIN);
    __m512i places = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    for (; i + 16 <= s_; i += 16, places = _mm512_add_epi32(places, _mm512_set1_epi32(16))) {
      __m512 value = _mm512_loadu_ps(metric + i);
      if (scale) value = _mm512_mul_ps(value, _mm512_loadu_ps(scale + i));
      value = _mm512_add_ps(value, _mm512_setzero_ps());
      const __m512i bits = _mm512_castps_si512(value);
      __m512i own = _mm512_xor_si512(bits, _mm512_or_si512(_mm512_srai_epi32(bits, 31), sign));
      own = _mm512_mask_set1_epi32(own, _mm512_cmp_ps_mask(value, value, _CMP_UNORD_Q), -1);
      const __mmask16 lower = _mm512_cmplt_epu32_mask(own, firsts);
      const __mmask16 in = _mm512_mask_cmple_epu32_mask(static_cast<__mmask16>(~lower), own, lasts);
      __m512i sums = _mm512_loadu_si512(counts + i);
      sums = _mm512_mask_add_epi32(sums, lower, sums, one);
      if (kAgain) sums = _mm512_mask_sub_epi32(sums, _mm512_cmplt_epu32_mask(own, before), sums, one);
      _mm512_storeu_si512(counts + i, sums);
      _mm512_storeu_si512(candidates + found, _mm512_maskz_compress_epi32(in, places));
      _mm512_storeu_si512(keys + found, _mm512_maskz_compress_epi32(in, own));
      below += __builtin_popcount(lower), found += __builtin_popcount(in);
    }
#endif
    for (; i < s_; ++i) {
      const uint32_t own = key(metric, i);
      counts[i] += (own < first) - (own < counted);
      candidates[found] = static_cast<uint32_t>(i), keys[found] = own;
      below += own < first, found += own >= first && own <= last;
    }
    below_ = below, found_ = found;
    return below < count && count <= below + found;
  }

  // Count the candidates below the limit and, of those that are the limit, the later ones.
  void add_candidates(uint32_t limit, int64_t left) {
    int64_t equals = 0;
    for (int64_t c = 0; c < found_; ++c) {
      const uint32_t place = candidates_[c], below = keys_[c] < limit;
      counts_[place] += below, left -= below;
      candidates_[equals] = place, equals += keys_[c] == limit;
    }
    uint32_t* later = candidates_ + equals - left;
    if (width_ > 1 && left < equals) {
      const int64_t height = s_ / width_;
      auto rank = [&](uint32_t i) { return i % width_ * height + i / width_; };
      std::nth_element(candidates_, later, candidates_ + equals,
                       [&](uint32_t a, uint32_t b) { return rank(a) < rank(b); });
    }
    for (int64_t c = 0; c < left; ++c) ++counts_[later[c]];
  }

  int64_t s_, width_, below_ = 0, found_ = 0;
  const float* scale_;
  uint32_t first_ = 0, last_ = 0, half_ = 0;
  uint32_t *counts_, *candidates_, *keys_, *sorted_;
};

void votes(const VotesArgs* args) {
  const VotesArgs& a = *args;
  share(a.rows, a.parts, [&](int64_t part, int64_t first, int64_t last) {
    Selection selection(a);
    for (int64_t r = first; r < last; ++r) selection.add_row(a.metric + r * a.s, a.count);
    selection.add_to(a.counts + part * a.s);
  });
}

}  // namespace
