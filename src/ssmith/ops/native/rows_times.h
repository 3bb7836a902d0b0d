// A matrix times a few vectors: every row of the matrix is read once, at the speed of memory.
#pragma once
#include "workspace.h"

namespace {

// A dense matrix (rows, columns) as torch's linear layers keep it; no bias where the pointer is null.
struct Linear {
  const float *weight, *bias;
};

// Vectors of a row that are multiplied at a time: independent sums hide the latency of each.
constexpr int64_t kDotVectors = 2;

// The lanes of R rows at `w` times one vector; each sum of lanes is an element of the product.
template <int R>
SSMITH_INLINE void dot_rows(vf* sums, const float* w, const float* x, int64_t columns) {
  vf sum[R][kDotVectors] = {};
  int64_t c = 0;
  for (; c + kDotVectors * W <= columns; c += kDotVectors * W) {
    for (int64_t v = 0; v < kDotVectors; ++v) {
      const vf value = load(x + c + v * W);
      for (int r = 0; r < R; ++r) sum[r][v] += load(w + r * columns + c + v * W) * value;
    }
  }
  for (; c < columns; c += W) {
    const int64_t lanes = min64(W, columns - c);
    const vf value = load_some(x + c, lanes);
    for (int r = 0; r < R; ++r) sum[r][0] += load_some(w + r * columns + c, lanes) * value;
  }
  for (int r = 0; r < R; ++r) {
    sums[r] = sum[r][0];
    for (int64_t v = 1; v < kDotVectors; ++v) sums[r] += sum[r][v];
  }
}

// Rows [first, last) of a matrix times each of b vectors, `stride_x` and `stride_y` apart.
SSMITH_INLINE void rows_times(const Linear& m, int64_t columns, const float* x, int64_t stride_x,
                              float* y, int64_t stride_y, int64_t b, int64_t first, int64_t last) {
  for (int64_t o = first; o < last; o += W) {
    const int64_t rows = min64(W, last - o);
    const float* w = m.weight + o * columns;
    const vf bias = m.bias ? load_some(m.bias + o, rows) : vf{};
    for (int64_t k = 0; k < b; ++k) {
      vf sums[W] = {};
      int64_t r = 0;
      for (; r + 4 <= rows; r += 4) dot_rows<4>(sums + r, w + r * columns, x + k * stride_x, columns);
      for (; r < rows; ++r) dot_rows<1>(sums + r, w + r * columns, x + k * stride_x, columns);
      store_some(y + k * stride_y + o, sum_rows(sums) + bias, rows);
    }
  }
}

}  // namespace
