// The few enumerations that both a model's description and the ops speak of. Plain values.
#pragma once

#include <cstdint>

namespace pelton {

enum class NormKind : uint8_t { kRms, kLayer };  // kLayer: mean removed, with a bias

enum class Activation : uint8_t { kSilu, kGeluTanh, kGeluErf, kRelu };

enum class Pooling : uint8_t { kMean, kFirst, kLast };

}  // namespace pelton
