// Matrix products with activations of 8 bits (and of bf16 over BF16 weights): against float64 on
// what the rounding leaves of the activations, and the same bits wherever bits are promised.
#include <algorithm>
#include <cmath>
#include <limits>

#include "core/half.h"
#include "tests/cpu/cpu_fixture.h"
#include "tests/support/backend_cases.h"

namespace pelton::test {
namespace {

constexpr CpuActivations kInt8 = CpuActivations::kInt8;

bool has_bf16(const Backend& backend) {
  return backend.description().find("bf16") != std::string::npos;
}

std::vector<double> rounded_to_8_bits(const std::vector<float>& x) {
  std::vector<double> out(x.size());
  for (size_t begin = 0; begin < x.size(); begin += 32) {
    const auto [low, high] = std::minmax_element(x.begin() + begin, x.begin() + begin + 32);
    const float span = std::max({*high - *low, *high, -*low});
    const float inverse = 253.0F / span;
    const double zero = std::nearbyint((0.5F * *high + 0.5F * *low) * inverse);
    for (size_t i = begin; i < begin + 32; ++i) {
      const double code = std::nearbyint(x[i] * inverse);
      REQUIRE(std::fabs(code - zero) <= 127);
      out[i] = span == 0 ? 0 : code * (span / 253.0F);
    }
  }
  return out;
}

SeenActivations seen_by(const Backend& backend) {
  return [bf16 = has_bf16(backend)](DType weights, const std::vector<float>& x, int64_t) {
    if (is_quantized(weights)) return rounded_to_8_bits(x);
    std::vector<double> out(x.begin(), x.end());
    if (weights == DType::kBF16 && bf16) {
      for (double& v : out) v = bf16_to_f32(f32_to_bf16(static_cast<float>(v)));
    }
    return out;
  };
}

}  // namespace

TEST_CASE("linear over rounded activations agrees with float64 in every format and shape") {
  for (CpuIsa isa : cpu_isas()) {
    for (int threads : {1, 3}) {
      const auto backend = cpu_backend(isa, threads, kInt8);
      INFO(backend->description());
      check_linear_seen(*backend, seen_by(*backend));
    }
  }
}

TEST_CASE("rounding activations to 8 bits costs less than a hundredth of a product") {
  const auto backend = cpu_backend(CpuIsa::kAuto, 2, kInt8);
  const auto reference = cpu_backend(CpuIsa::kAuto, 2);
  for (DType dtype : weight_dtypes()) {
    const LinearCase c = {dtype, 8, 96, 1024, false, 11};
    const std::vector<float> exact = run_linear(*reference, c), rounded = run_linear(*backend, c);
    double error = 0, size = 0;
    for (size_t i = 0; i < exact.size(); ++i) {
      error += std::pow(static_cast<double>(rounded[i]) - exact[i], 2);
      size += std::pow(static_cast<double>(exact[i]), 2);
    }
    INFO(dtype_info(dtype).name << ", off by " << std::sqrt(error / size));
    CHECK(error < 1e-4 * size);
    if (is_quantized(dtype)) CHECK(error > 1e-6 * size);  // it was rounded at all
  }
}

TEST_CASE("8-bit activations give the same bits on every instruction set and thread and batch") {
  const auto scalar = cpu_backend(CpuIsa::kScalar, 1, kInt8);
  for (DType dtype : weight_dtypes()) {
    const int64_t n = 150, k = 1280;
    const std::vector<float> big = run_linear(*scalar, {dtype, 64, n, k, true, 4});
    for (CpuIsa isa : cpu_isas()) {
      for (int threads : {1, 5}) {
        const auto backend = cpu_backend(isa, threads, kInt8);
        std::vector<float> all = big;
        if (dtype == DType::kBF16 && has_bf16(*backend)) {  // bits of its own
          all = run_linear(*backend, {dtype, 64, n, k, true, 4});
        }
        for (int64_t m : {1, 2, 3, 4, 5, 6, 7, 8, 12, 13, 25, 64}) {
          if (isa == CpuIsa::kScalar && m > 13) continue;  // slow
          const std::vector<float> rows(all.begin(), all.begin() + m * n);
          INFO(backend->description() << ", " << dtype_info(dtype).name << ", m " << m);
          REQUIRE(same_bits(run_linear(*backend, {dtype, m, n, k, true, 4}), rows));
        }
      }
    }
  }
}

TEST_CASE("a segment of every kind in one matrix keeps the bits that it has alone") {
  const int64_t k = 512;
  for (CpuIsa isa : cpu_isas()) {
    const auto backend = cpu_backend(isa, 3, kInt8);
    std::vector<FloatSource> sources;
    std::vector<const RowSource*> pointers;
    for (DType dtype : weight_dtypes()) {
      sources.emplace_back(dtype, 37, k, random_normal(37 * k, static_cast<uint64_t>(dtype)));
    }
    for (const FloatSource& source : sources) pointers.push_back(&source);
    const auto all = must(backend->pack(pointers));
    for (int64_t m : {1, 20}) {
      const DeviceTensor x = upload(*backend, random_normal(m * k, 5), k);
      const auto product = [&](const Matrix& w) {
        const DeviceTensor out = make_tensor(*backend, m, w.rows(), DType::kF32);
        LinearParams p;
        p.x = x.view;
        p.w = &w;
        p.out = out.view;
        backend->linear(p);
        return download(*backend, out.view);
      };
      const std::vector<float> together = product(*all);
      for (size_t i = 0; i < sources.size(); ++i) {
        const std::vector<float> alone = product(*pack_one(*backend, sources[i]));
        for (int64_t row = 0; row < m; ++row) {
          const auto from = together.begin() + row * all->rows() + static_cast<int64_t>(i) * 37;
          INFO(backend->description() << ", m " << m << ", source " << i);
          REQUIRE(same_bits({from, from + 37},
                            {alone.begin() + row * 37, alone.begin() + (row + 1) * 37}));
        }
      }
    }
  }
}

TEST_CASE("extreme activations are rounded without overflow and what is not finite comes through") {
  const float huge = std::numeric_limits<float>::max() / 4;
  for (CpuIsa isa : cpu_isas()) {
    const auto backend = cpu_backend(isa, 1, kInt8);
    for (DType dtype : {DType::kQ8_0, DType::kQ4_1, DType::kQ6_K}) {
      for (int64_t m : {1, 20}) {
        const int64_t k = 256, n = 40;
        std::vector<float> values(m * k, 0.0F);
        values[0] = huge;
        values[32] = -huge;
        values[64] = std::numeric_limits<float>::denorm_min();
        values[96] = 1e-36F;
        values[128] = -1e-20F;
        const FloatSource source(dtype, n, k, random_normal(n * k, 1, 1e-3F));
        const auto w = pack_one(*backend, source);
        const auto product = [&] {
          const DeviceTensor x = upload(*backend, values, k);
          const DeviceTensor out = make_tensor(*backend, m, n, DType::kF32);
          LinearParams p;
          p.x = x.view;
          p.w = w.get();
          p.out = out.view;
          backend->linear(p);
          return download(*backend, out.view);
        };
        INFO(backend->description() << ", " << dtype_info(dtype).name << ", m " << m);
        const std::vector<float> weights = source.values();
        const std::vector<float> y = product();
        for (int64_t i = 0; i < n; ++i) {
          const double expected = static_cast<double>(huge) * weights[i * k] -
                                  static_cast<double>(huge) * weights[i * k + 32];
          REQUIRE(std::fabs(y[i] - expected) <= 1e-5 * huge * 5e-3);
        }
        for (int64_t i = n; i < m * n; ++i) REQUIRE(y[i] == 0);
        for (const float bad : {std::nanf(""), std::numeric_limits<float>::infinity()}) {
          values[200] = bad;
          const std::vector<float> spoilt = product();
          for (int64_t i = 0; i < n; ++i) REQUIRE(std::isnan(spoilt[i]));
          for (int64_t i = n; i < m * n; ++i) REQUIRE(spoilt[i] == 0);
        }
      }
    }
  }
}

}  // namespace pelton::test
