// Products and embeddings over packed weights: every format against float64, the same bits for a
// row whatever stands beside it, in every schedule.
#include "cuda/kernels/linear.h"

#include "cuda/kernels/gather_weight_rows.h"
#include "tests/cuda/kernels/linear_support.h"
#include "tests/cuda/kernels/schedules.h"

namespace pelton::cuda::test {
namespace {

std::vector<double> reference(const PackedWeights& w, const LinearCase& c) {
  std::vector<double> out;
  const std::vector<float> bias = linear_bias_values(w.n);
  for (int r = 0; r < c.m; ++r) {
    const std::vector<float> x = linear_x_row(w.type, c.first_row + r, w.k);
    for (int n = 0; n < w.n; ++n) {
      double sum = c.bias ? bias[n] : 0;
      for (int k = 0; k < w.k; ++k) {
        sum += static_cast<double>(x[k]) * w.values[static_cast<size_t>(n) * w.k + k];
      }
      out.push_back(sum);
    }
  }
  return out;
}

void check_case(const PackedWeights& w, const LinearCase& c) {
  INFO("dtype " << static_cast<int>(w.format.dtype) << " type " << static_cast<int>(w.type) << " m "
                << c.m << " n " << w.n << " k " << w.k << " f32 " << c.out_f32);
  // Sums of k products near 0.3 in float32; then the rounding of the output.
  const double relative = c.out_f32 ? 1e-6 : element_tolerance(w.type);
  check_close(run_linear(w, c), reference(w, c), relative, 3e-6 * std::sqrt(w.k) * 8);
}

bool is_super(const PackedFormat& f) {
  return weight_layout(f.format).file_block > 32;
}

}  // namespace

TEST_CASE("A product over packed weights equals float64 for every format") {
  for (const ElementType type : {ElementType::kBF16, ElementType::kF16}) {
    for (const PackedFormat& f : packed_formats()) {
      const PackedWeights even(f, type, 144, 512, 1);
      for (const int m : {1, 8, 9, 33, 65}) check_case(even, {.m = m, .out_f32 = m % 2 == 1});
      const PackedWeights ragged(f, type, 37, is_super(f) ? 768 : 96, 2);
      for (const int m : {1, 5, 40, 130}) {
        check_case(ragged, {.m = m, .bias = true, .x_pad = 8, .out_pad = m % 3});
      }
    }
  }
}

TEST_CASE("Products take rows at any address and any k of a plain format") {
  for (const int k : {1, 7, 30, 63, 65, 200}) {
    const PackedWeights w({WeightFormat::k16Bit, DType::kF32}, ElementType::kBF16, 21, k, 3);
    for (const int m : {2, 40}) check_case(w, {.m = m, .bias = true, .x_pad = 1, .out_pad = 3});
  }
}

TEST_CASE("A row's product has the same bits alone and among any others") {
  for (const PackedFormat& f : packed_formats()) {
    for (const ElementType type : {ElementType::kBF16, ElementType::kF16}) {
      const PackedWeights w(f, type, 50, is_super(f) ? 2304 : 992, 4);
      const std::vector<float> all = run_linear(w, {.m = 100, .bias = true, .out_f32 = true});
      for (const int m : {1, 8, 17, 64}) {
        const int first = 100 - m;
        const std::vector<float> some =
            run_linear(w, {.m = m, .bias = true, .out_f32 = true, .first_row = first});
        CHECK(std::memcmp(some.data(), all.data() + static_cast<size_t>(first) * w.n,
                          some.size() * sizeof(float)) == 0);
      }
    }
  }
}

TEST_CASE("Products by several matrices in one launch have the bits of one after the other") {
  const std::vector<int32_t> starts = {0, 5, 5, 75};  // one has no rows
  for (const PackedFormat& f : packed_formats()) {
    const PackedWeights a(f, ElementType::kBF16, 40, 256, 1), b(f, ElementType::kBF16, 40, 256, 2),
        c(f, ElementType::kBF16, 40, 256, 3);
    std::vector<float> expected = run_linear(a, {.m = 5});
    const std::vector<float> rest = run_linear(c, {.m = 70, .first_row = 5});
    expected.insert(expected.end(), rest.begin(), rest.end());
    for (const int usual_rows : {1, 20, 50, 100}) {  // each kernel
      INFO("dtype " << static_cast<int>(f.dtype) << " usual rows " << usual_rows);
      CHECK(run_grouped_linear({&a, &b, &c}, starts, usual_rows) == expected);
    }
  }
  LinearGroups none;
  LinearParams p;
  p.m = p.n = p.k = 1;
  CHECK(grouped_linear(p, none, nullptr) == cudaErrorInvalidValue);
}

TEST_CASE("Stacked sources land in their row tiles") {
  const PackedFormat f = {WeightFormat::kQ4_K, DType::kQ4_K};
  const PackedWeights a(f, ElementType::kBF16, 32, 256, 7), b(f, ElementType::kBF16, 20, 256, 8);
  PackedWeights both(f, ElementType::kBF16, 52, 256, 9);
  std::copy(a.values.begin(), a.values.end(), both.values.begin());
  std::copy(b.values.begin(), b.values.end(), both.values.begin() + 32 * 256);
  std::vector<uint8_t> file(dtype_bytes(f.dtype, 20 * 256));
  for (const PackedWeights* part : {&a, &b}) {
    file.resize(dtype_bytes(f.dtype, static_cast<int64_t>(part->values.size())));
    quantize(f.dtype, random_values(part->values.size(), part == &a ? 7 : 8, 0.3F), file.data());
    const DeviceArray<uint8_t> device(file);
    RepackParams p;
    p.format = f.format;
    p.rows = device.data();
    p.row_begin = part == &a ? 0 : 32;
    p.num_rows = part->n;
    p.k = 256;
    p.packed = both.packed.data();
    must(repack(p, nullptr));
    must(cudaDeviceSynchronize());
  }
  check_case(both, {.m = 3, .out_f32 = true});
}

TEST_CASE("Products and repacking give the same bits in every schedule") {
  for (const PackedFormat& f : packed_formats()) {
    std::vector<float> narrow, wide;
    for_schedules(5, [&] {
      const PackedWeights w(f, ElementType::kBF16, 40, 256, 6);
      const std::vector<float> a = run_linear(w, {.m = 4, .out_f32 = true});
      const std::vector<float> b = run_linear(w, {.m = 34, .out_f32 = true});
      if (narrow.empty()) narrow = a, wide = b;
      CHECK(std::memcmp(a.data(), narrow.data(), a.size() * sizeof(float)) == 0);
      CHECK(std::memcmp(b.data(), wide.data(), b.size() * sizeof(float)) == 0);
    });
  }
}

TEST_CASE("Gathered rows are the weights' values for every format, scaled, with positions added") {
  for (const ElementType type : {ElementType::kBF16, ElementType::kF16}) {
    for (const PackedFormat& f : packed_formats()) {
      const PackedWeights table(f, type, 45, is_super(f) ? 512 : 160, 10);
      const PackedWeights add({WeightFormat::k16Bit, DType::kF32}, type, 9, table.k, 11);
      const std::vector<int32_t> rows = {0, 44, 7, 8, 15, 16, 31},
                                 positions = {8, 0, 1, 2, 3, 4, 5};
      const DeviceArray<int32_t> rows_device(rows), positions_device(positions);
      const DeviceArray<uint16_t> out(rows.size() * table.k);
      for (const bool with_add : {false, true}) {
        GatherWeightRowsParams p;
        p.type = type;
        p.table = {f.format, table.packed.data()};
        p.rows = rows_device.data();
        if (with_add) p.add = {WeightFormat::k16Bit, add.packed.data()};
        p.add_rows = positions_device.data();
        p.count = static_cast<int>(rows.size());
        p.k = table.k;
        p.scale = 2.5F;
        p.out = out.data();
        p.out_stride = table.k;
        must(gather_weight_rows(p, nullptr));
        must(cudaDeviceSynchronize());
        std::vector<double> expected;
        for (size_t i = 0; i < rows.size(); ++i) {
          for (int k = 0; k < table.k; ++k) {
            double value = table.values[static_cast<size_t>(rows[i]) * table.k + k];
            if (with_add) value += add.values[static_cast<size_t>(positions[i]) * table.k + k];
            expected.push_back(2.5 * value);
          }
        }
        check_close(to_floats(type, out.host()), expected, element_tolerance(type), 1e-6);
      }
    }
  }
}

}  // namespace pelton::cuda::test
