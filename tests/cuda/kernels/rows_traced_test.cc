// What norms, rotary embedding with its KV write, activations and row moves send over the memory
// bus: each byte once, in whole sectors; no races, nothing out of bounds. Shapes of 1B and 8B
// models.
#include <initializer_list>
#include <numeric>

#include "cuda/emulator/trace.h"
#include "cuda/kernels/activation.h"
#include "cuda/kernels/experts.h"
#include "cuda/kernels/norm.h"
#include "cuda/kernels/rope_kv.h"
#include "cuda/kernels/rows.h"
#include "tests/cuda/kernels/device_array.h"

namespace pelton::cuda::test {
namespace {

using emulator::Flow;
using emulator::KernelTrace;
using emulator::Trace;
using emulator::TraceReport;

DeviceArray<uint16_t> elements(size_t count, uint64_t seed) {
  return DeviceArray<uint16_t>(to_elements(ElementType::kBF16, random_values(count, seed)));
}

// Whole sectors, and `bytes` of them: no more than a tenth beyond the least.
void check_flow(const Flow& flow, size_t bytes) {
  CHECK(flow.sector_ratio() <= 1.05);
  CHECK(static_cast<double>(flow.bytes) <= 1.1 * static_cast<double>(bytes));
  CHECK(flow.unique_bytes == bytes);
}

void check_norm_traffic(int rows, int cols, bool remove_mean) {
  const size_t count = static_cast<size_t>(rows) * cols;
  Trace trace;
  const DeviceArray<uint16_t> x = elements(count, 1), residual = elements(count, 2), out(count);
  const DeviceArray<float> weight(random_values(cols, 3)), post(random_values(cols, 4));
  trace.name(x.data(), "x");
  trace.name(residual.data(), "residual");
  trace.name(out.data(), "out");
  NormParams p;
  p.remove_mean = remove_mean;
  p.x = x.data();
  p.residual = residual.data();
  p.out = out.data();
  p.x_stride = p.residual_stride = p.out_stride = p.cols = cols;
  p.pre.weight = weight.data();
  p.post.weight = post.data();
  p.rows = rows;
  must(norm(p, nullptr));
  const TraceReport report = trace.report();
  INFO(report.describe());
  CHECK(report.clean());
  const KernelTrace kernel = report.kernel("norm_kernel");
  check_flow(kernel.buffer("x").read, 2 * count);
  check_flow(kernel.buffer("residual").read, 2 * count);
  check_flow(kernel.buffer("residual").write, 2 * count);
  check_flow(kernel.buffer("out").write, 2 * count);
  CHECK(kernel.shared.conflicts() == 0);
}

struct RopeShape {
  int q_heads, kv_heads, head_dim;
  KvType kv = KvType::kBF16;
  int rows = 5;
};

void check_rope_traffic(const RopeShape& s) {
  const int rows = s.rows, block_size = 16, width = (s.q_heads + 2 * s.kv_heads) * s.head_dim;
  const KvShape shape{s.kv, block_size, s.kv_heads, s.head_dim};
  Trace trace;
  const DeviceArray<uint16_t> qkv = elements(static_cast<size_t>(rows) * width, 1);
  const int slots = std::max(64, (rows + block_size - 1) / block_size * block_size);
  std::vector<int32_t> places_of_rows = {0, 17, 33, 5, 60};
  if (rows > 5) {  // a chunk, in order
    places_of_rows.resize(static_cast<size_t>(rows));
    std::iota(places_of_rows.begin(), places_of_rows.end(), 0);
  }
  const DeviceArray<float> table(random_values(static_cast<size_t>(slots) * s.head_dim, 2));
  const DeviceArray<float> norms(random_values(static_cast<size_t>(s.head_dim), 3));
  const DeviceArray<int32_t> places(places_of_rows);
  const DeviceArray<std::byte> cache(static_cast<size_t>(shape.layer_bytes()) * slots / block_size);
  trace.name(qkv.data(), "qkv");
  trace.name(cache.data(), "cache");
  RopeKvParams p;
  p.qkv = qkv.data();
  p.qkv_stride = width;
  p.rows = rows;
  p.num_q_heads = s.q_heads;
  p.num_kv_heads = s.kv_heads;
  p.head_dim = p.rotary_dim = s.head_dim;
  p.q_norm = p.k_norm = norms.data();
  p.cos_sin = table.data();
  p.positions = p.slots = places.data();
  p.kv = kv_layer_view(shape, cache.data(), 1, 0);
  must(rope_kv(p, nullptr));
  const TraceReport report = trace.report();
  INFO(report.describe());
  CHECK(report.clean());
  const KernelTrace kernel = report.kernel("rope_kv");
  const size_t token = static_cast<size_t>(rows) * 2;
  check_flow(kernel.buffer("qkv").read, token * width);
  check_flow(kernel.buffer("qkv").write, token * s.q_heads * s.head_dim);
  const Flow written = kernel.buffer("cache").write;
  const int64_t row_bytes = shape.row_bytes() + (kv_has_scales(s.kv) ? 4 : 0);
  CHECK(written.bytes == token * s.kv_heads * row_bytes);
  // The scales of a token's heads lie apart, four bytes each, where attention reads those of a
  // head's tokens in a run: a sector for each, and rows in whole ones.
  const int64_t row_sectors = shape.row_bytes() / 32 + (kv_has_scales(s.kv) ? 1 : 0);
  CHECK(written.sectors == token * s.kv_heads * row_sectors);
}

}  // namespace

TEST_CASE("a norm moves each byte of its rows once in whole sectors") {
  // The widths of bench/shapes.
  for (const int cols : {576, 640, 768, 896, 1024, 1152, 1600, 2048, 3584, 4096, 8192, 12288}) {
    INFO(cols);
    check_norm_traffic(2, cols, false);
  }
  check_norm_traffic(2, 768, true);
  check_norm_traffic(3, 12288, true);
}

TEST_CASE("rope_kv moves each byte of its rows once in whole sectors") {
  for (const KvType kv : {KvType::kBF16, KvType::kF8E4M3, KvType::kI8}) {
    for (const RopeShape& heads : std::initializer_list<RopeShape>{{9, 3, 64},
                                                                   {12, 12, 64},
                                                                   {25, 25, 64},
                                                                   {14, 2, 64},
                                                                   {32, 8, 64},
                                                                   {16, 8, 128},
                                                                   {28, 4, 128},
                                                                   {32, 8, 128},
                                                                   {32, 32, 128},
                                                                   {64, 8, 128},
                                                                   {96, 96, 128},
                                                                   {4, 1, 256}}) {
      INFO(heads.q_heads << " heads of " << heads.head_dim << ", kv " << static_cast<int>(kv));
      check_rope_traffic({heads.q_heads, heads.kv_heads, heads.head_dim, kv});
    }
    check_rope_traffic({14, 2, 64, kv, 256});
    check_rope_traffic({16, 8, 128, kv, 256});
  }
}

TEST_CASE("an activation moves each byte once in whole sectors") {
  const int rows = 2, cols = 8192;
  for (const bool gated : {true, false}) {
    Trace trace;
    const size_t in = static_cast<size_t>(rows) * cols * (gated ? 2 : 1);
    const DeviceArray<uint16_t> x = elements(in, 1), out(static_cast<size_t>(rows) * cols);
    trace.name(x.data(), "x");
    trace.name(out.data(), "out");
    ActivationParams p;
    p.gated = gated;
    p.x = x.data();
    p.x_stride = static_cast<int64_t>(in) / rows;
    p.out = out.data();
    p.out_stride = p.cols = cols;
    p.rows = rows;
    must(activation(p, nullptr));
    const TraceReport report = trace.report();
    INFO(report.describe());
    CHECK(report.clean());
    const KernelTrace kernel = report.kernel("activation_kernel");
    check_flow(kernel.buffer("x").read, 2 * in);
    check_flow(kernel.buffer("out").write, static_cast<size_t>(2) * rows * cols);
  }
}

TEST_CASE("gathered rows and copied blocks move each byte once in whole sectors") {
  constexpr int64_t kBytes = 8192;
  Trace trace;
  const DeviceArray<uint8_t> x(std::vector<uint8_t>(8 * kBytes, 1)), out(3 * kBytes);
  const DeviceArray<int32_t> index(std::vector<int32_t>{5, 0, 7, 2});
  trace.name(x.data(), "x");
  trace.name(out.data(), "out");
  GatherRowsParams g;
  g.x = x.data();
  g.index = index.data();
  g.out = out.data();
  g.x_stride_bytes = g.out_stride_bytes = g.row_bytes = kBytes;
  g.rows = 3;
  must(gather_rows(g, nullptr));
  CopyBlocksParams c;
  c.cache = x.data();
  c.block_bytes = kBytes;
  c.pairs = index.data();
  c.num_pairs = 2;
  must(copy_blocks(c, nullptr));
  const TraceReport report = trace.report();
  INFO(report.describe());
  CHECK(report.clean());
  check_flow(report.kernel("gather_rows").buffer("x").read, 3 * kBytes);
  check_flow(report.kernel("gather_rows").buffer("out").write, 3 * kBytes);
  check_flow(report.kernel("copy_blocks").buffer("x").read, 2 * kBytes);
  check_flow(report.kernel("copy_blocks").buffer("x").write, 2 * kBytes);
}

TEST_CASE("expert choice and grouping are free of races and stay within their buffers") {
  const int rows = 200, experts = 40, top_k = 2;  // more entries than a block has threads
  Trace trace;
  const DeviceArray<uint16_t> logits = elements(static_cast<size_t>(rows) * experts, 1);
  const DeviceArray<int32_t> ids(rows * top_k), place(rows * top_k), token_of(rows * top_k),
      starts(experts + 1);
  const DeviceArray<float> weights(rows * top_k);
  RouteParams r;
  r.logits = logits.data();
  r.logits_stride = r.experts = experts;
  r.rows = rows;
  r.top_k = top_k;
  r.expert_ids = ids.data();
  r.expert_weights = weights.data();
  must(route(r, nullptr));
  GroupByExpertParams g;
  g.expert_ids = ids.data();
  g.entries = rows * top_k;
  g.top_k = top_k;
  g.experts = experts;
  g.starts = starts.data();
  g.place = place.data();
  g.token_of = token_of.data();
  must(group_by_expert(g, nullptr));
  const TraceReport report = trace.report();
  INFO(report.describe());
  CHECK(report.clean());
}

}  // namespace pelton::cuda::test
