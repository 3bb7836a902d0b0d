// One step of the selective scan: states in lanes, one channel after the other.
#pragma once
#include "workspace.h"

namespace {

SSMITH_INLINE void step_channels(const StepArgs& a, int64_t b, int64_t first, int64_t lanes) {
  vf bias = a.dt_bias ? load_some(a.dt_bias + first, lanes) : vf{};
  vf x = load_some(row(a.x, b, 0) + first, lanes);
  vf dt = load_some(row(a.dt, b, 0) + first, lanes) + bias;
  if (a.softplus) dt = softplus(dt).value;
  vf du = dt * x, sums[W] = {};
  const float *B = row(a.B, b, 0), *C = row(a.C, b, 0);
  for (int64_t c = 0; c < lanes; ++c) {
    const int64_t at = (first + c) * a.n;
    const float *A = a.A + at, *h = a.h + b * a.e * a.n + at;
    float* h_new = a.h_new + b * a.e * a.n + at;
    for (int64_t i = 0; i < a.n; i += W) {
      const int64_t count = min64(W, a.n - i);
      vf rate = load_some(A + i, count);
      if (a.log_A) rate = -exp2v(rate * kLog2e);
      vf state = exp2v(rate * (dt[c] * kLog2e)) * load_some(h + i, count) +
                 load_some(B + i, count) * du[c];
      store_some(h_new + i, state, count);
      if (a.h_offset) state += load_some(a.h_offset + at + i, count);
      sums[c] += state * load_some(C + i, count);
    }
  }
  vf y = sum_rows(sums);
  if (a.y_offset) y += load_some(a.y_offset + first, lanes);
  if (a.D) y += load_some(a.D + first, lanes) * x;
  if (a.z.data) {
    vf z = load_some(row(a.z, b, 0) + first, lanes);
    y *= z * sigmoid(z);
  }
  store_some(a.y + b * a.e + first, y, lanes);
}

void step(const StepArgs* args) {
  const StepArgs& a = *args;
  const int64_t vectors = (a.e + W - 1) / W;
  share(a.b * vectors, a.parts, [&](int64_t, int64_t first, int64_t last) {
    for (int64_t task = first; task < last; ++task) {
      const int64_t channel = task % vectors * W;
      step_channels(a, task / vectors, channel, min64(W, a.e - channel));
    }
  });
}

}  // namespace
