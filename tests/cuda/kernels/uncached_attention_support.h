// Attention without a cache over made-up sequences: the run on the device, and the same in float64.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "cuda/kernels/uncached_attention.h"
#include "tests/cuda/kernels/device_array.h"

namespace pelton::cuda::test {

struct EncoderCase {
  ElementType type = ElementType::kBF16;
  int num_q_heads = 4;
  int num_kv_heads = 2;
  int head_dim = 64;
  std::vector<int> lengths;

  int64_t cols() const { return int64_t{num_q_heads + 2 * num_kv_heads} * head_dim; }
};

// [tokens, num_q_heads * head_dim], elements' bits. `watch` is told each buffer and its name before
// the kernel runs.
std::vector<uint16_t> run_uncached_attention(
    const EncoderCase& c, const std::function<void(const void*, const std::string&)>& watch = {});
std::vector<double> reference_uncached_attention(const EncoderCase& c);

}  // namespace pelton::cuda::test
