// Runs token sequences through a decoder without a scheduler: the test says which tokens each step
// computes; block tables are a random permutation of the cache's blocks.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "model/load.h"

namespace pelton {

struct StepPart {
  int sequence = 0;
  int count = 0;  // tokens to compute next
};
using StepList = std::vector<std::vector<StepPart>>;

// One sequence of `total` tokens in chunks of at most `chunk`.
StepList chunks_of(int total, int chunk, int sequence = 0);

class DecoderDriver {
 public:
  // `block_seed` permutes the blocks. The model outlives the driver.
  DecoderDriver(LoadedModel& model, Backend& backend, uint32_t block_seed = 1);

  // Logits of every token, [sequence][tokens * V].
  std::vector<std::vector<float>> run(std::span<const std::vector<TokenId>> sequences,
                                      const StepList& steps);
  std::vector<float> run(const std::vector<TokenId>& tokens, int chunk);

 private:
  using Tables = std::vector<std::vector<std::vector<int32_t>>>;  // [group][sequence][block]

  Tables make_tables(std::span<const std::vector<TokenId>> sequences) const;
  Batch make_batch(std::span<const std::vector<TokenId>> sequences, const Tables& tables,
                   const std::vector<int>& computed, const std::vector<StepPart>& step) const;
  std::vector<float> logits(int count);

  LoadedModel& model_;
  Backend& backend_;
  uint32_t block_seed_;
};

// The largest |a - b| of any row, over the largest |reference| of that row. NaN anywhere: infinity.
double relative_error(std::span<const float> values, std::span<const float> reference, int cols);

}  // namespace pelton
