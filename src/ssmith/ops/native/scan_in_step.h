// Selective scan, forward, with all sequences in step: per step and state Σ counted·h² before it and
// Σ Ā over the sequences. The first is handed out, or multiplied with the square of the second and
// summed over time.
#pragma once
#include "scan_statistics.h"

namespace {

struct InStepTile {
  float *square, *decay;  // [vector][n][t][W]: sums over sequences, of one block
  float* sums;            // [block][vector][n][W]
  InStepTile(Workspace& space, int64_t n, int64_t blocks) {
    for (float** piece : {&square, &decay}) *piece = space.take(kGroup * n * kSteps * W);
    sums = space.take(blocks * kGroup * n * W);
  }
  static int64_t floats(int64_t n, int64_t blocks) {
    return 2 * kGroup * n * kSteps * W + blocks * kGroup * n * W;
  }
};

// As `advance`, adding to the sums, which the first sequence starts.
template <int U, bool kFirst, bool kDecays>
SSMITH_INLINE void advance_in_step(const ForwardTile& tile, const InStepTile& sums,
                                   const float* counted, int64_t v, int64_t i, int64_t n,
                                   int64_t steps) {
  const float *dt = tile.dt + v * kSteps * W, *du = tile.du + v * kSteps * W;
  float* y = tile.y + v * kSteps * W;
  float* squares = sums.square + (v * n + i) * kSteps * W;
  float* decays = sums.decay + (v * n + i) * kSteps * W;
  vf h[U], A[U], offset[U];
  for (int j = 0; j < U; ++j) {
    h[j] = load(tile.h + (v * n + i + j) * W);
    A[j] = load(tile.A + (v * n + i + j) * W);
    offset[j] = load(tile.offset + (v * n + i + j) * W);
  }
  for (int64_t t = 0; t < steps; ++t) {
    vf d = load(dt + t * W), u = load(du + t * W), sum = load(y + t * W), kept[U], square[U];
    for (int j = 0; j < U; ++j) {
      const int64_t at = (j * kSteps + t) * W;
      const vf a = decay(d, A[j]);
      square[j] = counted[t] * h[j] * h[j];
      if (!kFirst) square[j] += load(squares + at);
      if (kDecays) kept[j] = kFirst ? a : a + load(decays + at);
      h[j] = a * h[j] + u * tile.B[t * n + i + j];
      sum += (h[j] + offset[j]) * tile.C[t * n + i + j];
    }
    for (int j = 0; j < U; ++j) {
      store(squares + (j * kSteps + t) * W, square[j]);
      if (kDecays) store(decays + (j * kSteps + t) * W, kept[j]);
    }
    store(y + t * W, sum);
  }
  for (int j = 0; j < U; ++j) store(tile.h + (v * n + i + j) * W, h[j]);
}

template <bool kFirst, bool kDecays>
SSMITH_INLINE void advance_vector(const ForwardTile& tile, const InStepTile& sums,
                                  const float* counted, int64_t v, int64_t n, int64_t steps) {
  int64_t i = 0;
  for (; i + 2 <= n; i += 2) {
    advance_in_step<2, kFirst, kDecays>(tile, sums, counted, v, i, n, steps);
  }
  for (; i < n; ++i) advance_in_step<1, kFirst, kDecays>(tile, sums, counted, v, i, n, steps);
}

// All sequences through one chunk of one block; their states are carried in h_last.
template <bool kDecays>
SSMITH_INLINE void in_step_block(const StatisticsArgs& s, const ForwardTile& tile,
                                 const InStepTile& sums, const Block& block, int64_t t0,
                                 int64_t steps) {
  const ScanArgs& a = s.scan;
  for (int64_t b = 0; b < a.b; ++b) {
    float* carried = a.h_last + b * a.n * a.e;
    const float* counted = s.counted + b * a.l + t0;
    load_states(tile.h, carried, block, a.n, a.e);
    pack(tile.B, a.B, b, t0, steps, a.n);
    pack(tile.C, a.C, b, t0, steps, a.n);
    load_chunk(a, tile, block, b, t0, steps);
    for (int64_t v = 0; v < block.vectors; ++v) {
      if (b == 0) advance_vector<true, kDecays>(tile, sums, counted, v, a.n, steps);
      else advance_vector<false, kDecays>(tile, sums, counted, v, a.n, steps);
    }
    store_chunk(a, tile, block, b, t0, steps);
    store_states(carried, tile.h, block, a.n, a.e);
  }
}

// Add the steps of a chunk to the sums of one block, and now and then those to double precision.
SSMITH_INLINE void multiply(const StatisticsArgs& s, const InStepTile& tile, float* sums,
                            const Block& block, int64_t t0, int64_t steps, bool full) {
  const int64_t n = s.scan.n;
  for (int64_t v = 0; v < block.vectors; ++v) {
    for (int64_t i = 0; i < n; ++i) {
      float* sum = sums + (v * n + i) * W;
      vf total = load(sum);
      for (int64_t t = 0; t < steps; ++t) {
        const int64_t at = ((v * n + i) * kSteps + t) * W;
        const vf a = load(tile.decay + at);
        total += s.step_weights[t0 + t] * a * a * load(tile.square + at);
      }
      store(sum, total);
      if (full) flush(s.apart + i * s.scan.e + block.first + v * W, sum, block.lanes(v));
    }
  }
}

SSMITH_INLINE void hand_out(const StatisticsArgs& s, const InStepTile& tile, const Block& block,
                            int64_t t0, int64_t steps) {
  const int64_t n = s.scan.n;
  for (int64_t t = 0; t < steps; ++t) {
    for (int64_t i = 0; i < n; ++i) {
      float* to = s.squares + ((t0 + t - s.from) * n + i) * s.scan.e + block.first;
      for (int64_t v = 0; v < block.vectors; ++v) {
        store_some(to + v * W, load(tile.square + ((v * n + i) * kSteps + t) * W), block.lanes(v));
      }
    }
  }
}

void in_step_run(const StatisticsArgs& s, int64_t first, int64_t last) {
  const ScanArgs& a = s.scan;
  const int64_t blocks = last - first, floats = kGroup * a.n * W;
  Workspace space(ForwardTile::floats(a.n, blocks) + InStepTile::floats(a.n, blocks));
  const ForwardTile run(space, a.n, blocks);
  const InStepTile sums(space, a.n, blocks);
  std::memset(sums.sums, 0, blocks * floats * sizeof(float));
  for (int64_t k = first; k < last; ++k) {
    const Block block(k, a.e);
    const ForwardTile tile = run.at(k - first, a.n);
    start_forward(a, tile, block, 0);
    // A call that goes on from the last one finds the states where they belong.
    for (int64_t b = 0; a.h0 != a.h_last && b < a.b; ++b) {
      load_states(tile.h, a.h0 ? a.h0 + b * a.n * a.e : nullptr, block, a.n, a.e);
      store_states(a.h_last + b * a.n * a.e, tile.h, block, a.n, a.e);
    }
  }
  for (int64_t t0 = s.from; t0 < s.to; t0 += kSteps) {
    const int64_t steps = min64(kSteps, s.to - t0);
    const bool full = (t0 - s.from) % kFlush == kFlush - kSteps || t0 + steps == s.to;
    for (int64_t k = first; k < last; ++k) {
      const Block block(k, a.e);
      const ForwardTile tile = run.at(k - first, a.n);
      if (!s.apart) {
        in_step_block<false>(s, tile, sums, block, t0, steps);
        hand_out(s, sums, block, t0, steps);
        continue;
      }
      in_step_block<true>(s, tile, sums, block, t0, steps);
      multiply(s, sums, sums.sums + (k - first) * floats, block, t0, steps, full);
    }
  }
}

// Threads share the channels only, as in `scan_statistics`.
void scan_in_step(const StatisticsArgs* args) {
  const StatisticsArgs& s = *args;
  const int64_t floats = ForwardTile::block_floats(s.scan.n) + kGroup * s.scan.n * W;
  share_runs(1, s.scan.e, floats, s.scan.parts,
             [&](int64_t, int64_t, int64_t first, int64_t last) { in_step_run(s, first, last); });
}

}  // namespace
