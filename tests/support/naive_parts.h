// What the naive backend's ops share: its matrices, its plan of a step, activations. One thread.
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include "backend/backend.h"

namespace pelton {

struct NaiveMatrix final : Matrix {
  int64_t num_rows = 0;
  int64_t num_cols = 0;
  std::vector<float> values;  // [rows, cols]

  int64_t rows() const override { return num_rows; }
  int64_t cols() const override { return num_cols; }
  int64_t bytes() const override { return static_cast<int64_t>(values.size() * sizeof(float)); }
  const float* row(int64_t r) const { return values.data() + r * num_cols; }
};

struct NaivePlan final : StepPlan {
  Batch batch;
  std::vector<int> sequence;  // [num_tokens] which sequence a token belongs to
};

inline const NaiveMatrix& naive(const Matrix* matrix) {
  return *static_cast<const NaiveMatrix*>(matrix);
}
inline const NaivePlan& naive(const StepPlan* plan) {
  return *static_cast<const NaivePlan*>(plan);
}
inline double naive_activate(Activation kind, double x) {
  switch (kind) {
    case Activation::kSilu:
      return x / (1.0 + std::exp(-x));
    case Activation::kGeluTanh:
      return 0.5 * x * (1.0 + std::tanh(std::sqrt(2.0 / M_PI) * (x + 0.044715 * x * x * x)));
    case Activation::kGeluErf:
      return 0.5 * x * (1.0 + std::erf(x / std::sqrt(2.0)));
    case Activation::kRelu:
      return std::max(x, 0.0);
  }
  return 0;
}

}  // namespace pelton
