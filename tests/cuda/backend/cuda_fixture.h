// A CUDA backend for tests: on the emulated card, or on a real one with PELTON_CUDA. Under the
// emulator each allocation is fenced and poisoned, and nothing may be left at the end.
#pragma once

#include <memory>

#include "cuda/cuda_backend.h"
#include "tests/support/catch.h"

namespace pelton::test {

struct CudaCard {
  CudaCard();
  ~CudaCard();  // checks fences and leaks where the card is emulated
  // With 256 MiB on the emulated card.
  std::unique_ptr<Backend> backend(CudaOptions options = default_options()) const;
  static CudaOptions default_options();
};

}  // namespace pelton::test
