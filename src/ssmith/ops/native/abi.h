// The plain C interface of the CPU kernels: pointers, sizes and strides, nothing of torch.
// Every field is eight bytes wide, so that a caller can fill a struct as an array.
// Axes: b batch, l time, e channel, n state, k taps, s diagonal states. All data is fp32.
// Tensors over time are (b, l, ·) with a free stride for b and l and stride 1 for the last axis.
// Tensors per state are state-major, (n, e) or (b, n, e), without gaps: a vector holds channels.
// A null pointer stands for an option that is not used.
#pragma once
#include <cstdint>

#if defined(_WIN32)
#define SSMITH_EXPORT extern "C" __declspec(dllexport)
#else
#define SSMITH_EXPORT extern "C" __attribute__((visibility("default")))
#endif

// States are kept before every chunk of this many steps; the backward recomputes the others.
constexpr int64_t kChunk = 32;

struct Rows {
  float* data;
  int64_t stride_b, stride_l;
};

struct ScanArgs {
  int64_t b, l, e, n, parts, softplus;
  Rows x, dt, z, B, C;
  const float *A, *D, *dt_bias, *h0, *h_offset, *y_offset;
  // Where set, (e, r): dt is (b, l, r), and Δ's logits are its products with it. Forward only.
  const float* dt_weight;
  int64_t r;
  // Outputs of the forward; dense. `bounds` is (b, chunks, n, e).
  float *y, *h_last, *bounds;
  // Inputs of the backward.
  Rows dy;
  const float* dh_last;
  // Outputs of the backward; dense over time. Per-batch sums: dA, dh_offset (b, n, e), dD, ddt_bias
  // and dy_offset (b, e). Per-part sums, to which is added: dB and dC (parts, b, l, n).
  float *dx, *ddt, *dz, *dA, *dB, *dC, *dD, *ddt_bias, *dh0, *dh_offset, *dy_offset;
};

// A scan with sums of its states: of weight·value² per quantity (see scan_statistics.h) where it has
// a place, and of weight·value·valueᵀ of one of them, the lower triangle (n, n, e) only; or, with the
// sequences in step (see scan_in_step.h), per step. Steps `from` to `to` are run. Sums in double
// precision are added to what is there.
constexpr int64_t kQuantities = 5;
struct StatisticsArgs {
  ScanArgs scan;
  int64_t from, to, gated, gram_of;
  const float *weights, *counted;  // (b, l)
  double *energies[kQuantities], *gram;
  // Of `scan_in_step`, which reads `counted`: (to - from, n, e), (l) and (n, e).
  float* squares;
  const float* step_weights;
  double* apart;
};

// counts (parts, s): how often each of s units is among the `count` smallest of a row of `metric`
// (rows, s); of equals, the later ones in the order of the transpose of (s / width, width), which with
// width 1 is the order they stand in. 1 ≤ count ≤ s.
struct VotesArgs {
  int64_t rows, s, width, count, parts;
  const float *metric, *scale;  // scale: one factor per unit, or null
  int64_t* counts;
};

struct ConvArgs {
  int64_t b, l, e, k, parts, silu;
  Rows x;
  const float *weight, *bias, *state;  // weight (k, e), state (b, k-1, e)
  float* y;
  Rows dy;
  float *dx, *dweight, *dbias, *dstate;  // dweight (b, k, e), dbias (b, e): per-batch sums
};

struct StepArgs {
  int64_t b, e, n, parts, softplus, log_A;  // log_A: A holds log(−A)
  Rows x, dt, z, B, C;                      // stride_l unused
  const float *A, *D, *dt_bias, *h_offset, *y_offset;  // A and h_offset channel-major, (e, n)
  const float* h;                           // (b, e, n)
  float *y, *h_new;
};

// One step of a whole Mamba mixer; r is the rank of Δ. Matrices are dense, (outputs, inputs).
struct MixerArgs {
  int64_t b, m, e, n, r, k, parts;
  const float* hidden;  // (b, m)
  const float *in_weight, *in_bias, *conv_weight, *conv_bias;  // in (2e, m), conv (e, k)
  const float *x_weight, *dt_weight, *dt_bias;                 // x (r + 2n, e), dt (e, r)
  const float *A_log, *D, *h_offset, *y_offset;                // A_log and h_offset (e, n)
  const float *out_weight, *out_bias;                          // out (m, e)
  float *conv_state, *h;  // (b, e, k) and (b, e, n), both advanced in place
  float* y;               // (b, m)
};

// Mamba-2's scan, both directions; p channels a head, h / g heads a group. Rows over time are
// x (h, p), dt (h), B and C (g, n); states are (h, n, p), so that a vector holds channels of a head.
// States are kept before every chunk of this many steps.
constexpr int64_t kSsdChunk = 64;
struct SsdArgs {
  int64_t b, l, h, p, g, n, parts;
  Rows x, dt, B, C;
  const float *A, *D, *h0, *h_offset;
  float *y, *h_last, *bounds;  // bounds (b, chunks, h, n, p)
  Rows dy;
  const float* dh_last;
  // dA and dD (b, h), dh_offset (b, h, n, p): per-batch sums. dB and dC (parts, b, l, g, n): per-part
  // sums, to which is added.
  float *dx, *ddt, *dA, *dB, *dC, *dD, *dh0, *dh_offset;
};

struct DiagonalArgs {
  int64_t b, l, s, parts, reverse;
  const float *A_bar, *Bu, *x0;  // complex as (re, im) pairs, dense
  float* x;
  // Set for the adjoint pass: `states` are those of the forward, and dA (b, s) collects
  // Σ_t x[t]·conj(states before t), where x is what this pass computes.
  const float *states, *start;
  float* dA;
};

struct Kernels {
  void (*scan_forward)(const ScanArgs*);
  void (*scan_backward)(const ScanArgs*);
  void (*conv_forward)(const ConvArgs*);
  void (*conv_backward)(const ConvArgs*);
  void (*step)(const StepArgs*);
  void (*diagonal)(const DiagonalArgs*);
  void (*scan_statistics)(const StatisticsArgs*);
  void (*scan_in_step)(const StatisticsArgs*);
  void (*votes)(const VotesArgs*);
  void (*mixer_step)(const MixerArgs*);
  void (*ssd_forward)(const SsdArgs*);
  void (*ssd_backward)(const SsdArgs*);
};
