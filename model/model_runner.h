// One model on one device, as the engine sees it: forward, sample, collect. Used by the engine
// thread alone. forward() may return before the device is done; collect() waits.
#pragma once

#include <span>
#include <vector>

#include "backend/sampler_spec.h"
#include "core/batch.h"
#include "core/kv_geometry.h"
#include "core/status.h"

namespace pelton {

class ModelRunner {
 public:
  virtual ~ModelRunner() = default;

  virtual int vocab_size() const = 0;
  virtual const KvGeometry& kv_geometry() const = 0;
  // Blocks that the KV cache holds, per group. [num_groups]
  virtual const std::vector<int>& num_blocks() const = 0;

  // Computes the batch's KV and the logits of its logit_rows. The batch is copied or consumed
  // before this returns. An error is the device's: it ends the engine, not one request.
  virtual Status forward(const Batch& batch) = 0;
  // Samples from the last forward's logits, one result a row, in order. Masks and banned ids are
  // read at the latest in collect().
  virtual Status sample(std::span<const SampleRow> rows) = 0;
  // Waits for the last sample() and gives its results. [rows]
  virtual StatusOr<std::vector<SampledToken>> collect() = 0;
};

}  // namespace pelton
