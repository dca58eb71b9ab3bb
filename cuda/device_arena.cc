#include "cuda/device_arena.h"

#include <cuda_runtime_api.h>
#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "cuda/cuda_status.h"

namespace pelton::cuda {
namespace {

int64_t aligned(int64_t bytes) {
  const int64_t unit = DeviceArena::kAlignment;
  return (std::max<int64_t>(bytes, 1) + unit - 1) / unit * unit;
}

double mib(int64_t bytes) {
  return static_cast<double>(bytes) / (1 << 20);
}

}  // namespace

DevicePiece& DevicePiece::operator=(DevicePiece&& other) noexcept {
  if (this == &other) return *this;
  reset();
  arena_ = std::move(other.arena_);
  data_ = std::exchange(other.data_, nullptr);
  bytes_ = std::exchange(other.bytes_, 0);
  return *this;
}

void DevicePiece::reset() {
  if (data_ != nullptr) arena_->free(data_, bytes_);
  data_ = nullptr;
  bytes_ = 0;
  arena_.reset();
}

StatusOr<std::shared_ptr<DeviceArena>> DeviceArena::take(int64_t bytes, bool separate) {
  const int64_t capacity = bytes / kAlignment * kAlignment;
  void* base = nullptr;
  if (!separate) {
    PELTON_RETURN_IF_CUDA_ERROR(cudaMalloc(&base, static_cast<size_t>(capacity)),
                                fmt::format("taking {:.0f} MiB of the card's memory (lower "
                                            "--gpu-memory-utilization)",
                                            mib(capacity)));
  }
  return std::shared_ptr<DeviceArena>(
      new DeviceArena(static_cast<std::byte*>(base), capacity, separate));
}

DeviceArena::DeviceArena(std::byte* base, int64_t capacity, bool separate)
    : base_(base), capacity_(capacity), separate_(separate) {
  free_.emplace(0, capacity);
}

DeviceArena::~DeviceArena() {
  if (base_ != nullptr) cudaFree(base_);
}

StatusOr<DevicePiece> DeviceArena::allocate(int64_t bytes, bool at_end) {
  if (bytes < 0) return absl::InvalidArgumentError("allocation of a negative size");
  const int64_t size = aligned(bytes);
  const auto exhausted = [&] {
    return absl::ResourceExhaustedError(
        fmt::format("{:.1f} MiB of device memory are needed and {:.1f} of {:.1f} MiB are left",
                    mib(size), mib(free_bytes()), mib(capacity_)));
  };
  if (separate_) {
    if (used_ + size > capacity_) return exhausted();
    void* data = nullptr;
    // As many bytes as asked for: the first one beyond is fenced.
    PELTON_RETURN_IF_CUDA_ERROR(cudaMalloc(&data, static_cast<size_t>(std::max<int64_t>(bytes, 1))),
                                "allocating device memory");
    used_ += size;
    return DevicePiece(shared_from_this(), static_cast<std::byte*>(data), bytes);
  }
  const auto large_enough = [size](const auto& range) { return range.second >= size; };
  auto fits = std::find_if(free_.begin(), free_.end(), large_enough);
  if (fits == free_.end()) return exhausted();
  if (at_end) fits = std::prev(std::find_if(free_.rbegin(), free_.rend(), large_enough).base());
  const auto [start, length] = *fits;
  const int64_t offset = at_end ? start + length - size : start;
  free_.erase(fits);
  if (length > size) free_.emplace(at_end ? start : start + size, length - size);
  used_ += size;
  return DevicePiece(shared_from_this(), base_ + offset, bytes);
}

int64_t DeviceArena::largest_free_bytes() const {
  if (separate_) return free_bytes();
  int64_t largest = 0;
  for (const auto& [offset, bytes] : free_) largest = std::max(largest, bytes);
  return largest;
}

void DeviceArena::free(std::byte* data, int64_t bytes) {
  const int64_t size = aligned(bytes);
  used_ -= size;
  if (separate_) {
    cudaFree(data);
    return;
  }
  const int64_t offset = data - base_;
  auto [here, added] = free_.emplace(offset, size);
  if (const auto next = std::next(here); next != free_.end() && offset + size == next->first) {
    here->second += next->second;
    free_.erase(next);
  }
  if (here != free_.begin()) {
    const auto before = std::prev(here);
    if (before->first + before->second == offset) {
      before->second += here->second;
      free_.erase(here);
    }
  }
}

}  // namespace pelton::cuda
