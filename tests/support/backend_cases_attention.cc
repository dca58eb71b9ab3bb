#include <algorithm>
#include <numeric>

#include "core/half.h"
#include "tests/support/backend_cases.h"
#include "tests/support/backend_fixture.h"

namespace pelton::test {
namespace {

int total_tokens(const AttentionCase& c) {
  return std::accumulate(c.lens.begin(), c.lens.end(), 0);
}
int rotary_pairs(const AttentionCase& c) {
  return (c.rotary_dim > 0 ? c.rotary_dim : c.head_dim) / 2;
}
int64_t qkv_cols(const AttentionCase& c) {
  return static_cast<int64_t>(c.num_q_heads + 2 * c.num_kv_heads) * c.head_dim;
}
// Row t of sequence s depends on (seed, s, t) alone.
std::vector<float> qkv_row(const AttentionCase& c, int s, int t) {
  std::vector<float> row = random_normal(qkv_cols(c), c.seed + 7919 * s + 104729 * t);
  // In each head, of queries, keys and values.
  for (size_t i = 0; t == c.poisoned_token && i < row.size(); i += c.head_dim)
    row[i] = std::nanf("");
  return row;
}
std::vector<float> norm_weights(const AttentionCase& c, int which) {
  std::vector<float> w = random_normal(c.head_dim, c.seed + 50 + which, 0.2F);
  for (float& x : w) x += 1;
  return w;
}
std::vector<float> sink_logits(const AttentionCase& c) {
  return random_normal(c.num_q_heads, c.seed + 60);
}
RopeSpec rope_spec(const AttentionCase& c) {
  RopeSpec spec;
  for (int i = 0; i < rotary_pairs(c); ++i) {
    spec.inverse_frequencies.push_back(
        static_cast<float>(std::pow(10000.0, -static_cast<double>(i) / rotary_pairs(c))));
  }
  spec.magnitude = c.interleaved ? 1.1F : 1.0F;
  spec.max_positions = 4096;
  spec.interleaved = c.interleaved;
  return spec;
}
KvGeometry kv_geometry(const AttentionCase& c) {
  KvGroup group;
  group.layers = {0, 1};  // the case runs on the second
  group.num_kv_heads = c.num_kv_heads;
  group.head_dim = c.head_dim;
  group.dtype = c.kv_dtype;
  group.window = c.window;
  return {c.block_size, {group}};
}

// Block ids of each sequence, in an order drawn from the seed.
std::vector<std::vector<int>> assign_blocks(const AttentionCase& c, int& num_blocks) {
  num_blocks = 1;
  for (int len : c.lens) num_blocks += (len + c.block_size - 1) / c.block_size;
  std::vector<int> ids(num_blocks);
  std::iota(ids.begin(), ids.end(), 0);
  for (int i = num_blocks - 1; i > 0 && c.table_seed > 0; --i) {
    std::swap(ids[i], ids[static_cast<int>(counter_uniform(c.table_seed, i) * (i + 1))]);
  }
  std::vector<std::vector<int>> out;
  size_t next = 0;
  for (int len : c.lens) {
    const int count = (len + c.block_size - 1) / c.block_size;
    out.emplace_back(ids.begin() + next, ids.begin() + next + count);
    next += count;
  }
  return out;
}

// The step that computes tokens [done, done + chunk) of each sequence that has any left.
struct Step {
  Batch batch;
  std::vector<float> qkv;
  std::vector<std::pair<int, int>> rows;  // sequence and token of each row
};
Step make_step(const AttentionCase& c, int done, const std::vector<std::vector<int>>& blocks) {
  Step step;
  GroupBatch group;
  for (const auto& ids : blocks) {
    group.max_blocks_per_seq = std::max(group.max_blocks_per_seq, static_cast<int>(ids.size()));
  }
  step.batch.query_start_loc = {0};
  for (size_t s = 0; s < c.lens.size(); ++s) {
    const int end = c.chunk > 0 ? std::min(c.lens[s], done + c.chunk) : c.lens[s];
    if (end <= done) continue;
    for (int t = done; t < end; ++t) {
      step.batch.tokens.push_back(0);
      step.batch.positions.push_back(t);
      group.slot_mapping.push_back(blocks[s][t / c.block_size] * c.block_size + t % c.block_size);
      const std::vector<float> row = qkv_row(c, static_cast<int>(s), t);
      step.qkv.insert(step.qkv.end(), row.begin(), row.end());
      step.rows.emplace_back(s, t);
    }
    step.batch.query_start_loc.push_back(step.batch.num_tokens());
    step.batch.seq_lens.push_back(end);
    // Blocks wholly before the window of every query of the step are not given.
    const int first_seen = c.window > 0 ? std::max(0, done - c.window + 1) : 0;
    for (int b = 0; b < group.max_blocks_per_seq; ++b) {
      const bool given =
          b < (end + c.block_size - 1) / c.block_size && (b + 1) * c.block_size > first_seen;
      group.block_tables.push_back(given ? blocks[s][b] : -1);
    }
  }
  step.batch.kv = {group};
  return step;
}

}  // namespace

std::vector<float> run_attention(Backend& backend, const AttentionCase& c) {
  const KvGeometry geometry = kv_geometry(c);
  int num_blocks = 0;
  const auto blocks = assign_blocks(c, num_blocks);
  const auto cache = must(backend.allocate_kv(geometry, std::vector<int>{num_blocks}));
  const auto rope = must(backend.make_rope(rope_spec(c)));
  const DeviceTensor q_norm = upload_f32(backend, norm_weights(c, 0));
  const DeviceTensor k_norm = upload_f32(backend, norm_weights(c, 1));
  const DeviceTensor sinks = upload_f32(backend, sink_logits(c));
  const int64_t out_cols = static_cast<int64_t>(c.num_q_heads) * c.head_dim;
  std::vector<float> result(total_tokens(c) * out_cols);
  const int longest = *std::max_element(c.lens.begin(), c.lens.end());
  for (int done = 0; done<longest; done += c.chunk> 0 ? c.chunk : longest) {
    const Step step = make_step(c, done, blocks);
    const StepPlan* plan = must(backend.prepare(step.batch, geometry));
    const DeviceTensor qkv = upload(backend, step.qkv, qkv_cols(c));
    const DeviceTensor out = make_activations(backend, step.batch.num_tokens(), out_cols);
    RopeKvParams r;
    r.plan = plan;
    r.qkv = qkv.view;
    r.num_q_heads = c.num_q_heads;
    r.num_kv_heads = c.num_kv_heads;
    r.head_dim = c.head_dim;
    r.q_norm = c.qk_norm ? static_cast<const float*>(q_norm.view.data) : nullptr;
    r.k_norm = c.qk_norm ? static_cast<const float*>(k_norm.view.data) : nullptr;
    r.rope = c.rope ? rope.get() : nullptr;
    r.kv = {cache.get(), 0, 1};
    backend.rope_and_write_kv(r);
    AttentionParams p;
    p.plan = plan;
    p.q = qkv.view;
    p.q.cols = out_cols;
    p.num_q_heads = c.num_q_heads;
    p.head_dim = c.head_dim;
    p.kv = r.kv;
    p.scale = 1.0F / std::sqrt(static_cast<float>(c.head_dim));
    p.softcap = c.softcap;
    p.sinks = c.sinks ? static_cast<const float*>(sinks.view.data) : nullptr;
    p.out = out.view;
    backend.attention(p);
    const std::vector<float> rows = download(backend, out.view);
    for (size_t i = 0; i < step.rows.size(); ++i) {
      const auto [s, t] = step.rows[i];
      const int at = std::accumulate(c.lens.begin(), c.lens.begin() + s, 0) + t;
      std::copy_n(rows.begin() + i * out_cols, out_cols, result.begin() + at * out_cols);
    }
  }
  return result;
}

namespace {

// One head in float64: normed and rotated.
std::vector<double> turn_head(const AttentionCase& c, const float* x,
                              const std::vector<float>& norm, int position) {
  std::vector<double> h(x, x + c.head_dim);
  if (c.qk_norm) {
    double squares = 0;
    for (double v : h) squares += v * v;
    const double inverse = 1.0 / std::sqrt(squares / c.head_dim + 1e-6);
    for (int d = 0; d < c.head_dim; ++d) h[d] *= inverse * norm[d];
  }
  if (!c.rope) return h;
  const RopeSpec spec = rope_spec(c);
  const int pairs = rotary_pairs(c);
  for (int i = 0; i < pairs; ++i) {
    const float angle = static_cast<float>(position) * spec.inverse_frequencies[i];
    const double cosine = std::cos(static_cast<double>(angle)) * spec.magnitude;
    const double sine = std::sin(static_cast<double>(angle)) * spec.magnitude;
    double& a = h[c.interleaved ? 2 * i : i];
    double& b = h[c.interleaved ? 2 * i + 1 : i + pairs];
    const double x0 = a, y0 = b;
    a = x0 * cosine - y0 * sine;
    b = y0 * cosine + x0 * sine;
  }
  return h;
}

}  // namespace

std::vector<double> reference_attention(Backend& backend, const AttentionCase& c) {
  std::vector<double> result;
  const std::vector<float> sinks = sink_logits(c);
  const int group = c.num_q_heads / c.num_kv_heads;
  const auto store = [&](std::vector<double>& head) {  // as the cache holds it
    double top = 0;
    for (double x : head) top = std::max(top, std::fabs(x));
    for (double& x : head) {
      const auto f = static_cast<float>(x);
      if (c.kv_dtype == DType::kF16) x = f16_to_f32(f32_to_f16(f));
      if (c.kv_dtype == DType::kBF16) x = bf16_to_f32(f32_to_bf16(f));
      if (c.kv_dtype == DType::kI8 && top > 0) x = std::nearbyint(x * 127 / top) * top / 127;
    }
  };
  for (size_t s = 0; s < c.lens.size(); ++s) {
    std::vector<std::vector<float>> rows;
    std::vector<std::vector<std::vector<double>>> keys(c.lens[s]), values(c.lens[s]);
    for (int t = 0; t < c.lens[s]; ++t) {
      rows.push_back(as_activations(backend, qkv_row(c, static_cast<int>(s), t)));
      for (int h = 0; h < c.num_kv_heads; ++h) {
        keys[t].push_back(
            turn_head(c, rows[t].data() + (c.num_q_heads + h) * c.head_dim, norm_weights(c, 1), t));
        store(keys[t].back());
        const float* v = rows[t].data() + (c.num_q_heads + c.num_kv_heads + h) * c.head_dim;
        values[t].emplace_back(v, v + c.head_dim);
        store(values[t].back());
      }
    }
    for (int t = 0; t < c.lens[s]; ++t) {
      for (int h = 0; h < c.num_q_heads; ++h) {
        const auto q = turn_head(c, rows[t].data() + h * c.head_dim, norm_weights(c, 0), t);
        const int begin = c.window > 0 ? std::max(0, t - c.window + 1) : 0;
        std::vector<double> scores;
        for (int u = begin; u <= t; ++u) {
          double dot = 0;
          for (int d = 0; d < c.head_dim; ++d) dot += q[d] * keys[u][h / group][d];
          dot /= std::sqrt(static_cast<double>(c.head_dim));
          scores.push_back(c.softcap > 0 ? c.softcap * std::tanh(dot / c.softcap) : dot);
        }
        double top = *std::max_element(scores.begin(), scores.end());
        if (c.sinks) top = std::max(top, static_cast<double>(sinks[h]));
        double sum = c.sinks ? std::exp(sinks[h] - top) : 0;
        std::vector<double> out(c.head_dim);
        for (int u = begin; u <= t; ++u) {
          const double weight = std::exp(scores[u - begin] - top);
          sum += weight;
          const std::vector<double>& v = values[u][h / group];
          for (int d = 0; d < c.head_dim; ++d) out[d] += weight * v[d];
        }
        for (double value : out) result.push_back(value / sum);
      }
    }
  }
  return result;
}

void check_attention(Backend& backend) {
  std::vector<AttentionCase> cases(1);
  cases[0].lens = {1, 5, 13};
  const auto add = [&](auto change) {
    AttentionCase c;
    c.lens = {3, 150, 40};
    c.num_q_heads = 6;
    c.num_kv_heads = 2;
    c.head_dim = 16;
    c.block_size = 16;
    c.table_seed = cases.size();
    change(c);
    cases.push_back(c);
  };
  add([](AttentionCase& c) { c.chunk = 1, c.lens = {3, 40}; });
  add([](AttentionCase& c) { c.chunk = 37, c.qk_norm = true; });
  add([](AttentionCase& c) {
    c.head_dim = 64, c.num_q_heads = 9, c.num_kv_heads = 3, c.chunk = 64;
  });
  add([](AttentionCase& c) { c.head_dim = 80, c.block_size = 32, c.softcap = 2; });
  add([](AttentionCase& c) { c.head_dim = 20, c.block_size = 5, c.rotary_dim = 12; });
  add([](AttentionCase& c) { c.window = 17, c.chunk = 21, c.block_size = 8; });
  add([](AttentionCase& c) { c.window = 140, c.sinks = true, c.block_size = 1; });
  add([](AttentionCase& c) { c.interleaved = true, c.rotary_dim = 8, c.num_kv_heads = 6; });
  add([](AttentionCase& c) { c.rope = false, c.num_kv_heads = 1, c.num_q_heads = 7, c.chunk = 5; });
  add([](AttentionCase& c) { c.kv_dtype = DType::kF16, c.head_dim = 24, c.chunk = 50; });
  add([](AttentionCase& c) { c.kv_dtype = DType::kBF16, c.head_dim = 64, c.block_size = 32; });
  add([](AttentionCase& c) { c.kv_dtype = DType::kI8, c.head_dim = 64, c.block_size = 32; });
  add([](AttentionCase& c) { c.kv_dtype = DType::kI8, c.head_dim = 20, c.block_size = 5; });
  add([](AttentionCase& c) { c.kv_dtype = DType::kI8, c.chunk = 1, c.lens = {3, 40}; });
  add([](AttentionCase& c) { c.lens = {300}, c.chunk = 299, c.block_size = 32; });
  const bool f32 = backend.activation_dtype() == DType::kF32;
  for (AttentionCase& c : cases) {
    if (!f32 && c.kv_dtype == DType::kF32) c.kv_dtype = backend.activation_dtype();
    if (!f32) c.head_dim = (c.head_dim + 15) / 16 * 16;  // rows of 16 bytes are asked for
    if (!backend.supports_kv(c.kv_dtype)) continue;
    INFO("case " << &c - cases.data());
    // A half ulp apart at the cache, or a whole code.
    const double rounded = c.kv_dtype == DType::kF32  ? 1
                           : c.kv_dtype == DType::kI8 ? (f32 ? 2000 : 8)
                                                      : (f32 ? 300 : 1);
    check_near(run_attention(backend, c), reference_attention(backend, c),
               tolerance(backend.activation_dtype()) * rounded, 3);
  }
}

void check_kv_blocks(Backend& backend) {
  AttentionCase c;
  c.kv_dtype = backend.activation_dtype();
  const KvGeometry geometry = kv_geometry(c);
  const auto cache = must(backend.allocate_kv(geometry, std::vector<int>{4}));
  REQUIRE(cache->bytes() == 4 * geometry.bytes_per_block(0));
  std::vector<std::byte> a(geometry.bytes_per_block(0)), b = a, back = a;
  for (size_t i = 0; i < a.size(); ++i) {
    a[i] = static_cast<std::byte>(i * 7);
    b[i] = static_cast<std::byte>(i * 13 + 1);
  }
  must_ok(backend.write_block(*cache, 0, BlockId(0), a));
  must_ok(backend.write_block(*cache, 0, BlockId(2), b));
  const std::vector<BlockCopy> copies = {{BlockId(0), BlockId(3)}, {BlockId(2), BlockId(1)}};
  backend.copy_blocks(*cache, 0, copies);
  must_ok(backend.read_block(*cache, 0, BlockId(3), back));
  REQUIRE(back == a);
  must_ok(backend.read_block(*cache, 0, BlockId(1), back));
  REQUIRE(back == b);
  REQUIRE(!backend.read_block(*cache, 0, BlockId(4), back).ok());
  back.pop_back();
  REQUIRE(!backend.read_block(*cache, 0, BlockId(0), back).ok());
}

}  // namespace pelton::test
