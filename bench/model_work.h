// What a token of a model costs at least: bytes that move, operations by weight format, and how
// long they take at this machine's ceilings. Pure.
#pragma once

#include <array>
#include <cstdint>

#include "bench/ceilings.h"
#include "core/dtype.h"
#include "model/model_files.h"

namespace pelton::bench {

// The best rate that the machine has for products with weights of this format: int8 activations for
// the quantised ones, whether or not the backend uses them.
double peak_gops(DType weights, const Ceilings& ceilings);

// Of that, what its products can reach beside what must go with them (docs/performance.md).
double attainable_gops(DType weights, const Ceilings& ceilings);
// The seconds within which `operations` over `bytes` of weights should be done, read once whatever
// the batch: the longer of the two, the operations at 0.85 of the attainable rate.
double bound_seconds(DType weights, double bytes, double operations, const Ceilings& ceilings);

struct ModelWork {
  std::array<int64_t, kNumDTypes> layers{};  // weights that every token is multiplied with
  std::array<int64_t, kNumDTypes> head{};    // and those that only a token to be sampled is
  int64_t step_bytes = 0;                    // of both, as the file holds them
  // Operations, in float32, for each position that a token attends to. Layers with a window are
  // left out.
  int64_t attention_ops = 0;

  int64_t layer_weights() const;
  int64_t head_weights() const;
  // Seconds that `rows` tokens, of which `sampled` go through the head, take at the formats' peaks.
  // `attended`: positions of the context, summed over the tokens.
  double seconds_at_peak(int64_t rows, int64_t sampled, int64_t attended,
                         const Ceilings& ceilings) const;
};

ModelWork work_of(const ModelFiles& files);

}  // namespace pelton::bench
