// Host memory in large zeroed mappings with huge pages where the kernel grants them, touched only
// when used. Not thread-safe.
#pragma once

#include <cstdint>
#include <memory>

#include "core/status.h"

namespace pelton::cpu {

// Asks for memory that another core has just written: its lines come together, not one by one as
// they are read.
inline void fetch(const void* data, int64_t bytes) {
  for (int64_t at = 0; at < bytes; at += 64) {
    __builtin_prefetch(static_cast<const uint8_t*>(data) + at, 0, 3);
  }
}

// One anonymous mapping; null data: none. Unmapped with the handle.
class Mapping {
 public:
  Mapping() = default;
  static StatusOr<std::shared_ptr<Mapping>> create(int64_t bytes);
  ~Mapping();
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;
  uint8_t* data() const { return data_; }
  int64_t bytes() const { return bytes_; }

 private:
  uint8_t* data_ = nullptr;
  int64_t bytes_ = 0;
};

// A piece of a mapping, which lives until its last piece is gone.
struct Piece {
  uint8_t* data = nullptr;
  int64_t bytes = 0;
  std::shared_ptr<Mapping> owner;
};

// Cuts 64-byte aligned pieces from mappings of 64 MiB (a larger piece gets its own), so that small
// matrices share huge pages.
class Arena {
 public:
  StatusOr<Piece> allocate(int64_t bytes);

 private:
  std::shared_ptr<Mapping> current_;
  int64_t used_ = 0;
};

}  // namespace pelton::cpu
