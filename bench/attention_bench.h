// Attention over a paged cache without a model: how much of the read bandwidth decode keeps, and of
// the multiply-add rate prefill.
#pragma once

#include <vector>

#include "backend/backend.h"
#include "bench/kernel_bench.h"
#include "core/status.h"
#include "cpu/thread_pool.h"

namespace pelton::bench {

// The demo model's heads (9 over 3, of 64) in 30 layers and Llama-3.1-8B's (32 over 8, of 128) in
// 8: one token at a context of 4,096 (gb_per_s: KV read), and a prompt of 2,048 (gflops: the causal
// half alone), for each KV format. Before a decode stands the time of
// reading the same memory alone, by the same pool: machines have slow and fast memory. `tokens` are
// those of the step; seconds of one pass over all layers.
StatusOr<std::vector<KernelFigure>> measure_attention(Backend& backend, cpu::ThreadPool& pool,
                                                      TimeBase base);

}  // namespace pelton::bench
