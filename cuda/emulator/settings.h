// What a test can choose: the card's limits and the order in which lanes and blocks run. Set
// between launches; process-wide. PELTON_EMULATED_SCHEDULE chooses the order at start: "reverse" or
// the seed of a random one.
#pragma once

#include <cstddef>
#include <cstdint>

namespace pelton::cuda::emulator {

// Bounds on a launch. The defaults are an H100's.
struct CardLimits {
  unsigned max_threads_per_block = 1024;
  size_t shared_per_block = 48 << 10;         // without asking, and for static arrays
  size_t shared_per_block_optin = 227 << 10;  // after allow_shared()
};

enum class Order {
  kForward,  // lanes, warps and blocks by index, one warp as far as it goes
  kReverse,
  kRandom,  // anew at each switch, by seed
};

struct Schedule {
  Order order = Order::kForward;
  uint64_t seed = 0;
  // Host threads over which a large grid is spread; 0: as many as the machine has.
  unsigned host_threads = 0;
};

CardLimits card_limits();
void set_card_limits(const CardLimits& limits);
Schedule schedule();
void set_schedule(const Schedule& schedule);

// Puts a schedule in place for a scope.
class ScheduleScope {
 public:
  explicit ScheduleScope(const Schedule& next) : before_(schedule()) { set_schedule(next); }
  ~ScheduleScope() { set_schedule(before_); }
  ScheduleScope(const ScheduleScope&) = delete;
  ScheduleScope& operator=(const ScheduleScope&) = delete;

 private:
  Schedule before_;
};

}  // namespace pelton::cuda::emulator
