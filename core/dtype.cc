#include "core/dtype.h"

#include <array>

#include "core/check.h"

namespace pelton {
namespace {

constexpr std::array<DTypeInfo, kNumDTypes> kInfos = {{
    {"f32", 1, 4},
    {"f16", 1, 2},
    {"bf16", 1, 2},
    {"fp8_e4m3", 1, 1},
    {"int8", 1, 1},
    {"int32", 1, 4},
    {"q8_0", 32, 34},
    {"q4_0", 32, 18},
    {"q4_1", 32, 20},
    {"q5_0", 32, 22},
    {"q5_1", 32, 24},
    {"q4_k", 256, 144},
    {"q5_k", 256, 176},
    {"q6_k", 256, 210},
    {"fp8", 128, 132},
    {"int4", 128, 68},
}};

}  // namespace

const DTypeInfo& dtype_info(DType dtype) {
  return kInfos[static_cast<size_t>(dtype)];
}

std::optional<DType> dtype_from_name(std::string_view name) {
  for (int i = 0; i < kNumDTypes; ++i) {
    if (kInfos[i].name == name) return static_cast<DType>(i);
  }
  return std::nullopt;
}

int64_t dtype_bytes(DType dtype, int64_t elements) {
  const DTypeInfo& info = dtype_info(dtype);
  PELTON_CHECK(elements % info.block_elements == 0, "partial quantised block");
  return elements / info.block_elements * info.block_bytes;
}

}  // namespace pelton
