// Selective scan, backward: from the last chunk to the first, each chunk's states recomputed from
// the state at its boundary.
#pragma once
#include "workspace.h"

namespace {

struct BackwardTile {
  float *A, *offset, *carry, *dA, *doffset;                        // [block][vector][n][W]
  float *dD, *dbias, *dy_offset;                                   // [block][vector][W]
  float *dt, *slope, *x, *du, *dy, *y, *dgate, *ddt, *ddu;         // [vector][t][W]
  float *decay, *before;                                           // [state of two][t][W]
  float *dB, *dC;                                                  // [n][t][W], over the run
  float *B, *C;                                                    // [t][n]
  BackwardTile(Workspace& space, int64_t n, int64_t blocks) {
    for (float** piece : {&A, &offset, &carry, &dA, &doffset}) {
      *piece = space.take(blocks * kGroup * n * W);
    }
    for (float** piece : {&dD, &dbias, &dy_offset}) *piece = space.take(blocks * kGroup * W);
    for (float** piece : {&dt, &slope, &x, &du, &dy, &y, &dgate, &ddt, &ddu}) {
      *piece = space.take(kGroup * kChunk * W);
    }
    for (float** piece : {&decay, &before}) *piece = space.take(2 * kChunk * W);
    for (float** piece : {&dB, &dC}) *piece = space.take(n * kChunk * W);
    for (float** piece : {&B, &C}) *piece = space.take(whole_lines(kChunk * n));
  }
  static int64_t block_floats(int64_t n) { return kGroup * W * (5 * n + 3); }
  static int64_t floats(int64_t n, int64_t blocks) {
    return blocks * block_floats(n) + 9 * kGroup * kChunk * W + 4 * kChunk * W +
           2 * n * kChunk * W + 2 * whole_lines(kChunk * n);
  }
  // The sums and states of one block of the run.
  BackwardTile at(int64_t block, int64_t n) const {
    BackwardTile tile = *this;
    for (float** piece : {&tile.A, &tile.offset, &tile.carry, &tile.dA, &tile.doffset}) {
      *piece += block * kGroup * n * W;
    }
    for (float** piece : {&tile.dD, &tile.dbias, &tile.dy_offset}) *piece += block * kGroup * W;
    return tile;
  }
};

// Both loops below read everything of a step before they write anything of it: a load waits for a
// pending store whose address has the same low bits, and the tiles start at the same place of a page.

// Recompute U states of one vector through a chunk: Ā of every step, the state before it, and C·h
// into y. Leaves the states after the chunk in h.
template <int U, bool kOffset>
SSMITH_INLINE void recompute(const BackwardTile& tile, vf* h, int64_t v, int64_t i, int64_t n,
                             int64_t steps) {
  const float *dt = tile.dt + v * kChunk * W, *du = tile.du + v * kChunk * W;
  float* y = tile.y + v * kChunk * W;
  const float *B = tile.B + i, *C = tile.C + i;
  vf A[U], offset[U];
  for (int j = 0; j < U; ++j) {
    A[j] = load(tile.A + (v * n + i + j) * W);
    if (kOffset) offset[j] = load(tile.offset + (v * n + i + j) * W);
  }
  for (int64_t t = 0; t < steps; ++t) {
    vf d = load(dt + t * W), u = load(du + t * W), sum = load(y + t * W), a[U], before[U];
    for (int j = 0; j < U; ++j) {
      a[j] = decay(d, A[j]);
      before[j] = h[j];
      h[j] = a[j] * h[j] + u * B[t * n + j];
      sum += (kOffset ? h[j] + offset[j] : h[j]) * C[t * n + j];
    }
    for (int j = 0; j < U; ++j) {
      store(tile.decay + (j * kChunk + t) * W, a[j]);
      store(tile.before + (j * kChunk + t) * W, before[j]);
    }
    store(y + t * W, sum);
  }
}

// The adjoint of `recompute`, from the last step to the first.
template <int U, bool kOffset>
SSMITH_INLINE void adjoint(const BackwardTile& tile, vf* h, int64_t v, int64_t i, int64_t n,
                           int64_t steps) {
  const float *dt = tile.dt + v * kChunk * W, *du = tile.du + v * kChunk * W;
  const float* dy = tile.dy + v * kChunk * W;
  float *ddt = tile.ddt + v * kChunk * W, *ddu = tile.ddu + v * kChunk * W;
  const float *B = tile.B + i, *C = tile.C + i;
  float *dB = tile.dB + i * kChunk * W, *dC = tile.dC + i * kChunk * W;
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
  for (int64_t t = steps - 1; t >= 0; --t) {
    vf d = load(dt + t * W), u = load(du + t * W), out = load(dy + t * W);
    vf into_dt = load(ddt + t * W), into_u = load(ddu + t * W), sumB[U], sumC[U];
    for (int j = 0; j < U; ++j) {
      const int64_t at = (j * kChunk + t) * W;
      vf c = splat(C[t * n + j]), before = load(tile.before + at);
      sumC[j] = load(dC + at) + out * (kOffset ? h[j] + offset[j] : h[j]);
      if (kOffset) doffset[j] += out * c;
      g[j] += out * c;
      sumB[j] = load(dB + at) + g[j] * u;
      into_u += g[j] * B[t * n + j];
      g[j] *= load(tile.decay + at);
      vf w = g[j] * before;
      dA[j] += w * d;
      into_dt += w * A[j];
      h[j] = before;
    }
    for (int j = 0; j < U; ++j) {
      store(dC + (j * kChunk + t) * W, sumC[j]);
      store(dB + (j * kChunk + t) * W, sumB[j]);
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

template <int U, bool kOffset>
SSMITH_INLINE void both_passes(const ScanArgs& a, const BackwardTile& tile, const Block& block,
                               const float* bounds, int64_t v, int64_t i, int64_t steps) {
  vf h[U];
  for (int j = 0; j < U; ++j) {
    h[j] = load_some(bounds + (i + j) * a.e + block.first + v * W, block.lanes(v));
  }
  recompute<U, kOffset>(tile, h, v, i, a.n, steps);
  adjoint<U, kOffset>(tile, h, v, i, a.n, steps);
}

template <bool kOffset>
SSMITH_INLINE void both_passes_some(const ScanArgs& a, const BackwardTile& tile, const Block& block,
                                    const float* bounds, int64_t v, int64_t i, int64_t steps) {
  if (a.n - i == 1) both_passes<1, kOffset>(a, tile, block, bounds, v, i, steps);
  else both_passes<2, kOffset>(a, tile, block, bounds, v, i, steps);
}

// Everything of the rows that the chunk needs goes into the tile before anything is written out:
// a load that shares the low bits of its address with a pending store would wait for it.
SSMITH_INLINE void load_back(const ScanArgs& a, const BackwardTile& tile, const Block& block,
                             int64_t b, int64_t t0, int64_t steps) {
  for (int64_t t = 0; t < steps; ++t) {
    const float *x_row = row(a.x, b, t0 + t), *dt_row = row(a.dt, b, t0 + t);
    const float* dy_row = row(a.dy, b, t0 + t);
    const float* z_row = a.z.data ? row(a.z, b, t0 + t) : nullptr;
    for (int64_t v = 0; v < block.vectors; ++v) {
      const int64_t at = (v * kChunk + t) * W, first = block.first + v * W, lanes = block.lanes(v);
      vf x = load_some(x_row + first, lanes), dy = load_some(dy_row + first, lanes);
      Softplus dt{load_some(dt_row + first, lanes), splat(1.f)};
      if (a.dt_bias) dt.value += load_some(a.dt_bias + first, lanes);
      if (a.softplus) dt = softplus(dt.value);
      if (z_row) {
        vf z = load_some(z_row + first, lanes), s = sigmoid(z);
        store(tile.dgate + at, dy * s * (1.f + z * (1.f - s)));
        dy *= z * s;
      }
      store(tile.x + at, x);
      store(tile.dt + at, bounded_step(dt.value));
      store(tile.slope + at, dt.slope);
      store(tile.du + at, dt.value * x);
      store(tile.dy + at, dy);
      store(tile.y + at, skip(a, first, lanes, x));
      store(tile.ddt + at, vf{});
      store(tile.ddu + at, vf{});
    }
  }
}

SSMITH_INLINE void store_back(const ScanArgs& a, const BackwardTile& tile, const Block& block,
                              int64_t b, int64_t t0, int64_t steps) {
  const int64_t floats = a.b * a.l * a.e;
  const Output out_dx(a.dx, floats), out_ddt(a.ddt, floats), out_dz(a.dz, floats);
  for (int64_t t = 0; t < steps; ++t) {
    for (int64_t v = 0; v < block.vectors; ++v) {
      const int64_t at = (v * kChunk + t) * W, first = block.first + v * W, lanes = block.lanes(v);
      const int64_t to = (b * a.l + t0 + t) * a.e + first;
      vf x = load(tile.x + at), dy = load(tile.dy + at), ddu = load(tile.ddu + at);
      vf ddt = (load(tile.ddt + at) * kLn2 + ddu * x) * load(tile.slope + at);
      vf D = a.D ? load_some(a.D + first, lanes) : vf{};
      add_to(tile.dD + v * W, dy * x);
      add_to(tile.dbias + v * W, ddt);
      add_to(tile.dy_offset + v * W, dy);
      out_ddt.put(to, ddt, lanes);
      out_dx.put(to, ddu * load(tile.dt + at) + D * dy, lanes);
      if (a.z.data) out_dz.put(to, load(tile.dgate + at) * load(tile.y + at), lanes);
    }
  }
  out_dx.finish();
}

// One block through one chunk, while the rows of what comes next are on their way.
SSMITH_INLINE void backward_block(const ScanArgs& a, const BackwardTile& tile, const Block& block,
                                  int64_t b, int64_t t0, int64_t steps, const Ahead& next) {
  const int64_t chunks = (a.l + kChunk - 1) / kChunk;
  const float* bounds = a.bounds + (b * chunks + t0 / kChunk) * a.n * a.e;
  const int64_t turns = (a.n + 1) / 2 * block.vectors;
  load_back(a, tile, block, b, t0, steps);
  for (int64_t turn = 0; turn < turns; ++turn) {
    for (const Rows* rows : {&a.x, &a.dt, &a.z, &a.dy}) next.prefetch(*rows, b, turn, turns);
    const int64_t i = turn / block.vectors * 2, v = turn % block.vectors;
    if (a.h_offset) both_passes_some<true>(a, tile, block, bounds, v, i, steps);
    else both_passes_some<false>(a, tile, block, bounds, v, i, steps);
  }
  store_back(a, tile, block, b, t0, steps);
}

// Add the sums over lanes of [n][t][W] to rows over time, (t, n).
SSMITH_INLINE void add_lane_sums(float* to, const float* sums, int64_t n, int64_t steps) {
  for (int64_t t = 0; t < steps; ++t) {
    for (int64_t i = 0; i < n; i += W) {
      const int64_t count = min64(W, n - i);
      vf states[W];
      for (int64_t j = 0; j < W; ++j) {
        states[j] = j < count ? load(sums + ((i + j) * kChunk + t) * W) : vf{};
      }
      float* at = to + t * n + i;
      store_some(at, load_some(at, count) + sum_rows(states), count);
    }
  }
}

SSMITH_INLINE void start_backward(const ScanArgs& a, const BackwardTile& tile, const Block& block,
                                  int64_t b) {
  load_rates(tile.A, a.A, block, a.n, a.e);
  load_states(tile.offset, a.h_offset, block, a.n, a.e);
  load_states(tile.carry, a.dh_last + b * a.n * a.e, block, a.n, a.e);
  load_states(tile.dA, nullptr, block, a.n, a.e);
  load_states(tile.doffset, nullptr, block, a.n, a.e);
  for (float* sum : {tile.dD, tile.dbias, tile.dy_offset}) load_states(sum, nullptr, block, 1, a.e);
}

SSMITH_INLINE void finish_backward(const ScanArgs& a, const BackwardTile& tile, const Block& block,
                                   int64_t b) {
  const int64_t states = a.n * a.e;
  store_states(a.dA + b * states, tile.dA, block, a.n, a.e);
  store_states(a.dh0 + b * states, tile.carry, block, a.n, a.e);
  if (a.h_offset) store_states(a.dh_offset + b * states, tile.doffset, block, a.n, a.e);
  store_states(a.dD + b * a.e, tile.dD, block, 1, a.e);
  store_states(a.ddt_bias + b * a.e, tile.dbias, block, 1, a.e);
  store_states(a.dy_offset + b * a.e, tile.dy_offset, block, 1, a.e);
}

void scan_backward_run(const ScanArgs& a, int64_t part, int64_t b, int64_t first, int64_t last) {
  Workspace space(BackwardTile::floats(a.n, last - first));
  const BackwardTile run(space, a.n, last - first);
  for (int64_t k = first; k < last; ++k) {
    start_backward(a, run.at(k - first, a.n), Block(k, a.e), b);
  }
  for (int64_t t0 = (a.l - 1) / kChunk * kChunk; t0 >= 0; t0 -= kChunk) {
    const int64_t steps = min64(kChunk, a.l - t0), ahead = t0 ? kChunk : 0;
    pack(run.B, a.B, b, t0, steps, a.n);
    pack(run.C, a.C, b, t0, steps, a.n);
    std::memset(run.dB, 0, a.n * kChunk * W * sizeof(float));
    std::memset(run.dC, 0, a.n * kChunk * W * sizeof(float));
    for (int64_t k = first; k < last; ++k) {
      const Ahead next = k + 1 < last ? Ahead{Block(k + 1, a.e), t0, steps}
                                      : Ahead{Block(first, a.e), t0 - ahead, ahead};
      backward_block(a, run.at(k - first, a.n), Block(k, a.e), b, t0, steps, next);
    }
    const int64_t rows = ((part * a.b + b) * a.l + t0) * a.n;
    add_lane_sums(a.dB + rows, run.dB, a.n, steps);
    add_lane_sums(a.dC + rows, run.dC, a.n, steps);
  }
  for (int64_t k = first; k < last; ++k) {
    finish_backward(a, run.at(k - first, a.n), Block(k, a.e), b);
  }
}

void scan_backward(const ScanArgs* args) {
  const ScanArgs& a = *args;
  share_runs(a.b, a.e, BackwardTile::block_floats(a.n), a.parts,
             [&](int64_t part, int64_t b, int64_t first, int64_t last) {
               scan_backward_run(a, part, b, first, last);
             });
}

}  // namespace
