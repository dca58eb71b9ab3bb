// Activations of the MLP, and the softcap of logits.
//
// gated: x [rows, 2 cols] -> act(x[:, :cols]) * x[:, cols:]; else x [rows, cols] -> act(x).
// Bytes a row: gated 4 cols of x, plain 2 cols; 2 cols of out. Operations: about 20 an element
// (tanh and erf the most). Limit: memory bandwidth.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "cuda/kernels/element_type.h"

namespace pelton::cuda {

// gelu by tanh, 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))), or by erf.
enum class ActivationKind : uint8_t { kSilu, kGeluTanh, kGeluErf, kRelu };

struct ActivationParams {
  ElementType type = ElementType::kBF16;  // of x and out
  ActivationKind kind = ActivationKind::kSilu;
  bool gated = true;
  const void* x = nullptr;
  int64_t x_stride = 0;  // elements
  void* out = nullptr;   // [rows, cols]; may be x where not gated
  int64_t out_stride = 0;
  int rows = 0;
  int cols = 0;  // of out
};
cudaError_t activation(const ActivationParams& params, cudaStream_t stream);

// In place: cap * tanh(x / cap). Bytes: every element read and written.
struct SoftcapParams {
  bool is_float32 = true;  // the logits' usual type; else `type`
  ElementType type = ElementType::kBF16;
  void* x = nullptr;  // [rows, cols]
  int64_t x_stride = 0;
  float cap = 0;
  int rows = 0;
  int cols = 0;
};
cudaError_t softcap(const SoftcapParams& params, cudaStream_t stream);

}  // namespace pelton::cuda
