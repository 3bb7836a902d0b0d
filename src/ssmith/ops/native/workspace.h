// Scratch memory of one task, and the moves between it and the caller's tensors.
#pragma once
#include <cstdlib>
#include <initializer_list>

#include "abi.h"
#include "vector.h"

namespace {

// Channels are worked on in groups of this many vectors, so that a row of the input is read in
// whole cache lines and several lines of a page at a time.
constexpr int64_t kGroup = 4;

SSMITH_INLINE int64_t min64(int64_t a, int64_t b) { return a < b ? a : b; }

class Workspace {
 public:
  explicit Workspace(int64_t floats)
      : base_(static_cast<float*>(std::malloc((floats + 32) * sizeof(float)))) {
    uintptr_t address = reinterpret_cast<uintptr_t>(base_);
    next_ = reinterpret_cast<float*>((address + 63) / 64 * 64);
  }
  ~Workspace() { std::free(base_); }
  Workspace(const Workspace&) = delete;
  Workspace& operator=(const Workspace&) = delete;
  // `floats` is a multiple of 16, so that every piece starts on a cache line.
  float* take(int64_t floats) {
    float* piece = next_;
    next_ += floats;
    return piece;
  }

 private:
  float* base_;
  float* next_;
};

SSMITH_INLINE int64_t whole_lines(int64_t floats) { return (floats + 15) / 16 * 16; }

// The channels of one task: `vectors` vectors from `first` on, the last one perhaps not full.
struct Block {
  int64_t first, channels, vectors;
  Block(int64_t number, int64_t e) {
    first = number * kGroup * W;
    channels = min64(kGroup * W, e - first);
    vectors = (channels + W - 1) / W;
  }
  int64_t lanes(int64_t v) const { return min64(W, channels - v * W); }
  static int64_t count(int64_t e) { return (e + kGroup * W - 1) / (kGroup * W); }
};

SSMITH_INLINE const float* row(const Rows& rows, int64_t b, int64_t t) {
  return rows.data + b * rows.stride_b + t * rows.stride_l;
}

// rows[t][:width] of one chunk, copied without gaps.
SSMITH_INLINE void pack(float* to, const Rows& rows, int64_t b, int64_t t0, int64_t steps,
                        int64_t width) {
  for (int64_t t = 0; t < steps; ++t) {
    std::memcpy(to + t * width, row(rows, b, t0 + t), width * sizeof(float));
  }
}

// State-major (n, e) rows of one block as vectors [vector][n], times a factor; 0 if absent.
SSMITH_INLINE void load_states(float* to, const float* from, const Block& block, int64_t n,
                               int64_t e, float factor) {
  for (int64_t v = 0; v < block.vectors; ++v) {
    for (int64_t i = 0; i < n; ++i) {
      vf value{};
      if (from) value = load_some(from + i * e + block.first + v * W, block.lanes(v)) * factor;
      store(to + (v * n + i) * W, value);
    }
  }
}
SSMITH_INLINE void store_states(float* to, const float* from, const Block& block, int64_t n,
                                int64_t e) {
  for (int64_t v = 0; v < block.vectors; ++v) {
    for (int64_t i = 0; i < n; ++i) {
      store_some(to + i * e + block.first + v * W, load(from + (v * n + i) * W), block.lanes(v));
    }
  }
}

// Ask for some rows of the next chunk while this one is computed.
SSMITH_INLINE void prefetch_rows(const Rows& rows, int64_t b, const Block& block, int64_t from,
                                 int64_t to) {
  if (!rows.data) return;
  for (int64_t t = from; t < to; ++t) {
    const float* p = row(rows, b, t) + block.first;
    for (int64_t c = 0; c < block.channels; c += 16) __builtin_prefetch(p + c);
  }
}

}  // namespace
