#include "tests/cuda/kernels/attention_support.h"

#include <cuda_fp8.h>

#include <algorithm>
#include <numeric>

namespace pelton::cuda::test {
namespace {

enum class Which : uint64_t { kQuery, kKey, kValue };

// The row of one head, as an element type holds it.
std::vector<float> head_row(const AttentionCase& c, Which which, int sequence, int position,
                            int head) {
  const uint64_t seed = c.seed * 1000003 + static_cast<uint64_t>(which) * 7919 +
                        static_cast<uint64_t>(sequence) * 104729 +
                        static_cast<uint64_t>(position) * 1299709 + static_cast<uint64_t>(head);
  return as_elements(c.type, random_values(c.head_dim, seed));
}

KvShape kv_shape(const AttentionCase& c) {
  return {c.kv, c.block_size, c.num_kv_heads, c.head_dim};
}

// A row as the cache holds it: codes and their scale; `read` is what they stand for.
struct StoredRow {
  std::vector<std::byte> bytes;
  float scale = 1;
  std::vector<float> read;
};
StoredRow store_row(const AttentionCase& c, const std::vector<float>& row) {
  StoredRow out;
  out.read = row;
  if (!kv_has_scales(c.kv)) {
    const std::vector<uint16_t> bits = to_elements(c.type, row);
    out.bytes.resize(bits.size() * 2);
    std::memcpy(out.bytes.data(), bits.data(), out.bytes.size());
    return out;
  }
  float largest = 0;
  for (const float x : row) largest = std::max(largest, std::fabs(x));
  out.scale = largest / kv_largest_code(c.kv);
  for (size_t i = 0; i < row.size(); ++i) {
    const float code = largest > 0 ? row[i] / out.scale : 0;
    if (c.kv == KvType::kI8) {
      const auto rounded = static_cast<int8_t>(std::nearbyint(code));
      out.bytes.push_back(static_cast<std::byte>(rounded));
      out.read[i] = static_cast<float>(rounded) * out.scale;
    } else {
      const __nv_fp8_e4m3 rounded(code);
      out.bytes.push_back(static_cast<std::byte>(rounded.__x));
      out.read[i] = static_cast<float>(rounded) * out.scale;
    }
  }
  return out;
}

constexpr int kLayers = 2;  // the case runs on the second

int blocks_of(const AttentionCase& c, int length) {
  return (length + c.block_size - 1) / c.block_size;
}

// First position that any new token of the sequence sees.
int first_visible(const AttentionCase& c, const AttentionSequence& s) {
  return c.window > 0 ? std::max(0, s.length - s.new_tokens - c.window + 1) : 0;
}

struct PagedCache {
  std::vector<int32_t> tables;
  int max_blocks = 1;
  std::vector<std::byte> bytes;  // all ones (NaN) where nothing was written
};

PagedCache make_cache(const AttentionCase& c) {
  PagedCache cache;
  int num_blocks = 1;
  for (const AttentionSequence& s : c.sequences) {
    cache.max_blocks = std::max(cache.max_blocks, blocks_of(c, s.length));
    num_blocks += blocks_of(c, s.length);
  }
  std::vector<int> order(num_blocks);
  std::iota(order.begin(), order.end(), 0);
  for (int i = num_blocks - 1; i > 0; --i) {
    const auto other = static_cast<int>(counter_uniform(c.table_seed, i, 0) * (i + 1));
    std::swap(order[i], order[std::min(other, i)]);
  }
  const KvShape shape = kv_shape(c);
  REQUIRE(shape.valid());
  cache.bytes.assign(shape.layer_bytes() * kLayers * num_blocks, std::byte{0xff});
  const KvView view = kv_layer_view(shape, cache.bytes.data(), kLayers, 1);
  cache.tables.assign(c.sequences.size() * cache.max_blocks, -1);
  size_t next = 0;
  for (size_t s = 0; s < c.sequences.size(); ++s) {
    const AttentionSequence& sequence = c.sequences[s];
    for (int b = 0; b < blocks_of(c, sequence.length); ++b) {
      const int block = order[next++];
      // Blocks that lie wholly before the window are not given.
      if ((b + 1) * c.block_size <= first_visible(c, sequence)) continue;
      cache.tables[s * cache.max_blocks + b] = block;
      for (int offset = 0; offset < c.block_size; ++offset) {
        const int position = b * c.block_size + offset;
        if (position < first_visible(c, sequence) || position >= sequence.length) continue;
        for (int head = 0; head < c.num_kv_heads; ++head) {
          const auto put = [&](Which which, int64_t row, int64_t scale) {
            const StoredRow stored = store_row(c, head_row(c, which, sequence.id, position, head));
            std::memcpy(view.data + row, stored.bytes.data(), stored.bytes.size());
            if (kv_has_scales(c.kv)) std::memcpy(view.data + scale, &stored.scale, 4);
          };
          put(Which::kKey, view.k_row(block, head, offset), view.k_scale(block, head, offset));
          put(Which::kValue, view.v_row(block, head, offset), view.v_scale(block, head, offset));
        }
      }
    }
  }
  return cache;
}

float sink_logit(const AttentionCase& c, int head) {
  return random_values(c.num_q_heads, c.seed + 77)[head];
}

}  // namespace

int total_new_tokens(const AttentionCase& c) {
  int tokens = 0;
  for (const AttentionSequence& s : c.sequences) tokens += s.new_tokens;
  return tokens;
}

int64_t visible_kv_bytes(const AttentionCase& c) {
  int64_t positions = 0;
  for (const AttentionSequence& s : c.sequences) {
    if (s.new_tokens > 0) positions += std::max(0, s.length - first_visible(c, s));
  }
  const int64_t scale = kv_has_scales(c.kv) ? 4 : 0;
  return 2 * positions * c.num_kv_heads * (kv_shape(c).row_bytes() + scale);
}

AttentionRun run_attention(const AttentionCase& c, const BufferWatch& watch) {
  AttentionRun run;
  const PagedCache cache = make_cache(c);
  std::vector<int32_t> starts = {0}, lengths;
  std::vector<float> queries;
  for (const AttentionSequence& s : c.sequences) {
    starts.push_back(starts.back() + s.new_tokens);
    lengths.push_back(s.length);
    for (int t = 0; t < s.new_tokens; ++t) {
      for (int head = 0; head < c.num_q_heads; ++head) {
        const auto row = head_row(c, Which::kQuery, s.id, s.length - s.new_tokens + t, head);
        queries.insert(queries.end(), row.begin(), row.end());
      }
    }
  }
  AttentionShape shape;
  shape.num_q_heads = c.num_q_heads;
  shape.num_kv_heads = c.num_kv_heads;
  shape.head_dim = c.head_dim;
  shape.window = c.window;
  shape.num_sms = c.num_sms;
  shape.batch_invariant = c.batch_invariant;
  shape.max_partial_rows = c.max_partial_rows;
  AttentionBatch batch;
  batch.query_start_loc = starts;
  batch.seq_lens = lengths;
  batch.max_blocks_per_seq = cache.max_blocks;
  batch.pad = c.pad;
  plan_attention(shape, batch, run.plan);
  REQUIRE(run.plan.partial_rows <= c.max_partial_rows);
  REQUIRE(static_cast<int>(run.plan.items.size()) <=
          max_attention_items(shape, static_cast<int>(lengths.size()), starts.back()));

  const int64_t cols = int64_t{c.num_q_heads} * c.head_dim;
  const DeviceArray<std::byte> bytes(cache.bytes);
  const DeviceArray<int32_t> tables(cache.tables);
  const DeviceArray<uint16_t> q(to_elements(c.type, queries));
  const DeviceArray<uint16_t> out(std::vector<uint16_t>(starts.back() * cols, 0xffff));
  const DeviceArray<AttentionItem> items(run.plan.items);
  std::vector<float> sink_values;
  for (int head = 0; head < c.num_q_heads; ++head) sink_values.push_back(sink_logit(c, head));
  const DeviceArray<float> sinks(sink_values);
  const DeviceArray<float> partials(attention_workspace_bytes(shape, run.plan.partial_rows) /
                                    sizeof(float));

  PagedAttentionParams p;
  p.type = c.type;
  p.q = q.data();
  p.q_stride = cols;
  p.out = out.data();
  p.out_stride = cols;
  p.num_q_heads = c.num_q_heads;
  p.kv = kv_layer_view(kv_shape(c), bytes.data(), kLayers, 1);
  p.block_tables = tables.data();
  p.window = c.window;
  p.scale = 1.0F / std::sqrt(static_cast<float>(c.head_dim));
  p.softcap = c.softcap;
  p.sinks = c.sinks ? sinks.data() : nullptr;
  p.items = items.data();
  p.num_decode = run.plan.num_decode;
  p.num_prefill = run.plan.num_prefill;
  p.num_merge = run.plan.num_merge;
  p.partials = partials.data();
  p.max_partial_rows = run.plan.partial_rows;
  if (watch) {
    watch(bytes.data(), "kv");
    watch(tables.data(), "tables");
    watch(q.data(), "q");
    watch(out.data(), "out");
    watch(items.data(), "items");
    watch(partials.data(), "partials");
  }
  must(paged_attention(p, nullptr));
  must(cudaDeviceSynchronize());
  run.out = out.host();
  return run;
}

std::vector<double> reference_attention(const AttentionCase& c) {
  std::vector<double> out;
  const int group = c.num_q_heads / c.num_kv_heads;
  const double scale = 1.0F / std::sqrt(static_cast<float>(c.head_dim));
  for (const AttentionSequence& s : c.sequences) {
    const int first = first_visible(c, s);
    std::vector<std::vector<float>> keys, values;  // [position - first][kv head]
    for (int position = first; position < s.length; ++position) {
      for (int head = 0; head < c.num_kv_heads; ++head) {
        keys.push_back(store_row(c, head_row(c, Which::kKey, s.id, position, head)).read);
        values.push_back(store_row(c, head_row(c, Which::kValue, s.id, position, head)).read);
      }
    }
    for (int t = 0; t < s.new_tokens; ++t) {
      const int position = s.length - s.new_tokens + t;
      const int begin = c.window > 0 ? std::max(0, position - c.window + 1) : 0;
      for (int head = 0; head < c.num_q_heads; ++head) {
        const auto q = head_row(c, Which::kQuery, s.id, position, head);
        std::vector<double> scores;
        double top = c.sinks ? sink_logit(c, head) : -1e300;
        const auto row = [&](int u) { return (u - first) * c.num_kv_heads + head / group; };
        for (int u = begin; u <= position; ++u) {
          double dot = 0;
          for (int d = 0; d < c.head_dim; ++d) dot += static_cast<double>(q[d]) * keys[row(u)][d];
          dot *= scale;
          if (c.softcap > 0) dot = c.softcap * std::tanh(dot / c.softcap);
          scores.push_back(dot);
          top = std::max(top, dot);
        }
        double sum = c.sinks ? std::exp(sink_logit(c, head) - top) : 0;
        std::vector<double> total(c.head_dim);
        for (int u = begin; u <= position; ++u) {
          const double weight = std::exp(scores[u - begin] - top);
          sum += weight;
          for (int d = 0; d < c.head_dim; ++d) total[d] += weight * values[row(u)][d];
        }
        for (const double x : total) out.push_back(sum > 0 ? x / sum : 0);
      }
    }
  }
  return out;
}

AttentionCase random_case(uint64_t seed) {
  int index = 0;
  const auto draw = [&](int low, int high) {
    const auto span = static_cast<float>(high - low + 1);
    return std::min(high, low + static_cast<int>(counter_uniform(seed, index++, 3) * span));
  };
  AttentionCase c;
  c.seed = seed;
  c.table_seed = seed;
  c.type = draw(0, 1) == 0 ? ElementType::kBF16 : ElementType::kF16;
  const KvType same = c.type == ElementType::kBF16 ? KvType::kBF16 : KvType::kF16;
  const int kv = draw(0, 5);
  c.kv = kv == 0 ? KvType::kF8E4M3 : kv == 1 ? KvType::kI8 : same;
  c.num_kv_heads = draw(1, 3);
  c.num_q_heads = c.num_kv_heads * draw(1, 9);
  c.head_dim = draw(0, 2) == 0 ? 64 << draw(0, 2) : 16 * draw(1, 16);
  c.block_size = draw(0, 1) == 0 ? 16 << draw(0, 4) : 2 * draw(1, 40);
  c.window = draw(0, 2) == 0 ? draw(1, 400) : 0;
  c.softcap = draw(0, 3) == 0 ? 5 : 0;
  c.sinks = draw(0, 3) == 0;
  c.num_sms = draw(1, 60);
  c.batch_invariant = draw(0, 3) != 0;
  c.pad = draw(0, 1) == 0;
  const int count = draw(1, 5);
  for (int i = 0; i < count; ++i) {
    const int length = draw(0, 3) == 0 ? draw(1, 700) : draw(1, 130);
    const int most = draw(0, 1) == 0 ? 1 : draw(0, 60);
    c.sequences.push_back({i, std::min(length, most), length});
  }
  return c;
}

void check_attention(const AttentionCase& c) {
  const AttentionRun run = run_attention(c);
  // Weights are rounded to the type of the matrix instruction: bf16 beside 8-bit codes, q as well.
  const bool coarse = c.type == ElementType::kBF16 || kv_has_scales(c.kv);
  const double absolute = coarse ? (kv_has_scales(c.kv) ? 0.02 : 0.01) : 0.0015;
  check_close(to_floats(c.type, run.out), reference_attention(c), element_tolerance(c.type),
              absolute);
}

}  // namespace pelton::cuda::test
