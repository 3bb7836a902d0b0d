// The library's door: finds out what this processor can do, and calls the kernels of one level.
#include "abi.h"

extern "C" const Kernels ssmith_level_base;
#if defined(SSMITH_X86_LEVELS)
extern "C" const Kernels ssmith_level_avx2;
extern "C" const Kernels ssmith_level_avx512;
#endif

namespace {

const Kernels& level(int64_t number) {
#if defined(SSMITH_X86_LEVELS)
  if (number >= 2) return ssmith_level_avx512;
  if (number == 1) return ssmith_level_avx2;
#endif
  (void)number;
  return ssmith_level_base;
}

}  // namespace

// Raised whenever a struct of abi.h changes; the loader refuses any other number.
SSMITH_EXPORT int64_t ssmith_abi() { return 7; }

// 0 baseline, 1 AVX2 with FMA, 2 AVX-512.
SSMITH_EXPORT int64_t ssmith_best_level() {
#if defined(SSMITH_X86_LEVELS)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")) {
    return 2;
  }
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return 1;
#endif
  return 0;
}

SSMITH_EXPORT int64_t ssmith_has_threads() {
#if defined(_OPENMP)
  return 1;
#else
  return 0;
#endif
}

SSMITH_EXPORT void ssmith_scan_forward(int64_t at, const ScanArgs* a) { level(at).scan_forward(a); }
SSMITH_EXPORT void ssmith_scan_backward(int64_t at, const ScanArgs* a) {
  level(at).scan_backward(a);
}
SSMITH_EXPORT void ssmith_conv_forward(int64_t at, const ConvArgs* a) { level(at).conv_forward(a); }
SSMITH_EXPORT void ssmith_conv_backward(int64_t at, const ConvArgs* a) {
  level(at).conv_backward(a);
}
SSMITH_EXPORT void ssmith_step(int64_t at, const StepArgs* a) { level(at).step(a); }
SSMITH_EXPORT void ssmith_diagonal(int64_t at, const DiagonalArgs* a) { level(at).diagonal(a); }
SSMITH_EXPORT void ssmith_scan_statistics(int64_t at, const StatisticsArgs* a) {
  level(at).scan_statistics(a);
}
SSMITH_EXPORT void ssmith_scan_in_step(int64_t at, const StatisticsArgs* a) {
  level(at).scan_in_step(a);
}
SSMITH_EXPORT void ssmith_votes(int64_t at, const VotesArgs* a) { level(at).votes(a); }
SSMITH_EXPORT void ssmith_mixer_step(int64_t at, const MixerArgs* a) { level(at).mixer_step(a); }
SSMITH_EXPORT void ssmith_ssd_forward(int64_t at, const SsdArgs* a) { level(at).ssd_forward(a); }
SSMITH_EXPORT void ssmith_ssd_backward(int64_t at, const SsdArgs* a) { level(at).ssd_backward(a); }
