#include "cuda/step_plan.h"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <utility>

#include "core/check.h"
#include "cuda/cuda_status.h"
#include "cuda/kernels/attention.h"
#include "cuda/kernels/drawn_tokens.h"

namespace pelton::cuda {
namespace {

constexpr int64_t kAlign = 16;
// Beyond it long contexts are split less; the workspace is not to crowd out the KV cache.
constexpr int64_t kMaxPartialBytes = int64_t{64} << 20;

int64_t aligned(int64_t bytes) {
  return (bytes + kAlign - 1) / kAlign * kAlign;
}

AttentionShape encoder_shape(const EncoderHeads& heads) {
  AttentionShape shape;
  shape.num_q_heads = heads.num_q_heads;
  shape.num_kv_heads = heads.num_kv_heads;
  shape.head_dim = heads.head_dim;
  return shape;
}

Status check_batch(const Batch& batch, const KvGeometry& geometry) {
  const auto tokens = static_cast<size_t>(batch.num_tokens());
  const auto seqs = static_cast<size_t>(batch.num_seqs());
  if (batch.positions.size() != tokens || batch.query_start_loc.size() != seqs + 1 ||
      batch.query_start_loc.back() != batch.num_tokens() ||
      batch.kv.size() != geometry.groups.size()) {
    return absl::InternalError("a batch whose parts do not fit together");
  }
  for (const GroupBatch& group : batch.kv) {
    if (group.slot_mapping.size() != tokens ||
        group.block_tables.size() != seqs * static_cast<size_t>(group.max_blocks_per_seq)) {
      return absl::InternalError("a batch whose block tables do not fit it");
    }
  }
  return Status();
}

}  // namespace

// Fills the pinned buffer from its start; gives the address on the device of what it wrote.
class StepWriter {
 public:
  StepWriter(std::byte* host, std::byte* device, int64_t capacity)
      : host_(host), device_(device), capacity_(capacity) {}
  // `count` elements, the first ones from `values`, the rest `padding`.
  template <typename T>
  const T* write(const std::vector<T>& values, size_t count, const T& padding) {
    const auto bytes = static_cast<int64_t>(count * sizeof(T));
    PELTON_CHECK(used_ + bytes <= capacity_, "a step's buffer holds its batch");
    T* out = reinterpret_cast<T*>(host_ + used_);
    const size_t given = std::min(count, values.size());
    std::copy_n(values.begin(), given, out);
    std::fill(out + given, out + count, padding);
    const T* on_device = reinterpret_cast<const T*>(device_ + used_);
    used_ += aligned(bytes);
    return on_device;
  }
  template <typename T>
  const T* write(const std::vector<T>& values) {
    return write(values, values.size(), T{});
  }
  int64_t used() const { return used_; }

 private:
  std::byte* host_;
  std::byte* device_;
  int64_t capacity_;
  int64_t used_ = 0;
};

StatusOr<std::unique_ptr<StepPlanner>> StepPlanner::make(std::shared_ptr<DeviceArena> arena,
                                                         cudaStream_t stream,
                                                         PlannerOptions options) {
  std::unique_ptr<StepPlanner> planner(new StepPlanner(std::move(arena), stream, options));
  for (Slot& slot : planner->slots_) {
    PELTON_ASSIGN_OR_RETURN(slot.copied, make_event());
  }
  return planner;
}

StepPlanner::StepPlanner(std::shared_ptr<DeviceArena> arena, cudaStream_t stream,
                         PlannerOptions options)
    : arena_(std::move(arena)), stream_(stream), options_(options) {}

AttentionShape StepPlanner::shape_of(const KvGroup& group, int num_q_heads) const {
  AttentionShape shape;
  shape.num_q_heads = num_q_heads;
  shape.num_kv_heads = group.num_kv_heads;
  shape.head_dim = group.head_dim;
  shape.window = group.window;
  shape.num_sms = options_.num_sms;
  shape.batch_invariant = options_.batch_invariant;
  return shape;
}

Status StepPlanner::reserve(const StepLimits& limits, const KvGeometry& geometry,
                            int64_t kv_tokens) {
  num_q_heads_ = limits.num_q_heads;
  const int64_t tokens = limits.max_tokens, seqs = limits.max_seqs;
  const int64_t blocks =
      (limits.max_model_len + geometry.block_size - 1) / std::max(1, geometry.block_size);
  int64_t bytes = 4 * aligned(tokens * 4) + 2 * aligned((seqs + 1) * 4) + 2 * aligned(tokens * 8);
  for (const KvGroup& group : geometry.groups) {
    const AttentionShape shape = shape_of(group, num_q_heads_);
    PELTON_RETURN_IF_ERROR(grow_partials(shape, wanted_partial_rows(kv_tokens, limits.max_seqs)));
    const int items =
        max_attention_items(shape, limits.max_seqs, static_cast<int>(limits.max_tokens));
    bytes += aligned(tokens * 4) + aligned(items * static_cast<int64_t>(sizeof(AttentionItem))) +
             aligned(seqs * blocks * 4);
  }
  encoder_ = limits.encoder;
  if (encoder_.num_kv_heads > 0) {
    const int items =
        max_attention_items(encoder_shape(encoder_), limits.max_seqs, limits.max_tokens);
    bytes += aligned(items * static_cast<int64_t>(sizeof(AttentionItem)));
  }
  return grow(bytes);
}

Status StepPlanner::grow(int64_t bytes) {
  if (device_.data() != nullptr && device_.bytes() >= bytes) return Status();
  if (sealed_) return absl::InternalError("a step is larger than what was reserved for it");
  for (Slot& slot : slots_) {
    if (slot.used) {
      PELTON_RETURN_IF_CUDA_ERROR(cudaEventSynchronize(slot.copied.get()), "a step's upload");
    }
    slot.used = false;
    PELTON_ASSIGN_OR_RETURN(slot.host, Pinned::make(bytes));
  }
  device_.reset();
  PELTON_ASSIGN_OR_RETURN(device_, arena_->allocate(bytes));
  return Status();
}

// The workspace serves all groups: one after the other uses it.
Status StepPlanner::grow_partials(const AttentionShape& shape, int64_t rows) {
  const int64_t most = kMaxPartialBytes / std::max<int64_t>(attention_workspace_bytes(shape, 1), 1);
  rows = std::clamp<int64_t>(rows, 1, std::max<int64_t>(most, 1));
  if (rows <= partial_rows_ && attention_workspace_bytes(shape, rows) <= partials_.bytes()) {
    return Status();
  }
  rows = std::max(rows, partial_rows_);
  if (sealed_) return absl::InternalError("attention needs more workspace than was reserved");
  const int64_t bytes = std::max(partials_.bytes(), attention_workspace_bytes(shape, rows));
  partials_.reset();
  PELTON_ASSIGN_OR_RETURN(partials_, arena_->allocate(bytes));
  partial_rows_ = rows;
  return Status();
}

Status StepPlanner::plan_group(int group, bool pad) {
  CudaStepPlan::Group& planned = plan_.groups[static_cast<size_t>(group)];
  if (!sealed_ && num_q_heads_ == 0) {
    const int64_t kv_tokens =
        std::accumulate(plan_.host_seq_lens.begin(), plan_.host_seq_lens.end(), int64_t{0});
    PELTON_RETURN_IF_ERROR(
        grow_partials(planned.shape, wanted_partial_rows(kv_tokens, plan_.num_seqs)));
  }
  planned.shape.max_partial_rows = std::min<int64_t>(
      partial_rows_,
      partials_.bytes() / std::max<int64_t>(1, attention_workspace_bytes(planned.shape, 1)));
  AttentionBatch batch;
  batch.query_start_loc = plan_.host_seq_starts;
  batch.seq_lens = plan_.host_seq_lens;
  batch.max_blocks_per_seq = plan_.max_blocks[static_cast<size_t>(group)];
  batch.pad = pad;
  plan_attention(planned.shape, batch, planned.plan);
  for (AttentionItem& item : planned.plan.items) {
    item.table += plan_.table_starts[static_cast<size_t>(group)];
  }
  return Status();
}

int64_t StepPlanner::bytes_needed(const Batch& batch) const {
  int64_t bytes = 2 * aligned(plan_.num_tokens * int64_t{4}) +
                  aligned((plan_.num_seqs + 1) * int64_t{4}) +
                  aligned(plan_.num_logit_rows * int64_t{4}) +
                  aligned(static_cast<int64_t>(batch.drawn.size()) * 8);
  int64_t tables = 0;
  for (size_t g = 0; g < plan_.groups.size(); ++g) {
    bytes +=
        aligned(plan_.num_tokens * int64_t{4}) +
        aligned(static_cast<int64_t>(plan_.groups[g].plan.items.size() * sizeof(AttentionItem)));
    tables += static_cast<int64_t>(batch.kv[g].block_tables.size()) * 4;
  }
  bytes += aligned(static_cast<int64_t>(plan_.encoder.plan.items.size() * sizeof(AttentionItem)));
  return bytes + aligned(tables);
}

// The order is fixed: up to the block tables all addresses follow from the numbers of tokens,
// sequences and items, which a recorded step has baked in.
void StepPlanner::write_step(const Batch& batch, StepWriter& writer) {
  const auto tokens = static_cast<size_t>(plan_.num_tokens);
  plan_.tokens = writer.write(batch.tokens, tokens, TokenId{0});
  plan_.positions = writer.write(batch.positions, tokens, int32_t{0});
  plan_.seq_starts = writer.write(plan_.host_seq_starts);
  plan_.logit_rows =
      writer.write(batch.logit_rows, static_cast<size_t>(plan_.num_logit_rows), int32_t{0});
  for (size_t g = 0; g < plan_.groups.size(); ++g) {
    plan_.groups[g].slots = writer.write(batch.kv[g].slot_mapping, tokens, int32_t{-1});
    plan_.groups[g].items = writer.write(plan_.groups[g].plan.items);
  }
  plan_.encoder.items = writer.write(plan_.encoder.plan.items);
  std::vector<int32_t> tables;
  for (const GroupBatch& group : batch.kv) {
    tables.insert(tables.end(), group.block_tables.begin(), group.block_tables.end());
  }
  plan_.block_tables = writer.write(tables);
}

StatusOr<CudaStepPlan*> StepPlanner::prepare(const Batch& batch, const KvGeometry& geometry,
                                             int recorded_seqs, const int32_t* drawn,
                                             int num_drawn) {
  PELTON_RETURN_IF_ERROR(check_batch(batch, geometry));
  for (const DrawnToken& token : batch.drawn) {
    if (token.index < 0 || token.index >= batch.num_tokens() || token.row < 0 ||
        token.row >= num_drawn) {
      return absl::InternalError("a batch names a drawn token that no step has drawn");
    }
  }
  const bool pad = recorded_seqs > 0;
  plan_.recorded_seqs = recorded_seqs;
  plan_.num_tokens = pad ? recorded_seqs : batch.num_tokens();
  plan_.num_seqs = pad ? recorded_seqs : batch.num_seqs();
  plan_.num_logit_rows = pad ? recorded_seqs : static_cast<int>(batch.logit_rows.size());
  plan_.host_seq_starts = batch.query_start_loc;
  plan_.host_seq_lens = batch.seq_lens;
  while (static_cast<int>(plan_.host_seq_lens.size()) < plan_.num_seqs) {
    plan_.host_seq_lens.push_back(0);
    plan_.host_seq_starts.push_back(plan_.host_seq_starts.back() + 1);
  }
  plan_.groups.resize(batch.kv.size());
  plan_.max_blocks.clear();
  plan_.table_starts.clear();
  int32_t tables = 0;
  for (size_t g = 0; g < batch.kv.size(); ++g) {
    plan_.max_blocks.push_back(batch.kv[g].max_blocks_per_seq);
    plan_.table_starts.push_back(tables);
    tables += static_cast<int32_t>(batch.kv[g].block_tables.size());
    plan_.groups[g].shape = shape_of(geometry.groups[g], num_q_heads_);
    plan_.groups[g].plan.items.clear();
    if (num_q_heads_ > 0) PELTON_RETURN_IF_ERROR(plan_group(static_cast<int>(g), pad));
  }
  plan_encoder(encoder_);

  const int64_t bytes = bytes_needed(batch);
  PELTON_RETURN_IF_ERROR(grow(bytes));
  Slot& slot = slots_[next_];
  next_ = 1 - next_;
  if (slot.used) {
    PELTON_RETURN_IF_CUDA_ERROR(cudaEventSynchronize(slot.copied.get()), "a step's upload");
  }
  StepWriter writer(slot.host.data(), device_.data(), device_.bytes());
  write_step(batch, writer);
  const DrawnToken* pairs = writer.write(batch.drawn);
  PELTON_RETURN_IF_CUDA_ERROR(
      cudaMemcpyAsync(device_.data(), slot.host.data(), static_cast<size_t>(writer.used()),
                      cudaMemcpyHostToDevice, stream_),
      "a step's upload");
  PELTON_RETURN_IF_CUDA_ERROR(cudaEventRecord(slot.copied.get(), stream_), "a step's upload");
  slot.used = true;
  if (!batch.drawn.empty()) {
    static_assert(sizeof(DrawnToken) == 8, "as the kernel reads it");
    DrawnTokensParams params;
    params.pairs = reinterpret_cast<const int32_t*>(pairs);
    params.num_pairs = static_cast<int>(batch.drawn.size());
    params.drawn = drawn;
    params.tokens = const_cast<int32_t*>(plan_.tokens);
    PELTON_RETURN_IF_CUDA_ERROR(drawn_tokens(params, stream_), "the step's drawn tokens");
  }
  return &plan_;
}

void StepPlanner::plan_encoder(const EncoderHeads& heads) {
  plan_.encoder.heads = heads;
  plan_.encoder.plan.items.clear();
  if (heads.num_kv_heads > 0) {
    plan_uncached_attention(encoder_shape(heads), plan_.host_seq_starts, plan_.encoder.plan);
  }
}

// It takes memory, and copies what a recorded step would not copy again.
Status StepPlanner::may_plan_late(const CudaStepPlan& plan) const {
  if (sealed_ || plan.recorded_seqs > 0) return absl::InternalError("attention was not planned");
  return Status();
}

StatusOr<const AttentionItem*> StepPlanner::upload_late(size_t at, const AttentionPlan& plan) {
  const auto bytes = static_cast<int64_t>(plan.items.size() * sizeof(AttentionItem));
  late_items_.resize(std::max(late_items_.size(), at + 1));
  DevicePiece& piece = late_items_[at];
  piece.reset();
  PELTON_ASSIGN_OR_RETURN(piece, arena_->allocate(bytes));
  if (bytes > 0) {
    PELTON_RETURN_IF_CUDA_ERROR(
        cudaMemcpyAsync(piece.data(), plan.items.data(), static_cast<size_t>(bytes),
                        cudaMemcpyHostToDevice, stream_),
        "attention's plan");
  }
  return piece.as<AttentionItem>();
}

Status StepPlanner::plan_late(CudaStepPlan& plan, int group, int num_q_heads) {
  PELTON_RETURN_IF_ERROR(may_plan_late(plan));
  CudaStepPlan::Group& planned = plan.groups[static_cast<size_t>(group)];
  planned.shape.num_q_heads = num_q_heads;
  PELTON_RETURN_IF_ERROR(plan_group(group, false));
  PELTON_ASSIGN_OR_RETURN(planned.items, upload_late(static_cast<size_t>(group) + 1, planned.plan));
  return Status();
}

Status StepPlanner::plan_encoder_late(CudaStepPlan& plan, const EncoderHeads& heads) {
  PELTON_RETURN_IF_ERROR(may_plan_late(plan));
  plan_encoder(heads);
  PELTON_ASSIGN_OR_RETURN(plan.encoder.items, upload_late(0, plan.encoder.plan));
  return Status();
}

}  // namespace pelton::cuda
