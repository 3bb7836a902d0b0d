// Mamba-2's scan, backward: from the last chunk to the first, the states of a chunk recomputed from
// those at its border, a few states at a time.
#pragma once
#include "ssd_forward.h"

namespace {

struct SsdBackwardTile {
  float *carry, *offset, *doffset;  // [head][n][padded p]
  float *u, *dy, *du;               // [head][t][padded p]
  float *ddecay;                    // [head][t][W]
  float *dt, *decay;                // [head][t]
  float *B, *C;                     // [t][n]
  float *dB, *dC;                   // [state of four][t][W], over the run
  float *states;                    // [t + 1][state of four][vector of two][W]
  SsdBackwardTile(Workspace& space, const SsdArgs& a, int64_t heads) {
    const int64_t states_of_head = a.n * whole_lines(a.p), offsets = a.h_offset ? states_of_head : 0;
    carry = space.take(heads * states_of_head);
    for (float** piece : {&offset, &doffset}) *piece = space.take(heads * offsets);
    for (float** piece : {&u, &dy, &du}) {
      *piece = space.take(heads * kSsdChunk * whole_lines(a.p));
    }
    ddecay = space.take(heads * kSsdChunk * W);
    for (float** piece : {&dt, &decay}) *piece = space.take(heads * kSsdChunk);
    for (float** piece : {&B, &C}) *piece = space.take(whole_lines(kSsdChunk * a.n));
    for (float** piece : {&dB, &dC}) *piece = space.take(4 * kSsdChunk * W);
    states = space.take((kSsdChunk + 1) * 8 * W);
  }
  static int64_t head_floats(const SsdArgs& a) {
    return ((a.h_offset ? 3 : 1) * a.n + 3 * kSsdChunk) * whole_lines(a.p) + kSsdChunk * (W + 2);
  }
  static int64_t floats(const SsdArgs& a, int64_t heads) {
    return heads * head_floats(a) + 2 * whole_lines(kSsdChunk * a.n) + 8 * kSsdChunk * W +
           (kSsdChunk + 1) * 8 * W;
  }
  // The pieces of one head of the run.
  SsdBackwardTile at(int64_t head, const SsdArgs& a) const {
    SsdBackwardTile tile = *this;
    const int64_t states_of_head = a.n * padded(a.p);
    tile.carry += head * states_of_head;
    if (a.h_offset) tile.offset += head * states_of_head, tile.doffset += head * states_of_head;
    for (float** piece : {&tile.u, &tile.dy, &tile.du}) *piece += head * kSsdChunk * padded(a.p);
    tile.ddecay += head * kSsdChunk * W;
    tile.dt += head * kSsdChunk, tile.decay += head * kSsdChunk;
    return tile;
  }
};

// The states before every step of a chunk, and after the last, of U states and V vectors.
template <int U, int V>
SSMITH_INLINE void ssd_recompute(const SsdBackwardTile& tile, const float* bound, int64_t i,
                                 int64_t v, int64_t n, int64_t p, int64_t width, int64_t steps) {
  vf h[U][V];
  for (int j = 0; j < U; ++j) {
    for (int k = 0; k < V; ++k) {
      h[j][k] = load_some(bound + (i + j) * width + v + k * W, min64(W, width - v - k * W));
      store(tile.states + (j * V + k) * W, h[j][k]);
    }
  }
  for (int64_t t = 0; t < steps; ++t) {
    for (int j = 0; j < U; ++j) {
      for (int k = 0; k < V; ++k) {
        h[j][k] = tile.decay[t] * h[j][k] + load(tile.u + t * p + v + k * W) * tile.B[t * n + i + j];
        store(tile.states + (((t + 1) * U + j) * V + k) * W, h[j][k]);
      }
    }
  }
}

// The gradients of a chunk through U states of V vectors of channels.
template <int U, int V, bool kOffset>
SSMITH_INLINE void ssd_sweep(const SsdBackwardTile& tile, int64_t i, int64_t v, int64_t n,
                             int64_t p, int64_t steps) {
  vf carry[U][V], after[U][V], offset[U][V], doffset[U][V];
  for (int j = 0; j < U; ++j) {
    for (int k = 0; k < V; ++k) {
      const int64_t at = (i + j) * p + v + k * W;
      carry[j][k] = load(tile.carry + at);
      after[j][k] = load(tile.states + ((steps * U + j) * V + k) * W);
      if (kOffset) offset[j][k] = load(tile.offset + at), doffset[j][k] = load(tile.doffset + at);
    }
  }
  for (int64_t t = steps - 1; t >= 0; --t) {
    const float *B = tile.B + t * n + i, *C = tile.C + t * n + i;
    vf u[V], dy[V], du[V], ddecay = load(tile.ddecay + t * W);
    for (int k = 0; k < V; ++k) {
      const int64_t at = t * p + v + k * W;
      u[k] = load(tile.u + at), dy[k] = load(tile.dy + at), du[k] = load(tile.du + at);
    }
    for (int j = 0; j < U; ++j) {
      vf dB{}, dC{};
      for (int k = 0; k < V; ++k) {
        const vf before = load(tile.states + ((t * U + j) * V + k) * W);
        const vf dh = C[j] * dy[k] + carry[j][k];
        du[k] += dh * B[j];
        dB += dh * u[k];
        dC += dy[k] * (kOffset ? after[j][k] + offset[j][k] : after[j][k]);
        if (kOffset) doffset[j][k] += C[j] * dy[k];
        ddecay += dh * before;
        carry[j][k] = tile.decay[t] * dh;
        after[j][k] = before;
      }
      add_to(tile.dB + (j * kSsdChunk + t) * W, dB);
      add_to(tile.dC + (j * kSsdChunk + t) * W, dC);
    }
    for (int k = 0; k < V; ++k) store(tile.du + t * p + v + k * W, du[k]);
    store(tile.ddecay + t * W, ddecay);
  }
  for (int j = 0; j < U; ++j) {
    for (int k = 0; k < V; ++k) {
      const int64_t at = (i + j) * p + v + k * W;
      store(tile.carry + at, carry[j][k]);
      if (kOffset) store(tile.doffset + at, doffset[j][k]);
    }
  }
}

template <int U, int V>
SSMITH_INLINE void ssd_back(const SsdBackwardTile& tile, const SsdArgs& a, const float* bound,
                            int64_t i, int64_t v, int64_t steps) {
  const int64_t p = padded(a.p);
  ssd_recompute<U, V>(tile, bound, i, v, a.n, p, a.p, steps);
  if (a.h_offset) ssd_sweep<U, V, true>(tile, i, v, a.n, p, steps);
  else ssd_sweep<U, V, false>(tile, i, v, a.n, p, steps);
}

// The sums over channels of U states, added to the gradient of B or C.
SSMITH_INLINE void add_rows(float* to, const float* sums, int64_t states, int64_t stride,
                            int64_t steps) {
  for (int64_t j = 0; j < states; ++j) {
    for (int64_t t0 = 0; t0 < steps; t0 += W) {
      vf rows[W];
      for (int64_t t = 0; t < W; ++t) rows[t] = load(sums + (j * kSsdChunk + t0 + t) * W);
      const vf total = sum_rows(rows);
      for (int64_t t = 0; t < min64(W, steps - t0); ++t) to[(t0 + t) * stride + j] += total[t];
    }
  }
}

// U states from i on, of all heads of a run, through one chunk.
template <int U>
void ssd_backward_states(const SsdArgs& a, const SsdBackwardTile& tile, const HeadRun& run,
                         int64_t part, int64_t i, int64_t t0, int64_t steps) {
  const int64_t chunks = (a.l + kSsdChunk - 1) / kSsdChunk, p = padded(a.p);
  for (float* sums : {tile.dB, tile.dC}) std::memset(sums, 0, U * kSsdChunk * W * sizeof(float));
  for (int64_t head = run.first; head < run.last; ++head) {
    const SsdBackwardTile own = tile.at(head - run.first, a);
    const float* bound =
        a.bounds + ((run.b * chunks + t0 / kSsdChunk) * a.h + head) * a.n * a.p;
    int64_t v = 0;
    for (; v + 2 * W <= p; v += 2 * W) ssd_back<U, 2>(own, a, bound, i, v, steps);
    if (v < p) ssd_back<U, 1>(own, a, bound, i, v, steps);
  }
  const int64_t stride = a.g * a.n;
  const int64_t to = ((part * a.b + run.b) * a.l + t0) * stride + run.group * a.n + i;
  add_rows(a.dB + to, tile.dB, U, stride, steps);
  add_rows(a.dC + to, tile.dC, U, stride, steps);
}

SSMITH_INLINE void ssd_load_head(const SsdArgs& a, const SsdBackwardTile& tile, int64_t b,
                                 int64_t head, int64_t t0, int64_t steps) {
  const int64_t p = padded(a.p);
  decays(a, b, head, t0, steps, tile.dt, tile.decay);
  for (int64_t t = 0; t < steps; ++t) {
    const float *x = row(a.x, b, t0 + t) + head * a.p, *dy = row(a.dy, b, t0 + t) + head * a.p;
    for (int64_t v = 0; v < a.p; v += W) {
      const int64_t lanes = min64(W, a.p - v), at = t * p + v;
      store(tile.u + at, load_some(x + v, lanes) * tile.dt[t]);
      store(tile.dy + at, load_some(dy + v, lanes));
      store(tile.du + at, vf{});
    }
    store(tile.ddecay + t * W, vf{});
  }
}

// What a head's chunk gives its inputs, once all its states have been worked through.
SSMITH_INLINE void ssd_finish_head(const SsdArgs& a, const SsdBackwardTile& tile, int64_t b,
                                   int64_t head, int64_t t0, int64_t steps) {
  const int64_t p = padded(a.p);
  const float D = a.D ? a.D[head] : 0.f;
  float dA = 0.f;
  vf dD{};
  for (int64_t t = 0; t < steps; ++t) {
    const float* x = row(a.x, b, t0 + t) + head * a.p;
    float* dx = a.dx + ((b * a.l + t0 + t) * a.h + head) * a.p;
    vf ddt{};
    for (int64_t v = 0; v < a.p; v += W) {
      const int64_t lanes = min64(W, a.p - v), at = t * p + v;
      const vf value = load_some(x + v, lanes), du = load(tile.du + at), dy = load(tile.dy + at);
      ddt += value * du;
      dD += value * dy;
      store_some(dx + v, tile.dt[t] * du + D * dy, lanes);
    }
    const float drate = sum_lanes(load(tile.ddecay + t * W)) * tile.decay[t];
    a.ddt[(b * a.l + t0 + t) * a.h + head] = sum_lanes(ddt) + drate * a.A[head];
    dA += drate * tile.dt[t];
  }
  a.dA[b * a.h + head] += dA;
  a.dD[b * a.h + head] += sum_lanes(dD);
}

void ssd_backward_chunk(const SsdArgs& a, const SsdBackwardTile& tile, const HeadRun& run,
                        int64_t part, int64_t t0) {
  const int64_t steps = min64(kSsdChunk, a.l - t0);
  pack_group(tile.B, a.B, a, run, t0, steps);
  pack_group(tile.C, a.C, a, run, t0, steps);
  for (int64_t head = run.first; head < run.last; ++head) {
    ssd_load_head(a, tile.at(head - run.first, a), run.b, head, t0, steps);
  }
  int64_t i = 0;
  for (; i + 4 <= a.n; i += 4) ssd_backward_states<4>(a, tile, run, part, i, t0, steps);
  for (; i < a.n; ++i) ssd_backward_states<1>(a, tile, run, part, i, t0, steps);
  for (int64_t head = run.first; head < run.last; ++head) {
    ssd_finish_head(a, tile.at(head - run.first, a), run.b, head, t0, steps);
  }
}

void ssd_backward_run(const SsdArgs& a, const HeadRun& run, int64_t part) {
  const int64_t heads = run.last - run.first, dense = a.n * a.p, rows = heads * a.n;
  const int64_t from = (run.b * a.h + run.first) * dense;
  Workspace space(SsdBackwardTile::floats(a, heads));
  const SsdBackwardTile tile(space, a, heads);
  pad_rows(tile.carry, a.dh_last + from, rows, a.p);
  if (a.h_offset) {
    pad_rows(tile.offset, a.h_offset + run.first * dense, rows, a.p);
    pad_rows(tile.doffset, nullptr, rows, a.p);
  }
  for (int64_t head = run.first; head < run.last; ++head) {
    a.dA[run.b * a.h + head] = a.dD[run.b * a.h + head] = 0.f;
  }
  for (int64_t t0 = (a.l - 1) / kSsdChunk * kSsdChunk; t0 >= 0; t0 -= kSsdChunk) {
    ssd_backward_chunk(a, tile, run, part, t0);
  }
  unpad_rows(a.dh0 + from, tile.carry, rows, a.p);
  if (a.h_offset) unpad_rows(a.dh_offset + from, tile.doffset, rows, a.p);
}

void ssd_backward(const SsdArgs* args) {
  const SsdArgs& a = *args;
  share_heads(a, SsdBackwardTile::head_floats(a),
              [&](int64_t part, const HeadRun& run) { ssd_backward_run(a, run, part); });
}

}  // namespace
