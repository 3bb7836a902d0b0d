// Selective scan, forward: channels in lanes, states in registers, time in chunks.
#pragma once
#include "workspace.h"

namespace {

// Steps that are worked on at a time: the tiles of one block stay in the first level cache.
constexpr int64_t kSteps = 16;
static_assert(kChunk % kSteps == 0, "states are kept at the border of some chunk");

struct ForwardTile {
  float *A, *offset, *h;  // [block][vector][n][W]; A in units of log 2
  float* dt_weight;       // [block][vector][r][W]
  float *dt, *du, *y, *gate;  // [vector][t][W]
  float *B, *C;           // [t][n]
  ForwardTile(Workspace& space, const ScanArgs& a, int64_t blocks) {
    const int64_t n = a.n;
    for (float** piece : {&A, &offset, &h}) *piece = space.take(blocks * kGroup * n * W);
    dt_weight = space.take(blocks * kGroup * a.r * W);
    for (float** piece : {&dt, &du, &y, &gate}) *piece = space.take(kGroup * kSteps * W);
    for (float** piece : {&B, &C}) *piece = space.take(whole_lines(kSteps * n));
  }
  static int64_t block_floats(const ScanArgs& a) { return kGroup * (3 * a.n + a.r) * W; }
  static int64_t floats(const ScanArgs& a, int64_t blocks) {
    return blocks * block_floats(a) + 4 * kGroup * kSteps * W + 2 * whole_lines(kSteps * a.n);
  }
  // The states of one block of the run.
  ForwardTile at(int64_t block, const ScanArgs& a) const {
    ForwardTile tile = *this;
    for (float** piece : {&tile.A, &tile.offset, &tile.h}) *piece += block * kGroup * a.n * W;
    tile.dt_weight += block * kGroup * a.r * W;
    return tile;
  }
};

// Run U states of one vector of channels through a chunk and add their read-out to y.
template <int U, bool kOffset>
SSMITH_INLINE void advance(const ForwardTile& tile, int64_t v, int64_t i, int64_t n,
                           int64_t steps) {
  const float *dt = tile.dt + v * kSteps * W, *du = tile.du + v * kSteps * W;
  float* y = tile.y + v * kSteps * W;
  const float *B = tile.B + i, *C = tile.C + i;
  float* states = tile.h + (v * n + i) * W;
  vf h[U], A[U], offset[U];
  for (int j = 0; j < U; ++j) {
    h[j] = load(states + j * W);
    A[j] = load(tile.A + (v * n + i + j) * W);
    if (kOffset) offset[j] = load(tile.offset + (v * n + i + j) * W);
  }
  for (int64_t t = 0; t < steps; ++t) {
    vf d = load(dt + t * W), u = load(du + t * W), sum = load(y + t * W);
    for (int j = 0; j < U; ++j) {
      h[j] = decay(d, A[j]) * h[j] + u * B[t * n + j];
      sum += (kOffset ? h[j] + offset[j] : h[j]) * C[t * n + j];
    }
    store(y + t * W, sum);
  }
  for (int j = 0; j < U; ++j) store(states + j * W, h[j]);
}

template <bool kOffset>
SSMITH_INLINE void advance_some(const ForwardTile& tile, int64_t v, int64_t i, int64_t n,
                                int64_t steps) {
  switch (n - i) {
    case 1: return advance<1, kOffset>(tile, v, i, n, steps);
    case 2: return advance<2, kOffset>(tile, v, i, n, steps);
    case 3: return advance<3, kOffset>(tile, v, i, n, steps);
    default: return advance<4, kOffset>(tile, v, i, n, steps);
  }
}

// Δ's logits of T steps from their low-rank form: each weight is loaded once for all of them.
template <int T>
SSMITH_INLINE void project_steps(const ScanArgs& a, const ForwardTile& tile, int64_t b, int64_t t0,
                                 int64_t t) {
  const float* ranks[T];
  for (int s = 0; s < T; ++s) ranks[s] = row(a.dt, b, t0 + t + s);
  vf sum[kGroup][T] = {};
  for (int64_t i = 0; i < a.r; ++i) {
    for (int64_t v = 0; v < kGroup; ++v) {
      const vf weight = load(tile.dt_weight + (v * a.r + i) * W);
      for (int s = 0; s < T; ++s) sum[v][s] += weight * ranks[s][i];
    }
  }
  for (int64_t v = 0; v < kGroup; ++v) {
    for (int s = 0; s < T; ++s) store(tile.dt + (v * kSteps + t + s) * W, sum[v][s]);
  }
}

SSMITH_INLINE void project_chunk(const ScanArgs& a, const ForwardTile& tile, int64_t b, int64_t t0,
                                 int64_t steps) {
  int64_t t = 0;
  for (; t + 4 <= steps; t += 4) project_steps<4>(a, tile, b, t0, t);
  for (; t < steps; ++t) project_steps<1>(a, tile, b, t0, t);
}

SSMITH_INLINE void load_chunk(const ScanArgs& a, const ForwardTile& tile, const Block& block,
                              int64_t b, int64_t t0, int64_t steps) {
  if (a.dt_weight) project_chunk(a, tile, b, t0, steps);
  for (int64_t t = 0; t < steps; ++t) {
    const float *x_row = row(a.x, b, t0 + t), *dt_row = row(a.dt, b, t0 + t);
    const float* z_row = a.z.data ? row(a.z, b, t0 + t) : nullptr;
    for (int64_t v = 0; v < block.vectors; ++v) {
      const int64_t at = (v * kSteps + t) * W, first = block.first + v * W, lanes = block.lanes(v);
      vf x = load_some(x_row + first, lanes);
      vf dt = a.dt_weight ? load(tile.dt + at) : load_some(dt_row + first, lanes);
      if (a.dt_bias) dt += load_some(a.dt_bias + first, lanes);
      if (a.softplus) dt = softplus(dt).value;
      store(tile.dt + at, bounded_step(dt));
      store(tile.du + at, dt * x);
      store(tile.y + at, skip(a, first, lanes, x));
      if (!z_row) continue;
      vf z = load_some(z_row + first, lanes);
      store(tile.gate + at, z * sigmoid(z));
    }
  }
}

SSMITH_INLINE void store_chunk(const ScanArgs& a, const ForwardTile& tile, const Block& block,
                               int64_t b, int64_t t0, int64_t steps) {
  if (!a.y) return;  // nobody asked for them
  const Output y(a.y, a.b * a.l * a.e);
  for (int64_t t = 0; t < steps; ++t) {
    const int64_t to = (b * a.l + t0 + t) * a.e + block.first;
    for (int64_t v = 0; v < block.vectors; ++v) {
      const int64_t at = (v * kSteps + t) * W;
      vf gate = a.z.data ? load(tile.gate + at) : splat(1.f);
      y.put(to + v * W, load(tile.y + at) * gate, block.lanes(v));
    }
  }
  y.finish();
}

// What a turn asks for of the rows that have all channels.
SSMITH_INLINE void prefetch_channels(const ScanArgs& a, const Ahead& next, int64_t b, int64_t turn,
                                     int64_t turns) {
  next.prefetch(a.x, b, turn, turns);
  next.prefetch(a.z, b, turn, turns);
  if (!a.dt_weight) next.prefetch(a.dt, b, turn, turns);
}

// One block through one chunk, while the rows of what comes next are on their way.
SSMITH_INLINE void forward_block(const ScanArgs& a, const ForwardTile& tile, const Block& block,
                                 int64_t b, int64_t t0, int64_t steps, const Ahead& next) {
  const int64_t fours = (a.n + 3) / 4, turns = block.vectors * fours;
  load_chunk(a, tile, block, b, t0, steps);
  for (int64_t turn = 0; turn < turns; ++turn) {
    prefetch_channels(a, next, b, turn, turns);
    const int64_t v = turn / fours, i = turn % fours * 4;
    if (a.h_offset) advance_some<true>(tile, v, i, a.n, steps);
    else advance_some<false>(tile, v, i, a.n, steps);
  }
  store_chunk(a, tile, block, b, t0, steps);
}

// Rows of dt_weight as vectors [vector][r]. What the last block lacks is zero: it is worked out, too,
// and read by nobody.
SSMITH_INLINE void load_dt_weight(float* to, const ScanArgs& a, const Block& block) {
  std::memset(to, 0, kGroup * a.r * W * sizeof(float));
  for (int64_t channel = 0; a.dt_weight && channel < block.channels; ++channel) {
    const float* from = a.dt_weight + (block.first + channel) * a.r;
    float* lane = to + channel / W * a.r * W + channel % W;
    for (int64_t i = 0; i < a.r; ++i) lane[i * W] = from[i];
  }
}

SSMITH_INLINE void start_forward(const ScanArgs& a, const ForwardTile& tile, const Block& block,
                                 int64_t b) {
  load_rates(tile.A, a.A, block, a.n, a.e);
  load_states(tile.offset, a.h_offset, block, a.n, a.e);
  load_dt_weight(tile.dt_weight, a, block);
  load_states(tile.h, a.h0 ? a.h0 + b * a.n * a.e : nullptr, block, a.n, a.e);
}

void scan_forward_run(const ScanArgs& a, int64_t b, int64_t first, int64_t last) {
  Workspace space(ForwardTile::floats(a, last - first));
  const ForwardTile run(space, a, last - first);
  const int64_t chunks = (a.l + kChunk - 1) / kChunk, states = a.n * a.e;
  for (int64_t k = first; k < last; ++k) {
    start_forward(a, run.at(k - first, a), Block(k, a.e), b);
  }
  for (int64_t t0 = 0; t0 < a.l; t0 += kSteps) {
    const int64_t steps = min64(kSteps, a.l - t0), after = t0 + steps;
    pack(run.B, a.B, b, t0, steps, a.n);
    pack(run.C, a.C, b, t0, steps, a.n);
    for (int64_t k = first; k < last; ++k) {
      const Block block(k, a.e);
      const ForwardTile tile = run.at(k - first, a);
      if (a.bounds && t0 % kChunk == 0) {
        store_states(a.bounds + (b * chunks + t0 / kChunk) * states, tile.h, block, a.n, a.e);
      }
      const Ahead next = k + 1 < last ? Ahead{Block(k + 1, a.e), t0, steps}
                                      : Ahead{Block(first, a.e), after, min64(kSteps, a.l - after)};
      forward_block(a, tile, block, b, t0, steps, next);
    }
  }
  for (int64_t k = first; k < last; ++k) {
    store_states(a.h_last + b * states, run.at(k - first, a).h, Block(k, a.e), a.n, a.e);
  }
}

void scan_forward(const ScanArgs* args) {
  const ScanArgs& a = *args;
  share_runs(a.b, a.e, ForwardTile::block_floats(a), a.parts,
             [&](int64_t, int64_t b, int64_t first, int64_t last) {
               scan_forward_run(a, b, first, last);
             });
}

}  // namespace
