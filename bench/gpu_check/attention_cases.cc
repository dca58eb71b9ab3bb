// Paged attention: decode over long contexts, a prefill chunk, and both in one batch.
#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "bench/gpu_check/kernel_cases.h"
#include "cuda/kernels/attention.h"

namespace pelton::bench {
namespace {

constexpr int kQHeads = 32, kKvHeads = 8, kHeadDim = 128, kBlockSize = 32;

struct Sequence {
  int context;     // tokens that stand in the cache before the step
  int new_tokens;  // of the step
};

struct Batch {
  std::string name;
  std::vector<Sequence> sequences;
  cuda::KvType kv = cuda::KvType::kBF16;
};

// What the kernels must read and do at least: each sequence's KV once, causal products.
void count_work(const Batch& batch, const cuda::KvShape& shape, KernelCase& c) {
  for (const Sequence& s : batch.sequences) {
    const double length = s.context + s.new_tokens;
    const double row = static_cast<double>(shape.row_bytes()) + (kv_has_scales(shape.type) ? 4 : 0);
    c.bytes += 2 * length * kKvHeads * row + 4.0 * s.new_tokens * kQHeads * kHeadDim;
    const double visible = s.new_tokens * (s.context + (s.new_tokens + 1) / 2.0);
    if (s.new_tokens > 1) c.operations += 4.0 * kHeadDim * kQHeads * visible;
  }
}

Status attention_case(const Batch& batch, const MeasureCase& measure) {
  cudaDeviceProp card;
  PELTON_RETURN_IF_ERROR(cuda_error(cudaGetDeviceProperties(&card, 0), "properties"));
  const auto num_seqs = static_cast<int>(batch.sequences.size());
  std::vector<int32_t> starts = {0}, lengths;
  int most_blocks = 0;
  for (const Sequence& s : batch.sequences) {
    starts.push_back(starts.back() + s.new_tokens);
    lengths.push_back(s.context + s.new_tokens);
    most_blocks = std::max(most_blocks, (lengths.back() + kBlockSize - 1) / kBlockSize);
  }
  const int tokens = starts.back();
  std::vector<int32_t> tables(static_cast<size_t>(num_seqs) * most_blocks);
  std::iota(tables.begin(), tables.end(), 0);  // each sequence's blocks its own
  const cuda::KvShape kv{batch.kv, kBlockSize, kKvHeads, kHeadDim};

  cuda::AttentionShape shape;
  shape.num_q_heads = kQHeads;
  shape.num_kv_heads = kKvHeads;
  shape.head_dim = kHeadDim;
  shape.num_sms = card.multiProcessorCount;
  const int64_t cached = std::accumulate(lengths.begin(), lengths.end(), int64_t{0});
  shape.max_partial_rows = cuda::wanted_partial_rows(cached, num_seqs);
  cuda::AttentionPlan plan;
  cuda::plan_attention(shape, {starts, lengths, most_blocks, false}, plan);

  const auto item_bytes = static_cast<int64_t>(plan.items.size() * sizeof(cuda::AttentionItem));
  PELTON_ASSIGN_OR_RETURN(const DeviceMemory items,
                          device_memory(std::max<int64_t>(item_bytes, 32)));
  PELTON_RETURN_IF_ERROR(cuda_error(
      cudaMemcpy(items.get(), plan.items.data(), item_bytes, cudaMemcpyHostToDevice), "upload"));
  PELTON_ASSIGN_OR_RETURN(const DeviceMemory device_tables, uploaded(tables));
  PELTON_ASSIGN_OR_RETURN(const DeviceMemory cache,
                          filled(kv.layer_bytes() * static_cast<int64_t>(tables.size()), 0x3c));
  const int width = kQHeads * kHeadDim;
  PELTON_ASSIGN_OR_RETURN(const DeviceMemory q, filled(int64_t{2} * tokens * width, 0x3c));
  PELTON_ASSIGN_OR_RETURN(const DeviceMemory out, filled(int64_t{2} * tokens * width, 0));
  PELTON_ASSIGN_OR_RETURN(
      const DeviceMemory partials,
      filled(cuda::attention_workspace_bytes(shape, shape.max_partial_rows), 0));

  cuda::PagedAttentionParams p;
  p.q = q.get();
  p.out = out.get();
  p.q_stride = p.out_stride = width;
  p.num_q_heads = kQHeads;
  p.kv = cuda::kv_layer_view(kv, static_cast<std::byte*>(cache.get()), 1, 0);
  p.block_tables = static_cast<const int32_t*>(device_tables.get());
  p.scale = 0.0884F;
  p.items = static_cast<const cuda::AttentionItem*>(items.get());
  p.num_decode = plan.num_decode;
  p.num_prefill = plan.num_prefill;
  p.num_merge = plan.num_merge;
  p.partials = static_cast<float*>(partials.get());
  p.max_partial_rows = shape.max_partial_rows;
  KernelCase c;
  c.name = "attention " + batch.name;
  count_work(batch, kv, c);
  c.launches = 5;
  c.launch = [p](int, cudaStream_t stream) { return cuda::paged_attention(p, stream); };
  return measure(c);
}

std::vector<Sequence> repeated(int count, Sequence s) {
  return std::vector<Sequence>(static_cast<size_t>(count), s);
}

}  // namespace

Status attention_cases(const CheckContext& context, const MeasureCase& measure) {
  std::vector<Batch> batches = {
      {"decode, 1 x context 8192", repeated(1, {8191, 1})},
      {"decode, 64 x context 1024", repeated(64, {1023, 1})},
      {"decode, 64 x context 1024, fp8 KV", repeated(64, {1023, 1}), cuda::KvType::kF8E4M3},
      {"decode, 256 x context 1024", repeated(256, {1023, 1})},
      {"decode, 8 x context 32768", repeated(8, {32767, 1})},
      {"prefill, 1 x 2048", repeated(1, {0, 2048})},
      {"prefill, 4 x 2048", repeated(4, {0, 2048})},
      {"prefill, 1024 after 8192", repeated(1, {8192, 1024})},
  };
  Batch mixed{"mixed, 63 x context 1024 and a chunk of 1024", repeated(63, {1023, 1})};
  mixed.sequences.push_back({0, 1024});
  batches.push_back(mixed);
  if (context.quick) {
    batches = {{"decode, 2 x context 70", repeated(2, {69, 1})}, {"prefill, 1 x 20", {{0, 20}}}};
  }
  for (const Batch& batch : batches) PELTON_RETURN_IF_ERROR(attention_case(batch, measure));
  return Status();
}

}  // namespace pelton::bench
