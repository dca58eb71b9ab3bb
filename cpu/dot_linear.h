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
  bool has_rows_of(const PackedMatrix& w) const { return units_of(w, formats_, 1) > 0; }
  // Adds to the job: the rows of out whose weights are of these formats; the others are left alone.
  // Shapes as in Linear::run. A DotLinear has one product in a job.
  void add(Job& job, const Tensor& x, const PackedMatrix& w, const float* bias, const Tensor& out,
           const RowMaker& maker);

 private:
  struct Packed;   // activations
  struct Product;  // one add(), or a chunk of its tokens

  // first_token: of x, as the maker counts rows.
  Packed add_pack(Job& job, const Tensor& x, int64_t first_token, int64_t padded_cols,
                  const RowMaker& maker);
  void add_product(Job& job, const Product& product, const PackedMatrix& w);
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
