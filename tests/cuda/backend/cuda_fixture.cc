#include "tests/cuda/backend/cuda_fixture.h"

#if __has_include("cuda/emulator/emulator.h") && !defined(PELTON_REAL_CARD)
#define PELTON_CARD_EMULATED 1
#include "cuda/emulator/emulator.h"
#else
#define PELTON_CARD_EMULATED 0
#endif

namespace pelton::test {

CudaOptions CudaCard::default_options() {
  CudaOptions options;
  options.separate_allocations = PELTON_CARD_EMULATED != 0;
  if (PELTON_CARD_EMULATED == 0) options.memory_utilization = 0.2;
  return options;
}

CudaCard::CudaCard() {
#if PELTON_CARD_EMULATED
  cuda::emulator::reset(cuda::emulator::card_named("sm_90"));
#endif
}

CudaCard::~CudaCard() {
#if PELTON_CARD_EMULATED
  using namespace cuda::emulator;
  CHECK(broken_fences().empty());
  CHECK(describe(live_objects()) == describe(Objects{}));
  reset(card_named("sm_90"));
#endif
}

std::unique_ptr<Backend> CudaCard::backend(CudaOptions options) const {
  auto made = make_cuda_backend(options);
  INFO(made.status().ToString());
  REQUIRE(made.ok());
  return *std::move(made);
}

}  // namespace pelton::test
