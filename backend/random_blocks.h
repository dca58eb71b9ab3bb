// Random but valid weights in every storage format, centred on 0 with a given amplitude. Pure. The
// card makes the same bytes by itself (cuda/kernels/random_rows.cu): change both.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/dtype.h"

namespace pelton {

// SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", OOPSLA 2014).
class SplitMix64 {
 public:
  explicit SplitMix64(uint64_t seed) : state_(seed) {}
  uint64_t next() {
    state_ += 0x9E3779B97F4A7C15ULL;
    uint64_t z = state_;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ULL;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBULL;
    return z ^ (z >> 31);
  }
  // In [0, 1), 24 bits.
  float uniform() { return static_cast<float>(next() >> 40) * 0x1p-24F; }
  void fill(std::byte* out, size_t count);

 private:
  uint64_t state_;
};

// The stream of one row of a tensor.
inline SplitMix64 row_stream(uint64_t seed, int64_t row) {
  return SplitMix64(SplitMix64(seed + static_cast<uint64_t>(row)).next());
}

// `count` elements (whole blocks), roughly uniform in [-amplitude, amplitude].
void random_elements(DType dtype, int64_t count, float amplitude, SplitMix64& random,
                     std::byte* out);

}  // namespace pelton
