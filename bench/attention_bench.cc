#include "bench/attention_bench.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "bench/ceiling_loops.h"
#include "core/random.h"
#include "cpu/kv_cache.h"

namespace pelton::bench {
namespace {

constexpr int kBlockSize = 32;

struct Heads {
  const char* name;
  int layers, q, kv, dim;
};

class AttentionBench {
 public:
  // `context` tokens of one sequence, all layers filled.
  static StatusOr<AttentionBench> create(Backend& backend, const Heads& heads, DType dtype,
                                         int context) {
    AttentionBench bench(backend, heads);
    KvGroup group;
    for (int l = 0; l < heads.layers; ++l) group.layers.push_back(l);
    group.num_kv_heads = heads.kv;
    group.head_dim = heads.dim;
    group.dtype = dtype;
    bench.geometry_ = {kBlockSize, {group}};
    const std::vector<int> blocks = {context / kBlockSize};
    PELTON_ASSIGN_OR_RETURN(bench.cache_, backend.allocate_kv(bench.geometry_, blocks));
    bench.cols_ = int64_t{heads.q + 2 * heads.kv} * heads.dim;
    std::vector<float> values(context * bench.cols_);
    for (size_t i = 0; i < values.size(); ++i) {
      values[i] = 2 * counter_uniform(7, static_cast<uint64_t>(i)) - 1;
    }
    PELTON_ASSIGN_OR_RETURN(bench.qkv_, backend.upload(std::as_bytes(std::span(values))));
    PELTON_ASSIGN_OR_RETURN(bench.out_,
                            backend.allocate(int64_t{context} * heads.q * heads.dim * 4));
    PELTON_RETURN_IF_ERROR(bench.prepare(0, context));
    for (int l = 0; l < heads.layers; ++l) {
      RopeKvParams p;
      p.plan = bench.plan_;
      p.qkv = bench.view(*bench.qkv_, context, bench.cols_);
      p.num_q_heads = heads.q;
      p.num_kv_heads = heads.kv;
      p.head_dim = heads.dim;
      p.kv = {bench.cache_.get(), 0, l};
      backend.rope_and_write_kv(p);
    }
    return bench;
  }

  // All of the cache, a block at a time.
  KernelFigure read_alone(const std::string& name, cpu::ThreadPool& pool, int context,
                          TimeBase base) {
    const auto& cache = static_cast<const cpu::CpuKvCache&>(*cache_);
    const int64_t bytes = geometry_.bytes_per_block(0) / 128 * 128;
    KernelFigure figure;
    figure.name = name;
    figure.dtype = DType::kF32;
    figure.tokens = 0;
    figure.seconds = 1e9;
    for (int pass = 0; pass < 20; ++pass) {
      const Stopwatch watch(base);
      pool.run_even(context / kBlockSize, [&](int64_t begin, int64_t end, int) {
        for (int64_t b = begin; b < end; ++b) read_all(cache.block(0, b), bytes);
      });
      figure.seconds = std::min(figure.seconds, watch.seconds());
    }
    figure.gb_per_s = 1e-9 * static_cast<double>(bytes) * (context / kBlockSize) / figure.seconds;
    return figure;
  }

  // Tokens [context - tokens, context) are the new ones.
  StatusOr<KernelFigure> run(const std::string& name, int context, int tokens, TimeBase base) {
    PELTON_RETURN_IF_ERROR(prepare(context - tokens, context));
    KernelFigure figure;
    figure.name = name;
    figure.dtype = DType::kF32;
    figure.tokens = tokens;
    figure.seconds = 1e9;
    const Stopwatch whole;
    for (int pass = 0; pass < 100; ++pass) {
      const Stopwatch watch(base);
      for (int l = 0; l < heads_.layers; ++l) {
        AttentionParams p;
        p.plan = plan_;
        p.q = view(*qkv_, tokens, cols_);
        p.q.cols = int64_t{heads_.q} * heads_.dim;
        p.num_q_heads = heads_.q;
        p.head_dim = heads_.dim;
        p.kv = {cache_.get(), 0, l};
        p.scale = 1.0F / std::sqrt(static_cast<float>(heads_.dim));
        p.out = view(*out_, tokens, p.q.cols);
        backend_.attention(p);
      }
      figure.seconds = std::min(figure.seconds, watch.seconds());
      if (pass > 1 && whole.seconds() > 0.5) break;
    }
    const double seen = 0.5 * (double(context - tokens + 1) + context) * tokens;
    figure.gb_per_s =
        1e-9 * static_cast<double>(geometry_.bytes_per_token()) * context / figure.seconds;
    figure.gflops = 4e-9 * seen * heads_.layers * heads_.q * heads_.dim / figure.seconds;
    return figure;
  }

 private:
  AttentionBench(Backend& backend, const Heads& heads) : backend_(backend), heads_(heads) {}

  Tensor view(const Buffer& buffer, int64_t rows, int64_t cols) const {
    return {buffer.data(), DType::kF32, rows, cols, cols};
  }
  Status prepare(int begin, int end) {
    Batch batch;
    GroupBatch paged;
    for (int t = begin; t < end; ++t) {
      batch.tokens.push_back(0);
      batch.positions.push_back(t);
      paged.slot_mapping.push_back(t);
    }
    batch.query_start_loc = {0, end - begin};
    batch.seq_lens = {end};
    paged.max_blocks_per_seq = (end + kBlockSize - 1) / kBlockSize;
    for (int b = 0; b < paged.max_blocks_per_seq; ++b) paged.block_tables.push_back(b);
    batch.kv = {paged};
    PELTON_ASSIGN_OR_RETURN(plan_, backend_.prepare(batch, geometry_));
    return absl::OkStatus();
  }

  Backend& backend_;
  Heads heads_;
  KvGeometry geometry_;
  std::unique_ptr<KvCache> cache_;
  std::unique_ptr<Buffer> qkv_, out_;
  int64_t cols_ = 0;
  const StepPlan* plan_ = nullptr;
};

}  // namespace

StatusOr<std::vector<KernelFigure>> measure_attention(Backend& backend, cpu::ThreadPool& pool,
                                                      TimeBase base) {
  std::vector<KernelFigure> out;
  for (const Heads& heads : {Heads{"135M", 30, 9, 3, 64}, Heads{"8B", 8, 32, 8, 128}}) {
    for (DType dtype : {DType::kF32, DType::kBF16, DType::kF16, DType::kI8}) {
      if (!backend.supports_kv(dtype)) continue;
      PELTON_ASSIGN_OR_RETURN(AttentionBench bench,
                              AttentionBench::create(backend, heads, dtype, 4096));
      out.push_back(bench.read_alone(
          fmt::format("reading {} {}", heads.name, dtype_info(dtype).name), pool, 4096, base));
      for (const auto& [context, tokens] : {std::pair{4096, 1}, {2048, 2048}}) {
        const std::string name = fmt::format("{} {} {}", tokens == 1 ? "decode at 4096" : "prefill",
                                             heads.name, dtype_info(dtype).name);
        PELTON_ASSIGN_OR_RETURN(KernelFigure figure, bench.run(name, context, tokens, base));
        out.push_back(figure);
      }
    }
  }
  return out;
}

}  // namespace pelton::bench
