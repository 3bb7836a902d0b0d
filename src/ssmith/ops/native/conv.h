// Causal depthwise convolution with SiLU: strips of channels, step after step along whole rows.
#pragma once
#include "workspace.h"

namespace {

// Channels of a strip: a kilobyte of a row at a time, and all rows in use fit the first level cache.
constexpr int64_t kStrip = 256;

struct Strip {
  int64_t first, channels, vectors;
  Strip(int64_t number, int64_t e) {
    first = number * kStrip;
    channels = min64(kStrip, e - first);
    vectors = (channels + W - 1) / W;
  }
  int64_t lanes(int64_t v) const { return min64(W, channels - v * W); }
  static int64_t count(int64_t e) { return (e + kStrip - 1) / kStrip; }
};

// The K rows that the output of step t sees, the oldest first; null stands for zeros. Rows before
// the first step are those of the carried state.
template <int K>
struct Window {
  const float* rows[K];
  Window(const ConvArgs& a, const Strip& strip, int64_t b, int64_t t) {
    for (int j = 0; j < K; ++j) {
      const int64_t from = t - (K - 1) + j;
      if (from >= 0) rows[j] = row(a.x, b, from) + strip.first;
      else if (a.state) rows[j] = a.state + (b * (K - 1) + K - 1 + from) * a.e + strip.first;
      else rows[j] = nullptr;
    }
  }
  SSMITH_MEMBER vf at(int j, int64_t v, int64_t lanes) const {
    return rows[j] ? load_some(rows[j] + v * W, lanes) : vf{};
  }
};

template <int K>
struct Taps {
  const float *weight, *bias;
  int64_t e;
  Taps(const ConvArgs& a, const Strip& strip)
      : weight(a.weight + strip.first), bias(a.bias ? a.bias + strip.first : nullptr), e(a.e) {}
  SSMITH_MEMBER vf at(int j, int64_t v, int64_t lanes) const {
    return load_some(weight + j * e + v * W, lanes);
  }
  SSMITH_MEMBER vf apply(const Window<K>& window, int64_t v, int64_t lanes) const {
    vf sum = bias ? load_some(bias + v * W, lanes) : vf{};
    for (int j = 0; j < K; ++j) sum += at(j, v, lanes) * window.at(j, v, lanes);
    return sum;
  }
};

template <int K>
void conv_forward_task(const ConvArgs& a, const Strip& strip, int64_t b, int64_t t0, int64_t t1) {
  const Taps<K> taps(a, strip);
  const Output y(a.y, a.b * a.l * a.e);
  for (int64_t t = t0; t < t1; ++t) {
    const Window<K> window(a, strip, b, t);
    for (int64_t v = 0; v < strip.vectors; ++v) {
      const int64_t lanes = strip.lanes(v);
      vf sum = taps.apply(window, v, lanes);
      if (a.silu) sum *= sigmoid(sum);
      y.put((b * a.l + t) * a.e + strip.first + v * W, sum, lanes);
    }
  }
  y.finish();
}

// The gradient of one strip over all time. What the sum of step t gets as its gradient reaches the
// inputs t-K+1 … t, so the last K of these rows are kept: an input's gradient is complete K-1 steps
// after its own.
template <int K>
class ConvGradient {
 public:
  ConvGradient(const ConvArgs& a, const Strip& strip, int64_t b)
      : a_(a), strip_(strip), b_(b), taps_(a, strip), dx_(a.dx, a.b * a.l * a.e),
        space_((2 * K + 1) * kStrip), dsum_(space_.take(K * kStrip)),
        dweight_(space_.take(K * kStrip)), dbias_(space_.take(kStrip)) {
    std::memset(dsum_, 0, (2 * K + 1) * kStrip * sizeof(float));
  }

  void run() {
    for (int64_t t = 0; t < a_.l + K - 1; ++t) {
      if (t < a_.l) take(t);
      else std::memset(dsum(t), 0, kStrip * sizeof(float));
      give(t - (K - 1));
    }
    for (int64_t v = 0; v < strip_.vectors; ++v) {
      const int64_t at = strip_.first + v * W, lanes = strip_.lanes(v);
      for (int j = 0; j < K; ++j) {
        store_some(a_.dweight + (b_ * K + j) * a_.e + at, load(dweight_ + j * kStrip + v * W), lanes);
      }
      store_some(a_.dbias + b_ * a_.e + at, load(dbias_ + v * W), lanes);
    }
    dx_.finish();
  }

 private:
  float* dsum(int64_t t) const { return dsum_ + (t + K) % K * kStrip; }

  void take(int64_t t) {
    const Window<K> window(a_, strip_, b_, t);
    const float* dy_row = row(a_.dy, b_, t) + strip_.first;
    for (int64_t v = 0; v < strip_.vectors; ++v) {
      const int64_t lanes = strip_.lanes(v);
      vf dy = load_some(dy_row + v * W, lanes);
      if (a_.silu) {
        vf sum = taps_.apply(window, v, lanes), s = sigmoid(sum);
        dy *= s * (1.f + sum * (1.f - s));
      }
      store(dsum(t) + v * W, dy);
      add_to(dbias_ + v * W, dy);
      for (int j = 0; j < K; ++j) add_to(dweight_ + j * kStrip + v * W, dy * window.at(j, v, lanes));
    }
  }

  // The gradient of the input of one step, or of the carried state where that lies before the first.
  void give(int64_t t) const {
    if (t < 0 && !a_.dstate) return;
    for (int64_t v = 0; v < strip_.vectors; ++v) {
      const int64_t lanes = strip_.lanes(v), at = strip_.first + v * W;
      vf sum{};
      for (int j = 0; j < K; ++j) {
        // Rows of steps before the first are still zero when they are read.
        sum += taps_.at(j, v, lanes) * load(dsum(t + K - 1 - j) + v * W);
      }
      if (t >= 0) dx_.put((b_ * a_.l + t) * a_.e + at, sum, lanes);
      else store_some(a_.dstate + (b_ * (K - 1) + K - 1 + t) * a_.e + at, sum, lanes);
    }
  }

  const ConvArgs& a_;
  const Strip& strip_;
  int64_t b_;
  Taps<K> taps_;
  Output dx_;
  Workspace space_;
  float *dsum_, *dweight_, *dbias_;
};

template <int K>
void conv_forward_taps(const ConvArgs& a) {
  const int64_t strips = Strip::count(a.e), spans = (a.l + kChunk - 1) / kChunk;
  share(a.b * spans * strips, a.parts, [&](int64_t, int64_t first, int64_t last) {
    for (int64_t task = first; task < last; ++task) {
      const int64_t t0 = task / strips % spans * kChunk;
      conv_forward_task<K>(a, Strip(task % strips, a.e), task / strips / spans, t0,
                           min64(t0 + kChunk, a.l));
    }
  });
}

template <int K>
void conv_backward_taps(const ConvArgs& a) {
  const int64_t strips = Strip::count(a.e);
  share(a.b * strips, a.parts, [&](int64_t, int64_t first, int64_t last) {
    for (int64_t task = first; task < last; ++task) {
      const Strip strip(task % strips, a.e);
      ConvGradient<K>(a, strip, task / strips).run();
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
