// out = x w^T + bias over packed weights: GEMV for a few tokens, GEMM for many, the same bits for a
// row either way. Used by the engine thread; spreads over the pool.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "backend/tensor.h"
#include "cpu/dot_linear.h"
#include "cpu/kernels/kernels.h"
#include "cpu/packed_matrix.h"
#include "cpu/thread_pool.h"
#include "cpu/workspace.h"

namespace pelton::cpu {

class Linear {
 public:
  // dots: who takes over the products of which formats; the others are computed in float32.
  Linear(const KernelTable& kernels, std::span<const DotTable* const> dots, ThreadPool& pool);

  // x [M, cols] f32, out [M, rows] f32, bias [rows] or null. x and out do not overlap.
  void run(const Tensor& x, const PackedMatrix& w, const float* bias, const Tensor& out);
  // The same as phases of a job, which has no other product. Rows of x are made first where there
  // is a maker.
  void add(Job& job, const Tensor& x, const PackedMatrix& w, const float* bias, const Tensor& out,
           RowMaker maker = {});
  // What each worker reads first of w, the weights of the product after this job; null: nothing.
  void add_ahead(Job& job, const PackedMatrix* w) const;
  // Row `row` of w as float32. out: [cols]
  void read_row(const PackedMatrix& w, int64_t row, int worker, float* out);

 private:
  void add_gemv(Job& job, const Tensor& x, const PackedMatrix& w, const float* bias,
                const Tensor& out, const RowMaker& maker);
  void add_gemm(Job& job, const Tensor& x, const PackedMatrix& w, const float* bias,
                const Tensor& out, const RowMaker& maker);
  struct Range {
    int64_t begin, end;
  };
  struct Product {   // of a chunk of tokens
    const float* x;  // [tiles][padded_cols][tokens of the tile]
    const float* bias;
    Tensor out;
    int64_t tiles;
  };
  struct Groups {  // of one panel
    const Segment* segment;
    int64_t begin, end;
  };
  void gemm_units(const Product& product, const PackedMatrix& w, Range units, Range tiles,
                  int worker);
  void gemm_groups(const Product& product, const PackedMatrix& w, const Groups& groups, Range tiles,
                   int worker);
  void gemv_units(const Tensor& x, const PackedMatrix& w, const float* bias, const Tensor& out,
                  int64_t begin, int64_t end) const;

  const KernelTable& kernels_;
  ThreadPool& pool_;
  std::vector<std::unique_ptr<DotLinear>> dots_;
  DTypeSet plain_;  // formats of no dot
  Job job_;
  Scratch padded_x_;
  Scratch packed_x_;
  std::vector<Scratch> panels_;  // [threads]
};

}  // namespace pelton::cpu
