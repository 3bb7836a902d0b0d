// How many rows count a unit among their smallest: a selection per row, digit by digit.
#pragma once
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
  explicit Selection(int64_t s)
      : s_(s), keys_(array(s)), candidates_(array(s)), counts_(array(s)), bins_(array(4 * kBins)) {
    std::memset(counts_, 0, s * sizeof(uint32_t));
  }
  ~Selection() {
    for (uint32_t* piece : {keys_, candidates_, counts_, bins_}) std::free(piece);
  }
  Selection(const Selection&) = delete;
  Selection& operator=(const Selection&) = delete;

  // Count the `count` smallest of one row; of equals, the later ones.
  void add_row(const float* metric, int64_t count) {
    for (int64_t i = 0; i < s_; ++i) keys_[i] = ordered(metric[i]);
    const uint32_t first = first_digit(count);
    const int64_t found = collect(first);
    uint32_t limit = first << (kSecondBits + kThirdBits);
    limit |= next_digit(found, limit, kThirdBits, kSecondBits, count) << kThirdBits;
    limit |= next_digit(found, limit, 0, kThirdBits, count);
    for (int64_t i = 0; i < s_; ++i) counts_[i] += keys_[i] < limit;
    for (int64_t c = found - 1; count > 0; --c) {
      const uint32_t i = candidates_[c];
      if (keys_[i] == limit) ++counts_[i], --count;
    }
  }

  void add_to(int64_t* counts) const {
    for (int64_t i = 0; i < s_; ++i) counts[i] += counts_[i];
  }

 private:
  static uint32_t* array(int64_t size) {
    return static_cast<uint32_t*>(std::malloc(size * sizeof(uint32_t)));
  }

  // The bin in which the `count`-th lies; `count` becomes its place in there.
  static uint32_t bin_of(const uint32_t* bins, int64_t& count) {
    uint32_t bin = 0;
    while (count > bins[bin]) count -= bins[bin++];
    return bin;
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
    int64_t found = 0;
    for (int64_t i = 0; i < s_; ++i) {
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

  int64_t s_;
  uint32_t *keys_, *candidates_, *counts_, *bins_;
};

void votes(const VotesArgs* args) {
  const VotesArgs& a = *args;
  share(a.rows, a.parts, [&](int64_t part, int64_t first, int64_t last) {
    Selection selection(a.s);
    for (int64_t r = first; r < last; ++r) selection.add_row(a.metric + r * a.s, a.count);
    selection.add_to(a.counts + part * a.s);
  });
}

}  // namespace
