#include "model/file_tensor.h"

#include <algorithm>
#include <cstring>

#include "core/check.h"
#include "core/half.h"
#include "model/formats/mapped_file.h"

namespace pelton {
namespace {

float load_float(const std::byte* data, DType dtype, int64_t index) {
  if (dtype == DType::kF32) {
    float value = 0;
    std::memcpy(&value, data + index * 4, sizeof(value));
    return value;
  }
  uint16_t bits = 0;
  std::memcpy(&bits, data + index * 2, sizeof(bits));
  return dtype == DType::kF16 ? f16_to_f32(bits) : bf16_to_f32(bits);
}

// What the widest load of an element or a block's scale needs.
size_t alignment_of(DType dtype) {
  return dtype == DType::kF32 ? 4 : 2;
}

}  // namespace

FileTensor::FileTensor(TensorRole role, int layer, TensorShape shape, const FileLayout& layout)
    : WeightTensor(role, layer, tensor_role_info(role).vector ? DType::kF32 : layout.dtype, shape),
      layout_(layout) {}

// The file's row that holds a canonical row. Where rope pairs are interleaved, row 2i + j of a
// head is the canonical row i + j * head_dim / 2.
int64_t FileTensor::file_row(int64_t row) const {
  if (!layout_.transform.interleaved_rope) return layout_.first_row + row;
  const int64_t half = layout_.head_dim / 2;
  const int64_t within = row % layout_.head_dim;
  return layout_.first_row + (row - within) + 2 * (within % half) + within / half;
}

// A vector's elements are placed as a matrix's rows are.
void FileTensor::read_vector_values(float* out) const {
  for (int64_t i = 0; i < cols(); ++i) {
    out[i] = load_float(layout_.data.data(), layout_.dtype, file_row(i));
    if (layout_.transform.add_one) out[i] += 1.0F;
  }
}

void FileTensor::read_transposed(int64_t begin, int64_t end, std::byte* out) const {
  const int64_t element = row_bytes() / cols();
  constexpr int64_t kTile = 64;  // rows at a time, so that both sides stay in cache
  for (int64_t first = begin; first < end; first += kTile) {
    const int64_t last = std::min(first + kTile, end);
    for (int64_t col = 0; col < cols(); ++col) {
      const std::byte* line = layout_.data.data() + col * layout_.file_rows * element;
      for (int64_t row = first; row < last; ++row) {
        std::memcpy(out + (row - begin) * row_bytes() + col * element,
                    line + file_row(row) * element, static_cast<size_t>(element));
      }
    }
  }
}

void FileTensor::read_rows(int64_t begin, int64_t end, void* out) const {
  PELTON_CHECK(0 <= begin && begin <= end && end <= rows(), "rows out of range");
  if (begin == end) return;
  auto* bytes = static_cast<std::byte*>(out);
  if (tensor_role_info(role()).vector) {
    read_vector_values(static_cast<float*>(out));
  } else if (layout_.transform.transpose) {
    read_transposed(begin, end, bytes);
  } else if (layout_.transform.interleaved_rope) {
    for (int64_t row = begin; row < end; ++row) {
      std::memcpy(bytes + (row - begin) * row_bytes(),
                  layout_.data.data() + file_row(row) * row_bytes(),
                  static_cast<size_t>(row_bytes()));
    }
  } else {
    const auto part = layout_.data.subspan(static_cast<size_t>(file_row(begin) * row_bytes()),
                                           static_cast<size_t>((end - begin) * row_bytes()));
    if (layout_.file != nullptr) {
      layout_.file->read(part, out);
    } else {
      std::memcpy(bytes, part.data(), part.size());
    }
  }
}

const void* FileTensor::mapped() const {
  const TensorTransform& transform = layout_.transform;
  if (transform.transpose || transform.interleaved_rope || transform.add_one) return nullptr;
  if (layout_.dtype != dtype()) return nullptr;
  const std::byte* start =
      layout_.data.data() +
      (tensor_role_info(role()).vector ? layout_.first_row * 4 : layout_.first_row * row_bytes());
  const bool aligned = reinterpret_cast<uintptr_t>(start) % alignment_of(dtype()) == 0;
  return aligned ? start : nullptr;
}

void FileTensor::release() const {
  if (layout_.file != nullptr) drop_resident_pages(layout_.data);
}

}  // namespace pelton
