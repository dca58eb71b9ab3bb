// Routed MLP: the choice of experts, and each expert's MLP over the tokens that chose it.
// Engine thread only; spreads over the pool.
#pragma once

#include <vector>

#include "backend/backend.h"
#include "cpu/kernels/kernels.h"
#include "cpu/linear.h"
#include "cpu/thread_pool.h"
#include "cpu/workspace.h"

namespace pelton::cpu {

class Experts {
 public:
  Experts(const KernelTable& kernels, ThreadPool& pool, Linear& linear)
      : kernels_(kernels), pool_(pool), linear_(linear) {}

  void route(const RouteParams& params);
  void run(const ExpertsParams& params);

 private:
  struct Choice {
    int64_t token;
    float weight;
  };

  const KernelTable& kernels_;
  ThreadPool& pool_;
  Linear& linear_;
  std::vector<std::vector<Choice>> chosen_by_;  // [experts]
  Scratch gathered_;
  Scratch hidden_;
  Scratch result_;
};

}  // namespace pelton::cpu
