// How fast a model's weights come into a backend, beside what the machine allows of it.
#pragma once

#include <cstdint>

#include "backend/backend.h"
#include "core/status.h"
#include "cpu/thread_pool.h"
#include "model/load.h"

namespace pelton::bench {

// Rates in bytes of the file a second.
struct LoadFigure {
  int64_t bytes = 0;
  double first = 0;  // seconds of the first pass: memory that the machine may first have to find
  double best = 0;   // seconds of the best pass
  // Seconds of the best pass of each part alone, over as many bytes and by the same pool.
  double read = 0;   // the mapped file, or what of it lies in the model's order
  double fresh = 0;  // new memory, a byte a page: the kernel clears it
};

// The file in the page cache, where it fits: it is read once before.
StatusOr<LoadFigure> measure_load(const LoadOptions& options, Backend& backend,
                                  cpu::ThreadPool& pool, int passes);

}  // namespace pelton::bench
