#include "cpu/memory.h"

#include <fmt/format.h>
#include <sys/mman.h>

#include <algorithm>

namespace pelton::cpu {
namespace {

constexpr int64_t kHugePage = int64_t{2} << 20;
constexpr int64_t kChunk = int64_t{64} << 20;
// Kernels load whole vectors: what lies at the end of a piece may be read a little beyond.
constexpr int64_t kSlack = 4096;

int64_t round_up(int64_t value, int64_t unit) {
  return (value + unit - 1) / unit * unit;
}

}  // namespace

StatusOr<std::shared_ptr<Mapping>> Mapping::create(int64_t bytes) {
  bytes = round_up(bytes + kSlack, kHugePage);
  // One huge page more, so that the start can be aligned.
  const int64_t reserved = bytes + kHugePage;
  void* base = mmap(nullptr, reserved, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (base == MAP_FAILED) {
    return absl::ResourceExhaustedError(fmt::format("cannot map {} bytes of memory", bytes));
  }
  auto* start = static_cast<uint8_t*>(base);
  const auto address = reinterpret_cast<uintptr_t>(base);
  auto* aligned = start + (round_up(static_cast<int64_t>(address), kHugePage) - address);
  if (aligned > start) munmap(start, aligned - start);
  if (aligned < start + kHugePage) munmap(aligned + bytes, start + kHugePage - aligned);
  madvise(aligned, bytes, MADV_HUGEPAGE);  // advice: its refusal changes speed alone
  auto mapping = std::make_shared<Mapping>();
  mapping->data_ = aligned;
  mapping->bytes_ = bytes;
  return mapping;
}

Mapping::~Mapping() {
  if (data_ != nullptr) munmap(data_, bytes_);
}

StatusOr<Piece> Arena::allocate(int64_t bytes) {
  bytes = round_up(std::max<int64_t>(bytes, 1), 64);
  if (bytes > kChunk / 2) {
    PELTON_ASSIGN_OR_RETURN(std::shared_ptr<Mapping> own, Mapping::create(bytes));
    return Piece{own->data(), bytes, own};
  }
  if (current_ == nullptr || used_ + bytes > kChunk) {
    PELTON_ASSIGN_OR_RETURN(current_, Mapping::create(kChunk));
    used_ = 0;
  }
  Piece piece{current_->data() + used_, bytes, current_};
  used_ += bytes;
  return piece;
}

}  // namespace pelton::cpu
