// How many rows count a unit among their smallest: a selection per row, by digits.
#pragma once
#include "workspace.h"

namespace {

constexpr int kDigitBits = 11, kDigits = 1 << kDigitBits;

// Unsigned numbers in the order of the floats; NaN comes last, and both zeros are the same.
SSMITH_INLINE uint32_t ordered(float value) {
  uint32_t bits;
  value += 0.f;
  std::memcpy(&bits, &value, sizeof bits);
  if (value != value) return 0xffffffffu;
  return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

// The number that `count` of the keys do not exceed when ties are broken, and how many of its
// equals are among them.
SSMITH_INLINE uint32_t select_smallest(const uint32_t* keys, int64_t s, int64_t& count,
                                       int64_t* histogram) {
  uint32_t prefix = 0;
  for (int shift : {22, 11, 0}) {
    std::memset(histogram, 0, kDigits * sizeof(int64_t));
    const uint32_t above = shift == 22 ? 0u : ~0u << (shift + kDigitBits);
    const uint32_t mask = shift == 22 ? kDigits / 2 - 1 : kDigits - 1;
    for (int64_t i = 0; i < s; ++i) {
      if ((keys[i] & above) == prefix) ++histogram[keys[i] >> shift & mask];
    }
    uint32_t digit = 0;
    while (count > histogram[digit]) count -= histogram[digit++];
    prefix |= digit << shift;
  }
  return prefix;
}

void votes(const VotesArgs* args) {
  const VotesArgs& a = *args;
  share(a.rows, a.parts, [&](int64_t part, int64_t first, int64_t last) {
    auto* keys = static_cast<uint32_t*>(std::malloc(a.s * sizeof(uint32_t)));
    int64_t histogram[kDigits];
    int64_t* counts = a.counts + part * a.s;
    for (int64_t r = first; r < last; ++r) {
      for (int64_t i = 0; i < a.s; ++i) keys[i] = ordered(a.metric[r * a.s + i]);
      int64_t equal = a.count;
      const uint32_t limit = select_smallest(keys, a.s, equal, histogram);
      for (int64_t i = a.s - 1; i >= 0; --i) {
        if (keys[i] == limit) counts[i] += equal-- > 0;
        else counts[i] += keys[i] < limit;
      }
    }
    std::free(keys);
  });
}

}  // namespace
