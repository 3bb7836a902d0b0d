// The diagonal LTI scan over complex states, stored as (re, im) pairs.
#pragma once
#include "workspace.h"

namespace {

// Real and imaginary part exchanged in every pair of lanes.
SSMITH_INLINE vf swap_pairs(vf v) {
#if SSMITH_LANES == 16
  return __builtin_shufflevector(v, v, 1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14);
#elif SSMITH_LANES == 8
  return __builtin_shufflevector(v, v, 1, 0, 3, 2, 5, 4, 7, 6);
#else
  return __builtin_shufflevector(v, v, 1, 0, 3, 2);
#endif
}

// Multiplication by a fixed complex number per pair.
struct Factor {
  vf re, im;  // (a, a) and (−b, b)
  explicit Factor(vf value) {
    vf swapped = swap_pairs(value);
    for (int64_t i = 0; i < W; i += 2) {
      re[i] = re[i + 1] = value[i];
      im[i] = -swapped[i];
      im[i + 1] = swapped[i];
    }
  }
  vf times(vf v) const { return v * re + swap_pairs(v) * im; }
};

// a·conj(b), pair by pair.
SSMITH_INLINE vf times_conj(vf a, vf b) {
  vf re = a * b, cross = swap_pairs(a) * b, result;
  for (int64_t i = 0; i < W; i += 2) {
    result[i] = re[i] + re[i + 1];
    result[i + 1] = cross[i] - cross[i + 1];
  }
  return result;
}

void diagonal_task(const DiagonalArgs& a, const Block& block, int64_t b) {
  const int64_t width = 2 * a.s;
  for (int64_t v = 0; v < block.vectors; ++v) {
    const int64_t first = block.first + v * W, lanes = block.lanes(v);
    const Factor A(load_some(a.A_bar + first, lanes));
    vf x = a.x0 ? load_some(a.x0 + b * width + first, lanes) : vf{}, dA{};
    for (int64_t step = 0; step < a.l; ++step) {
      const int64_t t = a.reverse ? a.l - 1 - step : step, at = (b * a.l + t) * width + first;
      x = load_some(a.Bu + at, lanes) + A.times(x);
      store_some(a.x + at, x, lanes);
      if (!a.states) continue;
      // This pass runs against the forward's order: the forward's previous step comes next here.
      const bool last = step + 1 == a.l;
      const int64_t before = last ? b * width + first : a.reverse ? at - width : at + width;
      dA += times_conj(x, load_some((last ? a.start : a.states) + before, lanes));
    }
    if (a.states) store_some(a.dA + b * width + first, dA, lanes);
  }
}

void diagonal(const DiagonalArgs* args) {
  const DiagonalArgs& a = *args;
  const int64_t blocks = Block::count(2 * a.s);
  share(a.b * blocks, a.parts, [&](int64_t, int64_t first, int64_t last) {
    for (int64_t task = first; task < last; ++task) {
      diagonal_task(a, Block(task % blocks, 2 * a.s), task / blocks);
    }
  });
}

}  // namespace
