// How one row of logits becomes a token; the contract that every backend's sampler keeps, to the
// bit where the logits are equal. A plain value.
//
// Order of transforms:
//   banned ids (logit = -inf), then the mask;
//   temperature 0, or so small that max / temperature is not finite: argmax, the lowest id of ties;
//   x = logit / temperature;
//   top_k in descending order of x (lower id first where equal);
//   weights w = sampler_weight(x - max x): integers, so that their sums have no rounding, no order;
//   min_p: keep w >= ceil(min_p * 2^30);
//   top_p: the smallest prefix in descending order whose sum reaches ceil(top_p * total), total
//   being the sum before min_p (everything, where it is not reached);
//   draw: the first id in ascending order whose running sum over the kept ids, itself included,
//   exceeds floor(u * their sum), u = counter_uniform(seed, position). Products in double.
// A NaN or +inf anywhere in the row, or no id left that is finite, sets SampledToken::nan.
// Log probabilities are of the raw logits, before everything above.
#pragma once

#include <bit>
#include <cmath>
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

// e^z for z <= 0 as a fixed sequence of float32 operations (every backend runs the same), within 2
// units in the last place; the polynomial is Cephes' expf. Below -87 it stays at e^-87.
inline float sampler_exp(float z) {
  z = -87.0F > z ? -87.0F : z;                                           // lets NaN through
  const float shifted = std::fma(z, 1.44269504088896341F, 12582912.0F);  // rounds to an integer
  const float n = shifted - 12582912.0F;
  const float r = std::fma(n, 2.12194440e-4F, std::fma(n, -0.693359375F, z));
  float p = 1.9875691500e-4F;
  p = std::fma(p, r, 1.3981999507e-3F);
  p = std::fma(p, r, 8.3334519073e-3F);
  p = std::fma(p, r, 4.1665795894e-2F);
  p = std::fma(p, r, 1.6666665459e-1F);
  p = std::fma(p, r, 5.0000001201e-1F);
  p = std::fma(p * r, r, r) + 1.0F;
  const int32_t exponent = std::bit_cast<int32_t>(shifted) - std::bit_cast<int32_t>(12582912.0F);
  return p * std::bit_cast<float>((exponent + 127) << 23);
}

// The likeliest token's weight; one 2^31 times less likely than it is never drawn.
inline constexpr uint32_t kSamplerOne = 1U << 30;
inline uint32_t sampler_weight(float z) {
  return static_cast<uint32_t>(std::lrint(sampler_exp(z) * 1073741824.0F));  // nearest, ties even
}

}  // namespace pelton
