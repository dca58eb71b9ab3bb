// Attention over a made-up paged cache: data that depend on (seed, sequence, position) alone, the
// run on the device, and the same in float64.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "cuda/kernels/attention.h"
#include "tests/cuda/kernels/device_array.h"

namespace pelton::cuda::test {

struct AttentionSequence {
  int id = 0;          // its data are drawn by this
  int new_tokens = 1;  // the last of its positions
  int length = 1;      // 0 with new tokens: padding
};

struct AttentionCase {
  ElementType type = ElementType::kBF16;
  KvType kv = KvType::kBF16;
  int num_q_heads = 8;
  int num_kv_heads = 2;
  int head_dim = 64;
  int block_size = 16;
  int window = 0;
  float softcap = 0;
  bool sinks = false;
  std::vector<AttentionSequence> sequences;
  uint64_t seed = 1;
  uint64_t table_seed = 1;  // of the order of blocks in the cache
  // Of the plan.
  int num_sms = 4;
  bool batch_invariant = true;
  bool pad = false;
  int64_t max_partial_rows = 1 << 20;
};

struct AttentionRun {
  AttentionPlan plan;
  std::vector<uint16_t> out;  // [num_tokens, num_q_heads * head_dim], elements' bits
};

int total_new_tokens(const AttentionCase& c);
int64_t visible_kv_bytes(const AttentionCase& c);  // of K and V that any query must read, once
// Everything else drawn from the seed: types, shapes, options, a ragged batch.
AttentionCase random_case(uint64_t seed);
// `watch` is told each buffer and its name before the kernels run.
using BufferWatch = std::function<void(const void*, const std::string&)>;
AttentionRun run_attention(const AttentionCase& c, const BufferWatch& watch = {});
std::vector<double> reference_attention(const AttentionCase& c);  // as AttentionRun::out
// Compares with float64 within what rounding weights to 16 bits allows.
void check_attention(const AttentionCase& c);

}  // namespace pelton::cuda::test
