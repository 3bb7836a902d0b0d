// Selective scan, forward, with all sequences in step: per step and state Σ counted·h² before it and
// Σ Ā over the sequences. The first is handed out, or multiplied with the square of the second and
// summed over time.
#pragma once
#include "scan_statistics.h"

namespace {

// What a block needs of all sequences at once.
struct InStepTile {
  float *dt, *du, *y, *gate;  // [sequence][vector][t][W]
  float *B, *C;               // [sequence][t][n]
  float* h;                   // [sequence][state of four][W]
  float* square;              // [vector][n][t][W]: sums over sequences
  float* sums;                // [block][vector][n][W]: sums over time
  InStepTile(Workspace& space, int64_t b, int64_t n, int64_t blocks) {
    for (float** piece : {&dt, &du, &y, &gate}) *piece = space.take(b * kGroup * kSteps * W);
    for (float** piece : {&B, &C}) *piece = space.take(b * whole_lines(kSteps * n));
    h = space.take(b * 4 * W);
    square = space.take(kGroup * n * kSteps * W);
    sums = space.take(blocks * kGroup * n * W);
  }
  static int64_t floats(int64_t b, int64_t n, int64_t blocks) {
    return b * (4 * kGroup * kSteps * W + 2 * whole_lines(kSteps * n) + 4 * W) +
           kGroup * n * kSteps * W + blocks * kGroup * n * W;
  }
  // Where `load_chunk` and `store_chunk` find one sequence.
  ForwardTile of(const ForwardTile& tile, int64_t b, int64_t n) const {
    ForwardTile own = tile;
    const int64_t at = b * kGroup * kSteps * W, line = b * whole_lines(kSteps * n);
    own.dt = dt + at, own.du = du + at, own.y = y + at, own.gate = gate + at;
    own.B = B + line, own.C = C + line;
    return own;
  }
};

// U states of one vector of channels, of all sequences, through a chunk: the sums over sequences stay
// in registers. States are carried in h_last.
template <int U, bool kApart, bool kOutputs>
SSMITH_INLINE void advance_in_step(const StatisticsArgs& s, const ForwardTile& tile,
                                   const InStepTile& all, float* sums, const Block& block,
                                   int64_t v, int64_t i, int64_t t0, int64_t steps) {
  const ScanArgs& a = s.scan;
  const int64_t n = a.n, lanes = block.lanes(v), line = whole_lines(kSteps * n);
  const int64_t chunk = kGroup * kSteps * W;
  const float *dt = all.dt + v * kSteps * W, *du = all.du + v * kSteps * W;
  float *y = all.y + v * kSteps * W, *squares = all.square + (v * n + i) * kSteps * W;
  float* carried = a.h_last + i * a.e + block.first + v * W;
  vf A[U], offset[U], total[U];
  for (int j = 0; j < U; ++j) {
    A[j] = load(tile.A + (v * n + i + j) * W);
    offset[j] = load(tile.offset + (v * n + i + j) * W);
    total[j] = load(sums + (v * n + i + j) * W);
    for (int64_t b = 0; b < a.b; ++b) {
      store(all.h + (b * 4 + j) * W, load_some(carried + (b * n + j) * a.e, lanes));
    }
  }
  for (int64_t t = 0; t < steps; ++t) {
    vf square[U] = {}, kept[U] = {};
    for (int64_t b = 0; b < a.b; ++b) {
      const int64_t at = b * chunk + t * W, row = b * line + t * n + i;
      const vf d = load(dt + at), u = load(du + at), counted = splat(s.counted[b * a.l + t0 + t]);
      vf sum{};
      for (int j = 0; j < U; ++j) {
        float* state = all.h + (b * 4 + j) * W;
        const vf h = load(state), a_bar = decay(d, A[j]), next = a_bar * h + u * all.B[row + j];
        square[j] += counted * h * h;
        if (kApart) kept[j] += a_bar;
        if (kOutputs) sum += (next + offset[j]) * all.C[row + j];
        store(state, next);
      }
      if (kOutputs) add_to(y + at, sum);
    }
    for (int j = 0; j < U; ++j) {
      if (kApart) total[j] += s.step_weights[t0 + t] * kept[j] * kept[j] * square[j];
      else store(squares + (j * kSteps + t) * W, square[j]);
    }
  }
  for (int j = 0; j < U; ++j) {
    store(sums + (v * n + i + j) * W, total[j]);
    for (int64_t b = 0; b < a.b; ++b) {
      store_some(carried + (b * n + j) * a.e, load(all.h + (b * 4 + j) * W), lanes);
    }
  }
}

// One block through one chunk, while the rows of what comes next are on their way.
template <bool kApart, bool kOutputs>
SSMITH_INLINE void in_step_block(const StatisticsArgs& s, const ScanArgs& a, const ForwardTile& tile,
                                 const InStepTile& all, float* sums, const Block& block, int64_t t0,
                                 int64_t steps, const Ahead& next) {
  const int64_t n = a.n, fours = (n + 3) / 4, turns = block.vectors * fours;
  for (int64_t turn = 0; turn < turns; ++turn) {
    for (int64_t b = 0; b < a.b; ++b) prefetch_channels(a, next, b, turn, turns);
    const int64_t v = turn / fours, first = turn % fours * 4;
    if (first + 4 <= n) {
      advance_in_step<4, kApart, kOutputs>(s, tile, all, sums, block, v, first, t0, steps);
      continue;
    }
    for (int64_t i = first; i < n; ++i) {
      advance_in_step<1, kApart, kOutputs>(s, tile, all, sums, block, v, i, t0, steps);
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

// All sequences through one chunk of one block.
SSMITH_INLINE void in_step_chunk(const StatisticsArgs& s, const ScanArgs& a, const ForwardTile& tile,
                                 const InStepTile& all, float* sums, const Block& block, int64_t t0,
                                 int64_t steps, const Ahead& next) {
  for (int64_t b = 0; b < a.b; ++b) {
    const ForwardTile own = all.of(tile, b, a.n);
    pack(own.B, a.B, b, t0, steps, a.n);
    pack(own.C, a.C, b, t0, steps, a.n);
    load_chunk(a, own, block, b, t0, steps);
  }
  if (s.apart && a.y) in_step_block<true, true>(s, a, tile, all, sums, block, t0, steps, next);
  else if (s.apart) in_step_block<true, false>(s, a, tile, all, sums, block, t0, steps, next);
  else if (a.y) in_step_block<false, true>(s, a, tile, all, sums, block, t0, steps, next);
  else in_step_block<false, false>(s, a, tile, all, sums, block, t0, steps, next);
  for (int64_t b = 0; b < a.b; ++b) store_chunk(a, all.of(tile, b, a.n), block, b, t0, steps);
  if (!s.apart) hand_out(s, all, block, t0, steps);
}

SSMITH_INLINE void flush_apart(const StatisticsArgs& s, float* sums, const Block& block) {
  const int64_t n = s.scan.n;
  for (int64_t v = 0; v < block.vectors; ++v) {
    for (int64_t i = 0; i < n; ++i) {
      double* to = s.apart + i * s.scan.e + block.first + v * W;
      flush(to, sums + (v * n + i) * W, block.lanes(v));
    }
  }
}

void in_step_run(const StatisticsArgs& s, int64_t first, int64_t last) {
  ScanArgs a = s.scan;
  if (!a.y) a.z.data = nullptr;  // the gate is for the outputs
  const int64_t blocks = last - first, floats = kGroup * a.n * W;
  Workspace space(ForwardTile::floats(a, blocks) + InStepTile::floats(a.b, a.n, blocks));
  const ForwardTile run(space, a, blocks);
  const InStepTile all(space, a.b, a.n, blocks);
  std::memset(all.sums, 0, blocks * floats * sizeof(float));
  for (int64_t k = first; k < last; ++k) {
    const Block block(k, a.e);
    const ForwardTile tile = run.at(k - first, a);
    start_forward(a, tile, block, 0);
    // A call that goes on from the last one finds the states where they belong.
    for (int64_t b = 0; a.h0 != a.h_last && b < a.b; ++b) {
      load_states(tile.h, a.h0 ? a.h0 + b * a.n * a.e : nullptr, block, a.n, a.e);
      store_states(a.h_last + b * a.n * a.e, tile.h, block, a.n, a.e);
    }
  }
  for (int64_t t0 = s.from; t0 < s.to; t0 += kSteps) {
    const int64_t steps = min64(kSteps, s.to - t0), after = t0 + steps;
    const bool full = (t0 - s.from) % kFlush == kFlush - kSteps || after == s.to;
    for (int64_t k = first; k < last; ++k) {
      const Block block(k, a.e);
      float* sums = all.sums + (k - first) * floats;
      const Ahead next = k + 1 < last ? Ahead{Block(k + 1, a.e), t0, steps}
                                      : Ahead{Block(first, a.e), after, min64(kSteps, s.to - after)};
      in_step_chunk(s, a, run.at(k - first, a), all, sums, block, t0, steps, next);
      if (s.apart && full) flush_apart(s, sums, block);
    }
  }
}

// Threads share the channels only, as in `scan_statistics`.
void scan_in_step(const StatisticsArgs* args) {
  const StatisticsArgs& s = *args;
  const int64_t floats = ForwardTile::block_floats(s.scan) + kGroup * s.scan.n * W;
  share_runs(1, s.scan.e, floats, s.scan.parts,
             [&](int64_t, int64_t, int64_t first, int64_t last) { in_step_run(s, first, last); });
}

}  // namespace
