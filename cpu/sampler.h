// The sampler of backend/sampler_spec.h. Rows are independent and run in parallel over the pool;
// nothing sorts the vocabulary unless the kept set is that large. Engine thread only.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "backend/sampler_spec.h"
#include "backend/tensor.h"
#include "cpu/kernels/kernels.h"
#include "cpu/thread_pool.h"

namespace pelton::cpu {

class Sampler {
 public:
  Sampler(const KernelTable& kernels, ThreadPool& pool);
  // logits [R, V] f32. [rows]
  std::vector<SampledToken> run(const Tensor& logits, std::span<const SampleRow> rows);

 private:
  struct Candidate {
    float x;
    TokenId id;
    uint32_t weight;
  };
  struct Worker {                   // one a thread
    std::vector<float> x;           // [V] transformed logits
    std::vector<uint32_t> weights;  // [V]
    std::vector<Candidate> candidates;
  };
  SampledToken sample_row(const float* logits, int vocab, const SampleRow& row, Worker& worker);
  TokenId draw(const float* x, int vocab, float top, const SampleRow& row, Worker& worker);
  // Sets the weights of ids that top_k, min_p and top_p drop to zero; returns the sum of the rest.
  uint64_t filter(const float* x, int vocab, const SampleRow& row, uint64_t total, Worker& worker);
  PositionLogprobs score(const float* logits, int vocab, TokenId chosen, int top) const;

  const KernelTable& kernels_;
  ThreadPool& pool_;
  std::vector<Worker> workers_;
};

}  // namespace pelton::cpu
