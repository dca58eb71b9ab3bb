// pelton-kernel-counts: runs each kernel a fixed number of times for an instruction counter, which
// a busy machine does not disturb. Under valgrind's callgrind each case ends in a dump of its own
// name; alone it prints the bytes that a token moves. tools/update_kernel_baseline drives both.
#include <fmt/format.h>

#include <cstdlib>
#include <functional>
#include <utility>

#include "bench/random_source.h"
#include "cpu/cpu_backend.h"
#include "model/load.h"
#if __has_include(<valgrind/callgrind.h>)
#include <valgrind/callgrind.h>
#else
#define CALLGRIND_START_INSTRUMENTATION
#define CALLGRIND_STOP_INSTRUMENTATION
#define CALLGRIND_ZERO_STATS
#define CALLGRIND_DUMP_STATS_AT(name)
#define RUNNING_ON_VALGRIND 0
#endif

namespace pelton::bench {
namespace {

constexpr DType kFormats[] = {DType::kF32,  DType::kF16,  DType::kBF16, DType::kQ8_0,
                              DType::kQ4_0, DType::kQ4_1, DType::kQ5_0, DType::kQ5_1,
                              DType::kQ4_K, DType::kQ5_K, DType::kQ6_K};

template <typename T>
T must(StatusOr<T> value) {
  if (!value.ok()) {
    fmt::print(stderr, "pelton-kernel-counts: {}\n", std::string(value.status().message()));
    std::exit(1);
  }
  return std::move(value).value();
}

// Once to warm up (buffers grow on first use), then once counted.
void count(const std::string& name, const std::function<void()>& work) {
  work();
  CALLGRIND_START_INSTRUMENTATION;
  CALLGRIND_ZERO_STATS;
  work();
  CALLGRIND_DUMP_STATS_AT(name.c_str());
  CALLGRIND_STOP_INSTRUMENTATION;
}

struct Activations {
  Activations(Backend& backend, int64_t rows, int64_t cols)
      : buffer(must(backend.allocate(rows * cols * 4))),
        view{buffer->data(), DType::kF32, rows, cols, cols} {
    auto* values = static_cast<float*>(view.data);
    SplitMix64 random(7);
    for (int64_t i = 0; i < rows * cols; ++i) values[i] = 2 * random.uniform() - 1;
  }
  std::unique_ptr<Buffer> buffer;
  Tensor view;
};

void count_linear(Backend& backend, const std::string& activations) {
  // Small: valgrind computes each fused multiply-add by a call.
  constexpr int64_t kRows = 96, kCols = 512;
  for (const DType dtype : kFormats) {
    const RandomSource source(dtype, kRows, kCols);
    const RowSource* sources[] = {&source};
    const auto matrix = must(backend.pack(sources));
    for (const int tokens : {1, 4, 16, 64}) {
      const Activations x(backend, tokens, kCols), out(backend, tokens, kRows);
      count(fmt::format("linear {} {} m{}", dtype_info(dtype).name, activations, tokens), [&] {
        LinearParams p;
        p.x = x.view;
        p.w = matrix.get();
        p.out = out.view;
        backend.linear(p);
      });
    }
  }
}

// One sequence whose last `queries` tokens are computed, with the demo model's heads.
void count_attention(Backend& backend, DType kv_dtype, int context, int queries) {
  constexpr int kQ = 9, kKv = 3, kDim = 64, kBlock = 32;
  KvGroup group;
  group.layers = {0};
  group.num_kv_heads = kKv;
  group.head_dim = kDim;
  group.dtype = kv_dtype;
  const KvGeometry geometry = {kBlock, {group}};
  const int num_blocks = (context + kBlock - 1) / kBlock;
  const auto cache = must(backend.allocate_kv(geometry, std::vector<int>{num_blocks}));
  Batch batch;
  GroupBatch tables;
  tables.max_blocks_per_seq = num_blocks;
  for (int b = 0; b < num_blocks; ++b) tables.block_tables.push_back(b);
  for (int t = context - queries; t < context; ++t) {
    batch.tokens.push_back(0);
    batch.positions.push_back(t);
    tables.slot_mapping.push_back(t);
  }
  batch.query_start_loc = {0, queries};
  batch.seq_lens = {context};
  batch.kv = {tables};
  const Activations qkv(backend, queries, (kQ + 2 * kKv) * kDim), out(backend, queries, kQ * kDim);
  count(fmt::format("attention {} context {} queries {}", dtype_info(kv_dtype).name, context,
                    queries),
        [&] {
          const StepPlan* plan = must(backend.prepare(batch, geometry));
          RopeKvParams r;
          r.plan = plan;
          r.qkv = qkv.view;
          r.num_q_heads = kQ;
          r.num_kv_heads = kKv;
          r.head_dim = kDim;
          r.kv = {cache.get(), 0, 0};
          backend.rope_and_write_kv(r);
          AttentionParams p;
          p.plan = plan;
          p.q = qkv.view;
          p.q.cols = kQ * kDim;
          p.num_q_heads = kQ;
          p.head_dim = kDim;
          p.kv = r.kv;
          p.scale = 0.125F;
          p.out = out.view;
          backend.attention(p);
        });
}

void count_rows(Backend& backend) {
  constexpr int64_t kRows = 16, kHidden = 576, kMlp = 1536;
  const Activations x(backend, kRows, kHidden), residual(backend, kRows, kHidden),
      weight(backend, 1, kHidden), wide(backend, kRows, 2 * kMlp), out(backend, kRows, kMlp);
  count("norm rms with residual", [&] {
    NormParams p;
    p.x = x.view;
    p.residual = residual.view;
    p.pre.weight = static_cast<const float*>(weight.view.data);
    p.out = x.view;
    backend.norm(p);
  });
  for (const auto& [name, kind] :
       {std::pair{"silu", Activation::kSilu}, std::pair{"gelu tanh", Activation::kGeluTanh}}) {
    count(fmt::format("activation {} gated", name), [&] {
      ActivationParams p;
      p.kind = kind;
      p.x = wide.view;
      p.out = out.view;
      backend.activation(p);
    });
  }
}

void count_sampler(Backend& backend) {
  const Activations logits(backend, 4, 32768);
  const auto sample = [&](const std::string& name, const SampleRow& row) {
    std::vector<SampleRow> rows(4, row);
    for (int i = 0; i < 4; ++i) rows[i].logit_row = i;
    count("sample " + name, [&] {
      if (!backend.sample(logits.view, rows).ok()) std::exit(1);
      must(backend.collect());
    });
  };
  SampleRow greedy, drawn;
  greedy.temperature = 0;
  drawn.temperature = 0.8F;
  drawn.top_k = 50;
  drawn.top_p = 0.9F;
  sample("greedy", greedy);
  sample("top-k and top-p", drawn);
}

// Bytes that decoding one token reads at a context of 1,024: every packed weight, and the KV.
void print_bytes(Backend& backend, const std::string& shapes) {
  constexpr int kContext = 1024;
  std::string separator;
  fmt::print("{{\"compiler\": \"{}\", \"bytes\": {{", __VERSION__);
  for (const DType dtype :
       {DType::kF32, DType::kBF16, DType::kQ8_0, DType::kQ4_0, DType::kQ4_1, DType::kQ4_K}) {
    LoadOptions options;
    options.path = shapes + "/smollm2-135m";
    options.load_format = LoadFormat::kDummy;
    options.dummy_dtype = dtype;
    options.max_model_len = 2048;
    options.kv_cache_memory_bytes = int64_t{256} << 20;
    const LoadedModel model = must(load_model(options, backend));
    const int64_t kv = model.facts.kv_cache_bytes / model.facts.kv_cache_tokens;
    fmt::print("{}\"smollm2-135m {} context {}\": {}", separator, dtype_info(dtype).name, kContext,
               model.facts.weight_bytes + kContext * kv);
    separator = ", ";
  }
  fmt::print("}}}}\n");
}

}  // namespace
}  // namespace pelton::bench

int main(int argc, char** argv) {
  using namespace pelton;
  using namespace pelton::bench;
  CpuOptions options;
  options.isa = CpuIsa::kAvx2;  // the widest that valgrind knows
  options.threads = 1;
  const auto backend = must(make_cpu_backend(options));
  options.activations = CpuActivations::kInt8;
  const auto rounding = must(make_cpu_backend(options));
  if (argc == 2) {  // the folder of bench/shapes
    print_bytes(*backend, argv[1]);
    return 0;
  }
  if (RUNNING_ON_VALGRIND == 0) {
    fmt::print(stderr, "usage: pelton-kernel-counts SHAPES, or under valgrind --tool=callgrind\n");
    return 2;
  }
  count_linear(*backend, "f32");
  count_linear(*rounding, "int8");
  for (const DType kv : {DType::kF32, DType::kBF16, DType::kI8}) {
    count_attention(*backend, kv, 512, 1);
    count_attention(*backend, kv, 256, 32);
  }
  count_rows(*backend);
  count_sampler(*backend);
  return 0;
}
