// What paged attention moves, and that its warps do not race.
#include "cuda/emulator/trace.h"
#include "tests/cuda/kernels/attention_support.h"
#include "tests/cuda/kernels/schedules.h"

namespace pelton::cuda::test {
namespace {

using emulator::Flow;
using emulator::KernelTrace;
using emulator::Trace;
using emulator::TraceReport;

TraceReport traced(const AttentionCase& c) {
  Trace trace;
  run_attention(c, [&](const void* data, const std::string& name) { trace.name(data, name); });
  return trace.report();
}

// Heads and head_dim of bench/shapes.
struct ModelShape {
  const char* name;
  int num_q_heads;
  int num_kv_heads;
  int head_dim;
};
const ModelShape kShapes[] = {
    {"smollm2-135m", 9, 3, 64},  {"gpt2", 12, 12, 64},         {"gpt2-xl", 25, 25, 64},
    {"qwen2.5-0.5b", 14, 2, 64}, {"llama-3.2-1b", 32, 8, 64},  {"qwen3-0.6b", 16, 8, 128},
    {"qwen2.5-7b", 28, 4, 128},  {"llama-3.1-8b", 32, 8, 128}, {"llama-3.1-70b", 64, 8, 128},
    {"llama-2-7b", 32, 32, 128}, {"gemma-3-1b", 4, 1, 256}};

AttentionCase case_of(const ModelShape& shape, KvType kv) {
  AttentionCase c;
  c.kv = kv;
  c.num_q_heads = shape.num_q_heads;
  c.num_kv_heads = shape.num_kv_heads;
  c.head_dim = shape.head_dim;
  return c;
}

void check_traffic(const AttentionCase& c, double most_kv_bytes) {
  const TraceReport report = traced(c);
  INFO(report.describe());
  CHECK(report.clean());
  Flow kv, all;
  for (const KernelTrace& kernel : report.kernels) {
    kv.add(kernel.buffer("kv").read);
    for (const char* name : {"kv", "q", "out", "partials"}) {
      all.add(kernel.buffer(name).read);
      all.add(kernel.buffer(name).write);
    }
    CHECK(kernel.shared.conflicts() == 0);
  }
  CHECK(kv.sector_ratio() <= 1.05);
  CHECK(all.sector_ratio() <= 1.05);
  CHECK(static_cast<double>(kv.bytes) <= most_kv_bytes * visible_kv_bytes(c));
}

}  // namespace

TEST_CASE("Decode attention reads K and V once in whole sectors without bank conflicts") {
  for (const ModelShape& shape : kShapes) {
    for (const KvType kv : {KvType::kBF16, KvType::kF8E4M3, KvType::kI8}) {
      if (kv == KvType::kI8 && shape.num_kv_heads > 4) continue;  // moves what fp8 does
      AttentionCase c = case_of(shape, kv);
      c.sequences = {{0, 1, 1037}};
      INFO(shape.name << " kv " << static_cast<int>(kv));
      for (const int num_sms : {1, 132}) {  // whole, and split
        c.num_sms = num_sms;
        check_traffic(c, 1.1);
      }
    }
  }
}

TEST_CASE("Windowed decode attention reads the window alone") {
  AttentionCase c = case_of({"", 8, 2, 128}, KvType::kBF16);
  c.window = 1024;
  c.block_size = 32;
  c.sequences = {{0, 1, 1700}, {1, 1, 1025}};
  check_traffic(c, 1.1);
}

TEST_CASE("Prefill attention reads whole sectors without bank conflicts") {
  for (const KvType kv : {KvType::kBF16, KvType::kF8E4M3}) {
    for (const int head_dim : {64, 128, 256}) {
      AttentionCase c = case_of({"", 4, 1, head_dim}, kv);
      c.sequences = {{0, 256, 600}};
      INFO("head_dim " << head_dim << " kv " << static_cast<int>(kv));
      // A tile holds 32 tokens (8 where head_dim is 256): so many times K and V are read.
      check_traffic(c, head_dim == 256 ? 32 : 8);
    }
  }
}

TEST_CASE("Attention has no race in other orders of lanes warps and blocks") {
  for (uint64_t seed = 1; seed <= 4; ++seed) {
    for_schedules(5, [&] {
      const AttentionCase c = random_case(seed);
      INFO("seed " << seed);
      const TraceReport report = traced(c);
      INFO(report.describe());
      CHECK(report.clean());
    });
  }
}

TEST_CASE("Attention has no race in a hundred orders", "[long]") {
  uint64_t seed = 2000;
  for_schedules(100, [&] {
    const AttentionCase c = random_case(++seed);
    INFO("seed " << seed);
    const TraceReport report = traced(c);
    INFO(report.describe());
    CHECK(report.clean());
  });
}

}  // namespace pelton::cuda::test
