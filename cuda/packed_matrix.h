// A weight matrix as kernels want it on the card, and the way there: rows are read from the file
// into pinned memory, copied and repacked while the next ones are read, of this tensor or of the
// next. One thread at a time.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "backend/tensor.h"
#include "core/status.h"
#include "cuda/device_arena.h"
#include "cuda/handles.h"
#include "cuda/kernels/weight_layout.h"

namespace pelton::cuda {

class RowWalk;
struct StoredAs;

// False: the dtype has no kernel.
bool has_weight_format(DType dtype);

class PackedMatrix final : public Matrix {
 public:
  // Rows [begin, begin + rows) in one format.
  struct Segment {
    WeightFormat format = WeightFormat::k16Bit;
    int64_t begin = 0;
    int64_t rows = 0;
    DevicePiece data;
  };

  PackedMatrix(int64_t rows, int64_t cols, std::vector<Segment> segments);
  int64_t rows() const override { return rows_; }
  int64_t cols() const override { return cols_; }
  int64_t bytes() const override { return bytes_; }
  const std::vector<Segment>& segments() const { return segments_; }

 private:
  int64_t rows_, cols_, bytes_ = 0;
  std::vector<Segment> segments_;
};

// Streams weights to the card through two pinned buffers on a stream of its own, and vectors
// through a third. The host waits for the card only where it is two buffers ahead.
class WeightLoader {
 public:
  // `compute` is the stream that uses the weights and whatever used their memory before.
  static StatusOr<std::unique_ptr<WeightLoader>> make(std::shared_ptr<DeviceArena> arena,
                                                      ElementType type, cudaStream_t compute,
                                                      int64_t buffer_bytes);
  StatusOr<std::unique_ptr<PackedMatrix>> pack(std::span<const RowSource* const> sources);
  // Copies the bytes as they are; `host` is free again when this returns.
  Status upload(std::span<const std::byte> host, std::byte* device);
  // Gives the buffers back, once everything is loaded; the next pack() takes them again.
  Status finish();

 private:
  struct Half {
    Pinned host;
    DevicePiece device;
    Event free;  // the card has read the host buffer, and repacked the device one
    bool used = false;
  };
  WeightLoader(std::shared_ptr<DeviceArena> arena, ElementType type, cudaStream_t compute,
               int64_t buffer_bytes);
  Status take_buffers(int64_t bytes);
  Status copy_vector(std::span<const std::byte> host, std::byte* device);
  // The loading stream goes on after what the compute stream was given, and the other way round.
  Status begin();
  Status end();
  // Up to `wanted` of the next rows into a device buffer; how many. Random ones are made there.
  StatusOr<int64_t> copy_rows(RowWalk& walk, int64_t row_bytes, int64_t wanted, const Half& half);
  StatusOr<int64_t> make_random(RowWalk& walk, const StoredAs& stored, int64_t cols, int64_t wanted,
                                const Half& half);
  // A run of sources that are stored alike, rows back to back, into `segment`.
  Status load(std::span<const RowSource* const> sources, const PackedMatrix::Segment& segment,
              int64_t cols);

  std::shared_ptr<DeviceArena> arena_;
  const ElementType type_;
  const cudaStream_t compute_;
  const int64_t buffer_bytes_;
  Stream stream_;
  Event order_;
  Half halves_[2];
  int next_ = 0;
  Pinned vectors_;  // filled from the front; from the start again once the card has read it all
  int64_t vectors_used_ = 0;
  Event vectors_free_;
};

}  // namespace pelton::cuda
