// Matrix products over packed activations (kernels/dot.h): straight from the weight tiles for a few
// tokens, from unpacked slices of k for more. Used by the engine thread; spreads over the pool.
#pragma once

#include <vector>

#include "backend/tensor.h"
#include "cpu/kernels/dot.h"
#include "cpu/row_units.h"
#include "cpu/thread_pool.h"
#include "cpu/workspace.h"

namespace pelton::cpu {

class DotLinear {
 public:
  DotLinear(const DotTable& table, ThreadPool& pool);

  DTypeSet formats() const { return formats_; }
  // The rows of out whose weights are of these formats; the others are left alone. Shapes as in
  // Linear::run.
  void run(const Tensor& x, const PackedMatrix& w, const float* bias, const Tensor& out);

 private:
  struct Packed;  // activations
  struct Unit {   // a run of rows
    const Segment* segment;
    int64_t group;
    int groups;
  };

  Packed pack(const Tensor& x, int64_t padded_cols, int width);
  void run_direct(const Tensor& x, const PackedMatrix& w, const float* bias, const Tensor& out);
  void run_product(const Tensor& x, const PackedMatrix& w, const float* bias, const Tensor& out);
  void product_unit(const Unit& unit, const Packed& x, int64_t tile_begin, int64_t tile_end,
                    const float* bias, const Tensor& out, int worker);

  const DotTable& table_;
  ThreadPool& pool_;
  DTypeSet formats_ = 0;
  Scratch packed_x_;
  std::vector<Scratch> slices_;  // [threads]: unpacked weights
};

}  // namespace pelton::cpu
