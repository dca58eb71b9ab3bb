#include "bench/model_work.h"

#include "tests/support/catch.h"

namespace pelton::bench {
namespace {

Ceilings rates() {
  Ceilings c;
  c.read_gb_per_s = 10;
  c.fma_gflops = 100;
  c.bf16_gflops = 200;
  c.int8_gops = 400;
  c.int8_paired_gops = 500;
  return c;
}

}  // namespace

TEST_CASE("each weight format has the best rate that the machine has for it") {
  CHECK(peak_gops(DType::kF32, rates()) == 100);
  CHECK(peak_gops(DType::kF16, rates()) == 100);
  CHECK(peak_gops(DType::kBF16, rates()) == 200);
  for (const DType dtype : {DType::kQ8_0, DType::kQ5_0, DType::kQ5_1, DType::kQ5_K, DType::kQ6_K}) {
    CHECK(peak_gops(dtype, rates()) == 400);
  }
  for (const DType dtype : {DType::kQ4_0, DType::kQ4_1, DType::kQ4_K}) {
    CHECK(peak_gops(dtype, rates()) == 500);
  }
}

TEST_CASE("a batch is bound by reading the weights until its operations take longer") {
  Ceilings vnni = rates();
  vnni.int8_gops = vnni.int8_paired_gops = 1100;
  CHECK(attainable_gops(DType::kQ8_0, vnni) == Approx(800));
  CHECK(attainable_gops(DType::kQ4_1, vnni) < attainable_gops(DType::kQ4_0, vnni));
  for (const DType dtype : {DType::kQ4_1, DType::kQ8_0, DType::kQ6_K, DType::kBF16, DType::kF16}) {
    const double rate = attainable_gops(dtype, rates());
    CHECK(rate < peak_gops(dtype, rates()));
    CHECK(bound_seconds(dtype, 1e10, 1e6, rates()) == Approx(1));
    CHECK(bound_seconds(dtype, 1, 1e9 * rate, rates()) == Approx(1 / 0.85));
  }
}

TEST_CASE("work counts what is multiplied and leaves out what is looked up") {
  const bool tied = GENERATE(true, false);
  const std::string shape = tied ? "smollm2-135m" : "llama-3.1-8b";
  const auto files = open_model_files(
      std::string(PELTON_SHAPES) + "/" + shape,
      {.load_format = LoadFormat::kDummy, .dummy_dtype = DType::kQ8_0, .seed = 0, .shard = {}});
  REQUIRE(files.ok());
  const ModelWork work = work_of(*files);
  const int64_t head = tied ? int64_t{49152} * 576 : int64_t{128256} * 4096;
  const int64_t layer =
      tied ? 960 * 576 + 576 * 576 + 3 * 576 * 1536 : 6144 * 4096 + 4096 * 4096 + 3 * 4096 * 14336;
  CHECK(work.head_weights() == head);
  CHECK(work.layer_weights() == layer * (tied ? 30 : 32));
  CHECK(work.step_bytes == (work.head_weights() + work.layer_weights()) / 32 * 34);
  // A row through the layers alone costs two operations a weight.
  CHECK(work.seconds_at_peak(1, 0, 0, rates()) ==
        Approx(2e-9 * static_cast<double>(work.layer_weights()) / 400));
  CHECK(work.seconds_at_peak(3, 2, 0, rates()) ==
        Approx(2e-9 * static_cast<double>(3 * work.layer_weights() + 2 * head) / 400));
  const int64_t widths = tied ? 30 * 576 : 32 * 4096;  // of all layers' queries
  CHECK(work.seconds_at_peak(0, 0, 5, rates()) ==
        Approx(1e-9 * 4 * static_cast<double>(widths) * 5 / 100));
}

}  // namespace pelton::bench
