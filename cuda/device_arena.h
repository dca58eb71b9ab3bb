// The card's memory that the backend took at start, handed out in pieces: first fit, neighbours
// joined when freed. Used by one thread at a time. A piece keeps its arena alive.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>

#include "backend/tensor.h"
#include "core/status.h"

namespace pelton::cuda {

class DeviceArena;

class DevicePiece {
 public:
  DevicePiece() = default;
  DevicePiece(std::shared_ptr<DeviceArena> arena, std::byte* data, int64_t bytes)
      : arena_(std::move(arena)), data_(data), bytes_(bytes) {}
  DevicePiece(DevicePiece&& other) noexcept { *this = std::move(other); }
  DevicePiece& operator=(DevicePiece&& other) noexcept;
  ~DevicePiece() { reset(); }
  void reset();

  std::byte* data() const { return data_; }
  int64_t bytes() const { return bytes_; }  // as asked for
  template <typename T>
  T* as() const {
    return reinterpret_cast<T*>(data_);
  }

 private:
  std::shared_ptr<DeviceArena> arena_;
  std::byte* data_ = nullptr;
  int64_t bytes_ = 0;
};

class DeviceArena : public std::enable_shared_from_this<DeviceArena> {
 public:
  static constexpr int64_t kAlignment = 256;

  // RESOURCE_EXHAUSTED where the card has not so much. `separate`: nothing is taken now, each piece
  // is an allocation of its own, `bytes` in all.
  static StatusOr<std::shared_ptr<DeviceArena>> take(int64_t bytes, bool separate);
  ~DeviceArena();
  DeviceArena(const DeviceArena&) = delete;
  DeviceArena& operator=(const DeviceArena&) = delete;

  // RESOURCE_EXHAUSTED says how much is asked for and how much is left.
  StatusOr<DevicePiece> allocate(int64_t bytes) { return allocate(bytes, false); }
  // For what is given back soon: from the arena's end, so that it leaves no hole.
  StatusOr<DevicePiece> allocate_at_end(int64_t bytes) { return allocate(bytes, true); }
  int64_t free_bytes() const { return capacity_ - used_; }
  // The largest piece that could be had.
  int64_t largest_free_bytes() const;
  int64_t capacity() const { return capacity_; }

 private:
  friend class DevicePiece;
  DeviceArena(std::byte* base, int64_t capacity, bool separate);
  StatusOr<DevicePiece> allocate(int64_t bytes, bool at_end);
  void free(std::byte* data, int64_t bytes);

  std::byte* base_;
  int64_t capacity_;
  bool separate_;
  int64_t used_ = 0;
  std::map<int64_t, int64_t> free_;  // offset -> bytes, no two adjacent
};

// A piece as backend.h hands memory out.
class DeviceBuffer final : public Buffer {
 public:
  explicit DeviceBuffer(DevicePiece piece) : piece_(std::move(piece)) {}
  void* data() const override { return piece_.data(); }
  int64_t bytes() const override { return piece_.bytes(); }

 private:
  DevicePiece piece_;
};

}  // namespace pelton::cuda
