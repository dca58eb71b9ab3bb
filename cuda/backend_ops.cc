// Each op of backend.h as one kernel's parameters.
#include <fmt/format.h>

#include "core/check.h"
#include "cuda/backend_class.h"
#include "cuda/kernels/activation.h"
#include "cuda/kernels/attention.h"
#include "cuda/kernels/gather_weight_rows.h"
#include "cuda/kernels/linear.h"
#include "cuda/kernels/norm.h"
#include "cuda/kernels/rope_kv.h"
#include "cuda/kernels/rows.h"
#include "cuda/kernels/uncached_attention.h"

namespace pelton::cuda {
namespace {

NormScales scales_of(const NormWeights& weights) {
  return {weights.weight, weights.bias};
}

bool in_vectors(const Tensor& x) {
  return reinterpret_cast<uintptr_t>(x.data) % 16 == 0 && x.row_stride % 8 == 0;
}

// What uncached_attention.h has a kernel for.
Status check_encoder(const EncoderAttentionParams& p, int tokens) {
  if (p.num_kv_heads < 1 || p.num_q_heads < 1 || p.num_q_heads % p.num_kv_heads != 0 ||
      p.head_dim < 8 || p.head_dim > 256 || p.head_dim % 8 != 0) {
    return absl::InvalidArgumentError(
        fmt::format("attention without a cache has no kernel for {} heads over {} of {}",
                    p.num_q_heads, p.num_kv_heads, p.head_dim));
  }
  const int64_t q_cols = int64_t{p.num_q_heads} * p.head_dim;
  const int64_t cols = q_cols + int64_t{2} * p.num_kv_heads * p.head_dim;
  if (!(p.scale > 0) || p.qkv.rows != tokens || p.qkv.cols != cols || p.out.rows != tokens ||
      p.out.cols != q_cols || !in_vectors(p.qkv) || !in_vectors(p.out)) {
    return absl::InvalidArgumentError(
        "attention without a cache: tensors that do not fit the batch and its heads");
  }
  return Status();
}

}  // namespace

void CudaBackend::copy_blocks(KvCache& cache, int group, std::span<const BlockCopy> copies) {
  auto& kv = static_cast<CudaKvCache&>(cache);
  const auto bytes = static_cast<size_t>(kv.block_bytes(group));
  for (const BlockCopy& copy : copies) {
    note(cudaMemcpyAsync(kv.block(group, copy.to.value), kv.block(group, copy.from.value), bytes,
                         cudaMemcpyDeviceToDevice, stream_.get()),
         "copying a KV block");
  }
}

void CudaBackend::embed(const StepPlan& plan, const EmbedParams& p) {
  const CudaStepPlan& step = plan_of(plan);
  const auto table = [](const Matrix& matrix) {
    const PackedMatrix& m = packed(matrix);
    PELTON_CHECK(m.segments().size() == 1, "a table of one format");
    return WeightTable{m.segments()[0].format, m.segments()[0].data.data()};
  };
  GatherWeightRowsParams out;
  out.type = type_;
  out.table = table(*p.table);
  out.rows = step.tokens;
  if (p.positions != nullptr) {
    out.add = table(*p.positions);
    out.add_rows = step.positions;
  }
  out.count = step.num_tokens;
  out.k = static_cast<int>(p.table->cols());
  out.scale = p.scale;
  out.out = p.out.data;
  out.out_stride = p.out.row_stride;
  note(gather_weight_rows(out, stream_.get()), "embedding");
}

void CudaBackend::norm(const pelton::NormParams& p) {
  cuda::NormParams out;
  out.type = type_;
  out.remove_mean = p.kind == NormKind::kLayer;
  out.eps = p.eps;
  out.x = p.x.data;
  out.x_stride = p.x.row_stride;
  out.residual = p.residual.data;
  out.residual_stride = p.residual.row_stride;
  out.post = scales_of(p.post);
  out.pre = scales_of(p.pre);
  out.out = p.out.data;
  out.out_stride = p.out.row_stride;
  out.rows = static_cast<int>(p.x.rows);
  out.cols = static_cast<int>(p.x.cols);
  note(cuda::norm(out, stream_.get()), "norm");
}

void CudaBackend::linear(const pelton::LinearParams& p) {
  const PackedMatrix& w = packed(*p.w);
  const bool out_f32 = p.out.dtype == DType::kF32;
  for (const PackedMatrix::Segment& segment : w.segments()) {
    cuda::LinearParams out;
    out.format = segment.format;
    out.type = type_;
    out.weights = segment.data.data();
    out.x = p.x.data;
    out.x_stride = p.x.row_stride;
    out.bias = p.bias != nullptr ? p.bias + segment.begin : nullptr;
    out.out = static_cast<std::byte*>(p.out.data) + segment.begin * (out_f32 ? 4 : 2);
    out.out_stride = p.out.row_stride;
    out.out_f32 = out_f32;
    out.m = static_cast<int>(p.x.rows);
    out.n = static_cast<int>(segment.rows);
    out.k = static_cast<int>(w.cols());
    if (library_gemm_ != nullptr) {
      const StatusOr<bool> done = library_gemm_->run(out);
      note(done.status());
      if (!done.ok() || *done) continue;
    }
    note(cuda::linear(out, stream_.get()), "linear");
  }
}

void CudaBackend::rope_and_write_kv(const pelton::RopeKvParams& p) {
  const CudaStepPlan& step = plan_of(*p.plan);
  cuda::RopeKvParams out;
  out.type = type_;
  out.qkv = p.qkv.data;
  out.qkv_stride = p.qkv.row_stride;
  out.rows = static_cast<int>(p.qkv.rows);
  out.num_q_heads = p.num_q_heads;
  out.num_kv_heads = p.num_kv_heads;
  out.head_dim = p.head_dim;
  out.q_norm = p.q_norm;
  out.k_norm = p.k_norm;
  out.norm_eps = p.norm_eps;
  if (p.rope != nullptr) {
    const auto& table = static_cast<const CudaRopeTable&>(*p.rope);
    out.cos_sin = table.values();
    out.rotary_dim = table.rotary_dim();
    out.interleaved = table.interleaved();
  }
  out.positions = step.positions;
  if (p.kv.cache != nullptr) {
    out.slots = step.groups[static_cast<size_t>(p.kv.group)].slots;
    out.kv = static_cast<const CudaKvCache*>(p.kv.cache)->view(p.kv.group, p.kv.index);
  }
  note(rope_kv(out, stream_.get()), "rotary embedding and KV write");
}

void CudaBackend::attention(const AttentionParams& p) {
  // The plan is this backend's own: it may complete it.
  auto& step = const_cast<CudaStepPlan&>(plan_of(*p.plan));
  CudaStepPlan::Group& group = step.groups[static_cast<size_t>(p.kv.group)];
  if (group.shape.num_q_heads != p.num_q_heads) {
    note(planner_->plan_late(step, p.kv.group, p.num_q_heads));
    if (!failure_.ok()) return;
  }
  PagedAttentionParams out;
  out.type = type_;
  out.q = p.q.data;
  out.q_stride = p.q.row_stride;
  out.out = p.out.data;
  out.out_stride = p.out.row_stride;
  out.num_q_heads = p.num_q_heads;
  out.kv = static_cast<const CudaKvCache*>(p.kv.cache)->view(p.kv.group, p.kv.index);
  out.block_tables = step.block_tables;
  out.window = group.shape.window;
  out.scale = p.scale;
  out.softcap = p.softcap;
  out.sinks = p.sinks;
  out.items = group.items;
  out.num_decode = group.plan.num_decode;
  out.num_prefill = group.plan.num_prefill;
  out.num_merge = group.plan.num_merge;
  out.partials = planner_->partials();
  out.max_partial_rows = group.shape.max_partial_rows;
  note(paged_attention(out, stream_.get()), "attention");
}

void CudaBackend::encoder_attention(const EncoderAttentionParams& p) {
  // The plan is this backend's own: it may complete it.
  auto& step = const_cast<CudaStepPlan&>(plan_of(*p.plan));
  note(check_encoder(p, step.num_tokens));
  if (!failure_.ok()) return;
  const EncoderHeads heads = {p.num_q_heads, p.num_kv_heads, p.head_dim};
  if (step.encoder.heads != heads) {
    note(planner_->plan_encoder_late(step, heads));
    if (!failure_.ok()) return;
  }
  UncachedAttentionParams out;
  out.type = type_;
  out.qkv = p.qkv.data;
  out.qkv_stride = p.qkv.row_stride;
  out.out = p.out.data;
  out.out_stride = p.out.row_stride;
  out.num_q_heads = p.num_q_heads;
  out.num_kv_heads = p.num_kv_heads;
  out.head_dim = p.head_dim;
  out.scale = p.scale;
  out.items = step.encoder.items;
  out.num_items = step.encoder.plan.num_prefill;
  note(uncached_attention(out, stream_.get()), "attention without a cache");
}

void CudaBackend::activation(const pelton::ActivationParams& p) {
  cuda::ActivationParams out;
  out.type = type_;
  out.kind = activation_kind(p.kind);
  out.gated = p.gated;
  out.x = p.x.data;
  out.x_stride = p.x.row_stride;
  out.out = p.out.data;
  out.out_stride = p.out.row_stride;
  out.rows = static_cast<int>(p.out.rows);
  out.cols = static_cast<int>(p.out.cols);
  note(cuda::activation(out, stream_.get()), "activation");
}

// Ids that no kernel wrote would be addresses anywhere: these two do nothing after an error.
void CudaBackend::route(const pelton::RouteParams& p) {
  if (failure_.ok()) note(experts_->route(p));
}

void CudaBackend::experts(const ExpertsParams& p) {
  if (failure_.ok()) note(experts_->run(p));
}

void CudaBackend::pool(const pelton::PoolParams& p) {
  const CudaStepPlan& step = plan_of(*p.plan);
  cuda::PoolParams out;
  out.type = type_;
  out.kind = p.kind == Pooling::kMean    ? PoolingKind::kMean
             : p.kind == Pooling::kFirst ? PoolingKind::kFirst
                                         : PoolingKind::kLast;
  out.normalize = p.normalize;
  out.x = p.x.data;
  out.x_stride = p.x.row_stride;
  out.starts = step.seq_starts;
  out.out = static_cast<float*>(p.out.data);
  out.out_stride = p.out.row_stride;
  out.sequences = step.num_seqs;
  out.cols = static_cast<int>(p.x.cols);
  note(cuda::pool(out, stream_.get()), "pooling");
}

void CudaBackend::gather_logit_rows(const StepPlan& plan, const Tensor& x, const Tensor& out) {
  const CudaStepPlan& step = plan_of(plan);
  GatherRowsParams p;
  p.x = x.data;
  p.x_stride_bytes = x.row_stride * 2;
  p.index = step.logit_rows;
  p.out = out.data;
  p.out_stride_bytes = out.row_stride * 2;
  p.row_bytes = x.cols * 2;
  p.rows = step.num_logit_rows;
  note(gather_rows(p, stream_.get()), "gathering logit rows");
}

void CudaBackend::softcap(const Tensor& x, float cap) {
  SoftcapParams p;
  p.is_float32 = x.dtype == DType::kF32;
  p.type = type_;
  p.x = x.data;
  p.x_stride = x.row_stride;
  p.cap = cap;
  p.rows = static_cast<int>(x.rows);
  p.cols = static_cast<int>(x.cols);
  note(cuda::softcap(p, stream_.get()), "softcap");
}

}  // namespace pelton::cuda
