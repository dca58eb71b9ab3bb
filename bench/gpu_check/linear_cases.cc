// Products with packed weights, few rows and many, and the embedding out of the same layout.
#include <fmt/format.h>

#include <algorithm>

#include "bench/gpu_check/kernel_cases.h"
#include "cuda/kernels/gather_weight_rows.h"
#include "cuda/kernels/linear.h"

namespace pelton::bench {
namespace {

using cuda::WeightFormat;

constexpr int kFill = 0x3c;
constexpr int64_t kBeyondCache = int64_t{320} << 20;  // bytes of weights that no L2 holds

struct Shape {
  const char* name;
  int n, k;
};

const char* format_name(WeightFormat format) {
  switch (format) {
    case WeightFormat::k16Bit:
      return "bf16";
    case WeightFormat::kQ8_0:
      return "q8_0";
    case WeightFormat::kQ4_0:
      return "q4_0";
    case WeightFormat::kQ4_1:
      return "q4_1";
    case WeightFormat::kQ5_0:
      return "q5_0";
    case WeightFormat::kQ5_1:
      return "q5_1";
    case WeightFormat::kQ4_K:
      return "q4_k";
    case WeightFormat::kQ5_K:
      return "q5_k";
    case WeightFormat::kQ6_K:
      return "q6_k";
    case WeightFormat::kF8_128:
      return "fp8 group 128";
    case WeightFormat::kI4_128:
      return "int4 group 128";
  }
  return "";
}

Status linear_case(const CheckContext& context, WeightFormat format, const Shape& shape,
                   const std::vector<int>& row_counts, const MeasureCase& measure) {
  const int64_t matrix = (cuda::packed_bytes(format, shape.n, shape.k) + 255) / 256 * 256;
  const int copies = context.quick ? 1 : static_cast<int>(kBeyondCache / matrix) + 1;
  const int most = *std::max_element(row_counts.begin(), row_counts.end());
  PELTON_ASSIGN_OR_RETURN(const DeviceMemory weights, filled(matrix * copies, kFill));
  PELTON_ASSIGN_OR_RETURN(const DeviceMemory x, filled(int64_t{2} * most * shape.k, kFill));
  PELTON_ASSIGN_OR_RETURN(const DeviceMemory out, filled(int64_t{2} * most * shape.n, kFill));
  for (const int rows : row_counts) {
    cuda::LinearParams p;
    p.format = format;
    p.x = x.get();
    p.x_stride = p.k = shape.k;
    p.out = out.get();
    p.out_stride = p.n = shape.n;
    p.m = rows;
    KernelCase c;
    c.name = fmt::format("linear {} {} ({} x {}), {} rows", format_name(format), shape.name,
                         shape.n, shape.k, rows);
    c.bytes = static_cast<double>(cuda::packed_bytes(format, shape.n, shape.k)) +
              2.0 * rows * (shape.k + shape.n);
    c.operations = 2.0 * rows * shape.n * shape.k;
    c.launches = std::min(copies, 40);
    const auto* first = static_cast<const std::byte*>(weights.get());
    c.launch = [p, first, matrix](int i, cudaStream_t stream) mutable {
      p.weights = first + i * matrix;
      return cuda::linear(p, stream);
    };
    PELTON_RETURN_IF_ERROR(measure(c));
  }
  return Status();
}

Status embedding_case(int rows, int vocab, int hidden, const MeasureCase& measure) {
  std::vector<int32_t> ids(rows);
  for (int i = 0; i < rows; ++i) ids[i] = static_cast<int32_t>(int64_t{i} * 7919 % vocab);
  PELTON_ASSIGN_OR_RETURN(const DeviceMemory table,
                          filled(cuda::packed_bytes(WeightFormat::k16Bit, vocab, hidden), kFill));
  PELTON_ASSIGN_OR_RETURN(const DeviceMemory index, uploaded(ids));
  PELTON_ASSIGN_OR_RETURN(const DeviceMemory out, filled(int64_t{2} * rows * hidden, kFill));
  cuda::GatherWeightRowsParams p;
  p.table.weights = table.get();
  p.rows = static_cast<const int32_t*>(index.get());
  p.count = rows;
  p.k = hidden;
  p.out = out.get();
  p.out_stride = hidden;
  KernelCase c;
  c.name = fmt::format("embedding bf16, {} tokens", rows);
  c.bytes = 4.0 * rows * hidden;
  c.launches = 10;
  c.launch = [p](int, cudaStream_t stream) { return cuda::gather_weight_rows(p, stream); };
  return measure(c);
}

}  // namespace

Status linear_cases(const CheckContext& context, const MeasureCase& measure) {
  std::vector<Shape> shapes = {
      {"gate, up", 28672, 4096}, {"down", 4096, 14336}, {"qkv", 6144, 4096}};
  std::vector<int> rows = {1, 8, 64, 256, 2048};
  if (context.quick) {
    shapes = {{"small", 64, 256}};
    rows = {1, 9};
  }
  for (const WeightFormat format :
       {WeightFormat::k16Bit, WeightFormat::kQ8_0, WeightFormat::kQ4_0, WeightFormat::kQ4_1,
        WeightFormat::kQ5_0, WeightFormat::kQ5_1, WeightFormat::kQ4_K, WeightFormat::kQ5_K,
        WeightFormat::kQ6_K, WeightFormat::kF8_128, WeightFormat::kI4_128}) {
    for (const Shape& shape : shapes) {
      PELTON_RETURN_IF_ERROR(linear_case(context, format, shape, rows, measure));
    }
  }
  if (context.quick) return embedding_case(3, 64, 256, measure);
  return embedding_case(8192, 128256, 4096, measure);
}

}  // namespace pelton::bench
