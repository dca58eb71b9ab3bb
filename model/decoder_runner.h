// A decoder with its paged cache, as the engine sees it. Engine thread only; owns the model, the
// cache and, in order, what they live in.
#pragma once

#include <memory>
#include <vector>

#include "backend/backend.h"
#include "model/decoder.h"
#include "model/model_runner.h"

namespace pelton {

class DecoderRunner final : public ModelRunner {
 public:
  // `backend` outlives the runner.
  DecoderRunner(std::unique_ptr<Decoder> decoder, std::unique_ptr<KvCache> cache,
                std::vector<int> num_blocks, Backend& backend);

  int vocab_size() const override { return decoder_->config().vocab_size; }
  const KvGeometry& kv_geometry() const override { return cache_->geometry(); }
  const std::vector<int>& num_blocks() const override { return num_blocks_; }
  bool asynchronous() const override { return backend_.asynchronous(); }

  Status forward(const Batch& batch) override;
  // Up to DecoderLimits::max_logit_rows logit rows a step are sampled without a wait. A batch that
  // wants more (prompt logprobs) is worked off in that many at a time, which waits in here.
  Status sample(std::span<const SampleRow> rows) override;
  StatusOr<std::vector<SampledToken>> collect() override;

  // Has the backend record its decode steps and seals it; before the first step, once.
  Status warm_up();

  Decoder& decoder() { return *decoder_; }
  KvCache& cache() { return *cache_; }

 private:
  Status sample_in_parts(std::span<const SampleRow> rows);

  Backend& backend_;
  std::unique_ptr<KvCache> cache_;
  std::unique_ptr<Decoder> decoder_;
  std::vector<int> num_blocks_;  // [num_groups]
  int num_logit_rows_ = 0;       // of the last forward
  Tensor logits_;                // [num_logit_rows, V] of it; undefined: none, or too many at once
  bool in_parts_ = false;        // the last sample() left its results in sampled_
  std::vector<SampledToken> sampled_;
};

}  // namespace pelton
