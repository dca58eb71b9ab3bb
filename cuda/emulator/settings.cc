#include "cuda/emulator/settings.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <utility>

#include "cuda/emulator/fault.h"

namespace pelton::cuda::emulator {
namespace {

Schedule schedule_of_environment() {
  Schedule schedule;
  const char* text = std::getenv("PELTON_EMULATED_SCHEDULE");
  if (text == nullptr || *text == 0) return schedule;
  const bool reverse = std::strcmp(text, "reverse") == 0;
  schedule.order = reverse ? Order::kReverse : Order::kRandom;
  schedule.seed = reverse ? 0 : std::strtoull(text, nullptr, 10);
  return schedule;
}

struct State {
  std::mutex mutex;
  CardLimits limits;
  Schedule schedule = schedule_of_environment();
  std::optional<Fault> fault;
  bool quiet = false;
};

State& state() {
  static State state;
  return state;
}

}  // namespace

CardLimits card_limits() {
  std::lock_guard lock(state().mutex);
  return state().limits;
}
void set_card_limits(const CardLimits& limits) {
  std::lock_guard lock(state().mutex);
  state().limits = limits;
}
Schedule schedule() {
  std::lock_guard lock(state().mutex);
  return state().schedule;
}
void set_schedule(const Schedule& schedule) {
  std::lock_guard lock(state().mutex);
  state().schedule = schedule;
}

std::optional<Fault> last_fault() {
  std::lock_guard lock(state().mutex);
  return state().fault;
}
void clear_fault() {
  std::lock_guard lock(state().mutex);
  state().fault.reset();
}
void set_fault(Fault fault) {
  std::lock_guard lock(state().mutex);
  if (!state().quiet) std::fprintf(stderr, "emulator: %s\n", fault.message.c_str());
  state().fault = std::move(fault);
}
void set_faults_quiet(bool quiet) {
  std::lock_guard lock(state().mutex);
  state().quiet = quiet;
}

}  // namespace pelton::cuda::emulator
