// What attention without a cache moves, and that its warps do not race.
#include "cuda/emulator/trace.h"
#include "tests/cuda/kernels/schedules.h"
#include "tests/cuda/kernels/uncached_attention_support.h"

namespace pelton::cuda::test {
namespace {

using emulator::KernelTrace;
using emulator::Trace;
using emulator::TraceReport;

TraceReport traced(const EncoderCase& c) {
  Trace trace;
  run_uncached_attention(
      c, [&](const void* data, const std::string& name) { trace.name(data, name); });
  return trace.report();
}

}  // namespace

TEST_CASE("Encoder attention reads whole sectors without bank conflicts and K and V once a tile") {
  for (const ElementType type : {ElementType::kBF16, ElementType::kF16}) {
    for (const int head_dim : {64, 128, 256}) {
      EncoderCase c;
      c.type = type;
      c.num_q_heads = 4;
      c.num_kv_heads = 1;
      c.head_dim = head_dim;
      c.lengths = {150, 64};
      const TraceReport report = traced(c);
      INFO("head_dim " << head_dim << ": " << report.describe());
      CHECK(report.clean());
      const KernelTrace kernel = report.kernel("attention_kernel");
      REQUIRE(kernel.launches == 1);
      const emulator::BufferTraffic qkv = kernel.buffer("qkv"), out = kernel.buffer("out");
      const int tile_tokens = (head_dim > 128 ? kWideHeadTileRows : kPrefillTileRows) / 4;
      uint64_t least = 0, read_bytes = 0;  // rows of q once, K and V once a tile
      for (const int length : c.lengths) {
        const auto row = static_cast<uint64_t>(length) * head_dim * 2;
        least += 4 * row;
        read_bytes += 4 * row + 2 * row * ((length + tile_tokens - 1) / tile_tokens);
      }
      CHECK(qkv.read.bytes <= read_bytes);
      CHECK(qkv.read.unique_bytes == qkv.size_bytes);
      CHECK(out.write.bytes == least);
      CHECK(qkv.read.sector_ratio() <= 1.05);
      CHECK(out.write.sector_ratio() <= 1.05);
      CHECK(kernel.shared.conflicts() == 0);
      CHECK(kernel.mma > 0);
    }
  }
}

TEST_CASE("Encoder attention has no race in other orders of lanes warps and blocks") {
  for_schedules(5, [&] {
    EncoderCase c;
    c.head_dim = 24;
    c.lengths = {70, 1, 0, 19};
    const TraceReport report = traced(c);
    INFO(report.describe());
    CHECK(report.clean());
  });
}

TEST_CASE("Encoder attention has no race in a hundred orders", "[long]") {
  int round = 0;
  for_schedules(100, [&] {
    EncoderCase c;
    c.head_dim = 8 * (1 + round % 32);
    c.lengths = {1 + 7 * round % 90, 33, 1};
    ++round;
    const TraceReport report = traced(c);
    INFO("round " << round << ": " << report.describe());
    CHECK(report.clean());
  });
}

}  // namespace pelton::cuda::test
