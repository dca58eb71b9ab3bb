// A fresh emulated card for each test, which must leave nothing on it.
#pragma once

#include <cuda_runtime_api.h>

#include "cuda/emulator/emulator.h"
#include "cuda/emulator/stream_work.h"
#include "tests/support/catch.h"

namespace pelton::cuda::emulator {

struct FreshCard {
  FreshCard() { reset(card_named("sm_90")); }
  ~FreshCard() {
    CHECK(describe(live_objects()) == describe(Objects{}));
    reset(card_named("sm_90"));
  }
};

#define CUDA_OK(expression) REQUIRE((expression) == cudaSuccess)

// A kernel as the launcher would queue it.
inline Work work(std::string name, std::function<void()> body) {
  Work out;
  out.name = std::move(name);
  out.run = [body = std::move(body)] {
    body();
    return cudaSuccess;
  };
  return out;
}

}  // namespace pelton::cuda::emulator
