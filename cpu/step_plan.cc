#include "cpu/step_plan.h"

#include <cmath>

namespace pelton::cpu {

void CpuRopeTable::fill_row(int m, int position) {
  float* cosines = values_ + static_cast<int64_t>(m) * 2 * pairs();
  float* sines = cosines + pairs();
  for (int i = 0; i < pairs(); ++i) {
    // The product in float32, as models were trained with.
    const float angle = static_cast<float>(position) * spec_.inverse_frequencies[i];
    cosines[i] = static_cast<float>(std::cos(static_cast<double>(angle)) * spec_.magnitude);
    sines[i] = static_cast<float>(std::sin(static_cast<double>(angle)) * spec_.magnitude);
  }
}

}  // namespace pelton::cpu
