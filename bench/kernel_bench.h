// Matrix products at a model's shapes, without a model: how near the kernels come to the ceilings.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "backend/backend.h"
#include "bench/stopwatch.h"
#include "core/status.h"

namespace pelton::bench {

struct KernelFigure {
  std::string name;  // "q4_1 2048x2048"
  DType dtype;       // that most of the products are of
  int tokens = 1;
  double seconds = 0;   // of one pass over all matrices, the best of several
  double gb_per_s = 0;  // weights read
  double gflops = 0;
};

// Weight formats at 2048 x 2048, over more matrices than caches hold; and the demo model's own
// layers and head. formats: empty for all of them and the demo.
StatusOr<std::vector<KernelFigure>> measure_kernels(Backend& backend,
                                                    const std::vector<int>& tokens,
                                                    const std::vector<DType>& formats,
                                                    TimeBase base);

}  // namespace pelton::bench
