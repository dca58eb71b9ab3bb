// Loops that do nothing but multiply and add, one for each unit that the kernels of an instruction
// set can use. Each returns the operations done (an addition and a multiplication are two) and is
// thread-safe.
#pragma once

#include <cstdint>

#include "cpu/cpu_backend.h"

namespace pelton::bench {

struct RateLoops {
  double (*fp32)();
  double (*bf16)();         // vdpbf16ps, or fp32 where there is none
  double (*int8)();         // vpdpbusd; vpmaddubsw, vpmaddwd and vpaddd; or fp32
  double (*int8_paired)();  // two int8 products added in int16 before they are widened
};

// Loops of `isa`, or of the widest that the processor has. Whatever `isa` is, they run here.
RateLoops rate_loops(CpuIsa isa);

void read_all(const uint8_t* data, int64_t bytes);  // bytes: a multiple of 128, 32-byte aligned

}  // namespace pelton::bench
