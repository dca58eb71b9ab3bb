// Shuffles, votes and reductions: each lane leaves its value, the last one computes for all.
#include <fmt/format.h>

#include <algorithm>
#include <bit>

#include "cuda/emulator/block_runner.h"
#include "cuda/emulator/lane_language.h"

namespace pelton::cuda::emulator {
namespace {

template <class Visit>
void for_each_lane(uint32_t mask, Visit visit) {
  for (; mask != 0; mask &= mask - 1) visit(static_cast<unsigned>(std::countr_zero(mask)));
}

struct Shuffle {
  uint64_t value;
  uint64_t result;
  unsigned source;
  unsigned bad_source;  // kLanes: none
};

void compute_shuffle(void* const* arguments, uint32_t mask) {
  for_each_lane(mask, [&](unsigned lane) {
    auto& mine = *static_cast<Shuffle*>(arguments[lane]);
    mine.bad_source = (mask >> mine.source & 1) != 0 ? kLanes : mine.source;
    if (mine.bad_source == kLanes) {
      mine.result = static_cast<Shuffle*>(arguments[mine.source])->value;
    }
  });
}

// The lane that this one reads; itself where the source lies outside its segment of `width`.
unsigned shuffle_source(ShuffleMode mode, unsigned lane, int operand, int width) {
  const auto size = static_cast<unsigned>(width);
  const unsigned segment = lane / size * size;
  const unsigned within = lane % size;
  const auto by = static_cast<unsigned>(operand);
  switch (mode) {
    case ShuffleMode::kIndex:
      return segment + by % size;
    case ShuffleMode::kUp:
      return within >= by ? lane - by : lane;
    case ShuffleMode::kDown:
      return within + by < size ? lane + by : lane;
    case ShuffleMode::kXor: {
      // A lane may read from its own or an earlier segment.
      const unsigned source = lane ^ by;
      return source < segment + size && source < kLanes ? source : lane;
    }
  }
  return lane;
}

const char* shuffle_name(ShuffleMode mode) {
  switch (mode) {
    case ShuffleMode::kIndex:
      return "__shfl_sync";
    case ShuffleMode::kUp:
      return "__shfl_up_sync";
    case ShuffleMode::kDown:
      return "__shfl_down_sync";
    case ShuffleMode::kXor:
      return "__shfl_xor_sync";
  }
  return "";
}

struct Vote {
  bool predicate;
  uint32_t result;
};

void compute_ballot(void* const* arguments, uint32_t mask) {
  uint32_t bits = 0;
  for_each_lane(mask, [&](unsigned lane) {
    if (static_cast<Vote*>(arguments[lane])->predicate) bits |= 1u << lane;
  });
  for_each_lane(mask, [&](unsigned lane) { static_cast<Vote*>(arguments[lane])->result = bits; });
}

struct Match {
  uint64_t value;
  uint32_t result;
};

void compute_match(void* const* arguments, uint32_t mask) {
  for_each_lane(mask, [&](unsigned lane) {
    auto& mine = *static_cast<Match*>(arguments[lane]);
    mine.result = 0;
    for_each_lane(mask, [&](unsigned other) {
      if (static_cast<Match*>(arguments[other])->value == mine.value) mine.result |= 1u << other;
    });
  });
}

template <class T>
struct Reduce {
  Reduction reduction;
  T value;
  T result;
};

template <class T>
void compute_reduce(void* const* arguments, uint32_t mask) {
  bool first = true;
  T total{};
  for_each_lane(mask, [&](unsigned lane) {
    const auto& mine = *static_cast<Reduce<T>*>(arguments[lane]);
    if (first) {
      total = mine.value;
      first = false;
      return;
    }
    const auto a = static_cast<uint32_t>(total);
    const auto b = static_cast<uint32_t>(mine.value);
    switch (mine.reduction) {
      case Reduction::kAdd:
        total = static_cast<T>(a + b);
        break;
      case Reduction::kMin:
        total = std::min(total, mine.value);
        break;
      case Reduction::kMax:
        total = std::max(total, mine.value);
        break;
      case Reduction::kAnd:
        total = static_cast<T>(a & b);
        break;
      case Reduction::kOr:
        total = static_cast<T>(a | b);
        break;
      case Reduction::kXor:
        total = static_cast<T>(a ^ b);
        break;
    }
  });
  for_each_lane(mask,
                [&](unsigned lane) { static_cast<Reduce<T>*>(arguments[lane])->result = total; });
}

const char* reduction_name(Reduction reduction) {
  switch (reduction) {
    case Reduction::kAdd:
      return "__reduce_add_sync";
    case Reduction::kMin:
      return "__reduce_min_sync";
    case Reduction::kMax:
      return "__reduce_max_sync";
    case Reduction::kAnd:
      return "__reduce_and_sync";
    case Reduction::kOr:
      return "__reduce_or_sync";
    case Reduction::kXor:
      return "__reduce_xor_sync";
  }
  return "";
}

template <class T>
T reduce(uint32_t mask, Reduction reduction, T value, Site site) {
  Reduce<T> mine{reduction, value, value};
  BlockRunner::current().meet(mask, reduction_name(reduction), false, &mine, &compute_reduce<T>,
                              site);
  return mine.result;
}

}  // namespace

void syncwarp(uint32_t mask, Site site) {
  BlockRunner::current().meet(mask, "__syncwarp", false, nullptr, nullptr, site);
}

uint64_t shuffle(uint32_t mask, ShuffleMode mode, uint64_t value, int operand, int width,
                 Site site) {
  BlockRunner& runner = BlockRunner::current();
  const char* name = shuffle_name(mode);
  if (width <= 0 || width > 32 || (width & (width - 1)) != 0) {
    runner.fail(cudaErrorLaunchFailure, "wrong width", fmt::format("{}: {}", name, width), site);
  }
  Shuffle mine{value, value, shuffle_source(mode, lane_id(), operand, width), kLanes};
  runner.meet(mask, name, false, &mine, &compute_shuffle, site);
  if (mine.bad_source != kLanes) {
    runner.fail(
        cudaErrorLaunchFailure, "wrong mask",
        fmt::format("{} reads lane {}, which is not in mask {:#010x}", name, mine.bad_source, mask),
        site);
  }
  return mine.result;
}

uint32_t ballot(uint32_t mask, bool predicate, Site site) {
  Vote mine{predicate, 0};
  BlockRunner::current().meet(mask, "__ballot_sync", false, &mine, &compute_ballot, site);
  return mine.result;
}

uint32_t match_any(uint32_t mask, uint64_t value, Site site) {
  Match mine{value, 0};
  BlockRunner::current().meet(mask, "__match_any_sync", false, &mine, &compute_match, site);
  return mine.result;
}

uint32_t reduce_unsigned(uint32_t mask, Reduction reduction, uint32_t value, Site site) {
  return reduce(mask, reduction, value, site);
}

int32_t reduce_signed(uint32_t mask, Reduction reduction, int32_t value, Site site) {
  return reduce(mask, reduction, value, site);
}

// Which lanes run together is up to a card; here each runs alone.
uint32_t active_mask() {
  return 1u << lane_id();
}

unsigned lane_id() {
  return BlockRunner::current().lane().linear % kLanes;
}

}  // namespace pelton::cuda::emulator
