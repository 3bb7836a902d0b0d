// Selective scan, forward, with sums over time and sequences of what its states do.
#pragma once
#include "scan_forward.h"

namespace {

// Sums are taken in single precision over this many steps, and then added to double precision.
constexpr int64_t kFlush = 256;
static_assert(kFlush % kSteps == 0, "sums are flushed between chunks");

typedef double vd __attribute__((vector_size(8 * SSMITH_LANES), aligned(8), may_alias));

// The states after every step of a chunk, and in front of them the one before it.
constexpr int64_t kAfterFloats = (kSteps + 1) * W;

enum Quantity { kBefore, kAfter, kKept, kReadAfter, kReadKept };

struct StatisticsTile {
  float *after, *kept;   // [n][t][W] of one vector; the state before the chunk stands in front of after
  float *value, *scaled;  // [n][t][W]: one quantity, and the same times its weight
  float* weight;         // [t][W]
  float* sums;           // [block][vector][quantity][n][W], then the same for the products [n][n][W]
  int64_t rows;          // of the sums of one vector
  StatisticsTile(Workspace& space, const StatisticsArgs& s, int64_t blocks) {
    const int64_t n = s.scan.n;
    rows = sum_rows_of(s);
    after = space.take(n * kAfterFloats);
    for (float** piece : {&kept, &value, &scaled}) *piece = space.take(n * kSteps * W);
    weight = space.take(kSteps * W);
    sums = space.take(blocks * kGroup * rows * W);
  }
  static int64_t sum_rows_of(const StatisticsArgs& s) {
    return s.scan.n * (kQuantities + (s.gram ? s.scan.n : 0));
  }
  static int64_t floats(const StatisticsArgs& s, int64_t blocks) {
    return s.scan.n * (4 * kSteps + 1) * W + kSteps * W + blocks * kGroup * sum_rows_of(s) * W;
  }
  float* sums_of(int64_t vector) const { return sums + vector * rows * W; }
};

// As `advance`, keeping what every step started from and what it kept of that.
template <int U>
SSMITH_INLINE void advance_kept(const ForwardTile& tile, const StatisticsTile& kept, int64_t v,
                                int64_t i, int64_t n, int64_t steps) {
  const float *dt = tile.dt + v * kSteps * W, *du = tile.du + v * kSteps * W;
  float* y = tile.y + v * kSteps * W;
  float *after = kept.after + i * kAfterFloats, *ah = kept.kept + i * kSteps * W;
  vf h[U], A[U], offset[U];
  for (int j = 0; j < U; ++j) {
    h[j] = load(tile.h + (v * n + i + j) * W);
    A[j] = load(tile.A + (v * n + i + j) * W);
    offset[j] = load(tile.offset + (v * n + i + j) * W);
    store(after + j * kAfterFloats, h[j]);
  }
  for (int64_t t = 0; t < steps; ++t) {
    vf d = load(dt + t * W), u = load(du + t * W), sum = load(y + t * W), held[U];
    for (int j = 0; j < U; ++j) {
      held[j] = decay(d, A[j]) * h[j];
      h[j] = held[j] + u * tile.B[t * n + i + j];
      sum += (h[j] + offset[j]) * tile.C[t * n + i + j];
    }
    for (int j = 0; j < U; ++j) {
      store(ah + (j * kSteps + t) * W, held[j]);
      store(after + j * kAfterFloats + (t + 1) * W, h[j]);
    }
    store(y + t * W, sum);
  }
  for (int j = 0; j < U; ++j) store(tile.h + (v * n + i + j) * W, h[j]);
}

// Where a quantity of one state lies, step after step, before the read-out.
SSMITH_INLINE const float* source(const StatisticsTile& kept, int64_t quantity, int64_t i) {
  const float* after = kept.after + i * kAfterFloats;
  if (quantity == kBefore) return after;
  return quantity == kAfter || quantity == kReadAfter ? after + W : kept.kept + i * kSteps * W;
}

SSMITH_INLINE bool is_read(int64_t quantity) {
  return quantity == kReadAfter || quantity == kReadKept;
}

template <int U>
SSMITH_INLINE void add_energy(const ForwardTile& tile, const StatisticsTile& kept, float* sums,
                              int64_t quantity, int64_t i, int64_t n, int64_t steps) {
  const bool read = is_read(quantity);
  const float* from[U];
  vf total[U];
  for (int j = 0; j < U; ++j) {
    from[j] = source(kept, quantity, i + j);
    total[j] = load(sums + j * W);
  }
  for (int64_t t = 0; t < steps; ++t) {
    const vf weight = load(kept.weight + t * W);
    for (int j = 0; j < U; ++j) {
      vf value = load(from[j] + t * W);
      if (read) value *= tile.C[t * n + i + j];
      total[j] += value * weight * value;
    }
  }
  for (int j = 0; j < U; ++j) store(sums + j * W, total[j]);
}

// One quantity of all states and steps of the chunk, and the same times its weight.
SSMITH_INLINE void evaluate(const ForwardTile& tile, const StatisticsTile& kept, int64_t quantity,
                            int64_t n, int64_t steps) {
  const bool read = is_read(quantity);
  for (int64_t i = 0; i < n; ++i) {
    const float* from = source(kept, quantity, i);
    for (int64_t t = 0; t < steps; ++t) {
      vf value = load(from + t * W), weight = load(kept.weight + t * W);
      if (read) value *= tile.C[t * n + i];
      store(kept.value + (i * kSteps + t) * W, value);
      store(kept.scaled + (i * kSteps + t) * W, value * weight);
    }
  }
}

// Products of U states with U others, over the steps of a chunk.
template <int U>
SSMITH_INLINE void add_products(const StatisticsTile& kept, float* sums, int64_t i, int64_t k,
                                int64_t n, int64_t steps) {
  const float *left = kept.value + i * kSteps * W, *right = kept.scaled + k * kSteps * W;
  vf total[U][U];
  for (int r = 0; r < U; ++r) {
    for (int c = 0; c < U; ++c) total[r][c] = load(sums + ((i + r) * n + k + c) * W);
  }
  for (int64_t t = 0; t < steps; ++t) {
    vf weighted[U];
    for (int c = 0; c < U; ++c) weighted[c] = load(right + (c * kSteps + t) * W);
    for (int r = 0; r < U; ++r) {
      const vf value = load(left + (r * kSteps + t) * W);
      for (int c = 0; c < U; ++c) total[r][c] += value * weighted[c];
    }
  }
  for (int r = 0; r < U; ++r) {
    for (int c = 0; c < U; ++c) store(sums + ((i + r) * n + k + c) * W, total[r][c]);
  }
}

SSMITH_INLINE void gather_products(const StatisticsArgs& s, const ForwardTile& tile,
                                   const StatisticsTile& kept, float* sums, int64_t steps) {
  const int64_t n = s.scan.n, whole = n / 4 * 4;
  evaluate(tile, kept, s.gram_of, n, steps);
  for (int64_t i = 0; i < whole; i += 4) {
    for (int64_t k = 0; k <= i; k += 4) add_products<4>(kept, sums, i, k, n, steps);
  }
  for (int64_t i = whole; i < n; ++i) {
    for (int64_t k = 0; k <= i; ++k) add_products<1>(kept, sums, i, k, n, steps);
  }
}

SSMITH_INLINE void gather_sums(const StatisticsArgs& s, const ForwardTile& tile,
                               const StatisticsTile& kept, int64_t vector, int64_t steps) {
  const int64_t n = s.scan.n;
  float* sums = kept.sums_of(vector);
  for (int64_t q = 0; q < kQuantities; ++q) {
    if (!s.energies[q]) continue;
    int64_t i = 0;
    for (; i + 4 <= n; i += 4) add_energy<4>(tile, kept, sums + (q * n + i) * W, q, i, n, steps);
    for (; i < n; ++i) add_energy<1>(tile, kept, sums + (q * n + i) * W, q, i, n, steps);
  }
  if (s.gram) gather_products(s, tile, kept, sums + kQuantities * n * W, steps);
}

SSMITH_INLINE void flush(double* to, float* from, int64_t lanes) {
  const vd sum = __builtin_convertvector(load(from), vd);
  for (int64_t lane = 0; lane < lanes; ++lane) to[lane] += sum[lane];
  store(from, vf{});
}

// The sums of one block, added to those of all steps and sequences.
SSMITH_INLINE void flush_block(const StatisticsArgs& s, const StatisticsTile& kept,
                               const Block& block, int64_t vector) {
  const int64_t n = s.scan.n, e = s.scan.e;
  for (int64_t v = 0; v < block.vectors; ++v) {
    float* sums = kept.sums_of(vector + v);
    const int64_t first = block.first + v * W, lanes = block.lanes(v);
    for (int64_t i = 0; i < n; ++i) {
      for (int64_t q = 0; q < kQuantities; ++q) {
        if (s.energies[q]) flush(s.energies[q] + i * e + first, sums + (q * n + i) * W, lanes);
      }
      for (int64_t k = 0; s.gram && k <= i; ++k) {
        flush(s.gram + (i * n + k) * e + first, sums + ((kQuantities + i) * n + k) * W, lanes);
      }
    }
  }
}

SSMITH_INLINE void statistics_block(const StatisticsArgs& s, const ForwardTile& tile,
                                    const StatisticsTile& kept, const Block& block, int64_t vector,
                                    int64_t b, int64_t t0, int64_t steps, const Ahead& next) {
  const ScanArgs& a = s.scan;
  load_chunk(a, tile, block, b, t0, steps);
  for (int64_t v = 0; v < block.vectors; ++v) {
    prefetch_channels(a, next, b, v, block.vectors);
    for (int64_t t = 0; t < steps; ++t) {
      vf gate = s.gated ? load(tile.gate + (v * kSteps + t) * W) : splat(1.f);
      store(kept.weight + t * W, gate * gate * s.weights[b * a.l + t0 + t]);
    }
    int64_t i = 0;
    for (; i + 4 <= a.n; i += 4) advance_kept<4>(tile, kept, v, i, a.n, steps);
    for (; i < a.n; ++i) advance_kept<1>(tile, kept, v, i, a.n, steps);
    gather_sums(s, tile, kept, vector + v, steps);
  }
  store_chunk(a, tile, block, b, t0, steps);
}

void statistics_run(const StatisticsArgs& s, int64_t first, int64_t last) {
  const ScanArgs& a = s.scan;
  const int64_t blocks = last - first, states = a.n * a.e;
  Workspace space(ForwardTile::floats(a, blocks) + StatisticsTile::floats(s, blocks));
  const ForwardTile run(space, a, blocks);
  const StatisticsTile kept(space, s, blocks);
  std::memset(kept.sums, 0, blocks * kGroup * kept.rows * W * sizeof(float));
  for (int64_t b = 0; b < a.b; ++b) {
    for (int64_t k = first; k < last; ++k) start_forward(a, run.at(k - first, a), Block(k, a.e), b);
    for (int64_t t0 = s.from; t0 < s.to; t0 += kSteps) {
      const int64_t steps = min64(kSteps, s.to - t0), after = t0 + steps;
      pack(run.B, a.B, b, t0, steps, a.n);
      pack(run.C, a.C, b, t0, steps, a.n);
      const bool full = (t0 - s.from) % kFlush == kFlush - kSteps || after == s.to;
      for (int64_t k = first; k < last; ++k) {
        const Block block(k, a.e);
        const int64_t vector = (k - first) * kGroup;
        const Ahead next =
            k + 1 < last ? Ahead{Block(k + 1, a.e), t0, steps}
                         : Ahead{Block(first, a.e), after, min64(kSteps, s.to - after)};
        statistics_block(s, run.at(k - first, a), kept, block, vector, b, t0, steps, next);
        if (full) flush_block(s, kept, block, vector);
      }
    }
    for (int64_t k = first; k < last; ++k) {
      store_states(a.h_last + b * states, run.at(k - first, a).h, Block(k, a.e), a.n, a.e);
    }
  }
}

// Threads share the channels only, so that no two of them add to the same sum.
void scan_statistics(const StatisticsArgs* args) {
  const StatisticsArgs& s = *args;
  const int64_t floats = ForwardTile::block_floats(s.scan) +
                         kGroup * StatisticsTile::sum_rows_of(s) * W;
  share_runs(1, s.scan.e, floats, s.scan.parts,
             [&](int64_t, int64_t, int64_t first, int64_t last) { statistics_run(s, first, last); });
}

}  // namespace
