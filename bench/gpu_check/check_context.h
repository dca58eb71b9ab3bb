// What every part of gpu_check is told. Plain values.
#pragma once

#include <string>

#include "bench/gpu_check/report.h"
#include "core/status.h"

namespace pelton::bench {

#ifdef PELTON_GPU_CHECK_EMULATED
inline constexpr bool kEmulated = true;
#else
inline constexpr bool kEmulated = false;
#endif

struct CheckContext {
  std::string folder;  // of this program: tests and shapes stand beside it
  std::string output;  // where the parts leave their rows
  // The smallest shapes and one repeat: shows that everything runs, not how fast.
  bool quick = kEmulated;

  // The card's ceilings, as the part "card" found them; 0: it has not run.
  double copy_gb_per_s = 0;  // bytes read and written, 1e9 a second
  double read_gb_per_s = 0;
  double mma_tflops = 0;  // bf16, the better of mma.sync and cuBLASLt
  double limit_s = 0;     // of the part that runs; 0: none
};

// Each adds its rows as it goes; an error ends the part.
Status check_card(const CheckContext& context, PartReport& report);
Status check_kernel_tests(const CheckContext& context, PartReport& report);
Status check_backend_tests(const CheckContext& context, PartReport& report);
Status check_sanitizer(const CheckContext& context, PartReport& report);
Status check_kernel_times(const CheckContext& context, PartReport& report);
Status check_models(const CheckContext& context, PartReport& report);

}  // namespace pelton::bench
