// Tests of every op of backend.h against float64 references, for any backend: each check_ runs the
// op over shapes and kinds; each run_ gives one op's bits, to compare backends and batches with.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "backend/backend.h"

namespace pelton::test {

// The formats that pack() is asked for.
std::vector<DType> weight_dtypes();

struct LinearCase {
  DType dtype = DType::kF32;
  int64_t m = 1, n = 1, k = 1;
  bool bias = false;
  uint64_t seed = 1;
};
// Row r of x depends on the seed and r alone, so that cases of different m share rows. [m, n]
std::vector<float> run_linear(Backend& backend, const LinearCase& c);
std::vector<float> linear_x(const LinearCase& c);        // [m, k]
std::vector<float> linear_weights(const LinearCase& c);  // [n, k], as the format holds them
std::vector<float> linear_bias(const LinearCase& c);     // [n]
// What a product over weights of this format sees of x [m, k].
using SeenActivations =
    std::function<std::vector<double>(DType weights, const std::vector<float>& x, int64_t k)>;
void check_linear(Backend& backend);  // sees x in the backend's activation dtype
void check_linear_seen(Backend& backend, const SeenActivations& seen);
void check_stacked_sources(Backend& backend);
void check_embedding(Backend& backend);

// One attention layer fed chunk by chunk: sequence s of `lens` tokens, its KV written by
// rope_and_write_kv, then attended to.
struct AttentionCase {
  int num_q_heads = 2, num_kv_heads = 1, head_dim = 8;
  int block_size = 4;
  DType kv_dtype = DType::kF32;
  int window = 0;
  float softcap = 0;
  bool sinks = false;
  bool qk_norm = false;
  bool rope = true;
  bool interleaved = false;
  int rotary_dim = 0;       // 0: head_dim
  std::vector<int> lens;    // tokens of each sequence
  int chunk = 0;            // new tokens a sequence and step; 0: all at once
  uint64_t table_seed = 0;  // permutes the blocks
  int poisoned_token = -1;  // NaN in its qkv
  uint64_t seed = 1;
};
// [sum of lens, Hq * D], sequence after sequence.
std::vector<float> run_attention(Backend& backend, const AttentionCase& c);
std::vector<double> reference_attention(Backend& backend, const AttentionCase& c);
void check_attention(Backend& backend);

// Attention inside each sequence with no cache. Rows of a sequence depend on the seed and its
// length alone, so that cases share sequences.
struct EncoderCase {
  int num_q_heads = 4, num_kv_heads = 2, head_dim = 24;
  std::vector<int> lens;
  uint64_t seed = 3;
};
Batch encoder_batch(const std::vector<int>& lens);
// [sum of lens, Hq * D]
std::vector<float> run_encoder_attention(Backend& backend, const EncoderCase& c);
void check_encoder_attention(Backend& backend);
void check_kv_blocks(Backend& backend);  // copy, read, write

// A routed MLP: route(), then experts(). Rows depend on the seed and their number alone.
struct ExpertsCase {
  DType dtype = DType::kQ8_0;  // of the experts' weights
  int64_t m = 13, hidden = 64, ffn = 32;
  int num_experts = 5, top_k = 2;
  bool renormalize = true, sigmoid = false;
  Activation activation = Activation::kSilu;
  bool float_logits = false;  // float32, else as activations are
  bool mixed = false;         // gate and up differ in format, and not in every expert alike
  uint64_t seed = 30;
};
struct PackedExperts {
  std::vector<std::unique_ptr<Matrix>> owned;
  std::vector<const Matrix*> gate_up, down;
};
PackedExperts pack_experts(Backend& backend, const ExpertsCase& c);
// [m, hidden]
std::vector<float> run_experts(Backend& backend, const ExpertsCase& c, const PackedExperts& packed);
void check_experts(Backend& backend);

void check_norm(Backend& backend);
void check_activation(Backend& backend);
void check_pooling(Backend& backend);
void check_logit_rows(Backend& backend);

// The naive sampler: sorts everything, as the spec reads.
SampledToken reference_sample(const float* logits, int vocab, const SampleRow& row);
void check_sampler(Backend& backend);
// Ids that go from a sample() to the next step's embedding before they are collected.
void check_drawn_tokens(Backend& backend);

}  // namespace pelton::test
