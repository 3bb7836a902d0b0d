// One step of a whole Mamba mixer, for a few sequences: its matrices are what takes the time.
#pragma once
#include "rows_times.h"
#include "step.h"

namespace {

// What one step hands from phase to phase; rows of sequences.
struct MixerTile {
  float *xz, *selected, *dt, *y;  // (b, 2e), (b, r + 2n), (b, e), (b, e)
  MixerTile(Workspace& space, const MixerArgs& a) {
    xz = space.take(whole_lines(a.b * 2 * a.e));
    selected = space.take(whole_lines(a.b * (a.r + 2 * a.n)));
    dt = space.take(whole_lines(a.b * a.e));
    y = space.take(whole_lines(a.b * a.e));
  }
  static int64_t floats(const MixerArgs& a) {
    return whole_lines(a.b * 2 * a.e) + whole_lines(a.b * (a.r + 2 * a.n)) +
           2 * whole_lines(a.b * a.e);
  }
};

// Take the newest input of some channels into their window of k, and replace it by what the
// convolution makes of the window.
SSMITH_INLINE void convolve_channels(const MixerArgs& a, float* x, int64_t b, int64_t first,
                                     int64_t last) {
  for (int64_t c = first; c < last; ++c) {
    float* window = a.conv_state + (b * a.e + c) * a.k;
    const float* taps = a.conv_weight + c * a.k;
    float sum = a.conv_bias ? a.conv_bias[c] : 0.f;
    for (int64_t j = 0; j + 1 < a.k; ++j) {
      window[j] = window[j + 1];
      sum += taps[j] * window[j];
    }
    window[a.k - 1] = x[c];
    x[c] = sum + taps[a.k - 1] * x[c];
  }
  for (int64_t c = first; c < last; c += W) {
    const int64_t lanes = min64(W, last - c);
    const vf sum = load_some(x + c, lanes);
    store_some(x + c, sum * sigmoid(sum), lanes);
  }
}

SSMITH_INLINE StepArgs step_of(const MixerArgs& a, const MixerTile& tile) {
  StepArgs step{};
  const int64_t selected = a.r + 2 * a.n;
  step.b = a.b, step.e = a.e, step.n = a.n, step.softplus = 1, step.log_A = 1;
  step.x = {tile.xz, 2 * a.e, 0}, step.z = {tile.xz + a.e, 2 * a.e, 0};
  step.dt = {tile.dt, a.e, 0};
  step.B = {tile.selected + a.r, selected, 0}, step.C = {tile.selected + a.r + a.n, selected, 0};
  step.A = a.A_log, step.D = a.D, step.dt_bias = a.dt_bias;
  step.h_offset = a.h_offset, step.y_offset = a.y_offset;
  step.h = a.h, step.h_new = a.h, step.y = tile.y;
  return step;
}

void mixer_step(const MixerArgs* args) {
  const MixerArgs& a = *args;
  Workspace space(MixerTile::floats(a));
  const MixerTile tile(space, a);
  const StepArgs step = step_of(a, tile);
  const Linear in{a.in_weight, a.in_bias}, select{a.x_weight, nullptr}, dt{a.dt_weight, nullptr},
      out{a.out_weight, a.out_bias};
  const int64_t vectors = (a.e + W - 1) / W, selected = a.r + 2 * a.n;
  share(vectors, a.parts, [&](int64_t, int64_t begin, int64_t end) {
    const int64_t first = begin * W, last = min64(end * W, a.e);
    rows_times(in, a.m, a.hidden, a.m, tile.xz, 2 * a.e, a.b, first, last);
    rows_times(in, a.m, a.hidden, a.m, tile.xz, 2 * a.e, a.b, a.e + first, a.e + last);
    for (int64_t b = 0; b < a.b; ++b) convolve_channels(a, tile.xz + b * 2 * a.e, b, first, last);
  });
  share(selected, a.parts, [&](int64_t, int64_t first, int64_t last) {
    rows_times(select, a.e, tile.xz, 2 * a.e, tile.selected, selected, a.b, first, last);
  });
  share(vectors, a.parts, [&](int64_t, int64_t begin, int64_t end) {
    const int64_t first = begin * W, last = min64(end * W, a.e);
    rows_times(dt, a.r, tile.selected, selected, tile.dt, a.e, a.b, first, last);
    for (int64_t b = 0; b < a.b; ++b) {
      for (int64_t c = first; c < last; c += W) step_channels(step, b, c, min64(W, a.e - c));
    }
  });
  share(a.m, a.parts, [&](int64_t, int64_t first, int64_t last) {
    rows_times(out, a.e, tile.y, a.e, a.y, a.m, a.b, first, last);
  });
}

}  // namespace
