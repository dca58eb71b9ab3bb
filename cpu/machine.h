// What this machine offers: instruction sets, cores, memory. Pure queries, thread-safe.
#pragma once

#include <cstdint>

namespace pelton::cpu {

bool has_avx2();    // with FMA and F16C
bool has_avx512();  // F, BW, DQ, VL
bool has_avx512_vnni();
bool has_avx512_bf16();
bool has_neon();
bool has_neon_sdot();

// What processes can still take without swapping, within the cgroup's limit.
int64_t available_memory_bytes();

}  // namespace pelton::cpu
