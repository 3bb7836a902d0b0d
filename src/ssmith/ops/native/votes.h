// How many rows count a unit among their smallest: a selection per row, digit by digit.
#pragma once
#include <algorithm>

#include "workspace.h"

namespace {

// Keys are read in digits of these many bits, the highest first. Only keys that share the first
// digit with the limit, the candidates, are looked at again.
constexpr int kFirstBits = 11, kSecondBits = 11, kThirdBits = 10;
constexpr int64_t kBins = 1 << kFirstBits;

// Unsigned numbers in the order of the floats; NaN comes last, and both zeros are the same.
SSMITH_INLINE uint32_t ordered(float value) {
  int32_t bits;
  value += 0.f;
  std::memcpy(&bits, &value, sizeof bits);
  const uint32_t key = static_cast<uint32_t>(bits) ^ (static_cast<uint32_t>(bits >> 31) | 0x80000000u);
  return value != value ? 0xffffffffu : key;
}

class Selection {
 public:
  Selection(int64_t s, int64_t width)
      : s_(s), width_(width), keys_(array(s)), candidates_(array(s)), counts_(array(s)), bins_(array(4 * kBins)) {
    std::memset(counts_, 0, s * sizeof(uint32_t));
  }
  ~Selection() {
    for (uint32_t* piece : {keys_, candidates_, counts_, bins_}) std::free(piece);
  }
  Selection(const Selection&) = delete;
  Selection& operator=(const Selection&) = delete;

  // Count the `count` smallest of one row; of equals, the later ones.
  void add_row(const float* metric, int64_t count) {
    const uint32_t first = digit_of_row(metric, count);
    const int64_t found = collect(first);
    uint32_t limit = first << (kSecondBits + kThirdBits);
    limit |= next_digit(found, limit, kThirdBits, kSecondBits, count) << kThirdBits;
    limit |= next_digit(found, limit, 0, kThirdBits, count);
    for (int64_t i = 0; i < s_; ++i) counts_[i] += keys_[i] < limit;
    add_equals(found, limit, count);
  }

  void add_to(int64_t* counts) const {
    for (int64_t i = 0; i < s_; ++i) counts[i] += counts_[i];
  }

 private:
  // Of the candidates that are the limit, the `count` later ones.
  void add_equals(int64_t found, uint32_t limit, int64_t count) {
    int64_t equals = 0;
    for (int64_t c = 0; c < found; ++c) {
      if (keys_[candidates_[c]] == limit) candidates_[equals++] = candidates_[c];
    }
    uint32_t* later = candidates_ + equals - count;
    if (width_ > 1 && count < equals) {
      const int64_t height = s_ / width_;
      auto rank = [&](uint32_t i) { return i % width_ * height + i / width_; };
      std::nth_element(candidates_, later, candidates_ + equals,
                       [&](uint32_t a, uint32_t b) { return rank(a) < rank(b); });
    }
    for (int64_t c = 0; c < count; ++c) ++counts_[later[c]];
  }

  static uint32_t* array(int64_t size) {
    return static_cast<uint32_t*>(std::malloc(size * sizeof(uint32_t)));
  }

  // The bin in which the `count`-th lies; `count` becomes its place in there.
  static uint32_t bin_of(const uint32_t* bins, int64_t& count) {
    uint32_t bin = 0;
    while (count > bins[bin]) count -= bins[bin++];
    return bin;
  }

  // The first digit of the limit. Rows that follow each other mostly share it, and to see whether it
  // is the last row's takes no histogram.
  uint32_t digit_of_row(const float* metric, int64_t& count) {
    const uint32_t guess = guess_;
    uint32_t below = 0, equal = 0;
    for (int64_t i = 0; i < s_; ++i) {
      const uint32_t key = ordered(metric[i]), digit = key >> (32 - kFirstBits);
      keys_[i] = key;
      below += digit < guess;
      equal += digit == guess;
    }
    if (below < count && count <= int64_t(below) + equal) {
      count -= below;
      return guess;
    }
    return guess_ = first_digit(count);
  }

  // Four histograms in turn: equal digits follow each other, and one counter would wait for itself.
  uint32_t first_digit(int64_t& count) {
    std::memset(bins_, 0, 4 * kBins * sizeof(uint32_t));
    for (int64_t i = 0; i < s_; ++i) ++bins_[i % 4 * kBins + (keys_[i] >> (32 - kFirstBits))];
    for (int64_t k = 0; k < kBins; ++k) {
      bins_[k] += bins_[k + kBins] + bins_[k + 2 * kBins] + bins_[k + 3 * kBins];
    }
    return bin_of(bins_, count);
  }

  int64_t collect(uint32_t digit) {
    int64_t found = 0, i = 0;
#if defined(__AVX512F__)
    const __m512i wanted = _mm512_set1_epi32(static_cast<int>(digit));
    __m512i places = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    for (; i + 16 <= s_; i += 16, places = _mm512_add_epi32(places, _mm512_set1_epi32(16))) {
      const __m512i digits = _mm512_srli_epi32(_mm512_loadu_si512(keys_ + i), 32 - kFirstBits);
      const __mmask16 same = _mm512_cmpeq_epi32_mask(digits, wanted);
      _mm512_mask_compressstoreu_epi32(candidates_ + found, same, places);
      found += __builtin_popcount(same);
    }
#endif
    for (; i < s_; ++i) {
      candidates_[found] = static_cast<uint32_t>(i);
      found += keys_[i] >> (32 - kFirstBits) == digit;
    }
    return found;
  }

  // The next digit of the limit, among candidates that agree with it in all bits above.
  uint32_t next_digit(int64_t found, uint32_t limit, int shift, int bits, int64_t& count) {
    const uint32_t mask = (1u << bits) - 1, above = ~((mask << shift) | ((1u << shift) - 1));
    std::memset(bins_, 0, (mask + 1) * sizeof(uint32_t));
    for (int64_t c = 0; c < found; ++c) {
      const uint32_t key = keys_[candidates_[c]];
      bins_[key >> shift & mask] += (key & above) == limit;
    }
    return bin_of(bins_, count);
  }

  int64_t s_, width_;
  uint32_t guess_ = 0;
  uint32_t *keys_, *candidates_, *counts_, *bins_;
};

void votes(const VotesArgs* args) {
  const VotesArgs& a = *args;
  share(a.rows, a.parts, [&](int64_t part, int64_t first, int64_t last) {
    Selection selection(a.s, a.width);
    for (int64_t r = first; r < last; ++r) selection.add_row(a.metric + r * a.s, a.count);
    selection.add_to(a.counts + part * a.s);
  });
}

}  // namespace
