#include "cuda/cuda_backend.h"

#include <cuda_runtime_api.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <utility>

#include "core/check.h"
#include "cuda/cuda_status.h"
#include "cuda/device_arena.h"
#include "cuda/device_sampler.h"
#include "cuda/handles.h"
#include "cuda/kernels/activation.h"
#include "cuda/kernels/attention.h"
#include "cuda/kernels/gather_weight_rows.h"
#include "cuda/kernels/linear.h"
#include "cuda/kernels/norm.h"
#include "cuda/kernels/rope_kv.h"
#include "cuda/kernels/rows.h"
#include "cuda/kv_cache.h"
#include "cuda/library_gemm.h"
#include "cuda/packed_matrix.h"
#include "cuda/step_graphs.h"
#include "cuda/step_plan.h"

namespace pelton {
namespace cuda {
namespace {

constexpr int64_t kLoadBufferBytes = int64_t{16} << 20;

ElementType element_type(DType dtype) {
  return dtype == DType::kF16 ? ElementType::kF16 : ElementType::kBF16;
}
const PackedMatrix& packed(const Matrix& matrix) {
  return static_cast<const PackedMatrix&>(matrix);
}
const CudaStepPlan& plan_of(const StepPlan& plan) {
  return static_cast<const CudaStepPlan&>(plan);
}
NormScales scales_of(const NormWeights& weights) {
  return {weights.weight, weights.bias};
}

// cos and sin of every position, as float32 of what the CPU computes for each step.
class CudaRopeTable final : public RopeTable {
 public:
  CudaRopeTable(DevicePiece values, int rotary_dim, bool interleaved)
      : values_(std::move(values)), rotary_dim_(rotary_dim), interleaved_(interleaved) {}
  const float* values() const { return values_.as<float>(); }
  int rotary_dim() const { return rotary_dim_; }
  bool interleaved() const { return interleaved_; }

 private:
  DevicePiece values_;  // [max_positions, rotary_dim]
  int rotary_dim_;
  bool interleaved_;
};

std::vector<float> rope_values(const RopeSpec& spec) {
  const size_t pairs = spec.inverse_frequencies.size();
  std::vector<float> values(static_cast<size_t>(spec.max_positions) * 2 * pairs);
  for (int position = 0; position < spec.max_positions; ++position) {
    float* row = values.data() + static_cast<size_t>(position) * 2 * pairs;
    for (size_t i = 0; i < pairs; ++i) {
      // The product in float32, as models were trained with.
      const float angle = static_cast<float>(position) * spec.inverse_frequencies[i];
      row[i] = static_cast<float>(std::cos(static_cast<double>(angle)) * spec.magnitude);
      row[pairs + i] = static_cast<float>(std::sin(static_cast<double>(angle)) * spec.magnitude);
    }
  }
  return values;
}

class CudaBackend final : public Backend {
 public:
  static StatusOr<std::unique_ptr<CudaBackend>> make(const CudaOptions& options);
  ~CudaBackend() override {
    if (stream_) cudaStreamSynchronize(stream_.get());
  }

  std::string description() const override { return description_; }
  DType activation_dtype() const override { return options_.activations; }
  bool host_addressable() const override { return false; }
  bool supports_weights(DType dtype) const override { return has_weight_format(dtype); }
  bool supports_kv(DType dtype) const override { return kv_type(dtype, type_).has_value(); }
  // In one piece, and pieces are rounded up.
  int64_t free_memory_bytes() const override {
    return std::max<int64_t>(0, arena_->largest_free_bytes() - 16 * DeviceArena::kAlignment);
  }
  Communicator& communicator() override { return communicator_; }
  bool asynchronous() const override { return true; }
  bool dedicated_memory() const override { return true; }

  StatusOr<std::unique_ptr<Buffer>> allocate(int64_t bytes) override;
  StatusOr<std::unique_ptr<Buffer>> upload(std::span<const std::byte> host) override;
  StatusOr<std::unique_ptr<Matrix>> pack(std::span<const RowSource* const> sources) override;
  StatusOr<std::unique_ptr<RopeTable>> make_rope(const RopeSpec& spec) override;
  StatusOr<std::unique_ptr<KvCache>> allocate_kv(const KvGeometry& geometry,
                                                 std::span<const int> num_blocks) override;
  Status reserve(const StepLimits& limits, const KvGeometry& geometry) override;
  Status seal() override;
  std::vector<int> recordable_steps() const override;
  void record(bool on) override { recording_ = on; }

  StatusOr<const StepPlan*> prepare(const Batch& batch, const KvGeometry& geometry) override;
  bool begin_forward(const StepPlan& plan) override;
  Status end_forward() override;
  void copy_blocks(KvCache& cache, int group, std::span<const BlockCopy> copies) override;
  void embed(const StepPlan& plan, const EmbedParams& p) override;
  void norm(const pelton::NormParams& p) override;
  void linear(const pelton::LinearParams& p) override;
  void rope_and_write_kv(const pelton::RopeKvParams& p) override;
  void attention(const AttentionParams& p) override;
  void encoder_attention(const EncoderAttentionParams& p) override;
  void activation(const pelton::ActivationParams& p) override;
  void route(const RouteParams& p) override;
  void experts(const ExpertsParams& p) override;
  void pool(const pelton::PoolParams& p) override;
  void gather_logit_rows(const StepPlan& plan, const Tensor& x, const Tensor& out) override;
  void softcap(const Tensor& x, float cap) override;

  Status sample(const Tensor& logits, std::span<const SampleRow> rows) override;
  StatusOr<std::vector<SampledToken>> collect() override;
  Status read_block(const KvCache& cache, int group, BlockId block,
                    std::span<std::byte> host) override;
  Status write_block(KvCache& cache, int group, BlockId block,
                     std::span<const std::byte> host) override;
  Status download(const Tensor& x, std::span<std::byte> host) override;
  Status synchronize() override;

 private:
  explicit CudaBackend(const CudaOptions& options)
      : options_(options), type_(element_type(options.activations)) {}
  Status open();
  Status open_library(const cudaDeviceProp& card);
  Status tune_products(const StepLimits& limits);
  // Keeps the first error; the device's work is worth nothing after it.
  void note(Status status) {
    if (failure_.ok() && !status.ok()) failure_ = std::move(status);
  }
  void note(cudaError_t error, std::string_view what) {
    if (error != cudaSuccess) note(cuda_status(error, what));
  }
  Status keep(Status status) {
    note(status);
    return status;
  }

  const CudaOptions options_;
  const ElementType type_;
  std::string description_;
  SingleRank communicator_;
  std::shared_ptr<DeviceArena> arena_;
  Stream stream_;
  std::unique_ptr<WeightLoader> loader_;
  std::unique_ptr<StepPlanner> planner_;
  std::unique_ptr<DeviceSampler> sampler_;
  std::unique_ptr<StepGraphs> graphs_;
  std::unique_ptr<LibraryGemm> library_gemm_;  // without batch_invariant
  struct TunedMatrix {
    int n, k;
    const void* weights;
  };
  std::vector<TunedMatrix> tuned_;  // one of each shape in 16 bits
  bool recording_ = false;
  bool sealed_ = false;
  Status failure_;
};

StatusOr<std::unique_ptr<CudaBackend>> CudaBackend::make(const CudaOptions& options) {
  if (!(options.memory_utilization > 0 && options.memory_utilization <= 1)) {
    return invalid_field("gpu_memory_utilization", "is not within 0 and 1");
  }
  if (options.activations != DType::kBF16 && options.activations != DType::kF16) {
    return invalid_field("dtype", "activations on the card are bf16 or f16");
  }
  PELTON_RETURN_IF_ERROR(check_cuda(options));
  std::unique_ptr<CudaBackend> backend(new CudaBackend(options));
  PELTON_RETURN_IF_ERROR(backend->open());
  return backend;
}

Status CudaBackend::open() {
  PELTON_RETURN_IF_CUDA_ERROR(cudaSetDevice(options_.device), "choosing the card");
  cudaDeviceProp card{};
  PELTON_RETURN_IF_CUDA_ERROR(cudaGetDeviceProperties(&card, options_.device),
                              "asking for the card's properties");
  description_ = fmt::format("cuda: {} (sm_{}{}), {}", card.name, card.major, card.minor,
                             dtype_info(options_.activations).name);
  size_t free = 0, total = 0;
  PELTON_RETURN_IF_CUDA_ERROR(cudaMemGetInfo(&free, &total), "asking for the card's memory");
  const auto wanted =
      static_cast<int64_t>(static_cast<double>(total) * options_.memory_utilization);
  if (wanted > static_cast<int64_t>(free)) {
    Status status = absl::ResourceExhaustedError(
        fmt::format("{} MiB of the card's {} MiB are to be taken and {} MiB are free; lower "
                    "--gpu-memory-utilization",
                    wanted >> 20, total >> 20, free >> 20));
    set_error_field(status, "gpu_memory_utilization");
    return status;
  }
  PELTON_ASSIGN_OR_RETURN(stream_, make_stream());
  PELTON_ASSIGN_OR_RETURN(arena_, DeviceArena::take(wanted, options_.separate_allocations));
  PELTON_ASSIGN_OR_RETURN(loader_, WeightLoader::make(arena_, type_, stream_.get(),
                                                      std::min(kLoadBufferBytes, wanted / 16)));
  PELTON_ASSIGN_OR_RETURN(planner_,
                          StepPlanner::make(arena_, stream_.get(),
                                            {.num_sms = card.multiProcessorCount,
                                             .batch_invariant = options_.batch_invariant}));
  PELTON_ASSIGN_OR_RETURN(sampler_, DeviceSampler::make(arena_, stream_.get()));
  graphs_ = std::make_unique<StepGraphs>(stream_.get());
  return options_.batch_invariant ? Status() : open_library(card);
}

Status CudaBackend::open_library(const cudaDeviceProp& card) {
  const CublasLt* library = options_.cublaslt;
  if (library == nullptr) {
    PELTON_ASSIGN_OR_RETURN(library, open_cublaslt());
  }
  const std::string file =
      options_.cache_folder.empty()
          ? ""
          : fmt::format("{}/gemm-sm{}{}-{}.txt", options_.cache_folder, card.major, card.minor,
                        dtype_info(options_.activations).name);
  PELTON_ASSIGN_OR_RETURN(library_gemm_,
                          LibraryGemm::make(*library, type_, stream_.get(), file, card.name));
  return Status();
}

// Before the KV cache takes what is left: timing needs room for a while.
Status CudaBackend::tune_products(const StepLimits& limits) {
  for (const TunedMatrix& matrix : tuned_) {
    const bool head = matrix.n == limits.vocab_size;
    PELTON_RETURN_IF_ERROR(library_gemm_->tune({matrix.n, matrix.k, head}, matrix.weights,
                                               head ? limits.max_logit_rows : limits.max_tokens,
                                               arena_));
  }
  library_gemm_->save();
  return library_gemm_->reserve(arena_);
}

StatusOr<std::unique_ptr<Buffer>> CudaBackend::allocate(int64_t bytes) {
  PELTON_ASSIGN_OR_RETURN(DevicePiece piece, arena_->allocate(bytes));
  return std::make_unique<DeviceBuffer>(std::move(piece));
}

StatusOr<std::unique_ptr<Buffer>> CudaBackend::upload(std::span<const std::byte> host) {
  PELTON_ASSIGN_OR_RETURN(DevicePiece piece, arena_->allocate(static_cast<int64_t>(host.size())));
  if (!host.empty()) {
    PELTON_RETURN_IF_CUDA_ERROR(cudaMemcpyAsync(piece.data(), host.data(), host.size(),
                                                cudaMemcpyHostToDevice, stream_.get()),
                                "copying to the card");
  }
  return std::make_unique<DeviceBuffer>(std::move(piece));
}

StatusOr<std::unique_ptr<Matrix>> CudaBackend::pack(std::span<const RowSource* const> sources) {
  PELTON_ASSIGN_OR_RETURN(std::unique_ptr<PackedMatrix> matrix, loader_->pack(sources));
  for (const PackedMatrix::Segment& segment : matrix->segments()) {
    const TunedMatrix tuned = {static_cast<int>(segment.rows), static_cast<int>(matrix->cols()),
                               segment.data.data()};
    const bool known = std::any_of(tuned_.begin(), tuned_.end(), [&](const TunedMatrix& other) {
      return other.n == tuned.n && other.k == tuned.k;
    });
    if (segment.format == WeightFormat::k16Bit && !known) tuned_.push_back(tuned);
  }
  return matrix;
}

StatusOr<std::unique_ptr<RopeTable>> CudaBackend::make_rope(const RopeSpec& spec) {
  const std::vector<float> values = rope_values(spec);
  PELTON_ASSIGN_OR_RETURN(DevicePiece piece,
                          arena_->allocate(static_cast<int64_t>(values.size()) * 4));
  if (!values.empty()) {
    PELTON_RETURN_IF_CUDA_ERROR(cudaMemcpyAsync(piece.data(), values.data(), values.size() * 4,
                                                cudaMemcpyHostToDevice, stream_.get()),
                                "copying rotary embeddings to the card");
  }
  return std::make_unique<CudaRopeTable>(
      std::move(piece), static_cast<int>(2 * spec.inverse_frequencies.size()), spec.interleaved);
}

StatusOr<std::unique_ptr<KvCache>> CudaBackend::allocate_kv(const KvGeometry& geometry,
                                                            std::span<const int> num_blocks) {
  return CudaKvCache::create(geometry, num_blocks, type_, arena_);
}

Status CudaBackend::reserve(const StepLimits& limits, const KvGeometry& geometry) {
  PELTON_RETURN_IF_ERROR(loader_->finish());  // its staging is the KV cache's now
  if (library_gemm_ != nullptr) {
    PELTON_RETURN_IF_ERROR(tune_products(limits));
  }
  const int64_t kv_tokens = arena_->free_bytes() / std::max<int64_t>(1, geometry.bytes_per_token());
  PELTON_RETURN_IF_ERROR(planner_->reserve(limits, geometry, kv_tokens));
  PELTON_RETURN_IF_ERROR(sampler_->reserve(limits.max_logit_rows, limits.vocab_size));
  graphs_->set_limit(options_.graphs ? std::min(limits.max_seqs, limits.max_logit_rows) : 0);
  return Status();
}

Status CudaBackend::seal() {
  PELTON_RETURN_IF_ERROR(loader_->finish());
  planner_->seal();
  sampler_->seal();
  return synchronize();
}

std::vector<int> CudaBackend::recordable_steps() const {
  return graphs_->sizes();
}

StatusOr<const StepPlan*> CudaBackend::prepare(const Batch& batch, const KvGeometry& geometry) {
  PELTON_RETURN_IF_ERROR(failure_);
  const bool decode = batch.num_tokens() == batch.num_seqs() &&
                      batch.logit_rows.size() <= batch.seq_lens.size() && !batch.empty();
  const int recorded = decode ? graphs_->fitting(batch.num_seqs(), recording_) : 0;
  auto plan =
      planner_->prepare(batch, geometry, recorded, sampler_->drawn(), sampler_->num_drawn());
  if (!plan.ok()) return keep(plan.status());
  return *plan;
}

bool CudaBackend::begin_forward(const StepPlan& plan) {
  if (!failure_.ok()) return false;
  const int recorded = plan_of(plan).recorded_seqs;
  if (recorded == 0) return true;
  if (recording_) {
    note(graphs_->begin_recording(recorded));
    return failure_.ok();
  }
  note(graphs_->replay(recorded));
  return false;
}

Status CudaBackend::end_forward() {
  note(graphs_->end_recording());
  return failure_;
}

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

void CudaBackend::activation(const pelton::ActivationParams& p) {
  cuda::ActivationParams out;
  out.type = type_;
  switch (p.kind) {
    case Activation::kSilu:
      out.kind = ActivationKind::kSilu;
      break;
    case Activation::kGeluTanh:
      out.kind = ActivationKind::kGeluTanh;
      break;
    case Activation::kGeluErf:
      out.kind = ActivationKind::kGeluErf;
      break;
    case Activation::kRelu:
      out.kind = ActivationKind::kRelu;
      break;
  }
  out.gated = p.gated;
  out.x = p.x.data;
  out.x_stride = p.x.row_stride;
  out.out = p.out.data;
  out.out_stride = p.out.row_stride;
  out.rows = static_cast<int>(p.out.rows);
  out.cols = static_cast<int>(p.out.cols);
  note(cuda::activation(out, stream_.get()), "activation");
}

// No decoder asks for these three yet; they come with encoders and routed experts.
void CudaBackend::encoder_attention(const EncoderAttentionParams&) {
  note(absl::UnimplementedError("the card has no kernel for attention without a cache"));
}
void CudaBackend::route(const RouteParams&) {
  note(absl::UnimplementedError("the card has no kernel for routed experts"));
}
void CudaBackend::experts(const ExpertsParams&) {
  note(absl::UnimplementedError("the card has no kernel for routed experts"));
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

Status CudaBackend::sample(const Tensor& logits, std::span<const SampleRow> rows) {
  PELTON_RETURN_IF_ERROR(failure_);
  return keep(sampler_->sample(logits, rows));
}

StatusOr<std::vector<SampledToken>> CudaBackend::collect() {
  PELTON_RETURN_IF_ERROR(failure_);
  auto tokens = sampler_->collect();
  if (!tokens.ok()) note(tokens.status());
  return tokens;
}

Status CudaBackend::read_block(const KvCache& cache, int group, BlockId block,
                               std::span<std::byte> host) {
  const auto& kv = static_cast<const CudaKvCache&>(cache);
  PELTON_RETURN_IF_ERROR(kv.check_block(group, block, host.size()));
  note(cudaMemcpyAsync(host.data(), kv.block(group, block.value), host.size(),
                       cudaMemcpyDeviceToHost, stream_.get()),
       "reading a KV block");
  return synchronize();
}

Status CudaBackend::write_block(KvCache& cache, int group, BlockId block,
                                std::span<const std::byte> host) {
  auto& kv = static_cast<CudaKvCache&>(cache);
  PELTON_RETURN_IF_ERROR(kv.check_block(group, block, host.size()));
  note(cudaMemcpyAsync(kv.block(group, block.value), host.data(), host.size(),
                       cudaMemcpyHostToDevice, stream_.get()),
       "writing a KV block");
  return synchronize();
}

Status CudaBackend::download(const Tensor& x, std::span<std::byte> host) {
  const int64_t row_bytes = dtype_bytes(x.dtype, x.cols);
  if (static_cast<int64_t>(host.size()) < x.rows * row_bytes) {
    return absl::InvalidArgumentError("download: the host buffer is too small");
  }
  if (x.rows > 0 && row_bytes > 0) {
    note(cudaMemcpy2DAsync(host.data(), static_cast<size_t>(row_bytes), x.data,
                           static_cast<size_t>(dtype_bytes(x.dtype, x.row_stride)),
                           static_cast<size_t>(row_bytes), static_cast<size_t>(x.rows),
                           cudaMemcpyDeviceToHost, stream_.get()),
         "reading from the card");
  }
  return synchronize();
}

Status CudaBackend::synchronize() {
  PELTON_RETURN_IF_ERROR(failure_);
  note(cudaStreamSynchronize(stream_.get()), "the card's work");
  return failure_;
}

}  // namespace
}  // namespace cuda

Status check_cuda(const CudaOptions& options) {
  int driver = 0, runtime = 0, count = 0;
  if (cudaDriverGetVersion(&driver) != cudaSuccess || driver == 0) {
    cudaGetLastError();
    return absl::FailedPreconditionError("no CUDA driver is installed (libcuda.so.1)");
  }
  cudaRuntimeGetVersion(&runtime);
  const cudaError_t counted = cudaGetDeviceCount(&count);
  if (counted == cudaErrorInsufficientDriver) {
    cudaGetLastError();
    return absl::FailedPreconditionError(
        fmt::format("the CUDA driver is too old: it serves CUDA {}.{}, and {}.{} is needed",
                    driver / 1000, driver % 1000 / 10, runtime / 1000, runtime % 1000 / 10));
  }
  if (counted == cudaErrorNoDevice) {
    cudaGetLastError();
    return absl::FailedPreconditionError("a CUDA driver is installed, but there is no card");
  }
  PELTON_RETURN_IF_CUDA_ERROR(counted, "asking for the cards");
  if (options.device < 0 || options.device >= count) {
    return absl::FailedPreconditionError(
        fmt::format("there is no card {}: {} were found", options.device, count));
  }
  int major = 0, minor = 0;
  PELTON_RETURN_IF_CUDA_ERROR(
      cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, options.device),
      "asking for the card's compute capability");
  PELTON_RETURN_IF_CUDA_ERROR(
      cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, options.device),
      "asking for the card's compute capability");
  if (major < 8) {
    return absl::FailedPreconditionError(fmt::format(
        "the card's compute capability is {}.{}, and 8.0 or more is needed", major, minor));
  }
  return absl::OkStatus();
}

StatusOr<std::unique_ptr<Backend>> make_cuda_backend(const CudaOptions& options) {
  return cuda::CudaBackend::make(options);
}

}  // namespace pelton
