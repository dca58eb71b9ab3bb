// How one row of logits becomes a token; the contract that every backend's sampler keeps, to the
// bit where the logits are equal. A plain value.
//
// Order of transforms: banned ids (logit = -inf) -> mask -> [temperature 0: argmax, lowest id wins
// ties] -> divide by temperature -> top_k -> softmax -> min_p -> top_p (smallest prefix in
// descending order whose sum reaches top_p; ties by id) -> draw u = counter_uniform(seed, position)
// over the kept ids in ascending id order, by inverse cumulative sum.
// Log probabilities are of the raw logits, before everything above.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/ids.h"
#include "core/sampling_params.h"

namespace pelton {

struct SampleRow {
  int logit_row = 0;  // index into Batch::logit_rows
  float temperature = 1.0F;
  int top_k = 0;
  float top_p = 1.0F;
  float min_p = 0.0F;
  uint64_t seed = 0;
  uint64_t position = 0;            // index in the sequence of the token to be drawn
  int logprobs = -1;                // as in SamplingParams
  std::span<const TokenId> banned;  // may not be produced (min_tokens); lives until collect()
  std::span<const uint32_t> mask;   // [ceil(vocab / 32)] bit set: allowed; empty: all
  TokenId forced_token = -1;        // >= 0: score this id instead of drawing (prompt logprobs)
};

struct SampledToken {
  TokenId token = 0;
  bool nan = false;           // the row held a NaN or no finite logit: token means nothing
  PositionLogprobs logprobs;  // filled where asked for
};

}  // namespace pelton
