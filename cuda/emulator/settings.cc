#include "cuda/emulator/settings.h"

#include <cstdio>
#include <mutex>
#include <utility>

#include "cuda/emulator/fault.h"

namespace pelton::cuda::emulator {
namespace {

struct State {
  std::mutex mutex;
  CardLimits limits;
  Schedule schedule;
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
