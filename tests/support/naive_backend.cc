#include "tests/support/naive_backend.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "backend/drawn_tokens.h"
#include "core/check.h"
#include "tests/support/naive_dequantize.h"
#include "tests/support/naive_parts.h"

namespace pelton {
namespace {

class NaiveBuffer final : public Buffer {
 public:
  explicit NaiveBuffer(int64_t bytes) : storage_(static_cast<size_t>(bytes / 64 + 1) * 8) {}
  void* data() const override { return const_cast<double*>(storage_.data()); }
  int64_t bytes() const override { return static_cast<int64_t>(storage_.size() * sizeof(double)); }

 private:
  std::vector<double> storage_;
};

struct NaiveRope final : RopeTable {
  RopeSpec spec;
};

struct NaiveKv final : KvCache {
  struct Layer {
    std::vector<float> k;  // [num_blocks * block_size, Hkv * D]
    std::vector<float> v;
  };
  KvGeometry geom;
  std::vector<std::vector<Layer>> groups;  // [group][layer of the group]

  const KvGeometry& geometry() const override { return geom; }
  int64_t bytes() const override {
    size_t sum = 0;
    for (const auto& group : groups) {
      for (const Layer& layer : group) sum += layer.k.size() + layer.v.size();
    }
    return static_cast<int64_t>(sum * sizeof(float));
  }
};

NaiveKv::Layer& layer_of(const KvLayer& kv) {
  return static_cast<NaiveKv*>(kv.cache)->groups[kv.group][kv.index];
}

// out[i] = norm(x)[i] for one row of n.
void norm_row(NormKind kind, double eps, const NormWeights& w, const double* x, int64_t n,
              double* out) {
  double mean = 0;
  if (kind == NormKind::kLayer) {
    for (int64_t i = 0; i < n; ++i) mean += x[i];
    mean /= static_cast<double>(n);
  }
  double square = 0;
  for (int64_t i = 0; i < n; ++i) square += (x[i] - mean) * (x[i] - mean);
  const double scale = 1.0 / std::sqrt(square / static_cast<double>(n) + eps);
  for (int64_t i = 0; i < n; ++i) {
    out[i] = (x[i] - mean) * scale * w.weight[i] + (w.bias != nullptr ? w.bias[i] : 0.0F);
  }
}

void rotate(const RopeSpec& spec, int position, float* head) {
  const auto half = static_cast<int64_t>(spec.inverse_frequencies.size());
  for (int64_t i = 0; i < half; ++i) {
    const double angle = static_cast<double>(position) * spec.inverse_frequencies[i];
    const double c = std::cos(angle) * spec.magnitude;
    const double s = std::sin(angle) * spec.magnitude;
    float& a = spec.interleaved ? head[2 * i] : head[i];
    float& b = spec.interleaved ? head[2 * i + 1] : head[i + half];
    const double x = a;
    const double y = b;
    a = static_cast<float>(x * c - y * s);
    b = static_cast<float>(y * c + x * s);
  }
}

}  // namespace

bool NaiveBackend::supports_weights(DType dtype) const {
  return naive_can_dequantize(dtype);
}

StatusOr<std::unique_ptr<Buffer>> NaiveBackend::allocate(int64_t bytes) {
  return std::make_unique<NaiveBuffer>(bytes);
}

StatusOr<std::unique_ptr<Buffer>> NaiveBackend::upload(std::span<const std::byte> host) {
  auto buffer = std::make_unique<NaiveBuffer>(static_cast<int64_t>(host.size()));
  std::memcpy(buffer->data(), host.data(), host.size());
  return buffer;
}

StatusOr<std::unique_ptr<Matrix>> NaiveBackend::pack(std::span<const RowSource* const> sources) {
  auto matrix = std::make_unique<NaiveMatrix>();
  matrix->num_cols = sources[0]->cols();
  for (const RowSource* source : sources) {
    std::vector<std::byte> row(dtype_bytes(source->dtype(), source->cols()));
    for (int64_t r = 0; r < source->rows(); ++r) {
      source->read_rows(r, r + 1, row.data());
      matrix->values.resize(matrix->values.size() + source->cols());
      naive_dequantize(source->dtype(), row.data(), source->cols(),
                       matrix->values.data() + (matrix->num_rows + r) * matrix->num_cols);
    }
    matrix->num_rows += source->rows();
  }
  return matrix;
}

StatusOr<std::unique_ptr<RopeTable>> NaiveBackend::make_rope(const RopeSpec& spec) {
  auto rope = std::make_unique<NaiveRope>();
  rope->spec = spec;
  return rope;
}

StatusOr<std::unique_ptr<KvCache>> NaiveBackend::allocate_kv(const KvGeometry& geometry,
                                                             std::span<const int> num_blocks) {
  auto cache = std::make_unique<NaiveKv>();
  cache->geom = geometry;
  for (size_t g = 0; g < geometry.groups.size(); ++g) {
    const KvGroup& group = geometry.groups[g];
    // NaN: whoever reads what was never written shows it.
    const std::vector<float> blank(static_cast<size_t>(num_blocks[g]) * geometry.block_size *
                                       group.num_kv_heads * group.head_dim,
                                   NAN);
    cache->groups.emplace_back(group.layers.size(), NaiveKv::Layer{blank, blank});
  }
  return cache;
}

StatusOr<const StepPlan*> NaiveBackend::prepare(const Batch& batch, const KvGeometry& geometry) {
  PELTON_CHECK(batch.kv.size() == geometry.groups.size(), "a batch names every KV group");
  auto plan = std::make_unique<NaivePlan>();
  plan->batch = batch;
  PELTON_RETURN_IF_ERROR(fill_drawn_tokens(sampled_, plan->batch));
  for (int s = 0; s < batch.num_seqs(); ++s) {
    plan->sequence.resize(batch.query_start_loc[s + 1], s);
  }
  plan_ = std::move(plan);
  return plan_.get();
}

void NaiveBackend::copy_blocks(KvCache& cache, int group, std::span<const BlockCopy> copies) {
  auto& kv = static_cast<NaiveKv&>(cache);
  const KvGroup& shape = kv.geom.groups[group];
  const int64_t block = int64_t{kv.geom.block_size} * shape.num_kv_heads * shape.head_dim;
  for (NaiveKv::Layer& layer : kv.groups[group]) {
    for (const BlockCopy& copy : copies) {
      for (std::vector<float>* side : {&layer.k, &layer.v}) {
        std::copy_n(side->data() + copy.from.value * block, block,
                    side->data() + copy.to.value * block);
      }
    }
  }
}

void NaiveBackend::embed(const StepPlan& plan, const EmbedParams& p) {
  const Batch& batch = naive(&plan).batch;
  for (int m = 0; m < batch.num_tokens(); ++m) {
    const float* from = naive(p.table).row(batch.tokens[m]);
    const float* add =
        p.positions == nullptr ? nullptr : naive(p.positions).row(batch.positions[m]);
    for (int64_t i = 0; i < p.out.cols; ++i) {
      p.out.row<float>(m)[i] = (from[i] + (add != nullptr ? add[i] : 0.0F)) * p.scale;
    }
  }
}

void NaiveBackend::norm(const NormParams& p) {
  const int64_t n = p.x.cols;
  std::vector<double> row(n);
  for (int64_t m = 0; m < p.x.rows; ++m) {
    std::copy_n(p.x.row<float>(m), n, row.data());
    if (p.post.weight != nullptr) norm_row(p.kind, p.eps, p.post, row.data(), n, row.data());
    if (p.residual.defined()) {
      float* residual = p.residual.row<float>(m);
      for (int64_t i = 0; i < n; ++i) {
        residual[i] = static_cast<float>(residual[i] + row[i]);
        row[i] = residual[i];
      }
    }
    if (p.pre.weight == nullptr) continue;
    norm_row(p.kind, p.eps, p.pre, row.data(), n, row.data());
    std::copy_n(row.data(), n, p.out.row<float>(m));
  }
}

void NaiveBackend::linear(const LinearParams& p) {
  const NaiveMatrix& w = naive(p.w);
  PELTON_CHECK(p.x.cols == w.num_cols && p.out.cols <= w.num_rows, "linear: shapes");
  for (int64_t m = 0; m < p.x.rows; ++m) {
    const float* x = p.x.row<float>(m);
    for (int64_t n = 0; n < p.out.cols; ++n) {
      double sum = p.bias != nullptr ? p.bias[n] : 0.0;
      for (int64_t k = 0; k < w.num_cols; ++k) sum += double{x[k]} * w.row(n)[k];
      p.out.row<float>(m)[n] = static_cast<float>(sum);
    }
  }
}

void NaiveBackend::rope_and_write_kv(const RopeKvParams& p) {
  const Batch& batch = naive(p.plan).batch;
  NaiveKv::Layer& layer = layer_of(p.kv);
  const int64_t d = p.head_dim;
  std::vector<double> head(d);
  for (int m = 0; m < batch.num_tokens(); ++m) {
    auto* qkv = p.qkv.row<float>(m);
    for (int h = 0; h < p.num_q_heads + p.num_kv_heads; ++h) {
      const float* norm_weight = h < p.num_q_heads ? p.q_norm : p.k_norm;
      float* x = qkv + h * d;
      if (norm_weight != nullptr) {
        std::copy_n(x, d, head.data());
        norm_row(NormKind::kRms, p.norm_eps, {norm_weight, nullptr}, head.data(), d, head.data());
        std::copy_n(head.data(), d, x);
      }
      if (p.rope != nullptr) {
        rotate(static_cast<const NaiveRope*>(p.rope)->spec, batch.positions[m], x);
      }
    }
    const int64_t slot = batch.kv[p.kv.group].slot_mapping[m];
    if (slot < 0) continue;
    const int64_t width = p.num_kv_heads * d;
    std::copy_n(qkv + p.num_q_heads * d, width, layer.k.data() + slot * width);
    std::copy_n(qkv + p.num_q_heads * d + width, width, layer.v.data() + slot * width);
  }
}

void NaiveBackend::attention(const AttentionParams& p) {
  const NaivePlan& plan = naive(p.plan);
  const GroupBatch& paged = plan.batch.kv[p.kv.group];
  const KvGeometry& geometry = p.kv.cache->geometry();
  const KvGroup& group = geometry.groups[p.kv.group];
  const NaiveKv::Layer& layer = layer_of(p.kv);
  const int64_t d = p.head_dim;
  std::vector<double> score;
  for (int m = 0; m < plan.batch.num_tokens(); ++m) {
    const int position = plan.batch.positions[m];
    const int first = group.window > 0 ? std::max(0, position - group.window + 1) : 0;
    const int32_t* table =
        paged.block_tables.data() + int64_t{plan.sequence[m]} * paged.max_blocks_per_seq;
    // Row of the cache that holds the token at position t.
    const auto slot = [&](int t) {
      const int32_t block = table[t / geometry.block_size];
      PELTON_CHECK(block >= 0, "attention reads a block that the table does not hold");
      return int64_t{block} * geometry.block_size + t % geometry.block_size;
    };
    for (int h = 0; h < p.num_q_heads; ++h) {
      const int kv_head = h / (p.num_q_heads / group.num_kv_heads);
      const float* q = p.q.row<float>(m) + h * d;
      double top = p.sinks != nullptr ? p.sinks[h] : -INFINITY;
      score.clear();
      for (int t = first; t <= position; ++t) {
        const float* k = layer.k.data() + (slot(t) * group.num_kv_heads + kv_head) * d;
        double dot = 0;
        for (int64_t i = 0; i < d; ++i) dot += double{q[i]} * k[i];
        dot *= p.scale;
        if (p.softcap > 0) dot = p.softcap * std::tanh(dot / p.softcap);
        score.push_back(dot);
        top = std::max(top, dot);
      }
      double sum = p.sinks != nullptr ? std::exp(p.sinks[h] - top) : 0;
      for (double& s : score) sum += (s = std::exp(s - top));
      for (int64_t i = 0; i < d; ++i) {
        double out = 0;
        for (int t = first; t <= position; ++t) {
          out += score[t - first] * layer.v[(slot(t) * group.num_kv_heads + kv_head) * d + i];
        }
        p.out.row<float>(m)[h * d + i] = static_cast<float>(out / sum);
      }
    }
  }
}

void NaiveBackend::activation(const ActivationParams& p) {
  for (int64_t m = 0; m < p.x.rows; ++m) {
    const float* x = p.x.row<float>(m);
    for (int64_t i = 0; i < p.out.cols; ++i) {
      const double up = p.gated ? x[p.out.cols + i] : 1.0;
      p.out.row<float>(m)[i] = static_cast<float>(naive_activate(p.kind, x[i]) * up);
    }
  }
}

void NaiveBackend::gather_logit_rows(const StepPlan& plan, const Tensor& x, const Tensor& out) {
  const Batch& batch = naive(&plan).batch;
  for (size_t r = 0; r < batch.logit_rows.size(); ++r) {
    std::copy_n(x.row<float>(batch.logit_rows[r]), x.cols, out.row<float>(r));
  }
}

void NaiveBackend::softcap(const Tensor& x, float cap) {
  for (int64_t m = 0; m < x.rows; ++m) {
    for (int64_t i = 0; i < x.cols; ++i) {
      float& value = x.row<float>(m)[i];
      value = static_cast<float>(cap * std::tanh(double{value} / cap));
    }
  }
}

Status NaiveBackend::download(const Tensor& x, std::span<std::byte> host) {
  const int64_t row_bytes = dtype_bytes(x.dtype, x.cols);
  PELTON_CHECK(static_cast<int64_t>(host.size()) == row_bytes * x.rows, "download: size");
  for (int64_t m = 0; m < x.rows; ++m) {
    std::memcpy(host.data() + m * row_bytes, x.slice_rows(m, 1).data, row_bytes);
  }
  return Status();
}

// No test asks for these here.
Status NaiveBackend::read_block(const KvCache&, int, BlockId, std::span<std::byte>) {
  return absl::UnimplementedError("naive backend: blocks do not leave the device");
}
Status NaiveBackend::write_block(KvCache&, int, BlockId, std::span<const std::byte>) {
  return absl::UnimplementedError("naive backend: blocks do not leave the device");
}

}  // namespace pelton
