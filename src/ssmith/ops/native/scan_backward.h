// Selective scan, backward: from the last chunk to the first, each chunk's states recomputed from
// the state at its boundary.
#pragma once
#include "workspace.h"

namespace {

struct BackwardTile {
  float *A, *offset, *carry, *dA, *doffset;             // [vector][n][W]; A in units of log 2
  float *dt, *slope, *x, *du, *dy, *y, *ddt, *ddu;      // [vector][t][W]
  float *a, *h;                                         // [state of two][t][W], one vector
  float *sumB, *sumC;                                   // [state of two][t][W], over vectors
  float *B, *C;                                         // [t][n]
  explicit BackwardTile(Workspace& space, int64_t n) {
    for (float** piece : {&A, &offset, &carry, &dA, &doffset}) *piece = space.take(kGroup * n * W);
    for (float** piece : {&dt, &slope, &x, &du, &dy, &y, &ddt, &ddu}) {
      *piece = space.take(kGroup * kChunk * W);
    }
    for (float** piece : {&a, &h, &sumB, &sumC}) *piece = space.take(2 * kChunk * W);
    for (float** piece : {&B, &C}) *piece = space.take(whole_lines(kChunk * n));
  }
  static int64_t floats(int64_t n) {
    return kGroup * W * (5 * n + 8 * kChunk) + 8 * kChunk * W + 2 * whole_lines(kChunk * n);
  }
};

// Recompute U states of one vector through a chunk: Ā and h of every step, and C·h into y.
template <int U, bool kOffset>
SSMITH_INLINE void recompute(const BackwardTile& tile, const vf* h_first, int64_t v, int64_t i,
                             int64_t n, int64_t steps) {
  const float *dt = tile.dt + v * kChunk * W, *du = tile.du + v * kChunk * W;
  float* y = tile.y + v * kChunk * W;
  const float *B = tile.B + i, *C = tile.C + i;
  vf h[U], A[U], offset[U];
  for (int j = 0; j < U; ++j) {
    h[j] = h_first[j];
    A[j] = load(tile.A + (v * n + i + j) * W);
    if (kOffset) offset[j] = load(tile.offset + (v * n + i + j) * W);
  }
  for (int64_t t = 0; t < steps; ++t) {
    vf d = load(dt + t * W), u = load(du + t * W), sum = load(y + t * W);
    for (int j = 0; j < U; ++j) {
      vf a = exp2v(d * A[j]);
      h[j] = a * h[j] + u * B[t * n + j];
      store(tile.a + (j * kChunk + t) * W, a);
      store(tile.h + (j * kChunk + t) * W, h[j]);
      sum += (kOffset ? h[j] + offset[j] : h[j]) * C[t * n + j];
    }
    store(y + t * W, sum);
  }
}

// The adjoint of `recompute`, from the last step to the first.
template <int U, bool kOffset>
SSMITH_INLINE void adjoint(const BackwardTile& tile, const vf* h_first, int64_t v, int64_t i,
                           int64_t n, int64_t steps) {
  const float *dt = tile.dt + v * kChunk * W, *du = tile.du + v * kChunk * W;
  const float* dy = tile.dy + v * kChunk * W;
  float *ddt = tile.ddt + v * kChunk * W, *ddu = tile.ddu + v * kChunk * W;
  const float *B = tile.B + i, *C = tile.C + i;
  float *carry = tile.carry + (v * n + i) * W, *dA_at = tile.dA + (v * n + i) * W;
  float* doffset_at = tile.doffset + (v * n + i) * W;
  vf g[U], A[U], dA[U], offset[U], doffset[U];
  for (int j = 0; j < U; ++j) {
    g[j] = load(carry + j * W);
    A[j] = load(tile.A + (v * n + i + j) * W);
    dA[j] = load(dA_at + j * W);
    if (kOffset) {
      offset[j] = load(tile.offset + (v * n + i + j) * W);
      doffset[j] = load(doffset_at + j * W);
    }
  }
  const bool first_vector = v == 0;
  for (int64_t t = steps - 1; t >= 0; --t) {
    vf d = load(dt + t * W), u = load(du + t * W), out = load(dy + t * W);
    vf into_dt = load(ddt + t * W), into_u = load(ddu + t * W);
    for (int j = 0; j < U; ++j) {
      const int64_t at = (j * kChunk + t) * W;
      vf a = load(tile.a + at), h = load(tile.h + at);
      vf before = t ? load(tile.h + at - W) : h_first[j];
      vf c = splat(C[t * n + j]);
      g[j] += out * c;
      if (kOffset) doffset[j] += out * c;
      vf sumC = out * (kOffset ? h + offset[j] : h), sumB = g[j] * u;
      if (!first_vector) {
        sumC += load(tile.sumC + at);
        sumB += load(tile.sumB + at);
      }
      store(tile.sumC + at, sumC);
      store(tile.sumB + at, sumB);
      into_u += g[j] * B[t * n + j];
      g[j] *= a;
      vf w = g[j] * before;
      dA[j] += w * d;
      into_dt += w * A[j];
    }
    store(ddt + t * W, into_dt);
    store(ddu + t * W, into_u);
  }
  for (int j = 0; j < U; ++j) {
    store(carry + j * W, g[j]);
    store(dA_at + j * W, dA[j]);
    if (kOffset) store(doffset_at + j * W, doffset[j]);
  }
}

template <bool kOffset>
SSMITH_INLINE void both_passes(const ScanArgs& a, const BackwardTile& tile, const Block& block,
                               const float* bounds, int64_t v, int64_t i, int64_t steps) {
  const int64_t states = min64(2, a.n - i);
  vf h_first[2];
  for (int64_t j = 0; j < states; ++j) {
    h_first[j] = load_some(bounds + (i + j) * a.e + block.first + v * W, block.lanes(v));
  }
  if (states == 2) {
    recompute<2, kOffset>(tile, h_first, v, i, a.n, steps);
    adjoint<2, kOffset>(tile, h_first, v, i, a.n, steps);
  } else {
    recompute<1, kOffset>(tile, h_first, v, i, a.n, steps);
    adjoint<1, kOffset>(tile, h_first, v, i, a.n, steps);
  }
}

// Sum the lanes of every step and add them to a row over time.
SSMITH_INLINE void add_lane_sums(float* to, float* sums, int64_t steps) {
  for (int64_t t = steps; t % W; ++t) store(sums + t * W, vf{});
  for (int64_t t = 0; t < steps; t += W) {
    vf rows[W];
    for (int64_t k = 0; k < W; ++k) rows[k] = load(sums + (t + k) * W);
    const int64_t count = min64(W, steps - t);
    store_some(to + t, load_some(to + t, count) + sum_rows(rows), count);
  }
}

SSMITH_INLINE void load_back(const ScanArgs& a, const BackwardTile& tile, const Block& block,
                             int64_t b, int64_t t0, int64_t steps) {
  pack(tile.B, a.B, b, t0, steps, a.n);
  pack(tile.C, a.C, b, t0, steps, a.n);
  for (int64_t v = 0; v < block.vectors; ++v) {
    const int64_t first = block.first + v * W, lanes = block.lanes(v);
    vf bias = a.dt_bias ? load_some(a.dt_bias + first, lanes) : vf{};
    vf D = a.D ? load_some(a.D + first, lanes) : vf{};
    for (int64_t t = 0; t < steps; ++t) {
      const int64_t at = (v * kChunk + t) * W;
      vf x = load_some(row(a.x, b, t0 + t) + first, lanes);
      Softplus dt{load_some(row(a.dt, b, t0 + t) + first, lanes) + bias, splat(1.f)};
      if (a.softplus) dt = softplus(dt.value);
      vf dy = load_some(row(a.dy, b, t0 + t) + first, lanes);
      if (a.z.data) {
        vf z = load_some(row(a.z, b, t0 + t) + first, lanes);
        dy *= z * sigmoid(z);
      }
      store(tile.x + at, x);
      store(tile.dt + at, dt.value);
      store(tile.slope + at, dt.slope);
      store(tile.du + at, dt.value * x);
      store(tile.dy + at, dy);
      store(tile.y + at, D * x);
      store(tile.ddt + at, vf{});
      store(tile.ddu + at, vf{});
    }
  }
}

SSMITH_INLINE void store_back(const ScanArgs& a, const BackwardTile& tile, const Block& block,
                              int64_t b, int64_t t0, int64_t steps) {
  for (int64_t v = 0; v < block.vectors; ++v) {
    const int64_t first = block.first + v * W, lanes = block.lanes(v);
    vf D = a.D ? load_some(a.D + first, lanes) : vf{};
    vf dD{}, dbias{};
    for (int64_t t = 0; t < steps; ++t) {
      const int64_t at = (v * kChunk + t) * W, to = (b * a.l + t0 + t) * a.e + first;
      vf x = load(tile.x + at), dy = load(tile.dy + at), ddu = load(tile.ddu + at);
      vf ddt = (load(tile.ddt + at) * kLn2 + ddu * x) * load(tile.slope + at);
      dD += dy * x;
      dbias += ddt;
      store_some(a.ddt + to, ddt, lanes);
      store_some(a.dx + to, ddu * load(tile.dt + at) + D * dy, lanes);
      if (a.z.data) {
        vf z = load_some(row(a.z, b, t0 + t) + first, lanes), s = sigmoid(z);
        vf gated = load_some(row(a.dy, b, t0 + t) + first, lanes) * load(tile.y + at);
        store_some(a.dz + to, gated * s * (1.f + z * (1.f - s)), lanes);
      }
    }
    float *dD_at = a.dD + b * a.e + first, *dbias_at = a.ddt_bias + b * a.e + first;
    store_some(dD_at, load_some(dD_at, lanes) + dD, lanes);
    store_some(dbias_at, load_some(dbias_at, lanes) + dbias, lanes);
  }
}

void scan_backward_task(const ScanArgs& a, const BackwardTile& tile, const Block& block, int64_t b,
                        int64_t part) {
  const int64_t chunks = (a.l + kChunk - 1) / kChunk, states = a.n * a.e;
  load_states(tile.A, a.A, block, a.n, a.e, kLog2e);
  load_states(tile.offset, a.h_offset, block, a.n, a.e, 1.f);
  load_states(tile.carry, a.dh_last + b * states, block, a.n, a.e, 1.f);
  load_states(tile.dA, nullptr, block, a.n, a.e, 1.f);
  load_states(tile.doffset, nullptr, block, a.n, a.e, 1.f);
  const int64_t pairs = (a.n + 1) / 2, turns = pairs * block.vectors;
  for (int64_t chunk = chunks - 1; chunk >= 0; --chunk) {
    const int64_t t0 = chunk * kChunk, steps = min64(kChunk, a.l - t0);
    const float* bounds = a.bounds + (b * chunks + chunk) * states;
    load_back(a, tile, block, b, t0, steps);
    for (int64_t turn = 0; turn < turns; ++turn) {
      const int64_t ahead = chunk ? kChunk : 0, before = t0 - ahead;
      const int64_t from = before + ahead * turn / turns, to = before + ahead * (turn + 1) / turns;
      for (const Rows* rows : {&a.x, &a.dt, &a.z, &a.dy}) {
        prefetch_rows(*rows, b, block, from, to);
      }
      const int64_t i = turn / block.vectors * 2, v = turn % block.vectors;
      if (a.h_offset) both_passes<true>(a, tile, block, bounds, v, i, steps);
      else both_passes<false>(a, tile, block, bounds, v, i, steps);
      if (v + 1 < block.vectors) continue;
      for (int64_t j = 0; j < min64(2, a.n - i); ++j) {
        const int64_t to_row = ((part * a.b + b) * a.n + i + j) * a.l + t0;
        add_lane_sums(a.dB + to_row, tile.sumB + j * kChunk * W, steps);
        add_lane_sums(a.dC + to_row, tile.sumC + j * kChunk * W, steps);
      }
    }
    store_back(a, tile, block, b, t0, steps);
  }
  store_states(a.dA + b * states, tile.dA, block, a.n, a.e);
  store_states(a.dh0 + b * states, tile.carry, block, a.n, a.e);
  if (a.h_offset) store_states(a.dh_offset + b * states, tile.doffset, block, a.n, a.e);
}

void scan_backward(const ScanArgs* args) {
  const ScanArgs& a = *args;
  const int64_t blocks = Block::count(a.e);
  share(a.b * blocks, a.parts, [&](int64_t part, int64_t first, int64_t last) {
    Workspace space(BackwardTile::floats(a.n));
    BackwardTile tile(space, a.n);
    for (int64_t task = first; task < last; ++task) {
      scan_backward_task(a, tile, Block(task % blocks, a.e), task / blocks, part);
    }
  });
}

}  // namespace
