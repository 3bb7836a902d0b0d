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

SSMITH_INLINE void add_to(float* sum, vf v) { store(sum, load(sum) + v); }
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

// Calls work(part, b, first, last) for runs of blocks [first, last) of one sequence each. A run is
// worked through chunk by chunk over time, all its blocks in a chunk, so that a page of the input is
// used up while the translation of its address is at hand; its states, `floats` a block, must fit
// beside that into the second level cache.
constexpr int64_t kRunFloats = 192 * 1024;
template <class Work>
void share_runs(int64_t b, int64_t e, int64_t floats, int64_t parts, const Work& work) {
  const int64_t blocks = Block::count(e), most = floats < kRunFloats ? kRunFloats / floats : 1;
  share(b * blocks, parts, [&](int64_t part, int64_t first, int64_t last) {
    while (first < last) {
      const int64_t from = first % blocks, to = min64(min64(blocks, from + last - first), from + most);
      work(part, first / blocks, from, to);
      first += to - from;
    }
  });
}

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

// State-major (n, e) rows of one block as vectors [vector][n]; 0 if absent.
SSMITH_INLINE void load_states(float* to, const float* from, const Block& block, int64_t n,
                               int64_t e) {
  for (int64_t v = 0; v < block.vectors; ++v) {
    for (int64_t i = 0; i < n; ++i) {
      vf value{};
      if (from) value = load_some(from + i * e + block.first + v * W, block.lanes(v));
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

// Eigenvalues of one block in units of log 2, within what `decay` takes: a state that forgets at
// once may have the rate −∞.
SSMITH_INLINE void load_rates(float* to, const float* A, const Block& block, int64_t n, int64_t e) {
  load_states(to, A, block, n, e);
  for (int64_t k = 0; k < block.vectors * n; ++k) {
    vf rate = load(to + k * W) * kLog2e;
    rate = rate < -kMostRate ? splat(-kMostRate) : rate;
    store(to + k * W, rate > kMostRate ? splat(kMostRate) : rate);
  }
}

// What a step adds to the read-out of its states: D·x, and the constant of the channel.
SSMITH_INLINE vf skip(const ScanArgs& a, int64_t first, int64_t lanes, vf x) {
  vf y = a.y_offset ? load_some(a.y_offset + first, lanes) : vf{};
  return a.D ? y + load_some(a.D + first, lanes) * x : y;
}
SSMITH_INLINE vf bounded_step(vf dt) { return dt > kMostStep ? splat(kMostStep) : dt; }

// Where an output is much larger than the second level cache, whole lines are written past it: they
// are neither read first nor do they displace what is needed again.
constexpr int64_t kStreamedFloats = 1024 * 1024;
class Output {
 public:
  Output(float* data, int64_t floats) : data_(data) {
    streamed_ = floats >= kStreamedFloats && reinterpret_cast<uintptr_t>(data) % 64 == 0;
  }
  SSMITH_MEMBER void put(int64_t at, vf v, int64_t lanes) const {
#if defined(__AVX512F__)
    if (streamed_ && lanes == W && at % W == 0) return _mm512_stream_ps(data_ + at, (__m512)v);
#endif
    store_some(data_ + at, v, lanes);
  }
  // Once all is written, and before another thread may read it.
  void finish() const {
#if defined(__AVX512F__)
    if (streamed_) _mm_sfence();
#endif
  }

 private:
  float* data_;
  bool streamed_;
};

// The rows of a block that are needed next; asked for in portions, one per turn of the present work.
struct Ahead {
  Block block;
  int64_t first, steps;
  SSMITH_MEMBER void prefetch(const Rows& rows, int64_t b, int64_t turn, int64_t turns) const {
    if (!rows.data) return;
    const int64_t to = first + steps * (turn + 1) / turns;
    for (int64_t t = first + steps * turn / turns; t < to; ++t) {
      const float* p = row(rows, b, t) + block.first;
      for (int64_t c = 0; c < block.channels; c += 16) __builtin_prefetch(p + c);
    }
  }
};

}  // namespace
