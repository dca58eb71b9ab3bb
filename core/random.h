// Counter-based random numbers: a pure function of (seed, position, draw), so that a request's
// draws do not depend on its neighbours, on the batch or on the device. CUDA computes the same.
#pragma once

#include <array>
#include <cstdint>

namespace pelton {

// Philox4x32-10 (Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3", SC'11).
constexpr std::array<uint32_t, 4> philox4x32(std::array<uint32_t, 4> counter,
                                             std::array<uint32_t, 2> key) {
  for (int round = 0; round < 10; ++round) {
    const uint64_t a = uint64_t{0xD2511F53U} * counter[0];
    const uint64_t b = uint64_t{0xCD9E8D57U} * counter[2];
    counter = {static_cast<uint32_t>(b >> 32) ^ counter[1] ^ key[0], static_cast<uint32_t>(b),
               static_cast<uint32_t>(a >> 32) ^ counter[3] ^ key[1], static_cast<uint32_t>(a)};
    key[0] += 0x9E3779B9U;
    key[1] += 0xBB67AE85U;
  }
  return counter;
}

// 23 bits to the middle of one of 2^23 equal parts of (0, 1): exact in float32, never 0 or 1.
constexpr float unit_interval(uint32_t bits) {
  return (static_cast<float>(bits >> 9) + 0.5F) * (1.0F / 8388608.0F);
}

// Uniform in (0, 1), 23 bits. `position` is the index in the sequence of the token being drawn,
// `draw` tells several draws for one token apart.
constexpr float counter_uniform(uint64_t seed, uint64_t position, uint32_t draw = 0) {
  const std::array<uint32_t, 4> bits =
      philox4x32({static_cast<uint32_t>(position), static_cast<uint32_t>(position >> 32), draw, 0},
                 {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)});
  return unit_interval(bits[0]);
}

}  // namespace pelton
