// Weight matrices in the tiles of kernels/tiles.h: quantised as the file has them, the only copy.
// Immutable once packed; readable from any thread.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "backend/tensor.h"
#include "core/status.h"
#include "cpu/kernels/tiles.h"
#include "cpu/memory.h"
#include "cpu/thread_pool.h"

namespace pelton::cpu {

// Rows of one dtype.
struct Segment {
  DType dtype = DType::kF32;
  TileLayout layout;
  int64_t row_begin = 0;  // in the matrix
  int64_t rows = 0;
  int64_t k_blocks = 0;
  const uint8_t* tiles = nullptr;

  int64_t groups() const { return (rows + kLanes - 1) / kLanes; }
  int panel_groups(int64_t panel) const {
    const int64_t left = groups() - panel * kPanelGroups;
    return static_cast<int>(left < kPanelGroups ? left : kPanelGroups);
  }
  const uint8_t* tiles_end() const { return tiles + groups() * k_blocks * layout.bytes; }
  // Bytes from a k-block to the next, in the panel that holds the group.
  int64_t tile_stride(int64_t group) const {
    return static_cast<int64_t>(panel_groups(group / kPanelGroups)) * layout.bytes;
  }
  const uint8_t* group_tiles(int64_t group) const {
    const int64_t panel = group / kPanelGroups;
    return tiles + (panel * kPanelGroups * k_blocks + group % kPanelGroups) * layout.bytes;
  }
};

class PackedMatrix final : public Matrix {
 public:
  static StatusOr<std::unique_ptr<PackedMatrix>> pack(std::span<const RowSource* const> sources,
                                                      Arena& arena, ThreadPool& pool);

  int64_t rows() const override { return rows_; }
  int64_t cols() const override { return cols_; }
  int64_t bytes() const override { return bytes_; }
  // cols rounded up to whole tiles; the weights beyond cols are zero.
  int64_t padded_cols() const { return padded_cols_; }
  std::span<const Segment> segments() const { return segments_; }
  const Segment& segment_of(int64_t row) const;

 private:
  int64_t rows_ = 0;
  int64_t cols_ = 0;
  int64_t padded_cols_ = 0;
  int64_t bytes_ = 0;
  std::vector<Segment> segments_;
  std::vector<Piece> pieces_;
};

}  // namespace pelton::cpu
