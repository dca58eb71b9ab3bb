// The routed MLP on the card: tokens are grouped by expert there, and the experts' products take
// their rows from the groups, so that the host never learns who chose what. Holds the memory
// between these steps. Engine thread.
#pragma once

#include <cuda_runtime_api.h>

#include <memory>
#include <span>

#include "backend/backend.h"
#include "cuda/device_arena.h"
#include "cuda/kernels/element_type.h"

namespace pelton::cuda {

class RoutedExperts {
 public:
  RoutedExperts(std::shared_ptr<DeviceArena> arena, ElementType type, cudaStream_t stream);

  // Takes what steps up to the limits need.
  Status reserve(const StepLimits& limits);
  // From here on nothing grows: a step beyond the limits is an error.
  void seal() { sealed_ = true; }

  // INVALID_ARGUMENT for shapes that no kernel takes.
  Status route(const pelton::RouteParams& params);
  Status run(const ExpertsParams& params);

 private:
  struct Sizes {
    int64_t entries = 0, experts = 0, hidden = 0, ffn = 0;
  };
  Status grow(const Sizes& sizes);
  // out[starts[e] .. starts[e + 1]) = x[the same] matrices[e]^T, both [entries, ...].
  Status multiply(std::span<const Matrix* const> matrices, int tokens, int64_t entries,
                  const void* x, void* out);

  std::shared_ptr<DeviceArena> arena_;
  const ElementType type_;
  const cudaStream_t stream_;
  DevicePiece memory_;
  // Parts of memory_: where each expert's entries start, where an entry went, whose it is; and the
  // entries' rows, those of the experts' results later [entries, H], gate and up [entries, 2F],
  // their activation [entries, F].
  int32_t *starts_ = nullptr, *place_ = nullptr, *token_of_ = nullptr;
  std::byte *rows_ = nullptr, *gate_up_ = nullptr, *activation_ = nullptr;
  bool sealed_ = false;
};

}  // namespace pelton::cuda
