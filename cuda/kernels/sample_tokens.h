// A token for each row by the rules of backend/sampler_spec.h, to the bit what the CPU draws from
// equal logits; no sort of the vocabulary. The ids stay on the device for the next step; ids and
// log probabilities are read back from `results` and `top`.
//
// Bytes: the logits of a row once where greedy with every id allowed, three times with bans or a
// mask, 11 times with a temperature alone, 19 with top-k and top-p (out of L2, where a row lies
// then). Operations: an exp for each logit and pass that weighs it. Limit: memory bandwidth.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace pelton::cuda {

inline constexpr int kMaxTopLogprobs = 32;

// One row of work, made on the host. The uniform number is drawn there too: the bits are the CPU's.
struct SampleTask {
  int32_t logit_row = 0;
  float temperature = 1.0F;   // 0: greedy
  float top_p = 1.0F;         // >= 1: off
  int32_t top_k = 0;          // 0: off
  uint32_t min_weight = 0;    // ceil(min_p * 2^30); 0: off
  float uniform = 0.0F;       // counter_uniform(seed, position)
  int32_t forced_token = -1;  // >= 0: this id, scored
  int32_t logprobs = -1;      // -1: none; else of the chosen id and of so many likeliest
  int32_t banned_begin = 0;   // into SampleParams::banned
  int32_t banned_end = 0;
  int32_t mask = -1;  // index of a row of SampleParams::masks; -1: all ids are allowed
  int32_t padding = 0;
};
static_assert(sizeof(SampleTask) == 48);

struct SampleResult {
  int32_t token = 0;
  int32_t nan = 0;       // not 0: the row held a NaN or +inf, or no finite logit was left
  float logprob = 0.0F;  // of `token`, where asked for
  int32_t rank = 0;      // 1 + ids that are likelier, or as likely and lower
};
static_assert(sizeof(SampleResult) == 16);
struct TopLogprob {
  int32_t token = 0;
  float logprob = 0.0F;
};

struct SampleParams {
  const float* logits = nullptr;  // [logit rows, vocab]
  int64_t logits_stride = 0;      // elements
  int vocab = 0;
  const SampleTask* tasks = nullptr;  // [num_tasks]
  int num_tasks = 0;
  const int32_t* banned = nullptr;  // ids that may not be drawn
  const uint32_t* masks = nullptr;  // [.., ceil(vocab / 32)] bit set: allowed
  int32_t* tokens = nullptr;        // [num_tasks]; always within the vocabulary: 0 where nan
  SampleResult* results = nullptr;  // [num_tasks]
  TopLogprob* top = nullptr;        // [num_tasks, max_top], likeliest first
  int max_top = 0;                  // row length of `top`, at most kMaxTopLogprobs
  void* workspace = nullptr;        // sample_workspace_bytes(num_tasks, vocab), 16-byte aligned
};
int64_t sample_workspace_bytes(int num_tasks, int vocab);
cudaError_t sample_tokens(const SampleParams& params, cudaStream_t stream);

}  // namespace pelton::cuda
