// Selective scan, forward, with sums over time and sequences of what its states do.
#pragma once
#include "scan_forward.h"

namespace {

// Sums are taken in single precision over this many steps, and then added to double precision.
constexpr int64_t kFlush = 256;
static_assert(kFlush % kSteps == 0, "sums are flushed between chunks");

typedef double vd __attribute__((vector_size(8 * SSMITH_LANES), aligned(8), may_alias));

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
    after = space.take(n * (kSteps + 1) * W);
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

// As `advance`, for all states of one vector, keeping what every step started from and kept.
SSMITH_INLINE void advance_kept(const ForwardTile& tile, const StatisticsTile& kept, int64_t v,
                                int64_t n, int64_t steps) {
  const float *dt = tile.dt + v * kSteps * W, *du = tile.du + v * kSteps * W;
  float* y = tile.y + v * kSteps * W;
  for (int64_t i = 0; i < n; ++i) {
    float *after = kept.after + i * (kSteps + 1) * W, *ah = kept.kept + i * kSteps * W;
    const vf A = load(tile.A + (v * n + i) * W), offset = load(tile.offset + (v * n + i) * W);
    vf h = load(tile.h + (v * n + i) * W);
    store(after, h);
    for (int64_t t = 0; t < steps; ++t) {
      vf held = decay(load(dt + t * W), A) * h;
      h = held + load(du + t * W) * tile.B[t * n + i];
      vf sum = load(y + t * W) + (h + offset) * tile.C[t * n + i];
      store(ah + t * W, held);
      store(after + (t + 1) * W, h);
      store(y + t * W, sum);
    }
    store(tile.h + (v * n + i) * W, h);
  }
}

// One quantity of all states and steps of the chunk, and the same times its weight.
SSMITH_INLINE void evaluate(const ForwardTile& tile, const StatisticsTile& kept, int64_t quantity,
                            int64_t n, int64_t steps) {
  const bool read = quantity == kReadAfter || quantity == kReadKept;
  for (int64_t i = 0; i < n; ++i) {
    const float* after = kept.after + i * (kSteps + 1) * W;
    const float* from = quantity == kBefore ? after
                        : quantity == kAfter || quantity == kReadAfter ? after + W
                                                                       : kept.kept + i * kSteps * W;
    for (int64_t t = 0; t < steps; ++t) {
      const int64_t at = (i * kSteps + t) * W;
      vf value = load(from + t * W) * (read ? tile.C[t * n + i] : 1.f);
      store(kept.value + at, value);
      store(kept.scaled + at, value * load(kept.weight + t * W));
    }
  }
}

SSMITH_INLINE void add_products(const StatisticsTile& kept, float* sum, int64_t i, int64_t k,
                                int64_t steps) {
  vf total = load(sum);
  for (int64_t t = 0; t < steps; ++t) {
    total += load(kept.value + (i * kSteps + t) * W) * load(kept.scaled + (k * kSteps + t) * W);
  }
  store(sum, total);
}

SSMITH_INLINE void gather_sums(const StatisticsArgs& s, const ForwardTile& tile,
                               const StatisticsTile& kept, int64_t vector, int64_t steps) {
  const int64_t n = s.scan.n;
  float* sums = kept.sums_of(vector);
  for (int64_t quantity = 0; quantity < kQuantities; ++quantity) {
    const bool products = s.gram && s.gram_of == quantity;
    if (!s.energies[quantity] && !products) continue;
    evaluate(tile, kept, quantity, n, steps);
    for (int64_t i = 0; i < n; ++i) {
      add_products(kept, sums + (quantity * n + i) * W, i, i, steps);
      for (int64_t k = 0; products && k <= i; ++k) {
        add_products(kept, sums + ((kQuantities + i) * n + k) * W, i, k, steps);
      }
    }
  }
}

// Per step, added up over sequences: weight·h² before it, and Ā.
SSMITH_INLINE void add_steps(const StatisticsArgs& s, const ForwardTile& tile,
                             const StatisticsTile& kept, const Block& block, int64_t b, int64_t v,
                             int64_t t0, int64_t steps) {
  const ScanArgs& a = s.scan;
  const int64_t first = block.first + v * W, lanes = block.lanes(v);
  for (int64_t t = 0; t < steps; ++t) {
    const vf counted = splat(s.counted[b * a.l + t0 + t]), d = load(tile.dt + (v * kSteps + t) * W);
    for (int64_t i = 0; i < a.n; ++i) {
      const int64_t at = ((t0 + t - s.from) * a.n + i) * a.e + first;
      vf h = load(kept.after + (i * (kSteps + 1) + t) * W);
      vf a_bar = decay(d, load(tile.A + (v * a.n + i) * W));
      store_some(s.squares + at, load_some(s.squares + at, lanes) + counted * h * h, lanes);
      store_some(s.decays + at, load_some(s.decays + at, lanes) + a_bar, lanes);
    }
  }
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
                                    int64_t b, int64_t t0, int64_t steps) {
  const ScanArgs& a = s.scan;
  load_chunk(a, tile, block, b, t0, steps);
  for (int64_t v = 0; v < block.vectors; ++v) {
    for (int64_t t = 0; t < steps; ++t) {
      vf gate = s.gated ? load(tile.gate + (v * kSteps + t) * W) : splat(1.f);
      store(kept.weight + t * W, gate * gate * s.weights[b * a.l + t0 + t]);
    }
    advance_kept(tile, kept, v, a.n, steps);
    gather_sums(s, tile, kept, vector + v, steps);
    if (s.squares) add_steps(s, tile, kept, block, b, v, t0, steps);
  }
  store_chunk(a, tile, block, b, t0, steps);
}

void statistics_run(const StatisticsArgs& s, int64_t first, int64_t last) {
  const ScanArgs& a = s.scan;
  const int64_t blocks = last - first, states = a.n * a.e;
  Workspace space(ForwardTile::floats(a.n, blocks) + StatisticsTile::floats(s, blocks));
  const ForwardTile run(space, a.n, blocks);
  const StatisticsTile kept(space, s, blocks);
  std::memset(kept.sums, 0, blocks * kGroup * kept.rows * W * sizeof(float));
  for (int64_t b = 0; b < a.b; ++b) {
    for (int64_t k = first; k < last; ++k) start_forward(a, run.at(k - first, a.n), Block(k, a.e), b);
    for (int64_t t0 = s.from; t0 < s.to; t0 += kSteps) {
      const int64_t steps = min64(kSteps, s.to - t0);
      pack(run.B, a.B, b, t0, steps, a.n);
      pack(run.C, a.C, b, t0, steps, a.n);
      const bool full = (t0 - s.from) % kFlush == kFlush - kSteps || t0 + steps == s.to;
      for (int64_t k = first; k < last; ++k) {
        const Block block(k, a.e);
        const int64_t vector = (k - first) * kGroup;
        statistics_block(s, run.at(k - first, a.n), kept, block, vector, b, t0, steps);
        if (full) flush_block(s, kept, block, vector);
      }
    }
    for (int64_t k = first; k < last; ++k) {
      store_states(a.h_last + b * states, run.at(k - first, a.n).h, Block(k, a.e), a.n, a.e);
    }
  }
}

// Threads share the channels only, so that no two of them add to the same sum.
void scan_statistics(const StatisticsArgs* args) {
  const StatisticsArgs& s = *args;
  const int64_t floats = ForwardTile::block_floats(s.scan.n) +
                         kGroup * StatisticsTile::sum_rows_of(s) * W;
  share_runs(1, s.scan.e, floats, s.scan.parts,
             [&](int64_t, int64_t, int64_t first, int64_t last) { statistics_run(s, first, last); });
}

}  // namespace
