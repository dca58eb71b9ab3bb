// Scratch memory that grows to what the largest step needed and is then reused. Used by the engine
// thread; what it hands out is valid until the next call for the same purpose.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <memory>

#include "core/check.h"

namespace pelton::cpu {

class Scratch {
 public:
  // Not initialised; 64-byte aligned, with a vector of slack at the end.
  float* floats(int64_t count) {
    if (count > capacity_) {
      data_.reset();  // the old content is of no use: never hold both
      capacity_ = count + count / 8;
      const size_t bytes = (static_cast<size_t>(capacity_) * sizeof(float) + 127) / 64 * 64;
      data_.reset(static_cast<float*>(std::aligned_alloc(64, bytes)));
      PELTON_CHECK(data_ != nullptr, "out of memory for scratch");
    }
    return data_.get();
  }

 private:
  struct Free {
    void operator()(float* p) const { std::free(p); }
  };
  std::unique_ptr<float, Free> data_;
  int64_t capacity_ = 0;
};

}  // namespace pelton::cpu
