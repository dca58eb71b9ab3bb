// The operands of an fp8 product: each byte read and written once, in whole sectors, without races.
#include "cuda/emulator/trace.h"
#include "cuda/kernels/fp8_rows.h"
#include "tests/cuda/kernels/linear_support.h"

namespace pelton::cuda::test {
namespace {

using emulator::Flow;
using emulator::Trace;
using emulator::TraceReport;

void check_once(const Flow& flow, size_t bytes) {
  CHECK(flow.sector_ratio() <= 1.05);
  CHECK(flow.bytes == bytes);
  CHECK(flow.unique_bytes == bytes);
}

}  // namespace

TEST_CASE("fp8 operands are made in one pass over rows and weights") {
  const int rows = 40, n = 160, k = 512;
  Trace trace;
  const DeviceArray<uint16_t> x(
      to_elements(ElementType::kBF16, random_values(static_cast<size_t>(rows) * k, 1)));
  const DeviceArray<uint8_t> codes(static_cast<size_t>(rows) * k);
  const DeviceArray<float> scales(static_cast<size_t>(rows) * (k / kFp8Group));
  const PackedWeights w({WeightFormat::kF8_128, DType::kF8_128}, ElementType::kBF16, n, k, 7);
  const DeviceArray<uint8_t> w_codes(static_cast<size_t>(n) * k);
  const DeviceArray<float> w_scales(static_cast<size_t>(n) * (k / kFp8Group));
  trace.name(x.data(), "x");
  trace.name(codes.data(), "codes");
  trace.name(w.packed.data(), "packed");
  trace.name(w_codes.data(), "w_codes");
  must(quantize_fp8({ElementType::kBF16, x.data(), k, codes.data(), scales.data(), rows, k},
                    nullptr));
  must(unpack_fp8({w.packed.data(), w_codes.data(), w_scales.data(), n, k}, nullptr));
  const TraceReport report = trace.report();
  INFO(report.describe());
  CHECK(report.clean());
  const auto quantize = report.kernel("quantize_fp8_kernel");
  check_once(quantize.buffer("x").read, static_cast<size_t>(rows) * k * 2);
  check_once(quantize.buffer("codes").write, static_cast<size_t>(rows) * k);
  const auto unpack = report.kernel("unpack_fp8_kernel");
  check_once(unpack.buffer("packed").read,
             static_cast<size_t>(packed_bytes(WeightFormat::kF8_128, n, k)));
  check_once(unpack.buffer("w_codes").write, static_cast<size_t>(n) * k);
}

}  // namespace pelton::cuda::test
