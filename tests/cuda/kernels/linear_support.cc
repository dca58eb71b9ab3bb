#include "tests/cuda/kernels/linear_support.h"

#include <algorithm>
#include <cmath>

namespace pelton::cuda::test {
SourceType packed_source(DType dtype) {
  if (dtype == DType::kF32) return SourceType::kF32;
  if (dtype == DType::kF16) return SourceType::kF16;
  return dtype == DType::kBF16 ? SourceType::kBF16 : SourceType::kBlocks;
}

const std::vector<PackedFormat>& packed_formats() {
  static const std::vector<PackedFormat> formats = {
      {WeightFormat::k16Bit, DType::kF32},    {WeightFormat::k16Bit, DType::kF16},
      {WeightFormat::k16Bit, DType::kBF16},   {WeightFormat::kQ8_0, DType::kQ8_0},
      {WeightFormat::kQ4_0, DType::kQ4_0},    {WeightFormat::kQ4_1, DType::kQ4_1},
      {WeightFormat::kQ5_0, DType::kQ5_0},    {WeightFormat::kQ5_1, DType::kQ5_1},
      {WeightFormat::kQ4_K, DType::kQ4_K},    {WeightFormat::kQ5_K, DType::kQ5_K},
      {WeightFormat::kQ6_K, DType::kQ6_K},    {WeightFormat::kF8_128, DType::kF8_128},
      {WeightFormat::kI4_128, DType::kI4_128}};
  return formats;
}

PackedWeights::PackedWeights(PackedFormat f, ElementType t, int rows, int cols, uint64_t seed)
    : format(f),
      type(t),
      n(rows),
      k(cols),
      values(static_cast<size_t>(rows) * cols),
      packed(packed_bytes(f.format, rows, cols)) {
  const std::vector<float> wanted = random_values(values.size(), seed, 0.3F);
  std::vector<uint8_t> file(dtype_bytes(f.dtype, static_cast<int64_t>(values.size())));
  quantize(f.dtype, wanted, file.data());
  dequantize(f.dtype, file.data(), static_cast<int64_t>(values.size()), values.data());
  if (f.format == WeightFormat::k16Bit) values = as_elements(t, values);
  const DeviceArray<uint8_t> device(file);
  RepackParams p;
  p.format = f.format;
  p.type = t;
  p.source = packed_source(f.dtype);
  p.rows = device.data();
  p.num_rows = n;
  p.k = k;
  p.packed = packed.data();
  must(repack(p, nullptr));
  must(cudaDeviceSynchronize());
}

std::vector<float> linear_x_row(ElementType type, int row, int k) {
  return as_elements(type, random_values(k, 1000 + row));
}

std::vector<float> run_linear(const PackedWeights& w, const LinearCase& c) {
  const int x_stride = w.k + c.x_pad, out_stride = w.n + c.out_pad;
  std::vector<float> x(static_cast<size_t>(c.m) * x_stride, NAN);
  for (int r = 0; r < c.m; ++r) {
    const std::vector<float> row = linear_x_row(w.type, c.first_row + r, w.k);
    std::copy(row.begin(), row.end(), x.begin() + static_cast<int64_t>(r) * x_stride);
  }
  const DeviceArray<uint16_t> x_device(to_elements(w.type, x));
  const DeviceArray<float> bias(linear_bias_values(w.n));
  const size_t out_size = static_cast<size_t>(c.m) * out_stride;
  const DeviceArray<float> wide(c.out_f32 ? out_size : 0);
  const DeviceArray<uint16_t> narrow(c.out_f32 ? 0 : out_size);
  LinearParams p;
  p.format = w.format.format;
  p.type = w.type;
  p.weights = w.packed.data();
  p.x = x_device.data();
  p.x_stride = x_stride;
  p.bias = c.bias ? bias.data() : nullptr;
  p.out = c.out_f32 ? static_cast<void*>(wide.data()) : narrow.data();
  p.out_stride = out_stride;
  p.out_f32 = c.out_f32;
  p.m = c.m;
  p.n = w.n;
  p.k = w.k;
  must(linear(p, nullptr));
  must(cudaDeviceSynchronize());
  const std::vector<float> all = c.out_f32 ? wide.host() : to_floats(w.type, narrow.host());
  std::vector<float> out;
  for (int r = 0; r < c.m; ++r) {
    out.insert(out.end(), all.begin() + static_cast<int64_t>(r) * out_stride,
               all.begin() + static_cast<int64_t>(r) * out_stride + w.n);
  }
  return out;
}

std::vector<float> run_grouped_linear(const std::vector<const PackedWeights*>& matrices,
                                      const std::vector<int32_t>& starts, int usual_rows) {
  const PackedWeights& like = *matrices.front();
  std::vector<float> x;
  LinearParams each;
  for (size_t g = 0; g < matrices.size(); ++g) each.m = std::max(each.m, starts[g + 1] - starts[g]);
  for (int r = 0; r < starts.back(); ++r) {
    const std::vector<float> row = linear_x_row(like.type, r, like.k);
    x.insert(x.end(), row.begin(), row.end());
  }
  const DeviceArray<uint16_t> x_device(to_elements(like.type, x));
  const DeviceArray<uint16_t> out(static_cast<size_t>(starts.back()) * like.n);
  const DeviceArray<int32_t> starts_device(starts);
  each.format = like.format.format;
  each.type = like.type;
  each.x = x_device.data();
  each.x_stride = each.k = like.k;
  each.out = out.data();
  each.out_stride = each.n = like.n;
  LinearGroups groups;
  groups.starts = starts_device.data();
  groups.count = static_cast<int>(matrices.size());
  groups.usual_rows = usual_rows;
  for (size_t g = 0; g < matrices.size(); ++g) groups.weights[g] = matrices[g]->packed.data();
  must(grouped_linear(each, groups, nullptr));
  must(cudaDeviceSynchronize());
  return to_floats(like.type, out.host());
}

std::vector<float> linear_bias_values(int n) {
  return random_values(n, 5);
}

}  // namespace pelton::cuda::test
