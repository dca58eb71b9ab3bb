// Which matrix products go to cuBLASLt, with which algorithm, and the file that keeps this between
// runs. Plain values and pure functions but for the file.
#pragma once

#include <compare>
#include <cstddef>
#include <map>
#include <string>

#include "cuda/cublaslt_api.h"

namespace pelton::cuda {

struct GemmShape {
  int n = 0, k = 0;
  bool out_f32 = false;
  bool fp8 = false;  // weights of kF8_128
  auto operator<=>(const GemmShape&) const = default;
};

struct GemmKey {
  GemmShape shape;
  int bucket = 0;  // the size of batch that stands for others: a power of two
  auto operator<=>(const GemmKey&) const = default;
};

struct GemmChoice {
  bool library = false;  // else the own kernel
  cublaslt::Algorithm algorithm{};
  size_t workspace_bytes = 0;
};

using GemmChoices = std::map<GemmKey, GemmChoice>;

// `measured_with` (library, type, card) is the file's first line. None where it is another, where a
// line makes no sense or wants more than `most_workspace_bytes`, or where there is no file.
GemmChoices read_gemm_choices(const std::string& file, const std::string& measured_with,
                              size_t most_workspace_bytes);
// Not being able to is no error: they are measured again.
void write_gemm_choices(const std::string& file, const std::string& measured_with,
                        const GemmChoices& choices);

}  // namespace pelton::cuda
