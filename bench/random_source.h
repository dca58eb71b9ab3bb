// A matrix of random weights in any format, made when read. Thread-safe.
#pragma once

#include "backend/backend.h"
#include "backend/random_blocks.h"

namespace pelton::bench {

class RandomSource final : public RowSource {
 public:
  RandomSource(DType dtype, int64_t rows, int64_t cols) : dtype_(dtype), rows_(rows), cols_(cols) {}
  DType dtype() const override { return dtype_; }
  int64_t rows() const override { return rows_; }
  int64_t cols() const override { return cols_; }
  void read_rows(int64_t begin, int64_t end, void* out) const override {
    SplitMix64 random(static_cast<uint64_t>(begin) * 31 + static_cast<uint64_t>(rows_));
    random_elements(dtype_, (end - begin) * cols_, 0.05F, random, static_cast<std::byte*>(out));
  }

 private:
  DType dtype_;
  int64_t rows_, cols_;
};

}  // namespace pelton::bench
