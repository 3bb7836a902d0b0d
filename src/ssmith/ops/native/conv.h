// Causal depthwise convolution with SiLU: taps in registers, a window that slides over time.
#pragma once
#include "workspace.h"

namespace {

// x at step t of batch b, where steps before the first are those of the carried state.
SSMITH_INLINE vf conv_input(const ConvArgs& a, int64_t b, int64_t t, int64_t channel,
                            int64_t lanes) {
  if (t >= 0) return load_some(row(a.x, b, t) + channel, lanes);
  if (!a.state) return vf{};
  return load_some(a.state + (b * (a.k - 1) + a.k - 1 + t) * a.e + channel, lanes);
}

template <int K>
struct Taps {
  vf weight[K], bias;
  Taps(const ConvArgs& a, int64_t channel, int64_t lanes) {
    for (int j = 0; j < K; ++j) weight[j] = load_some(a.weight + j * a.e + channel, lanes);
    bias = a.bias ? load_some(a.bias + channel, lanes) : vf{};
  }
  vf apply(const vf* window) const {
    vf sum = bias;
    for (int j = 0; j < K; ++j) sum += weight[j] * window[j];
    return sum;
  }
};

template <int K>
SSMITH_INLINE void slide(vf* window, vf next) {
  for (int j = 0; j + 1 < K; ++j) window[j] = window[j + 1];
  window[K - 1] = next;
}

template <int K>
void conv_forward_task(const ConvArgs& a, const Block& block, int64_t b, int64_t t0, int64_t t1) {
  vf window[kGroup][K];
  for (int64_t v = 0; v < block.vectors; ++v) {
    for (int j = 1; j < K; ++j) {
      window[v][j] = conv_input(a, b, t0 - K + j, block.first + v * W, block.lanes(v));
    }
  }
  for (int64_t v = 0; v < block.vectors; ++v) {
    const int64_t channel = block.first + v * W, lanes = block.lanes(v);
    const Taps<K> taps(a, channel, lanes);
    for (int64_t t = t0; t < t1; ++t) {
      slide<K>(window[v], load_some(row(a.x, b, t) + channel, lanes));
      vf y = taps.apply(window[v]);
      if (a.silu) y *= sigmoid(y);
      store_some(a.y + (b * a.l + t) * a.e + channel, y, lanes);
    }
  }
}

// The gradient of one vector of channels over all time. The output's gradient at t reaches the
// inputs t-K+1 … t, so the input gradient of step t-K+1 is complete once step t is done.
template <int K>
void conv_backward_task(const ConvArgs& a, int64_t channel, int64_t lanes, int64_t b) {
  const Taps<K> taps(a, channel, lanes);
  vf window[K], pending[K]{}, dweight[K]{}, dbias{};
  for (int j = 0; j < K; ++j) window[j] = conv_input(a, b, j - K, channel, lanes);
  for (int64_t t = 0; t < a.l + K - 1; ++t) {
    vf dy{};
    if (t < a.l) {
      slide<K>(window, load_some(row(a.x, b, t) + channel, lanes));
      dy = load_some(row(a.dy, b, t) + channel, lanes);
      if (a.silu) {
        vf sum = taps.apply(window), s = sigmoid(sum);
        dy *= s * (1.f + sum * (1.f - s));
      }
      for (int j = 0; j < K; ++j) dweight[j] += dy * window[j];
      dbias += dy;
    }
    for (int j = 0; j < K; ++j) pending[j] += dy * taps.weight[j];
    const int64_t done = t - K + 1;
    if (done >= 0) {
      store_some(a.dx + (b * a.l + done) * a.e + channel, pending[0], lanes);
    } else if (a.dstate) {
      store_some(a.dstate + (b * (K - 1) + K - 1 + done) * a.e + channel, pending[0], lanes);
    }
    slide<K>(pending, vf{});
  }
  for (int j = 0; j < K; ++j) store_some(a.dweight + (b * K + j) * a.e + channel, dweight[j], lanes);
  store_some(a.dbias + b * a.e + channel, dbias, lanes);
}

template <int K>
void conv_forward_taps(const ConvArgs& a) {
  const int64_t blocks = Block::count(a.e), spans = (a.l + kChunk - 1) / kChunk;
  share(a.b * spans * blocks, a.parts, [&](int64_t, int64_t first, int64_t last) {
    for (int64_t task = first; task < last; ++task) {
      const int64_t t0 = task / blocks % spans * kChunk;
      conv_forward_task<K>(a, Block(task % blocks, a.e), task / blocks / spans, t0,
                           min64(t0 + kChunk, a.l));
    }
  });
}

template <int K>
void conv_backward_taps(const ConvArgs& a) {
  const int64_t vectors = (a.e + W - 1) / W;
  share(a.b * vectors, a.parts, [&](int64_t, int64_t first, int64_t last) {
    for (int64_t task = first; task < last; ++task) {
      const int64_t channel = task % vectors * W;
      conv_backward_task<K>(a, channel, min64(W, a.e - channel), task / vectors);
    }
  });
}

void conv_forward(const ConvArgs* a) {
  switch (a->k) {
    case 1: return conv_forward_taps<1>(*a);
    case 2: return conv_forward_taps<2>(*a);
    case 3: return conv_forward_taps<3>(*a);
    default: return conv_forward_taps<4>(*a);
  }
}

void conv_backward(const ConvArgs* a) {
  switch (a->k) {
    case 1: return conv_backward_taps<1>(*a);
    case 2: return conv_backward_taps<2>(*a);
    case 3: return conv_backward_taps<3>(*a);
    default: return conv_backward_taps<4>(*a);
  }
}

}  // namespace
