// What sampling parameters may be: said once, for the front ends' validator (which also names them
// in the API's comments) and for the engine's own check.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>

namespace pelton::sampling_limits {

inline constexpr int64_t kMaxCount = std::numeric_limits<int32_t>::max();  // max_tokens, top_k, ...
inline constexpr double kMaxTemperature = 100;
inline constexpr int kMaxLogprobs = 20;
inline constexpr int kMaxStops = 16;
inline constexpr size_t kMaxStopBytes = 1024;
inline constexpr int kMaxStopTokenIds = 256;

}  // namespace pelton::sampling_limits
