// Views of a backend's memory. They own nothing; whoever allocated the buffer frees it.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>

#include "core/dtype.h"

namespace pelton {

// Row-major [rows, cols]; rows may be further apart than cols. `data` is in the backend's address
// space: the host dereferences it only where Backend::host_addressable().
struct Tensor {
  void* data = nullptr;
  DType dtype = DType::kF32;
  int64_t rows = 0;
  int64_t cols = 0;
  int64_t row_stride = 0;  // elements between the starts of two rows

  bool defined() const { return data != nullptr; }
  template <typename T>
  T* row(int64_t r) const {
    return static_cast<T*>(data) + r * row_stride;
  }
  // Rows [begin, begin + count), the columns unchanged.
  Tensor slice_rows(int64_t begin, int64_t count) const {
    Tensor out = *this;
    out.data = static_cast<char*>(data) + begin * row_stride * dtype_info(dtype).block_bytes;
    out.rows = count;
    return out;
  }
};

// Device memory; freed with the handle. It must not outlive its backend.
class Buffer {
 public:
  virtual ~Buffer() = default;
  virtual void* data() const = 0;
  virtual int64_t bytes() const = 0;
};

// Rows of random numbers, as random_blocks.h makes them: random_elements() from row_stream(seed,
// row).
struct RandomRows {
  uint64_t seed = 0;
  float amplitude = 0;
};

// Where a backend reads a weight from while it packs it: rows in logical order, any transform that
// the file's layout needs (permutation, transposition, +1) already applied. Thread-safe.
class RowSource {
 public:
  virtual ~RowSource() = default;
  virtual DType dtype() const = 0;
  virtual int64_t rows() const = 0;  // output features
  virtual int64_t cols() const = 0;  // input features; a multiple of the dtype's block
  // Writes rows [begin, end), each dtype_bytes(dtype, cols) long, back to back.
  virtual void read_rows(int64_t begin, int64_t end, void* out) const = 0;
  // The rows in place where the file already holds them in this order (mapped), else null.
  virtual const void* mapped() const { return nullptr; }
  // Set where the rows are nothing but random (dummy weights): a backend may make them itself.
  virtual std::optional<RandomRows> random_rows() const { return std::nullopt; }
  // The backend has what it needs: a mapped source may drop its resident pages (they count against
  // the memory budget twice otherwise). Called once, after pack().
  virtual void release() const {}
};

// A weight matrix [rows, cols] in the layout that its backend streams. Several sources stacked by
// rows (Q, K, V; gate, up) may have different dtypes.
class Matrix {
 public:
  virtual ~Matrix() = default;
  virtual int64_t rows() const = 0;
  virtual int64_t cols() const = 0;
  virtual int64_t bytes() const = 0;  // resident
};

}  // namespace pelton
