// What products over packed weights move: each weight once, in whole sectors, without races and
// without bank conflicts.
#include "cuda/emulator/trace.h"
#include "tests/cuda/kernels/linear_support.h"

namespace pelton::cuda::test {
namespace {

using emulator::KernelTrace;
using emulator::Trace;
using emulator::TraceReport;

// A square projection of 1B (2048 x 2048), cut to fewer rows.
constexpr int kRows = 512, kCols = 2048;
// Every width of a product of bench/shapes: hidden, intermediate and heads' sizes.
constexpr int kWidths[] = {576,  640,  768,  896,  1024, 1152,  1536,  1600,  2048,  3072,  3584,
                           4096, 4864, 6400, 6912, 8192, 11008, 12288, 14336, 18944, 28672, 49152};

// Packed and multiplied under one trace: memory that no traced store filled counts as unset.
TraceReport traced(const PackedFormat& f, ElementType type, int n, int k, const LinearCase& c) {
  Trace trace;
  const PackedWeights w(f, type, n, k, 1);
  trace.name(w.packed.data(), "weights");
  run_linear(w, c);
  return trace.report();
}

void check_weights_read_once(const PackedFormat& f, const KernelTrace& kernel, int n = kRows,
                             int k = kCols) {
  REQUIRE(kernel.launches == 1);
  const emulator::BufferTraffic weights = kernel.buffer("weights");
  CHECK(weights.read.sector_ratio() <= 1.05);
  CHECK(weights.read.byte_ratio() == 1);
  const double file = static_cast<double>(file_row_bytes(f.format, k)) * n;
  CHECK(static_cast<double>(weights.read.bytes) <= 1.1 * file);
  CHECK(static_cast<double>(weights.read.bytes) >= 0.99 * file);
}

}  // namespace

TEST_CASE("A product for few rows reads each weight once in whole sectors for every format") {
  for (const PackedFormat& f : packed_formats()) {
    INFO("dtype " << static_cast<int>(f.dtype));
    if (f.dtype == DType::kF32 || f.dtype == DType::kF16) continue;  // 16 bits as bf16 has them
    for (const int m : {1, 8, 32}) {
      const TraceReport report =
          traced(f, ElementType::kBF16, m > 8 ? kRows / 4 : kRows, kCols, {.m = m, .bias = true});
      INFO(report.describe());
      CHECK(report.clean());
      const KernelTrace kernel = report.kernel("linear_narrow_kernel");
      check_weights_read_once(f, kernel, m > 8 ? kRows / 4 : kRows);
      CHECK(kernel.shared.conflicts() == 0);
      CHECK(kernel.write.sector_ratio() <= 1.05);
      CHECK(kernel.mma > 0);
    }
  }
}

TEST_CASE("A product for one row reads each weight once at every width of the models") {
  for (const PackedFormat& f : packed_formats()) {
    if (f.dtype == DType::kF32 || f.dtype == DType::kF16) continue;
    for (const int k : kWidths) {
      // Whole units, as models of the format have them; the widest ones for three of the formats.
      const WeightLayout layout = weight_layout(f.format);
      const bool one_of_three =
          f.dtype == DType::kBF16 || f.dtype == DType::kQ8_0 || f.dtype == DType::kQ4_K;
      if (k % layout.file_block != 0 || (k > 8192 && !one_of_three)) continue;
      INFO("dtype " << static_cast<int>(f.dtype) << " k " << k);
      const TraceReport report = traced(f, ElementType::kBF16, 16, k, {.m = 1});
      INFO(report.describe());
      CHECK(report.clean());
      check_weights_read_once(f, report.kernel("linear_narrow_kernel"), 16, k);
    }
  }
}

TEST_CASE("A product for many rows has no bank conflicts and reads each weight once a tile") {
  for (const PackedFormat& f : packed_formats()) {
    INFO("dtype " << static_cast<int>(f.dtype));
    for (const int m : {64, 96}) {
      const TraceReport report =
          traced(f, ElementType::kF16, 128, 512, {.m = m, .out_f32 = m == 64});
      INFO(report.describe());
      CHECK(report.clean());
      const KernelTrace kernel = report.kernel("linear_wide_kernel");
      REQUIRE(kernel.launches == 1);
      CHECK(kernel.buffer("weights").read.sector_ratio() <= 1.05);
      CHECK(kernel.buffer("weights").read.byte_ratio() == 1);
      CHECK(kernel.shared.conflicts() == 0);
      CHECK(kernel.write.sector_ratio() <= 1.05);
    }
  }
}

TEST_CASE("Products by several matrices read the weights of those that have rows once") {
  const PackedFormat f = {WeightFormat::kQ4_K, DType::kQ4_K};
  Trace trace;
  const PackedWeights used(f, ElementType::kBF16, 64, 512, 1);
  const PackedWeights idle(f, ElementType::kBF16, 64, 512, 2);
  trace.name(used.packed.data(), "used");
  trace.name(idle.packed.data(), "idle");
  run_grouped_linear({&idle, &used}, {0, 0, 8}, 4);
  const TraceReport report = trace.report();
  INFO(report.describe());
  CHECK(report.clean());
  const KernelTrace kernel = report.kernel("linear_narrow_kernel");
  CHECK(kernel.buffer("idle").read.bytes == 0);
  CHECK(kernel.buffer("used").read.byte_ratio() == 1);
  CHECK(kernel.buffer("used").read.bytes == static_cast<uint64_t>(packed_bytes(f.format, 64, 512)));
}

TEST_CASE("Ragged products and repacking are free of races and stay within their buffers") {
  for (const PackedFormat& f : packed_formats()) {
    for (const int m : {3, 40}) {
      const TraceReport report = traced(f, ElementType::kBF16, 21, 256, {.m = m, .out_pad = 3});
      INFO(report.describe());
      CHECK(report.clean());
    }
  }
}

}  // namespace pelton::cuda::test
