// Matrix products over packed activations (kernels/dot.h), a panel of rows and a slice of k at a
// time: straight from the weight tiles for a few tokens, from unpacked ones for more. Used by the
// engine thread; spreads over the pool.
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
  struct Packed;   // activations
  struct Product;  // one run(), or a chunk of its tokens

  Packed pack(const Tensor& x, int64_t padded_cols);
  void run_chunk(const Tensor& x, const PackedMatrix& w, const float* bias, const Tensor& out);
  // The rows of groups [group, group_end), which lie in one panel, for the tiles of tokens
  // [tile_begin, tile_end).
  void run_groups(const Product& product, const Segment& segment, int64_t group, int64_t group_end,
                  int64_t tile_begin, int64_t tile_end, int worker);

  const DotTable& table_;
  ThreadPool& pool_;
  DTypeSet formats_ = 0;
  Scratch packed_x_;
  std::vector<Scratch> slices_;  // [threads]: unpacked weights
};

}  // namespace pelton::cpu
