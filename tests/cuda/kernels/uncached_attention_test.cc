// Attention inside sequences, over rows.
#include <algorithm>

#include "tests/cuda/kernels/uncached_attention_support.h"

namespace pelton::cuda::test {

TEST_CASE("Encoder attention matches float64 in every type and head size") {
  for (const ElementType type : {ElementType::kBF16, ElementType::kF16}) {
    for (const int head_dim : {8, 24, 64, 128, 256}) {
      EncoderCase c;
      c.type = type;
      c.head_dim = head_dim;
      c.lengths = {1, 19, 0, 100};
      INFO("type " << static_cast<int>(type) << " head_dim " << head_dim);
      check_close(to_floats(type, run_uncached_attention(c)), reference_uncached_attention(c),
                  element_tolerance(type), type == ElementType::kBF16 ? 0.01 : 0.0015);
    }
  }
  EncoderCase longer;
  longer.num_q_heads = 3;
  longer.num_kv_heads = 3;
  longer.head_dim = 32;
  longer.lengths = {300, 64};
  check_close(to_floats(longer.type, run_uncached_attention(longer)),
              reference_uncached_attention(longer), element_tolerance(longer.type), 0.01);
}

TEST_CASE("Encoder attention of a sequence is the same to the bit in any batch") {
  EncoderCase alone;
  alone.lengths = {140};
  EncoderCase batch = alone;
  batch.lengths = {33, 140, 5};
  const std::vector<uint16_t> expected = run_uncached_attention(alone),
                              all = run_uncached_attention(batch);
  const auto first = all.begin() + int64_t{33} * alone.num_q_heads * alone.head_dim;
  CHECK(std::equal(expected.begin(), expected.end(), first));
}

TEST_CASE("Encoder attention refuses what it has no kernel for") {
  UncachedAttentionParams p;
  p.num_q_heads = 4;
  p.num_kv_heads = 2;
  p.head_dim = 64;
  p.scale = 1;
  CHECK(uncached_attention(p, nullptr) == cudaSuccess);  // and nothing to do
  p.head_dim = 20;
  CHECK(uncached_attention(p, nullptr) == cudaErrorInvalidValue);
  p.head_dim = 64;
  p.num_kv_heads = 3;
  CHECK(uncached_attention(p, nullptr) == cudaErrorInvalidValue);
}

}  // namespace pelton::cuda::test
