// Collectives between the ranks of a tensor-parallel group. At world size 1 all are no-ops.
// Called in the same order on every rank; enqueued in stream order like any op.
#pragma once

#include "backend/tensor.h"

namespace pelton {

class Communicator {
 public:
  virtual ~Communicator() = default;
  virtual int rank() const = 0;
  virtual int world() const = 0;
  // x [M, N] += the other ranks' x, in a fixed order of ranks.
  virtual void all_reduce(const Tensor& x) = 0;
  // out [M, N * world] from each rank's x [M, N], by columns.
  virtual void all_gather(const Tensor& x, const Tensor& out) = 0;
};

class SingleRank final : public Communicator {
 public:
  int rank() const override { return 0; }
  int world() const override { return 1; }
  void all_reduce(const Tensor&) override {}
  void all_gather(const Tensor&, const Tensor&) override {}
};

}  // namespace pelton
