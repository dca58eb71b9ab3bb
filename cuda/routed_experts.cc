#include "cuda/routed_experts.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "cuda/cuda_status.h"
#include "cuda/kernels/activation.h"
#include "cuda/kernels/experts.h"
#include "cuda/kernels/linear.h"
#include "cuda/kernels/rows.h"
#include "cuda/op_parts.h"

namespace pelton::cuda {
namespace {

int64_t aligned(int64_t bytes) {
  return (bytes + DeviceArena::kAlignment - 1) / DeviceArena::kAlignment * DeviceArena::kAlignment;
}

bool back_to_back(const Tensor& x, DType dtype, int64_t rows) {
  return x.dtype == dtype && x.rows == rows && x.row_stride == x.cols;
}

Status check_choice(const Tensor& ids, const Tensor& weights, int64_t rows, int64_t experts) {
  if (ids.cols < 1 || ids.cols > std::min<int64_t>(experts, kMaxExpertsPerToken) || experts < 1 ||
      experts > kMaxExperts) {
    return absl::InvalidArgumentError(
        fmt::format("routed experts: {} of {}; the card takes up to {} of up to {}", ids.cols,
                    experts, kMaxExpertsPerToken, kMaxExperts));
  }
  if (weights.cols != ids.cols || !back_to_back(ids, DType::kI32, rows) ||
      !back_to_back(weights, DType::kF32, rows)) {
    return absl::InvalidArgumentError("routed experts: ids and weights that do not fit the rows");
  }
  return Status();
}

Status check_experts(const ExpertsParams& p) {
  PELTON_RETURN_IF_ERROR(check_choice(p.expert_ids, p.expert_weights, p.x.rows,
                                      static_cast<int64_t>(p.gate_up.size())));
  if (p.down.size() != p.gate_up.size() || p.out.rows != p.x.rows || p.out.cols != p.x.cols) {
    return absl::InvalidArgumentError("routed experts: parts that do not fit together");
  }
  const int64_t hidden = p.x.cols, ffn = p.down[0]->cols();
  for (size_t e = 0; e < p.down.size(); ++e) {
    const Matrix &gate_up = *p.gate_up[e], &down = *p.down[e];
    if (gate_up.rows() != 2 * ffn || gate_up.cols() != hidden || down.rows() != hidden ||
        down.cols() != ffn) {
      return absl::InvalidArgumentError(
          fmt::format("routed experts: expert {} is not of the others' shape", e));
    }
  }
  return Status();
}

bool same_layout(const PackedMatrix& a, const PackedMatrix& b) {
  return std::equal(a.segments().begin(), a.segments().end(), b.segments().begin(),
                    b.segments().end(),
                    [](const PackedMatrix::Segment& x, const PackedMatrix::Segment& y) {
                      return x.format == y.format && x.begin == y.begin && x.rows == y.rows;
                    });
}

}  // namespace

RoutedExperts::RoutedExperts(std::shared_ptr<DeviceArena> arena, ElementType type,
                             cudaStream_t stream)
    : arena_(std::move(arena)), type_(type), stream_(stream) {}

Status RoutedExperts::reserve(const StepLimits& limits) {
  const ExpertsShape& shape = limits.experts;
  if (shape.num_experts == 0) return Status();
  return grow(
      {int64_t{limits.max_tokens} * shape.top_k, shape.num_experts, shape.hidden, shape.ffn});
}

Status RoutedExperts::grow(const Sizes& sizes) {
  const int64_t bytes[] = {aligned((sizes.experts + 1) * 4),
                           aligned(sizes.entries * 4),
                           aligned(sizes.entries * 4),
                           aligned(sizes.entries * sizes.hidden * 2),
                           aligned(sizes.entries * sizes.ffn * 4),
                           aligned(sizes.entries * sizes.ffn * 2)};
  int64_t all = 0;
  for (const int64_t part : bytes) all += part;
  if (memory_.bytes() < all) {
    if (sealed_) return absl::InternalError("routed experts need more than was reserved for them");
    memory_.reset();
    PELTON_ASSIGN_OR_RETURN(memory_, arena_->allocate(all));
  }
  std::byte* next = memory_.data();
  const auto take = [&](int part) { return std::exchange(next, next + bytes[part]); };
  starts_ = reinterpret_cast<int32_t*>(take(0));
  place_ = reinterpret_cast<int32_t*>(take(1));
  token_of_ = reinterpret_cast<int32_t*>(take(2));
  rows_ = take(3);
  gate_up_ = take(4);
  activation_ = take(5);
  return Status();
}

Status RoutedExperts::route(const pelton::RouteParams& p) {
  PELTON_RETURN_IF_ERROR(
      check_choice(p.expert_ids, p.expert_weights, p.logits.rows, p.logits.cols));
  cuda::RouteParams out;
  out.is_float32 = p.logits.dtype == DType::kF32;
  out.type = type_;
  out.logits = p.logits.data;
  out.logits_stride = p.logits.row_stride;
  out.rows = static_cast<int>(p.logits.rows);
  out.experts = static_cast<int>(p.logits.cols);
  out.top_k = static_cast<int>(p.expert_ids.cols);
  out.renormalize = p.renormalize;
  out.sigmoid = p.sigmoid;
  out.scale = p.scale;
  out.expert_ids = static_cast<int32_t*>(p.expert_ids.data);
  out.expert_weights = static_cast<float*>(p.expert_weights.data);
  return cuda_status(cuda::route(out, stream_), "choosing experts");
}

Status RoutedExperts::multiply(std::span<const Matrix* const> matrices, int tokens, int64_t entries,
                               const void* x, void* out) {
  const auto experts = static_cast<int>(matrices.size());
  for (int first = 0; first < experts;) {
    // As many as are laid out alike.
    const PackedMatrix& like = packed(*matrices[first]);
    int end = first + 1;
    while (end < experts && end - first < kMaxLinearGroups &&
           same_layout(like, packed(*matrices[end]))) {
      ++end;
    }
    for (size_t s = 0; s < like.segments().size(); ++s) {
      const PackedMatrix::Segment& segment = like.segments()[s];
      cuda::LinearParams each;
      each.format = segment.format;
      each.type = type_;
      each.x = x;
      each.x_stride = like.cols();
      each.out = static_cast<std::byte*>(out) + segment.begin * 2;
      each.out_stride = like.rows();
      each.m = tokens;  // each takes an expert once at most
      each.n = static_cast<int>(segment.rows);
      each.k = static_cast<int>(like.cols());
      LinearGroups groups;
      groups.starts = starts_ + first;
      groups.count = end - first;
      groups.usual_rows = static_cast<int>((entries + experts - 1) / experts);
      for (int e = first; e < end; ++e) {
        groups.weights[e - first] = packed(*matrices[e]).segments()[s].data.data();
      }
      PELTON_RETURN_IF_CUDA_ERROR(grouped_linear(each, groups, stream_), "the experts' products");
    }
    first = end;
  }
  return Status();
}

Status RoutedExperts::run(const ExpertsParams& p) {
  PELTON_RETURN_IF_ERROR(check_experts(p));
  const auto tokens = static_cast<int>(p.x.rows);
  const auto experts = static_cast<int>(p.gate_up.size());
  const auto top_k = static_cast<int>(p.expert_ids.cols);
  const int64_t hidden = p.x.cols, ffn = p.down[0]->cols(), entries = int64_t{tokens} * top_k;
  if (tokens == 0) return Status();
  PELTON_RETURN_IF_ERROR(grow({entries, experts, hidden, ffn}));

  GroupByExpertParams group;
  group.expert_ids = static_cast<const int32_t*>(p.expert_ids.data);
  group.entries = static_cast<int>(entries);
  group.top_k = top_k;
  group.experts = experts;
  group.starts = starts_;
  group.place = place_;
  group.token_of = token_of_;
  PELTON_RETURN_IF_CUDA_ERROR(group_by_expert(group, stream_), "grouping tokens by expert");

  GatherRowsParams gather;
  gather.x = p.x.data;
  gather.x_stride_bytes = p.x.row_stride * 2;
  gather.index = token_of_;
  gather.out = rows_;
  gather.out_stride_bytes = gather.row_bytes = hidden * 2;
  gather.rows = static_cast<int>(entries);
  PELTON_RETURN_IF_CUDA_ERROR(gather_rows(gather, stream_), "gathering the experts' rows");

  PELTON_RETURN_IF_ERROR(multiply(p.gate_up, tokens, entries, rows_, gate_up_));
  cuda::ActivationParams act;
  act.type = type_;
  act.kind = activation_kind(p.activation);
  act.x = gate_up_;
  act.x_stride = 2 * ffn;
  act.out = activation_;
  act.out_stride = ffn;
  act.rows = static_cast<int>(entries);
  act.cols = static_cast<int>(ffn);
  PELTON_RETURN_IF_CUDA_ERROR(activation(act, stream_), "the experts' activation");
  PELTON_RETURN_IF_ERROR(multiply(p.down, tokens, entries, activation_, rows_));

  CombineExpertsParams combine;
  combine.type = type_;
  combine.x = rows_;
  combine.x_stride = hidden;
  combine.expert_ids = group.expert_ids;
  combine.expert_weights = static_cast<const float*>(p.expert_weights.data);
  combine.place = place_;
  combine.top_k = top_k;
  combine.out = p.out.data;
  combine.out_stride = p.out.row_stride;
  combine.rows = tokens;
  combine.cols = static_cast<int>(hidden);
  return cuda_status(combine_experts(combine, stream_), "summing the experts' results");
}

}  // namespace pelton::cuda
