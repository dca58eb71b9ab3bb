// Runs a body under many orders of blocks, warps and lanes, where kernels are emulated; once on a
// card, which has its own.
#pragma once

#include <cstdint>

#if __has_include(<pelton_device_language.h>)
#include "cuda/emulator/settings.h"
#define PELTON_TEST_SCHEDULES 1
#endif

namespace pelton::cuda::test {

template <typename Body>
void for_schedules(int count, Body body) {
#ifdef PELTON_TEST_SCHEDULES
  using emulator::Order;
  for (int i = 0; i < count; ++i) {
    const Order order = i == 0 ? Order::kForward : i == 1 ? Order::kReverse : Order::kRandom;
    const emulator::ScheduleScope scope({order, static_cast<uint64_t>(i), 0});
    body();
  }
#else
  (void)count;
  body();
#endif
}

}  // namespace pelton::cuda::test
