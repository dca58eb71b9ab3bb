// Query-key norm, rotation and the writing of keys and values into the paged cache.
// Engine thread only; spreads over the pool.
#pragma once

#include "backend/backend.h"
#include "cpu/kernels/kernels.h"
#include "cpu/thread_pool.h"

namespace pelton::cpu {

void rope_and_store(const KernelTable& kernels, ThreadPool& pool, const RopeKvParams& params);

}  // namespace pelton::cpu
