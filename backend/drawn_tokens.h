// Batch::drawn where the results of sample() are on the host already. A pure function.
#pragma once

#include <span>

#include "backend/sampler_spec.h"
#include "core/batch.h"
#include "core/status.h"

namespace pelton {

// Puts the ids into `batch` and empties its `drawn`. INTERNAL for what `results` does not hold:
// they were collected before, or the batch is not theirs.
inline Status fill_drawn_tokens(std::span<const SampledToken> results, Batch& batch) {
  for (const DrawnToken& drawn : batch.drawn) {
    if (drawn.index < 0 || drawn.index >= batch.num_tokens() || drawn.row < 0 ||
        drawn.row >= static_cast<int32_t>(results.size())) {
      return absl::InternalError("a batch names a drawn token that no step has drawn");
    }
    batch.tokens[static_cast<size_t>(drawn.index)] = results[static_cast<size_t>(drawn.row)].token;
  }
  batch.drawn.clear();
  return absl::OkStatus();
}

}  // namespace pelton
