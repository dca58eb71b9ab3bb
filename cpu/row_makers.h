// Ops over one row at a time, as themselves and as makers of the rows of a product (row_units.h).
// They refer to the op's params; any worker may call them.
#pragma once

#include "backend/backend.h"
#include "cpu/kernels/kernels.h"
#include "cpu/memory.h"
#include "cpu/row_units.h"

namespace pelton::cpu {

// A norm's rows, one at a time. With nowhere else to put the normed x on its way to the residual,
// `scratch` has a row for each worker.
struct NormRows {
  const KernelTable& kernels;
  const NormParams& p;
  float* scratch;

  void make(int64_t m, int worker) const {
    fetch(p.x.row<float>(m), p.x.cols * 4);
    NormRowArgs args;
    args.kind = p.kind;
    args.eps = p.eps;
    args.x = p.x.row<float>(m);
    args.residual = p.residual.defined() ? p.residual.row<float>(m) : nullptr;
    args.post = {p.post.weight, p.post.bias};
    args.pre = {p.pre.weight, p.pre.bias};
    args.out = p.pre.weight != nullptr ? p.out.row<float>(m) : nullptr;
    args.scratch = scratch != nullptr ? scratch + worker * p.x.cols : args.out;
    if (args.scratch == nullptr && p.out.defined()) args.scratch = p.out.row<float>(m);
    args.n = p.x.cols;
    kernels.norm_row(args);
  }
  RowMaker maker() const {
    return {[](const void* rows, int64_t m, int64_t, int64_t, int worker) {
              static_cast<const NormRows*>(rows)->make(m, worker);
            },
            this};
  }
};

struct ActivationRows {
  const KernelTable& kernels;
  const ActivationParams& p;

  void make(int64_t m, int64_t begin, int64_t end) const {
    const float* x = p.x.row<const float>(m) + begin;
    fetch(x, (end - begin) * 4);
    if (p.gated) fetch(x + p.out.cols, (end - begin) * 4);
    kernels.activate(p.kind, x, p.gated ? x + p.out.cols : nullptr, end - begin,
                     p.out.row<float>(m) + begin);
  }
  RowMaker maker() const {
    return {[](const void* rows, int64_t m, int64_t begin, int64_t end, int) {
              static_cast<const ActivationRows*>(rows)->make(m, begin, end);
            },
            this, true};
  }
};

}  // namespace pelton::cpu
