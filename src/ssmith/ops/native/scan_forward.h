// Selective scan, forward: channels in lanes, states in registers, time in chunks.
#pragma once
#include "workspace.h"

namespace {

struct ForwardTile {
  float *A, *offset, *h;  // [vector][n][W]; A in units of log 2
  float *dt, *du, *y;     // [vector][t][W]
  float *B, *C;           // [t][n]
  explicit ForwardTile(Workspace& space, int64_t n) {
    for (float** piece : {&A, &offset, &h}) *piece = space.take(kGroup * n * W);
    for (float** piece : {&dt, &du, &y}) *piece = space.take(kGroup * kChunk * W);
    for (float** piece : {&B, &C}) *piece = space.take(whole_lines(kChunk * n));
  }
  static int64_t floats(int64_t n) {
    return 3 * kGroup * (n + kChunk) * W + 2 * whole_lines(kChunk * n);
  }
};

// Run U states of one vector of channels through a chunk and add their read-out to y.
template <int U, bool kOffset>
SSMITH_INLINE void advance(const ForwardTile& tile, int64_t v, int64_t i, int64_t n,
                           int64_t steps) {
  const float *dt = tile.dt + v * kChunk * W, *du = tile.du + v * kChunk * W;
  float* y = tile.y + v * kChunk * W;
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
      h[j] = exp2v(d * A[j]) * h[j] + u * B[t * n + j];
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

SSMITH_INLINE void load_chunk(const ScanArgs& a, const ForwardTile& tile, const Block& block,
                              int64_t b, int64_t t0, int64_t steps) {
  pack(tile.B, a.B, b, t0, steps, a.n);
  pack(tile.C, a.C, b, t0, steps, a.n);
  for (int64_t v = 0; v < block.vectors; ++v) {
    const int64_t first = block.first + v * W, lanes = block.lanes(v);
    vf bias = a.dt_bias ? load_some(a.dt_bias + first, lanes) : vf{};
    vf D = a.D ? load_some(a.D + first, lanes) : vf{};
    for (int64_t t = 0; t < steps; ++t) {
      vf x = load_some(row(a.x, b, t0 + t) + first, lanes);
      vf dt = load_some(row(a.dt, b, t0 + t) + first, lanes) + bias;
      if (a.softplus) dt = softplus(dt).value;
      const int64_t at = (v * kChunk + t) * W;
      store(tile.dt + at, dt);
      store(tile.du + at, dt * x);
      store(tile.y + at, D * x);
    }
  }
}

SSMITH_INLINE void store_chunk(const ScanArgs& a, const ForwardTile& tile, const Block& block,
                               int64_t b, int64_t t0, int64_t steps) {
  for (int64_t v = 0; v < block.vectors; ++v) {
    const int64_t first = block.first + v * W, lanes = block.lanes(v);
    for (int64_t t = 0; t < steps; ++t) {
      vf y = load(tile.y + (v * kChunk + t) * W);
      if (a.z.data) {
        vf z = load_some(row(a.z, b, t0 + t) + first, lanes);
        y *= z * sigmoid(z);
      }
      store_some(a.y + (b * a.l + t0 + t) * a.e + first, y, lanes);
    }
  }
}

void scan_forward_task(const ScanArgs& a, const ForwardTile& tile, const Block& block, int64_t b) {
  const int64_t chunks = (a.l + kChunk - 1) / kChunk;
  load_states(tile.A, a.A, block, a.n, a.e, kLog2e);
  load_states(tile.offset, a.h_offset, block, a.n, a.e, 1.f);
  load_states(tile.h, a.h0 ? a.h0 + b * a.n * a.e : nullptr, block, a.n, a.e, 1.f);
  const int64_t fours = (a.n + 3) / 4, turns = block.vectors * fours;
  for (int64_t chunk = 0; chunk < chunks; ++chunk) {
    const int64_t t0 = chunk * kChunk, steps = min64(kChunk, a.l - t0);
    const int64_t next = t0 + steps, ahead = min64(kChunk, a.l - next);
    if (a.bounds) {
      store_states(a.bounds + (b * chunks + chunk) * a.n * a.e, tile.h, block, a.n, a.e);
    }
    load_chunk(a, tile, block, b, t0, steps);
    for (int64_t turn = 0; turn < turns; ++turn) {
      const int64_t from = next + ahead * turn / turns, to = next + ahead * (turn + 1) / turns;
      for (const Rows* rows : {&a.x, &a.dt, &a.z}) prefetch_rows(*rows, b, block, from, to);
      const int64_t v = turn / fours, i = turn % fours * 4;
      if (a.h_offset) advance_some<true>(tile, v, i, a.n, steps);
      else advance_some<false>(tile, v, i, a.n, steps);
    }
    store_chunk(a, tile, block, b, t0, steps);
  }
  store_states(a.h_last + b * a.n * a.e, tile.h, block, a.n, a.e);
}

void scan_forward(const ScanArgs* args) {
  const ScanArgs& a = *args;
  const int64_t blocks = Block::count(a.e);
  share(a.b * blocks, a.parts, [&](int64_t, int64_t first, int64_t last) {
    Workspace space(ForwardTile::floats(a.n));
    ForwardTile tile(space, a.n);
    for (int64_t task = first; task < last; ++task) {
      scan_forward_task(a, tile, Block(task % blocks, a.e), task / blocks);
    }
  });
}

}  // namespace
