// Mamba-2's scan, forward: channels of a head in lanes, one decay per head and step.
#pragma once
#include "workspace.h"

namespace {

// Heads [first, last) of one sequence that share their B and C.
struct HeadRun {
  int64_t b, group, first, last;
};

// Calls work(part, run) for runs of heads. A run is worked through chunk by chunk over time, all its
// heads in a chunk; its states, `floats` a head, must fit into the second level cache.
template <class Work>
void share_heads(const SsdArgs& a, int64_t floats, const Work& work) {
  const int64_t most = floats < kRunFloats ? kRunFloats / floats : 1, heads = a.h / a.g;
  share(a.b * a.h, a.parts, [&](int64_t part, int64_t first, int64_t last) {
    while (first < last) {
      const int64_t from = first % a.h, group = from / heads;
      const int64_t to = min64(min64((group + 1) * heads, from + last - first), from + most);
      work(part, HeadRun{first / a.h, group, from, to});
      first += to - from;
    }
  });
}

// Channels of a head, filled up to whole vectors.
SSMITH_INLINE int64_t padded(int64_t p) { return (p + W - 1) / W * W; }

// Dense rows of p as rows of whole vectors, and back; zeros if absent.
SSMITH_INLINE void pad_rows(float* to, const float* from, int64_t rows, int64_t p) {
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t v = 0; v < p; v += W) {
      store(to + i * padded(p) + v, from ? load_some(from + i * p + v, min64(W, p - v)) : vf{});
    }
  }
}
SSMITH_INLINE void unpad_rows(float* to, const float* from, int64_t rows, int64_t p) {
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t v = 0; v < p; v += W) {
      store_some(to + i * p + v, load(from + i * padded(p) + v), min64(W, p - v));
    }
  }
}

// The rows of one group in one chunk, without gaps.
SSMITH_INLINE void pack_group(float* to, const Rows& rows, const SsdArgs& a, const HeadRun& run,
                              int64_t t0, int64_t steps) {
  Rows group = rows;
  group.data += run.group * a.n;
  pack(to, group, run.b, t0, steps, a.n);
}

// Ā = exp(Δ·A) of one head for the steps of a chunk; `dt` is filled with its Δ.
SSMITH_INLINE void decays(const SsdArgs& a, int64_t b, int64_t head, int64_t t0, int64_t steps,
                          float* dt, float* decay) {
  const float rate = a.A[head] * kLog2e;
  for (int64_t t = 0; t < steps; ++t) dt[t] = row(a.dt, b, t0 + t)[head];
  for (int64_t t = 0; t < steps; t += W) {
    store_some(decay + t, exp2v(load_some(dt + t, min64(W, steps - t)) * rate),
               min64(W, steps - t));
  }
}

constexpr int64_t kSsdSteps = 16;
static_assert(kSsdChunk % kSsdSteps == 0, "states are kept at the border of some chunk");

struct SsdForwardTile {
  float *h, *offset;            // [head][n][padded p]
  float *u, *y;                 // [t][padded p]
  float *dt, *decay;            // [t]
  float *B, *C;                 // [t][n]
  SsdForwardTile(Workspace& space, const SsdArgs& a, int64_t heads) {
    const int64_t states = a.n * whole_lines(a.p);
    h = space.take(heads * states);
    offset = space.take(a.h_offset ? heads * states : 0);
    for (float** piece : {&u, &y}) *piece = space.take(kSsdSteps * whole_lines(a.p));
    for (float** piece : {&dt, &decay}) *piece = space.take(whole_lines(kSsdSteps));
    for (float** piece : {&B, &C}) *piece = space.take(whole_lines(kSsdSteps * a.n));
  }
  static int64_t head_floats(const SsdArgs& a) {
    return (a.h_offset ? 2 : 1) * a.n * whole_lines(a.p);
  }
  static int64_t floats(const SsdArgs& a, int64_t heads) {
    return heads * head_floats(a) + 2 * kSsdSteps * whole_lines(a.p) +
           2 * whole_lines(kSsdSteps) + 2 * whole_lines(kSsdSteps * a.n);
  }
};

// Run U states of V vectors of channels through a chunk and add their read-out to y.
template <int U, int V, bool kOffset>
SSMITH_INLINE void ssd_advance(const SsdForwardTile& tile, float* states, const float* offsets,
                               int64_t i, int64_t v, int64_t n, int64_t p, int64_t steps) {
  vf h[U][V], offset[U][V];
  for (int j = 0; j < U; ++j) {
    for (int k = 0; k < V; ++k) {
      const int64_t at = (i + j) * p + v + k * W;
      h[j][k] = load(states + at);
      if (kOffset) offset[j][k] = load(offsets + at);
    }
  }
  for (int64_t t = 0; t < steps; ++t) {
    const float *B = tile.B + t * n + i, *C = tile.C + t * n + i;
    vf u[V], y[V];
    for (int k = 0; k < V; ++k) {
      u[k] = load(tile.u + t * p + v + k * W);
      y[k] = load(tile.y + t * p + v + k * W);
    }
    for (int j = 0; j < U; ++j) {
      for (int k = 0; k < V; ++k) {
        h[j][k] = tile.decay[t] * h[j][k] + u[k] * B[j];
        y[k] += (kOffset ? h[j][k] + offset[j][k] : h[j][k]) * C[j];
      }
    }
    for (int k = 0; k < V; ++k) store(tile.y + t * p + v + k * W, y[k]);
  }
  for (int j = 0; j < U; ++j) {
    for (int k = 0; k < V; ++k) store(states + (i + j) * p + v + k * W, h[j][k]);
  }
}

template <int U, bool kOffset>
SSMITH_INLINE void ssd_advance_rows(const SsdForwardTile& tile, float* h, const float* offset,
                                    int64_t i, int64_t n, int64_t p, int64_t steps) {
  int64_t v = 0;
  for (; v + 2 * W <= p; v += 2 * W) {
    ssd_advance<U, 2, kOffset>(tile, h, offset, i, v, n, p, steps);
  }
  if (v < p) ssd_advance<U, 1, kOffset>(tile, h, offset, i, v, n, p, steps);
}

template <bool kOffset>
SSMITH_INLINE void ssd_advance_head(const SsdForwardTile& tile, float* h, const float* offset,
                                    int64_t n, int64_t p, int64_t steps) {
  int64_t i = 0;
  for (; i + 4 <= n; i += 4) ssd_advance_rows<4, kOffset>(tile, h, offset, i, n, p, steps);
  for (; i < n; ++i) ssd_advance_rows<1, kOffset>(tile, h, offset, i, n, p, steps);
}

// One head through one chunk.
SSMITH_INLINE void ssd_forward_head(const SsdArgs& a, const SsdForwardTile& tile, float* h,
                                    const float* offset, int64_t b, int64_t head, int64_t t0,
                                    int64_t steps) {
  const int64_t p = padded(a.p);
  decays(a, b, head, t0, steps, tile.dt, tile.decay);
  for (int64_t t = 0; t < steps; ++t) {
    const float* x = row(a.x, b, t0 + t) + head * a.p;
    for (int64_t v = 0; v < a.p; v += W) {
      const vf value = load_some(x + v, min64(W, a.p - v));
      store(tile.u + t * p + v, value * tile.dt[t]);
      store(tile.y + t * p + v, a.D ? value * a.D[head] : vf{});
    }
  }
  if (offset) ssd_advance_head<true>(tile, h, offset, a.n, p, steps);
  else ssd_advance_head<false>(tile, h, nullptr, a.n, p, steps);
  const Output y(a.y, a.b * a.l * a.h * a.p);
  for (int64_t t = 0; t < steps; ++t) {
    const int64_t to = ((b * a.l + t0 + t) * a.h + head) * a.p;
    for (int64_t v = 0; v < a.p; v += W) {
      y.put(to + v, load(tile.y + t * p + v), min64(W, a.p - v));
    }
  }
  y.finish();
}

void ssd_forward_run(const SsdArgs& a, const HeadRun& run) {
  const int64_t heads = run.last - run.first, dense = a.n * a.p, states = a.n * padded(a.p);
  const int64_t chunks = (a.l + kSsdChunk - 1) / kSsdChunk;
  Workspace space(SsdForwardTile::floats(a, heads));
  const SsdForwardTile tile(space, a, heads);
  const float* h0 = a.h0 ? a.h0 + (run.b * a.h + run.first) * dense : nullptr;
  pad_rows(tile.h, h0, heads * a.n, a.p);
  if (a.h_offset) pad_rows(tile.offset, a.h_offset + run.first * dense, heads * a.n, a.p);
  for (int64_t t0 = 0; t0 < a.l; t0 += kSsdSteps) {
    const int64_t steps = min64(kSsdSteps, a.l - t0);
    pack_group(tile.B, a.B, a, run, t0, steps);
    pack_group(tile.C, a.C, a, run, t0, steps);
    if (a.bounds && t0 % kSsdChunk == 0) {
      const int64_t at = (run.b * chunks + t0 / kSsdChunk) * a.h + run.first;
      unpad_rows(a.bounds + at * dense, tile.h, heads * a.n, a.p);
    }
    for (int64_t k = 0; k < heads; ++k) {
      ssd_forward_head(a, tile, tile.h + k * states,
                       a.h_offset ? tile.offset + k * states : nullptr, run.b, run.first + k, t0,
                       steps);
    }
  }
  unpad_rows(a.h_last + (run.b * a.h + run.first) * dense, tile.h, heads * a.n, a.p);
}

void ssd_forward(const SsdArgs* args) {
  const SsdArgs& a = *args;
  share_heads(a, SsdForwardTile::head_floats(a),
              [&](int64_t, const HeadRun& run) { ssd_forward_run(a, run); });
}

}  // namespace
