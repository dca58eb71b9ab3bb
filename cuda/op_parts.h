// What the backend's ops share: its own matrices behind backend.h's, and enumerations as the
// kernels have them. Any thread.
#pragma once

#include "backend/backend.h"
#include "cuda/kernels/activation.h"
#include "cuda/packed_matrix.h"

namespace pelton::cuda {

inline const PackedMatrix& packed(const Matrix& matrix) {
  return static_cast<const PackedMatrix&>(matrix);
}

inline ActivationKind activation_kind(Activation kind) {
  switch (kind) {
    case Activation::kSilu:
      return ActivationKind::kSilu;
    case Activation::kGeluTanh:
      return ActivationKind::kGeluTanh;
    case Activation::kGeluErf:
      return ActivationKind::kGeluErf;
    case Activation::kRelu:
      break;
  }
  return ActivationKind::kRelu;
}

}  // namespace pelton::cuda
