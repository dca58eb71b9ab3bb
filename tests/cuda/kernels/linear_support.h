// What tests of products over packed weights share: matrices of every format, one run of linear().
#pragma once

#include <vector>

#include "backend/quantized_blocks.h"
#include "cuda/kernels/linear.h"
#include "cuda/kernels/repack.h"
#include "tests/cuda/kernels/device_array.h"

namespace pelton::cuda::test {

struct PackedFormat {
  WeightFormat format;
  DType dtype;  // of the file
};
const std::vector<PackedFormat>& packed_formats();
SourceType packed_source(DType dtype);

// A packed matrix and the values that it holds.
struct PackedWeights {
  PackedFormat format;
  ElementType type;
  int n, k;
  std::vector<float> values;  // [n, k]
  DeviceArray<uint8_t> packed;

  PackedWeights(PackedFormat f, ElementType t, int rows, int cols, uint64_t seed);
};

struct LinearCase {
  int m = 1;
  bool bias = false;
  bool out_f32 = false;
  int x_pad = 0;      // elements between rows of x
  int out_pad = 0;    // likewise of out
  int first_row = 0;  // of the endless x that cases share
};
// Row `row` of that x, as elements hold it.
std::vector<float> linear_x_row(ElementType type, int row, int k);
std::vector<float> linear_bias_values(int n);
std::vector<float> run_linear(const PackedWeights& w, const LinearCase& c);  // [m, n]
// Rows [starts[g], starts[g + 1]) by matrix g, all in one launch; out as elements, [rows, n].
std::vector<float> run_grouped_linear(const std::vector<const PackedWeights*>& matrices,
                                      const std::vector<int32_t>& starts, int usual_rows);

}  // namespace pelton::cuda::test
