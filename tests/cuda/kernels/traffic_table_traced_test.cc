// Prints docs/gpu/kernels.md's table: what each kernel was counted to move, beside the least that
// it could: `cuda_traced_test "[.table]"` (tools/gpu_tables writes the page).
#include <fmt/format.h>

#include <cstdio>

#include "cuda/emulator/trace.h"
#include "cuda/kernels/activation.h"
#include "cuda/kernels/fp8_rows.h"
#include "cuda/kernels/gather_weight_rows.h"
#include "cuda/kernels/norm.h"
#include "cuda/kernels/rope_kv.h"
#include "cuda/kernels/rows.h"
#include "cuda/kernels/sample_tokens.h"
#include "tests/cuda/kernels/attention_support.h"
#include "tests/cuda/kernels/linear_support.h"
#include "tests/cuda/kernels/uncached_attention_support.h"

namespace pelton::cuda::test {
namespace {

using emulator::Flow;
using emulator::Trace;
using emulator::TraceReport;

using Names = std::vector<std::string>;

// One row: bytes of the buffers that hold rows, weights or KV (`owned`) against `least`; what
// blocks share (tables, norm weights, inputs of products) is the rest of the reads.
void print_row(const std::string& what, const TraceReport& report, const Names& owned,
               double least) {
  Flow own, rest;
  uint64_t conflicts = 0, mma = 0, barriers = 0;
  for (const emulator::KernelTrace& kernel : report.kernels) {
    for (const emulator::BufferTraffic& buffer : kernel.buffers) {
      const bool is_owned = std::find(owned.begin(), owned.end(), buffer.name) != owned.end();
      (is_owned ? own : rest).add(buffer.read);
      (is_owned ? own : rest).add(buffer.write);
    }
    conflicts += kernel.shared.conflicts();
    mma += kernel.mma;
    barriers += kernel.barriers;
  }
  fmt::print("| {} | {} | {:.0f} | {:.2f} | {:.2f} | {} | {} | {} | {} | {} |\n", what, own.bytes,
             least, static_cast<double>(own.bytes) / least, own.sector_ratio(), rest.bytes,
             conflicts, mma, barriers, report.findings.size());
}

DeviceArray<uint16_t> elements(size_t count) {
  return DeviceArray<uint16_t>(to_elements(ElementType::kBF16, random_values(count, 1)));
}

void norm_row(int rows, int cols, bool remove_mean = false) {
  const size_t count = static_cast<size_t>(rows) * cols;
  Trace trace;
  const DeviceArray<uint16_t> x = elements(count), residual = elements(count), out(count);
  const DeviceArray<float> weight(random_values(cols, 3));
  trace.name(x.data(), "x");
  trace.name(residual.data(), "residual");
  trace.name(out.data(), "out");
  NormParams p;
  p.x = x.data();
  p.residual = residual.data();
  p.out = out.data();
  p.x_stride = p.residual_stride = p.out_stride = p.cols = cols;
  p.pre.weight = weight.data();
  p.remove_mean = remove_mean;
  p.rows = rows;
  must(norm(p, nullptr));
  print_row(
      fmt::format("{} with residual, {} x {}", remove_mean ? "LayerNorm" : "RMSNorm", rows, cols),
      trace.report(), {"x", "residual", "out"}, 8.0 * static_cast<double>(count));
}

void rope_row(KvType kv, const char* name) {
  const int rows = 4, q_heads = 32, kv_heads = 8, head_dim = 128, block_size = 32;
  const int width = (q_heads + 2 * kv_heads) * head_dim;
  const KvShape shape{kv, block_size, kv_heads, head_dim};
  Trace trace;
  const DeviceArray<uint16_t> qkv = elements(static_cast<size_t>(rows) * width);
  const DeviceArray<float> table(random_values(static_cast<size_t>(64) * head_dim, 2));
  const DeviceArray<int32_t> places(std::vector<int32_t>{0, 17, 33, 60});
  const DeviceArray<std::byte> cache(static_cast<size_t>(shape.layer_bytes()) * 2);
  trace.name(qkv.data(), "qkv");
  trace.name(cache.data(), "cache");
  RopeKvParams p;
  p.qkv = qkv.data();
  p.qkv_stride = width;
  p.rows = rows;
  p.num_q_heads = q_heads;
  p.num_kv_heads = kv_heads;
  p.head_dim = p.rotary_dim = head_dim;
  p.cos_sin = table.data();
  p.positions = p.slots = places.data();
  p.kv = kv_layer_view(shape, cache.data(), 1, 0);
  must(rope_kv(p, nullptr));
  const double kv_row = static_cast<double>(shape.row_bytes()) + (kv_has_scales(kv) ? 4 : 0);
  print_row(fmt::format("RoPE and KV write ({}), {} tokens of an 8B model", name, rows),
            trace.report(), {"qkv", "cache"},
            rows * (2.0 * width + 2.0 * q_heads * head_dim + 2 * kv_heads * kv_row));
}

void activation_row(int rows, int cols) {
  Trace trace;
  const DeviceArray<uint16_t> x = elements(static_cast<size_t>(rows) * cols * 2);
  const DeviceArray<uint16_t> out(static_cast<size_t>(rows) * cols);
  trace.name(x.data(), "x");
  trace.name(out.data(), "out");
  ActivationParams p;
  p.x = x.data();
  p.x_stride = 2 * cols;
  p.out = out.data();
  p.out_stride = p.cols = cols;
  p.rows = rows;
  must(activation(p, nullptr));
  print_row(fmt::format("SiLU-mul, {} x {}", rows, cols), trace.report(), {"x", "out"},
            6.0 * rows * cols);
}

// Of the report, what this kernel did: memory that no traced store filled counts as unset, so that
// what filled it ran under the trace too.
TraceReport only(TraceReport report, const std::string& name) {
  std::erase_if(report.kernels, [&](const emulator::KernelTrace& kernel) {
    return kernel.name.find(name) == std::string::npos;
  });
  return report;
}

void embedding_row(int tokens, int hidden) {
  Trace trace;
  const PackedWeights table({WeightFormat::k16Bit, DType::kBF16}, ElementType::kBF16, 64, hidden,
                            1);
  const DeviceArray<int32_t> rows(std::vector<int32_t>{5, 63, 0, 17});
  const DeviceArray<uint16_t> out(static_cast<size_t>(tokens) * hidden);
  trace.name(table.packed.data(), "table");
  trace.name(out.data(), "out");
  GatherWeightRowsParams p;
  p.table.weights = table.packed.data();
  p.rows = rows.data();
  p.count = tokens;
  p.k = hidden;
  p.out = out.data();
  p.out_stride = hidden;
  must(gather_weight_rows(p, nullptr));
  print_row(fmt::format("embedding bf16, {} tokens of {}", tokens, hidden),
            only(trace.report(), "gather_weight_rows"), {"table", "out"}, 4.0 * tokens * hidden);
}

void fp8_operands_rows(int n, int k, int m) {
  Trace trace;
  const PackedWeights w({WeightFormat::kF8_128, DType::kF8_128}, ElementType::kBF16, n, k, 1);
  const DeviceArray<uint16_t> x = elements(static_cast<size_t>(m) * k);
  const DeviceArray<uint8_t> w_codes(static_cast<size_t>(n) * k), x_codes(x.size());
  const DeviceArray<float> w_scales(static_cast<size_t>(n) * k / 128), x_scales(x.size() / 128);
  for (const auto& [data, name] :
       std::initializer_list<std::pair<const void*, const char*>>{{w.packed.data(), "w"},
                                                                  {w_codes.data(), "w codes"},
                                                                  {w_scales.data(), "w scales"},
                                                                  {x.data(), "x"},
                                                                  {x_codes.data(), "x codes"},
                                                                  {x_scales.data(), "x scales"}}) {
    trace.name(data, name);
  }
  must(unpack_fp8({w.packed.data(), w_codes.data(), w_scales.data(), n, k}, nullptr));
  must(quantize_fp8({ElementType::kBF16, x.data(), k, x_codes.data(), x_scales.data(), m, k},
                    nullptr));
  const TraceReport report = trace.report();
  const double weights = static_cast<double>(n) * k, rows = static_cast<double>(m) * k;
  print_row(fmt::format("fp8 weights of {} x {} for cuBLASLt", n, k), only(report, "unpack_fp8"),
            {"w", "w codes", "w scales"}, weights * (2 + 8.0 / 128));
  print_row(fmt::format("rows of {} x {} rounded to fp8", m, k), only(report, "quantize_fp8"),
            {"x", "x codes", "x scales"}, rows * (3 + 4.0 / 128));
}

void block_copy_row(int64_t block_bytes) {
  Trace trace;
  const DeviceArray<uint8_t> cache(std::vector<uint8_t>(static_cast<size_t>(4 * block_bytes), 1));
  const DeviceArray<int32_t> pairs(std::vector<int32_t>{0, 2, 1, 3});
  trace.name(cache.data(), "cache");
  must(copy_blocks({cache.data(), block_bytes, pairs.data(), 2}, nullptr));
  print_row(fmt::format("copy of two KV blocks of {} KiB", block_bytes >> 10), trace.report(),
            {"cache"}, 4.0 * static_cast<double>(block_bytes));
}

void sampling_row(const char* name, const SampleTask& task, int vocab) {
  Trace trace;
  const DeviceArray<float> logits(random_values(static_cast<size_t>(vocab), 1, 3.0F));
  const DeviceArray<SampleTask> tasks(std::vector<SampleTask>{task});
  const DeviceArray<int32_t> tokens(1);
  const DeviceArray<SampleResult> results(1);
  const DeviceArray<uint8_t> workspace(static_cast<size_t>(sample_workspace_bytes(1, vocab)));
  trace.name(logits.data(), "logits");
  trace.name(workspace.data(), "workspace");
  SampleParams p;
  p.logits = logits.data();
  p.logits_stride = p.vocab = vocab;
  p.tasks = tasks.data();
  p.num_tasks = 1;
  p.tokens = tokens.data();
  p.results = results.data();
  p.workspace = workspace.data();
  must(sample_tokens(p, nullptr));
  print_row(fmt::format("sampling, {}, a row of {}", name, vocab), trace.report(),
            {"logits", "workspace"}, 4.0 * vocab);
}

void linear_row(const PackedFormat& f, int m) {
  const int n = 512, k = 2048;
  Trace trace;
  const PackedWeights w(f, ElementType::kBF16, n, k, 1);
  trace.name(w.packed.data(), "weights");
  run_linear(w, {.m = m});
  print_row(fmt::format("linear {} {} x {}, {} rows", dtype_info(f.dtype).name, n, k, m),
            only(trace.report(), "linear"), {"weights"},
            static_cast<double>(packed_bytes(f.format, n, k)));
}

void attention_row(const std::string& what, const AttentionCase& c) {
  Trace trace;
  run_attention(c, [&](const void* data, const std::string& name) { trace.name(data, name); });
  print_row("attention, " + what, trace.report(), {"kv"}, static_cast<double>(visible_kv_bytes(c)));
}

void encoder_row(const std::string& what, const EncoderCase& c) {
  Trace trace;
  run_uncached_attention(
      c, [&](const void* data, const std::string& name) { trace.name(data, name); });
  double tokens = 0;
  for (const int length : c.lengths) tokens += length;
  print_row("attention, " + what, trace.report(), {"qkv", "out"},
            tokens * 4 * (c.num_q_heads + c.num_kv_heads) * c.head_dim);
}

}  // namespace

TEST_CASE("The table of bytes moved", "[.table]") {
  fmt::print(
      "| kernel | bytes of rows, weights, KV | least | ratio | sectors to needed | "
      "bytes shared by blocks | bank conflicts | mma | barriers | findings |\n"
      "|---|---|---|---|---|---|---|---|---|---|\n");
  embedding_row(4, 2048);
  norm_row(4, 2048);
  norm_row(4, 4096);
  norm_row(4, 768, true);
  rope_row(KvType::kBF16, "bf16");
  rope_row(KvType::kF8E4M3, "fp8");
  rope_row(KvType::kI8, "int8");
  activation_row(2, 8192);
  for (const PackedFormat& f : packed_formats()) {
    if (f.dtype == DType::kF32 || f.dtype == DType::kF16) continue;  // stored as bf16 is
    linear_row(f, 1);
  }
  for (const PackedFormat& f : packed_formats()) {
    if (f.dtype == DType::kBF16 || f.dtype == DType::kQ4_K) linear_row(f, 64);
  }
  fp8_operands_rows(512, 2048, 64);
  AttentionCase c;
  c.num_q_heads = 32;
  c.num_kv_heads = 8;
  c.head_dim = 128;
  c.block_size = 32;
  c.num_sms = 132;
  c.sequences = {{0, 1, 1037}};
  attention_row("decode, context 1,037, 8B heads", c);
  c.kv = KvType::kF8E4M3;
  attention_row("the same with fp8 KV", c);
  c.kv = KvType::kBF16;
  c.num_q_heads = 4;
  c.num_kv_heads = 1;
  c.sequences = {{0, 256, 600}};
  attention_row("a chunk of 256 after 344, one KV head", c);
  EncoderCase encoder;  // as BERT base has them
  encoder.num_q_heads = encoder.num_kv_heads = 12;
  encoder.lengths = {128};
  encoder_row("of an encoder, 128 tokens, 12 heads of 64", encoder);
  block_copy_row(256 << 10);
  SampleTask task;
  task.temperature = 0;
  sampling_row("greedy", task, 32000);
  task.temperature = 0.8F;
  task.uniform = 0.5F;
  sampling_row("temperature alone", task, 32000);
  task.top_k = 40;
  task.top_p = 0.95F;
  sampling_row("top-k 40 and top-p 0.95", task, 32000);
  std::fflush(stdout);
}

}  // namespace pelton::cuda::test
