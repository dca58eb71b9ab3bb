// One model on one device, as the engine sees it: forward, sample, collect. Used by the engine
// thread alone. forward() may return before the device is done; collect() waits.
//
// Steps may overlap by one, so that the device never waits for the host:
//   forward(1) sample(1) | forward(2) collect(1) sample(2) | forward(3) collect(2) sample(3) | ...
// forward(N+1) is called while step N may still be computed. Its Batch names in `drawn` the tokens
// that are results of sample(N); their ids go from the sampler to the embedding on the device.
// What that asks of a runner:
//  - The device works in the order of the calls: what step N reads or writes of the KV cache, step
//    N+1 may overwrite, since blocks are given to others as soon as a step no longer needs them.
//  - The results of sample(N) stay until collect(N), whatever was enqueued since; collect(N) waits
//    for sample(N) alone, not for forward(N+1).
//  - sample(N+1) comes after collect(N) (masks, bans and ends depend on it) and may name fewer rows
//    than the batch has logit rows, or none: a sequence that ended with step N is not sampled
//    again.
//  - Every sampled id can be embedded, even where the row is not a number.
// Without overlap the calls are forward, sample, collect and `drawn` stays empty.
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

  // Whether forward() and sample() return before the device is done: then overlap pays.
  virtual bool asynchronous() const { return false; }

  // Computes the batch's KV and the logits of its logit_rows. The batch is copied or consumed
  // before this returns. An error is the device's: it ends the engine, not one request.
  virtual Status forward(const Batch& batch) = 0;
  // Samples from the last forward's logits, one result a row, in order. Masks and banned ids are
  // read at the latest in collect().
  virtual Status sample(std::span<const SampleRow> rows) = 0;
  // Waits for the last sample() and gives its results, once. [rows]
  virtual StatusOr<std::vector<SampledToken>> collect() = 0;
};

}  // namespace pelton
