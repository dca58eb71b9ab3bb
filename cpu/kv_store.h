// Query-key norm, rotation and the writing of keys and values into the paged cache.
// Engine thread only; spreads over the pool.
#pragma once

#include "backend/backend.h"
#include "cpu/kernels/kernels.h"
#include "cpu/thread_pool.h"

namespace pelton::cpu {

// Adds a phase to the job; the params outlive it.
void add_rope_and_store(Job& job, const KernelTable& kernels, const RopeKvParams& params);

}  // namespace pelton::cpu
